//! One step at the control plane: look, write, look again. Kuma has no compare-and-set, so the look before narrows the
//! race to milliseconds and the look after tells what it stored.

use jiff::Timestamp;
use serde_json::Value;
use weir_model::{FederationName, MeshName, sabotaged};
use weir_planner::Generation;
use weir_render::{Extent, Form, Kind, Object, PINNED, Step, extent, to_document};

use super::policy::{self, Owner};
use super::rest::Rest;
use crate::{DriverError, Fault, Outcome};

fn path(kind: Kind, mesh: &MeshName, name: &str) -> String {
    format!("meshes/{mesh}/{}/{name}", kind.plural())
}

/// Left alone, for somebody has a newer plan.
pub(crate) fn newer(name: &str, found: Generation, ours: Generation) -> Outcome {
    Outcome::Yielded(format!(
        "{name} carries generation {found}, newer than {ours}: another agent of this zone has a newer plan"
    ))
}

/// Left alone, for it is not ours.
pub(crate) fn foreign(name: &str, why: &str) -> Outcome {
    Outcome::Yielded(format!(
        "an object named {name} is there and is not Weir's ({why}); rename or remove it, Weir does not overwrite it"
    ))
}

/// What of ours a write may take the place of, besides what [`reason_to_leave`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Anything.
    Anything,
    /// Another anchor: what is in force is never taken back by the introduction of it.
    Anchor,
    /// Another anchor, or what is of an older generation.
    Older,
}

/// An object to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) object: &'a Object,
    /// As its label says.
    pub(crate) split: &'a str,
    pub(crate) generation: Generation,
    pub(crate) over: Over,
}

/// What a step comes to at a control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work<'a> {
    Write(Write<'a>),
    Remove {
        kind: Kind,
        mesh: &'a MeshName,
        name: &'a str,
    },
}

/// What a step comes to.
pub(crate) fn of(step: &Step) -> Work<'_> {
    let write = |object, split, generation, over| {
        Work::Write(Write {
            object,
            split,
            generation,
            over,
        })
    };
    match step {
        Step::Put {
            object,
            split,
            generation,
            ..
        } => write(object, split.as_str(), *generation, Over::Anything),
        Step::Introduce {
            object,
            split,
            generation,
            ..
        } => write(object, split.as_str(), *generation, Over::Anchor),
        Step::Withdraw {
            object,
            split,
            generation,
            ..
        } => write(object, split, *generation, Over::Older),
        Step::Delete { kind, mesh, name, .. } => Work::Remove {
            kind: *kind,
            mesh,
            name,
        },
    }
}

/// Whether what tells of a newer plan is never written over by what does not.
fn keeps_what_is_newer() -> bool {
    !sabotaged("overwrite-newer")
}

impl Write<'_> {
    /// Why a live object is not to be written, if so.
    pub(crate) fn reason_to_leave(&self, owner: &Owner) -> Option<Outcome> {
        let name = &self.object.name;
        let (split, generation, object) = match owner {
            Owner::Foreign(_) if sabotaged("overwrite-strangers") => return None,
            Owner::Foreign(why) => return Some(foreign(name, why)),
            Owner::Ours {
                split,
                generation,
                object,
            } => (split, *generation, object),
        };
        if split != self.split {
            return Some(foreign(name, &format!("it belongs to the split {split}")));
        }
        // A pin is for when what is newest is wrong.
        if generation > self.generation && keeps_what_is_newer() && self.object.pinned().is_none() {
            return Some(newer(name, generation, self.generation));
        }
        let leaves = match (self.over, extent(object)) {
            (Over::Anything, _) | (_, Extent::Anchor) => false,
            (Over::Anchor, Extent::Whole) => true,
            (Over::Older, Extent::Whole) => generation >= self.generation,
        };
        leaves.then(|| {
            Outcome::Yielded(format!(
                "{name} is in force at generation {generation}: another agent of this zone wrote it meanwhile"
            ))
        })
    }

    /// Why a live object that may be written is not written before the next look, if so: it came to tell of a newer plan since
    /// it was looked at, of which what would take its place does not tell. An agent that knows only an older plan would go by that.
    pub(crate) fn reason_to_look_again(&self, owner: &Owner) -> Option<Outcome> {
        let Owner::Ours {
            generation, object, ..
        } = owner
        else {
            return None;
        };
        let told = object.tells_of(*generation);
        let lost = self.over == Over::Anything
            && told > self.object.tells_of(self.generation)
            && keeps_what_is_newer();
        lost.then(|| {
            Outcome::Yielded(format!(
                "{} came to tell of plan {told} since it was looked at, by another agent of this zone; it is written after \
                 the next look, so that it goes on telling of it",
                self.object.name
            ))
        })
    }
}

/// Writes an object whole, unless somebody newer or somebody else holds its name.
pub(crate) async fn put(
    rest: &Rest,
    federation: &FederationName,
    write: &Write<'_>,
) -> Result<Outcome, DriverError> {
    let object = write.object;
    let path = path(object.kind, &object.mesh, &object.name);
    let owner = |document: &Value| policy::owner(document, federation, &Form::Universal);
    if let Some(live) = rest.get(&path).await? {
        let owner = owner(&live);
        if let Some(left) = write.reason_to_leave(&owner) {
            return Ok(left);
        }
        // An identical PUT is not free: it moves times, and in a cluster it wakes every watcher.
        if difference(object, &live).is_none() {
            return Ok(done());
        }
        if let Some(left) = write.reason_to_look_again(&owner) {
            return Ok(left);
        }
    }
    rest.put(&path, &to_document(object, &Form::Universal)).await?;
    let outcome = done();
    let stored = rest.get(&path).await?.ok_or_else(|| {
        DriverError::new(
            format!("PUT {path}"),
            "it was accepted and is not there",
            Fault::NotYet,
            "somebody removed it at the same moment, or the control plane lost its store; the next activation writes it \
             again",
        )
    })?;
    if let Some(left) = write.reason_to_leave(&owner(&stored)) {
        return Ok(left);
    }
    match difference(object, &stored) {
        None => Ok(outcome),
        Some(at) => Err(DriverError::new(
            format!("PUT {path}"),
            format!("the control plane stored something else: it differs at {at}"),
            Fault::Unknown,
            "another writer came between, or this version of Kuma drops what Weir writes; if it stays, \
                   please report it with the version of Kuma",
        )),
    }
}

/// Why a live object is not to be removed, if so. `seen` is the generation that it carried when it was observed.
fn reason_to_keep(owner: &Owner, name: &str, seen: Option<Generation>) -> Option<Outcome> {
    match owner {
        Owner::Foreign(why) => Some(foreign(name, why)),
        Owner::Ours { generation, .. } => seen
            .filter(|seen| generation > seen)
            .map(|seen| newer(name, *generation, seen)),
    }
}

/// Why a step is left undone in view of what is there under its object's name, as the control plane serves it; none if it
/// may be done. `seen` is the generation that the object carried when it was observed. Pure: the rule by which
/// [`KumaUniversal`](super::KumaUniversal) applies steps, for whoever stands in for a control plane.
pub fn left_alone(
    step: &Step,
    live: &Value,
    federation: &FederationName,
    seen: Option<Generation>,
) -> Option<Outcome> {
    let owner = policy::owner(live, federation, &Form::Universal);
    match of(step) {
        Work::Write(write) => write.reason_to_leave(&owner).or_else(|| {
            let again = write.reason_to_look_again(&owner);
            again.filter(|_| difference(write.object, live).is_some())
        }),
        Work::Remove { name, .. } => reason_to_keep(&owner, name, seen),
    }
}

/// An object of ours with its generation, from what the control plane serves; none if it is somebody else's.
pub fn ours(document: &Value, federation: &FederationName) -> Option<(Object, Generation)> {
    match policy::owner(document, federation, &Form::Universal) {
        Owner::Ours {
            object, generation, ..
        } => Some((object, generation)),
        Owner::Foreign(_) => None,
    }
}

/// Removes an object that is ours and that nobody wrote since it was observed.
pub(crate) async fn delete(
    rest: &Rest,
    federation: &FederationName,
    kind: Kind,
    mesh: &MeshName,
    name: &str,
    seen: Option<Generation>,
) -> Result<Outcome, DriverError> {
    let path = path(kind, mesh, name);
    let Some(live) = rest.get(&path).await? else {
        return Ok(done());
    };
    if let Some(left) = reason_to_keep(&policy::owner(&live, federation, &Form::Universal), name, seen) {
        return Ok(left);
    }
    rest.delete(&path).await?;
    Ok(done())
}

/// Done, now.
pub(crate) fn done() -> Outcome {
    Outcome::Done { at: Timestamp::now() }
}

/// Where the stored document differs from what we want in it, as a path; none if all of ours is there.
pub(crate) fn difference(wanted: &Object, stored: &Value) -> Option<String> {
    if let Some((key, _)) = wanted
        .labels
        .iter()
        .find(|(key, value)| policy::label(stored, key) != Some(value))
    {
        return Some(format!("labels.{key}"));
    }
    // The one label whose absence says something.
    if policy::label(stored, PINNED) != wanted.pinned() {
        return Some(format!("labels.{PINNED}"));
    }
    weir_render::difference(&wanted.spec, stored.get("spec").unwrap_or(&Value::Null), "spec")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use weir_render::PLAN;

    use super::*;

    fn object(pinned: Option<&str>) -> Object {
        let mut labels = BTreeMap::from([("weir.dev/split".to_owned(), "checkout".to_owned())]);
        labels.extend(pinned.map(|label| (PINNED.to_owned(), label.to_owned())));
        Object {
            kind: Kind::MeshHttpRoute,
            mesh: MeshName::new("default").unwrap(),
            name: "weir-checkout".to_owned(),
            labels,
            spec: json!({ "to": [] }),
        }
    }

    #[test]
    fn a_pin_outranks_what_is_newer_and_nothing_else_does() {
        let live = Owner::Ours {
            object: object(None),
            generation: Generation(9),
            split: "checkout".to_owned(),
        };
        for (pinned, written) in [(None, false), (Some("fra-1.7"), true)] {
            let object = object(pinned);
            let write = Write {
                object: &object,
                split: "checkout",
                generation: Generation(4),
                over: Over::Anything,
            };
            assert_eq!(write.reason_to_leave(&live).is_none(), written, "{pinned:?}");
            // Not over what is somebody else's, nor over another split's.
            let foreign = Owner::Foreign("no label".to_owned());
            assert!(write.reason_to_leave(&foreign).is_some());
            assert!(
                Write {
                    split: "cart",
                    ..write
                }
                .reason_to_leave(&live)
                .is_some()
            );
        }
    }

    /// Whoever writes over an object goes on telling of the newest plan that it told of, also of one that it came to tell of after
    /// the look.
    #[test]
    fn what_came_to_tell_of_more_waits_for_the_next_look() {
        let telling = |pinned, of: Option<u64>| {
            let mut object = object(pinned);
            let plan = of.map(|of| (PLAN.to_owned(), of.to_string()));
            object.labels.extend(plan);
            object
        };
        let live = |generation, of| Owner::Ours {
            object: telling(None, of),
            generation: Generation(generation),
            split: "checkout".to_owned(),
        };
        let waits = |ours: &Object, over, live: &Owner| {
            let write = Write {
                object: ours,
                split: "checkout",
                generation: Generation(4),
                over,
            };
            write.reason_to_look_again(live).is_some()
        };
        let (unpinned, pinned, knows) = (
            telling(None, None),
            telling(Some("fra-1.7"), None),
            telling(Some("fra-1.7"), Some(9)),
        );
        for (ours, of_generation, of_word) in [
            (&unpinned, true, true),
            (&pinned, true, true),
            (&knows, false, false),
        ] {
            assert_eq!(
                waits(ours, Over::Anything, &live(9, None)),
                of_generation,
                "{ours:?}"
            );
            assert_eq!(
                waits(ours, Over::Anything, &live(4, Some(9))),
                of_word,
                "{ours:?}"
            );
            assert!(!waits(ours, Over::Anything, &live(4, None)), "{ours:?}");
            assert!(!waits(ours, Over::Anything, &live(3, Some(4))), "{ours:?}");
            // An anchor goes over another by its own rule.
            assert!(!waits(ours, Over::Anchor, &live(4, Some(9))), "{ours:?}");
        }
        let document = |object: &Object| {
            let mut document = to_document(object, &Form::Universal);
            document["labels"]["weir.dev/generation"] = "4".into();
            document["labels"]["weir.dev/federation"] = "shop".into();
            document["labels"]["kuma.io/origin"] = "zone".into();
            document
        };
        let step = |object: &Object| Step::Put {
            object: object.clone(),
            reason: String::new(),
            split: "checkout".parse().unwrap(),
            generation: Generation(4),
            digest: weir_planner::Digest([0; 32]),
        };
        let left = |ours: &Object, live: &Object| {
            left_alone(&step(ours), &document(live), &"shop".parse().unwrap(), None)
        };
        let word = telling(None, Some(9));
        assert!(matches!(left(&pinned, &word), Some(Outcome::Yielded(_))));
        assert!(left(&knows, &word).is_none());
        // Where nothing would be written nothing is lost.
        assert!(left(&unpinned, &word).is_none());
    }

    /// The end of a pin to the plan's own weights changes nothing but that label.
    #[test]
    fn a_pin_that_is_there_and_not_wanted_is_a_difference() {
        let document = |pinned| to_document(&object(pinned), &Form::Universal);
        let (with, without) = (Some("fra-1.7"), None);
        assert_eq!(difference(&object(with), &document(with)), None);
        assert_eq!(difference(&object(without), &document(without)), None);
        for (wanted, stored) in [(with, without), (without, with), (Some("fra-2.8"), with)] {
            assert_eq!(
                difference(&object(wanted), &document(stored)).as_deref(),
                Some("labels.weir.dev/pinned")
            );
        }
    }
}
