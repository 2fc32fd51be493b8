//! A coordinator made of canned answers: over HTTP on loopback, or over TLS with an authority of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// The clock of every answer.
const DATE: &str = "Tue, 24 Nov 2026 12:00:00 GMT";
pub(crate) const TOKEN: &str = "weir-v-0123abcd-abcdefghijklmnopqrstuvwxyz012345";

/// One answer.
#[derive(Clone)]
pub(crate) struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self {
            status: "200 OK",
            kind: "application/json",
            body: value.to_string(),
        }
    }

    pub(crate) fn problem(status: &'static str, message: &str, help: &str) -> Self {
        Self {
            status,
            kind: "application/problem+json",
            body: serde_json::json!({"title": "x", "status": 0, "message": message, "help": help})
                .to_string(),
        }
    }

    pub(crate) fn page() -> Self {
        Self {
            status: "200 OK",
            kind: "text/html",
            body: "<html>welcome".to_owned(),
        }
    }

    /// Some events, and then the end of the stream.
    pub(crate) fn events(events: &[Value]) -> Self {
        let body = events
            .iter()
            .map(|event| format!("id: {}\nevent: {}\ndata: {event}\n\n", event["id"], event["kind"]))
            .collect();
        Self {
            status: "200 OK",
            kind: "text/event-stream",
            body,
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    pub(crate) after: Option<String>,
}

#[derive(Default)]
struct Said {
    /// By path without query: answers in turn; the last one stays.
    answers: BTreeMap<String, Vec<Answer>>,
    asked: Vec<Asked>,
}

pub(crate) struct Coordinator {
    pub(crate) url: String,
    said: Arc<Mutex<Said>>,
    pub(crate) directory: tempfile::TempDir,
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        Self::listening("http", None)
    }

    /// Begins to listen where nobody did before, with all that it will answer.
    pub(crate) fn later(address: &str, path: &str, answer: Answer) -> Self {
        let said = Said {
            answers: BTreeMap::from([(path.to_owned(), vec![answer])]),
            ..Said::default()
        };
        Self::on(address, "http", None, said)
    }

    /// With a certificate for these names, by an authority whose certificate is `ca.pem` in the directory.
    pub(crate) fn with_tls(names: &[&str]) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(weir_link::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let made = Self::listening("https", Some(Arc::new(config)));
        made.write("ca.pem", &pem);
        made
    }

    fn listening(scheme: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::on("127.0.0.1:0", scheme, tls, Said::default())
    }

    fn on(address: &str, scheme: &str, tls: Option<Arc<rustls::ServerConfig>>, said: Said) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(said));
        let shared = Arc::clone(&said);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, said, tls) = (stream.unwrap(), Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    None => answer(stream, &said),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        answer(rustls::StreamOwned::new(connection, stream), &said);
                    }
                });
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let made = Self { url, said, directory };
        made.write("token", &format!("{TOKEN}\n"));
        made
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Answers a path with these in turn; with the last one from then on.
    #[must_use]
    pub(crate) fn at(self, path: &str, answers: &[Answer]) -> Self {
        self.said
            .lock()
            .unwrap()
            .answers
            .insert(path.to_owned(), answers.to_vec());
        self
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.said.lock().unwrap().asked.clone()
    }

    /// Runs `weir` with this coordinator's address and token.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Ran {
        self.run(
            arguments,
            &[("WEIR_COORDINATOR", &self.url), ("WEIR_TOKEN_FILE", "token")],
        )
    }

    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.directory.path()).args(arguments);
        for name in [
            "NO_COLOR",
            "CLICOLOR",
            "CLICOLOR_FORCE",
            "COLUMNS",
            "WEIR_COORDINATOR",
            "WEIR_TOKEN",
            "WEIR_TOKEN_FILE",
            "WEIR_CA",
        ] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command
    }

    /// Runs `weir` with these variables alone.
    pub(crate) fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let output = self.command(arguments, variables).output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains('\x1b'), "no escapes on a pipe: {text}");
            // The port is as long in the transcript as anywhere: 80 columns stay 80 columns.
            let port = self.url.rsplit(':').next().unwrap();
            text.replace(port, &"0".repeat(port.len()))
        };
        let ran = Ran {
            asked: arguments.join(" "),
            exit: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        if !arguments.contains(&"--json") {
            for line in ran.stdout.lines().chain(ran.stderr.lines()) {
                assert!(
                    line.chars().count() <= 80,
                    "{} columns: {line}",
                    line.chars().count()
                );
            }
        }
        ran
    }
}

fn answer(stream: impl Read + Write, said: &Mutex<Said>) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        // Whoever does not trust us hangs up here.
        let Ok(read) = stream.read_line(&mut line) else {
            return;
        };
        if read == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        lines.iter().find_map(of)
    };
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut said = said.lock().unwrap();
        said.asked.push(Asked {
            path: path.clone(),
            token: header("authorization"),
            after: header("last-event-id"),
        });
        let bare = path.split('?').next().unwrap();
        match said.answers.get_mut(bare) {
            None => Answer::problem(
                "404 Not Found",
                &format!("there is nothing at {bare}"),
                "see the paths",
            ),
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
        }
    };
    let Answer { status, kind, body } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\ndate: {DATE}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let stream = stream.get_mut();
    // A reader that went away is no concern of the coordinator.
    let _gone = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .and_then(|()| stream.flush());
}

/// What a run of the program left behind.
pub(crate) struct Ran {
    asked: String,
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn transcript(&self) -> String {
        let error = match self.stderr.is_empty() {
            true => String::new(),
            false => format!("--- standard error\n{}", self.stderr),
        };
        format!(
            "$ weir {}\n{}{error}--- exit {}\n",
            self.asked, self.stdout, self.exit
        )
    }
}
