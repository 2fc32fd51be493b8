//! Weir's own programs in a play: how the coordinator and the agents are configured, joined, started, killed and started
//! again.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{ENV, Play};
use crate::ports::free_port;
use crate::process::{Keeper, Process, Start, find_program};
use crate::repository::Repository;
use crate::waiting::until;

impl Play {
    /// Writes an agent's configuration, joins it with a token of its own and starts it.
    pub(super) async fn join(
        &mut self,
        zone: &str,
        coordinator: &str,
        parts: &crate::ZoneParts,
    ) -> anyhow::Result<()> {
        let dir = self.dir.join("zones").join(zone).join("agent");
        std::fs::create_dir_all(&dir)?;
        let admin: Vec<String> = parts.envoy_admin.iter().map(|glob| format!("{glob:?}")).collect();
        let cluster = parts
            .kubeconfig
            .as_ref()
            .map(|file| format!("  kubernetes: {{kubeconfig: {:?}}}\n", file.display().to_string()));
        let of = self.gateways.iter().filter(|gateway| gateway.edge.zone == zone);
        let gateways: String = of.map(super::edge::Gateway::config).collect();
        let gateways = match gateways.is_empty() {
            true => gateways,
            false => format!("gateways:\n{gateways}"),
        };
        let config = format!(
            "zone: {zone}\nagent: {zone}-1\ncoordinator: {coordinator}\ndata: {}\nkuma:\n  api: {}\n  envoyAdmin: [{}]\n{}report: 1s\n{}",
            dir.join("data").display(),
            parts.api,
            admin.join(", "),
            cluster.unwrap_or_default(),
            gateways
        );
        let file = dir.join("agent.yaml");
        std::fs::write(&file, config)?;
        let token = self.dir.join("zones").join(zone).join("agent/token");
        let config = coordinator_config(&self.dir);
        let text = run(
            "weir-coordinator",
            &["token", "create", "--config", &config, "--zone", zone],
        )
        .await?;
        std::fs::write(&token, text)?;
        let (file, token) = (file.display().to_string(), token.display().to_string());
        run("weir-agent", &["join", "--config", &file, "--token-file", &token]).await?;
        self.start_agent(zone)
    }

    /// Starts a zone's agent (again).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_agent(&mut self, zone: &str) -> anyhow::Result<()> {
        let name = format!("weir-agent-{zone}");
        let file = self.dir.join("zones").join(zone).join("agent/agent.yaml");
        let bare = self
            .bare
            .then(|| ("WEIR_TEST_BARE_POLICIES".to_owned(), OsString::from("1")));
        let program = if self.bare {
            find_program("weir-agent-bare").context(
                "bare policies need an agent of their own: `cargo build -p weir-agent --features bare-policies`",
            )?
        } else {
            find_program("weir-agent")?
        };
        let process = self.keeper.spawn(Start {
            program,
            args: ["run".into(), "--config".into(), file.into()].to_vec(),
            env: bare.into_iter().collect(),
            log: self.dir.join("logs").join(format!("{name}.log")),
            name,
        })?;
        self.agents.insert(zone.to_owned(), process);
        Ok(())
    }

    /// `kill -9` of a zone's agent.
    ///
    /// # Errors
    /// If there is none.
    pub async fn kill_agent(&mut self, zone: &str) -> anyhow::Result<()> {
        let agent = self.agents.get_mut(zone);
        agent
            .with_context(|| format!("there is no agent in {zone}"))?
            .kill()
            .await
    }

    /// `kill -9` of the coordinator.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.kill().await
    }

    /// `kill -9` of the coordinator and all agents: nobody of Weir is left.
    ///
    /// # Errors
    /// If they cannot be waited for.
    pub async fn end_weir(&mut self) -> anyhow::Result<()> {
        for zone in self.zones.clone() {
            self.kill_agent(&zone).await?;
        }
        self.kill_coordinator().await
    }

    /// Starts the coordinator again, at its old address; returns when it answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn restart_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator = spawn_coordinator(&self.dir, &self.keeper)?;
        let viewer = self.viewer.clone();
        until("the coordinator", async || viewer.splits().await.map(|_| ())).await
    }

    /// Gives an order on the coordinator's host: `weir-coordinator split ...`.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn order(&self, words: &[&str]) -> anyhow::Result<()> {
        let file = coordinator_config(&self.dir);
        let line = [&["split"], words, &["--config", &file]].concat();
        run("weir-coordinator", &line).await.map(|_| ())
    }

    /// Tells the coordinator that there is something new in Git, as a webhook would.
    pub fn look(&self) {
        self.coordinator.hang_up();
    }
}

fn coordinator_config(dir: &Path) -> String {
    dir.join("coordinator/coordinator.yaml").display().to_string()
}

/// Starts the coordinator: process, address, a viewer's token.
pub(super) async fn start_coordinator(
    dir: &Path,
    keeper: &Keeper,
    repository: &Repository,
) -> anyhow::Result<(Process, String, String)> {
    let home = dir.join("coordinator");
    std::fs::create_dir_all(&home)?;
    let port = free_port()?;
    let config = format!(
        "federation: sandbox\nlisten: 127.0.0.1:{port}\nnames: [localhost, 127.0.0.1]\ndata: {}\nsources:\n  - name: main\n    \
         url: {}\n    branch: {}\n    path: traffic\n    poll: 1s\nstale: 15s\n",
        home.join("data").display(),
        repository.dir().display(),
        crate::repository::BRANCH,
    );
    let file = coordinator_config(dir);
    std::fs::write(&file, config)?;
    let process = spawn_coordinator(dir, keeper)?;
    let address = format!("https://127.0.0.1:{port}");
    let listening = home.join("data/listen");
    let there = until("the coordinator", || async {
        if !listening.exists() {
            bail!("it does not listen");
        }
        Ok(())
    });
    if let Err(error) = there.await {
        return Err(error.context(format!("its log ends:\n{}", process.tail(20))));
    }
    let token = run(
        "weir-coordinator",
        &["token", "create", "--config", &file, "--viewer", "sandbox"],
    )
    .await?;
    Ok((process, address, token.trim().to_owned()))
}

/// What a person's shell needs to ask this coordinator with `weir`: `. weir.env`.
pub(super) fn write_env(dir: &Path, address: &str, token: &str) -> anyhow::Result<()> {
    let viewer = dir.join("viewer-token");
    std::fs::write(&viewer, token)?;
    let mut text = format!(
        "export WEIR_COORDINATOR='{address}'\nexport WEIR_TOKEN_FILE='{}'\nexport WEIR_CA='{}'\n",
        viewer.display(),
        dir.join("coordinator/data/ca/ca.pem").display()
    );
    // Whoever has `weir` elsewhere finds it there.
    if let Ok(weir) = find_program("weir")
        && let Some(programs) = weir.parent()
    {
        text += &format!("export PATH='{}':\"$PATH\"\n", programs.display());
    }
    std::fs::write(dir.join(ENV), text)?;
    Ok(())
}

fn spawn_coordinator(dir: &Path, keeper: &Keeper) -> anyhow::Result<Process> {
    keeper.spawn(Start {
        name: "weir-coordinator".into(),
        program: find_program("weir-coordinator")?,
        args: ["serve".into(), "--config".into(), coordinator_config(dir).into()].to_vec(),
        env: Vec::new(),
        log: dir.join("logs/weir-coordinator.log"),
    })
}

/// Runs one of Weir's programs to its end; its standard output.
async fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(find_program(program)?);
    let output = command.args(args).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
