//! Who is killed in a transition, when, and for how long: drawn from the soak's dice. Deaths overlap as chance has it.

use std::time::Duration;

use anyhow::ensure;
use fastrand::Rng;
use serde::Serialize;
use tokio::time::Instant;

use crate::play::Play;
use crate::repository::CLUSTER;

/// Something that moves weights, and carries no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Coordinator,
    Agent(String),
    Global,
    /// Of a zone.
    ControlPlane(String),
}

impl Who {
    pub(super) fn word(&self) -> String {
        match self {
            Self::Coordinator => "coordinator".to_owned(),
            Self::Agent(zone) => format!("agent of {zone}"),
            Self::Global => "global control plane".to_owned(),
            Self::ControlPlane(zone) => format!("control plane of {zone}"),
        }
    }

    async fn kill(&self, play: &mut Play) -> anyhow::Result<()> {
        match self {
            Self::Coordinator => {
                // What it counted goes with it. One that is just back may have looked at nothing yet.
                if let Ok((checks, failures)) = play.viewer.selfchecks().await {
                    ensure!(
                        failures == 0,
                        "{failures} of {checks} self-checks of the coordinator failed"
                    );
                }
                play.kill_coordinator().await
            }
            Self::Agent(zone) => play.kill_agent(zone).await,
            Self::Global => play.cast.kill_global().await,
            Self::ControlPlane(zone) => play.cast.kill_control_plane(zone).await,
        }
    }

    async fn restart(&self, play: &mut Play) -> anyhow::Result<()> {
        match self {
            Self::Coordinator => play.restart_coordinator().await,
            Self::Agent(zone) => play.start_agent(zone),
            Self::Global => play.cast.restart_global().await,
            Self::ControlPlane(zone) => play.cast.restart_control_plane(zone).await,
        }
    }
}

/// All who can be killed without a loss that is Kuma's own, or all who come back whatever is lost; and who is spared.
pub(super) fn candidates(play: &Play, whatever: bool) -> (Vec<Who>, Vec<Who>) {
    let agents = play.zones.iter().cloned().map(Who::Agent);
    let mut all: Vec<Who> = std::iter::once(Who::Coordinator).chain(agents).collect();
    let in_cluster = play.cast.cluster_admin().is_some();
    let (clusters, machines): (Vec<String>, Vec<String>) = play
        .zones
        .iter()
        .cloned()
        .partition(|zone| in_cluster && zone == CLUSTER);
    // Its store is the API server's.
    all.extend(clusters.into_iter().map(Who::ControlPlane));
    let of_machines = machines.into_iter().map(Who::ControlPlane);
    let mut spared = Vec::new();
    let lasting = play.cast.stores_last();
    for (who, dies) in
        std::iter::once((Who::Global, lasting)).chain(of_machines.map(|who| (who, lasting || whatever)))
    {
        if dies { &mut all } else { &mut spared }.push(who);
    }
    (all, spared)
}

/// One death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) who: Who,
    /// After the commit.
    after: Duration,
    /// How long, at least: a start that is awaited delays the next one.
    dead: Duration,
}

/// A death as it is told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Told {
    pub(super) who: String,
    /// After the commit, as drawn.
    after_ms: u128,
    /// Until it is started again, as drawn.
    dead_ms: u128,
}

impl Death {
    pub(super) fn told(&self) -> Told {
        Told {
            who: self.who.word(),
            after_ms: self.after.as_millis(),
            dead_ms: self.dead.as_millis(),
        }
    }
}

/// Two of three transitions lose somebody, half of those more than one.
pub(super) fn draw(dice: &mut Rng, candidates: &[Who]) -> Vec<Death> {
    let many = [0, 0, 1, 1, 2, 3][dice.usize(0..6)];
    let mut all = candidates.to_vec();
    dice.shuffle(&mut all);
    let drawn = all.into_iter().take(many);
    let mut deaths: Vec<Death> = drawn
        .map(|who| Death {
            who,
            after: Duration::from_millis(dice.u64(0..1_500)),
            dead: Duration::from_millis(dice.u64(200..4_000)),
        })
        .collect();
    deaths.sort_by_key(|death| death.after);
    deaths
}

/// Kills and starts again, each when it is its time after `begin`. Returns when all of them are back.
pub(super) async fn suffer(play: &mut Play, deaths: &[Death], begin: Instant) -> anyhow::Result<()> {
    let kills = deaths.iter().map(|death| (death.after, true, &death.who));
    let starts = deaths
        .iter()
        .map(|death| (death.after + death.dead, false, &death.who));
    let mut events: Vec<(Duration, bool, &Who)> = kills.chain(starts).collect();
    events.sort_by_key(|(at, ..)| *at);
    for (at, is_kill, who) in events {
        tokio::time::sleep_until(begin + at).await;
        if is_kill {
            who.kill(play).await?;
        } else {
            who.restart(play).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_same_deaths_and_everybody_dies_in_time() {
        let zones = ["fra", "use1", "par"].map(str::to_owned);
        let mut all = vec![Who::Coordinator, Who::Global];
        all.extend(zones.iter().cloned().map(Who::Agent));
        all.extend(zones.iter().cloned().map(Who::ControlPlane));
        let story = |seed| {
            let mut dice = Rng::with_seed(seed);
            let mut deaths = Vec::new();
            for _ in 0..100 {
                let drawn = draw(&mut dice, &all);
                assert!(drawn.len() <= 3 && drawn.is_sorted_by_key(|death| death.after));
                deaths.extend(drawn);
            }
            deaths
        };
        let deaths = story(1);
        assert_eq!(deaths, story(1));
        assert_ne!(deaths, story(2));
        for who in &all {
            let times = deaths.iter().filter(|death| death.who == *who).count();
            assert!(times >= 3, "{}: {times}", who.word());
        }
    }
}
