//! Processes of the sandbox: each in a process group of its own, its output in a file below `logs/`, none left behind.
//!
//! A [`Process`] takes its group with it when it is dropped (also by a panic). Should the sandbox itself be killed with
//! `kill -9`, the *keeper* does it: a small process that is told every group and that kills them all when its standard
//! input closes.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// For people and for the log's file name: `weir-agent-fra`.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, OsString)>,
    /// Where it logs; appended to.
    pub log: PathBuf,
}

/// Who a process runs as, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its own.
    pub user: u32,
    /// Its group's.
    pub group: u32,
}

/// Remembers every group so that none outlives the sandbox.
#[derive(Debug, Clone)]
pub struct Keeper {
    pipe: Option<Arc<Mutex<std::process::Child>>>,
}

impl Keeper {
    /// Starts the keeper: `weir-sandbox keeper`.
    ///
    /// # Errors
    /// If the program cannot be found or started.
    pub fn start() -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let program = find_program("weir-sandbox")?;
        let child = std::process::Command::new(&program)
            .arg("keeper")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {} keeper", program.display()))?;
        Ok(Self {
            pipe: Some(Arc::new(Mutex::new(child))),
        })
    }

    /// No keeper: processes go when their [`Process`] is dropped, and only then.
    pub fn none() -> Self {
        Self { pipe: None }
    }

    fn tell(&self, sign: char, group: u32) {
        let Some(pipe) = &self.pipe else { return };
        let mut child = pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stdin) = child.stdin.as_mut() {
            // A keeper that is gone cannot be told; the groups still go with their owners.
            let _ = writeln!(stdin, "{sign}{group}");
        }
    }

    /// Starts a process in a group of its own.
    ///
    /// # Errors
    /// If its log cannot be opened or it cannot be started.
    pub fn spawn(&self, start: Start) -> anyhow::Result<Process> {
        self.spawn_as(start, None)
    }

    /// The same as another user, which only root may do; in a directory that everybody may enter.
    ///
    /// # Errors
    /// If its log cannot be opened or it cannot be started.
    pub fn spawn_as(&self, start: Start, user: Option<User>) -> anyhow::Result<Process> {
        if let Some(parent) = start.log.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&start.log)
            .with_context(|| format!("cannot open the log {}", start.log.display()))?;
        let again = log.try_clone()?;
        let mut command = Command::new(&start.program);
        if let Some(user) = user {
            command.uid(user.user).gid(user.group).current_dir("/");
        }
        let child = command
            .args(&start.args)
            .envs(start.env.iter().map(|(k, v)| (k.as_str(), v)))
            .stdin(Stdio::null())
            .stdout(again)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} ({})", start.name, start.program.display()))?;
        let group = child.id().context("a process without an id")?;
        self.tell('+', group);
        Ok(Process {
            name: start.name,
            log: start.log,
            group,
            child,
            ended: None,
            keeper: self.clone(),
        })
    }
}

/// A started process with everything that it started itself.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    group: u32,
    child: tokio::process::Child,
    ended: Option<ExitStatus>,
    keeper: Keeper,
}

impl Process {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.group
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// `kill -9` of the whole group, and waits for the end.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended().is_none() {
            signal_group("KILL", self.group);
            self.ended = Some(self.child.wait().await?);
        } else {
            signal_group("KILL", self.group);
        }
        self.keeper.tell('-', self.group);
        Ok(())
    }

    /// SIGTERM to the process itself, and `kill -9` of the group after `patience`.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.end("TERM", patience).await
    }

    /// SIGINT to the process itself, and `kill -9` of the group after `patience`.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub async fn interrupt(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.end("INT", patience).await
    }

    async fn end(&mut self, by: &str, patience: Duration) -> anyhow::Result<()> {
        if self.ended().is_none() {
            signal(by, &self.group.to_string());
            if let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await {
                self.ended = Some(status?);
            }
        }
        self.kill().await
    }

    /// SIGTERM to the process itself; nothing is waited for.
    pub fn terminate(&self) {
        signal("TERM", &self.group.to_string());
    }

    /// SIGSTOP to the process itself: it answers nothing, and its connections stay open.
    pub fn freeze(&self) {
        signal("STOP", &self.group.to_string());
    }

    /// SIGCONT to the process itself, after [`Self::freeze`].
    pub fn thaw(&self) {
        signal("CONT", &self.group.to_string());
    }

    /// SIGHUP to the process itself.
    pub fn hang_up(&self) {
        signal("HUP", &self.group.to_string());
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If the process cannot be waited for.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            signal_group("KILL", self.group);
            self.keeper.tell('-', self.group);
        }
    }
}

/// The last lines of a file; empty if it cannot be read.
pub fn tail(file: &Path, lines: usize) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The shell's own `kill`: there is a shell everywhere, a `kill` program is not. With `-s`: only so do all shells take
/// the number of a group after `--`.
fn signal(which: &str, target: &str) {
    let _ = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("kill -s {which} -- {target}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn signal_group(which: &str, group: u32) {
    signal(which, &format!("-{group}"));
}

/// The keeper's whole life: reads `+<group>` and `-<group>` until its input closes, then kills what is left.
///
/// # Errors
/// If the standard input cannot be read.
pub fn keeper() -> std::io::Result<()> {
    let mut groups = std::collections::BTreeSet::new();
    for line in std::io::stdin().lines() {
        let line = line?;
        let (sign, group) = line.split_at(line.len().min(1));
        match (sign, group.parse::<u32>()) {
            ("+", Ok(group)) => {
                groups.insert(group);
            }
            ("-", Ok(group)) => {
                groups.remove(&group);
            }
            _ => {}
        }
    }
    for group in groups {
        signal_group("KILL", group);
    }
    Ok(())
}

/// Finds one of Weir's own programs: in `WEIR_BIN_DIR`, beside this executable, or one directory up (where test
/// executables find them).
///
/// # Errors
/// If it is in none of these places; says where was looked and how to make it.
pub fn find_program(name: &str) -> anyhow::Result<PathBuf> {
    let mut places = Vec::new();
    if let Some(dir) = std::env::var_os("WEIR_BIN_DIR") {
        places.push(PathBuf::from(dir));
    } else if let Ok(own) = std::env::current_exe() {
        places.extend(own.ancestors().skip(1).take(2).map(Path::to_path_buf));
    }
    for place in &places {
        let path = place.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    anyhow::bail!(
        "{name} is not in {}: build it with `cargo build --bins`, or name its directory in WEIR_BIN_DIR",
        looked.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that starts a process of its own and waits for it.
    fn family(dir: &Path) -> Start {
        Start {
            name: "family".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "sleep 600 & echo $!; wait".into()],
            env: Vec::new(),
            log: dir.join("family.log"),
        }
    }

    async fn child_of(process: &Process) -> u32 {
        let said = async {
            loop {
                if let Ok(child) = process.tail(1).parse() {
                    return child;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let said = tokio::time::timeout(Duration::from_mins(1), said).await;
        said.expect("it says so within a minute")
    }

    /// Gone, or only waiting to be collected by whoever adopted it.
    fn gone(process: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        status
            .rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('Z'))
    }

    #[tokio::test]
    async fn a_process_goes_with_all_that_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = Keeper::none().spawn(family(dir.path())).expect("a shell starts");
        let child = child_of(&process).await;
        let stopped = process.stop(Duration::from_secs(5));
        let stopped = tokio::time::timeout(Duration::from_secs(10), stopped).await;
        stopped.expect("the end comes").expect("it can be waited for");
        let end = async {
            while !gone(child) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), end)
            .await
            .expect("the child is gone as well");
    }
}
