//! Upstreams of a base that hash by a header with `-` in its name, which Kong 3.9 does not find (fact 5): what they hash is nothing,
//! which is one key, and all requests go to one target.

use serde_json::Value;
use weir_model::{Entry, SplitName};

use crate::kong::base::Found;
use crate::kong::document::AtDoor;

/// One of them.
#[derive(Debug)]
pub(crate) struct Dashed<'a> {
    /// The upstream as people know it.
    pub(crate) called: String,
    /// The field that names the header.
    pub(crate) field: &'static str,
    /// The header.
    pub(crate) header: &'a str,
    name: Option<&'a str>,
}

/// Those of a base.
pub(crate) fn dashed<'a>(found: &[Found<'a>]) -> Vec<Dashed<'a>> {
    let upstreams = found.iter().filter(|one| one.kind == "upstreams");
    upstreams.flat_map(of_one).collect()
}

fn of_one<'a>(upstream: &Found<'a>) -> Vec<Dashed<'a>> {
    let entity = upstream.entity;
    let text = |field: &str| entity.get(field).and_then(Value::as_str);
    // With these Kong forgets what it should hash by.
    let hashes = !matches!(text("algorithm"), Some("least-connections" | "latency"));
    let fields = [
        ("hash_on", "hash_on_header"),
        ("hash_fallback", "hash_fallback_header"),
    ];
    let by_header = fields
        .into_iter()
        .filter(|(on, _)| hashes && text(on) == Some("header"));
    let dashed = by_header.filter_map(|(_, field)| {
        let header = text(field).filter(|header| header.contains('-'))?;
        Some(Dashed {
            called: upstream.called(),
            field,
            header,
            name: text("name"),
        })
    });
    dashed.collect()
}

impl Dashed<'_> {
    /// What is wrong with it, in words.
    pub(crate) fn why(&self) -> String {
        format!(
            "{} hashes by header {}: Kong 3.9 does not find a name with `-` and sends all requests to one target",
            self.called, self.header
        )
    }

    /// What a person can do.
    pub(crate) fn help(&self) -> String {
        let found = self.header.replace('-', "_");
        format!("write {found} in {}, which finds the same header", self.field)
    }

    /// The split that takes over a service of the base that has this upstream, and the service.
    pub(crate) fn taken<'d>(
        &self,
        found: &[Found<'_>],
        doors: &[AtDoor<'d>],
    ) -> Option<(&'d SplitName, &'d str)> {
        let mut takers = doors.iter().filter_map(|at| match &at.door.entry {
            Entry::Service(service) => Some((&at.item.split, service.as_str())),
            Entry::Routes(_) | Entry::HttpRoute(_) => None,
        });
        takers.find(|(_, service)| {
            let mut services = found.iter().filter(|one| one.kind == "services");
            services.any(|one| {
                let text = |field: &str| one.entity.get(field).and_then(Value::as_str);
                text("name") == Some(service) && self.name.is_some() && text("host") == self.name
            })
        })
    }
}
