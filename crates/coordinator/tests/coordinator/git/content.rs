//! What is read of a commit, and what is not: whoever may commit may commit anything.

use std::fs;

use tempfile::TempDir;
use weir_coordinator::git::{BareCopy, Content, Unusable};

use super::{local, pairs, texts};
use crate::repository::{self, Repository};

#[test]
fn links_submodules_and_hidden_files_are_not_read() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("secret.yaml"), "secret").unwrap();
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[
            ("traffic/a.yaml", "a"),
            ("traffic/deep/er/b.yaml", "b"),
            ("traffic/link.yaml@", "../../secret.yaml"),
            ("traffic/linked@", "/etc"),
            ("traffic/module.yaml#", ""),
            (".github/workflows/ci.yml", "ci"),
            ("traffic/.hidden.yaml", "hidden"),
            ("other/c.yaml", "c"),
        ],
    );
    let look = |path: &str| {
        let mut source = local(&repo.dir);
        path.clone_into(&mut source.path);
        BareCopy::new(&dir.path().join("git"), source)
            .look()
            .unwrap()
            .head
    };
    assert_eq!(
        texts(&look("traffic")),
        pairs(&[("traffic/a.yaml", "a"), ("traffic/deep/er/b.yaml", "b")])
    );
    assert_eq!(texts(&look("")).len(), 3);
    for path in [
        "traffic/linked",
        "traffic/module.yaml",
        "traffic/a.yaml",
        "nowhere",
    ] {
        assert_eq!(
            look(path).content,
            Content::Unusable(Unusable::NoSuchPath(path.to_owned())),
            "{path}"
        );
    }
}

#[test]
fn what_is_too_large_is_named_and_not_read() {
    let dir = TempDir::new().unwrap();
    let large = "#".repeat((4 << 20) + 1);
    let repo = Repository::with(
        &dir.path().join("repo"),
        &[("a.yaml", "a"), ("large.yaml", &large)],
    );
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    assert_eq!(
        copy.look().unwrap().head.content,
        Content::Unusable(Unusable::FileTooLarge("large.yaml".to_owned(), large.len()))
    );
    // A large file that is no declaration is nobody's concern.
    repo.commit("moved", &[("a.yaml", "a"), ("large.bin", &large)]);
    assert_eq!(texts(&copy.look().unwrap().head), pairs(&[("a.yaml", "a")]));
}

/// Whoever may commit can make Git name one directory in a million places, or nest them without end, in a few kilobytes.
#[test]
fn a_commit_of_endless_directories_is_refused_and_not_walked() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    let blob = repo.git.blob(b"a").unwrap();
    let nest = |inner: git2::Oid, names: usize| {
        let mut tree = repo.git.treebuilder(None).unwrap();
        for n in 0..names {
            tree.insert(format!("d{n}"), inner, 0o040_000).unwrap();
        }
        tree.write().unwrap()
    };
    let commit = |tree: git2::Oid| {
        let tree = repo.git.find_tree(tree).unwrap();
        let who = git2::Signature::now("Ada", "ada@example.com").unwrap();
        repo.delete_branch();
        repo.git
            .commit(Some(repository::BRANCH), &who, &who, "bomb", &tree, &[])
            .unwrap();
    };
    let leaf = || {
        let mut tree = repo.git.treebuilder(None).unwrap();
        tree.insert("a.yaml", blob, 0o100_644).unwrap();
        tree.write().unwrap()
    };
    commit((0..1_000).fold(leaf(), |inner, _| nest(inner, 1)));
    let look = copy.look().unwrap().head.content;
    assert!(
        matches!(look, Content::Unusable(Unusable::TooDeep(_))),
        "{look:?}"
    );
    commit((0..20).fold(nest(blob_free(&repo.git), 1), |inner, _| nest(inner, 20)));
    let look = copy.look().unwrap().head.content;
    assert!(
        matches!(look, Content::Unusable(Unusable::TooWide(_))),
        "{look:?}"
    );
}

/// A tree without any declaration in it.
fn blob_free(git: &git2::Repository) -> git2::Oid {
    git.treebuilder(None).unwrap().write().unwrap()
}

#[test]
fn what_a_commit_says_cannot_act_on_a_terminal() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::empty(&dir.path().join("repo"));
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    let long = "x".repeat(1_000);
    repo.commit(&format!("\u{1b}[2J\u{7}{long}"), &[("a\u{1b}[2J.yaml", "a")]);
    let head = copy.look().unwrap().head;
    assert_eq!(head.subject, format!("\u{fffd}[2J\u{fffd}{}…", "x".repeat(195)));
    assert_eq!(texts(&head), pairs(&[("a\u{fffd}[2J.yaml", "a")]));
}
