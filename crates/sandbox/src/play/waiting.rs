//! What is waited for in a play: a commit that is proven or gone, and whatever else the coordinator shows of the split. It
//! is asked again and again, for not all of that is an event.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::time::Instant;
use weir_wire::api::{SplitInZone, SplitStatus, SplitStep, Standing};

use super::{PATIENCE, Play};
use crate::coordinator::{SPLIT, follows, proven};
use crate::waiting::poll;

/// What must be so of a zone.
type So = fn(&SplitStatus, &SplitInZone) -> bool;

impl Play {
    /// Waits until every zone has proven this commit; how long that took.
    ///
    /// # Errors
    /// If it takes too long: with what is still missing.
    pub async fn proven(&self, commit: &str) -> anyhow::Result<Duration> {
        self.so_everywhere(commit, proven).await
    }

    /// The same for a commit that moves in waves and whose weights are new.
    ///
    /// # Errors
    /// If it takes too long: with what is still missing.
    pub async fn proven_in_waves(&self, commit: &str) -> anyhow::Result<Duration> {
        self.so_everywhere(commit, follows).await
    }

    async fn so_everywhere(&self, commit: &str, so: So) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let proven = || async { Ok(self.missing(commit, so).await.map_or(Ok(()), Err)) };
        let waited = poll(PATIENCE, proven).await;
        waited.with_context(|| format!("commit {commit} is not proven"))?;
        Ok(begin.elapsed())
    }

    /// From `at`, when it was made, to the last zone's proof of a commit: by the clock of the zones' own proofs, which are
    /// older than our seeing them. The ledger writes in batches: a proof that the status shows may not be in it yet.
    ///
    /// # Errors
    /// If the coordinator does not answer, or never writes down when the zones proved it.
    pub async fn commit_to_proof(&self, commit: &str, at: Timestamp) -> anyhow::Result<Duration> {
        let last = || async {
            let record = self.viewer.commit(commit).await?;
            let time =
                |zone: &String| -> Option<Timestamp> { record.as_ref()?.proven.get(zone)?.parse().ok() };
            let times: Option<Vec<Timestamp>> = self.zones.iter().map(time).collect();
            let last = times.and_then(|all| all.into_iter().max());
            Ok(last.ok_or_else(|| format!("the ledger does not say when every zone proved commit {commit}")))
        };
        let last = poll(Duration::from_secs(30), last).await?;
        Duration::try_from(last.duration_since(at))
            .with_context(|| format!("commit {commit} was proven before it was made"))
    }

    /// From `at`, when it was made, to the last zone's proof of a commit that may move in waves: each zone's proof of the step
    /// that told it so many per cent for the first backend. Commits name their first step, in which later waves move nothing.
    ///
    /// # Errors
    /// If the coordinator does not answer, or never writes down when the zones proved it.
    pub async fn commit_to_last_wave(
        &self,
        commit: &str,
        at: Timestamp,
        percent: u32,
    ) -> anyhow::Result<Duration> {
        let (first, _) = self.repository.ground().backends()[0];
        let last = || async {
            let mut steps = self.viewer.history().await?.steps;
            steps.retain(|step| step.commit == commit);
            steps.reverse();
            let tells = |step: &SplitStep, zone: &String| {
                let weight = step.told.get(zone)?.get("default")?.get(first)?;
                (weight.0.get() == percent * 100).then_some(())
            };
            // Who was overtaken by the next wave's step before it was written down proved that one at once.
            let time = |zone: &String| -> Option<Timestamp> {
                let told = steps.iter().filter(|step| tells(step, zone).is_some());
                told.filter_map(|step| step.proven.get(zone)?.parse().ok()).next()
            };
            let times: Option<Vec<Timestamp>> = self.zones.iter().map(time).collect();
            let last = times.and_then(|all| all.into_iter().max());
            Ok(last.ok_or_else(|| {
                format!("the ledger does not say when every zone proved commit {commit}: {steps:?}")
            }))
        };
        let last = poll(Duration::from_secs(30), last).await?;
        Duration::try_from(last.duration_since(at))
            .with_context(|| format!("commit {commit} was proven before it was made"))
    }

    /// Waits until the split is at rest.
    ///
    /// # Errors
    /// If it takes too long: with what is shown.
    pub async fn rests(&self) -> anyhow::Result<()> {
        self.until("the split rests", PATIENCE, |split| {
            Ok(split
                .is_some_and(|split| split.transition.is_none())
                .then_some(()))
        })
        .await
    }

    /// Nothing that must hold was found not to hold since the coordinator's start.
    ///
    /// # Errors
    /// If something was, or nothing was looked at, or the coordinator does not answer.
    pub async fn holds(&self) -> anyhow::Result<()> {
        let (checks, failures) = self.viewer.selfchecks().await?;
        anyhow::ensure!(
            checks > 0 && failures == 0,
            "{failures} of {checks} self-checks of the coordinator failed: its log says which"
        );
        Ok(())
    }

    /// Waits until the split is gone by this commit, and every zone is converged without it; how long that took.
    ///
    /// # Errors
    /// If it takes too long: with what is still there.
    pub async fn removed(&self, commit: &str) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let gone = || async {
            let list = self.viewer.splits().await?;
            let taken = list.commits.values().next().map(String::as_str) == Some(commit);
            let zones = self.viewer.zones().await?.zones;
            let of = |name: &String| zones.iter().find(|zone| zone.name == *name);
            let left: Vec<String> = self
                .zones
                .iter()
                .filter(|name| {
                    !of(name).is_some_and(|zone| {
                        zone.standing == Standing::Converged && zone.generation == list.generation
                    })
                })
                .map(|name| {
                    let why = of(name).and_then(|zone| zone.reason.clone());
                    format!("{name}: {}", why.unwrap_or_else(|| "silent".into()))
                })
                .collect();
            if taken && list.splits.is_empty() && left.is_empty() {
                return Ok(Ok(()));
            }
            Ok(Err(left.join("; ")))
        };
        let waited = poll(PATIENCE, gone).await;
        waited.with_context(|| format!("commit {commit} has not removed the split"))?;
        Ok(begin.elapsed())
    }

    /// Waits until the coordinator shows the split as wanted; what was made of that. A split that is not declared is none.
    ///
    /// # Errors
    /// The first of `so`; an answer that is none; if it takes longer than `patience`, with what is shown, or why nothing is.
    pub async fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        so: impl Fn(Option<&SplitStatus>) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let shown = || async {
            let split = match self.viewer.split().await {
                Ok(split) => split,
                // One answer that is late is no end of a story; one that is wrong is.
                Err(error) if is_late(&error) => return Ok(Err(format!("{error:#}"))),
                Err(error) => return Err(error),
            };
            let made = so(split.as_ref())?;
            Ok(made.ok_or_else(|| format!("it is {split:#?}")))
        };
        poll(patience, shown).await.with_context(|| what.to_owned())
    }

    /// What is missing until this commit is proven everywhere; none if nothing is.
    async fn missing(&self, commit: &str, so: So) -> Option<String> {
        let list = match self.viewer.splits().await {
            Ok(list) => list,
            Err(error) => return Some(format!("{error:#}")),
        };
        if list.commits.values().next().map(String::as_str) != Some(commit) {
            return Some(
                list.notice
                    .unwrap_or_else(|| "the coordinator has not taken it".into()),
            );
        }
        let Some(split) = list.splits.iter().find(|s| s.name == SPLIT) else {
            return Some(format!("there is no split `{SPLIT}`"));
        };
        let of = |zone: &String| split.zones.iter().find(|z| z.zone == *zone);
        let not = |zone: &&String| !of(zone).is_some_and(|z| so(split, z));
        let why = |zone: &String| {
            let state = of(zone).map(|z| {
                format!(
                    "{:?} at generation {}: {}",
                    z.standing,
                    z.generation,
                    z.reason.clone().unwrap_or_default()
                )
            });
            format!("{zone} is {}", state.unwrap_or_else(|| "silent".into()))
        };
        let open: Vec<String> = self.zones.iter().filter(not).map(why).collect();
        (!open.is_empty()).then(|| format!("generation {}: {}", split.generation, open.join("; ")))
    }
}

/// Whether nobody answered in time, or took the connection.
fn is_late(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<reqwest::Error>();
        cause.is_some_and(|cause| cause.is_timeout() || cause.is_connect())
    })
}
