//! Whether one commit was made from another, as far as a bare copy can tell: it mostly holds a few commits of a history, and what
//! it does not hold is not known.

use std::collections::{BTreeSet, VecDeque};

use git2::{Oid, Repository};

/// So many commits are looked at in each direction.
const MOST: usize = 20_000;

/// What a commit is to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// It was made from the other one, as every push makes it that forces nothing.
    Descends,
    /// The other one was made from it: whoever offers it goes back in time.
    Precedes,
    /// Neither was made from the other: history was rewritten.
    Apart,
    /// The copy does not hold enough of the history.
    Unknown,
}

/// What came of a search.
#[derive(PartialEq, Eq)]
enum Search {
    Found,
    Not,
    Unknown,
}

/// What a commit is to another one.
pub(super) fn lineage(copy: &Repository, commit: Oid, other: Oid) -> Lineage {
    let forward = search(copy, commit, other);
    if forward == Search::Found {
        return Lineage::Descends;
    }
    match (forward, search(copy, other, commit)) {
        (_, Search::Found) => Lineage::Precedes,
        (Search::Not, Search::Not) => Lineage::Apart,
        _ => Lineage::Unknown,
    }
}

/// Looks for a commit among those that another was made from.
fn search(copy: &Repository, from: Oid, wanted: Oid) -> Search {
    let mut seen = BTreeSet::from([from]);
    let mut next = VecDeque::from([from]);
    let mut whole = true;
    while let Some(id) = next.pop_front() {
        if id == wanted {
            return Search::Found;
        }
        let Ok(commit) = copy.find_commit(id) else {
            whole = false;
            continue;
        };
        if seen.len() > MOST {
            return Search::Unknown;
        }
        next.extend(parents(&commit).filter(|parent| seen.insert(*parent)));
    }
    match whole {
        true => Search::Not,
        false => Search::Unknown,
    }
}

/// As they stand in the commit itself: where a copy was cut off, libgit2 hides them, and their ids are known all the same.
fn parents(commit: &git2::Commit<'_>) -> impl Iterator<Item = Oid> {
    let header = commit.raw_header_bytes();
    let lines = header.split(|byte| *byte == b'\n');
    let ids = lines.filter_map(|line| line.strip_prefix(b"parent "));
    ids.filter_map(|id| Oid::from_str(std::str::from_utf8(id).ok()?.trim()).ok())
        .collect::<Vec<_>>()
        .into_iter()
}
