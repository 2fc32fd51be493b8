//! `weir-sandbox outage`: a backend dies under load: its application, its dataplane, or the ingress through which other zones
//! come to it. With a fallback declared its share goes elsewhere within seconds and comes back when it is well; without one
//! it fails until somebody does something. Every request counts.

mod dies;
mod on_purpose;
mod slower;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use tokio::time::Instant;
use weir_wire::api::{SplitInZone, Standing};

use crate::command::{Outage, Place};
use crate::play::{GENTLE, Play};
use crate::policies::left_alone;
use crate::repository::SPLIT as FILE;
use crate::traffic::Tally;
pub use dies::{Beside, Dies};
pub use on_purpose::{Stopped, stopping};
pub use slower::{Slowed, slowing};

/// The backend that dies.
const DIES: &str = "cloud";
/// Its share, in per cent.
const SHARE: u32 = 80;
/// So long without a failure, and its share is elsewhere everywhere.
const QUIET: Duration = Duration::from_secs(4);
/// How long is watched where nothing is declared.
const WATCHED: Duration = Duration::from_secs(20);
/// How long anything may take before it is called failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    /// What died.
    pub dies: Dies,
    /// Who was there to do something about it.
    pub beside: Beside,
    /// Each zone with callers.
    pub zones: BTreeMap<String, Zone>,
    /// What the coordinator told of a zone while it was so.
    pub told: Option<String>,
    /// From the backend's return until every zone had its share as declared, by proof; where nobody proves anything, until
    /// no request failed any more.
    pub back_after_ms: Option<u64>,
    /// Requests that failed after the backend was back.
    pub failed_at_return: u64,
}

/// One zone.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Zone {
    /// From the death until what is watched ended.
    pub requests: u64,
    /// Of those.
    pub failed: u64,
    /// From the death to the last failure.
    pub last_failed_after_ms: u64,
}

/// Plays it.
///
/// # Errors
/// If the federation cannot be started, or something never comes.
pub async fn run(place: Place, outage: Outage) -> anyhow::Result<ExitCode> {
    let interrupted = crate::live::interrupted();
    tokio::pin!(interrupted);
    ensure!(
        place.real || outage.dies != Dies::Ingress,
        "nothing goes through the double's ingresses: its callers reach other zones' dataplanes themselves. In real Kuma it does (--real)"
    );
    let mut play = tokio::select! {
        started = Play::at(place, false, false) => started?,
        () = &mut interrupted => bail!("interrupted while starting"),
    };
    let told = async {
        if outage.drain {
            let stopped = stopping(&mut play).await?;
            return Ok((serde_json::to_string(&stopped)?, stopped.failed));
        }
        if outage.slow {
            let slowed = slowing(&mut play).await?;
            return Ok((serde_json::to_string(&slowed)?, slowed.failed));
        }
        let end = playing(&mut play, outage.dies, outage.beside()).await?;
        Ok((serde_json::to_string(&end)?, end.failed_at_return))
    };
    let played = tokio::select! {
        played = told => played,
        () = &mut interrupted => {
            play.stop().await;
            bail!("interrupted: the outage is not over");
        }
    };
    let (line, lost) = match played {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    writeln!(anstream::stdout(), "{line}")?;
    Ok(if lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The outage in a federation that is started.
///
/// # Errors
/// If something never comes.
pub async fn playing(play: &mut Play, dies: Dies, beside: Beside) -> anyhow::Result<End> {
    let (mut end, commit, dead) = dying(play, dies, beside).await?;
    let back = Instant::now();
    dies.live(play).await?;
    // Until its proxies have found it again, what is sent to it may still fail where nothing was moved away.
    let settled = match beside {
        Beside::Fallback => dead,
        Beside::Weir | Beside::Nobody => well(play).await?,
    };
    if beside != Beside::Nobody {
        play.proven(&commit).await?;
    }
    end.back_after_ms = Some(ms(back.elapsed()));
    let now = tallies(play);
    let failed = now
        .iter()
        .map(|(zone, tally)| tally.since(&settled[zone]).failures());
    end.failed_at_return = failed.sum();
    if beside != Beside::Nobody {
        play.holds().await?;
    }
    Ok(end)
}

/// Its first half, at whose end the backend is dead: what came of it so far.
///
/// # Errors
/// If something never comes.
pub async fn dead(play: &mut Play, dies: Dies) -> anyhow::Result<End> {
    let (end, ..) = dying(play, dies, Beside::Fallback).await?;
    play.holds().await?;
    Ok(end)
}

/// What came of it, the commit that is in force, and what was seen until then.
async fn dying(
    play: &mut Play,
    dies: Dies,
    beside: Beside,
) -> anyhow::Result<(End, String, BTreeMap<String, Tally>)> {
    play.pace(GENTLE);
    let recover = dies.recover().as_secs();
    let declared = (beside == Beside::Fallback).then(|| {
        format!(
            "  fallback:                  # while it is down\n    {DIES}: {{to: vm, recover: {recover}s}}\n"
        )
    });
    let commit = most_of_it(play, declared).await?;
    if beside == Beside::Nobody {
        left_alone(play).await?;
    }
    let before = tallies(play);
    let died = Instant::now();
    dies.die(play).await?;
    let mut zones = watch(play, &before, died, beside).await;
    let told = match beside {
        Beside::Fallback => Some(told(play, &zones).await?),
        Beside::Weir | Beside::Nobody => None,
    };
    let after = tallies(play);
    for (zone, seen) in &mut zones {
        let all = after[zone].since(&before[zone]);
        (seen.requests, seen.failed) = (all.requests, all.failures());
    }
    let end = End {
        dies,
        beside,
        zones,
        told,
        back_after_ms: None,
        failed_at_return: 0,
    };
    Ok((end, commit, after))
}

/// Sends most of the requests to the backend that dies, with what else is declared, and waits until the split is at rest: while
/// traffic is still judged a dead backend is a bad verdict, and the split goes back as a whole. The commit.
async fn most_of_it(play: &Play, declared: Option<String>) -> anyhow::Result<String> {
    let text = play.repository.split_text(100 - SHARE, SHARE) + &declared.unwrap_or_default();
    let commit = play
        .repository
        .commit(&[(FILE, &text)], "Most of it to the cloud")?;
    play.look();
    play.proven(&commit).await?;
    play.rests().await?;
    Ok(commit)
}

/// Watches failures until there are none any more, or long enough.
async fn watch(
    play: &Play,
    before: &BTreeMap<String, Tally>,
    died: Instant,
    beside: Beside,
) -> BTreeMap<String, Zone> {
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = died;
    loop {
        for (zone, tally) in tallies(play) {
            let failures = tally.since(&before[&zone]).failures();
            let seen = zones.entry(zone.clone()).or_default();
            if failed.insert(zone, failures).unwrap_or(0) != failures {
                last = Instant::now();
                seen.last_failed_after_ms = ms(died.elapsed());
            }
        }
        let over = match beside {
            Beside::Fallback => last.elapsed() > QUIET && last > died,
            Beside::Weir | Beside::Nobody => died.elapsed() > WATCHED,
        };
        if over || died.elapsed() > PATIENCE {
            return zones;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What is shown of a zone whose share is elsewhere; every zone whose requests failed must be shown so.
async fn told(play: &Play, seen: &BTreeMap<String, Zone>) -> anyhow::Result<String> {
    let struck = |zone: &SplitInZone| {
        seen.get(&zone.zone)
            .is_some_and(|zone| zone.last_failed_after_ms > 0)
    };
    play.until("every zone is shown as fallen back", PATIENCE, |split| {
        let zones = split.map(|split| split.zones.as_slice()).unwrap_or_default();
        let zones: Vec<&SplitInZone> = zones.iter().filter(|zone| struck(zone)).collect();
        let all = zones.iter().all(|zone| zone.standing == Standing::Fallback);
        let reason = zones.iter().find_map(|zone| zone.reason.clone());
        Ok((!zones.is_empty() && all).then(|| reason.unwrap_or_default()))
    })
    .await
}

/// Waits until nothing failed for a second; what was seen until then.
async fn well(play: &Play) -> anyhow::Result<BTreeMap<String, Tally>> {
    let begin = Instant::now();
    let failures = |all: &BTreeMap<String, Tally>| all.values().map(Tally::failures).sum::<u64>();
    let mut since = (Instant::now(), failures(&tallies(play)));
    loop {
        let now = tallies(play);
        if failures(&now) != since.1 {
            since = (Instant::now(), failures(&now));
        }
        if since.0.elapsed() > Duration::from_secs(1) {
            return Ok(now);
        }
        if begin.elapsed() > PATIENCE {
            bail!("requests go on failing though the backend is back");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn tallies(play: &Play) -> BTreeMap<String, Tally> {
    let all = play.callers.iter();
    all.map(|(zone, callers)| (zone.clone(), callers.tally()))
        .collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
