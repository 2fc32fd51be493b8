//! Live against wanted: nothing superfluous, nothing of others, nothing back in time (I7, I10).

use weir_planner::Generation;
use weir_render::{Form, Object, Options, Step, render, steps};

use crate::{PLAIN, federation, item};

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

#[test]
fn an_orphan_goes_last_and_only_if_it_is_not_newer() {
    let (item, objects) = wanted();
    let mut orphan = objects[0].clone();
    orphan.name = "weir-gone".to_owned();
    let at = |generation| {
        steps(
            &[(&item, objects.clone())],
            &[(orphan.clone(), generation)],
            item.generation,
        )
    };
    assert!(
        matches!(at(item.generation).as_slice(), [Step::Put { .. }, Step::Delete { name, .. }] if name == "weir-gone")
    );
    assert!(matches!(
        at(Generation(item.generation.0 + 1)).as_slice(),
        [Step::Put { .. }]
    ));
}
