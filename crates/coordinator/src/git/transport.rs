//! How bytes reach a remote: https by reqwest and rustls, ssh by the `ssh` program. libgit2 does the protocol.
//!
//! The scheme `weir` is registered with libgit2 once; a fetch runs on one thread, and what that thread reaches is set
//! for the time of the fetch by [`Access::during`]. This file holds the only unsafe code of the workspace.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};

use super::{GitError, Remote, limits};
use crate::config::Auth;

/// The url by which libgit2 finds its way back here.
pub(super) const URL: &str = "weir://source";

const CONNECT: Duration = Duration::from_secs(10);
/// All of one exchange; a first fetch of a large repository over a slow line fits.
const EXCHANGE: Duration = Duration::from_secs(300);

/// One remote and how to get in, with a place for the precise reason of a failure: libgit2 passes on only text.
#[derive(Clone)]
pub(super) struct Access {
    way: Way,
    failure: Arc<Mutex<Option<GitError>>>,
}

#[derive(Clone)]
enum Way {
    Http(Web),
    Ssh(Shell),
}

#[derive(Clone)]
struct Web {
    client: reqwest::blocking::Client,
    /// Base url: a redirect of the first answer moves it, as in Git.
    base: Arc<Mutex<reqwest::Url>>,
    /// As configured: the password is for this host and no other.
    home: reqwest::Url,
    login: Option<(String, String)>,
}

#[derive(Clone)]
struct Shell {
    program: PathBuf,
    args: Vec<String>,
    host: String,
}

thread_local! {
    static CURRENT: RefCell<Option<Access>> = const { RefCell::new(None) };
}

impl Access {
    /// Gets ready to reach a remote; none for a local path, which libgit2 reads by itself.
    pub(super) fn new(remote: &Remote, auth: &Auth) -> Result<Option<Self>, GitError> {
        let way = match remote {
            Remote::Local(_) => return Ok(None),
            Remote::Http(url) => Way::Http(Web::new(url, auth)?),
            Remote::Ssh {
                user,
                host,
                port,
                path,
            } => Way::Ssh(Shell::new(user.as_deref(), host, *port, path, auth)),
        };
        Ok(Some(Self {
            way,
            failure: Arc::default(),
        }))
    }

    /// Runs `work`, in which remotes with [`URL`] reach this access.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> Result<T, git2::Error>) -> Result<T, Failure> {
        register().map_err(Failure::Known)?;
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
        let result = work();
        CURRENT.with(|current| *current.borrow_mut() = None);
        let failure = take(&self.failure);
        result.map_err(|error| failure.map_or(Failure::Libgit2(error), Failure::Known))
    }
}

/// Why an exchange came to nothing.
pub(super) enum Failure {
    /// The transport knows.
    Known(GitError),
    /// libgit2 gave up by itself.
    Libgit2(git2::Error),
}

fn take(slot: &Mutex<Option<GitError>>) -> Option<GitError> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[expect(
    unsafe_code,
    reason = "git2's registration of transports is unsafe; OnceLock synchronizes it"
)]
fn register() -> Result<(), GitError> {
    static REGISTERED: OnceLock<Result<(), String>> = OnceLock::new();
    REGISTERED
        .get_or_init(|| {
            // SAFETY: called once, before any remote of this scheme exists; no other code here registers transports.
            unsafe {
                git2::transport::register("weir", |remote| {
                    let access = CURRENT.with(|current| current.borrow().clone());
                    let access = access.ok_or_else(|| git2::Error::from_str("no source is being read"))?;
                    // Stateless exchanges over http, one conversation over ssh.
                    let stateless = matches!(access.way, Way::Http(_));
                    Transport::smart(remote, stateless, access)
                })
            }
            .map_err(|error| error.message().to_owned())
        })
        .clone()
        .map_err(GitError::Local)
}

impl SmartSubtransport for Access {
    fn action(&self, _url: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let fail = |error: GitError| {
            let text = git2::Error::from_str(&error.to_string());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            text
        };
        match (&self.way, action) {
            (Way::Http(web), Service::UploadPackLs | Service::UploadPack) => Ok(Box::new(Exchange {
                web: web.clone(),
                post: action == Service::UploadPack,
                request: Vec::new(),
                answer: None,
                failure: Arc::clone(&self.failure),
            })),
            (Way::Ssh(shell), Service::UploadPackLs) => shell
                .open(Arc::clone(&self.failure))
                .map(|pipe| Box::new(pipe) as Box<dyn SmartSubtransportStream>)
                .map_err(fail),
            _ => Err(git2::Error::from_str("sources are only read")),
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

impl Web {
    fn new(url: &reqwest::Url, auth: &Auth) -> Result<Self, GitError> {
        let secret = |file: &PathBuf, what: &str| {
            fs::read_to_string(file).map_err(|error| {
                GitError::Local(format!("{what} {} cannot be read: {error}", file.display()))
            })
        };
        let login = match &auth.password_file {
            None => None,
            Some(file) => {
                let password = secret(file, "the password file")?;
                let user = auth.username.clone().unwrap_or_else(|| "git".to_owned());
                Some((user, password.trim_end_matches(['\r', '\n']).to_owned()))
            }
        };
        let mut client = reqwest::blocking::Client::builder()
            .user_agent(concat!(
                "git/2.0 (weir-coordinator ",
                env!("CARGO_PKG_VERSION"),
                ")"
            ))
            .connect_timeout(CONNECT)
            .timeout(EXCHANGE)
            // A redirect to plain http would give the password and the declaration away.
            .https_only(url.scheme() == "https")
            .redirect(reqwest::redirect::Policy::limited(5));
        if let Some(file) = &auth.ca_file {
            let pem = secret(file, "the certificate file")?;
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| {
                GitError::Local(format!("{} holds no certificates: {error}", file.display()))
            })?;
            client = client.tls_certs_only(certificates);
        }
        let client = client
            .build()
            .map_err(|error| GitError::Local(format!("no https client: {}", causes(&error))))?;
        Ok(Self {
            client,
            base: Arc::new(Mutex::new(url.clone())),
            home: url.clone(),
            login,
        })
    }

    fn address(&self, tail: &str) -> Result<reqwest::Url, GitError> {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{}/{tail}", base.as_str().trim_end_matches('/'));
        reqwest::Url::parse(&text).map_err(|error| GitError::Protocol(format!("`{text}`: {error}")))
    }

    fn send(&self, post: bool, request: Vec<u8>) -> Result<reqwest::blocking::Response, GitError> {
        let address = self.address(if post {
            "git-upload-pack"
        } else {
            "info/refs?service=git-upload-pack"
        })?;
        // Where a redirect has led to another host, that host gets no password; HTTP's own redirects lose it likewise.
        let at_home = address.origin() == self.home.origin();
        let (builder, expected) = if post {
            let builder = self
                .client
                .post(address)
                .header("content-type", "application/x-git-upload-pack-request")
                .body(request);
            (builder, "application/x-git-upload-pack-result")
        } else {
            let builder = self.client.get(address);
            (builder, "application/x-git-upload-pack-advertisement")
        };
        let builder = match &self.login {
            Some((user, password)) if at_home => builder.basic_auth(user, Some(password)),
            _ => builder,
        };
        let answer = builder.header("accept", expected).send().map_err(|error| {
            let why = causes(&error);
            if error.is_timeout() {
                GitError::Timeout(why)
            } else {
                GitError::Unreachable(why)
            }
        })?;
        let status = answer.status();
        let host = answer.url().host_str().unwrap_or_default().to_owned();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(GitError::Denied(format!("{host} answers {status}"))),
            404 => {
                return Err(GitError::NotARepository(format!(
                    "{host} answers {status} (many hosts say so too when credentials are missing)"
                )));
            }
            _ => return Err(GitError::Unreachable(format!("{host} answers {status}"))),
        }
        let kind = answer
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind != expected {
            return Err(GitError::NotARepository(format!(
                "{host} answers with `{kind}`, not with `{expected}`"
            )));
        }
        if !post {
            let at = answer.url().as_str();
            if let Some(base) = at.strip_suffix("/info/refs?service=git-upload-pack")
                && let Ok(base) = reqwest::Url::parse(base)
            {
                *self.base.lock().unwrap_or_else(PoisonError::into_inner) = base;
            }
        }
        Ok(answer)
    }
}

/// The whole chain: reqwest's own text alone does not say why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// One http exchange: libgit2 writes the request, then reads the answer; it is sent at the first read.
struct Exchange {
    web: Web,
    post: bool,
    request: Vec<u8>,
    answer: Option<io::Take<reqwest::blocking::Response>>,
    failure: Arc<Mutex<Option<GitError>>>,
}

impl Read for Exchange {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let answer = match &mut self.answer {
            Some(answer) => answer,
            None => {
                let request = std::mem::take(&mut self.request);
                let response = self.web.send(self.post, request).map_err(|error| {
                    let text = io::Error::other(error.to_string());
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    text
                })?;
                self.answer.insert(response.take(limits::ANSWER_BYTES))
            }
        };
        let read = answer.read(into)?;
        if read == 0 && answer.limit() == 0 {
            return Err(note(
                &self.failure,
                GitError::Protocol(format!(
                    "it sent more than {} MiB; point the source at a repository that holds the declaration alone",
                    limits::ANSWER_BYTES >> 20
                )),
            ));
        }
        Ok(read)
    }
}

fn note(slot: &Mutex<Option<GitError>>, error: GitError) -> io::Error {
    let text = io::Error::other(error.to_string());
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    text
}

impl Write for Exchange {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.request.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shell {
    fn new(user: Option<&str>, host: &str, port: Option<u16>, path: &str, auth: &Auth) -> Self {
        let mut args: Vec<String> = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ServerAliveInterval=15",
        ]
        .iter()
        .map(|option| format!("-o{option}"))
        .collect();
        args.push(format!("-oConnectTimeout={}", CONNECT.as_secs()));
        if let Some(key) = &auth.ssh_key_file {
            args.push("-oIdentitiesOnly=yes".to_owned());
            args.push("-i".to_owned());
            args.push(key.display().to_string());
        }
        if let Some(port) = port {
            args.push("-p".to_owned());
            args.push(port.to_string());
        }
        let target = match user {
            Some(user) => format!("{user}@{host}"),
            None => host.to_owned(),
        };
        args.push(target);
        // `Remote::ssh` has refused every path that could leave these quotes.
        args.push(format!("git-upload-pack '{path}'"));
        Self {
            program: auth.ssh_program.clone().unwrap_or_else(|| PathBuf::from("ssh")),
            args,
            host: host.to_owned(),
        }
    }

    fn open(&self, failure: Arc<Mutex<Option<GitError>>>) -> Result<Pipe, GitError> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                GitError::Local(format!(
                    "the program {} cannot be run: {error}",
                    self.program.display()
                ))
            })?;
        let (Some(to), Some(from), Some(mut words)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(GitError::Local("ssh was started without pipes".to_owned()));
        };
        let said = thread::spawn(move || {
            let mut text = Vec::new();
            // What ssh says is short; whatever more there is must still be drained, or it would block.
            let _ = words.by_ref().take(4096).read_to_end(&mut text);
            let _ = io::copy(&mut words, &mut io::sink());
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let child = Arc::new(Mutex::new(child));
        let (done, expiry) = mpsc::channel::<()>();
        let watched = Arc::clone(&child);
        let late = Arc::clone(&failure);
        thread::spawn(move || {
            if expiry.recv_timeout(EXCHANGE) == Err(RecvTimeoutError::Timeout) {
                note(
                    &late,
                    GitError::Timeout(format!("ssh was not done within {EXCHANGE:?}")),
                );
                let _ = watched.lock().unwrap_or_else(PoisonError::into_inner).kill();
            }
        });
        Ok(Pipe {
            child,
            to: Some(to),
            from: from.take(limits::ANSWER_BYTES),
            said: Some(said),
            host: self.host.clone(),
            failure,
            _done: done,
        })
    }
}

/// One conversation with `git-upload-pack` through `ssh`.
struct Pipe {
    child: Arc<Mutex<Child>>,
    to: Option<ChildStdin>,
    from: io::Take<ChildStdout>,
    said: Option<thread::JoinHandle<String>>,
    host: String,
    failure: Arc<Mutex<Option<GitError>>>,
    /// Dropped with the pipe: ends the watch over the time.
    _done: mpsc::Sender<()>,
}

impl Pipe {
    /// ssh went away while libgit2 waited for it: its last words say why.
    fn explain(&mut self) -> io::Error {
        drop(self.to.take());
        let words = self.said.take().and_then(|t| t.join().ok()).unwrap_or_default();
        let last = words
            .lines()
            .last()
            .unwrap_or("ssh ended without a word")
            .to_owned();
        let lower = words.to_ascii_lowercase();
        let has = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
        let error = if let Some(known) = take(&self.failure) {
            known
        } else if has(&[
            "permission denied",
            "host key verification failed",
            "no supported authentication",
        ]) {
            GitError::Denied(format!("{}: {last}", self.host))
        } else if has(&[
            "does not appear to be a git repository",
            "not found",
            "no such file",
        ]) {
            GitError::NotARepository(format!("{}: {last}", self.host))
        } else {
            GitError::Unreachable(format!("{}: {last}", self.host))
        };
        note(&self.failure, error)
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.from.read(into) {
            // libgit2 reads no further than the end of the pack: an end here is always too early.
            Ok(0) if !into.is_empty() => Err(self.explain()),
            other => other,
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self.to.as_mut().map(|to| to.write(from)) {
            Some(Ok(written)) => Ok(written),
            _ => Err(self.explain()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.to.take());
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}
