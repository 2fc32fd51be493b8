//! The coordinator's configuration: one YAML file, checked whole before anything starts.
//!
//! Whoever holds a [`Config`] may rely on it: names are names, addresses parse, periods are within their limits, paths
//! are absolute or relative to the working directory (those in the file are relative to the file). Changed together with
//! `docs/guide`.

mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use weir_model::{DnsLabel, FederationName, SourceName};

use crate::git::Remote;
use values::{Address, MOST, Period};
pub use values::{HostName, period};

/// Everything that `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Must equal the declaration's `Federation`.
    pub federation: FederationName,
    /// One port for agents (gRPC) and people (HTTP). Port 0 takes a free one.
    pub listen: SocketAddr,
    /// DNS names and addresses in the server certificate.
    pub names: Vec<HostName>,
    /// Directory of the ledger, the certificate authority and the bare copies of Git.
    pub data: PathBuf,
    /// Where declarations come from; at least one, names differ.
    pub sources: Vec<Source>,
    /// A zone that was not heard from for so long is shown as stale.
    pub stale: Duration,
    /// Life of an agent's certificate.
    pub certificate_life: Duration,
    /// How long history is kept: events, decisions, proofs, and plans that nobody runs.
    pub history: Duration,
    /// Whether `GET /v1/*` works without a token.
    pub anonymous_read: bool,
}

/// One Git source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name in status, provenance and `data/git/<name>`.
    pub name: SourceName,
    /// Where it is.
    pub remote: Remote,
    /// Branch that is followed.
    pub branch: String,
    /// Only files below it are read; empty for the whole repository.
    pub path: String,
    /// How often the remote is asked.
    pub poll: Duration,
    /// Who may say that there is something new.
    pub webhook: Option<Webhook>,
    /// How to prove who we are.
    pub auth: Auth,
}

/// What a host's webhook looks like, and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Whose.
    pub kind: WebhookKind,
    /// File with the shared secret; read at each call, so that it may change.
    pub secret_file: PathBuf,
}

/// Whose webhooks are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookKind {
    /// `X-Hub-Signature-256`.
    Github,
    /// `X-Gitlab-Token`.
    Gitlab,
    /// `X-Gitea-Signature`.
    Gitea,
}

/// Credentials of a source; all optional. Files are read at each look, so that they may change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Auth {
    /// User of HTTP basic authentication; default `git`.
    pub username: Option<String>,
    /// Password or access token.
    pub password_file: Option<PathBuf>,
    /// Private key for ssh.
    pub ssh_key_file: Option<PathBuf>,
    /// The `ssh` program; default `ssh` from the PATH.
    pub ssh_program: Option<PathBuf>,
    /// Certificates (PEM) to trust for https, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column from 1; none if the file could not be read at all.
    pub at: Option<(u64, u64)>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Why there is no [`Config`]: every fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            writeln!(f, "error: {}", fault.message)?;
            match fault.at {
                Some((line, column)) => writeln!(f, " --> {}:{line}:{column}", self.file.display())?,
                None => writeln!(f, " --> {}", self.file.display())?,
            }
            write!(f, "  help: {}", fault.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawConfig {
    federation: FederationName,
    listen: Address,
    #[serde(default)]
    names: Vec<HostName>,
    data: Spanned<PathBuf>,
    sources: Spanned<Vec<RawSource>>,
    stale: Option<Spanned<Period>>,
    certificate_life: Option<Spanned<Period>>,
    history: Option<Spanned<Period>>,
    #[serde(default)]
    api: RawApi,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawApi {
    #[serde(default)]
    anonymous_read: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSource {
    name: Spanned<DnsLabel>,
    url: Spanned<String>,
    branch: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    poll: Option<Spanned<Period>>,
    webhook: Option<RawWebhook>,
    auth: Option<Spanned<Auth>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawWebhook {
    kind: WebhookKind,
    secret_file: PathBuf,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            faults: vec![Fault {
                at: None,
                message: format!("the configuration cannot be read: {error}"),
                help: "give the path of a readable YAML file with --config".to_owned(),
            }],
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|faults| ConfigError {
            file: file.to_owned(),
            faults,
        })
    }

    /// Checks a configuration; relative paths in it are relative to `base`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<Fault>> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let raw: RawConfig = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            vec![Fault {
                at: error.location().map(|at| (at.line(), at.column())),
                message: bare_message(&error),
                help: "docs/guide names every key; `weir-coordinator check-config` checks a file".to_owned(),
            }]
        })?;
        let mut check = Check {
            base,
            faults: Vec::new(),
        };
        let config = check.config(raw);
        check.faults.sort_by_key(|fault| fault.at);
        if check.faults.is_empty() {
            Ok(config)
        } else {
            Err(check.faults)
        }
    }

    /// The ledger's file.
    pub fn ledger_file(&self) -> PathBuf {
        self.data.join("ledger.sqlite")
    }
}

/// The parser's words without the place, which [`ConfigError`] shows by itself.
fn bare_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or("not valid YAML");
    match first.find(" at line ") {
        Some(end) => first[..end].to_owned(),
        None => first.to_owned(),
    }
}

struct Check<'a> {
    base: &'a Path,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, at: Location, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault {
            at: Some((at.line(), at.column())),
            message: message.into(),
            help: help.into(),
        });
    }

    fn within(
        &mut self,
        key: &str,
        value: Option<Spanned<Period>>,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let Some(value) = value else { return default };
        let Period(given) = value.value;
        if given < least {
            self.fault(
                value.referenced,
                format!("`{key}` is {given:?}, too short to be kept"),
                format!("give at least {least:?}"),
            );
        }
        if given > MOST {
            self.fault(
                value.referenced,
                format!(
                    "`{key}` is {} days, longer than can be kept",
                    given.as_secs() / 86_400
                ),
                format!("give at most {} days", MOST.as_secs() / 86_400),
            );
        }
        given
    }

    fn config(&mut self, raw: RawConfig) -> Config {
        if raw.data.value.as_os_str().is_empty() {
            self.fault(
                raw.data.referenced,
                "`data` is empty",
                "name the directory that holds the coordinator's state",
            );
        }
        if raw.sources.value.is_empty() {
            self.fault(
                raw.sources.referenced,
                "`sources` is empty",
                "name at least one Git repository that holds declarations",
            );
        }
        let mut sources: Vec<Source> = Vec::new();
        for source in raw.sources.value {
            let at = source.name.referenced;
            let source = self.source(source);
            if sources.iter().any(|s| s.name == source.name) {
                self.fault(
                    at,
                    format!("two sources are named `{}`", source.name),
                    "give each source its own name: status, provenance and webhooks use it",
                );
            }
            sources.push(source);
        }
        let names = if raw.names.is_empty() {
            vec![
                HostName::Dns("localhost".to_owned()),
                HostName::Ip(IpAddr::from([127, 0, 0, 1])),
            ]
        } else {
            raw.names
        };
        Config {
            federation: raw.federation,
            listen: raw.listen.0,
            names,
            data: self.base.join(raw.data.value),
            sources,
            stale: self.within(
                "stale",
                raw.stale,
                Duration::from_secs(15),
                Duration::from_secs(1),
            ),
            certificate_life: self.within(
                "certificateLife",
                raw.certificate_life,
                Duration::from_secs(86_400),
                Duration::from_secs(10),
            ),
            history: self.within(
                "history",
                raw.history,
                Duration::from_secs(90 * 86_400),
                Duration::from_secs(3_600),
            ),
            anonymous_read: raw.api.anonymous_read,
        }
    }

    fn source(&mut self, raw: RawSource) -> Source {
        let remote = match Remote::parse(&raw.url.value, self.base) {
            Ok(remote) => Some(remote),
            Err(wrong) => {
                self.fault(
                    raw.url.referenced,
                    wrong,
                    "give https://host/path, ssh://user@host/path, user@host:path or the path of a local repository",
                );
                None
            }
        };
        let branch = match raw.branch {
            None => "main".to_owned(),
            Some(branch) => {
                if !git2::Reference::is_valid_name(&format!("refs/heads/{}", branch.value)) {
                    self.fault(
                        branch.referenced,
                        format!("`{}` cannot be the name of a branch", branch.value),
                        "give the branch alone, such as main, without refs/heads/",
                    );
                }
                branch.value
            }
        };
        let path = raw.path.map_or_else(String::new, |path| self.inner_path(&path));
        let auth = raw
            .auth
            .map_or_else(Auth::default, |auth| self.auth(auth, remote.as_ref()));
        Source {
            name: SourceName(raw.name.value.as_str().to_owned()),
            // Whoever sees this placeholder sees the fault as well, and no Config.
            remote: remote.unwrap_or_else(|| Remote::Local(PathBuf::new())),
            branch,
            path,
            poll: self.within(
                "poll",
                raw.poll,
                Duration::from_secs(60),
                Duration::from_millis(100),
            ),
            webhook: raw.webhook.map(|w| Webhook {
                kind: w.kind,
                secret_file: self.base.join(w.secret_file),
            }),
            auth,
        }
    }

    /// `.` and `a/./b/` as people write them, to `` and `a/b`.
    fn inner_path(&mut self, path: &Spanned<String>) -> String {
        let parts: Vec<&str> = path
            .value
            .split('/')
            .filter(|p| !p.is_empty() && *p != ".")
            .collect();
        if path.value.starts_with('/') || parts.contains(&"..") {
            self.fault(
                path.referenced,
                format!("`{}` leads out of the repository", path.value),
                "give a directory inside the repository, such as traffic, or leave `path` out for all of it",
            );
        }
        parts.join("/")
    }

    fn auth(&mut self, auth: Spanned<Auth>, remote: Option<&Remote>) -> Auth {
        let at = auth.referenced;
        let Auth {
            username,
            password_file,
            ssh_key_file,
            ssh_program,
            ca_file,
        } = auth.value;
        // Where the url itself is wrong, nothing is said about what fits it.
        let web = matches!(remote, None | Some(Remote::Http(_)));
        let ssh = matches!(remote, None | Some(Remote::Ssh { .. }));
        if !web && (username.is_some() || password_file.is_some() || ca_file.is_some()) {
            self.fault(
                at,
                "`username`, `passwordFile` and `caFile` are for https only",
                "leave them out, or use an https:// url",
            );
        }
        if !ssh && (ssh_key_file.is_some() || ssh_program.is_some()) {
            self.fault(
                at,
                "`sshKeyFile` and `sshProgram` are for ssh only",
                "leave them out, or use an ssh:// url",
            );
        }
        if username.is_some() && password_file.is_none() {
            self.fault(
                at,
                "`username` stands without `passwordFile`",
                "name the file that holds the password or token",
            );
        }
        let inside = |path: Option<PathBuf>| path.map(|p| self.base.join(p));
        Auth {
            username,
            password_file: inside(password_file),
            ssh_key_file: inside(ssh_key_file),
            // A bare program name is looked up in the PATH.
            ssh_program: match ssh_program {
                Some(program) if program.components().count() > 1 => Some(self.base.join(program)),
                other => other,
            },
            ca_file: inside(ca_file),
        }
    }
}
