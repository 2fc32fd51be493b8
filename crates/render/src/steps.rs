//! What to do, from what is live and what is wanted. A set of steps that is empty means that the control plane holds the
//! plan; it does not mean that any proxy runs it.

use weir_planner::{Generation, Item};

use crate::object::{Object, Step};

/// Lists the steps, writes before removals.
///
/// * An object that is the same in `spec` and in our labels is left alone: a write that changes nothing is still a write.
/// * An object that carries a newer generation than its item is left alone: another agent of this zone has a newer plan.
/// * An object of ours that no item wants is removed, unless it is of a generation above `plan`.
///
/// `ours` must hold objects of our federation only; nobody else's is ever named in a step (I10).
pub fn steps(wanted: &[(&Item, Vec<Object>)], ours: &[(Object, Generation)], plan: Generation) -> Vec<Step> {
    let mut steps = Vec::new();
    let live = |of: &Object| ours.iter().find(|(is, _)| same(is, of));
    for (item, object) in wanted
        .iter()
        .flat_map(|(item, objects)| objects.iter().map(move |o| (item, o)))
    {
        let reason = match live(object) {
            None => "absent",
            Some((_, generation)) if *generation > item.generation => continue,
            Some((is, _)) if is.spec != object.spec => "weights or routes differ",
            Some((is, _))
                if object
                    .labels
                    .iter()
                    .any(|(key, value)| is.labels.get(key) != Some(value)) =>
            {
                "labels differ"
            }
            Some(_) => continue,
        };
        steps.push(Step::Put {
            object: object.clone(),
            reason: reason.to_owned(),
            split: item.split.clone(),
            generation: item.generation,
            digest: item.digest,
        });
    }
    for (object, generation) in ours {
        let is_wanted = wanted
            .iter()
            .flat_map(|(_, objects)| objects)
            .any(|w| same(w, object));
        if !is_wanted && *generation <= plan {
            steps.push(Step::Delete {
                kind: object.kind,
                mesh: object.mesh.clone(),
                name: object.name.clone(),
                reason: format!("no split of plan {plan} wants it"),
            });
        }
    }
    steps
}

/// Whether two objects take the same place in a control plane.
fn same(a: &Object, b: &Object) -> bool {
    (a.kind, &a.mesh, &a.name) == (b.kind, &b.mesh, &b.name)
}
