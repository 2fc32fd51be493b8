//! What to do, from what is live and what is wanted. A set of steps that is empty means that the control plane holds the
//! plan, or that what comes next has to wait; it does not mean that any proxy runs it.

use weir_planner::{Generation, Item};

use crate::alone::{Extent, anchor_alone, extent, is_older_form, withdrawn};
use crate::difference::difference;
use crate::object::{COMMIT, Object, Step};

/// Lists the steps, writes before removals.
///
/// * An object that says the same in `spec` ([`difference`]) and in our labels is left alone: a write that changes nothing
///   is still a write.
///   So is one that only lacks what an older agent did not write yet, and one that only names another [`COMMIT`].
/// * An object that carries a newer generation than its item is left alone: another agent of this zone has a newer plan.
///   A pinned one takes its place all the same; whose pin holds is not decided here.
/// * A wanted object that is an anchor alone introduces its split; it takes the place of no whole one.
/// * An object of ours that no item wants is withdrawn to its anchor, and removed once `may_go` says so of the anchor;
///   one without an anchor is removed at once. None of it if it is of a generation above `plan`.
///
/// `ours` must hold objects of our federation only; nobody else's is ever named in a step (I10).
pub fn steps(
    wanted: &[(&Item, Vec<Object>)],
    ours: &[(Object, Generation)],
    plan: Generation,
    may_go: impl Fn(&Object) -> bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let live = |of: &Object| ours.iter().find(|(is, _)| same(is, of));
    for (item, object) in wanted
        .iter()
        .flat_map(|(item, objects)| objects.iter().map(move |o| (item, o)))
    {
        let introduces = extent(object) == Extent::Anchor;
        let reason = match live(object) {
            None => "absent",
            Some((_, generation)) if *generation > item.generation && object.pinned().is_none() => continue,
            Some((is, _)) if introduces && extent(is) == Extent::Whole => continue,
            Some((is, _))
                if difference(&object.spec, &is.spec, "spec").is_some()
                    && (introduces || !is_older_form(&is.spec, &object.spec)) =>
            {
                "weights or routes differ"
            }
            Some((is, _)) if !labelled(is, object) => "labels differ",
            Some((is, _)) if is.pinned() != object.pinned() => "it is pinned no more",
            Some(_) => continue,
        };
        let (object, split, generation) = (object.clone(), item.split.clone(), item.generation);
        let reason = reason.to_owned();
        steps.push(if introduces {
            Step::Introduce {
                object,
                reason: format!("{reason}: its backends come before its weights"),
                split,
                generation,
            }
        } else {
            Step::Put {
                object,
                reason,
                split,
                generation,
                digest: item.digest,
            }
        });
    }
    for (object, generation) in ours {
        let is_wanted = wanted
            .iter()
            .flat_map(|(_, objects)| objects)
            .any(|w| same(w, object));
        if is_wanted || *generation > plan {
            continue;
        }
        let split = object.labels.get("weir.dev/split");
        // What takes its place: the split as another kind of policy, or another split of the same service. It is there by
        // then, so requests do not go back to where they went before in between.
        let mut successors = wanted
            .iter()
            .filter(|(item, _)| {
                split.is_some_and(|split| split == item.split.as_str()) || object.is_for(item)
            })
            .flat_map(|(_, objects)| objects)
            .peekable();
        let replaced = successors.peek().is_some();
        // Two kinds of policy for one service at once: one of them has no say.
        let in_the_way = successors.any(|successor| successor.kind != object.kind);
        let reason = format!("no split of plan {plan} wants it");
        match (extent(object), withdrawn(object, plan)) {
            (Extent::Anchor, Some(_)) if !in_the_way && !may_go(object) => {}
            (Extent::Whole, Some(anchor)) if !replaced => steps.push(Step::Withdraw {
                object: anchor,
                reason,
                split: split.cloned().unwrap_or_default(),
                generation: plan,
            }),
            _ => steps.push(Step::Delete {
                kind: object.kind,
                mesh: object.mesh.clone(),
                name: object.name.clone(),
                reason,
            }),
        }
    }
    steps
}

/// An item's objects as they come first, where no policy of the split is in force.
pub fn introduction(objects: &[Object]) -> Vec<Object> {
    let alone = objects
        .iter()
        .map(|o| anchor_alone(o).unwrap_or_else(|| o.clone()));
    alone.collect()
}

/// Whether a live object has the labels of the wanted one, of whatever commit.
fn labelled(is: &Object, wanted: &Object) -> bool {
    let mut labels = wanted.labels.iter();
    labels.all(|(key, value)| is.labels.get(key).is_some_and(|is| is == value || key == COMMIT))
}

/// Whether two objects take the same place in a control plane.
fn same(a: &Object, b: &Object) -> bool {
    (a.kind, &a.mesh, &a.name) == (b.kind, &b.mesh, &b.name)
}
