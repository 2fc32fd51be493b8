//! `weir-sandbox soak`: random transitions under constant load, while what moves them is killed.
//!
//! Every request counts, also those of the seconds in which something is dead: coordinator, agents and control planes
//! carry no traffic, so nothing may be lost by them. Which control planes are spared because they come back empty is told.
//! After each proof, each zone's next N requests are held against the binomial bound; a backend with declared weight 0 may
//! answer none of them.

mod deaths;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use serde::Serialize;
use tokio::time::Instant;

use crate::bound::inside;
use crate::command::{Place, Soak};
use crate::play::{GENTLE, Play, Setup, Stores};
use crate::repository::SPLIT as FILE;
use crate::traffic::{Pace, Tally};
use deaths::{Death, Told, Who, candidates, draw, suffer};

/// One transition.
#[derive(Debug, Clone, Serialize)]
struct Line {
    transition: usize,
    commit: String,
    /// Per cent by backend.
    declared: BTreeMap<String, u32>,
    /// What was killed meanwhile, with -9.
    killed: Vec<Told>,
    /// Until every zone had proven it and everybody was back.
    proven_after_ms: u64,
    zones: BTreeMap<String, Zone>,
}

#[derive(Debug, Clone, Serialize)]
struct Zone {
    /// Since the commit.
    requests: u64,
    /// Of those.
    failed: u64,
    /// Good answers of all.
    answered: BTreeMap<String, u64>,
    /// After the proof.
    counted: BTreeMap<String, u64>,
}

/// The last line.
#[derive(Debug, Clone, Default, Serialize)]
struct End {
    transitions: usize,
    requests: u64,
    failed: u64,
    /// How, by zone.
    why: BTreeMap<String, u64>,
    /// After a proof, by a backend with declared weight 0.
    answered_at_zero: u64,
    /// Zones and transitions whose counted share was outside of its bound.
    outside: u64,
    /// How often who.
    killed: BTreeMap<String, u64>,
    /// Who never, because its objects would go with it.
    spared: Vec<String>,
    seconds: u64,
    seed: u64,
}

/// Soaks.
///
/// # Errors
/// If the federation cannot be started, or a transition never comes to its end.
pub async fn run(place: Place, soak: Soak) -> anyhow::Result<ExitCode> {
    let interrupted = crate::live::interrupted();
    tokio::pin!(interrupted);
    let setup = Setup {
        third: true,
        stores: stores(place.real, soak.memory),
        ..Setup::default()
    };
    say(&format!("soaking with the dice of --seed {}", soak.seed));
    let mut play = tokio::select! {
        started = Play::with(place, setup) => started?,
        () = &mut interrupted => bail!("interrupted while starting"),
    };
    let soaked = tokio::select! {
        soaked = soaking(&mut play, &soak) => soaked,
        () = &mut interrupted => {
            play.stop().await;
            bail!("interrupted: the soak is not finished");
        }
    };
    let end = match soaked {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    writeln!(anstream::stdout(), "{}", serde_json::to_string(&end)?)?;
    let good = end.failed == 0 && end.answered_at_zero == 0 && end.outside == 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn say(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(anstream::stderr(), "{text} ...");
}

/// Lasting ones, if that can be and nobody wants others.
fn stores(real: bool, memory: bool) -> Stores {
    if memory {
        return Stores::Memory;
    }
    Stores::lasting(real).unwrap_or_else(|absent| {
        say(&format!(
            "the global control plane and those of VM zones are spared: they would come back empty. {absent}"
        ));
        Stores::Memory
    })
}

async fn soaking(play: &mut Play, soak: &Soak) -> anyhow::Result<End> {
    let begin = Instant::now();
    let mut dice = Rng::with_seed(soak.seed);
    let mut end = End {
        transitions: soak.transitions,
        seed: soak.seed,
        ..End::default()
    };
    let (mortal, spared) = candidates(play, soak.memory);
    end.spared = spared.iter().map(Who::word).collect();
    play.pace(GENTLE);
    let mut vm = 100;
    let mut last = tallies(play);
    for transition in 1..=soak.transitions {
        vm = next(&mut dice, vm);
        let deaths = draw(&mut dice, &mortal);
        let text = play.repository.split_text(vm, 100 - vm);
        let message = format!("Send {vm} % to the VMs and {} % to the cloud", 100 - vm);
        let at = Instant::now();
        let commit = play.repository.commit(&[(FILE, &text)], &message)?;
        play.look();
        suffer(play, &deaths, at).await?;
        for death in &deaths {
            *end.killed.entry(death.who.word()).or_default() += 1;
        }
        play.proven(&commit).await?;
        let proven = at.elapsed();
        let counted = count(play, soak.requests).await?;
        let now = tallies(play);
        let declared = BTreeMap::from([("vm".to_owned(), vm), ("cloud".to_owned(), 100 - vm)]);
        let mut zones = BTreeMap::new();
        for (zone, tally) in &now {
            let all = tally.since(&last[zone]);
            end.requests += all.requests;
            end.failed += all.failures();
            for (why, times) in &all.failed {
                *end.why.entry(format!("{zone}: {why}")).or_default() += times;
            }
            let after = &counted[zone];
            judge(&mut end, &declared, after);
            zones.insert(
                zone.clone(),
                Zone {
                    requests: all.requests,
                    failed: all.failures(),
                    answered: all.counted,
                    counted: after.counted.clone(),
                },
            );
        }
        last = now;
        let line = Line {
            transition,
            commit,
            declared,
            killed: deaths.iter().map(Death::told).collect(),
            proven_after_ms: u64::try_from(proven.as_millis()).unwrap_or(u64::MAX),
            zones,
        };
        tell(soak, &line)?;
    }
    play.holds().await?;
    end.seconds = begin.elapsed().as_secs();
    Ok(end)
}

fn tell(soak: &Soak, line: &Line) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if soak.json {
        writeln!(out, "{}", serde_json::to_string(line)?)?;
    } else {
        let failed: u64 = line.zones.values().map(|zone| zone.failed).sum();
        let killed = if line.killed.is_empty() {
            "nothing".to_owned()
        } else {
            let all: Vec<&str> = line.killed.iter().map(|told| told.who.as_str()).collect();
            all.join(", ")
        };
        writeln!(
            out,
            "{:>4}  vm {:>3} %  proven after {:>6} ms  {failed} failed  killed: {killed}",
            line.transition, line.declared["vm"], line.proven_after_ms
        )?;
    }
    out.flush()?;
    Ok(())
}

/// Another weight than the last. Every third takes a backend to nothing: what loses requests without an anchor.
fn next(dice: &mut Rng, last: u32) -> u32 {
    loop {
        let vm = match dice.u32(0..6) {
            0 => 0,
            1 => 100,
            _ => dice.u32(0..=100),
        };
        if vm != last {
            return vm;
        }
    }
}

fn tallies(play: &Play) -> BTreeMap<String, Tally> {
    let all = play.callers.iter();
    all.map(|(zone, callers)| (zone.clone(), callers.tally()))
        .collect()
}

/// The next N requests of each zone.
async fn count(play: &Play, requests: u64) -> anyhow::Result<BTreeMap<String, Tally>> {
    let start = tallies(play);
    let end = Instant::now() + Duration::from_secs(300);
    let mut done = BTreeMap::new();
    play.pace(Pace::Full);
    while done.len() < start.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        for (zone, callers) in &play.callers {
            let counted = callers.tally().since(start.get(zone).context("a zone came")?);
            if !done.contains_key(zone) && counted.requests >= requests {
                callers.pace(GENTLE);
                done.insert(zone.clone(), counted);
            }
        }
        if Instant::now() > end {
            bail!("{requests} requests in each zone take more than 5 minutes");
        }
    }
    play.pace(GENTLE);
    Ok(done)
}

fn judge(end: &mut End, declared: &BTreeMap<String, u32>, tally: &Tally) {
    let answered: u64 = tally.counted.values().sum();
    let mut outside = false;
    for (backend, percent) in declared {
        let count = tally.counted.get(backend).copied().unwrap_or(0);
        if *percent == 0 {
            end.answered_at_zero += count;
        }
        outside |= !inside(count, answered, percent * 100);
    }
    let strangers = tally.counted.keys().any(|name| !declared.contains_key(name));
    end.outside += u64::from(outside || strangers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_always_change_and_often_end() {
        let mut dice = Rng::with_seed(7);
        let mut last = 100;
        let mut ends = 0;
        for _ in 0..1_000 {
            let vm = next(&mut dice, last);
            assert!(vm != last && vm <= 100);
            ends += usize::from(vm == 0 || vm == 100);
            last = vm;
        }
        assert!(ends > 200, "{ends}");
    }

    #[test]
    fn a_stray_answer_and_a_wrong_share_are_counted() {
        let declared = BTreeMap::from([("vm".to_owned(), 100), ("cloud".to_owned(), 0)]);
        let tally = |vm, cloud| Tally {
            requests: vm + cloud,
            failed: BTreeMap::new(),
            counted: BTreeMap::from([("vm".to_owned(), vm), ("cloud".to_owned(), cloud)]),
        };
        let mut end = End::default();
        judge(&mut end, &declared, &tally(1_000, 0));
        assert_eq!((end.answered_at_zero, end.outside), (0, 0));
        judge(&mut end, &declared, &tally(999, 1));
        assert_eq!((end.answered_at_zero, end.outside), (1, 1));
        let half = BTreeMap::from([("vm".to_owned(), 50), ("cloud".to_owned(), 50)]);
        judge(&mut end, &half, &tally(900, 100));
        assert_eq!((end.answered_at_zero, end.outside), (1, 2));
    }
}
