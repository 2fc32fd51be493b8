//! The next steps of what is under way, as the planning loop takes them.

use super::*;

impl World {
    /// Another look when time alone may let something go on.
    pub(super) fn look_later(&mut self) {
        let c = &self.coordinator;
        let until = c.outlook.values().filter_map(|stands| stands.until).min();
        if let Some(until) = until {
            let left = until.duration_since(c.clock(self.now)).as_millis();
            let left = u64::try_from(left).unwrap_or_default() + 50;
            self.at(left, Event::Turn);
        }
    }

    /// Something is under way, and an agent said something: another look soon.
    pub(crate) fn look_soon(&mut self) {
        if self.coordinator.up
            && !self.coordinator.looks
            && (!self.coordinator.looked || !self.coordinator.under_way().is_empty())
        {
            self.coordinator.looks = true;
            self.at(50, Event::Turn);
        }
    }

    pub(super) fn note_proven(&mut self) {
        let now = self.now;
        let c = &self.coordinator;
        let Some(plan) = c.plan.clone() else { return };
        let senses = c.senses(&plan, now);
        let mut proven = Proven::new();
        for name in c.under_way() {
            let Some(split) = plan.splits.get(&name) else {
                continue;
            };
            for (zone, item) in &split.items {
                if let Runs::Proven { since } = senses.runs(item) {
                    proven.insert((name.clone(), zone.clone()), (item.generation, since));
                }
            }
        }
        self.coordinator.proven = proven;
    }

    /// The next step of what is under way, as the coordinator's planning loop takes it.
    pub(super) fn advance(&mut self, judged: &Judged) {
        let now = self.now;
        let c = &self.coordinator;
        let mut only = c.under_way();
        let orders = &judged.orders;
        only.extend(orders.aborts.keys().chain(&orders.resumes).cloned());
        only.extend(orders.drains.keys().cloned());
        let (Some(plan), Some(declared)) = (c.plan.clone(), c.declared.clone()) else {
            return;
        };
        // The first look after a start is at all: what waits without having moved stands in no plan.
        let all = !c.looked;
        if all {
            only.extend(declared.splits.keys().cloned());
            only.extend(plan.splits.keys().cloned());
        }
        if only.is_empty() && !all {
            let (plan, outlook) = (self.coordinator.plan.clone(), self.coordinator.outlook.clone());
            self.answer_orders(judged, plan.as_deref(), &outlook);
            return;
        }
        let of: Vec<SourceCommit> = c
            .ledger
            .commits
            .iter()
            .map(|(source, commit)| SourceCommit {
                source: source.clone(),
                commit: commit.clone(),
            })
            .collect();
        let senses = c.senses(&plan, now);
        let look = weir_planner::step(
            Inputs {
                declaration: &declared,
                commits: &of,
                highest: c.fleet.highest(plan.generation),
                parent: Some(&plan),
                now: c.clock(now),
            },
            Transit {
                senses: &senses,
                orders,
                reverts: None,
                only: Some(&only),
            },
        );
        let next = match look.planned {
            Planned::New(next) => Some(next),
            Planned::Nothing => None,
            Planned::Refused(reasons) => {
                self.unsound(&format!("a step cannot be planned: {reasons:?}"));
                return;
            }
        };
        let findings = next
            .as_ref()
            .map(|next| weir_planner::lint(next, Some(&plan)))
            .unwrap_or_default();
        if let Some(finding) = findings.first() {
            self.unsound(&finding.to_string());
            return;
        }
        if self.coordinator.full {
            self.at(1_000, Event::Turn);
            return;
        }
        let doomed = if next.is_some() {
            self.coordinator.doomed.take()
        } else {
            None
        };
        if doomed == Some(Doom::Decided) {
            let back = self.dice.between(300, 20_000);
            self.kill_coordinator(back);
            return;
        }
        let next = next.map(Arc::new);
        if let Some(next) = &next {
            let ledger = &mut self.coordinator.ledger;
            ledger.created.insert(next.generation, next.created);
            ledger.plan = Some(Arc::clone(next));
            self.plans += 1;
            self.story.tell(now, || {
                format!("the coordinator takes a step: plan {}", next.generation)
            });
            let heads = self.coordinator.heads.clone();
            self.record_accepted(&heads, (Some(next), false), orders);
        }
        // In one transaction.
        let in_force = next.clone().unwrap_or(plan);
        self.answer_orders(judged, Some(&in_force), &look.outlook);
        if doomed == Some(Doom::Recorded) {
            let back = self.dice.between(300, 20_000);
            self.kill_coordinator(back);
            return;
        }
        for (split, stands) in &look.outlook {
            if self.coordinator.outlook.get(split).map(|was| was.phase) != Some(stands.phase) {
                self.story.tell(now, || {
                    let why = stands
                        .waits
                        .first()
                        .map(|wait| wait.why.clone())
                        .unwrap_or_default();
                    format!("{split} is in phase {:?}: {why}", stands.phase)
                });
            }
        }
        self.coordinator.outlook = look.outlook;
        self.coordinator.looked = true;
        if next.is_some() && !self.coordinator.ledger.refused.is_empty() {
            // What was refused beside the plan before may stand beside this one.
            self.coordinator.considered = None;
            self.at(50, Event::Turn);
        }
        self.publish(next);
    }
}
