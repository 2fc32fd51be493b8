//! Declaration files at one revision of a local Git repository, or in its work tree.
//!
//! What is read is what the coordinator reads: files named `*.yaml` and `*.yml` below one path; nothing hidden, no
//! symbolic links, no submodules.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Tree};
use thiserror::Error;
use weir_model::{CommitId, SourceCommit, SourceFile, SourceName, limits};

/// Why a revision cannot be read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("no Git repository at {}: {reason}. Give one with --repo", path.display())]
    Repository { path: PathBuf, reason: String },
    #[error("no revision `{name}`: {reason}")]
    Revision { name: String, reason: String },
    #[error("{} has no work tree: give a second revision instead of --worktree", .0.display())]
    Bare(PathBuf),
    #[error(
        "the path `{0}` must be inside the repository and relative to its top: write it as in `traffic/shop`"
    )]
    Path(String),
    #[error("{name} at `{path}` is a file: --path names a directory")]
    NoDirectory { name: String, path: String },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{path} in {name} cannot be read: {reason}")]
    Object {
        name: String,
        path: String,
        reason: String,
    },
}

/// Files and the commit that they are of.
pub(crate) struct Revision {
    pub(crate) commit: SourceCommit,
    pub(crate) files: Vec<SourceFile>,
}

/// A repository and the one path that is read.
pub(crate) struct Repository {
    git: git2::Repository,
    path: String,
}

/// What stands for a commit where there is none yet: as Git itself writes it.
const UNCOMMITTED: &str = "0000000000000000000000000000000000000000";

impl Repository {
    pub(crate) fn open(at: &Path, path: &str) -> Result<Self, Unreadable> {
        let git = git2::Repository::discover(at).map_err(|error| Unreadable::Repository {
            path: at.to_owned(),
            reason: error.message().to_owned(),
        })?;
        let inside: Vec<&str> = path
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        if path.starts_with('/') || inside.contains(&"..") {
            return Err(Unreadable::Path(path.to_owned()));
        }
        Ok(Self {
            git,
            path: inside.join("/"),
        })
    }

    /// The files of a commit, branch or tag.
    pub(crate) fn revision(&self, name: &str) -> Result<Revision, Unreadable> {
        let unknown = |error: git2::Error| Unreadable::Revision {
            name: name.to_owned(),
            reason: error.message().to_owned(),
        };
        let object = self.git.revparse_single(name).map_err(unknown)?;
        let commit = object.peel_to_commit().map_err(unknown)?;
        let mut tree = commit.tree().map_err(unknown)?;
        let mut files = Vec::new();
        if !self.path.is_empty() {
            match tree.get_path(Path::new(&self.path)) {
                Ok(entry) if entry.kind() == Some(ObjectType::Tree) => {
                    tree = self.git.find_tree(entry.id()).map_err(unknown)?;
                }
                Ok(_) => {
                    return Err(Unreadable::NoDirectory {
                        name: name.to_owned(),
                        path: self.path.clone(),
                    });
                }
                Err(error) if error.code() == ErrorCode::NotFound => {
                    return Ok(revision(commit.id().to_string(), files));
                }
                Err(error) => return Err(unknown(error)),
            }
        }
        self.tree(name, &tree, &self.path, &mut files)?;
        Ok(revision(commit.id().to_string(), files))
    }

    fn tree(
        &self,
        name: &str,
        tree: &Tree<'_>,
        above: &str,
        files: &mut Vec<SourceFile>,
    ) -> Result<(), Unreadable> {
        for entry in tree {
            let file = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let path = below(above, &file);
            let broken = |error: git2::Error| Unreadable::Object {
                name: name.to_owned(),
                path: path.clone(),
                reason: error.message().to_owned(),
            };
            if file.starts_with('.') {
                continue;
            }
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    let tree = self.git.find_tree(entry.id()).map_err(broken)?;
                    self.tree(name, &tree, &path, files)?;
                }
                (Some(ObjectType::Blob), 0o100_644 | 0o100_755 | 0o100_664) if declares(&file) => {
                    let blob = self.git.find_blob(entry.id()).map_err(broken)?;
                    files.push(source_file(path, blob.content()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The files as they are on disk, but for those that Git ignores.
    pub(crate) fn work_tree(&self) -> Result<Revision, Unreadable> {
        let top = self
            .git
            .workdir()
            .ok_or_else(|| Unreadable::Bare(self.git.path().to_owned()))?;
        let mut files = Vec::new();
        if top.join(&self.path).exists() {
            self.directory(top, &self.path, &mut files)?;
        }
        Ok(revision(UNCOMMITTED.to_owned(), files))
    }

    fn directory(&self, top: &Path, above: &str, files: &mut Vec<SourceFile>) -> Result<(), Unreadable> {
        let at = top.join(above);
        let broken = |path: &Path, error: std::io::Error| Unreadable::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&at).map_err(|error| broken(&at, error))? {
            let entry = entry.map_err(|error| broken(&at, error))?;
            let kind = entry.file_type().map_err(|error| broken(&entry.path(), error))?;
            entries.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
                kind,
            ));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (file, on_disk, kind) in entries {
            let path = below(above, &file);
            let ignored = || self.git.is_path_ignored(&path).unwrap_or(false);
            if file.starts_with('.') {
                continue;
            }
            if kind.is_dir() && !on_disk.join(".git").exists() && !ignored() {
                self.directory(top, &path, files)?;
            } else if kind.is_file() && declares(&file) && !ignored() {
                let size = on_disk.metadata().map_err(|error| broken(&on_disk, error))?.len();
                // one byte above the limit is enough for the diagnostic
                let bytes = read_at_most(&on_disk, size.min(limits::FILE_BYTES as u64 + 1))
                    .map_err(|error| broken(&on_disk, error))?;
                files.push(source_file(path, &bytes));
            }
        }
        Ok(())
    }
}

fn read_at_most(path: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(bytes).read_to_end(&mut content)?;
    Ok(content)
}

fn revision(commit: String, files: Vec<SourceFile>) -> Revision {
    Revision {
        commit: SourceCommit {
            source: local(),
            commit: CommitId(commit),
        },
        files,
    }
}

fn source_file(path: String, bytes: &[u8]) -> SourceFile {
    SourceFile {
        source: local(),
        path,
        bytes: Arc::from(bytes),
    }
}

fn local() -> SourceName {
    SourceName("local".to_owned())
}

fn below(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}/{name}")
    }
}

fn declares(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}
