//! `weir-sandbox outage --slow`: a backend takes longer for its answers than before, and fails none. The step that gives it most of
//! the traffic is taken back by itself. Every request counts.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use weir_planner::Phase;
use weir_wire::api::{SplitStatus, Standing};

use super::{DIES, PATIENCE, ms, tallies};
use crate::play::{GENTLE, Play};
use crate::repository::SPLIT as FILE;

/// How long each of its answers takes from then on.
const SLOW: Duration = Duration::from_millis(1_500);
/// Its share before and after, in per cent.
const SHARES: (u32, u32) = (20, 80);

/// From this on an answer is slow; well above what a busy machine takes for one.
const JUDGED: &str =
    "  transition: {verify: {requests: 60, within: 60s, insufficient: hold, latency: 500ms}}\n";

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Slowed {
    /// From the commit that gives it more until every zone had proven what there was before.
    pub returned_after_ms: u64,
    /// Why the coordinator took it back, in its words.
    pub told: String,
    /// Requests from that commit until then.
    pub requests: u64,
    /// Of those.
    pub failed: u64,
}

/// A backend gets slower and is to get more, in a federation that is started.
///
/// # Errors
/// If something never comes.
pub async fn slowing(play: &mut Play) -> anyhow::Result<Slowed> {
    play.pace(GENTLE);
    let (before, after) = SHARES;
    let first = commit(play, before, "A fifth of it to the cloud", "")?;
    play.proven(&first).await?;
    play.rests().await?;
    play.slow_application(DIES, SLOW)?;
    let counted = tallies(play);
    let began = Instant::now();
    commit(play, after, "Most of it to the cloud", JUDGED)?;
    let told = play
        .until("the split is back where it was", PATIENCE, |split| {
            Ok(split
                .filter(|split| is_back(split))
                .map(|split| split.reason.clone()))
        })
        .await?;
    let returned_after_ms = ms(began.elapsed());
    let all: Vec<_> = tallies(play)
        .iter()
        .map(|(zone, tally)| tally.since(&counted[zone]))
        .collect();
    ensure!(all.iter().all(|zone| zone.requests > 0), "no request was sent");
    play.holds().await?;
    Ok(Slowed {
        returned_after_ms,
        told: told.unwrap_or_default(),
        requests: all.iter().map(|zone| zone.requests).sum(),
        failed: all.iter().map(|zone| zone.failures()).sum(),
    })
}

fn commit(play: &Play, share: u32, message: &str, transition: &str) -> anyhow::Result<String> {
    let text = play.repository.split_text(100 - share, share) + transition;
    let commit = play.repository.commit(&[(FILE, &text)], message)?;
    play.look();
    Ok(commit)
}

/// Quarantined, and read back in every zone.
fn is_back(split: &SplitStatus) -> bool {
    let quarantined = split
        .transition
        .as_ref()
        .is_some_and(|of| of.phase == Phase::Quarantined);
    let before = |zone: &weir_wire::api::SplitInZone| {
        let runs = zone.weights.iter().flat_map(|of| of.values());
        let mut shares = runs.filter_map(|route| route.get(DIES)).peekable();
        shares.peek().is_some() && shares.all(|share| share.0.get() == SHARES.0 * 100)
    };
    let zones = &split.zones;
    quarantined
        && !zones.is_empty()
        && zones
            .iter()
            .all(|zone| zone.standing == Standing::Converged && before(zone))
}
