//! The story of a split with everything in it that may end at 3 a.m., told with either cast: a commit, a shift of
//! everything, a revert, a coordinator that is killed, an agent that is killed, a hand that removes our objects, a second
//! writer. Callers of every zone send all the time, and each of their requests is counted.

mod hand;
mod mesh;
mod named_port;
mod outage;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
pub use named_port::tell_of_a_named_port;
pub use outage::{tell_of_a_dead_proxy, tell_of_a_slow_one, tell_of_a_stop, tell_of_an_outage};
use serde_json::Value;
use tokio::time::Instant;
use weir_planner::Evidence;
use weir_sandbox::bound::{bounds, inside};
use weir_sandbox::coordinator::{in_zone, proven, weights_word};
use weir_sandbox::play::{Play, Scene, Setup};
use weir_sandbox::real::rest::Api;
use weir_sandbox::repository::{BACKENDS, CLUSTER, SPLIT as FILE};
use weir_sandbox::traffic::{Pace, Tally};
use weir_wire::api::{SplitStatus, Standing};

/// Between two requests of one caller while something is under way.
const GENTLE: Pace = Pace::Gentle(Duration::from_millis(5));
/// How long anything may take that the story waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The zone in which things go wrong.
const ZONE: &str = "fra";

/// A running federation, and what has become of its requests.
pub struct Story {
    /// The federation.
    pub play: Play,
    /// Requests counted in each zone for each share.
    requests: u64,
    /// Requests that a hand in Kuma has lost, and not Weir.
    lost_by_hand: u64,
}

/// Starts a federation, tells the whole story and ends it. With the double one of its zones is a cluster.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell(real: bool, requests: u64) -> anyhow::Result<()> {
    let scene = if real {
        Scene::Vms
    } else {
        Scene::WithDoubleCluster
    };
    let mut story = Story::start_on(scene, real, requests).await?;
    match story.chapters().await {
        Ok(()) => {
            story.play.stop().await;
            Ok(())
        }
        Err(error) => Err(story.play.failed(error).await),
    }
}

impl Story {
    /// Starts the federation on VMs alone: everything goes to the first backend, and callers send.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn start(real: bool, requests: u64) -> anyhow::Result<Self> {
        Self::start_with(Scene::Vms, real, requests, None).await
    }

    async fn start_on(scene: Scene, real: bool, requests: u64) -> anyhow::Result<Self> {
        Self::start_with(scene, real, requests, None).await
    }

    async fn start_with(
        scene: Scene,
        real: bool,
        requests: u64,
        port_name: Option<&str>,
    ) -> anyhow::Result<Self> {
        let setup = Setup {
            real,
            port_name: port_name.map(str::to_owned),
            ..Setup::default()
        };
        let play = Play::start_on(scene, setup, |_| {}).await?;
        if port_name.is_none() {
            play.pace(GENTLE);
        }
        Ok(Self {
            play,
            requests,
            lost_by_hand: 0,
        })
    }

    async fn chapters(&mut self) -> anyhow::Result<()> {
        self.shares("the first commit", |_| [100, 0]).await?;
        self.shift(90, 10).await?;
        self.shift(0, 100).await?;
        self.revert([90, 10]).await?;
        self.coordinator_killed([90, 10], [20, 80]).await?;
        self.agent_killed([20, 80], [60, 40]).await?;
        self.objects_removed([60, 40]).await?;
        self.second_writers([60, 40]).await?;
        self.comes_and_goes().await?;
        self.play.holds().await?;
        let sent: u64 = self.play.callers.values().map(|c| c.tally().requests).sum();
        ensure!(sent > 0, "nobody sent anything");
        self.unharmed("the story")
    }

    /// A weight in Git becomes counted requests in every zone, and its proof is live and younger than the commit.
    async fn shift(&self, vm: u32, cloud: u32) -> anyhow::Result<()> {
        let what = format!("commit {vm}/{cloud}");
        let begin = Timestamp::now();
        let commit = self.commit(vm, cloud)?;
        self.play.proven(&commit).await.context(what.clone())?;
        self.shares(&what, |_| [vm, cloud]).await?;
        let split = self.split().await?;
        ensure!(split.commit == commit, "{what}: the split is at {}", split.commit);
        for zone in &split.zones {
            let at: Timestamp = zone
                .proven_at
                .as_deref()
                .context("a proof without a time")?
                .parse()?;
            ensure!(
                at > begin,
                "{what}: {} was proven before it was committed",
                zone.zone
            );
            ensure!(zone.evidence == Evidence::Live, "{what}: {zone:?}");
            ensure!(weights_word(&split, zone) == "exact", "{what}: {zone:?}");
            ensure!(
                zone.seen == zone.of && zone.of > 0,
                "{what}: not all proxies were looked at: {zone:?}"
            );
            ensure!(
                zone.open.is_some(),
                "{what}: nothing is told of what is open: {zone:?}"
            );
        }
        let record = self.play.viewer.commit(&commit).await?;
        let record = record.with_context(|| format!("{what} is not in the list of commits"))?;
        ensure!(
            record.verdict == "taken" && record.diagnostics.is_empty(),
            "{record:?}"
        );
        let everywhere = self
            .play
            .zones
            .iter()
            .all(|zone| record.proven.contains_key(zone));
        ensure!(everywhere, "{what}: not proven everywhere: {record:?}");
        self.unharmed(&what)
    }

    async fn revert(&self, to: [u32; 2]) -> anyhow::Result<()> {
        let before = self.split().await?.generation;
        let commit = self.play.repository.revert()?;
        self.play.look();
        self.play.proven(&commit).await.context("revert")?;
        let after = self.split().await?.generation;
        ensure!(
            after > before,
            "a revert is a newer generation: {before} -> {after}"
        );
        self.shares("revert", |_| to).await?;
        self.unharmed("revert")
    }

    /// Without a coordinator nothing moves, not even by a commit; with it again that commit is made true.
    async fn coordinator_killed(&mut self, before: [u32; 2], after: [u32; 2]) -> anyhow::Result<()> {
        self.play.kill_coordinator().await?;
        let commit = self.commit(after[0], after[1])?;
        self.shares("without a coordinator", |_| before).await?;
        self.play.restart_coordinator().await?;
        self.play
            .proven(&commit)
            .await
            .context("the coordinator is back")?;
        self.shares("the coordinator is back", |_| after).await?;
        self.unharmed("the coordinator was killed")
    }

    /// A zone without an agent keeps its weights and is not called converged; the others go on.
    async fn agent_killed(&mut self, before: [u32; 2], after: [u32; 2]) -> anyhow::Result<()> {
        self.play.kill_agent(ZONE).await?;
        let commit = self.commit(after[0], after[1])?;
        let others: Vec<String> = self.play.zones.iter().filter(|z| *z != ZONE).cloned().collect();
        let split = self
            .until("the other zones follow", |split| {
                split.commit == commit && others.iter().all(|zone| is_proven(split, zone))
            })
            .await?;
        let here = in_zone(&split, ZONE)?;
        ensure!(
            !proven(&split, here),
            "a zone without an agent is called converged: {here:?}"
        );
        self.shares(
            "without an agent",
            |zone| if zone == ZONE { before } else { after },
        )
        .await?;
        let here = self.split().await?;
        let here = in_zone(&here, ZONE)?;
        ensure!(
            here.standing != Standing::Converged,
            "nobody reads {ZONE}, and it is called converged: {here:?}"
        );
        self.play.start_agent(ZONE)?;
        self.play.proven(&commit).await.context("the agent is back")?;
        self.shares("the agent is back", |_| after).await?;
        self.unharmed("an agent was killed")
    }

    /// The split is removed and declared again, and the same with the second commit in the middle of the first: nothing is
    /// lost, and no zone is called converged before nothing of ours is left in it.
    async fn comes_and_goes(&self) -> anyhow::Result<()> {
        let remove = || {
            let commit = self.play.repository.remove(FILE, "Split nothing any more");
            self.play.look();
            commit
        };
        let commit = remove()?;
        let took = self.play.removed(&commit).await?;
        for zone in &self.play.zones {
            let left = self.ours(zone).await?;
            ensure!(left.is_empty(), "{zone} is called converged and has {left:?}");
        }
        self.unharmed("the split was removed")?;
        let begin = Instant::now();
        let commit = self.commit(30, 70)?;
        self.play.proven(&commit).await.context("declared again")?;
        say(&format!(
            "a split removed: gone after {} ms; declared again: proven after {} ms",
            took.as_millis(),
            begin.elapsed().as_millis()
        ));
        self.shares("declared again", |_| [30, 70]).await?;
        self.unharmed("the split was declared again")?;
        remove()?;
        self.withdrawn().await?;
        let commit = self.commit(70, 30)?;
        self.play
            .proven(&commit)
            .await
            .context("declared again at once")?;
        self.shares("declared again at once", |_| [70, 30]).await?;
        self.unharmed("the split was declared again while it was on its way out")
    }

    /// Until every zone's policy is its anchor alone: that says no digest, for it gives no weights.
    async fn withdrawn(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for zone in &self.play.zones {
            loop {
                let ours = self.ours(zone).await?;
                ensure!(!ours.is_empty(), "{zone}: it is gone before it was withdrawn");
                if ours
                    .values()
                    .all(|labels| labels.get("weir.dev/digest").is_none())
                {
                    break;
                }
                ensure!(
                    begin.elapsed() < PATIENCE,
                    "{zone}: it is not withdrawn: {ours:?}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Our objects in a zone, each with its labels.
    async fn ours(&self, zone: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let Some(cluster) = self.play.cast.cluster_admin().filter(|_| zone == CLUSTER) else {
            return ours_of(&self.api(zone)?).await;
        };
        // Kuma's own answers are up to a second old there.
        let mut ours = BTreeMap::new();
        for plural in ["meshhttproutes", "meshtcproutes"] {
            for object in cluster.list(&format!("/apis/kuma.io/v1alpha1/{plural}")).await? {
                let labels = &object["metadata"]["labels"];
                if is_ours(labels) {
                    ours.insert(format!("{plural} {}", object["metadata"]["name"]), labels.clone());
                }
            }
        }
        Ok(ours)
    }

    /// Commits these weights and tells the coordinator.
    ///
    /// # Errors
    /// If Git refuses.
    pub fn commit(&self, vm: u32, cloud: u32) -> anyhow::Result<String> {
        let text = self.play.repository.split_text(vm, cloud);
        let message = format!("Send {vm} % to the VMs and {cloud} % to the cloud");
        let commit = self.play.repository.commit(&[(FILE, &text)], &message)?;
        self.play.look();
        Ok(commit)
    }

    /// Counts the next requests of every zone, and holds each backend's share against its bound.
    ///
    /// # Errors
    /// A share that chance does not explain.
    pub async fn shares(&self, what: &str, weights: impl Fn(&str) -> [u32; 2]) -> anyhow::Result<()> {
        for (zone, tally) in self.count().await? {
            let answered = tally.counted.values().sum();
            for ((backend, _), percent) in BACKENDS.iter().zip(weights(&zone)) {
                let count = tally.counted.get(*backend).copied().unwrap_or(0);
                let (least, most) = bounds(answered, percent * 100);
                ensure!(
                    inside(count, answered, percent * 100),
                    "{what}, {zone}: {backend} answered {count} of {answered}, not {least} to {most}"
                );
            }
            let known = |name: &&String| BACKENDS.iter().any(|(backend, _)| backend == name);
            ensure!(
                tally.counted.keys().all(|name| known(&name)),
                "{what}, {zone}: {tally:?}"
            );
        }
        Ok(())
    }

    async fn count(&self) -> anyhow::Result<BTreeMap<String, Tally>> {
        let start: BTreeMap<&String, Tally> = self.play.callers.iter().map(|(z, c)| (z, c.tally())).collect();
        let end = Instant::now() + PATIENCE;
        let mut done = BTreeMap::new();
        self.play.pace(Pace::Full);
        while done.len() < start.len() {
            ensure!(
                Instant::now() < end,
                "{} requests in each zone take a minute",
                self.requests
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
            for (zone, callers) in &self.play.callers {
                let counted = callers.tally().since(&start[zone]);
                if !done.contains_key(zone) && counted.requests >= self.requests {
                    callers.pace(GENTLE);
                    done.insert(zone.clone(), counted);
                }
            }
        }
        Ok(done)
    }

    fn failures(&self) -> u64 {
        self.play.callers.values().map(|c| c.tally().failures()).sum()
    }

    /// No request has failed since the start, but for those that a hand lost.
    ///
    /// # Errors
    /// How many did, where and why.
    pub fn unharmed(&self, what: &str) -> anyhow::Result<()> {
        if self.failures() == self.lost_by_hand {
            return Ok(());
        }
        let failed = self
            .play
            .callers
            .iter()
            .map(|(zone, callers)| (zone, callers.tally().failed));
        bail!(
            "{what}: requests failed: {:?}",
            failed.collect::<BTreeMap<_, _>>()
        );
    }

    /// The split as the coordinator shows it.
    ///
    /// # Errors
    /// If it does not.
    pub async fn split(&self) -> anyhow::Result<SplitStatus> {
        let split = self.play.viewer.split().await?;
        split.context("the split is gone")
    }

    async fn until(&self, what: &str, so: impl Fn(&SplitStatus) -> bool) -> anyhow::Result<SplitStatus> {
        self.play
            .until(what, PATIENCE, |split| {
                let split = split.context("the split is gone")?;
                Ok(so(split).then(|| split.clone()))
            })
            .await
    }

    fn api(&self, zone: &str) -> anyhow::Result<Api> {
        let parts = self
            .play
            .parts
            .get(zone)
            .with_context(|| format!("there is no zone {zone}"))?;
        Ok(Api::new(parts.api.clone()))
    }
}

fn is_proven(split: &SplitStatus, zone: &str) -> bool {
    in_zone(split, zone).is_ok_and(|zone| proven(split, zone))
}

/// The same, each with its labels.
async fn ours_of(api: &Api) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut ours = BTreeMap::new();
    for plural in ["meshhttproutes", "meshtcproutes"] {
        let list = api.get(&format!("/meshes/default/{plural}")).await?;
        for item in list["items"].as_array().into_iter().flatten() {
            if is_ours(&item["labels"]) {
                let name = item["name"].as_str().context("an object without a name")?;
                ours.insert(format!("/meshes/default/{plural}/{name}"), item["labels"].clone());
            }
        }
    }
    Ok(ours)
}

fn is_ours(labels: &Value) -> bool {
    let mut labels = labels.as_object().into_iter().flatten();
    labels.any(|(label, _)| label.starts_with("weir.dev/"))
}

/// A figure, past the capture of the test's output.
pub fn say(text: &str) {
    use std::io::Write as _;
    // If standard error is gone, nobody listens.
    let _ = writeln!(std::io::stderr(), "{text}");
}
