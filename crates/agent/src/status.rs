//! The status socket: whoever connects is told, as JSON, what the agent does, and the connection ends. For
//! `weir-agent status`; also what tells a second agent that this data directory is taken.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_planner::{Evidence, ItemFact, ItemState, ZoneFacts};

use crate::current::{Current, LinkState};
use crate::pin;

/// All that an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The federation.
    pub federation: String,
    /// The zone.
    pub zone: String,
    /// The agent's own name.
    pub agent: String,
    /// Where the coordinator is.
    pub coordinator: String,
    /// The link to it.
    pub link: LinkState,
    /// When the certificate ends.
    pub certificate_expires: Timestamp,
    /// The plan that is held: id and generation; none before the first.
    pub plan: Option<Held>,
    /// Why the last plan that was offered was not taken, if so.
    pub refused: Option<String>,
    /// What a person should know and no proof says.
    pub notes: Vec<String>,
    /// What the last activation saw.
    pub facts: ZoneFacts,
}

/// The plan that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Its generation.
    pub generation: u64,
    /// Its commits, `source:commit`.
    pub commits: Vec<String>,
}

/// What never changes while the agent runs, besides the certificate's end.
#[derive(Clone)]
pub struct Fixed {
    /// The federation.
    pub federation: String,
    /// The zone.
    pub zone: String,
    /// The agent's own name.
    pub agent: String,
    /// Where the coordinator is.
    pub coordinator: String,
    /// Has the certificate of the moment.
    pub connector: weir_link::Connector,
}

/// Takes the socket's place.
///
/// # Errors
/// If another agent holds it.
pub async fn bind(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    if UnixStream::connect(path).await.is_ok() {
        bail!(
            "another agent answers at {}: two agents cannot share one data directory",
            path.display()
        );
    }
    let taken = match tokio::fs::remove_file(path).await {
        Ok(()) => UnixListener::bind(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => UnixListener::bind(path),
        Err(error) => Err(error),
    }
    .and_then(|listener| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    match taken {
        Ok(listener) => Ok(Some(listener)),
        // Without it the agent does all its work and only `weir-agent status` is blind.
        Err(error) => {
            tracing::warn!(socket = %path.display(), %error, "no status socket");
            Ok(None)
        }
    }
}

/// Answers until stopped.
pub async fn serve(
    listener: UnixListener,
    fixed: Fixed,
    current: watch::Receiver<Arc<Current>>,
    link: watch::Receiver<LinkState>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let text = status(&fixed, &current, &link);
                // A reader that does not read must not keep the next one waiting for long.
                if let Err(error) = tokio::time::timeout(Duration::from_secs(2), tell(stream, text)).await {
                    tracing::debug!(%error, "a reader of the status socket was too slow");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the status socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn tell(mut stream: UnixStream, status: Status) {
    let answer = match serde_json::to_vec(&status) {
        Ok(bytes) => stream.write_all(&bytes).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = answer {
        tracing::debug!(%error, "a reader of the status socket went away");
    }
}

fn status(
    fixed: &Fixed,
    current: &watch::Receiver<Arc<Current>>,
    link: &watch::Receiver<LinkState>,
) -> Status {
    let current = Arc::clone(&current.borrow());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        federation: fixed.federation.clone(),
        zone: fixed.zone.clone(),
        agent: fixed.agent.clone(),
        coordinator: fixed.coordinator.clone(),
        link: link.borrow().clone(),
        certificate_expires: fixed
            .connector
            .credentials()
            .map_or(Timestamp::UNIX_EPOCH, |credentials| credentials.expires()),
        plan: current.plan.as_ref().map(|plan| Held {
            id: plan.plan.to_string(),
            generation: plan.generation.0,
            commits: plan
                .commits
                .iter()
                .map(|commit| format!("{}:{}", commit.source, commit.commit))
                .collect(),
        }),
        refused: current.refused.clone(),
        notes: current.notes.clone(),
        facts: current.facts.clone(),
    }
}

/// Asks a running agent.
///
/// # Errors
/// If none answers.
pub async fn ask(path: &Path) -> anyhow::Result<Status> {
    let ask = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = tokio::time::timeout(Duration::from_secs(5), ask)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
        .flatten()
        .with_context(|| format!("no agent answers at {} (is it running?)", path.display()))?;
    serde_json::from_slice(&bytes).context("the agent's answer cannot be read: is it of another version?")
}

impl Status {
    /// For people, within 80 columns unless a name or reason is longer.
    pub fn text(&self, now: Timestamp) -> String {
        let mut lines = vec![format!(
            "zone {} of {}, agent {}, version {}",
            self.zone, self.federation, self.agent, self.version
        )];
        lines.push(match (&self.link.connected, &self.link.last_error) {
            (Some(since), _) => format!(
                "coordinator  {}, connected for {}",
                self.coordinator,
                age(now, *since)
            ),
            (None, Some(why)) => format!("coordinator  {}, not connected: {why}", self.coordinator),
            (None, None) => format!("coordinator  {}, not connected yet", self.coordinator),
        });
        lines.push(format!("certificate  until {:.0}", self.certificate_expires));
        lines.push(match (&self.facts.unreadable, &self.facts.kuma) {
            (Some(why), _) => format!("kuma         cannot be read: {why}"),
            (None, Some(version)) => format!("kuma         {version}"),
            (None, None) => "kuma         not asked yet".to_owned(),
        });
        lines.push(match &self.plan {
            Some(plan) => format!(
                "plan         generation {}, {}, from {}",
                plan.generation,
                plan.id.get(..12).unwrap_or(&plan.id),
                plan.commits.join(", ")
            ),
            None => "plan         none yet".to_owned(),
        });
        if let Some(why) = &self.refused {
            lines.push(format!("refused      {why}"));
        }
        for note in &self.notes {
            lines.push(format!("note         {note}"));
        }
        for item in &self.facts.items {
            lines.push(String::new());
            lines.extend(item_text(item, now));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A state in words, and why it is that.
pub(crate) fn told(state: &ItemState) -> (&'static str, Option<&str>) {
    match state {
        ItemState::Pending => ("pending", None),
        ItemState::Held(why) => ("held", Some(why)),
        ItemState::Applied => ("applied, not proven", None),
        ItemState::Proven => ("proven", None),
        ItemState::Overridden(why) => ("overridden", Some(why)),
        ItemState::Failed(why) => ("failed", Some(why)),
    }
}

fn item_text(item: &ItemFact, now: Timestamp) -> Vec<String> {
    let (state, reason) = told(&item.state);
    let state = match &item.fallback {
        Some(_) => format!("fallback, {state}"),
        None => state.to_owned(),
    };
    let mut lines = vec![format!(
        "split {}, generation {}: {state}",
        item.split, item.generation
    )];
    lines.extend(
        item.fallback
            .iter()
            .map(|fallen| format!("  fallback  {}", fallen.why)),
    );
    lines.extend(reason.map(|why| format!("  because   {why}")));
    if let Some(pin) = &item.pin {
        lines.push(format!(
            "  pinned    by {} on {}, {} ago: {}",
            pin.who,
            pin.host,
            age(now, pin.since),
            pin.reason
        ));
        for (route, weights) in &pin.weights {
            lines.push(format!("  pinned to {route}: {}", pin::shares(weights)));
        }
        lines.push(format!("  ends by   weir-agent unpin --split {}", item.split));
    }
    if let Some(proof) = &item.proof {
        let class = match proof.evidence {
            Evidence::Live => "live",
            Evidence::Sampled => "sampled",
            Evidence::Acknowledged => "acknowledged",
            Evidence::Unknown => "unknown",
        };
        let said = match &proof.verdict {
            weir_planner::Verdict::Exact => "exact".to_owned(),
            weir_planner::Verdict::Different(what) => format!("different: {what}"),
            weir_planner::Verdict::Unknown(why) => format!("unknown: {why}"),
        };
        lines.push(format!(
            "  evidence  {class}, {} of {} {}, {} ago: {said}",
            proof.coverage.seen,
            proof.coverage.of,
            if proof.coverage.of == 1 {
                "proxy"
            } else {
                "proxies"
            },
            age(now, proof.at)
        ));
        for (route, weights) in proof.weights.iter().flatten() {
            let shares: Vec<String> = weights
                .iter()
                .map(|(backend, weight)| format!("{backend} {weight} %"))
                .collect();
            lines.push(format!("  route     {route}: {}", shares.join(", ")));
        }
    }
    if let Some(counts) = &item.counts {
        let sums: Vec<String> = counts
            .requests
            .iter()
            .map(|(backend, n)| {
                let failed = counts.failed.get(backend).copied().unwrap_or_default();
                format!("{backend} {n} ({failed} failed)")
            })
            .collect();
        lines.push(format!(
            "  counted   {} in {}",
            sums.join(", "),
            age(counts.at, counts.since)
        ));
    }
    for writer in &item.second_writers {
        lines.push(format!(
            "  also      {} {} of origin {} touches this service{}",
            writer.kind,
            writer.object,
            writer.origin,
            if writer.overrides { ", and wins" } else { "" }
        ));
    }
    lines
}
