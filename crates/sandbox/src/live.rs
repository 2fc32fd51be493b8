//! `weir-sandbox` alone: what is declared against what is counted, zone by zone, in place on a terminal and as plain
//! lines on a pipe; and which file to edit.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_wire::api::{Event, SplitInZone, SplitList, SplitStatus};

use crate::command::Place;
use crate::coordinator::{SPLIT, declared, weights_word};
use crate::play::{ENV, Play, Scene, Setup};
use crate::traffic::{Pace, Tally};

/// Some hundred requests a second and zone: enough to see a share in seconds, little for a laptop.
const PACE: Pace = Pace::Gentle(Duration::from_millis(20));
/// Shares are counted over the last so many seconds.
const WINDOW: usize = 10;
/// Events shown.
const EVENTS: usize = 6;

/// Resolves when somebody wants to end this: Ctrl-C, or SIGTERM.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals do what they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Shows the picture until it is interrupted.
///
/// # Errors
/// If the federation cannot be started.
pub async fn run(place: Place) -> anyhow::Result<ExitCode> {
    let setup = Setup {
        dir: place.dir,
        real: place.real,
        ..Setup::default()
    };
    let mut say = |text: &str| {
        // Nobody is left to tell if this fails.
        let _ = writeln!(anstream::stderr(), "{text} ...");
    };
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    let scene = Scene::choose(place.real, place.universal, &mut say);
    let play = tokio::select! {
        started = Play::start_on(scene, setup, &mut say) => started?,
        () = &mut interrupted => bail!("interrupted while starting"),
    };
    play.pace(PACE);
    let shown = tokio::select! {
        shown = show(&play) => shown,
        () = &mut interrupted => Ok(()),
    };
    writeln!(anstream::stdout(), "\nending everything ...")?;
    match shown {
        Ok(()) => {
            play.stop().await;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(play.failed(error).await),
    }
}

async fn show(play: &Play) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let events: Arc<Mutex<VecDeque<Event>>> = Arc::default();
    let following = tokio::spawn(follow(play.viewer.clone(), Arc::clone(&events)));
    let _stopped = tokio_util::task::AbortOnDropHandle::new(following);
    let begin = Instant::now();
    let mut history: VecDeque<BTreeMap<String, Tally>> = VecDeque::new();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        let now: BTreeMap<_, _> = play.callers.iter().map(|(z, c)| (z.clone(), c.tally())).collect();
        history.push_back(now.clone());
        if history.len() > WINDOW + 1 {
            history.pop_front();
        }
        let window = &history[0];
        let counted = now
            .iter()
            .map(|(zone, tally)| (zone.clone(), tally.since(&window[zone])))
            .collect();
        let recent: Vec<Event> = locked(&events).iter().cloned().collect();
        let picture = Picture {
            title: format!(
                "Weir sandbox with the {} of Kuma, for {} s, in {}",
                if play.cast.name() == "double" {
                    "double"
                } else {
                    "real parts"
                },
                begin.elapsed().as_secs(),
                play.dir.display()
            ),
            list: play.viewer.splits().await.map_err(|error| format!("{error:#}")),
            counted,
            total: now.values().map(|t| t.requests).sum(),
            failed: now.values().map(Tally::failures).sum(),
            events: recent,
            file: play
                .repository
                .dir()
                .join(crate::repository::SPLIT)
                .display()
                .to_string(),
            repository: play.repository.dir().display().to_string(),
            env: play.dir.join(ENV).display().to_string(),
            now: Timestamp::now(),
        };
        let mut out = anstream::stdout().lock();
        if terminal {
            // Home, the picture, and away with what was below it.
            let lines: String = picture.text().lines().map(|l| format!("{l}\x1b[K\n")).collect();
            write!(out, "\x1b[H{lines}\x1b[J")?;
        } else {
            let state = picture.state();
            if state != last {
                write!(
                    out,
                    "{}",
                    if last.is_empty() {
                        picture.text()
                    } else {
                        state.clone()
                    }
                )?;
                last = state;
            }
        }
        out.flush()?;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the newest events, whatever happens to the coordinator.
async fn follow(viewer: crate::coordinator::Viewer, events: Arc<Mutex<VecDeque<Event>>>) {
    loop {
        let after = locked(&events).back().map_or(0, |e| e.id);
        let take = |event| {
            let mut events = locked(&events);
            events.push_back(event);
            if events.len() > EVENTS {
                events.pop_front();
            }
        };
        // It ends when the coordinator does: then from where it ended.
        let _ = viewer.follow(after, take).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One frame.
struct Picture {
    title: String,
    list: Result<SplitList, String>,
    counted: BTreeMap<String, Tally>,
    total: u64,
    failed: u64,
    events: Vec<Event>,
    file: String,
    repository: String,
    env: String,
    now: Timestamp,
}

impl Picture {
    fn split(&self) -> Option<&SplitStatus> {
        let list = self.list.as_ref().ok()?;
        list.splits.iter().find(|s| s.name == SPLIT)
    }

    /// What a pipe is told when it changes.
    fn state(&self) -> String {
        let Some(split) = self.split() else {
            return format!(
                "the coordinator does not answer; {} of {} requests failed\n",
                self.failed, self.total
            );
        };
        let weights: Vec<String> = declared(split)
            .iter()
            .map(|(b, w)| format!("{b} {}", percent(*w)))
            .collect();
        let zones: Vec<String> = split
            .zones
            .iter()
            .map(|z| format!("{} {}", z.zone, weights_word(split, z)))
            .collect();
        format!(
            "generation {} ({}): {}; {}; {} failed\n",
            split.generation,
            short(&split.commit),
            weights.join(", "),
            zones.join(", "),
            self.failed
        )
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.title);
        match (self.split(), &self.list) {
            (Some(split), Ok(list)) => out += &self.table(split, list),
            (None, Ok(_)) => out += "there is no split `checkout` in the declaration in force\n",
            (_, Err(error)) => {
                out += &format!(
                    "the coordinator does not answer: {error}\ntraffic goes on: {} requests, {} failed\n",
                    self.total, self.failed
                );
            }
        }
        if !self.events.is_empty() {
            out += "\nLast events\n";
            for event in &self.events {
                let time = event.at.get(11..19).unwrap_or_default();
                out += &cut(&format!("  {time}  {}", event.message));
            }
        }
        out += &format!(
            "\nMove traffic: change the weights in\n  {}\nand commit\n  git -C {} commit -am 'Move some traffic'\n\
             or take the last change back with `git revert`. What the coordinator says:\n  \
             . {} && weir status\nCtrl-C ends everything.\n",
            self.file, self.repository, self.env
        );
        out
    }

    fn table(&self, split: &SplitStatus, list: &SplitList) -> String {
        let wanted = declared(split);
        let standing = format!("{:?}", split.standing).to_lowercase();
        let mut out = format!(
            "split {}   generation {}   commit {}   {standing}\n",
            split.name,
            split.generation,
            short(&split.commit),
        );
        if let Some(notice) = &list.notice {
            out += &cut(&format!("! {notice}"));
        }
        let cells = |of: &mut dyn FnMut(&String, u32) -> String| {
            let all: String = wanted.iter().map(|(b, w)| format!("{:>9}", of(b, *w))).collect();
            all
        };
        out += &format!("\n  {:<10}{}\n", "", cells(&mut |b, _| b.clone()));
        out += &format!("  {:<10}{}\n", "declared", cells(&mut |_, w| percent(w)));
        for zone in &split.zones {
            let tally = self.counted.get(&zone.zone);
            let answered = tally.map_or(0, |t| t.counted.values().sum());
            let share = |backend: &String, _| match tally {
                Some(tally) if answered > 0 => {
                    let count = tally.counted.get(backend).copied().unwrap_or(0);
                    // To the nearest tenth, so that the shares of a zone add up.
                    let tenths = (count * 1000 + answered / 2) / answered;
                    format!("{}.{} %", tenths / 10, tenths % 10)
                }
                _ => "-".into(),
            };
            let mut share = share;
            out += &cut(&format!(
                "  {:<10}{}   {}",
                zone.zone,
                cells(&mut share),
                self.words(split, zone)
            ));
            if let Some(reason) = &zone.reason {
                out += &cut(&format!("  {:<10}{reason}", ""));
            }
        }
        out += &format!(
            "\n  counted over {WINDOW} s; {} requests so far, {} failed\n",
            self.total, self.failed
        );
        out
    }

    fn words(&self, split: &SplitStatus, zone: &SplitInZone) -> String {
        let age = zone
            .proven_at
            .as_deref()
            .and_then(|t| t.parse::<Timestamp>().ok());
        let age = age.map_or_else(
            || "no proof yet".into(),
            |at| format!("proof {} s old", self.now.duration_since(at).as_secs().max(0)),
        );
        let evidence = format!("{:?}", zone.evidence).to_lowercase();
        format!("{}, {evidence}, {age}", weights_word(split, zone))
    }
}

fn percent(points: u32) -> String {
    let text = weir_model::BasisPoints::new(points).map(|p| p.to_string());
    format!("{} %", text.unwrap_or_default())
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// A line of at most 80 columns.
fn cut(line: &str) -> String {
    let line = line.lines().next().unwrap_or_default();
    if line.chars().count() <= 80 {
        return format!("{line}\n");
    }
    let start: String = line.chars().take(77).collect();
    format!("{start}...\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_planner::Evidence;
    use weir_wire::api::{Percent, Standing};

    #[test]
    fn the_picture_fits_80_columns_and_says_what_to_do() {
        let points = |n| Percent(weir_model::BasisPoints::new(n).expect("a weight"));
        let route = BTreeMap::from([
            ("vm".to_owned(), points(9000)),
            ("cloud".to_owned(), points(1000)),
        ]);
        let weights = BTreeMap::from([("default".to_owned(), route)]);
        let zone = |name: &str, standing, proof: Option<&str>| SplitInZone {
            zone: name.into(),
            standing,
            reason: None,
            generation: 2,
            evidence: Evidence::Live,
            proven_at: proof.map(str::to_owned),
            open: None,
            seen: 1,
            of: 1,
            told: weights.clone(),
            weights: Some(weights.clone()),
            counted: BTreeMap::new(),
            failed: BTreeMap::new(),
            counted_since: None,
            second_writers: Vec::new(),
            notes: Vec::new(),
            failing: Vec::new(),
            doors: Vec::new(),
            heard_at: None,
            detached: None,
        };
        let split = SplitStatus {
            name: "checkout".into(),
            service: "checkout".into(),
            port: 8080,
            protocol: "http".into(),
            declared: weights.clone(),
            commit: "1a2b3c4d5e6f".into(),
            generation: 2,
            standing: Standing::Progressing,
            reason: None,
            since: String::new(),
            transition: None,
            zones: vec![
                zone("ams", Standing::Progressing, None),
                zone("fra", Standing::Converged, Some("2026-01-01T00:00:58Z")),
            ],
        };
        let tally = |vm, cloud| Tally {
            requests: vm + cloud,
            failed: BTreeMap::new(),
            counted: BTreeMap::from([("vm".to_owned(), vm), ("cloud".to_owned(), cloud)]),
        };
        let picture = Picture {
            title: "Weir sandbox with the double of Kuma, for 9 s, in /tmp/s".into(),
            list: Ok(SplitList {
                generation: 2,
                commits: BTreeMap::new(),
                notice: Some(
                    "commit 9f8e7d6c of main is refused: the weights of `default` come to 120, not 100"
                        .into(),
                ),
                frozen: Vec::new(),
                notes: Vec::new(),
                splits: vec![split],
            }),
            counted: BTreeMap::from([
                ("ams".to_owned(), tally(1000, 0)),
                ("fra".to_owned(), tally(899, 101)),
            ]),
            total: 12_345,
            failed: 0,
            events: vec![Event {
                id: 3,
                at: "2026-01-01T00:00:57Z".into(),
                kind: "zone.proven".into(),
                message: "fra runs generation 2".into(),
                zone: None,
                split: None,
                generation: None,
            }],
            file: "/tmp/s/repo/traffic/checkout.yaml".into(),
            repository: "/tmp/s/repo".into(),
            env: "/tmp/s/weir.env".into(),
            now: "2026-01-01T00:01:00Z".parse().expect("a time"),
        };
        let text = picture.text();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }
}
