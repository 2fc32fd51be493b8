//! What becomes of a decision: the ledger has it before anybody else does, and people are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, Declaration, Diagnostic, Severity, SourceName};
use weir_planner::{Orders, Plan};

use super::{Planning, moving};
use crate::decide::{self, Decision, Heads};
use crate::fleet::Fleet;
use crate::git::Head;
use crate::judging;
use crate::ledger::{CommitRow, LedgerError, NewEvent, Order, Taken, Verdict};
use crate::selfcheck::steps::{self, Step};
use crate::selfcheck::{self, Checked};
use crate::sources::{self, SourceState, SourceStates};
use crate::standing::Sight;
use crate::state::{InForce, Waits};
use crate::words;

impl Planning {
    pub(super) async fn enact(
        &mut self,
        decision: Decision,
        heads: &Heads,
        known: Option<InForce>,
        (fleet, waiting): (&Fleet, &[(Order, Option<String>)]),
    ) -> Result<(), LedgerError> {
        let now = Timestamp::now();
        let mut decision = decision;
        let looked = known.as_ref().is_none_or(|known| known.looked);
        let before = known.as_ref().map(|known| (&known.outlook, &known.waits));
        let before = before.map(|(outlook, waits)| (Arc::clone(outlook), Arc::clone(waits)));
        let (before, waited) = before.unwrap_or_default();
        let recalled = self.recalled(looked).await;
        if let Some(accepted) = &mut decision.accepted {
            moving::keep_since(&before, &recalled, &mut accepted.outlook, now);
        }
        let mut rows = Vec::new();
        for (source, head) in heads {
            let (verdict, diagnostics) = match decision.refused.get(source) {
                Some(why) => (Verdict::Refused, why.clone()),
                None => (
                    Verdict::Taken,
                    decision.taken.get(source).cloned().unwrap_or_default(),
                ),
            };
            let news = match self.decided.get(source) {
                None => true,
                Some((commit, before, why)) => {
                    *commit != head.commit
                        || *before != verdict
                        || (verdict == Verdict::Refused && *why != diagnostics)
                }
            };
            if news {
                rows.push(CommitRow {
                    source: source.clone(),
                    head: Head::clone(head),
                    verdict,
                    diagnostics,
                });
            }
        }
        let accepted = decision.accepted.as_ref();
        let plan = accepted.and_then(|accepted| accepted.plan.as_ref());
        let commits = accepted.map(|accepted| decide::commits(&accepted.in_force));
        let parent = known.as_ref().map(|known| known.plan.as_ref());
        // Nothing was looked at where nothing stands: then the next look obeys and answers.
        let in_force = plan.or(parent);
        let judged = accepted.map(|accepted| {
            let known = in_force.map(|plan| (plan, &accepted.outlook));
            judging::answers(waiting, known)
        });
        let answers = judged.unwrap_or_default();
        let mut events: Vec<NewEvent> = rows.iter().map(commit_event).collect();
        events.extend(plan.map(|plan| plan_event(parent, plan)));
        if let Some(plan) = plan {
            let declared = accepted.map(|accepted| &accepted.declaration);
            events.extend(self.checked(parent, plan, (fleet, declared)));
        }
        let mut waits = Waits::new();
        if let Some(accepted) = accepted {
            events.extend(moving::unjudged(&accepted.unjudged));
            let before = (looked, (&*before, &*waited));
            waits = moving::tell(before, &recalled, (&accepted.outlook, now), &mut events);
        }
        let same = commits.is_none()
            || known
                .as_ref()
                .is_some_and(|known| commits.as_ref() == Some(&known.commits));
        if !rows.is_empty() || plan.is_some() || !same {
            let in_force = accepted
                .zip(commits.as_ref())
                .map(|(accepted, commits)| (commits, &accepted.declaration));
            self.ledger
                .decide(
                    now,
                    Taken {
                        commits: &rows,
                        in_force,
                        plan,
                        first_of: &[],
                        answers: &answers,
                        events: &events,
                    },
                )
                .await?;
            for event in &events {
                tracing::info!(kind = event.kind, "{}", event.message);
            }
        } else {
            self.answer(&answers).await?;
        }
        for row in rows {
            self.decided
                .insert(row.source, (row.head.commit, row.verdict, row.diagnostics));
        }
        if let Some(accepted) = decision.accepted {
            self.publish((accepted, waits), known);
        }
        self.show_refused();
        Ok(())
    }

    /// Looks once more at a plan that the linter has passed, beside the one before it and what zones said when it was made. It is not
    /// held up: this is no part of planning.
    pub(super) fn checked(
        &self,
        before: Option<&Plan>,
        plan: &Plan,
        (fleet, declared): (&Fleet, Option<&Declaration>),
    ) -> Vec<NewEvent> {
        let mut broken = vec![self.checks.count(Checked::Plan, None)];
        if let Some(before) = before {
            broken.push(
                self.checks
                    .count(Checked::I7, selfcheck::generation(before, plan)),
            );
            let zones = declared.into_iter().flat_map(|declared| &declared.zones);
            let detached = zones.filter(|(_, zone)| zone.detached);
            let detached = detached.map(|(name, _)| name.clone()).collect();
            let step = selfcheck::in_step(before, plan, fleet, &detached);
            broken.push(self.checks.count(Checked::I5, step));
            let step = Step {
                sight: Sight {
                    plan: before,
                    created: &BTreeMap::new(),
                    fleet,
                    stale: self.stale,
                    now: plan.created,
                },
                next: plan,
                detached: &detached,
            };
            for (what, check) in steps::OF_TWO_PLANS {
                broken.push(self.checks.count(what, check(step)));
            }
        }
        let told = broken.into_iter().flatten();
        told.map(|why| NewEvent::failed_check(&why).generation(plan.generation))
            .collect()
    }

    /// Only after it stands in the ledger.
    fn publish(&mut self, (accepted, waits): (decide::Accepted, Waits), known: Option<InForce>) {
        let commits = Arc::new(decide::commits(&accepted.in_force));
        let platforms = accepted
            .declaration
            .zones
            .values()
            .map(|zone| (zone.name.clone(), words::platform(zone.platform).to_owned()))
            .collect();
        self.declared = Some(Arc::new(accepted.declaration));
        let orders = known.as_ref().map(|known| Arc::clone(&known.orders));
        let (plan, created) = match (accepted.plan, known) {
            (Some(plan), known) => {
                let mut created = known.map(|known| (*known.created).clone()).unwrap_or_default();
                created.insert(plan.generation, plan.created);
                (Arc::new(plan), Arc::new(created))
            }
            (None, Some(known)) => (known.plan, known.created),
            // The planner has nothing to do only where a parent says it all.
            (None, None) => return,
        };
        self.heads = accepted.in_force;
        let next = InForce {
            plan,
            created,
            platforms: Arc::new(platforms),
            commits,
            outlook: Arc::new(accepted.outlook),
            waits: Arc::new(waits),
            looked: true,
            declared: self.declared.clone(),
            orders: orders.unwrap_or_default(),
        };
        self.in_force.send_if_modified(|now| {
            let changes = now.as_ref() != Some(&next);
            *now = Some(next);
            changes
        });
    }

    /// What is declared and ordered now, for whoever asks what holds changes up.
    pub(super) fn show_orders(&self, orders: Orders) {
        self.in_force.send_if_modified(|known| {
            let Some(known) = known.as_mut() else { return false };
            if known.declared == self.declared && *known.orders == orders {
                return false;
            }
            known.declared.clone_from(&self.declared);
            known.orders = Arc::new(orders);
            true
        });
    }

    fn show_refused(&self) {
        let refused: BTreeMap<SourceName, (CommitId, String)> = self
            .decided
            .iter()
            .filter(|(_, (_, verdict, _))| *verdict == Verdict::Refused)
            .map(|(source, (commit, _, why))| (source.clone(), (commit.clone(), first_error(why))))
            .collect();
        self.troubles.send_if_modified(|troubles| {
            let changes = troubles.refused != refused;
            troubles.refused = refused;
            changes
        });
    }

    pub(super) async fn tell_reach<'a>(
        &mut self,
        states: &SourceStates,
        in_force: impl Fn(&SourceName) -> Option<&'a CommitId>,
    ) -> Result<(), LedgerError> {
        let mut events = Vec::new();
        let (mut away, mut strange) = (self.away.clone(), self.strange.clone());
        for (source, state) in states {
            match strangeness(source, state, in_force(source)) {
                Some((commit, event)) => {
                    if strange.insert(source.clone(), commit.clone()) != Some(commit) {
                        tracing::warn!(kind = event.kind, "{}", event.message);
                        events.push(event);
                    }
                }
                None => drop(strange.remove(source)),
            }
            match &state.last {
                Some(Err(error)) => {
                    let why = error.to_string();
                    if away.get(source) != Some(&why) {
                        events.push(NewEvent::new(
                            "source.unreachable",
                            format!(
                                "source {source} cannot be read: {why}; the last good commit stays in force"
                            ),
                        ));
                        away.insert(source.clone(), why);
                    }
                }
                Some(Ok(())) if away.remove(source).is_some() => {
                    events.push(NewEvent::new(
                        "source.reachable",
                        format!("source {source} can be read again"),
                    ));
                }
                _ => {}
            }
        }
        self.ledger.record(Timestamp::now(), &events).await?;
        (self.away, self.strange) = (away, strange);
        Ok(())
    }
}

/// What is to be told of a newest commit that was not made from that in force.
fn strangeness(
    source: &SourceName,
    state: &SourceState,
    in_force: Option<&CommitId>,
) -> Option<(CommitId, NewEvent)> {
    let stands = in_force?;
    if let Some(head) = state.rewound(in_force) {
        let told = sources::told_of_rewound(source, head, stands);
        return Some((head.commit.clone(), NewEvent::new("source.rewound", told)));
    }
    let head = state.rewritten(in_force)?;
    let told = format!(
        "the history of source {source} was rewritten: commit {} was not made from commit {} in force; it is looked at as any \
         other new commit",
        head.commit.short(),
        stands.short()
    );
    Some((head.commit.clone(), NewEvent::new("source.rewritten", told)))
}

/// The first error, as people are told it.
fn first_error(diagnostics: &[Diagnostic]) -> String {
    let errors: Vec<&Diagnostic> = diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .collect();
    let Some(first) = errors.first() else {
        return "no error is recorded".to_owned();
    };
    let place = first
        .labels
        .first()
        .map(|label| format!("{}:{}:{}: ", label.file, label.span.line, label.span.column))
        .unwrap_or_default();
    let more = match errors.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    format!("{place}{} [{}]{more}", first.message, first.code)
}

fn commit_event(row: &CommitRow) -> NewEvent {
    let commit = row.head.commit.short();
    let of = format!(
        "{} commit {commit} by {} ({})",
        row.source, row.head.author, row.head.subject
    );
    match row.verdict {
        Verdict::Taken => NewEvent::new("commit.taken", format!("{of} is in force")),
        Verdict::Refused => NewEvent::new(
            "commit.refused",
            format!(
                "{of} is refused, nothing changes: {}",
                first_error(&row.diagnostics)
            ),
        ),
    }
}

pub(super) fn plan_event(parent: Option<&Plan>, plan: &Plan) -> NewEvent {
    let changed = weir_planner::diff(parent, plan).splits;
    let names: Vec<String> = changed.keys().take(5).map(ToString::to_string).collect();
    let more = match changed.len().saturating_sub(names.len()) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let what = if names.is_empty() {
        "no split changes".to_owned()
    } else {
        format!("changes {}{more}", names.join(", "))
    };
    let mut event =
        NewEvent::new("plan.made", format!("plan {} {what}", plan.generation)).generation(plan.generation);
    if let (1, Some(split)) = (changed.len(), changed.keys().next()) {
        event = event.split(split);
    }
    event
}
