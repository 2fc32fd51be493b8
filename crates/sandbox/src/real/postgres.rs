//! A PostgreSQL server of the sandbox's own, for control planes whose objects shall outlive them: a database for each.
//!
//! It listens on a port of 127.0.0.1 and lets nobody in without a password. PostgreSQL refuses to run as root: where the
//! sandbox does, it runs as another user, in a directory of its own, because nobody else may enter the sandbox's.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Real;
use super::executable;
use super::place::Place;
use super::proxy::write_private;
use super::rest::Awaited;
use crate::cast::Stage;
use crate::process::{Start, User};
use crate::restartable::Restartable;

/// Stands where zones have their names: the global control plane.
pub(super) const GLOBAL: &str = "global";
/// Its only user, who may do everything.
const USER: &str = "kuma";
/// Where Debian has the programs, in a directory for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// How long its end may take: what it holds is written by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two programs that it takes.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `postgres`.
    pub postgres: PathBuf,
    /// `initdb`.
    pub initdb: PathBuf,
}

/// One of them is not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Where was looked.
    pub looked: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "postgres and initdb not found in {}. Name the directory of both in WEIR_POSTGRES_BIN.",
            self.looked
        )
    }
}

impl std::error::Error for Absent {}

impl Programs {
    /// In the directory `WEIR_POSTGRES_BIN`, or in `PATH`, or where Debian has them.
    ///
    /// # Errors
    /// If they are in none of these.
    pub fn find() -> Result<Self, Absent> {
        let own = std::env::var_os("WEIR_POSTGRES_BIN");
        Self::find_in(own, std::env::var_os("PATH"), Path::new(DEBIAN))
    }

    fn find_in(own: Option<OsString>, path: Option<OsString>, debian: &Path) -> Result<Self, Absent> {
        let (places, looked) = match own.filter(|dir| !dir.is_empty()) {
            Some(dir) => {
                let looked = format!("WEIR_POSTGRES_BIN={}", dir.display());
                (vec![PathBuf::from(dir)], looked)
            }
            None => {
                let mut dirs: Vec<_> = path.iter().flat_map(|p| std::env::split_paths(p)).collect();
                dirs.extend(newest_first(debian));
                let looked = format!("PATH and {} (WEIR_POSTGRES_BIN is not set)", debian.display());
                (dirs, looked)
            }
        };
        let both = |dir: &PathBuf| {
            let programs = Self {
                postgres: dir.join("postgres"),
                initdb: dir.join("initdb"),
            };
            (executable(&programs.postgres) && executable(&programs.initdb)).then_some(programs)
        };
        places.iter().find_map(both).ok_or(Absent { looked })
    }
}

fn newest_first(debian: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(debian).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, dir)| dir).collect()
}

/// Where a control plane keeps its objects.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    port: u16,
    password: String,
    name: String,
}

impl Database {
    /// Kuma's settings for it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("KUMA_STORE_TYPE", "postgres".into()),
            ("KUMA_STORE_POSTGRES_HOST", "127.0.0.1".into()),
            ("KUMA_STORE_POSTGRES_PORT", self.port.to_string().into()),
            ("KUMA_STORE_POSTGRES_USER", USER.into()),
            ("KUMA_STORE_POSTGRES_PASSWORD", self.password.clone().into()),
            ("KUMA_STORE_POSTGRES_DB_NAME", self.name.clone().into()),
            ("KUMA_STORE_POSTGRES_TLS_MODE", "disable".into()),
        ]
    }
}

/// A started server.
#[derive(Debug)]
pub(crate) struct Postgres {
    port: u16,
    password: String,
    data: PathBuf,
    process: Restartable,
    /// Where its data is, if the sandbox's own directory is closed to its user.
    elsewhere: Option<tempfile::TempDir>,
}

impl Postgres {
    /// Makes it with these databases and starts it; returns when it takes connections.
    pub(crate) async fn start(
        stage: &Stage,
        programs: &Programs,
        place: &mut Place,
        databases: &[String],
    ) -> anyhow::Result<Self> {
        let home = stage.dir.join("postgres");
        std::fs::create_dir_all(&home)?;
        let is_root = home.metadata()?.uid() == 0;
        let (home, user, elsewhere) = if is_root {
            let user = unprivileged()?;
            let dir = tempfile::Builder::new()
                .prefix("weir-postgres-")
                .tempdir_in("/tmp")?;
            give(dir.path(), user)?;
            (dir.path().to_path_buf(), Some(user), Some(dir))
        } else {
            (home, None, None)
        };
        let password = crate::random_id();
        let secret = home.join("password");
        write_private(&secret, &password)?;
        if let Some(user) = user {
            give(&secret, user)?;
        }
        let data = home.join("data");
        let mut made = Command::new(&programs.initdb);
        made.args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        made.args(["--username", USER, "--pwfile"]).arg(&secret);
        run(made.arg("--pgdata").arg(&data), user, "").await?;
        let wanted: Vec<String> = databases
            .iter()
            .map(|name| format!("CREATE DATABASE \"{name}\";\n"))
            .collect();
        let mut alone = Command::new(&programs.postgres);
        alone.args(["--single", "-D"]).arg(&data).arg("postgres");
        // One statement a line.
        run(&mut alone, user, &wanted.concat()).await?;
        let port = place.port()?;
        let options = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "unix_socket_directories=".to_owned(),
            // Kuma takes up to 50 for each control plane.
            "max_connections=500".to_owned(),
            // It dies with the machine, not before: then nothing of it is wanted any more.
            "fsync=off".to_owned(),
            "dynamic_shared_memory_type=mmap".to_owned(),
        ];
        let mut args: Vec<OsString> = vec!["-D".into(), data.clone().into()];
        args.extend(
            options
                .into_iter()
                .flat_map(|option| ["-c".into(), option.into()]),
        );
        let start = Start {
            name: "postgres".to_owned(),
            program: programs.postgres.clone(),
            args,
            env: Vec::new(),
            log: stage.dir.join("logs").join("postgres.log"),
        };
        let mut here = Self {
            port,
            password,
            data,
            process: Restartable::start(&stage.keeper, start, user)?,
            elsewhere,
        };
        here.takes_connections().await?;
        Ok(here)
    }

    /// It says so itself, in the last line of its own file.
    async fn takes_connections(&mut self) -> anyhow::Result<()> {
        let mut wait = Awaited::new("PostgreSQL takes connections");
        loop {
            if let Some(casualty) = self.casualty() {
                bail!(casualty);
            }
            let said = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            if said.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            wait.again(None).await?;
        }
    }

    /// One of its databases.
    pub(crate) fn database(&self, name: &str) -> Database {
        Database {
            port: self.port,
            password: self.password.clone(),
            name: name.to_owned(),
        }
    }

    /// Ends it, whoever is connected; its data stays. SIGTERM would wait for its clients, which stay for as long as they live.
    pub(crate) async fn pause(&mut self) -> anyhow::Result<()> {
        self.process.interrupt(PATIENCE).await
    }

    /// Starts it again; returns when it takes connections.
    pub(crate) async fn resume(&mut self) -> anyhow::Result<()> {
        self.process.again()?;
        self.takes_connections().await
    }

    /// Ends it; its data goes, but for what is in the sandbox's own directory.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.pause().await?;
        if let Some(dir) = self.elsewhere.take() {
            dir.close()?;
        }
        Ok(())
    }

    /// In words, if it ended though nobody stopped it.
    pub(crate) fn casualty(&mut self) -> Option<String> {
        self.process.casualty()
    }
}

impl Real {
    /// What global and VM zones' control planes hold shall outlive them, in a PostgreSQL server.
    #[must_use]
    pub fn with_postgres(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Starts the PostgreSQL server, if there shall be one.
    pub(super) async fn start_postgres(&mut self) -> anyhow::Result<()> {
        let Some(programs) = &self.programs else {
            return Ok(());
        };
        let names: Vec<String> = std::iter::once(GLOBAL)
            .chain(self.zones.iter().map(String::as_str))
            .map(database_of)
            .collect();
        let started = Postgres::start(&self.stage, programs, &mut self.place, &names);
        self.postgres = Some(started.await?);
        Ok(())
    }

    /// The server.
    pub(super) fn store_server(&mut self) -> anyhow::Result<&mut Postgres> {
        self.postgres.as_mut().context("no PostgreSQL server was started")
    }

    /// Of the global control plane or a zone's; none if there is no server.
    pub(super) fn database(&self, whose: &str) -> Option<Database> {
        let postgres = self.postgres.as_ref()?;
        Some(postgres.database(&database_of(whose)))
    }
}

fn database_of(whose: &str) -> String {
    format!("kuma-{whose}")
}

fn give(path: &Path, user: User) -> anyhow::Result<()> {
    std::os::unix::fs::chown(path, Some(user.user), Some(user.group))
        .with_context(|| format!("cannot give {} to another user", path.display()))
}

/// PostgreSQL's own user, or the one who owns nothing.
fn unprivileged() -> anyhow::Result<User> {
    let users = std::fs::read_to_string("/etc/passwd").context("no user to run PostgreSQL as")?;
    let called = |name: &str| user_in(&users, name);
    called("postgres")
        .or_else(|| called("nobody"))
        .context("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
}

fn user_in(users: &str, name: &str) -> Option<User> {
    let mut words = users.lines().find_map(|line| {
        let mut words = line.split(':');
        (words.next() == Some(name)).then_some(words)
    })?;
    Some(User {
        user: words.nth(1)?.parse().ok()?,
        group: words.next()?.parse().ok()?,
    })
}

/// Runs a program to its end, as this user, with this on its standard input.
async fn run(command: &mut Command, user: Option<User>, input: &str) -> anyhow::Result<()> {
    if let Some(user) = user {
        command.uid(user.user).gid(user.group).current_dir("/");
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let what = command
        .as_std()
        .get_program()
        .to_os_string()
        .display()
        .to_string();
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    // A single user's server ends with 0 whatever it was asked.
    let well = output.status.success() && !told.contains("ERROR:");
    ensure!(well, "{what}: {}\n{told}", output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::required;
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:8::/:\npostgres:x:101:104:admin:/:/bin/bash\n";
        let found = user_in(users, "postgres");
        assert_eq!(
            found,
            Some(User {
                user: 101,
                group: 104
            })
        );
        assert_eq!(user_in(users, "nobody"), None);
    }

    #[test]
    fn the_newest_version_is_taken_and_absence_says_where_was_looked() {
        use std::os::unix::fs::PermissionsExt as _;
        let debian = tempfile::tempdir().expect("a directory");
        let nowhere = Programs::find_in(None, None, debian.path()).expect_err("nothing is there");
        assert!(
            nowhere.to_string().contains("WEIR_POSTGRES_BIN is not set"),
            "{nowhere}"
        );
        for version in ["9", "15", "common"] {
            let bin = debian.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).expect("a directory");
            for name in ["postgres", "initdb"] {
                let file = bin.join(name);
                std::fs::write(&file, "").expect("a file");
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&file, mode).expect("a mode");
            }
        }
        let found = Programs::find_in(None, None, debian.path()).expect("two versions");
        assert_eq!(found.initdb, debian.path().join("15/bin/initdb"));
        let own = debian.path().join("common").into_os_string();
        Programs::find_in(Some(own), None, Path::new("/")).expect_err("not in bin");
    }

    #[tokio::test]
    async fn a_server_has_its_databases_and_leaves_nothing() {
        use std::io::Write as _;
        let programs = match Programs::find() {
            Ok(programs) => programs,
            Err(absent) => {
                assert!(
                    !required("postgres"),
                    "WEIR_REQUIRE demands postgres, but {absent}"
                );
                let test = "real::postgres::tests::a_server_has_its_databases_and_leaves_nothing";
                let _ = writeln!(std::io::stderr(), "\ntest {test} is SKIPPED: {absent}");
                return;
            }
        };
        let dir = tempfile::tempdir().expect("a directory");
        let stage = Stage {
            dir: dir.path().to_path_buf(),
            mesh: "default".into(),
            service: "checkout".into(),
            port: 8080,
            port_name: None,
            keeper: crate::process::Keeper::none(),
        };
        let mut place = Place::pick(8080).expect("loopback");
        let names = ["kuma-global", "kuma-fra"].map(str::to_owned);
        let started = Postgres::start(&stage, &programs, &mut place, &names);
        let mut postgres = started.await.expect("a server");
        let port = postgres.port;
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let home = postgres.elsewhere.as_ref().map(|dir| dir.path().to_path_buf());
        let data = home.clone().unwrap_or_else(|| dir.path().join("postgres"));
        // `postgres`, two templates, and ours.
        let bases = std::fs::read_dir(data.join("data/base")).expect("databases");
        assert_eq!(bases.count(), 3 + names.len());
        let begin = std::time::Instant::now();
        postgres.pause().await.expect("it ends, whoever is connected");
        assert!(begin.elapsed() < PATIENCE, "it was killed");
        drop(client);
        assert_eq!(postgres.casualty(), None);
        postgres.resume().await.expect("it is back");
        std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens again");
        postgres.stop().await.expect("it ends");
        std::net::TcpStream::connect(("127.0.0.1", port)).expect_err("it has ended");
        assert!(home.is_none_or(|home| !home.exists()));
    }
}
