//! The protocol as published: `proto/weir/agent/v1/published.txt` has a line for each call and field that ever was.
//! Lines are only ever appended to it. An agent of last year must still understand a coordinator of today.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::{BTreeMap, BTreeSet};

const NOW: &str = include_str!(concat!(env!("OUT_DIR"), "/agent.v1.surface.txt"));
const PUBLISHED: &str = include_str!("../proto/weir/agent/v1/published.txt");

fn lines(text: &'static str) -> BTreeSet<&'static str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn nothing_that_was_published_changed_or_went_away() {
    let now = lines(NOW);
    let gone: Vec<_> = lines(PUBLISHED)
        .into_iter()
        .filter(|line| !now.contains(line))
        .collect();
    assert!(
        gone.is_empty(),
        "older peers rely on these, put them back (a field that is not used any more stays, with a comment):\n{}",
        gone.join("\n")
    );
}

#[test]
fn what_is_new_is_published() {
    let published = lines(PUBLISHED);
    let new: Vec<_> = lines(NOW)
        .into_iter()
        .filter(|line| !published.contains(line))
        .collect();
    assert!(
        new.is_empty(),
        "append these lines to proto/weir/agent/v1/published.txt, they are a promise from now on:\n{}",
        new.join("\n")
    );
}

#[test]
fn no_field_number_was_ever_two_fields() {
    let mut numbers: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for line in lines(PUBLISHED) {
        let Some((field, rest)) = line.split_once(" = ") else {
            continue;
        };
        let message = field.split('.').next().unwrap();
        let number = rest.split(':').next().unwrap();
        let before = numbers.insert((message, number), field);
        assert!(
            before.is_none_or(|before| before == field),
            "{message} = {number} is {before:?} and {field}"
        );
    }
}
