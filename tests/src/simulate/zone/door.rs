//! What a zone answers to its agents, and what it refuses.

use super::*;

impl Zone {
    fn refuses(&self, what: &str) -> Option<DriverError> {
        match self.door {
            Door::Open => None,
            Door::Closed => Some(away(what, "connection refused", Fault::Away)),
            Door::Broken => Some(away(what, "500 Internal Server Error", Fault::Away)),
            Door::NoMesh => Some(away(
                what,
                "404: mesh of name default is not found",
                Fault::MeshGone,
            )),
        }
    }

    /// Answers everything that changes nothing.
    pub(crate) fn answer(&self, call: &Call, dice: &mut Dice, now: Ms) -> Answer {
        let fails = |dice: &mut Dice| self.flaky > 0 && dice.chance(self.flaky);
        match call {
            Call::Pulse => Answer::Pulse(match self.door {
                Door::Closed => Err(away("GET /", "connection refused", Fault::Away)),
                _ => Ok(self.instance.to_string()),
            }),
            Call::Observe => Answer::Observed(match self.refuses("GET meshes/default") {
                Some(error) => Err(error),
                None if fails(dice) => Err(away("GET meshes/default", "timeout", Fault::Away)),
                None => Ok(self.observed()),
            }),
            Call::Apply(_) => Answer::Applied(Err(away("PUT", "not asked here", Fault::Unknown))),
            Call::Prove(items) => Answer::Proofs(
                items
                    .iter()
                    .map(|item| self.proof(item, fails(dice), now))
                    .collect(),
            ),
            Call::Sight(anchors) => {
                // Who cannot look at its proxies waits as long as Kuma takes at most; so a proxy that does not follow for
                // longer can be looked at, or nobody could know.
                let stuck = self.envoys.iter().any(|envoy| envoy.stuck);
                let sightings = anchors
                    .iter()
                    .map(|object| self.sighting(object, !stuck && fails(dice)));
                Answer::Sightings(sightings.collect())
            }
            Call::Count(_) => Answer::Counts(Vec::new()),
        }
    }

    fn observed(&self) -> Observed {
        let writer = |rival: &Rival| SecondWriter {
            kind: "MeshHTTPRoute".to_owned(),
            object: "canary".to_owned(),
            origin: "zone".to_owned(),
            overrides: rival.outranks,
        };
        Observed {
            kuma: Some("2.14.3".to_owned()),
            instance: Some(self.instance.to_string()),
            services: self.services.values().cloned().collect(),
            ours: self
                .store
                .values()
                .filter_map(|stored| stored.ours.clone())
                .collect(),
            second_writers: self
                .rival
                .iter()
                .filter_map(|rival| Some((SplitName::new(rival.split.as_str()).ok()?, vec![writer(rival)])))
                .collect(),
            ..Observed::default()
        }
    }

    fn proof(&self, item: &Item, fails: bool, now: Ms) -> Proof {
        let of = u32::try_from(self.envoys.len()).unwrap_or(u32::MAX);
        let exact = self.runs_exactly(item);
        Proof {
            verdict: match (fails, exact) {
                (true, _) => Verdict::Unknown("no answer".to_owned()),
                (false, true) => Verdict::Exact,
                (false, false) => Verdict::Different("something else".to_owned()),
            },
            evidence: if fails { Evidence::Unknown } else { Evidence::Live },
            at: stamp(now),
            coverage: Coverage {
                seen: if fails { 0 } else { of },
                of,
            },
            weights: (exact && !fails).then(|| {
                let of = |route: &weir_planner::ItemRoute| (route.name.clone(), route.weights.clone());
                item.routes.iter().map(of).collect()
            }),
            unhealthy: BTreeSet::new(),
        }
    }

    fn sighting(&self, object: &Object, fails: bool) -> Sighting {
        let key = (object.kind, object.name.clone());
        let held = self.envoys.iter().map(|envoy| match envoy.runs.get(&key) {
            None => Held::No,
            Some(runs) if runs.meaning.whole => Held::Besides,
            Some(_) => Held::Alone,
        });
        Sighting {
            held: held.max().filter(|_| !fails),
            complete: !fails,
        }
    }

    /// Whether a step is to be left undone, by the driver's own rule.
    pub(crate) fn leaves(&self, step: &Step, seen: Option<Generation>) -> Option<Outcome> {
        let (kind, _, name) = step.object();
        let stored = self.store.get(&(kind, name.to_owned()))?;
        weir_drivers::kuma::left_alone(step, &stored.document, &self.federation, seen)
    }

    pub(crate) fn refuses_writes(&self) -> Option<DriverError> {
        self.refuses("PUT meshes/default/meshhttproutes")
    }
}
