//! Live against wanted: nothing superfluous, nothing of others, nothing back in time (I7, I10).

use weir_model::CommitId;
use weir_planner::Generation;
use weir_render::{Extent, Form, Object, Options, Step, extent, introduction, render};

use crate::{PLAIN, federation, item};

/// The steps while no anchor may go yet.
fn steps(
    wanted: &[(&weir_planner::Item, Vec<Object>)],
    ours: &[(Object, Generation)],
    plan: Generation,
) -> Vec<Step> {
    weir_render::steps(wanted, ours, plan, |_| false)
}

fn wanted() -> (std::sync::Arc<weir_planner::Item>, Vec<Object>) {
    let item = item(PLAIN);
    let objects = render(&item, &federation(), &Form::Universal, Options::default());
    (item, objects)
}

#[test]
fn what_holds_already_is_left_alone() {
    let (item, objects) = wanted();
    let ours: Vec<_> = objects
        .iter()
        .map(|object| (object.clone(), item.generation))
        .collect();
    assert_eq!(steps(&[(&item, objects.clone())], &ours, item.generation), []);
    let first = steps(&[(&item, objects.clone())], &[], item.generation);
    assert_eq!(
        steps(&[(&item, objects)], &[], item.generation),
        first,
        "the same again is the same"
    );
    assert!(matches!(first.as_slice(), [Step::Put { reason, .. }] if reason == "absent"));
}

#[test]
fn drift_is_written_over_and_a_newer_generation_is_not() {
    let (item, objects) = wanted();
    let mut drifted = objects[0].clone();
    drifted.spec["to"][0]["rules"][0]["default"]["backendRefs"][0]["weight"] = 1.into();
    let at = |generation| {
        steps(
            &[(&item, objects.clone())],
            &[(drifted.clone(), generation)],
            item.generation,
        )
    };
    assert!(
        matches!(at(item.generation).as_slice(), [Step::Put { reason, .. }] if reason.contains("differ"))
    );
    assert_eq!(at(Generation(item.generation.0 + 1)), []);
    let mut mislabelled = objects[0].clone();
    mislabelled.labels.remove("weir.dev/commit");
    let found = steps(
        &[(&item, objects.clone())],
        &[(mislabelled, item.generation)],
        item.generation,
    );
    assert!(matches!(found.as_slice(), [Step::Put { reason, .. }] if reason == "labels differ"));
}

/// Two agents of a zone hold one item, the same generation of it, of two commits: each history of plans was made by itself, and an
/// agent that has the item is not sent it again. Neither writes over the other, for that would never end.
#[test]
fn of_two_histories_that_say_the_same_neither_is_written_over() {
    let (item, objects) = wanted();
    let mut other = (*item).clone();
    other.commit = CommitId("f".repeat(40));
    assert_eq!(other.reference(), item.reference(), "neither is sent");
    let others = render(&other, &federation(), &Form::Universal, Options::default());
    assert_ne!(others, objects);
    let ours = |objects: &[Object]| -> Vec<_> {
        let all = objects.iter();
        all.map(|object| (object.clone(), item.generation)).collect()
    };
    assert_eq!(
        steps(&[(&item, objects.clone())], &ours(&others), item.generation),
        []
    );
    assert_eq!(
        steps(&[(&other, others.clone())], &ours(&objects), item.generation),
        []
    );
    // An introduction carries no digest, and is the same.
    let first = introduction(&objects);
    let ours = ours(&introduction(&others));
    assert_eq!(steps(&[(&item, first)], &ours, item.generation), []);
    // A newer generation says its own.
    let mut newer = other;
    newer.generation = Generation(item.generation.0 + 1);
    let newest = render(&newer, &federation(), &Form::Universal, Options::default());
    let ours = [(objects[0].clone(), item.generation)];
    let found = steps(&[(&newer, newest)], &ours, newer.generation);
    assert!(matches!(found.as_slice(), [Step::Put { reason, .. }] if reason == "labels differ"));
}

#[test]
fn an_orphan_is_withdrawn_to_its_anchor_and_goes_when_that_may() {
    let (item, objects) = wanted();
    let mut orphan = objects[0].clone();
    orphan.name = "weir-gone".to_owned();
    orphan
        .labels
        .insert("weir.dev/split".to_owned(), "gone".to_owned());
    for to in orphan.spec["to"].as_array_mut().unwrap() {
        to["targetRef"]["labels"]["kuma.io/display-name"] = "gone".into();
    }
    let plan = Generation(item.generation.0 + 1);
    let at = |orphan: &Object, generation, may_go| {
        let wanted = [(&*item, objects.clone())];
        weir_render::steps(&wanted, &[(orphan.clone(), generation)], plan, |_| may_go)
    };
    assert!(matches!(
        at(&orphan, Generation(plan.0 + 1), true).as_slice(),
        [Step::Put { .. }]
    ));
    let found = at(&orphan, item.generation, true);
    let [
        Step::Put { .. },
        Step::Withdraw {
            object: anchor,
            generation,
            ..
        },
    ] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!(*generation, plan);
    assert_eq!(anchor.labels["weir.dev/generation"], plan.to_string());
    assert_eq!(extent(anchor), Extent::Anchor);
    assert!(matches!(at(anchor, plan, false).as_slice(), [Step::Put { .. }]));
    assert!(
        matches!(at(anchor, plan, true).as_slice(), [Step::Put { .. }, Step::Delete { name, .. }] if name == "weir-gone")
    );
}

/// Callers would go back to where they went before the split, and then to the new one.
#[test]
fn what_another_takes_the_place_of_is_not_withdrawn() {
    let (item, objects) = wanted();
    let mut renamed = objects[0].clone();
    renamed.name = "weir-before".to_owned();
    renamed
        .labels
        .insert("weir.dev/split".to_owned(), "before".to_owned());
    let ours = [(renamed, item.generation)];
    let found = steps(&[(&item, objects)], &ours, item.generation);
    assert!(
        matches!(found.as_slice(), [Step::Put { .. }, Step::Delete { .. }]),
        "{found:?}"
    );
    // A service that becomes TCP: an anchor of the other kind would be in the way.
    let (http, objects) = wanted();
    let alone = introduction(&objects).remove(0);
    let tcp = crate::item(&PLAIN.replace("http", "tcp"));
    let objects = render(&tcp, &federation(), &Form::Universal, Options::default());
    assert_eq!(introduction(&objects), objects, "TCP has no anchor");
    let found = steps(&[(&tcp, objects)], &[(alone, http.generation)], http.generation);
    assert!(
        matches!(found.as_slice(), [Step::Put { .. }, Step::Delete { .. }]),
        "{found:?}"
    );
}

#[test]
fn an_introduction_gives_no_weight_and_takes_none_back() {
    let (item, objects) = wanted();
    let first = introduction(&objects);
    let found = steps(&[(&item, first.clone())], &[], item.generation);
    let [Step::Introduce { object, .. }] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(extent(object), Extent::Anchor);
    assert!(!object.labels.contains_key("weir.dev/digest"));
    let live = |object: &Object| [(object.clone(), item.generation)];
    assert_eq!(
        steps(&[(&item, first.clone())], &live(&first[0]), item.generation),
        []
    );
    assert_eq!(
        steps(&[(&item, first.clone())], &live(&objects[0]), item.generation),
        []
    );
    let found = steps(&[(&item, objects)], &live(&first[0]), item.generation);
    assert!(matches!(found.as_slice(), [Step::Put { .. }]), "{found:?}");
}

/// As agents wrote it before the anchor kept the target's own cluster.
#[test]
fn an_older_form_is_left_until_its_split_changes() {
    let (item, objects) = wanted();
    let mut older = objects[0].clone();
    let anchor = older.spec["to"][1]["rules"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap();
    let refs = anchor["default"]["backendRefs"].as_array_mut().unwrap();
    assert_eq!(refs.pop().unwrap()["kind"], "MeshMultiZoneService");
    let ours = |older: &Object| [(older.clone(), item.generation)];
    assert_eq!(
        steps(&[(&item, objects.clone())], &ours(&older), item.generation),
        []
    );
    // Withdrawn, it has what it lacked.
    let found = steps(&[], &ours(&older), item.generation);
    let [Step::Withdraw { object, .. }] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(object.spec, introduction(&objects)[0].spec);
    // Anything else that differs is written.
    let mut drifted = older.clone();
    drifted.spec["to"][1]["rules"][0]["default"]["backendRefs"][0]["weight"] = 1.into();
    let found = steps(&[(&item, objects.clone())], &ours(&drifted), item.generation);
    assert!(matches!(found.as_slice(), [Step::Put { .. }]), "{found:?}");
}
