//! Changes that Weir carries. Each is a commit with weights that the split never rested on: one that goes back to where it
//! rested before is a revert, and passes all waves at once.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::envoys::Envoys;
use super::{REST, Times};
use crate::play::Play;
use crate::repository::SPLIT as FILE;
use crate::traffic::Callers;

/// So many changes of a kind can be measured: there are no more whole per cent that are new.
pub const MOST: usize = NEW as usize / 2;
/// How many divisions [`fresh`] has, from this per cent on. A prime, so that any stride meets each of them once.
const NEW: u32 = 73;
const FIRST: u32 = 12;
const STRIDE: u32 = 31;
/// Where the story of the tour has rested.
const RESTED: [u32; 4] = [100, 90, 50, 0];
/// Declared beside the weights, so that the split soon rests and the next commit may come. Traffic is judged after the last
/// wave's proof: it is in none of the times.
const VERIFY: &str = "  transition: {verify: {requests: 20, within: 5s, insufficient: proceed}}\n";

/// What became of changes that Weir carried.
#[derive(Debug, Clone, Serialize)]
pub struct Carried {
    /// Requests that all callers sent meanwhile.
    pub requests: u64,
    /// Of those, failed.
    pub failed: u64,
    /// From a commit, until the last caller's Envoy had it.
    pub commit_to_envoy_ms: Times,
    /// From a commit, until the last zone's agent read what proved it.
    pub commit_to_proof_ms: Times,
    /// From a commit, until the coordinator's API said that every zone has proven it.
    pub commit_to_status_ms: Times,
}

/// Divisions in per cent of the first and second backend, far from one to the next, and each only once.
pub(super) fn fresh() -> impl Iterator<Item = [u32; 2]> {
    let all = (0..NEW).map(|round| FIRST + round * STRIDE % NEW);
    all.filter(|vm| !RESTED.contains(vm)).map(|vm| [vm, 100 - vm])
}

/// Measures these changes, one after the other.
pub(super) async fn carried(
    play: &Play,
    envoys: &Envoys,
    divisions: impl Iterator<Item = [u32; 2]>,
) -> anyhow::Result<Carried> {
    let before = sent(play);
    let (mut envoy, mut proof, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for division in divisions {
        tokio::time::sleep(REST).await;
        let text = play.repository.split_text(division[0], division[1]) + VERIFY;
        let (at, begin) = (Timestamp::now(), Instant::now());
        let id = play.repository.commit(&[(FILE, &text)], "Measure a change")?;
        play.look();
        envoy.push(envoys.arrived(division, begin).await?);
        play.proven_in_waves(&id).await?;
        told.push(begin.elapsed());
        proof.push(play.commit_to_last_wave(&id, at, division[0]).await?);
        play.rests().await?;
    }
    let after = sent(play);
    Ok(Carried {
        requests: after.0 - before.0,
        failed: after.1 - before.1,
        commit_to_envoy_ms: Times::of(envoy)?,
        commit_to_proof_ms: Times::of(proof)?,
        commit_to_status_ms: Times::of(told)?,
    })
}

/// From now on the zone of the second backend follows when all others have proven a change.
pub(super) async fn two_waves(play: &Play) -> anyhow::Result<()> {
    let [_, (_, last)] = play.repository.ground().backends();
    let commit = play.repository.follows(last)?;
    play.look();
    play.proven(&commit).await?;
    // The next commit shall ride on no tick of this one.
    tokio::time::sleep(Duration::from_secs(1)).await;
    play.rests().await
}

fn sent(play: &Play) -> (u64, u64) {
    let tallies = play.callers.values().map(Callers::tally);
    tallies.fold((0, 0), |(sent, failed), t| {
        (sent + t.requests, failed + t.failures())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_division_comes_twice_and_there_are_enough() {
        let all: Vec<[u32; 2]> = fresh().collect();
        assert!(all.len() >= 2 * MOST, "{}", all.len());
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert!(
            all.iter()
                .all(|[vm, cloud]| vm + cloud == 100 && !RESTED.contains(vm))
        );
        let near = all.windows(2).filter(|pair| pair[0][0].abs_diff(pair[1][0]) < 10);
        assert_eq!(near.count(), 0);
    }
}
