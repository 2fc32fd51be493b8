//! A copy that something has befallen: a look that was killed, files that are damaged or gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_coordinator::git::BareCopy;

use super::local;
use crate::repository::Repository;

/// As after `kill -9` in the middle of a look.
#[test]
fn the_locks_of_a_look_that_was_killed_are_in_nobodys_way() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    let first = copy.look().unwrap();
    let inside = dir.path().join("git/main");
    for lock in [
        "refs/heads/main.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
    ] {
        fs::write(inside.join(lock), "").unwrap();
    }
    repo.commit("b", &[("a.yaml", "b")]);
    let second = copy.look().unwrap();
    assert_ne!(second.head.commit, first.head.commit);
    assert_eq!(second.recloned, None);
    assert!(!inside.join("refs/heads/main.lock").exists());
}

#[test]
fn a_damaged_copy_is_made_anew_and_that_is_said() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    let good = copy.look().unwrap();
    assert_eq!(good.recloned, None);
    let inside = dir.path().join("git/main");
    let damages: [(&str, &dyn Fn()); 4] = [
        ("objects gone", &|| {
            fs::remove_dir_all(inside.join("objects")).unwrap();
        }),
        ("objects emptied", &|| {
            for file in files_below(&inside.join("objects")) {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
                fs::write(file, "").unwrap();
            }
        }),
        ("head gone", &|| fs::remove_file(inside.join("HEAD")).unwrap()),
        ("config broken", &|| {
            fs::write(inside.join("config"), "[core\n").unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage();
        let look = copy.look().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(look.recloned.is_some(), "{what}");
        assert_eq!(look.head, good.head, "{what}");
        assert_eq!(copy.look().unwrap(), good, "{what}");
    }
}

/// The damaged copy may hold the commit in force, and the remote may be in no better state.
#[test]
fn a_damaged_copy_is_kept_until_there_is_another() {
    let dir = TempDir::new().unwrap();
    let repo = Repository::with(&dir.path().join("repo"), &[("a.yaml", "a")]);
    let copy = BareCopy::new(&dir.path().join("git"), local(&repo.dir));
    let first = copy.look().unwrap().head;
    let objects = dir.path().join("git/main/objects");
    let before = files_below(&objects);
    let files: Vec<(&str, &str)> = vec![("a.yaml", "another")];
    repo.commit("second", &files);
    copy.look().unwrap();
    for file in files_below(&objects)
        .into_iter()
        .filter(|file| !before.contains(file))
    {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(file, "").unwrap();
    }
    for file in files_below(&repo.dir.join("objects")) {
        fs::remove_file(file).unwrap();
    }
    copy.look().unwrap_err();
    assert_eq!(copy.remembered(&first.commit), Some(first));
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
