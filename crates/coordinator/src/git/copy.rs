//! The bare copy of one source, and reading a commit's declaration files from it.
//!
//! A copy is a cache: it may be deleted at any time, and one that is damaged is made anew (and that is said).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use git2::{ErrorCode, FetchOptions, ObjectType, Oid, Repository};
use jiff::Timestamp;
use weir_model::{CommitId, SourceFile, SourceName};

use super::lineage::{Lineage, lineage};
use super::transport::{self, Access, Failure};
use super::{Content, GitError, Head, Remote, Signature, Unusable, limits};
use crate::config::Source;

/// So many commits are fetched of a history, where the newest alone does not tell what it was made from.
const DEPTH: i32 = 64;

/// One source's copy.
#[derive(Debug, Clone)]
pub struct BareCopy {
    dir: PathBuf,
    source: Source,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The branch's commit.
    pub head: Head,
    /// Set when the copy was damaged and has been made anew: what was wrong with it.
    pub recloned: Option<String>,
}

impl BareCopy {
    /// The copy of `source` below `data/git`.
    pub fn new(git_dir: &std::path::Path, source: Source) -> Self {
        Self {
            dir: git_dir.join(&source.name.0),
            source,
        }
    }

    /// Asks the remote for the branch's commit, fetches what is missing, and reads the files.
    ///
    /// # Errors
    /// Why there is no commit to show; the copy keeps what it had.
    pub fn look(&self) -> Result<Look, GitError> {
        match self.attempt() {
            Ok(head) => Ok(Look { head, recloned: None }),
            Err(Trouble::Remote(error)) => Err(error),
            Err(Trouble::Copy(damage)) => self.anew(damage),
        }
    }

    /// Makes the copy anew, beside the damaged one: that may still hold the commit in force, so it goes only when there
    /// is another.
    fn anew(&self, damage: String) -> Result<Look, GitError> {
        let fresh = Self {
            dir: self.dir.with_file_name(format!("{}.new", self.source.name)),
            source: self.source.clone(),
        };
        let remove = |dir: &std::path::Path| match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(GitError::Local(format!(
                "the bare copy {} is damaged ({damage}) and cannot be made anew: {} cannot be removed: {error}",
                self.dir.display(),
                dir.display()
            ))),
            _ => Ok(()),
        };
        remove(&fresh.dir)?;
        let head = match fresh.attempt() {
            Ok(head) => head,
            Err(Trouble::Remote(error)) => return Err(error),
            Err(Trouble::Copy(damage)) => {
                return Err(GitError::Local(format!(
                    "the bare copy {} cannot be made: {damage}",
                    self.dir.display()
                )));
            }
        };
        remove(&self.dir)?;
        fs::rename(&fresh.dir, &self.dir).map_err(|error| {
            GitError::Local(format!(
                "the new bare copy {} cannot be put in its place: {error}",
                fresh.dir.display()
            ))
        })?;
        Ok(Look {
            head,
            recloned: Some(damage),
        })
    }

    /// Reads a commit that an earlier look fetched, without asking the remote.
    pub fn remembered(&self, commit: &CommitId) -> Option<Head> {
        let copy = Repository::open_bare(&self.dir).ok()?;
        let id = Oid::from_str(&commit.0).ok()?;
        self.read(&copy, id).ok()
    }

    /// What the branch's commit is to others. `deeper`: where the copy does not tell that of the first of them, more of the branch's
    /// history is fetched, once.
    pub fn lineage(
        &self,
        commit: &CommitId,
        others: &[CommitId],
        deeper: bool,
    ) -> BTreeMap<CommitId, Lineage> {
        let is = |other: &CommitId| {
            let copy = Repository::open_bare(&self.dir).ok()?;
            let (commit, other) = (Oid::from_str(&commit.0).ok()?, Oid::from_str(&other.0).ok()?);
            Some(lineage(&copy, commit, other))
        };
        if deeper
            && let Some(first) = others.first()
            && is(first) == Some(Lineage::Unknown)
        {
            // Where that is not to be had either, it stays unknown.
            let _deeper = self.deepen();
        }
        let all = others
            .iter()
            .map(|other| (other.clone(), is(other).unwrap_or(Lineage::Unknown)));
        all.collect()
    }

    /// Fetches more of the branch's history; none if that is not to be had, or all of it is here.
    fn deepen(&self) -> Option<()> {
        let access = Access::new(&self.source.remote, &self.source.auth).ok()??;
        let copy = Repository::open_bare(&self.dir).ok()?;
        self.fetch(&copy, &access, DEPTH).ok()
    }

    /// The commit of a local repository's branch; cheap enough to ask many times a second. None if it is not local or
    /// cannot be told: a whole look then says why.
    pub fn glance(&self) -> Option<CommitId> {
        let Remote::Local(path) = &self.source.remote else {
            return None;
        };
        let repository = Repository::open(path).ok()?;
        let id = repository.refname_to_id(&self.branch_ref()).ok()?;
        Some(CommitId(id.to_string()))
    }

    fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.source.branch)
    }

    /// Takes away the locks of a look that was killed. Nobody else writes here: the data directory has one coordinator, and a
    /// source one look at a time. Left alone, such a lock would keep its reference from ever being written again.
    fn unlock(&self) {
        let mut folders = vec![self.dir.clone(), self.dir.join("refs")];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if folder != self.dir {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|ending| ending == "lock") {
                    // What cannot be removed is in the way, and is told by what then fails.
                    if fs::remove_file(&path).is_ok() {
                        tracing::info!(lock = %path.display(), "a lock of a look that was cut off is gone");
                    }
                }
            }
        }
    }

    fn attempt(&self) -> Result<Head, Trouble> {
        self.unlock();
        let copy = self.open()?;
        let id = match Access::new(&self.source.remote, &self.source.auth)? {
            Some(access) => self.bring(&copy, &access)?,
            None => self.bring_local(&copy)?,
        };
        self.read(&copy, id)
    }

    fn open(&self) -> Result<Repository, Trouble> {
        match Repository::open_bare(&self.dir) {
            Ok(copy) => Ok(copy),
            Err(error) if self.dir.exists() => Err(Trouble::Copy(error.message().to_owned())),
            Err(_) => {
                let mut options = git2::RepositoryInitOptions::new();
                options.bare(true).mkpath(true).external_template(false);
                Repository::init_opts(&self.dir, &options).map_err(|error| {
                    Trouble::Remote(GitError::Local(format!(
                        "the bare copy {} cannot be made: {}",
                        self.dir.display(),
                        error.message()
                    )))
                })
            }
        }
    }

    /// Whether all that was fetched of this commit is still here.
    fn holds(&self, copy: &Repository, id: Oid) -> bool {
        copy.refname_to_id(&self.branch_ref()).is_ok_and(|at| at == id)
    }

    fn refspec(&self) -> String {
        format!("+{0}:{0}", self.branch_ref())
    }

    fn bring(&self, copy: &Repository, access: &Access) -> Result<Oid, Trouble> {
        let heads = access.during(|| {
            let mut remote = copy.remote_anonymous(transport::URL)?;
            let connection = remote.connect_auth(git2::Direction::Fetch, None, None)?;
            let heads = connection.list()?;
            Ok(heads
                .iter()
                .map(|head| (head.name().to_owned(), head.oid()))
                .collect::<Vec<_>>())
        })?;
        let wanted = self.branch_ref();
        let id = match heads.iter().find(|(name, _)| *name == wanted) {
            Some((_, id)) => *id,
            None if heads.is_empty() => return Err(GitError::Empty.into()),
            None => return Err(GitError::NoBranch(self.source.branch.clone()).into()),
        };
        if !self.holds(copy, id) {
            self.fetch(copy, access, 1)?;
        }
        self.branch_in(copy)
    }

    fn fetch(&self, copy: &Repository, access: &Access, depth: i32) -> Result<(), Failure> {
        access.during(|| {
            let mut options = FetchOptions::new();
            options.depth(depth).download_tags(git2::AutotagOption::None);
            copy.remote_anonymous(transport::URL)?
                .fetch(&[self.refspec()], Some(&mut options), None)
        })
    }

    fn bring_local(&self, copy: &Repository) -> Result<Oid, Trouble> {
        let Remote::Local(path) = &self.source.remote else {
            return Err(GitError::Local("not a local source".to_owned()).into());
        };
        let there = Repository::open(path).map_err(|error| {
            let what = format!("{}: {}", path.display(), error.message());
            match error.code() {
                ErrorCode::NotFound if !path.exists() => {
                    GitError::Unreachable(format!("{} does not exist", path.display()))
                }
                ErrorCode::NotFound => GitError::NotARepository(what),
                ErrorCode::Owner => GitError::Denied(what),
                _ => GitError::Unreachable(what),
            }
        })?;
        let id = match there.refname_to_id(&self.branch_ref()) {
            Ok(id) => id,
            Err(_) if there.references().is_ok_and(|mut all| all.next().is_none()) => {
                return Err(GitError::Empty.into());
            }
            Err(_) => return Err(GitError::NoBranch(self.source.branch.clone()).into()),
        };
        if !self.holds(copy, id) {
            let url = there.path().to_string_lossy().into_owned();
            let mut options = FetchOptions::new();
            options.download_tags(git2::AutotagOption::None);
            copy.remote_anonymous(&url)
                .and_then(|mut remote| remote.fetch(&[self.refspec()], Some(&mut options), None))
                .map_err(blame)?;
        }
        self.branch_in(copy)
    }

    fn branch_in(&self, copy: &Repository) -> Result<Oid, Trouble> {
        copy.refname_to_id(&self.branch_ref())
            .map_err(|error| Trouble::Copy(error.message().to_owned()))
    }

    fn read(&self, copy: &Repository, id: Oid) -> Result<Head, Trouble> {
        let commit = copy.find_commit(id)?;
        let person =
            |of: git2::Signature<'_>| format!("{} <{}>", plain(of.name_bytes()), plain(of.email_bytes()));
        let author = commit.author();
        let message = String::from_utf8_lossy(commit.message_bytes());
        let authored_at = Timestamp::from_second(author.when().seconds()).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Head {
            commit: CommitId(id.to_string()),
            author: person(author),
            committer: person(commit.committer()),
            signature: signature(&commit),
            authored_at,
            subject: plain(message.trim_start().lines().next().unwrap_or_default().as_bytes()),
            content: self.content(copy, &commit.tree()?)?,
            tree: self.tree_of(&commit).map(|id| id.to_string()),
        })
    }

    /// The tree below the source's path; none if there is none.
    fn tree_of(&self, commit: &git2::Commit<'_>) -> Option<Oid> {
        let root = commit.tree().ok()?;
        if self.source.path.is_empty() {
            return Some(root.id());
        }
        let entry = root.get_path(std::path::Path::new(&self.source.path)).ok()?;
        (entry.kind() == Some(ObjectType::Tree)).then(|| entry.id())
    }

    fn content(&self, copy: &Repository, root: &git2::Tree<'_>) -> Result<Content, Trouble> {
        let subtree;
        let tree = if self.source.path.is_empty() {
            root
        } else {
            let entry = match root.get_path(std::path::Path::new(&self.source.path)) {
                Ok(entry) if entry.kind() == Some(ObjectType::Tree) => entry,
                Ok(_) => return Ok(Content::Unusable(Unusable::NoSuchPath(self.source.path.clone()))),
                Err(error) if error.code() == ErrorCode::NotFound => {
                    return Ok(Content::Unusable(Unusable::NoSuchPath(self.source.path.clone())));
                }
                Err(error) => return Err(error.into()),
            };
            subtree = copy.find_tree(entry.id())?;
            &subtree
        };
        let mut reading = Reading {
            copy,
            source: &self.source.name,
            files: Vec::new(),
            total: 0,
            names: 0,
        };
        match reading.tree(tree, &self.source.path, 0)? {
            Some(unusable) => Ok(Content::Unusable(unusable)),
            None => {
                reading.files.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(Content::Files(Arc::from(reading.files)))
            }
        }
    }
}

/// Walks a tree; stops at the first broken limit.
struct Reading<'a> {
    copy: &'a Repository,
    source: &'a SourceName,
    files: Vec<SourceFile>,
    total: usize,
    names: usize,
}

impl Reading<'_> {
    fn tree(
        &mut self,
        tree: &git2::Tree<'_>,
        prefix: &str,
        depth: usize,
    ) -> Result<Option<Unusable>, Trouble> {
        if depth > limits::DEPTH {
            return Ok(Some(Unusable::TooDeep(plain(prefix.as_bytes()))));
        }
        for entry in tree {
            self.names += 1;
            if self.names > limits::NAMES {
                return Ok(Some(Unusable::TooWide(self.names)));
            }
            let name = unbroken(&String::from_utf8_lossy(entry.name_bytes()));
            // Hidden files and directories (.github/…) are other tools' business.
            if name.starts_with('.') {
                continue;
            }
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}/{name}")
            };
            let broken = match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    self.tree(&self.copy.find_tree(entry.id())?, &path, depth + 1)?
                }
                // Not 0o120000, a symbolic link, nor a submodule (a commit): those are never followed.
                (Some(ObjectType::Blob), 0o100_644 | 0o100_755 | 0o100_664) if declares(&name) => {
                    self.file(entry.id(), path)?
                }
                _ => None,
            };
            if broken.is_some() {
                return Ok(broken);
            }
        }
        Ok(None)
    }

    fn file(&mut self, id: Oid, path: String) -> Result<Option<Unusable>, Trouble> {
        let (size, _) = self.copy.odb()?.read_header(id)?;
        self.total += size;
        if size > limits::FILE_BYTES {
            return Ok(Some(Unusable::FileTooLarge(path, size)));
        }
        if self.total > limits::TOTAL_BYTES {
            return Ok(Some(Unusable::TotalTooLarge(self.total)));
        }
        if self.files.len() >= limits::FILES {
            return Ok(Some(Unusable::TooMany(self.files.len() + 1)));
        }
        let blob = self.copy.find_blob(id)?;
        self.files.push(SourceFile {
            source: self.source.clone(),
            path,
            bytes: Arc::from(blob.content()),
        });
        Ok(None)
    }
}

/// By its header alone, in whichever format and over whichever hash it was made.
fn signature(commit: &git2::Commit<'_>) -> Signature {
    let mut lines = commit.raw_header_bytes().split(|byte| *byte == b'\n');
    let signed = lines.any(|line| line.starts_with(b"gpgsig ") || line.starts_with(b"gpgsig-sha256 "));
    match signed {
        true => Signature::Present,
        false => Signature::Absent,
    }
}

/// What people write into commits ends up in terminals and logs: nothing in it may act there.
fn unbroken(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// The same, and not longer than anybody reads.
fn plain(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let text = unbroken(&String::from_utf8_lossy(bytes));
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn declares(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Whose trouble it is: the remote's (or the machine's), which is told, or the copy's, which is made anew.
enum Trouble {
    Remote(GitError),
    Copy(String),
}

impl From<GitError> for Trouble {
    fn from(error: GitError) -> Self {
        Self::Remote(error)
    }
}

/// Only reading the copy yields a bare libgit2 error.
impl From<git2::Error> for Trouble {
    fn from(error: git2::Error) -> Self {
        Self::Copy(error.message().to_owned())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Known(error) => Self::Remote(error),
            Failure::Libgit2(error) => blame(error),
        }
    }
}

/// A fetch both talks and writes: libgit2's class says which of the two failed.
fn blame(error: git2::Error) -> Trouble {
    use git2::ErrorClass as Class;
    let text = error.message().to_owned();
    match error.class() {
        Class::Odb
        | Class::Object
        | Class::Zlib
        | Class::Repository
        | Class::Reference
        | Class::Tree
        | Class::Config => Trouble::Copy(text),
        Class::Os | Class::Filesystem | Class::NoMemory => Trouble::Remote(GitError::Local(text)),
        _ => Trouble::Remote(GitError::Protocol(text)),
    }
}
