//! What must hold for how a split's weights move: steps that are worth their price, zones and capacities that can take
//! the weights, fallbacks that lead somewhere.

use std::collections::BTreeMap;

use super::Check;
use crate::codes;
use crate::declaration::{Place, Protocol};
use crate::diagnostic::Diagnostic;
use crate::draft::{BackendDraft, FallbackDraft, RouteDraft, SplitDraft};
use crate::names::{BackendName, ZoneName};
use crate::reader::At;
use crate::transition::{Fallback, Transition, Verify};
use crate::weight::BasisPoints;

impl<'d> Check<'d> {
    /// The split's transition, with the Federation's fields where it has none; `None` when it could not be read.
    pub(super) fn transition(&mut self, draft: &SplitDraft) -> Option<Transition> {
        let own = &draft.transition;
        if own.unreadable {
            return None;
        }
        let shared = self.drafts.federations.first().map(|first| &first.transition);
        let or = Transition::default();
        let max_step = own
            .max_step
            .as_ref()
            .or_else(|| shared.and_then(|shared| shared.max_step.as_ref()))
            // Of 100 percentage points one step is enough: what is declared then reads the same as what is not.
            .filter(|step| step.value < BasisPoints::WHOLE);
        if let Some(step) = max_step {
            self.price_of_steps(draft, step);
        }
        let insufficient = own.insufficient.or_else(|| shared?.insufficient);
        let latency = own.latency.or_else(|| shared?.latency);
        Some(Transition {
            max_step: max_step.map(|at| at.value),
            bake: own.bake.or_else(|| shared?.bake).unwrap_or(or.bake),
            verify: Verify {
                requests: own
                    .requests
                    .or_else(|| shared?.requests)
                    .unwrap_or(or.verify.requests),
                within: own.within.or_else(|| shared?.within).unwrap_or(or.verify.within),
                insufficient: insufficient.unwrap_or(or.verify.insufficient),
                latency,
            },
        })
    }

    /// Each step replaces the listener, and what is open on the old one is closed after the drain time.
    fn price_of_steps(&mut self, draft: &SplitDraft, step: &At<BasisPoints>) {
        let tcp = draft.protocol.as_ref().filter(|at| at.value == Protocol::Tcp);
        let streaming = draft.streaming.iter().flatten().find(|at| at.value);
        let (what, place) = match (tcp, streaming) {
            (Some(at), _) => ("tcp connection", &at.place),
            (None, Some(at)) => ("stream", &at.place),
            (None, None) => return,
        };
        let steps = BasisPoints::WHOLE.get().div_ceil(step.value.get().max(1));
        let message =
            format!("each step closes every {what} that is open, and a whole shift takes {steps} of them");
        self.push(
            Diagnostic::error(
                codes::STEPS_CLOSE,
                message,
                place.label(format!("a {what} is long-lived")),
            )
            .also(
                step.place
                    .label(format!("steps of {} percentage points", step.value)),
            )
            .help(
                "write `transition: {maxStep: 100}` in this split to shift it in one step, \
                 or keep it if the small steps are worth it",
            )
            .warning(),
        );
    }

    /// Weights that a backend's zone or its capacity cannot take.
    pub(super) fn takes(&mut self, draft: &SplitDraft) {
        for route in &draft.routes.found {
            for (name, weight) in &route.weights.found {
                let weight = weight.as_ref().filter(|weight| weight.value > BasisPoints::ZERO);
                let (Some(weight), Some(backend)) = (weight, backend(draft, &name.value)) else {
                    continue;
                };
                if let Some((zone, detached)) = self.detached(backend) {
                    let message = format!(
                        "the route{} gives {} % to the backend `{}`, but its zone `{zone}` is detached",
                        named(route),
                        weight.value,
                        name.value
                    );
                    self.push(
                        Diagnostic::error(codes::DETACHED_WEIGHT, message, weight.place.label("must be 0"))
                            .also(detached.label("detached here"))
                            .help("give this weight to a backend of another zone, or attach the zone again"),
                    );
                }
                let over = backend.capacity().filter(|most| most.value < weight.value);
                if let (Some(most), true) = (over, route.is_default()) {
                    let message = format!(
                        "the route{} puts {} % onto the backend `{}`, which is declared for {} %",
                        named(route),
                        weight.value,
                        name.value,
                        most.value
                    );
                    self.push(
                        Diagnostic::error(codes::OVER_CAPACITY, message, weight.place.label("more than that"))
                            .also(most.place.label("its capacity"))
                            .help(format!(
                                "lower this weight to {} or less, or raise `capacity` once the backend can take more",
                                most.value
                            )),
                    );
                }
            }
        }
    }

    /// The split's fallbacks; `None` when one could not be read or leads nowhere. What goes to a backend of a detached
    /// zone is left out, so that the zone can be detached at once, whatever names it.
    pub(super) fn fallbacks(&mut self, draft: &SplitDraft) -> Option<BTreeMap<BackendName, Fallback>> {
        let mut sound = !draft.fallbacks.unreadable && draft.backends.complete;
        let mut fallbacks = BTreeMap::new();
        for found in &draft.fallbacks.found {
            if backend(draft, &found.from.value).is_none() && draft.backends.complete {
                sound = false;
                self.unknown_backend(draft, &found.from);
            }
            let mut to: Vec<&At<BackendName>> = Vec::new();
            for target in &found.to {
                match backend(draft, &target.value) {
                    None if draft.backends.complete => {
                        sound = false;
                        self.unknown_backend(draft, target);
                    }
                    None => {}
                    Some(_) if !self.leads_somewhere(found, target, &to) => sound = false,
                    Some(backend) => {
                        self.fallback_takes(draft, found, target, backend);
                        to.push(target);
                    }
                }
            }
            let attached = |name: &&At<BackendName>| {
                backend(draft, &name.value).is_some_and(|backend| self.detached(backend).is_none())
            };
            let to: Vec<BackendName> = to
                .into_iter()
                .filter(attached)
                .map(|at| at.value.clone())
                .collect();
            if !to.is_empty() {
                let fallback = Fallback {
                    to,
                    after: found.after,
                    recover: found.recover,
                };
                fallbacks.insert(found.from.value.clone(), fallback);
            }
        }
        sound.then_some(fallbacks)
    }

    /// Whether a fallback's target is neither the backend itself nor named before.
    fn leads_somewhere(
        &mut self,
        found: &FallbackDraft,
        target: &At<BackendName>,
        before: &[&At<BackendName>],
    ) -> bool {
        let from = &found.from;
        if target.value == from.value {
            let message = format!("the fallback of `{0}` goes to `{0}` itself", from.value);
            self.push(
                Diagnostic::error(
                    codes::BAD_FALLBACK,
                    message,
                    target.place.label("the same backend"),
                )
                .also(from.place.label("while this is down"))
                .help("name another backend of the split, or leave the fallback out"),
            );
            return false;
        }
        if let Some(first) = before.iter().find(|first| first.value == target.value) {
            let message = format!(
                "`{}` stands twice in the fallback of `{}`",
                target.value, from.value
            );
            self.push(
                Diagnostic::error(codes::BAD_FALLBACK, message, target.place.label("again here"))
                    .also(first.place.label("first here"))
                    .help("name each backend once, in the order in which they are to be tried"),
            );
            return false;
        }
        true
    }

    /// Says so where a fallback's target could not take what it would get.
    fn fallback_takes(
        &mut self,
        draft: &SplitDraft,
        found: &FallbackDraft,
        target: &At<BackendName>,
        backend: &BackendDraft,
    ) {
        let from = &found.from.value;
        if let Some((zone, detached)) = self.detached(backend) {
            let message = format!(
                "the fallback of `{from}` passes over `{}`: its zone `{zone}` is detached",
                target.value
            );
            self.push(
                Diagnostic::error(
                    codes::FALLBACK_DETACHED,
                    message,
                    target.place.label("passed over"),
                )
                .also(detached.label("detached here"))
                .help("keep it if the zone comes back, and until then see that another backend is named")
                .warning(),
            );
            return;
        }
        let Some(default) = draft.routes.found.iter().find(|route| route.is_default()) else {
            return;
        };
        let share = |name| default.weight(name).map_or(0, |at| at.value.get());
        let (more, own) = (share(from), share(&target.value));
        // Weights of more than 100 per cent together are told of where they stand.
        let Ok(taken) = BasisPoints::new(more + own) else {
            return;
        };
        let over = backend.capacity().filter(|most| most.value < taken);
        let (Some(most), true) = (over, more > 0) else {
            return;
        };
        let message = format!(
            "while `{from}` is down, `{}` would have to take {taken} %, and is declared for {} %",
            target.value, most.value
        );
        self.push(
            Diagnostic::error(codes::FALLBACK_CAPACITY, message, target.place.label("takes its share"))
                .also(most.place.label("its capacity"))
                .help(
                    "name a backend that can take it, or keep it if too much load is better than failing requests",
                )
                .warning(),
        );
    }

    /// The zone of a backend and where it says that it is detached, if it does.
    fn detached<'b>(&self, backend: &'b BackendDraft) -> Option<(&'b ZoneName, &'d Place)> {
        let zone = &backend.zone.as_ref()?.value;
        self.detached.get(zone).map(|at| (zone, *at))
    }
}

fn backend<'b>(draft: &'b SplitDraft, name: &BackendName) -> Option<&'b BackendDraft> {
    let mut found = draft.backends.found.iter();
    found.find(|backend| backend.name.value == *name)
}

/// The name of a route, to stand after "the route".
fn named(route: &RouteDraft) -> String {
    let name = route.name.as_ref();
    name.map_or_else(String::new, |name| format!(" `{}`", name.value))
}
