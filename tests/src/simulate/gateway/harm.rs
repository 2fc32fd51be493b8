//! What goes wrong at gateways, and how it ends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::Method;
use serde_json::{Value, json};

use super::turns::GateEvent;
use super::{NAMES, Reach, post};
use crate::simulate::Ms;
use crate::simulate::world::{Event, World, ZONES};
use crate::simulate::zone::Place;

/// Something that ends by itself after a while.
#[derive(Debug, Clone)]
pub(crate) enum GateFault {
    /// A node of a gateway.
    Node(usize, usize),
    /// What a node's health checks say.
    Health(usize, usize),
    /// Name servers.
    Names,
    /// What a stranger put into a gateway.
    Stranger(usize),
    /// A full disk.
    Disk(usize),
}

/// The name of what a stranger puts into a gateway.
const STRANGER: &str = "stranger";

fn address(place: Place, number: u64) -> IpAddr {
    IpAddr::from([
        10,
        0,
        u8::try_from(place).unwrap_or_default(),
        u8::try_from(number).unwrap_or_default(),
    ])
}

impl World {
    /// What name servers say in the beginning.
    pub(crate) fn begin_gates(&mut self) {
        if self.gates.is_empty() {
            return;
        }
        for place in 0..ZONES.len() {
            self.renumber(place);
        }
        let first = self.gate_dice.between(8_000, 25_000);
        self.at(first, Event::Gate(GateEvent::Harm));
    }

    /// A name has other addresses from now on.
    fn renumber(&mut self, place: Place) {
        let now = self.now;
        let Some(name) = NAMES[place] else { return };
        let mut all = BTreeSet::new();
        for _ in 0..1 + self.gate_dice.below(3) {
            all.insert(address(place, 10 + self.gate_dice.below(5)));
        }
        self.story.tell(now, || format!("{name} is {all:?}"));
        self.lookup.with(|records| {
            for old in records.now.get(name).into_iter().flatten() {
                records.last.insert(*old, now);
            }
            records.now.insert(name.to_owned(), all);
            records.news(now);
        });
    }

    fn tell_of_gate(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        self.story.tell(now, what);
    }

    /// One more thing goes wrong.
    pub(crate) fn harm_gates(&mut self) {
        if self.quiet {
            return;
        }
        let next = self.gate_dice.between(self.harm / 2, self.harm * 4);
        self.at(next, Event::Gate(GateEvent::Harm));
        let g = self.gate_dice.index(self.gates.len());
        let n = self.gate_dice.index(self.gates[g].nodes.len());
        let place = ZONES[self.gates[g].zone];
        let long = match self.gate_dice.below(3) {
            0 => self.gate_dice.between(200, 3_000),
            1 => self.gate_dice.between(3_000, 15_000),
            _ => self.gate_dice.between(15_000, 45_000),
        };
        let dice = self.gate_dice.below(100);
        match dice {
            0..30 => {
                let reach = match dice {
                    0..8 => Reach::Closed,
                    8..12 => Reach::Mute,
                    12..18 => Reach::Busy,
                    _ => Reach::Cut(self.gate_dice.between(3, 30)),
                };
                self.gates[g].nodes[n].reach = reach;
                self.gates[g].version += 1;
                self.tell_of_gate(|| format!("node {n} of the gateway of {place}: {reach:?}"));
                self.at(long, Event::Gate(GateEvent::Ends(GateFault::Node(g, n))));
            }
            30..42 => {
                let now = self.now;
                self.gates[g].restart(n, now);
                // Without a database it has nothing, or what the site gives to a Kong that starts.
                if self.gates[g].kind.base && self.gate_dice.chance(50) {
                    post(&self.gates[g].nodes[n].still, super::BASE);
                }
                self.gate_changed(g, None);
                self.tell_of_gate(|| format!("node {n} of the gateway of {place} starts anew"));
            }
            42..50 => self.health_checks_fail(g, n, long),
            50..58 => {
                let of = self.gate_dice.index(ZONES.len());
                self.renumber(of);
            }
            58..68 => {
                let now = self.now;
                self.lookup.with(|records| {
                    records.down = true;
                    records.news(now);
                });
                self.tell_of_gate(|| "no name server answers".to_owned());
                self.at(long, Event::Gate(GateEvent::Ends(GateFault::Names)));
            }
            68..78 => {
                let a = self.gate_dice.index(self.agents.len());
                let Some(side) = self.sides[a].as_ref() else {
                    return;
                };
                let (lose, fill) = (self.gate_dice.chance(40), self.gate_dice.chance(40));
                let disk = side.disk.clone();
                let name = self.agents[a].name.clone();
                if fill {
                    disk.set_full(true);
                    self.tell_of_gate(|| format!("what {name} remembers of its gateway cannot be kept"));
                    self.at(long, Event::Gate(GateEvent::Ends(GateFault::Disk(a))));
                } else if self.agents[a].up {
                    self.kill_agent(a, long);
                    if lose {
                        disk.lose();
                        self.tell_of_gate(|| format!("what {name} remembered of its gateway is lost"));
                    }
                }
            }
            78..88 => self.strange_entity(g, n, long),
            _ => {
                self.meddle(g, n);
                if self.gate_dice.chance(50) && self.gates[g].nodes[n].reach == Reach::Open {
                    self.gates[g].nodes[n].reach = Reach::Busy;
                    self.at(long, Event::Gate(GateEvent::Ends(GateFault::Node(g, n))));
                }
            }
        }
    }

    /// A node's health checks take for dead all of a backend's targets that one of its upstreams has: without a database the base's own,
    /// with one an upstream of Weir's to which somebody gives checks.
    fn health_checks_fail(&mut self, g: usize, n: usize, long: Ms) {
        let place = ZONES[self.gates[g].zone];
        let gate = &self.gates[g];
        let node = &gate.nodes[n].still;
        let all = node.all("targets");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |target: &Value| text(&target["upstream"]["id"]);
        let ours: Vec<_> = all.iter().filter(|one| super::is_ours(one)).collect();
        let chosen = match gate.kind.database {
            true => ours.get(self.gate_dice.index(ours.len().max(1))).copied(),
            false => all
                .iter()
                .find(|one| one["target"] == "10.0.0.1:8080" && !super::is_ours(one)),
        };
        let Some(chosen) = chosen else { return };
        let upstream = of(chosen);
        let backend = super::place_of(&text(&chosen["target"])).map(|(place, _)| place);
        if gate.kind.database {
            let checks = json!({"healthchecks": {"active": {
                "healthy": {"interval": 1, "successes": 1}, "unhealthy": {"interval": 1},
            }}});
            let body = checks.to_string();
            let body = Some(("application/json", body.as_bytes()));
            node.ask(false, &Method::PATCH, &format!("upstreams/{upstream}"), body);
            for node in &gate.nodes {
                node.still.looks();
                node.still.rebuilds();
            }
        }
        let same = all.iter().filter(|one| {
            let place = super::place_of(&text(&one["target"])).map(|(place, _)| place);
            of(one) == upstream && place == backend
        });
        let dead: Vec<String> = same.map(|one| text(&one["target"])).collect();
        for target in &dead {
            let path = format!("upstreams/{upstream}/targets/{target}/unhealthy");
            node.ask(false, &Method::PUT, &path, None);
        }
        let gate = &mut self.gates[g];
        gate.sick.insert(n);
        gate.version += 1;
        if gate.kind.database {
            gate.wrote = self.now;
        }
        self.gate_changed(g, None);
        self.tell_of_gate(|| format!("node {n} of the gateway of {place} takes for dead {dead:?}"));
        self.at(long, Event::Gate(GateEvent::Ends(GateFault::Health(g, n))));
    }

    /// Somebody puts a service of his own into a gateway, beside what is there.
    fn strange_entity(&mut self, g: usize, n: usize, long: Ms) {
        let place = ZONES[self.gates[g].zone];
        let gate = &mut self.gates[g];
        let node = &gate.nodes[n].still;
        if node.all("services").iter().any(|one| one["name"] == STRANGER) {
            return;
        }
        if gate.kind.database {
            let body = json!({"name": STRANGER, "host": "10.9.9.9"}).to_string();
            node.ask(
                false,
                &Method::POST,
                "services",
                Some(("application/json", body.as_bytes())),
            );
        } else {
            let mut document = exported(node);
            let services = document["services"].as_array().cloned().unwrap_or_default();
            let more = json!({"name": STRANGER, "host": "10.9.9.9"});
            document["services"] = services.into_iter().chain([more]).collect();
            post(node, &document.to_string());
        }
        self.gates[g].tampered = true;
        (self.gates[g].wrote, self.gates[g].strange) = (self.now, self.now);
        self.gate_changed(g, None);
        self.tell_of_gate(|| format!("a stranger's service is at node {n} of the gateway of {place}"));
        self.at(long, Event::Gate(GateEvent::Ends(GateFault::Stranger(g))));
    }

    /// Somebody changes, or takes away, what is there.
    fn meddle(&mut self, g: usize, n: usize) {
        let place = ZONES[self.gates[g].zone];
        let node = &self.gates[g].nodes[n].still;
        let ours: Vec<_> = node
            .all("targets")
            .into_iter()
            .filter(|one| super::is_ours(one))
            .collect();
        let of = self.gate_dice.index(ours.len().max(1));
        let kind = self.gate_dice.below(3);
        let Some(target) = ours.get(of) else { return };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let node = &self.gates[g].nodes[n].still;
        if self.gates[g].kind.database {
            let path = format!(
                "upstreams/{}/targets/{}",
                text(&target["upstream"]["id"]),
                text(&target["id"])
            );
            let body = json!({"weight": 7_777}).to_string();
            match kind {
                0 => node.ask(false, &Method::DELETE, &path, None),
                _ => node.ask(
                    false,
                    &Method::PATCH,
                    &path,
                    Some(("application/json", body.as_bytes())),
                ),
            };
        } else {
            let mut document = exported(node);
            match kind {
                0 => {
                    // Without a service of the site's.
                    if let Some(services) = document["services"].as_array_mut() {
                        let at = services.iter().position(|one| !super::is_ours(one));
                        if let Some(at) = at {
                            services.remove(at);
                        }
                    }
                }
                _ => {
                    let first = document.pointer_mut("/upstreams/0/targets/0");
                    if let Some(target) = first {
                        target["weight"] = json!(7_777);
                    }
                }
            }
            post(node, &document.to_string());
        }
        self.gates[g].tampered = true;
        (self.gates[g].wrote, self.gates[g].strange) = (self.now, self.now);
        self.gate_changed(g, None);
        self.tell_of_gate(|| format!("somebody changes what node {n} of the gateway of {place} has"));
    }

    pub(crate) fn gate_fault_ends(&mut self, fault: GateFault) {
        let now = self.now;
        match fault {
            GateFault::Node(g, n) => {
                self.gates[g].nodes[n].reach = Reach::Open;
                self.gates[g].version += 1;
            }
            GateFault::Health(g, n) => {
                let gate = &mut self.gates[g];
                gate.nodes[n].still.finds_all_well();
                gate.sick.remove(&n);
                gate.version += 1;
            }
            GateFault::Names => self.lookup.with(|records| {
                if records.down {
                    records.down = false;
                    records.up_since = now;
                    records.news(now);
                }
            }),
            GateFault::Disk(a) => {
                if let Some(side) = self.sides[a].as_ref() {
                    side.disk.set_full(false);
                }
            }
            GateFault::Stranger(g) => {
                for n in 0..self.gates[g].nodes.len() {
                    let node = &self.gates[g].nodes[n].still;
                    if !node.all("services").iter().any(|one| one["name"] == STRANGER) {
                        continue;
                    }
                    if self.gates[g].kind.database {
                        node.ask(false, &Method::DELETE, &format!("services/{STRANGER}"), None);
                    } else {
                        let mut document = exported(node);
                        if let Some(services) = document["services"].as_array_mut() {
                            services.retain(|one| one["name"] != STRANGER);
                        }
                        post(node, &document.to_string());
                    }
                    self.gates[g].wrote = now;
                }
                self.gate_changed(g, None);
            }
        }
    }

    /// From now on nothing goes wrong at gateways.
    pub(crate) fn gate_faults_end(&mut self) {
        for g in 0..self.gates.len() {
            for n in 0..self.gates[g].nodes.len() {
                self.gate_fault_ends(GateFault::Node(g, n));
                self.gate_fault_ends(GateFault::Health(g, n));
            }
            self.gate_fault_ends(GateFault::Stranger(g));
        }
        for a in 0..self.sides.len() {
            self.gate_fault_ends(GateFault::Disk(a));
        }
        self.gate_fault_ends(GateFault::Names);
    }

    /// Once a second: nodes look at their databases, one after the other.
    pub(crate) fn gates_go_on(&mut self) {
        let second = self.now / 1_000;
        for g in 0..self.gates.len() {
            // What nobody wrote to lately has been taken up by all.
            if !self.gates[g].kind.database || self.now > self.gates[g].wrote + 15_000 {
                continue;
            }
            let mut any = false;
            for (n, node) in self.gates[g].nodes.iter().enumerate() {
                let turn = (second + n as u64 * 2) % 5;
                match turn {
                    0 => node.still.looks(),
                    3 => node.still.rebuilds(),
                    _ => continue,
                }
                any = true;
            }
            if any {
                self.gate_changed(g, None);
            }
        }
    }
}

/// What a node without a database has, as a document that can be posted.
fn exported(node: &weir_sandbox::kong::Still) -> Value {
    let all = |kind: &str| -> Vec<Value> {
        let all = node.all(kind);
        all.iter().map(|one| bare(one)).collect()
    };
    let of = |kind: &str, field: &str, id: &Value| -> Vec<Value> {
        let all = node.all(kind).into_iter();
        let all = all.filter(|one| one[field]["id"] == *id);
        all.map(|one| {
            let mut one = bare(&one);
            if let Some(fields) = one.as_object_mut() {
                fields.remove(field);
            }
            one
        })
        .collect()
    };
    let with = |kind: &str, below: &str, field: &str| -> Vec<Value> {
        let each = node.all(kind).into_iter().map(|one| {
            let children = of(below, field, &one["id"]);
            let mut one = bare(&one);
            if !children.is_empty() {
                one[below] = children.into();
            }
            one
        });
        each.collect()
    };
    let mut document = json!({"_format_version": "3.0"});
    for (kind, list) in [
        ("services", with("services", "routes", "service")),
        ("upstreams", with("upstreams", "targets", "upstream")),
        ("consumers", all("consumers")),
        ("plugins", all("plugins")),
    ] {
        if !list.is_empty() {
            document[kind] = list.into();
        }
    }
    document
}

fn bare(one: &Value) -> Value {
    let mut one = one.clone();
    if let Some(fields) = one.as_object_mut() {
        for field in ["id", "created_at", "updated_at"] {
            fields.remove(field);
        }
        fields.retain(|_, value| !value.is_null());
    }
    one
}
