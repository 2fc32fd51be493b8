//! Repositories over a stand-in for ssh.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_coordinator::config::Auth;
use weir_coordinator::git::{BareCopy, GitError};

use super::{git_program, pairs, remote, source, texts};
use crate::program::script;
use crate::repository::Repository;

/// A stand-in for ssh: notes how it was called and runs the command here.
fn fake_ssh(dir: &Path, body: &str) -> PathBuf {
    let program = dir.join("fake-ssh");
    script(&program, &format!("#!/bin/sh\n{body}\n"));
    program
}

#[test]
fn ssh_is_called_as_people_would() {
    if !git_program() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "1")]);
    let called = dir.path().join("called");
    let run = format!(
        "echo \"$@\" > {}\nfor last; do :; done\nexec sh -c \"$last\"",
        called.display()
    );
    let auth = Auth {
        ssh_program: Some(fake_ssh(dir.path(), &run)),
        ssh_key_file: Some(PathBuf::from("/keys/robot")),
        ..Auth::default()
    };
    let url = format!("ssh://git@git.example.com:2222{}", repo.dir.display());
    let copy = BareCopy::new(&dir.path().join("git"), source(remote(&url), auth));
    assert_eq!(texts(&copy.look().unwrap().head), pairs(&[("a.yaml", "1")]));
    assert_eq!(
        fs::read_to_string(&called).unwrap(),
        format!(
            "-oBatchMode=yes -oStrictHostKeyChecking=yes -oServerAliveInterval=15 -oConnectTimeout=10 \
             -oIdentitiesOnly=yes -i /keys/robot -p 2222 git@git.example.com git-upload-pack '{}'\n",
            repo.dir.display()
        )
    );
    for n in 2..4 {
        repo.commit("next", &[("a.yaml", &n.to_string())]);
        assert_eq!(
            texts(&copy.look().unwrap().head),
            pairs(&[("a.yaml", &n.to_string())])
        );
    }
    repo.replace("force-pushed", &[("b.yaml", "b")]);
    assert_eq!(texts(&copy.look().unwrap().head), pairs(&[("b.yaml", "b")]));
    repo.delete_branch();
    assert_eq!(copy.look(), Err(GitError::Empty));
}

#[test]
fn what_ssh_says_is_understood() {
    let dir = TempDir::new().unwrap();
    let cases = [
        (
            "echo 'git@h: Permission denied (publickey).' >&2; exit 255",
            "access denied: git.example.com: git@h: Permission denied (publickey).; check `auth` of this source",
        ),
        (
            "echo 'Host key verification failed.' >&2; exit 255",
            "access denied: git.example.com: Host key verification failed.; check `auth` of this source",
        ),
        (
            "echo 'ssh: Could not resolve hostname x' >&2; exit 255",
            "unreachable: git.example.com: ssh: Could not resolve hostname x",
        ),
        (
            "echo \"fatal: '/x' does not appear to be a git repository\" >&2; exit 128",
            "not a Git repository: git.example.com: fatal: '/x' does not appear to be a git repository",
        ),
        ("exit 1", "unreachable: git.example.com: ssh ended without a word"),
    ];
    for (body, told) in cases {
        let auth = Auth {
            ssh_program: Some(fake_ssh(dir.path(), body)),
            ..Auth::default()
        };
        let copy = BareCopy::new(
            &dir.path().join("git"),
            source(remote("git@git.example.com:x"), auth),
        );
        assert_eq!(copy.look().unwrap_err().to_string(), told);
    }
    let auth = Auth {
        ssh_program: Some(dir.path().join("no-such-program")),
        ..Auth::default()
    };
    let copy = BareCopy::new(
        &dir.path().join("git"),
        source(remote("git@git.example.com:x"), auth),
    );
    assert!(matches!(copy.look(), Err(GitError::Local(_))));
}
