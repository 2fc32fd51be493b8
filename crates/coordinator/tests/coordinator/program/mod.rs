//! The program itself, started on a free port below a temporary directory, and killed when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-coordinator");
const PATIENCE: Duration = Duration::from_secs(20);

/// The weights that the zones of a split were told for its default route, which are the same for both.
pub(crate) fn told(split: &Value) -> Value {
    assert_eq!(split["zones"][0]["told"], split["zones"][1]["told"], "{split:#}");
    split["zones"][0]["told"]["default"].clone()
}

pub(crate) fn phase(split: &Value) -> &str {
    split["transition"]["phase"].as_str().unwrap_or("none")
}

pub(crate) fn why(split: &Value) -> &str {
    split["reason"].as_str().unwrap_or_default()
}

/// A running coordinator.
pub(crate) struct Coordinator {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    log: PathBuf,
}

/// Writes a configuration with one source and returns its path.
pub(crate) fn configure(dir: &Path, source: &str, more: &str) -> PathBuf {
    let file = dir.join("coordinator.yaml");
    let text = format!(
        "federation: shop\nlisten: 127.0.0.1:0\ndata: data\nsources:\n  - name: main\n    {}\n{more}",
        source.replace('\n', "\n    ")
    );
    fs::write(&file, text).unwrap();
    file
}

/// Runs a command that has to end by itself.
/// A script that can be run. Another process writes it: whatever this one starts in the meantime would have it open for writing
/// as well, and nobody can run it then.
pub(crate) fn script(file: &Path, text: &str) {
    let text_file = file.with_extension("text");
    fs::write(&text_file, text).unwrap();
    let made = Command::new("install")
        .args(["-m", "755"])
        .args([&text_file, file])
        .status();
    assert!(made.unwrap().success());
}

pub(crate) fn run(args: &[&str]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().to_string();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err() {
            Command::new("kill").args(["-s", "KILL", &id]).status().unwrap();
        }
    });
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    watch.join().unwrap();
    output
}

/// What a command that must succeed printed.
pub(crate) fn printed(args: &[&str]) -> String {
    let output = run(args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Coordinator {
    /// Starts and waits until it listens.
    pub(crate) async fn start(config: &Path) -> Self {
        weir_link::tls::install_provider();
        let data = config.parent().unwrap().join("data");
        let listen = data.join("listen");
        // After a kill the old file is still there.
        let _ = fs::remove_file(&listen);
        let log = config.parent().unwrap().join("log");
        let stderr = fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let began = Instant::now();
        let address = loop {
            match fs::read_to_string(&listen) {
                Ok(address) => break address.trim().to_owned(),
                Err(_) => {
                    let ended = child.try_wait().unwrap();
                    let said = fs::read_to_string(&log).unwrap();
                    assert!(ended.is_none() && began.elapsed() < PATIENCE, "{ended:?}\n{said}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let pem = fs::read(data.join("ca/ca.pem")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
            .build()
            .unwrap();
        Self {
            child,
            url: format!("https://{address}"),
            client,
            log,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.get_as(path, None).await
    }

    pub(crate) async fn get_as(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", self.said()));
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.url)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (status, value) = self.get(path).await;
            if wanted(status, &value) {
                return value;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{path} stays {status} {value:#}\n{}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; how long it took, and whether it was a success.
    pub(crate) async fn ended(&mut self) -> (Duration, bool) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (began.elapsed(), status.success());
            }
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
