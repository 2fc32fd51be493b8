//! A database: what is there, and what each write makes of it.

use super::*;

/// A database, as far as this is concerned: what is there, and what each write makes of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Store(pub(super) Held);

impl Store {
    pub(super) fn has(&self, kind: Kind, id: &str) -> bool {
        self.0.rows.iter().any(|row| row.kind == kind && row.id == id)
    }

    pub(super) fn row(kind: Kind, id: &str, fields: &Map<String, Value>) -> Row {
        let mut fields = fields.clone();
        fields.insert("id".to_owned(), id.into());
        Row::read(kind, Value::Object(fields)).unwrap()
    }

    /// What a real one would refuse, fails.
    pub(super) fn write(&mut self, write: &Write) {
        match write {
            Write::Make {
                entity,
                under: Some(upstream),
            } => {
                assert!(self.has(Kind::Upstream, upstream), "a target of nothing");
                let mut fields = entity.fields.clone();
                fields.insert("upstream".to_owned(), json!({"id": upstream}));
                let targets = self.0.targets.entry(upstream.clone()).or_default();
                assert!(targets.iter().all(|row| row.name != entity.name), "409");
                targets.push(Self::row(Kind::Target, &entity.id, &fields));
            }
            Write::Make {
                entity:
                    Entity {
                        kind,
                        id,
                        name,
                        fields,
                    },
                under: None,
            } => {
                let taken = |row: &Row| row.kind == *kind && (row.id == *id || row.name == *name);
                assert!(!self.0.rows.iter().any(taken), "409: {kind} {name}");
                if let Some(service) = fields.get("service") {
                    assert!(
                        self.has(Kind::Service, service["id"].as_str().unwrap()),
                        "a route of nothing"
                    );
                }
                self.0.rows.push(Self::row(*kind, id, fields));
            }
            Write::Change {
                of: (kind, id, _),
                under,
                fields,
            } => {
                let rows = match under {
                    None => &mut self.0.rows,
                    Some(upstream) => self.0.targets.get_mut(upstream).unwrap(),
                };
                let row = rows
                    .iter_mut()
                    .find(|row| row.kind == *kind && row.id == *id)
                    .expect("404");
                let mut all = row.fields.clone();
                all.extend(fields.clone());
                *row = Self::row(*kind, id, &all);
            }
            Write::Remove {
                of: (kind, id, _),
                under: None,
            } => {
                let leads = |row: &Row| row.kind == Kind::Route && row.fields["service"]["id"] == id.as_str();
                assert!(
                    *kind != Kind::Service || !self.0.rows.iter().any(leads),
                    "400: a route leads there"
                );
                self.0.rows.retain(|row| row.kind != *kind || row.id != *id);
                if *kind == Kind::Upstream {
                    self.0.targets.remove(id);
                }
            }
            Write::Remove {
                of: (_, id, _),
                under: Some(upstream),
            } => {
                self.0
                    .targets
                    .get_mut(upstream)
                    .unwrap()
                    .retain(|row| row.id != *id);
            }
            Write::Await(upstream) => {
                let has = self
                    .given(&upstream.name)
                    .expect("it is there before it is waited for");
                let should = upstream
                    .targets
                    .iter()
                    .map(|(address, target)| (address.to_string(), u64::from(target.weight)));
                assert_eq!(has, should.collect(), "all of it is there");
            }
            Write::Forget(name) => {
                let mut routes = self.0.rows.iter().filter(|row| row.kind == Kind::Route);
                assert!(
                    routes.all(|row| row.name != *name),
                    "the route is gone before it is forgotten"
                );
            }
        }
    }

    /// Weights of an upstream by target.
    pub(super) fn given(&self, upstream: &str) -> Option<BTreeMap<String, u64>> {
        let mut rows = self.0.rows.iter().filter(|row| row.kind == Kind::Upstream);
        let row = rows.find(|row| row.name == upstream)?;
        let targets = self.0.targets.get(&row.id).into_iter().flatten();
        Some(
            targets
                .map(|row| (row.name.clone(), row.fields["weight"].as_u64().unwrap()))
                .collect(),
        )
    }

    /// The upstreams to which routes of ours lead, with the weights there.
    pub(super) fn served(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut served = BTreeMap::new();
        let ours = |row: &&Row| row.kind == Kind::Route && row.tags.contains("weir");
        for route in self.0.rows.iter().filter(ours) {
            let id = route.fields["service"]["id"].as_str().unwrap();
            let mut services = self.0.rows.iter().filter(|row| row.kind == Kind::Service);
            let service = services
                .find(|row| row.id == id)
                .expect("a route leads to a service");
            let host = service.fields["host"].as_str().unwrap().to_owned();
            if !host.starts_with("weir.") {
                continue; // the mesh
            }
            let given = self
                .given(&host)
                .unwrap_or_else(|| panic!("{} leads to no upstream {host}", route.name));
            assert!(
                given.values().sum::<u64>() > 0,
                "{host} gives nobody anything: {given:?}"
            );
            served.insert(host, given);
        }
        served
    }

    /// All writes of all splits, and what is so after each of them; `last` ends it before its time.
    pub(super) fn all(&mut self, to: &Changes, last: usize, check: impl Fn(&Self)) {
        let writes = to.splits.values().flat_map(|of| of.as_ref().unwrap());
        for write in writes.take(last) {
            self.write(write);
            check(self);
        }
    }
}

pub(super) const ALL: usize = usize::MAX;
