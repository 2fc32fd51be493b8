//! Git: looking at one branch of one repository, and what can go wrong there.
//!
//! libgit2 speaks Git's protocol; the bytes are carried by our own transports (`transport`), so that there is one TLS
//! stack in the program and `ssh` is the one that the host already has. [`copy`] keeps a bare copy; nothing is ever
//! checked out, so no link or submodule of a repository is ever followed. Everything here blocks: call it from a
//! blocking thread.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, SourceFile};

pub mod copy;
mod lineage;
mod transport;

pub use copy::{BareCopy, Look};
pub use lineage::Lineage;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `https://…`; `http://` on loopback only. Never holds credentials.
    Http(reqwest::Url),
    /// Reached with the `ssh` program.
    Ssh {
        /// User; none for that of ssh's own configuration.
        user: Option<String>,
        /// Host, or an alias of ssh's own configuration.
        host: String,
        /// Port; none for that of ssh's own configuration.
        port: Option<u16>,
        /// Path on that host.
        path: String,
    },
    /// A repository on this machine.
    Local(PathBuf),
}

impl Remote {
    /// Reads a url as people write it for `git clone`. Relative local paths are relative to `base`.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("the url is empty or holds control characters".to_owned());
        }
        match text.split_once("://") {
            Some(("https" | "http", _)) => Self::parse_http(text),
            Some(("ssh", rest)) => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (user, host_port) = split_user(authority);
                let (host, port) = match host_port.rsplit_once(':') {
                    Some((host, port)) if !host_port.ends_with(']') => {
                        let port = port
                            .parse()
                            .map_err(|_| format!("`{port}` is not a port number"))?;
                        (host, Some(port))
                    }
                    _ => (host_port, None),
                };
                // `ssh://host/~user/x` means the path `~user/x` there, as in Git.
                let path = if path.starts_with('~') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                };
                Self::ssh(user, host, port, path)
            }
            Some(("file", path)) => Ok(Self::Local(PathBuf::from(path))),
            Some((scheme, _)) => Err(format!("`{scheme}://` is not supported")),
            None => match text.split_once(':') {
                Some((host, path)) if !host.contains('/') => {
                    let (user, host) = split_user(host);
                    Self::ssh(user, host, None, path.to_owned())
                }
                _ => Ok(Self::Local(base.join(text))),
            },
        }
    }

    fn parse_http(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| format!("`{text}` is not a url: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "the url holds credentials: put them into `auth.username` and `auth.passwordFile`".to_owned(),
            );
        }
        let loopback = match url.host_str() {
            Some("localhost" | "[::1]") => true,
            Some(host) => host
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|ip| ip.is_loopback()),
            None => return Err("the url names no host".to_owned()),
        };
        if url.scheme() == "http" && !loopback {
            return Err(
                "plain http would let anybody on the way change the declaration: use https".to_owned(),
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the url has a query or a fragment, which Git does not know".to_owned());
        }
        Ok(Self::Http(url))
    }

    /// These three end up on a command line and in a remote shell: what could be read as an option or a quote there
    /// is refused here.
    fn ssh(user: Option<&str>, host: &str, port: Option<u16>, path: String) -> Result<Self, String> {
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-[]:".contains(c))
        };
        if !plain(host) {
            return Err(format!("`{host}` cannot be the name of a host"));
        }
        if user.is_some_and(|u| !plain(u)) {
            return Err(format!(
                "`{}` cannot be the name of a user",
                user.unwrap_or_default()
            ));
        }
        if path.trim_matches('/').is_empty() {
            return Err("the url names no repository on that host".to_owned());
        }
        if path.starts_with('-') || path.contains(['\'', '"', '\\', '!', '`', '$']) {
            return Err("the path holds a character that a shell would take for its own".to_owned());
        }
        Ok(Self::Ssh {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path,
        })
    }
}

fn split_user(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => write!(f, "{url}"),
            Self::Ssh {
                user,
                host,
                port,
                path,
            } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                write!(f, "{}{path}", if path.starts_with('/') { "" } else { "/" })
            }
            Self::Local(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether a commit is signed. Nobody looks whether the signature is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// It has none.
    Absent,
    /// It has one, which was not verified.
    Present,
}

/// One commit and the files that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The commit.
    pub commit: CommitId,
    /// `Name <mail>`.
    pub author: String,
    /// Who made it a commit of this branch, in the same way.
    pub committer: String,
    /// Whether it is signed.
    pub signature: Signature,
    /// When it was authored.
    pub authored_at: Timestamp,
    /// First line of its message.
    pub subject: String,
    /// Its declaration files, sorted by path.
    pub content: Content,
    /// Git's id of all that lies below the source's path; none if nothing does.
    pub tree: Option<String>,
}

/// What a commit holds below the source's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Files to parse.
    Files(Arc<[SourceFile]>),
    /// The commit cannot be a declaration at all: why, and what to do.
    Unusable(Unusable),
}

/// Why a commit cannot be a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// The source's path is not a directory in this commit.
    NoSuchPath(String),
    /// More files than are read.
    TooMany(usize),
    /// One file, and its size.
    FileTooLarge(String, usize),
    /// All files together.
    TotalTooLarge(usize),
    /// Directories within directories; the path, cut short.
    TooDeep(String),
    /// More names in all directories together than are looked at.
    TooWide(usize),
}

/// Limits of one commit. A declaration of 10,000 splits stays far below them.
pub mod limits {
    /// Files.
    pub const FILES: usize = 20_000;
    /// Bytes of one file.
    pub const FILE_BYTES: usize = 4 << 20;
    /// Bytes of all files.
    pub const TOTAL_BYTES: usize = 64 << 20;
    /// Directories within directories. A commit can nest them as deep as it likes, and name one directory in many places.
    pub const DEPTH: usize = 64;
    /// Names of files and directories that are looked at.
    pub const NAMES: usize = 500_000;
    /// Bytes of one answer of a remote (a pack).
    pub const ANSWER_BYTES: u64 = 2 << 30;
}

/// Why a source could not be looked at. The last good commit stays in force in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitError {
    /// The host or path cannot be reached.
    Unreachable(String),
    /// It was reached and does not want us.
    Denied(String),
    /// What answers there is not a Git repository.
    NotARepository(String),
    /// It has no commit at all.
    Empty,
    /// It has no such branch (any more).
    NoBranch(String),
    /// It took too long.
    Timeout(String),
    /// It answers, but not as Git should; or it is too large.
    Protocol(String),
    /// Our own side: the copy cannot be written, a credential file cannot be read.
    Local(String),
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Denied(why) => write!(f, "access denied: {why}; check `auth` of this source"),
            Self::NotARepository(why) => write!(f, "not a Git repository: {why}"),
            Self::Empty => write!(f, "the repository has no commit yet; push the first one"),
            Self::NoBranch(branch) => write!(
                f,
                "there is no branch `{branch}`: it was deleted, or `branch` of this source is wrong"
            ),
            Self::Timeout(why) => write!(f, "took too long: {why}"),
            Self::Protocol(why) => write!(f, "the answer cannot be used: {why}"),
            Self::Local(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for GitError {}
