//! Which commits are taken, and what is said about those that are not.

mod at_gateways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::repository::{declaration, split};
use jiff::Timestamp;
use weir_coordinator::decide::{Decision, Heads, Question, decide};
use weir_coordinator::git::{Content, Head, Signature, Unusable};
use weir_model::{CommitId, FederationName, SourceFile, SourceName, codes};
use weir_planner::{Generation, Plan};

fn name(source: &str) -> SourceName {
    SourceName(source.to_owned())
}

fn head(source: &str, commit: u8, text: &str) -> (SourceName, Arc<Head>) {
    let file = SourceFile {
        source: name(source),
        path: format!("{source}.yaml"),
        bytes: Arc::from(text.as_bytes()),
    };
    (
        name(source),
        Arc::new(Head {
            commit: CommitId(format!("{commit:02x}").repeat(20)),
            author: "Ada <ada@example.com>".to_owned(),
            committer: "Ada <ada@example.com>".to_owned(),
            signature: Signature::Absent,
            authored_at: Timestamp::UNIX_EPOCH,
            subject: "a commit".to_owned(),
            content: Content::Files(Arc::from(vec![file])),
            tree: None,
        }),
    )
}

/// What stands after decisions, one after the other.
#[derive(Default)]
struct Story {
    in_force: Heads,
    plan: Option<Plan>,
    highest: Generation,
    reverts: BTreeSet<SourceName>,
}

impl Story {
    fn tell(&mut self, heads: impl IntoIterator<Item = (SourceName, Arc<Head>)>) -> Decision {
        let federation = FederationName::new("shop").unwrap();
        let heads: Heads = heads.into_iter().collect();
        let decision = decide(Question {
            transit: None,
            federation: &federation,
            in_force: &self.in_force,
            heads: &heads,
            reverts: &self.reverts,
            parent: self.plan.as_ref(),
            highest: self.highest,
            now: Timestamp::UNIX_EPOCH,
        })
        .unwrap();
        if let Some(accepted) = &decision.accepted {
            self.in_force.clone_from(&accepted.in_force);
            if let Some(plan) = &accepted.plan {
                self.plan = Some(plan.clone());
            }
        }
        decision
    }

    fn generation(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.generation.0)
    }

    fn splits(&self) -> Vec<String> {
        let plan = self.plan.as_ref().unwrap();
        plan.splits.keys().map(ToString::to_string).collect()
    }
}

fn taken(decision: &Decision) -> Vec<&str> {
    decision.taken.keys().map(|source| source.0.as_str()).collect()
}

/// Refused sources with code and message of each error.
fn refused(decision: &Decision) -> BTreeMap<&str, Vec<String>> {
    decision
        .refused
        .iter()
        .map(|(source, why)| {
            let why = why.iter().map(|d| format!("{} {}", d.code, d.message)).collect();
            (source.0.as_str(), why)
        })
        .collect()
}

#[test]
fn one_source_through_good_broken_same_and_reverted() {
    let mut story = Story::default();
    let good = declaration("shop", "100", "0");
    let first = story.tell([head("main", 1, &good)]);
    assert_eq!((taken(&first), story.generation()), (vec!["main"], 1));

    let broken = story.tell([head("main", 2, &declaration("shop", "90", "11"))]);
    assert_eq!(taken(&broken), Vec::<&str>::new());
    assert_eq!(
        refused(&broken),
        BTreeMap::from([(
            "main",
            vec!["WEIR0102 the weights of the route `default` add up to 101, not 100".to_owned()]
        )])
    );
    assert_eq!((broken.accepted, story.generation()), (None, 1));

    let shifted = story.tell([head("main", 3, &declaration("shop", "90", "10"))]);
    assert_eq!((taken(&shifted), story.generation()), (vec!["main"], 2));

    let comment = format!("# nothing changes\n{}", declaration("shop", "90", "10"));
    let same = story.tell([head("main", 4, &comment)]);
    assert_eq!((taken(&same), story.generation()), (vec!["main"], 2));
    assert_eq!(story.in_force[&name("main")].commit.short(), "040404040404");

    let reverted = story.tell([head("main", 5, &good)]);
    assert_eq!((taken(&reverted), story.generation()), (vec!["main"], 3));
}

#[test]
fn another_federation_or_no_declaration_at_all_changes_nothing() {
    let mut story = Story::default();
    story.tell([head("main", 1, &declaration("shop", "100", "0"))]);
    let other = story.tell([head("main", 2, &declaration("bank", "100", "0"))]);
    assert_eq!(
        refused(&other),
        BTreeMap::from([(
            "main",
            vec!["WEIR0902 this declares the federation `bank`, but the coordinator is of `shop`".to_owned()]
        )])
    );
    let (source, empty) = head("main", 3, "");
    let nothing = story.tell([(source.clone(), Arc::clone(&empty))]);
    assert_eq!(nothing.accepted, None);
    assert_eq!(nothing.refused.len(), 1);
    let gone = Head {
        content: Content::Unusable(Unusable::NoSuchPath("traffic".to_owned())),
        ..Head::clone(&empty)
    };
    let gone = story.tell([(source, Arc::new(gone))]);
    assert_eq!(
        refused(&gone),
        BTreeMap::from([(
            "main",
            vec!["WEIR0901 source main has no directory `traffic` in this commit".to_owned()]
        )])
    );
    assert_eq!(
        (story.generation(), story.splits()),
        (1, vec!["checkout".to_owned()])
    );
}

/// A declaration with so many splits, and what its Federation says.
fn shop(splits: &[&str], federation_spec: &str) -> String {
    let mut text = declaration("shop", "100", "0");
    let (rest, _) = text
        .split_once("---\napiVersion: weir.dev/v1alpha1\nkind: Split")
        .unwrap();
    text = rest.replace("spec: {mesh: default}", federation_spec);
    for name in splits {
        text.push_str("---\n");
        text.push_str(&split(name, "100", "0"));
    }
    text
}

fn codes_of(decision: &Decision) -> Vec<String> {
    let all = decision.refused.values().flatten();
    all.map(|d| d.code.to_string()).collect()
}

/// What an accident takes away stays in force, whatever it looks like, until the Federation says that it is meant.
#[test]
fn splits_do_not_go_by_accident() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut story = Story::default();
    story.tell([head("main", 1, &shop(&ALL, "spec: {}"))]);
    for (commit, left) in [(2, &ALL[..0]), (3, &ALL[..1]), (4, &ALL[..2])] {
        let decision = story.tell([head("main", commit, &shop(left, "spec: {}"))]);
        assert_eq!(codes_of(&decision), ["WEIR0904"], "{left:?}");
        // Where the word would stand that it is meant.
        let place = &decision.refused[&name("main")][0].labels[0];
        assert_eq!((place.file.as_str(), place.span.line), ("main.yaml", 3));
        assert_eq!((decision.accepted, story.splits().len()), (None, 5));
    }
    // What was put back is taken, and so is what is meant.
    let back = story.tell([head("main", 5, &shop(&ALL, "spec: {}"))]);
    assert_eq!((taken(&back), story.generation()), (vec!["main"], 1));
    story.tell([head("main", 6, &shop(&ALL[..3], "spec: {}"))]);
    assert_eq!(story.splits(), ["a", "b", "c"]);
    story.tell([head("main", 7, &shop(&[], "spec: {prune: allow}"))]);
    assert_eq!(story.splits(), [""; 0]);
}

/// A revert wins (I8), also over the rule about accidents; what else changes with it does not ride on its back.
#[test]
fn a_revert_takes_its_splits_away_without_leave() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut story = Story::default();
    story.tell([
        head("main", 1, &shop(&[], "spec: {}")),
        head("other", 1, &split("search", "100", "0")),
    ]);
    story.tell([
        head("main", 2, &shop(&ALL, "spec: {}")),
        head("other", 1, &split("search", "100", "0")),
    ]);
    story.reverts = BTreeSet::from([name("main")]);
    let both = story.tell([head("main", 3, &shop(&[], "spec: {}")), head("other", 2, "")]);
    assert_eq!(refused(&both).keys().copied().collect::<Vec<_>>(), ["other"]);
    assert_eq!(
        (taken(&both), story.splits()),
        (vec!["main"], vec!["search".to_owned()])
    );
    // A source that is no longer read goes with nothing new, and is no revert though the last commit was one.
    let alone = story.tell([head("main", 3, &shop(&[], "spec: {}"))]);
    assert_eq!(codes_of(&alone), ["WEIR0904"]);
    assert_eq!(story.splits(), ["search"]);
}

/// A ledger from a backup knows splits that went long ago, with leave: to hold them would put them back where they were.
#[test]
fn what_a_lost_history_took_away_is_not_put_back() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    for others in [vec![], vec![head("other", 1, &split("other", "100", "0"))]] {
        let mut story = Story::default();
        story.tell([vec![head("main", 1, &shop(&ALL, "spec: {}"))], others.clone()].concat());
        story.highest = Generation(41);
        let decision = story.tell([vec![head("main", 9, &shop(&ALL[..1], "spec: {}"))], others].concat());
        assert_eq!((taken(&decision), story.generation()), (vec!["main"], 42));
        assert_eq!(story.splits()[0], "a");
        assert!(!story.splits().contains(&"b".to_owned()));
    }
}

/// A small source beside a large one, and one that the configuration no longer names.
#[test]
fn no_source_loses_its_splits_by_accident() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut story = Story::default();
    let base = shop(&ALL, "spec: {}");
    let search = split("search", "100", "0");
    story.tell([head("base", 1, &base), head("search", 1, &search)]);
    let emptied = head("search", 2, "");
    let moves = shop(&["a", "b", "c", "d", "f"], "spec: {}");
    let decision = story.tell([head("base", 2, &moves), emptied.clone()]);
    assert_eq!(
        (taken(&decision), codes_of(&decision)),
        (vec!["base"], vec!["WEIR0904".to_owned()])
    );
    let why = &refused(&decision)["search"][0];
    assert!(
        why.contains("takes away the only split that the source `search` has in force: `search`."),
        "{why}"
    );
    assert_eq!(story.splits(), ["a", "b", "c", "d", "f", "search"]);
    // To the other source it may go.
    let both = format!("{moves}---\n{search}");
    let moved = story.tell([head("base", 3, &both), emptied]);
    assert_eq!(taken(&moved), ["base", "search"]);
    assert_eq!(story.splits().len(), 6);

    // The source is no longer read: the zones are declared elsewhere, so nothing else is wrong, and still nothing goes.
    let mut story = Story::default();
    let few = shop(&[], "spec: {}");
    let five: Vec<String> = ALL.iter().map(|name| split(name, "100", "0")).collect();
    story.tell([head("base", 1, &few), head("large", 1, &five.join("---\n"))]);
    assert_eq!(story.splits(), ALL);
    let decision = story.tell([head("base", 1, &few)]);
    assert_eq!(
        (decision.accepted.is_some(), codes_of(&decision)),
        (false, vec!["WEIR0904".to_owned()])
    );
    assert_eq!(story.splits(), ALL);
}

/// A source that left the configuration while the coordinator was not running: nothing of it can be read any more, and the
/// plan still has its splits, few beside those of others.
#[test]
fn a_source_that_was_dropped_over_a_restart_takes_nothing_with_it() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    let base = shop(&ALL, "spec: {}");
    let mut story = Story::default();
    story.tell([
        head("base", 1, &base),
        head("search", 1, &split("search", "100", "0")),
    ]);
    assert_eq!(story.splits().len(), 6);
    story.in_force.retain(|source, _| source.0 == "base");
    let decision = story.tell([head("base", 1, &base)]);
    assert_eq!(
        (decision.accepted.is_some(), codes_of(&decision)),
        (false, vec!["WEIR0904".to_owned()])
    );
    let why = format!("{:?}", decision.refused);
    assert!(
        why.contains("the only split that the source `search` has in force: `search`."),
        "{why}"
    );
    assert_eq!(story.splits().len(), 6);
    // Somebody else may declare it.
    let both = format!("{base}---\n{}", split("search", "100", "0"));
    let moved = story.tell([head("base", 2, &both)]);
    assert_eq!((taken(&moved), story.splits().len()), (vec!["base"], 6));
    // With leave it goes.
    let mut story = Story::default();
    story.tell([
        head("base", 1, &base),
        head("search", 1, &split("search", "100", "0")),
    ]);
    story.in_force.retain(|source, _| source.0 == "base");
    story.tell([head("base", 3, &shop(&ALL, "spec: {prune: allow}"))]);
    assert_eq!(story.splits(), ALL);
}

/// Each code that is about a commit is given for it.
#[test]
fn each_code_of_a_commit_has_its_case() {
    let mut found: Vec<String> = Vec::new();
    let (source, good) = head("main", 1, &declaration("shop", "100", "0"));
    let path = Head {
        content: Content::Unusable(Unusable::NoSuchPath("traffic".to_owned())),
        ..Head::clone(&good)
    };
    let mesh = declaration("shop", "100", "0").replace("{mesh: default}", "{mesh: other}");
    for wrong in [
        (source.clone(), Arc::new(path)),
        head("main", 2, &declaration("bank", "100", "0")),
        head("main", 3, &mesh),
        head("main", 4, &shop(&[], "spec: {}")),
    ] {
        let mut story = Story::default();
        story.tell([(source.clone(), Arc::clone(&good))]);
        // Another commit than the good one.
        let (_, mut of) = (wrong.0, Head::clone(&wrong.1));
        of.commit = CommitId("ff".repeat(20));
        found.extend(codes_of(&story.tell([(source.clone(), Arc::new(of))])));
    }
    let all: Vec<String> = codes::ALL
        .iter()
        .filter(|entry| entry.code > codes::OF_FILES)
        .map(|entry| entry.code.to_string())
        .collect();
    assert_eq!(found, all);
}

#[test]
fn a_broken_source_holds_up_nobody_else() {
    let mut story = Story::default();
    let base = declaration("shop", "100", "0");
    story.tell([
        head("base", 1, &base),
        head("search", 1, &split("search", "100", "0")),
    ]);
    assert_eq!(story.generation(), 1);

    // One is broken, the other moves.
    let broken = head("base", 2, "kind: [");
    let decision = story.tell([broken.clone(), head("search", 2, &split("search", "50", "50"))]);
    assert_eq!(taken(&decision), vec!["search"]);
    assert_eq!(
        decision.refused.keys().map(|s| s.0.as_str()).collect::<Vec<_>>(),
        vec!["base"]
    );
    assert_eq!(story.generation(), 2);
    let commits: Vec<String> = story
        .in_force
        .values()
        .map(|head| head.commit.short().to_owned())
        .collect();
    assert_eq!(commits, vec!["010101010101", "020202020202"]);

    // Nothing new: the broken one stays refused, nothing is planned.
    let again = story.tell([broken, head("search", 2, &split("search", "50", "50"))]);
    assert_eq!(
        (taken(&again), again.accepted.is_some(), again.refused.len()),
        (vec![], false, 1)
    );

    // Each of two commits is wrong alone, and right with the other: a split moves from one source to the other.
    let both = format!("{base}---\n{}", split("search", "50", "50"));
    let moved = story.tell([head("base", 3, &both), head("search", 3, "")]);
    assert_eq!(taken(&moved), vec!["base", "search"]);
    assert_eq!(story.splits(), vec!["checkout", "search"]);
}

#[test]
fn a_source_that_was_never_good_keeps_all_from_being_planned() {
    let mut story = Story::default();
    let decision = story.tell([
        head("base", 1, &declaration("shop", "100", "0")),
        head("search", 1, "kind: ["),
    ]);
    assert_eq!(
        (taken(&decision), decision.refused.len(), story.generation()),
        (vec![], 2, 0)
    );
}

#[test]
fn a_new_source_that_was_never_good_holds_up_nobody_else() {
    let mut story = Story::default();
    let before = head("base", 1, &declaration("shop", "100", "0"));
    story.tell([before.clone()]);
    let broken = head("search", 1, "kind: [");
    let decision = story.tell([head("base", 2, &declaration("shop", "50", "50")), broken.clone()]);
    let told = refused(&decision);
    assert_eq!((taken(&decision), story.generation()), (vec!["base"], 2));
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), ["search"]);
    assert!(!told["search"][0].starts_with("WEIR09"), "{told:?}");

    // At 3 in the morning (I8).
    story.reverts = [name("base")].into();
    let back = story.tell([head("base", 3, &declaration("shop", "100", "0")), broken.clone()]);
    assert_eq!((taken(&back), story.generation()), (vec!["base"], 3));
    story.reverts.clear();

    // What agents hold of a lost history may come from it.
    story.highest = Generation(41);
    let lost = story.tell([head("base", 4, &declaration("shop", "10", "90")), broken]);
    assert_eq!(
        (taken(&lost), lost.refused.len(), story.generation()),
        (vec![], 2, 3)
    );

    // And once it is good, it is there.
    story.highest = Generation(3);
    let good = story.tell([
        head("base", 3, &declaration("shop", "100", "0")),
        head("search", 2, &split("search", "100", "0")),
    ]);
    assert_eq!(taken(&good), ["search"]);
    assert_eq!(story.splits(), ["checkout", "search"]);
}

/// I7: agents have seen plans that this history does not hold (a restored backup).
#[test]
fn a_restored_history_is_planned_above_what_agents_have_seen() {
    let mut story = Story::default();
    let good = head("main", 1, &declaration("shop", "100", "0"));
    story.tell([good.clone()]);
    story.highest = Generation(41);
    let decision = story.tell([good.clone()]);
    assert_eq!((taken(&decision), story.generation()), (vec![], 42));
    let plan = story.plan.clone().unwrap();
    let items: Vec<u64> = plan
        .splits
        .values()
        .flat_map(|s| s.items.values().map(|i| i.generation.0))
        .collect();
    assert_eq!(items, vec![42, 42]);
    // Once is enough.
    assert_eq!(story.tell([good.clone()]).accepted.and_then(|a| a.plan), None);

    // Also while the newest commit is a broken one.
    story.highest = Generation(50);
    let decision = story.tell([head("main", 2, "kind: [")]);
    assert_eq!((decision.refused.len(), story.generation()), (1, 51));
    assert_eq!(story.in_force[&name("main")].commit, good.1.commit);
}
