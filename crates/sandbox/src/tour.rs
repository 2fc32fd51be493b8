//! `weir-sandbox tour`: a scripted story in which every request is counted.
//!
//! Callers send all the time, also while a change is under way; a request that fails then counts as much as any. After
//! each step is proven, each zone's next N requests are counted by who answered, and held against the binomial bound.

mod judging;
mod line;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::time::Instant;
use weir_model::{SourceFile, SourceName};
use weir_wire::api::CommitRecord;

use crate::command::{Place, Tour};
use crate::coordinator::{SPLIT, declared, weights_word};
use crate::play::{GENTLE, Play};
use crate::repository::SPLIT as FILE;
use crate::traffic::{Callers, Pace, Tally};
use line::text;
pub use line::{Gateway, Line, Zone};

/// Within this time every Envoy has followed its control plane (2.0 s at most in 60 changes). Nobody proves to us that a
/// policy is gone from them.
const FOLLOWED: Duration = Duration::from_secs(3);

/// Plays the tour.
///
/// # Errors
/// If the federation cannot be started or a step never comes to its end.
pub async fn run(place: Place, tour: Tour) -> anyhow::Result<ExitCode> {
    let interrupted = crate::live::interrupted();
    tokio::pin!(interrupted);
    let begin = Instant::now();
    let play = tokio::select! {
        started = Play::at(place, tour.bare, !tour.bare) => started?,
        () = &mut interrupted => bail!("interrupted while starting"),
    };
    let mut story = Story {
        play,
        tour,
        commit: String::new(),
        in_force: BTreeMap::new(),
        wrong: Vec::new(),
        failed: 0,
        sent: 0,
    };
    let told = tokio::select! {
        told = story.tell() => told,
        () = &mut interrupted => {
            story.play.stop().await;
            bail!("interrupted: the tour is not finished");
        }
    };
    if let Err(error) = told {
        return Err(story.play.failed(error).await);
    }
    let Story {
        play,
        tour,
        wrong,
        failed,
        sent,
        ..
    } = story;
    play.stop().await;
    let good = wrong.is_empty() && failed == 0;
    let mut end = format!(
        "{sent} requests in {} s, {failed} failed; ",
        begin.elapsed().as_secs()
    );
    end += &if wrong.is_empty() {
        "every share inside its bound".to_owned()
    } else {
        format!("wrong:\n  {}", wrong.join("\n  "))
    };
    // In JSON standard output carries lines alone.
    if tour.json {
        writeln!(anstream::stderr(), "{end}")?;
    } else {
        writeln!(anstream::stdout(), "{end}")?;
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Story {
    play: Play,
    tour: Tour,
    /// The newest commit.
    commit: String,
    /// What is in force, in basis points.
    in_force: BTreeMap<String, u32>,
    wrong: Vec<String>,
    failed: u64,
    sent: u64,
}

impl Story {
    async fn tell(&mut self) -> anyhow::Result<()> {
        self.commit.clone_from(&self.play.first_commit);
        self.play.pace(GENTLE);
        // Everything since the first caller sent, so also what the first policy lost.
        let begin = self
            .tallies()
            .into_keys()
            .map(|door| (door, Tally::default()))
            .collect();
        self.count("vm-100", begin, None, "the split's first policy".to_owned())
            .await?;
        self.shift("vm-90", 90, 10).await?;
        self.shift("half", 50, 50).await?;
        self.refused().await?;
        self.shift("cloud-100", 0, 100).await?;
        self.reverted().await?;
        self.coordinator_killed().await?;
        self.agents_killed().await?;
        self.shift("vm-100-again", 100, 0).await?;
        self.removed().await?;
        self.shift("half-again", 50, 50).await?;
        if self.tour.pace > 0 {
            self.paced().await?;
        }
        Ok(())
    }

    async fn paced(&mut self) -> anyhow::Result<()> {
        let pace = crate::pace::measure(&mut self.play, self.tour.pace).await?;
        let (sent, failed) = pace.requests();
        self.sent += sent;
        self.failed += failed;
        let mut out = anstream::stdout().lock();
        if self.tour.json {
            writeln!(out, "{}", serde_json::to_string(&pace)?)?;
        } else {
            write!(out, "{}", pace.text())?;
        }
        Ok(())
    }

    /// Callers that find a way: those of each zone by its name, those of a gateway by `zone/gateway`.
    fn doors(&self) -> impl Iterator<Item = (String, &Callers)> {
        let zones = self
            .play
            .callers
            .iter()
            .map(|(zone, callers)| (zone.clone(), callers));
        let open = self.play.gateways.iter().filter(|gateway| gateway.open);
        zones.chain(open.map(|gateway| (gateway.door(), &gateway.callers)))
    }

    /// What all callers have seen, those as well that find no way now.
    fn tallies(&self) -> BTreeMap<String, Tally> {
        let callers = self.play.callers.iter();
        let zones = callers.map(|(zone, callers)| (zone.clone(), callers.tally()));
        let gateways = self.play.gateways.iter();
        zones
            .chain(gateways.map(|gateway| (gateway.door(), gateway.callers.tally())))
            .collect()
    }

    async fn shift(&mut self, step: &str, vm: u32, cloud: u32) -> anyhow::Result<()> {
        let begin = self.tallies();
        let text = self.play.repository.split_text(vm, cloud);
        let message = format!("Send {vm} % to the VMs and {cloud} % to the cloud");
        let commit = self.play.repository.commit(&[(FILE, &text)], &message)?;
        self.taken(step, begin, commit, message).await
    }

    /// The split is declared no more, and requests go where Kuma sends them without it.
    async fn removed(&mut self) -> anyhow::Result<()> {
        let begin = self.tallies();
        // What is Weir's own goes with the split: whoever came through it would be answered 404.
        self.play.close().await;
        let message = "Split nothing any more";
        self.commit = self.play.repository.remove(FILE, message)?;
        self.play.look();
        let took = self.play.removed(&self.commit).await?;
        // Requests go on meanwhile: what this loses belongs to this step.
        tokio::time::sleep(FOLLOWED).await;
        let note = format!("{message}; gone everywhere after {} ms", took.as_millis());
        self.count("removed", begin, None, note).await
    }

    async fn reverted(&mut self) -> anyhow::Result<()> {
        let begin = self.tallies();
        let commit = self.play.repository.revert()?;
        self.taken("revert", begin, commit, "git revert".into()).await
    }

    async fn taken(
        &mut self,
        step: &str,
        begin: BTreeMap<String, Tally>,
        commit: String,
        note: String,
    ) -> anyhow::Result<()> {
        let at = Timestamp::now();
        self.play.look();
        self.commit = commit;
        self.play.proven(&self.commit).await?;
        self.play.open();
        let took = self.play.commit_to_proof(&self.commit, at).await?;
        self.count(step, begin, Some(took), note).await
    }

    async fn refused(&mut self) -> anyhow::Result<()> {
        let begin = self.tallies();
        let text = self.play.repository.split_text(60, 60);
        let commit = self
            .play
            .repository
            .commit(&[(FILE, &text)], "Send 60 % to both")?;
        self.play.look();
        let end = Instant::now() + Duration::from_secs(30);
        let record = loop {
            if let Some(record) = self.play.viewer.commit(&commit).await? {
                break record;
            }
            if Instant::now() > end {
                bail!("the coordinator has not seen the broken commit {commit} after 30 s");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if record.verdict != "refused" {
            bail!("the broken commit {commit} is {}, not refused", record.verdict);
        }
        self.commit = commit;
        let note = self.explained(&record)?;
        if self.tour.json {
            writeln!(anstream::stderr(), "{note}")?;
        }
        self.count("refused", begin, None, note).await?;
        // Its author takes it back, so that the next change stands on what is right.
        self.play.repository.revert()?;
        Ok(())
    }

    fn explained(&self, record: &CommitRecord) -> anyhow::Result<String> {
        let file = |name: &str| {
            let bytes =
                std::fs::read(self.play.repository.dir().join(name)).with_context(|| name.to_owned())?;
            anyhow::Ok(SourceFile {
                source: SourceName(record.source.clone()),
                // Diagnostics name files as the coordinator reads them.
                path: record
                    .diagnostics
                    .iter()
                    .flat_map(|d| &d.labels)
                    .map(|l| l.file.clone())
                    .next()
                    .unwrap_or_default(),
                bytes: bytes.into(),
            })
        };
        let style = weir_model::Style {
            color: false,
            width: 80,
        };
        Ok(weir_model::render_diagnostics(
            &record.diagnostics,
            &[file(FILE)?],
            style,
        ))
    }

    async fn coordinator_killed(&mut self) -> anyhow::Result<()> {
        let begin = self.tallies();
        self.play.kill_coordinator().await?;
        let (measured, meanwhile) = self.measure(&begin).await?;
        self.play.restart_coordinator().await?;
        // The broken commit is not the head any more: what is in force is the newest.
        self.heard_after(Timestamp::now()).await?;
        let note = "kill -9 of the coordinator; counted while it was gone".to_owned();
        self.finish("coordinator-killed", measured, meanwhile, None, note)
            .await
    }

    async fn agents_killed(&mut self) -> anyhow::Result<()> {
        let begin = self.tallies();
        for zone in self.play.zones.clone() {
            self.play.kill_agent(&zone).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let at = Timestamp::now();
        for zone in self.play.zones.clone() {
            self.play.start_agent(&zone)?;
        }
        self.heard_after(at).await?;
        let note = "kill -9 of every agent, and started again".to_owned();
        self.count("agents-killed", begin, None, note).await
    }

    /// Waits until every zone has proven, after this time, what is in force.
    async fn heard_after(&self, at: Timestamp) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            self.play.proven(&self.commit).await?;
            let list = self.play.viewer.splits().await?;
            let split = list
                .splits
                .iter()
                .find(|s| s.name == SPLIT)
                .context("the split is gone")?;
            let later = |text: &Option<String>| {
                text.as_deref()
                    .and_then(|t| t.parse::<Timestamp>().ok())
                    .is_some_and(|t| t > at)
            };
            if split.zones.iter().all(|z| later(&z.proven_at)) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the zones have not proven anything since {at}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn count(
        &mut self,
        step: &str,
        begin: BTreeMap<String, Tally>,
        took: Option<Duration>,
        note: String,
    ) -> anyhow::Result<()> {
        let (measured, meanwhile) = self.measure(&begin).await?;
        self.finish(step, measured, meanwhile, took, note).await
    }

    /// Counts N requests in each zone: what was counted, and what had come since `begin`.
    async fn measure(
        &self,
        begin: &BTreeMap<String, Tally>,
    ) -> anyhow::Result<(BTreeMap<String, Tally>, BTreeMap<String, Tally>)> {
        // What was sent before this is of the weights before, however late it is answered; and on a connection that nobody used since
        // the listener was replaced one more request goes by the old routes (docs/performance.md).
        for (_, callers) in self.doors() {
            callers.rest().await;
        }
        let start: BTreeMap<String, Tally> = self
            .doors()
            .map(|(door, callers)| (door, callers.tally()))
            .collect();
        let end = Instant::now() + Duration::from_secs(600);
        let mut done = BTreeMap::new();
        self.play.pace(Pace::Full);
        while done.len() < start.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            for (zone, callers) in self.doors() {
                let counted = callers.tally().since(&start[&zone]);
                if !done.contains_key(&zone) && counted.requests >= self.tour.requests {
                    // It has its number: leave the processor to the others.
                    callers.pace(GENTLE);
                    done.insert(zone, counted);
                }
            }
            if Instant::now() > end {
                bail!(
                    "{} requests in each zone take more than 10 minutes",
                    self.tour.requests
                );
            }
        }
        self.play.pace(GENTLE);
        let meanwhile = start
            .iter()
            .map(|(zone, tally)| (zone.clone(), tally.since(&begin[zone])));
        Ok((done, meanwhile.collect()))
    }

    async fn finish(
        &mut self,
        step: &str,
        measured: BTreeMap<String, Tally>,
        meanwhile: BTreeMap<String, Tally>,
        took: Option<Duration>,
        note: String,
    ) -> anyhow::Result<()> {
        let list = self.play.viewer.splits().await?;
        let split = list.splits.iter().find(|s| s.name == SPLIT);
        self.in_force = split.map(declared).unwrap_or_default();
        for gateway in &self.play.gateways {
            if let Some(why) = gateway.splits_too().await? {
                self.wrong.push(format!(
                    "{step}, {}: the mesh and Kong both split: {why}",
                    gateway.door()
                ));
            }
        }
        let mut zones = BTreeMap::new();
        let mut gateways = BTreeMap::new();
        for (name, tally) in &measured {
            if let Some((zone, gateway)) = name.split_once('/') {
                let seen = self.at_gateway(step, name, (tally, &meanwhile[name]), split, (zone, gateway));
                gateways.insert(name.clone(), seen);
                continue;
            }
            let status = split.map(|split| (split, split.zones.iter().find(|z| z.zone == *name)));
            let during = &meanwhile[name];
            let (word, evidence) = match status {
                // Nothing is declared, so nothing is proven, and Kuma chooses who answers.
                None => ("none", "none".to_owned()),
                Some((_, None)) => ("unknown", "unknown".to_owned()),
                Some((split, Some(zone))) => (
                    weights_word(split, zone),
                    format!("{:?}", zone.evidence).to_lowercase(),
                ),
            };
            let failed = tally.failures() + during.failures();
            self.failed += failed;
            self.sent += tally.requests + during.requests;
            if split.is_some() {
                self.judge(step, name, tally, word);
            }
            let zone = Zone {
                requests: tally.requests,
                failed,
                counted: tally.counted.clone(),
                weights: word.to_owned(),
                evidence,
            };
            zones.insert(name.clone(), zone);
        }
        let percent = |(backend, points): (&String, &u32)| (backend.clone(), f64::from(*points) / 100.0);
        let line = Line {
            step: step.to_owned(),
            commit: self.commit.clone(),
            declared: self.in_force.iter().map(percent).collect(),
            zones,
            gateways,
            commit_to_proof_ms: took.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            meanwhile,
            note,
        };
        let mut out = anstream::stdout().lock();
        if self.tour.json {
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            write!(out, "{}", text(&line))?;
        }
        out.flush()?;
        Ok(())
    }
}
