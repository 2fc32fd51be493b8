//! Who we are to an API server: a token, a file that holds one, or a program that makes one (`aws eks get-token`).
//!
//! A program gets a time limit, runs once at a time, and its failure is remembered for some seconds: four watches that
//! need a token do not start four programs, and one that hangs costs its time limit and no more. A token that is refused is
//! made anew, and not more often than twice a minute: who has no access gets none by asking more often.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::config::ExecConfig;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use crate::{DriverError, Fault};

/// How long a credential plugin may take. `aws eks get-token` takes about 1 s, and asks its own cloud.
const PLUGIN: Duration = Duration::from_secs(10);
/// For so long a failure is not tried again.
const SORE: Duration = Duration::from_secs(5);
/// For so long after a refused token was forgotten, the one that came in its place is used, refused or not.
const OBSTINATE: Duration = Duration::from_secs(30);
/// A token is made anew so long before its end.
const EARLY: SignedDuration = SignedDuration::from_secs(60);
/// The longest that a token of a plugin that names no end is used.
const UNDATED: Duration = Duration::from_secs(600);
/// The longest token that is taken; EKS's have about 2 KB.
const LONGEST: usize = 64 << 10;

/// Who we are.
#[derive(Debug)]
pub(crate) enum Credential {
    /// By client certificate, or to a server that asks nobody.
    Certificate,
    Token(String),
    /// Read anew for each call: Kubernetes replaces it every hour.
    File(PathBuf),
    Plugin(Box<Plugin>),
}

impl Credential {
    /// The bearer token of the moment.
    pub(crate) async fn token(&self) -> Result<Option<String>, DriverError> {
        match self {
            Self::Certificate => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::File(file) => {
                let text = tokio::fs::read_to_string(file).await.map_err(|error| {
                    DriverError::new(
                        format!("the token file {}", file.display()),
                        format!("cannot be read: {error}"),
                        Fault::Setup,
                        "is the ServiceAccount's token mounted, and readable for the agent's user?",
                    )
                })?;
                Ok(Some(text.trim().to_owned()))
            }
            Self::Plugin(plugin) => plugin.token().await.map(Some),
        }
    }

    /// The token was not accepted: the next call gets a new one, if there is any to be had.
    pub(crate) async fn refused(&self) {
        if let Self::Plugin(plugin) = self {
            plugin.forget().await;
        }
    }
}

/// A credential plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    command: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    without: Vec<String>,
    info: String,
    limit: Duration,
    last: tokio::sync::Mutex<Last>,
    /// When a refused token was last forgotten.
    forgotten: std::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Last {
    Nothing,
    Token { token: String, until: Timestamp },
    Failed { at: Instant, error: DriverError },
}

impl Plugin {
    /// Checks what a kubeconfig says of it.
    pub(crate) fn new(exec: &ExecConfig, base: Option<&Path>) -> Result<Self, String> {
        let command = exec
            .command
            .as_deref()
            .filter(|command| !command.is_empty())
            .ok_or("its credential plugin (exec) has no command")?;
        let version = exec
            .api_version
            .as_deref()
            .unwrap_or("client.authentication.k8s.io/v1");
        // As kubectl does: what has a slash is relative to the kubeconfig.
        let command = match base {
            Some(base) if command.contains('/') => base.join(command),
            _ => PathBuf::from(command),
        };
        let environment = exec
            .env
            .iter()
            .flatten()
            .filter_map(|pair| Some((pair.get("name")?.clone(), pair.get("value")?.clone())))
            .collect();
        let cluster = serde_json::to_value(&exec.cluster).unwrap_or(Value::Null);
        let mut spec = json!({"interactive": false});
        if !cluster.is_null() {
            spec["cluster"] = cluster;
        }
        Ok(Self {
            command,
            arguments: exec.args.clone().unwrap_or_default(),
            environment,
            without: exec.drop_env.clone().unwrap_or_default(),
            info: json!({"apiVersion": version, "kind": "ExecCredential", "spec": spec}).to_string(),
            limit: PLUGIN,
            last: tokio::sync::Mutex::new(Last::Nothing),
            forgotten: std::sync::Mutex::default(),
        })
    }

    async fn forget(&self) {
        let mut last = self.last.lock().await;
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = forgotten.is_some_and(|at| at.elapsed() < OBSTINATE);
        if !lately && matches!(*last, Last::Token { .. }) {
            *last = Last::Nothing;
            *forgotten = Some(Instant::now());
        }
    }

    async fn token(&self) -> Result<String, DriverError> {
        let mut last = self.last.lock().await;
        match &*last {
            Last::Token { token, until } if Timestamp::now() < *until => return Ok(token.clone()),
            Last::Failed { at, error } if at.elapsed() < SORE => return Err(error.clone()),
            _ => {}
        }
        match self.run().await {
            Ok((token, until)) => {
                *last = Last::Token {
                    token: token.clone(),
                    until,
                };
                Ok(token)
            }
            Err(error) => {
                *last = Last::Failed {
                    at: Instant::now(),
                    error: error.clone(),
                };
                Err(error)
            }
        }
    }

    fn fault(&self, fault: Fault, why: String, help: &str) -> DriverError {
        DriverError::new(
            format!("the credential plugin {}", self.command.display()),
            why,
            fault,
            help.to_owned(),
        )
    }

    async fn run(&self) -> Result<(String, Timestamp), DriverError> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in &self.without {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(|error| {
            self.fault(
                Fault::Setup,
                format!("cannot be started: {error}"),
                "is it installed for the agent's user, and on its PATH? An agent in the cluster needs none",
            )
        })?;
        let output = tokio::time::timeout(self.limit, child.wait_with_output())
            .await
            .map_err(|_| {
                self.fault(
                    Fault::Away,
                    format!("did not end within {} s and was stopped", self.limit.as_secs()),
                    "run it by hand as the agent's user: does it wait for input, or for a cloud that it cannot reach? \
                     It is tried again; traffic stays as it is",
                )
            })?
            .map_err(|error| self.fault(Fault::Unknown, error.to_string(), "the next activation tries again"))?;
        if !output.status.success() {
            let said: String = String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(300)
                .collect();
            return Err(self.fault(
                Fault::Setup,
                format!("failed ({}): {said}", output.status),
                "run it by hand as the agent's user; most often its own credentials have ended, or it may not do this",
            ));
        }
        self.read(&output.stdout, Timestamp::now())
    }

    /// Reads an ExecCredential.
    fn read(&self, output: &[u8], now: Timestamp) -> Result<(String, Timestamp), DriverError> {
        let strange = |why: &str| {
            self.fault(
                Fault::Setup,
                why.to_owned(),
                "a credential plugin writes an ExecCredential with a token to its standard output",
            )
        };
        let answer: Value = serde_json::from_slice(output).map_err(|_| strange("wrote no JSON"))?;
        let status = answer
            .get("status")
            .ok_or_else(|| strange("wrote no ExecCredential with a status"))?;
        let token = status.get("token").and_then(Value::as_str).unwrap_or_default();
        if token.is_empty() {
            return Err(strange(if status.get("clientCertificateData").is_some() {
                "gives a client certificate and no token, which Weir does not take from a plugin"
            } else {
                "gave no token"
            }));
        }
        if token.len() > LONGEST || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(strange("gave something that is no token"));
        }
        let undated = now
            .checked_add(SignedDuration::try_from(UNDATED).unwrap_or_default())
            .unwrap_or(now);
        let until = match status.get("expirationTimestamp").and_then(Value::as_str) {
            Some(text) => {
                let end: Timestamp = text
                    .parse()
                    .map_err(|_| strange("gave a token with an end that is no time"))?;
                end.checked_sub(EARLY).unwrap_or(end)
            }
            None => undated,
        };
        Ok((token.to_owned(), until))
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn plugin(script: &str, limit: Duration) -> (tempfile::TempDir, Plugin) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin");
        let text = dir.path().join("text");
        std::fs::write(
            &text,
            format!("#!/bin/sh\necho run >> {}/runs\n{script}\n", dir.path().display()),
        )
        .unwrap();
        // Another process writes what is run: whatever this one starts in the meantime would have it open for writing as
        // well, and nobody can run it then.
        let made = std::process::Command::new("install")
            .args(["-m", "700"])
            .args([&text, &path])
            .status();
        assert!(made.unwrap().success());
        let exec = ExecConfig {
            command: Some("./plugin".to_owned()),
            ..serde_json::from_value(json!({"interactiveMode": "Never"})).unwrap()
        };
        let mut plugin = Plugin::new(&exec, Some(dir.path())).unwrap();
        plugin.limit = limit;
        (dir, plugin)
    }

    fn runs(dir: &tempfile::TempDir) -> usize {
        std::fs::read_to_string(dir.path().join("runs")).map_or(0, |text| text.lines().count())
    }

    #[tokio::test]
    async fn a_token_is_made_once_and_anew_when_it_was_refused() {
        let (dir, plugin) = plugin(
            r#"echo '{"kind":"ExecCredential","status":{"token":"k8s-aws-v1.abc","expirationTimestamp":"2199-01-01T00:00:00Z"}}'"#,
            PLUGIN,
        );
        let credential = Credential::Plugin(Box::new(plugin));
        for _ in 0..3 {
            assert_eq!(
                credential.token().await.unwrap().as_deref(),
                Some("k8s-aws-v1.abc")
            );
        }
        assert_eq!(runs(&dir), 1);
        credential.refused().await;
        credential.token().await.unwrap();
        assert_eq!(runs(&dir), 2);
        // Refused for ever: four watches and every look would start a program each.
        for _ in 0..20 {
            credential.refused().await;
            credential.token().await.unwrap();
        }
        assert_eq!(
            runs(&dir),
            2,
            "the new one is no better, and is not made over and over"
        );
        tokio::time::pause();
        tokio::time::advance(OBSTINATE + Duration::from_secs(1)).await;
        tokio::time::resume();
        credential.refused().await;
        credential.token().await.unwrap();
        assert_eq!(runs(&dir), 3);
    }

    #[tokio::test]
    async fn one_that_hangs_is_stopped_and_not_started_again_at_once() {
        let (dir, plugin) = plugin("exec sleep 600", Duration::from_secs(2));
        let began = Instant::now();
        let all = futures::future::join_all((0..4).map(|_| plugin.token())).await;
        assert!(began.elapsed() < Duration::from_secs(60));
        for answer in all {
            let error = answer.unwrap_err();
            assert!(error.why.contains("did not end within"), "{error}");
            assert!(error.fault.passes());
        }
        assert_eq!(runs(&dir), 1, "its failure is remembered");
    }

    #[tokio::test]
    async fn one_that_fails_or_talks_nonsense_is_told_as_such() {
        for (script, said) in [
            (
                "echo 'Unable to locate credentials' >&2; exit 255",
                "Unable to locate credentials",
            ),
            ("echo hello", "wrote no JSON"),
            ("echo '{}'", "wrote no ExecCredential"),
            (r#"echo '{"status":{}}'"#, "gave no token"),
            (
                r#"echo '{"status":{"clientCertificateData":"x"}}'"#,
                "client certificate",
            ),
            (r#"echo '{"status":{"token":"a b"}}'"#, "no token"),
            (
                r#"echo '{"status":{"token":"a","expirationTimestamp":"soon"}}'"#,
                "no time",
            ),
        ] {
            let (_dir, plugin) = plugin(script, PLUGIN);
            let error = plugin.token().await.unwrap_err();
            assert!(error.why.contains(said), "{script}: {error}");
            assert_eq!(error.fault, Fault::Setup);
        }
        let (dir, plugin) = plugin("", PLUGIN);
        std::fs::remove_file(dir.path().join("plugin")).unwrap();
        assert!(
            plugin
                .token()
                .await
                .unwrap_err()
                .why
                .contains("cannot be started")
        );
    }
}
