//! Looking at real repositories: local, over http and https from git's own server side, over a stand-in for ssh.

mod content;
mod damage;
mod http;
mod ssh;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::repository::Repository;
use tempfile::TempDir;
use weir_coordinator::config::{Auth, Source};
use weir_coordinator::git::{BareCopy, Content, GitError, Head, Lineage, Remote, Signature};
use weir_model::{CommitId, SourceName};

fn source(remote: Remote, auth: Auth) -> Source {
    Source {
        name: SourceName("main".to_owned()),
        remote,
        branch: "main".to_owned(),
        path: String::new(),
        poll: Duration::from_secs(60),
        webhook: None,
        auth,
    }
}

fn local(dir: &Path) -> Source {
    source(Remote::Local(dir.to_owned()), Auth::default())
}

fn texts(head: &Head) -> Vec<(String, String)> {
    match &head.content {
        Content::Files(files) => files
            .iter()
            .map(|f| (f.path.clone(), String::from_utf8_lossy(&f.bytes).into_owned()))
            .collect(),
        Content::Unusable(why) => panic!("{why:?}"),
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// Git's own server side, or none: then the test says that it is skipped.
fn git_program() -> bool {
    let there = Command::new("git")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("WEIR_REQUIRE").unwrap_or_default();
    assert!(
        there || !required.split(',').any(|part| part == "git"),
        "git is required and not there"
    );
    if !there {
        #[expect(clippy::print_stderr, reason = "who reads the test's output must know")]
        {
            eprintln!("skipped: there is no `git` program");
        }
    }
    there
}

fn remote(url: &str) -> Remote {
    Remote::parse(url, Path::new("/")).unwrap()
}

#[test]
fn a_local_repository_is_followed_through_all_that_may_befall_it() {
    let dir = TempDir::new().unwrap();
    let copy = BareCopy::new(&dir.path().join("git"), local(&dir.path().join("repo")));
    assert!(matches!(copy.look(), Err(GitError::Unreachable(_))));
    assert_eq!(copy.glance(), None);

    fs::create_dir(dir.path().join("repo")).unwrap();
    assert!(matches!(copy.look(), Err(GitError::NotARepository(_))));

    let repo = Repository::empty(&dir.path().join("repo"));
    assert_eq!(copy.look(), Err(GitError::Empty));

    let first = repo.commit(
        "The first\n\nand more",
        &[("b.yml", "b"), ("a.yaml", "a"), ("README.md", "no")],
    );
    let head = copy.look().unwrap().head;
    assert_eq!(copy.glance(), Some(head.commit.clone()));
    assert_eq!(
        (
            head.commit.0.as_str(),
            head.author.as_str(),
            head.subject.as_str()
        ),
        (first.to_string().as_str(), "Ada <ada@example.com>", "The first")
    );
    assert_eq!(head.authored_at.to_string(), "2023-11-14T22:13:20Z");
    assert_eq!(texts(&head), pairs(&[("a.yaml", "a"), ("b.yml", "b")]));

    // A force-push: history that has nothing to do with what was there.
    repo.replace("anew", &[("c.yaml", "c")]);
    assert_eq!(texts(&copy.look().unwrap().head), pairs(&[("c.yaml", "c")]));
    // And back.
    repo.move_to(first);
    assert_eq!(copy.look().unwrap().head, head);

    repo.delete_branch();
    repo.git.reference("refs/heads/other", first, true, "").unwrap();
    assert_eq!(copy.look(), Err(GitError::NoBranch("main".to_owned())));
    // What was fetched before is still there.
    assert_eq!(copy.remembered(&head.commit), Some(head));
    assert_eq!(copy.remembered(&CommitId("12".repeat(20))), None);
}

/// What a commit is to another one, for whom one is named first.
fn lineage(copy: &BareCopy, commit: git2::Oid, other: git2::Oid) -> Lineage {
    let id = |of: git2::Oid| CommitId(of.to_string());
    copy.lineage(&id(commit), &[id(other)], true)[&id(other)]
}

#[test]
fn which_of_two_commits_was_made_from_the_other_is_told() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&dir.path().join("repo")));
    let commits: Vec<git2::Oid> = (2..5)
        .map(|n| repo.commit("next", &[("a.yaml", &n.to_string())]))
        .collect();
    copy.look().unwrap();
    assert_eq!(lineage(&copy, commits[2], commits[0]), Lineage::Descends);
    assert_eq!(lineage(&copy, commits[0], commits[2]), Lineage::Precedes);
    let apart = repo.replace("anew", &[("a.yaml", "1")]);
    copy.look().unwrap();
    assert_eq!(lineage(&copy, apart, commits[2]), Lineage::Apart);
    assert_eq!(lineage(&copy, commits[2], apart), Lineage::Apart);
    let never = git2::Oid::from_str(&"12".repeat(20)).unwrap();
    assert_eq!(lineage(&copy, apart, never), Lineage::Unknown);
}

#[test]
fn who_committed_and_whether_it_is_signed_is_read() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&dir.path().join("repo")));
    let head = copy.look().unwrap().head;
    assert_eq!(
        (head.committer.as_str(), head.signature),
        ("Ada <ada@example.com>", Signature::Absent)
    );

    let first = repo
        .git
        .find_commit(repo.git.refname_to_id(crate::repository::BRANCH).unwrap())
        .unwrap();
    let at = git2::Time::new(1_700_000_000, 0);
    let ada = git2::Signature::new("Ada", "ada@example.com", &at).unwrap();
    let bot = git2::Signature::new("Merge bot", "bot@example.com", &at).unwrap();
    let tree = first.tree().unwrap();
    // What a message says is no signature.
    let text = repo
        .git
        .commit_create_buffer(&ada, &bot, "gpgsig none\n\ngpgsig none", &tree, &[&first])
        .unwrap();
    let text = text.as_str().unwrap();
    for (signed, is) in [
        (None, Signature::Absent),
        (Some("not looked at"), Signature::Present),
    ] {
        let id = match signed {
            Some(signature) => repo.git.commit_signed(text, signature, None).unwrap(),
            None => repo
                .git
                .commit(None, &ada, &bot, "gpgsig none\n\ngpgsig none", &tree, &[&first])
                .unwrap(),
        };
        repo.move_to(id);
        let head = copy.look().unwrap().head;
        assert_eq!(
            (head.author.as_str(), head.committer.as_str(), head.signature),
            ("Ada <ada@example.com>", "Merge bot <bot@example.com>", is)
        );
    }
}

#[test]
fn urls_mean_what_git_clone_means_by_them() {
    let base = Path::new("/etc/weir");
    let shown = |text: &str| Remote::parse(text, base).map(|remote| remote.to_string());
    for (text, is) in [
        (
            "https://git.example.com/team/x.git",
            "https://git.example.com/team/x.git",
        ),
        ("http://127.0.0.1:3000/x", "http://127.0.0.1:3000/x"),
        ("ssh://git@host:22/team/x.git", "ssh://git@host:22/team/x.git"),
        ("ssh://host/~ada/x", "ssh://host/~ada/x"),
        ("ssh://git@[::1]/x", "ssh://git@[::1]/x"),
        ("git@host:team/x.git", "ssh://git@host/team/x.git"),
        ("/srv/x", "/srv/x"),
        ("file:///srv/x", "/srv/x"),
        ("../x", "/etc/weir/../x"),
    ] {
        assert_eq!(shown(text), Ok(is.to_owned()), "{text}");
    }
    for text in [
        "",
        "https://ada:secret@host/x",
        "http://git.example.com/x",
        "https://host/x?y",
        "git://host/x",
        "ssh://-oProxyCommand=touch/x",
        "-oProxyCommand=touch:x",
        "ssh://host/a'b",
        "git@host:$(touch x)",
        "git@host:",
        "ssh://host:port/x",
        "a\nb",
    ] {
        assert!(shown(text).is_err(), "{text}");
    }
}
