//! What goes wrong, and how it ends.

mod applications;

use weir_coordinator::ledger::OrderKind;
use weir_model::Protocol;
use weir_planner::{Generation, ServiceState};
use weir_render::Kind;

use super::agent::Disk;
use super::coordinator::Doom;
use super::human::protocol_of;
use super::world::{Event, SPLITS, World, ZONES};
use super::zone::{Door, Key, Place, Rival, stranger};

/// For so long all works and a drain stays in force: longer than any pin, and what that takes to end.
const DRAINED: u64 = 150_000;

/// Something that ends by itself after a while.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Cut(usize, bool, bool),
    Slow(usize),
    Door(Place),
    Flaky(Place),
    Stuck(Place, usize),
    FullDisk(usize),
    FullLedger,
    Git,
    Service(Place, usize, Place),
    /// An application is gone: of a split, in a place.
    Application(usize, Place),
    /// One answers slowly.
    Sluggish(usize, Place),
    Rival(Place),
    Stranger(Place, Key),
}

impl World {
    /// One more thing goes wrong.
    pub(crate) fn harm_something(&mut self) {
        let z = self.dice.index(self.zones.len());
        let a = self.dice.index(self.agents.len());
        let long = match self.dice.below(4) {
            0 => self.dice.between(200, 2_000),
            1 | 2 => self.dice.between(2_000, 20_000),
            _ => self.dice.between(20_000, 70_000),
        };
        match self.dice.below(100) {
            0..10 => self.cut_link(a, long),
            10..14 => {
                self.links[a].slow = self.dice.between(500, 9_000);
                let name = self.agents[a].name.clone();
                self.tell(|| format!("the link of {name} is slow"));
                self.at(long, Event::Ends(Fault::Slow(a)));
            }
            14..22 => self.lose_agent(a, long),
            22..30 => {
                // At some call of its next activation.
                let at = u32::try_from(self.dice.between(1, 8)).unwrap_or(1);
                self.agents[a].doomed = Some((at, self.dice.chance(50)));
                self.wake(a, 1);
            }
            30..37 => self.lose_coordinator(long),
            37..40 => {
                let all = [Doom::Decided, Doom::Recorded];
                self.coordinator.doomed = Some(all[self.dice.index(2)]);
            }
            40..48 => self.close(z, long),
            48..54 => self.lose_store(z),
            54..58 => {
                self.zones[z].flaky = self.dice.between(5, 50);
                self.tell(|| format!("calls in {} fail now and then", ZONES[z]));
                self.at(long, Event::Ends(Fault::Flaky(z)));
            }
            58..74 => self.harm_service(long),
            74..78 => {
                let envoy = self.dice.index(self.zones[z].envoys.len());
                self.zones[z].envoys[envoy].stuck = true;
                self.tell(|| format!("Envoy {envoy} of {} does not follow", ZONES[z]));
                self.at(long, Event::Ends(Fault::Stuck(z, envoy)));
            }
            78..81 => {
                self.agents[a].disk.full = true;
                let name = self.agents[a].name.clone();
                self.tell(|| format!("the disk of {name} is full"));
                self.at(long, Event::Ends(Fault::FullDisk(a)));
            }
            81..83 => {
                self.coordinator.full = true;
                self.tell(|| "the ledger takes no writes".to_owned());
                self.at(long, Event::Ends(Fault::FullLedger));
            }
            83..87 => {
                self.coordinator.git = false;
                self.tell(|| "Git is gone".to_owned());
                self.at(long, Event::Ends(Fault::Git));
            }
            87..89 => {
                if self.dice.chance(50) {
                    self.agents[a].ahead = [0, 60_000, 3_600_000, -3_600_000, -7_000][self.dice.index(5)];
                    let name = self.agents[a].name.clone();
                    self.tell(|| format!("the clock of the host of {name} is set"));
                    return;
                }
                let hour = 3_600_000;
                self.coordinator.skew = i64::try_from(self.dice.below(2 * hour)).unwrap_or_default()
                    - i64::try_from(hour).unwrap_or_default();
                let skew = self.coordinator.skew;
                self.tell(|| format!("the coordinator's clock is set, {skew} ms from the right time"));
            }
            89..92 => self.second_writer(z),
            92..95 => self.outrank(z, long),
            95..98 => self.strange_object(z, long),
            _ => {
                self.coordinator.backup = self.coordinator.ledger.clone();
                self.checks.ledger_copied();
            }
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        self.story.tell(now, what);
    }

    fn cut_link(&mut self, a: usize, long: u64) {
        let (up, down) = match self.dice.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        self.links[a].up_cut |= up;
        self.links[a].down_cut |= down;
        let name = self.agents[a].name.clone();
        self.tell(|| match (up, down) {
            (true, true) => format!("{name} is cut off"),
            (true, false) => format!("what {name} says is lost"),
            _ => format!("what {name} is told is lost"),
        });
        self.cut(a);
        self.at(long, Event::Ends(Fault::Cut(a, up, down)));
    }

    fn lose_agent(&mut self, a: usize, long: u64) {
        if !self.agents[a].up {
            return;
        }
        self.kill_agent(a, long);
        let name = self.agents[a].name.clone();
        match self.dice.below(6) {
            0 => {
                self.agents[a].disk.plan = None;
                self.tell(|| format!("the plan file of {name} is torn"));
            }
            1 => {
                self.agents[a].disk.memory = weir_agent::take::Memory::default();
                self.tell(|| format!("the memory file of {name} is torn"));
            }
            // The glass broke, or was swept away.
            3 if self.agents[a].disk.pins.is_some() => {
                let torn = self.dice.chance(50);
                self.agents[a].disk.pins = torn.then(|| b"weir pins 1".to_vec());
                self.tell(|| format!("the file of pins of {name} is damaged"));
            }
            2 if self.dice.chance(40) => {
                self.agents[a].disk = Disk::default();
                self.agents[a].took = Generation(0);
                self.agents[a].disks += 1;
                self.tell(|| format!("the disk of {name} is lost"));
            }
            _ => {}
        }
        self.recount_pins(a);
        let disk = &self.agents[a].disk;
        if disk.plan.is_none() && disk.memory.highest == Generation(0) {
            self.agents[a].took = Generation(0);
        }
    }

    fn lose_history(&mut self) {
        let newest = self.coordinator.generation().0;
        self.checks.history_lost = true;
        self.checks.lost_plans = self.checks.lost_plans.max(newest);
    }

    fn lose_coordinator(&mut self, long: u64) {
        self.kill_coordinator(long);
        match self.dice.below(10) {
            0 => {
                self.forget_revert();
                self.lose_history();
                self.coordinator.ledger = super::coordinator::Ledger::default();
                self.recount_drains();
                self.note_lost();
                self.tell(|| "the ledger is lost".to_owned());
            }
            1 | 2 => {
                self.forget_revert();
                self.lose_history();
                self.coordinator.ledger = self.coordinator.backup.clone();
                self.checks.ledger_restored();
                self.recount_drains();
                self.note_lost();
                self.tell(|| "the ledger is restored from an old copy".to_owned());
            }
            _ => {}
        }
    }

    fn close(&mut self, z: Place, long: u64) {
        self.zones[z].door = [Door::Closed, Door::Closed, Door::Broken, Door::NoMesh][self.dice.index(4)];
        self.zones[z].version += 1;
        let door = self.zones[z].door;
        self.tell(|| match door {
            Door::Closed => format!("the control plane of {} is gone", ZONES[z]),
            Door::Broken => format!("the store of {} is down", ZONES[z]),
            _ => format!("the mesh is gone in {}", ZONES[z]),
        });
        self.poke(z, 1_000);
        self.at(long, Event::Ends(Fault::Door(z)));
    }

    fn lose_store(&mut self, z: Place) {
        self.zones[z].lose_store();
        self.checks.store_lost(z);
        // With the policies what they told of shares that are elsewhere.
        for split in 0..SPLITS.len() {
            self.note_trouble(z, split);
        }
        self.tell(|| format!("the control plane of {} is back with an empty store", ZONES[z]));
        self.poke(z, 1_000);
        self.envoys_look(z);
        // Its services vanish everywhere for a few seconds.
        for viewer in 0..self.zones.len() {
            for (split, service) in SPLITS.iter().enumerate() {
                if self.dice.chance(60) {
                    self.zones[viewer].sees(service, z, None);
                    self.note_trouble(viewer, split);
                    let back = self.dice.between(500, 8_000);
                    self.at(back, Event::Ends(Fault::Service(viewer, split, z)));
                }
            }
            self.envoys_look(viewer);
            self.watch_closely(viewer);
        }
    }

    /// Somebody edits or removes a policy of ours by hand.
    fn second_writer(&mut self, z: Place) {
        let keys: Vec<Key> = self.zones[z]
            .store
            .iter()
            .filter(|(_, stored)| stored.ours.is_some() && stored.meaning.whole)
            .map(|(key, _)| key.clone())
            .collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[self.dice.index(keys.len())].clone();
        let Some((mut object, _)) = self.zones[z].store[&key].ours.clone() else {
            return;
        };
        for envoy in &mut self.zones[z].envoys {
            envoy.disturbed.insert(key.clone());
        }
        if self.dice.chance(40) {
            self.zones[z].store(key.clone(), None);
            self.checks.word_lost(z);
            self.note_removed(z, &key);
            self.tell(|| format!("somebody removes {} in {}", key.1, ZONES[z]));
        } else {
            let weights = object.spec.pointer_mut("/to/0/rules/0/default/backendRefs");
            for (n, reference) in weights
                .and_then(|all| all.as_array_mut())
                .into_iter()
                .flatten()
                .enumerate()
            {
                reference["weight"] = serde_json::json!(if n == 0 { 7_777 } else { 1 });
            }
            self.zones[z].store(key.clone(), Some(&object));
            self.checks.tampered.insert((z, key.clone()));
            self.tell(|| format!("somebody edits {} in {}", key.1, ZONES[z]));
        }
        self.envoys_look(z);
    }

    fn outrank(&mut self, z: Place, long: u64) {
        let split = SPLITS[self.dice.index(2)].to_owned();
        let outranks = self.dice.chance(70);
        self.ends(&Fault::Rival(z));
        self.zones[z].rival = Some(Rival {
            split: split.clone(),
            outranks,
        });
        self.zones[z].version += 1;
        self.note_truth(z, &(Kind::MeshHttpRoute, format!("weir-{split}")));
        self.tell(|| {
            format!(
                "somebody has a policy for {split} in {}, which outranks ours: {outranks}",
                ZONES[z]
            )
        });
        self.at(long, Event::Ends(Fault::Rival(z)));
    }

    fn strange_object(&mut self, z: Place, long: u64) {
        let name = if self.dice.chance(50) {
            "weir-cart"
        } else {
            "canary"
        };
        let key: Key = (Kind::MeshHttpRoute, name.to_owned());
        if self.zones[z].store.contains_key(&key) {
            return;
        }
        let Some(object) = stranger(name) else { return };
        self.zones[z].store(key.clone(), Some(&object));
        let document = self.zones[z].store[&key].document.clone();
        self.checks.strangers.insert((z, key.clone()), document);
        self.tell(|| format!("a stranger writes {name} in {}", ZONES[z]));
        self.at(long, Event::Ends(Fault::Stranger(z, key)));
    }

    /// A fault is over.
    pub(crate) fn ends(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut(a, up, down) => {
                let link = &mut self.links[*a];
                if (*up && link.up_cut) || (*down && link.down_cut) {
                    link.up_cut &= !up;
                    link.down_cut &= !down;
                    let name = self.agents[*a].name.clone();
                    self.tell(|| format!("the link of {name} works again"));
                    self.mended(*a);
                }
            }
            Fault::Slow(a) => self.links[*a].slow = 0,
            Fault::Door(z) => {
                if self.zones[*z].door != Door::Open {
                    self.zones[*z].door = Door::Open;
                    self.zones[*z].version += 1;
                    let z = *z;
                    self.tell(|| format!("the control plane of {} answers again", ZONES[z]));
                    self.poke(z, 250);
                    self.envoys_look(z);
                }
            }
            Fault::Flaky(z) => self.zones[*z].flaky = 0,
            Fault::Stuck(z, envoy) => {
                self.zones[*z].envoys[*envoy].stuck = false;
                self.envoys_look(*z);
            }
            Fault::FullDisk(a) => self.agents[*a].disk.full = false,
            Fault::FullLedger => self.coordinator.full = false,
            Fault::Git => self.coordinator.git = true,
            Fault::Application(split, of) => {
                self.tell(|| format!("the application of {} in {} is back", SPLITS[*split], ZONES[*of]));
                for viewer in 0..self.zones.len() {
                    self.zones[viewer].application(*split, *of, false);
                    self.note_trouble(viewer, *split);
                }
            }
            Fault::Sluggish(split, of) => {
                let now = self.now;
                for zone in &mut self.zones {
                    zone.answers_slowly(*split, *of, false);
                }
                if let Some(until @ None) = self.checks.slow.get_mut(&(*split, *of)) {
                    *until = Some(now);
                }
            }
            Fault::Service(viewer, split, of) => self.service_as_it_should_be(*viewer, *split, *of),
            Fault::Rival(z) => {
                if let Some(rival) = self.zones[*z].rival.take() {
                    self.zones[*z].version += 1;
                    self.note_truth(*z, &(Kind::MeshHttpRoute, format!("weir-{}", rival.split)));
                }
            }
            Fault::Stranger(z, key) => {
                if self.checks.strangers.remove(&(*z, key.clone())).is_some() {
                    self.zones[*z].store(key.clone(), None);
                }
            }
        }
    }

    /// From now on nothing goes wrong any more, and nobody changes anything.
    pub(crate) fn all_faults_end(&mut self) {
        self.quiet = true;
        self.quiet_since = Some(self.now);
        self.tell(|| "all faults are over".to_owned());
        for a in 0..self.agents.len() {
            self.links[a].slow = 0;
            self.ends(&Fault::Cut(a, true, true));
            self.ends(&Fault::FullDisk(a));
            self.agents[a].doomed = None;
            self.start_agent(a);
        }
        self.gate_faults_end();
        self.ends(&Fault::FullLedger);
        self.ends(&Fault::Git);
        self.coordinator.doomed = None;
        let orders = &mut self.coordinator.ledger.orders;
        orders.waiting.retain(|order| order.kind != OrderKind::Freeze);
        orders.standing.retain(|order| order.kind != OrderKind::Freeze);
        self.thaw();
        self.start_coordinator();
        let keep = self.dice.chance(30);
        let strangers: Vec<(Place, Key)> = self.checks.strangers.keys().cloned().collect();
        for (z, key) in strangers {
            if !keep {
                self.ends(&Fault::Stranger(z, key));
            }
        }
        for split in 0..SPLITS.len() {
            for of in 0..self.zones.len() {
                self.ends(&Fault::Sluggish(split, of));
            }
        }
        for z in 0..self.zones.len() {
            self.ends(&Fault::Door(z));
            self.ends(&Fault::Flaky(z));
            self.ends(&Fault::Rival(z));
            for envoy in 0..self.zones[z].envoys.len() {
                self.ends(&Fault::Stuck(z, envoy));
            }
            for split in 0..SPLITS.len() {
                for of in 0..self.zones.len() {
                    self.zones[z].application(split, of, false);
                    self.service_as_it_should_be(z, split, of);
                }
            }
        }
        // Those who broke the glass end it now, or look first whether it holds.
        let later = if self.dice.chance(50) { 1 } else { 60_000 };
        self.at(later, Event::PinsEnd);
        // And so do those who stopped something.
        let later = if self.dice.chance(60) { 2 } else { DRAINED };
        self.at(later, Event::DrainsEnd);
    }
}
