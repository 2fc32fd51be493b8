//! `weir-sandbox restarts`: Kuma's own restarts under constant load, with Weir beside them or, with `--without`, with nobody who
//! puts anything right. Every request counts, from the death until all is right again, or for as long as it is watched.

mod events;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::bound::inside;
use crate::command::{Place, Restarts};
use crate::play::{GENTLE, Play, Setup, Stores};
use crate::policies::{Store, left_alone};
use crate::repository::SPLIT as FILE;
use crate::traffic::{Eye, Tally};
pub use events::Event;
use events::{WATCHED, happen, left_out};

/// Per cent of the first and second backend. Without a policy it is 75 and 25 where the first is, 25 and 75 where the second is:
/// three callers of four reach what is near.
const SHARES: [u32; 2] = [55, 45];
/// Each takes the other's share.
const FALLBACK: &str = "  fallback: {vm: {to: cloud, recover: 10s}, cloud: {to: vm, recover: 10s}}\n";
/// So long is counted for one look at the shares.
const LOOK: Duration = Duration::from_secs(3);
/// How long shares may take to be right before the next event.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of one event.
#[derive(Debug, Clone, Serialize)]
struct Line {
    event: Event,
    /// Whether Weir was beside it.
    weir: bool,
    /// Whether it had a fallback.
    fallback: bool,
    /// From when a zone's control plane answered again (or had the mesh again) until it had its policy again: the zone that
    /// took longest. None where that was not looked for, or it never had.
    policies_back_after_ms: Option<u64>,
    zones: BTreeMap<String, Zone>,
    seconds: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Zone {
    /// Since the event began.
    requests: u64,
    /// Of those.
    failed: u64,
    /// How.
    why: BTreeMap<String, u64>,
    /// From its beginning to the last failure.
    last_failed_after_ms: u64,
    /// Who answered when it was over.
    counted: BTreeMap<String, u64>,
    /// Whether that is inside of the bound of what is declared.
    right: bool,
}

/// The same policies, put by hand.
type ByHand = BTreeMap<String, (Store, Value)>;

/// Lets it all happen.
///
/// # Errors
/// If a federation cannot be started, or something never comes.
pub async fn run(place: Place, restarts: Restarts) -> anyhow::Result<ExitCode> {
    let interrupted = crate::live::interrupted();
    tokio::pin!(interrupted);
    let asked = match restarts.event.is_empty() {
        true => Event::ALL.to_vec(),
        false => restarts.event.clone(),
    };
    let mut good = true;
    for lasting in [false, true] {
        let events: Vec<Event> = asked
            .iter()
            .copied()
            .filter(|of| of.lasting() == lasting)
            .collect();
        if events.is_empty() {
            continue;
        }
        let stores = match lasting {
            true => Stores::lasting(place.real)?,
            false => Stores::Memory,
        };
        let place = Place {
            dir: place
                .dir
                .as_ref()
                .map(|dir| dir.join(if lasting { "lasting" } else { "memory" })),
            ..place.clone()
        };
        let setup = Setup {
            stores,
            ..Setup::default()
        };
        let mut play = tokio::select! {
            started = Play::with(place, setup) => started?,
            () = &mut interrupted => bail!("interrupted while starting"),
        };
        let played = tokio::select! {
            played = playing(&mut play, &events, &restarts) => played,
            () = &mut interrupted => {
                play.stop().await;
                bail!("interrupted: the restarts are not over");
            }
        };
        match played {
            Ok(well) => good &= well,
            Err(error) => return Err(play.failed(error).await),
        }
        play.stop().await;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All of these events in a federation that is started; whether each went as it should.
async fn playing(play: &mut Play, events: &[Event], restarts: &Restarts) -> anyhow::Result<bool> {
    play.pace(GENTLE);
    let text = declared(play, SHARES[0], restarts.fallback);
    let commit = play
        .repository
        .commit(&[(FILE, &text)], "Most of it to the cloud")?;
    play.look();
    play.proven(&commit).await?;
    play.rests().await?;
    let by_hand = match restarts.without {
        true => Some(left_alone(play).await?),
        false => None,
    };
    let mut good = true;
    for event in events {
        if let Some(why) = left_out(play, *event, restarts.without) {
            writeln!(anstream::stderr(), "{} is left out: {why}", event.word())?;
            continue;
        }
        let line = suffer(play, *event, by_hand.as_ref(), restarts).await?;
        good &= restarts.without || line.is_good();
        tell(restarts, &line)?;
    }
    Ok(good)
}

impl Line {
    /// All is right again, and where no store was lost no request was.
    fn is_good(&self) -> bool {
        let lost: u64 = self.zones.values().map(|zone| zone.failed).sum();
        self.zones.values().all(|zone| zone.right) && (lost == 0 || !self.event.lasting())
    }
}

/// The split with so many per cent for its first backend.
fn declared(play: &Play, vm: u32, fallback: bool) -> String {
    play.repository.split_text(vm, 100 - vm) + if fallback { FALLBACK } else { "" }
}

/// One event, from a state in which all is right.
async fn suffer(
    play: &mut Play,
    event: Event,
    by_hand: Option<&ByHand>,
    restarts: &Restarts,
) -> anyhow::Result<Line> {
    right_at_first(play, by_hand).await?;
    let before = tallies(play);
    let begin = Instant::now();
    let eyes = play.callers.iter();
    let eyes: BTreeMap<String, Eye> = eyes
        .map(|(zone, callers)| (zone.clone(), callers.eye()))
        .collect();
    let happening = async {
        let back = happen(play, event, by_hand.is_none(), restarts).await?;
        // For this nothing is waited: so long it is watched.
        tokio::time::sleep(WATCHED).await;
        anyhow::Ok(back)
    };
    let (back, last) = watched(&eyes, begin, happening).await?;
    if by_hand.is_none() {
        play.holds().await?;
    }
    let seen = look(play).await;
    let after = tallies(play);
    let mut zones = BTreeMap::new();
    for (zone, tally) in &after {
        let all = tally.since(&before[zone]);
        zones.insert(
            zone.clone(),
            Zone {
                requests: all.requests,
                failed: all.failures(),
                why: all.failed,
                last_failed_after_ms: last.get(zone).copied().map_or(0, ms),
                right: is_right(&seen[zone]),
                counted: seen[zone].counted.clone(),
            },
        );
    }
    Ok(Line {
        event,
        weir: by_hand.is_none(),
        fallback: restarts.fallback,
        policies_back_after_ms: back.map(ms),
        zones,
        seconds: begin.elapsed().as_secs(),
    })
}

/// Puts by hand what an earlier event took, and waits until every zone's shares are right.
async fn right_at_first(play: &Play, by_hand: Option<&ByHand>) -> anyhow::Result<()> {
    for (zone, (store, document)) in by_hand.into_iter().flatten() {
        if store.is_there().await? {
            continue;
        }
        match store {
            Store::Universal(_) => store.put(document).await?,
            Store::Cluster(_) => bail!("the policy in the cluster {zone} is gone"),
        }
    }
    let begin = Instant::now();
    loop {
        let seen = look(play).await;
        if seen.values().all(is_right) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("shares are not {SHARES:?} before anything happened: {seen:?}");
        }
    }
}

/// The future's outcome, and when the last request of each zone failed meanwhile.
async fn watched<T>(
    eyes: &BTreeMap<String, Eye>,
    begin: Instant,
    what: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, BTreeMap<String, Duration>)> {
    tokio::pin!(what);
    let failures = |eye: &Eye| eye.tally().failures();
    let mut seen: BTreeMap<&String, u64> = eyes.iter().map(|(zone, eye)| (zone, failures(eye))).collect();
    let mut last = BTreeMap::new();
    loop {
        let done = tokio::select! {
            done = &mut what => Some(done?),
            () = tokio::time::sleep(Duration::from_millis(10)) => None,
        };
        for (zone, eye) in eyes {
            let now = failures(eye);
            if seen.insert(zone, now) != Some(now) {
                last.insert(zone.clone(), begin.elapsed());
            }
        }
        if let Some(done) = done {
            return Ok((done, last));
        }
    }
}

/// What each zone's callers see for a moment.
async fn look(play: &Play) -> BTreeMap<String, Tally> {
    let before = tallies(play);
    tokio::time::sleep(LOOK).await;
    let after = tallies(play);
    let seen = after.into_iter().map(|(zone, tally)| {
        let seen = tally.since(&before[&zone]);
        (zone, seen)
    });
    seen.collect()
}

/// None failed, and who answered is inside of the bound of what is declared.
fn is_right(seen: &Tally) -> bool {
    let answered: u64 = seen.counted.values().sum();
    let share = |(backend, percent): (&str, u32)| {
        inside(
            seen.counted.get(backend).copied().unwrap_or(0),
            answered,
            percent * 100,
        )
    };
    answered > 0 && seen.failures() == 0 && ["vm", "cloud"].into_iter().zip(SHARES).all(share)
}

fn tell(restarts: &Restarts, line: &Line) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if restarts.json {
        writeln!(out, "{}", serde_json::to_string(line)?)?;
    } else {
        writeln!(out, "{}: {}", line.event.word(), line.event.what())?;
        for (zone, seen) in &line.zones {
            let shares = if seen.right {
                "as declared"
            } else {
                "NOT as declared"
            };
            writeln!(
                out,
                "  {zone:<6} {} of {} requests failed, the last after {} ms; then shares {shares}",
                seen.failed, seen.requests, seen.last_failed_after_ms
            )?;
        }
        if let Some(back) = line.policies_back_after_ms {
            writeln!(out, "  policies back {back} ms after the control plane")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn tallies(play: &Play) -> BTreeMap<String, Tally> {
    let all = play.callers.iter();
    all.map(|(zone, callers)| (zone.clone(), callers.tally()))
        .collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_right_only_inside_the_bound_and_without_a_failure() {
        let tally = |vm, cloud, failed: u64| Tally {
            requests: vm + cloud + failed,
            failed: [("503".to_owned(), failed)]
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .collect(),
            counted: BTreeMap::from([("vm".to_owned(), vm), ("cloud".to_owned(), cloud)]),
        };
        assert!(is_right(&tally(550, 450, 0)));
        assert!(!is_right(&tally(550, 450, 1)));
        assert!(!is_right(&tally(750, 250, 0)));
        assert!(!is_right(&tally(250, 750, 0)));
        assert!(!is_right(&tally(0, 1_000, 0)));
        assert!(!is_right(&Tally::default()), "nobody answered");
    }

    #[tokio::test]
    async fn the_last_failure_is_the_last_one() {
        let callers = crate::traffic::Callers::start(&[crate::Outbound {
            address: ([127, 0, 0, 1], 1).into(),
            target: String::new(),
        }]);
        let eyes = BTreeMap::from([("here".to_owned(), callers.eye())]);
        let story = async {
            callers.pace(GENTLE);
            while callers.tally().failures() < 3 {
                tokio::task::yield_now().await;
            }
            callers.rest().await;
            let stopped = Instant::now();
            tokio::time::sleep(Duration::from_millis(200)).await;
            anyhow::Ok(stopped)
        };
        let begin = Instant::now();
        let (stopped, last) = watched(&eyes, begin, story).await.expect("it comes to its end");
        let last = last["here"];
        assert!(last < (stopped - begin) + Duration::from_millis(150), "{last:?}");
    }
}
