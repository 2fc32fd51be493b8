//! A Git repository in a temporary directory, written with git2, so that tests need no `git` program to make history.

use std::path::{Path, PathBuf};

use git2::{Oid, Signature, Time};

pub(crate) const BRANCH: &str = "refs/heads/main";

pub(crate) struct Repository {
    pub(crate) git: git2::Repository,
    pub(crate) dir: PathBuf,
}

impl Repository {
    /// A bare repository without any commit.
    pub(crate) fn empty(dir: &Path) -> Self {
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).initial_head("main").external_template(false);
        Self {
            git: git2::Repository::init_opts(dir, &options).unwrap(),
            dir: dir.to_owned(),
        }
    }

    /// A repository whose first commit holds these files.
    pub(crate) fn with(dir: &Path, files: &[(&str, &str)]) -> Self {
        let repository = Self::empty(dir);
        repository.commit("first", files);
        repository
    }

    /// A commit on `main` that holds exactly these files. A name that ends in `@` becomes a symbolic link, one that ends
    /// in `#` a submodule.
    pub(crate) fn commit(&self, message: &str, files: &[(&str, &str)]) -> Oid {
        let parent = self
            .git
            .refname_to_id(BRANCH)
            .ok()
            .map(|id| self.git.find_commit(id).unwrap());
        self.write(message, files, parent.as_ref())
    }

    /// A commit without history in place of the branch: what a force-push does.
    pub(crate) fn replace(&self, message: &str, files: &[(&str, &str)]) -> Oid {
        self.delete_branch();
        self.write(message, files, None)
    }

    pub(crate) fn delete_branch(&self) {
        if let Ok(mut branch) = self.git.find_reference(BRANCH) {
            branch.delete().unwrap();
        }
    }

    /// Moves the branch to a commit that exists.
    pub(crate) fn move_to(&self, id: Oid) {
        self.git.reference(BRANCH, id, true, "moved").unwrap();
    }

    fn write(&self, message: &str, files: &[(&str, &str)], parent: Option<&git2::Commit<'_>>) -> Oid {
        let mut update = git2::build::TreeUpdateBuilder::new();
        let empty = self.git.treebuilder(None).unwrap().write().unwrap();
        for (path, text) in files {
            if let Some(path) = path.strip_suffix('#') {
                let some_commit = Oid::from_str("1234567890123456789012345678901234567890").unwrap();
                update.upsert(path, some_commit, git2::FileMode::Commit);
            } else if let Some(path) = path.strip_suffix('@') {
                update.upsert(
                    path,
                    self.git.blob(text.as_bytes()).unwrap(),
                    git2::FileMode::Link,
                );
            } else {
                update.upsert(
                    *path,
                    self.git.blob(text.as_bytes()).unwrap(),
                    git2::FileMode::Blob,
                );
            }
        }
        let empty = self.git.find_tree(empty).unwrap();
        let tree = update.create_updated(&self.git, &empty).unwrap();
        let tree = self.git.find_tree(tree).unwrap();
        let who = Signature::new("Ada", "ada@example.com", &Time::new(1_700_000_000, 60)).unwrap();
        let parents: Vec<&git2::Commit<'_>> = parent.into_iter().collect();
        self.git
            .commit(Some(BRANCH), &who, &who, message, &tree, &parents)
            .unwrap()
    }
}

/// A declaration of two zones and one split.
pub(crate) fn declaration(federation: &str, vm: &str, cloud: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {{name: {federation}}}
spec: {{mesh: default}}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {{name: fra}}
spec: {{platform: vm}}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {{name: ams}}
spec: {{platform: vm}}
---
{}",
        split("checkout", vm, cloud)
    )
}

/// One split over the zones of [`declaration`].
pub(crate) fn split(name: &str, vm: &str, cloud: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {{name: {name}}}
spec:
  service: {name}
  port: 8080
  protocol: http
  backends:
    vm: {{zone: fra}}
    cloud: {{zone: ams}}
  routes:
    - name: default
      weights: {{vm: {vm}, cloud: {cloud}}}
"
    )
}
