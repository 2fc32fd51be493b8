//! `weir-sandbox outage --drain`: a backend is stopped on purpose. `drain` takes its share to 0 first, with the proof of every
//! zone; then it is stopped, and nobody notices. Every request counts.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use weir_planner::Phase;
use weir_wire::api::{RouteWeights, SplitStatus, Standing};

use super::{DIES, PATIENCE, most_of_it, ms, tallies};
use crate::play::{GENTLE, Play};

/// How long the backend stays away.
const AWAY: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Stopped {
    /// From the order until every zone had proven 0 %.
    pub drained_after_ms: u64,
    /// From the end of the drain until every zone had proven what Git declares.
    pub back_after_ms: u64,
    /// Requests from the order until it was over.
    pub requests: u64,
    /// Of those.
    pub failed: u64,
    /// What the coordinator told meanwhile.
    pub told: String,
}

/// A stop on purpose, in a federation that is started.
///
/// # Errors
/// If something never comes.
pub async fn stopping(play: &mut Play) -> anyhow::Result<Stopped> {
    play.pace(GENTLE);
    let commit = most_of_it(play, None).await?;
    let before = tallies(play);
    let ordered = Instant::now();
    play.order(&["drain", "checkout", DIES, "--reason", "new kernel"])
        .await?;
    let told = play
        .until("every zone proves that it is drained", PATIENCE, |split| {
            Ok(split
                .filter(|split| drained(split))
                .map(|split| split.reason.clone()))
        })
        .await?;
    let drained_after_ms = ms(ordered.elapsed());
    play.end_application(DIES)?;
    // Nothing is waited for here: so long it is away.
    tokio::time::sleep(AWAY).await;
    play.begin_application(DIES).await?;
    let ended = Instant::now();
    play.order(&["undrain", "checkout", DIES, "--reason", "it is back"])
        .await?;
    play.proven(&commit).await?;
    play.rests().await?;
    let back_after_ms = ms(ended.elapsed());
    let all: Vec<_> = tallies(play)
        .iter()
        .map(|(zone, tally)| tally.since(&before[zone]))
        .collect();
    ensure!(all.iter().all(|zone| zone.requests > 0), "no request was sent");
    play.holds().await?;
    Ok(Stopped {
        drained_after_ms,
        back_after_ms,
        requests: all.iter().map(|zone| zone.requests).sum(),
        failed: all.iter().map(|zone| zone.failures()).sum(),
        told: told.unwrap_or_default(),
    })
}

/// As `weir drain` waits for it: told, and read back.
fn drained(split: &SplitStatus) -> bool {
    let gets = |of: &RouteWeights| {
        let mut routes = of.values();
        routes.any(|route| route.get(DIES).is_some_and(|weight| weight.0.get() > 0))
    };
    let rests = split
        .transition
        .as_ref()
        .is_some_and(|of| of.phase == Phase::Drained);
    rests
        && !split.zones.is_empty()
        && split.zones.iter().all(|zone| {
            let runs = zone.weights.as_ref();
            zone.standing == Standing::Converged && !gets(&zone.told) && runs.is_some_and(|of| !gets(of))
        })
}
