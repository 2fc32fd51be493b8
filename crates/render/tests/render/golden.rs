//! Documents as reviewers read them.

use weir_render::{Form, Options, from_document, render, to_document};

use crate::{PLAIN, RICH, federation, item};

fn documents(split: &str, form: &Form, options: Options) -> String {
    let objects = render(&item(split), &federation(), form, options);
    let texts = objects.iter().map(|object| {
        let document = to_document(object, form);
        let back = from_document(&document, form).expect("what we write we can read");
        assert_eq!(back, *object, "there and back");
        serde_json::to_string_pretty(&document).expect("JSON")
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn universal() {
    insta::assert_snapshot!(documents(PLAIN, &Form::Universal, Options::default()));
}

#[test]
fn universal_with_every_match() {
    insta::assert_snapshot!(documents(RICH, &Form::Universal, Options::default()));
}

#[test]
fn kubernetes() {
    let form = Form::Kubernetes {
        namespace: "kuma-system".to_owned(),
    };
    insta::assert_snapshot!(documents(PLAIN, &form, Options::default()));
}

#[test]
fn tcp_has_no_matches_and_no_anchor() {
    let split = PLAIN.replace("http", "tcp");
    insta::assert_snapshot!(documents(&split, &Form::Universal, Options::default()));
}

/// R9: whatever is not the split's own content must not reach `spec`.
#[test]
fn generation_and_commit_change_labels_only() {
    let first = item(PLAIN);
    let mut second = (*first).clone();
    second.generation = weir_planner::Generation(99);
    second.commit = weir_model::CommitId("ffffffffffffffffffffffffffffffffffffffff".to_owned());
    let form = Form::Universal;
    let (first, second) = (
        render(&first, &federation(), &form, Options::default()),
        render(&second, &federation(), &form, Options::default()),
    );
    assert_eq!(first[0].spec, second[0].spec);
    assert_ne!(first[0].labels, second[0].labels);
}

#[test]
fn the_anchor_names_every_backend_and_is_left_out_only_when_told() {
    let item = item(RICH);
    let anchored = render(&item, &federation(), &Form::Universal, Options::default());
    let bare = render(
        &item,
        &federation(),
        &Form::Universal,
        Options { anchored: false },
    );
    for to in 0..2 {
        let rules = |of: &weir_render::Object| of.spec["to"][to]["rules"].as_array().expect("rules").clone();
        let (mut with, without) = (rules(&anchored[0]), rules(&bare[0]));
        let anchor = with.pop().expect("the anchor is the last rule");
        assert_eq!(with, without);
        let references = anchor["default"]["backendRefs"].as_array().expect("references");
        // The service of all zones has a cluster of its own, which no backend keeps.
        let own = usize::from(anchored[0].spec["to"][to]["targetRef"]["kind"] == "MeshMultiZoneService");
        assert_eq!(references.len(), item.destinations.len() + own);
        assert!(references.iter().all(|reference| reference["weight"] == 1));
    }
}
