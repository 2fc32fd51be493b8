//! What one commit may take away. An empty directory is a sound declaration, and seldom what somebody meant: files that
//! were moved, a `path` that points elsewhere. So a commit that takes away all splits, or most of several, is refused
//! until the Federation says `prune: allow`.

use std::collections::BTreeSet;

use weir_model::{Declaration, Prune, ServiceName, SourceName, SplitName};

use crate::plan::Plan;
use crate::refusal::Refusal;

/// From so many splits on, more than half of them are too many; of fewer, all.
pub const SEVERAL: usize = 4;

/// A split that is in force, as far as the rule looks at it.
type InForce<'a> = (&'a SplitName, Option<(&'a ServiceName, u16)>);

/// Why `after` may not follow `parent`, if it takes too much away.
pub fn of_plan(parent: &Plan, after: &Declaration) -> Option<Refusal> {
    let before = parent.splits.iter().map(|(name, split)| {
        // The items of a split are all for its service.
        let item = split.items.values().next();
        (name, item.map(|item| (&item.service, item.port)))
    });
    refused(before, after, None)
}

/// Why `after` may not follow `parent`, if anything goes while a source is not read any more whose files nobody has: a plan
/// does not say which source a split is from, so all that goes is taken for all that it had.
pub fn of_dropped(parent: &Plan, after: &Declaration, source: &SourceName) -> Option<Refusal> {
    let gone = |name: &&SplitName| !after.splits.contains_key(*name);
    let before = parent
        .splits
        .iter()
        .filter(|(name, _)| gone(name))
        .map(|(name, split)| {
            let item = split.items.values().next();
            (name, item.map(|item| (&item.service, item.port)))
        });
    match refused(before, after, Some(source))? {
        Refusal::Prunes {
            source_name, gone, ..
        } => Some(Refusal::Prunes {
            source_name,
            of: gone.len(),
            gone,
        }),
        other => Some(other),
    }
}

/// Why `after` may not follow `before`, if it takes too much away of what one of several sources declares: a small
/// source would vanish unseen beside a large one. At most one refusal for each source.
pub fn of_sources(before: &Declaration, after: &Declaration) -> Vec<Refusal> {
    let sources: BTreeSet<&SourceName> = before.splits.values().map(|split| &split.place.source).collect();
    let refused = |source: &SourceName| {
        let theirs = before
            .splits
            .values()
            .filter(|split| split.place.source == *source);
        let before = theirs.map(|split| (&split.name, Some((&split.service, split.port))));
        refused(before, after, Some(source))
    };
    sources.into_iter().filter_map(refused).collect()
}

fn refused<'a>(
    before: impl Iterator<Item = InForce<'a>>,
    after: &Declaration,
    source: Option<&SourceName>,
) -> Option<Refusal> {
    if after
        .federation
        .as_ref()
        .is_some_and(|federation| federation.prune == Prune::Allow)
    {
        return None;
    }
    let mut of = 0;
    let missing: Vec<InForce<'_>> = before
        .inspect(|_| of += 1)
        .filter(|(name, _)| !after.splits.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return None;
    }
    // A split with another name is the same split to all who call its service.
    let services: BTreeSet<(&ServiceName, u16)> = after
        .splits
        .values()
        .map(|split| (&split.service, split.port))
        .collect();
    let gone: Vec<SplitName> = missing
        .into_iter()
        .filter(|(_, service)| service.is_none_or(|service| !services.contains(&service)))
        .map(|(name, _)| name.clone())
        .collect();
    too_many(gone.len(), of).then(|| Refusal::Prunes {
        source_name: source.cloned(),
        gone,
        of,
    })
}

fn too_many(gone: usize, of: usize) -> bool {
    gone > 0 && (gone == of || (of >= SEVERAL && gone > of / 2))
}

/// The refusal in words.
pub(crate) fn told(source: Option<&SourceName>, gone: &[SplitName], of: usize) -> String {
    const NAMED: usize = 5;
    let names: Vec<String> = gone.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = match gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let whose = match source {
        Some(source) => format!(" that the source `{source}` has"),
        None => String::new(),
    };
    let how_many = match (gone.len(), of) {
        (1, 1) => "the only split".to_owned(),
        (gone, of) if gone == of => format!("all {of} splits"),
        (gone, of) => format!("{gone} of the {of} splits"),
    };
    format!(
        "this takes away {how_many}{whose} in force: {}{more}. Files that were moved or deleted by accident look the same, \
         so nothing moves. Put them back; or, if it is meant, write `prune: allow` into the `spec` of the Federation",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::too_many;

    #[test]
    fn all_are_too_many_and_more_than_half_of_four() {
        let refused = |of: usize| (0..=of).filter(|gone| too_many(*gone, of)).collect::<Vec<_>>();
        assert_eq!(refused(0), Vec::<usize>::new());
        assert_eq!(refused(1), [1]);
        assert_eq!(refused(3), [3]);
        assert_eq!(refused(4), [3, 4]);
        assert_eq!(refused(5), [3, 4, 5]);
        assert_eq!(refused(6), [4, 5, 6]);
    }
}
