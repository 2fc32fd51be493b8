//! What happens to Kuma, and how.

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::{SHARES, declared};
use crate::command::Restarts;
use crate::play::Play;
use crate::policies::Store;
use crate::real::rest::Api;
use crate::repository::SPLIT as FILE;

/// The zone whose control plane is killed: one of VMs, in every cast.
const ZONE: &str = "fra";
/// How long a zone's control plane is away.
const AWAY: Duration = Duration::from_secs(10);
/// So often weights go round while the global one is.
const MINUTE: Duration = Duration::from_secs(60);
/// How long PostgreSQL is.
const STORE_AWAY: Duration = Duration::from_secs(22);
/// How long a person takes to put the mesh back.
const BY_HAND: Duration = Duration::from_secs(5);
/// How long is watched when it is over: proxies take up to 15 s to come back to a control plane, and what was replaced
/// drains for 30 s.
pub(super) const WATCHED: Duration = Duration::from_secs(40);
/// How long a policy may take until it is there again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody puts it back: so long is looked whether it is there all the same.
const NOBODY: Duration = Duration::from_secs(5);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A zone's control plane is killed and comes back with an empty store.
    ZoneEmpty,
    /// The global control plane is killed and comes back with an empty store: every zone loses its mesh. Somebody puts it
    /// back some seconds later.
    GlobalEmpty,
    /// A zone's control plane is killed and comes back with what it had.
    ZoneKept,
    /// The global control plane is away, for a minute or as long as is said, and weights change meanwhile.
    GlobalAway,
    /// The server in which control planes keep their objects is away for 22 s.
    StoreDown,
}

impl Event {
    /// All of them; last among those with memory stores the one after which nothing is as before.
    pub const ALL: [Self; 5] = [
        Self::ZoneEmpty,
        Self::GlobalEmpty,
        Self::ZoneKept,
        Self::GlobalAway,
        Self::StoreDown,
    ];

    /// Whether stores outlive control planes in it.
    pub fn lasting(self) -> bool {
        match self {
            Self::ZoneEmpty | Self::GlobalEmpty => false,
            Self::ZoneKept | Self::GlobalAway | Self::StoreDown => true,
        }
    }

    /// As it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::ZoneEmpty => "zone-empty",
            Self::GlobalEmpty => "global-empty",
            Self::ZoneKept => "zone-kept",
            Self::GlobalAway => "global-away",
            Self::StoreDown => "store-down",
        }
    }

    /// For people.
    pub fn what(self) -> &'static str {
        match self {
            Self::ZoneEmpty => "a zone's control plane is back with an empty store",
            Self::GlobalEmpty => {
                "the global control plane is back with an empty store, and the mesh put back"
            }
            Self::ZoneKept => "a zone's control plane is back with what it had",
            Self::GlobalAway => "the global control plane is away while weights change",
            Self::StoreDown => "the control planes' PostgreSQL is away",
        }
    }
}

/// Why this event cannot happen here, if it cannot.
pub(super) fn left_out(play: &Play, event: Event, without: bool) -> Option<&'static str> {
    match event {
        Event::GlobalAway if without => Some("nobody is there to change weights"),
        Event::StoreDown if !play.cast.has_store_server() => {
            Some("the double keeps objects in files, which do not go away")
        }
        _ => None,
    }
}

/// Lets it happen; returns when it is over and, with Weir, every zone has proven its shares again. How long policies were gone
/// from control planes that answered, where that was looked at.
pub(super) async fn happen(
    play: &mut Play,
    event: Event,
    weir: bool,
    restarts: &Restarts,
) -> anyhow::Result<Option<Duration>> {
    let back = match event {
        Event::ZoneEmpty | Event::ZoneKept => zone(play, weir).await?,
        Event::GlobalEmpty => global_empty(play, weir).await?,
        Event::GlobalAway => global_away(play, restarts).await?,
        Event::StoreDown => store_down(play).await?,
    };
    if weir {
        let newest = play.viewer.splits().await?.commits.into_values().next();
        play.proven(&newest.unwrap_or_default()).await?;
    }
    Ok(back)
}

async fn zone(play: &mut Play, weir: bool) -> anyhow::Result<Option<Duration>> {
    play.cast.kill_control_plane(ZONE).await?;
    tokio::time::sleep(AWAY).await;
    let store = Store::all(play).remove(ZONE);
    let api = play.parts.get(ZONE).map(|parts| Api::new(&parts.api));
    let (Some(store), Some(api)) = (store, api) else {
        anyhow::bail!("there is no zone {ZONE}");
    };
    let back = back(&api, "/", &store, weir);
    let (restarted, back) = tokio::join!(play.cast.restart_control_plane(ZONE), back);
    restarted?;
    ensure!(back.is_some() || !weir, "{ZONE} never had its policy again");
    Ok(back)
}

async fn global_empty(play: &mut Play, weir: bool) -> anyhow::Result<Option<Duration>> {
    play.cast.kill_global().await?;
    play.cast.restart_global().await?;
    let apis: Vec<Api> = play.parts.values().map(|parts| Api::new(&parts.api)).collect();
    for api in &apis {
        mesh_gone(api).await?;
    }
    tokio::time::sleep(BY_HAND).await;
    let stores: Vec<Store> = Store::all(play).into_values().collect();
    let looks = apis.iter().zip(&stores);
    let looks = join_all(looks.map(|(api, store)| back(api, MESH, store, weir)));
    let (put, back) = tokio::join!(play.cast.put_mesh(), looks);
    put?;
    ensure!(
        !weir || back.iter().all(Option::is_some),
        "a zone never had its policy again"
    );
    let all: Option<Vec<Duration>> = back.into_iter().collect();
    Ok(all.and_then(|all| all.into_iter().max()))
}

/// The mesh, as a zone has it.
const MESH: &str = "/meshes/default";

async fn mesh_gone(api: &Api) -> anyhow::Result<()> {
    let begin = Instant::now();
    while api.status(MESH).await? != http::StatusCode::NOT_FOUND {
        ensure!(
            begin.elapsed() < PATIENCE,
            "{} still has a mesh that its global control plane has lost",
            api.base()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn global_away(play: &mut Play, restarts: &Restarts) -> anyhow::Result<Option<Duration>> {
    play.cast.kill_global().await?;
    let end = Instant::now() + MINUTE * restarts.minutes.max(1);
    loop {
        let next = Instant::now() + MINUTE;
        for vm in [75, 30, 95, SHARES[0]] {
            let text = declared(play, vm, restarts.fallback);
            let message = format!("Send {vm} % to the VMs");
            let commit = play.repository.commit(&[(FILE, &text)], &message)?;
            play.look();
            play.proven(&commit).await?;
            play.rests().await?;
        }
        tokio::time::sleep_until(next.min(end)).await;
        if Instant::now() >= end {
            break;
        }
    }
    play.cast.restart_global().await?;
    Ok(None)
}

async fn store_down(play: &mut Play) -> anyhow::Result<Option<Duration>> {
    play.cast.stop_store().await?;
    tokio::time::sleep(STORE_AWAY).await;
    play.cast.start_store().await?;
    Ok(None)
}

/// From when a control plane answers this until it has the policy again; none if it never has.
async fn back(api: &Api, answers: &str, store: &Store, weir: bool) -> Option<Duration> {
    let patience = if weir { PATIENCE } else { NOBODY };
    let begin = Instant::now();
    let mut since = None;
    loop {
        if since.is_none() && api.status(answers).await.is_ok_and(|status| status.is_success()) {
            since = Some(Instant::now());
        }
        if let Some(since) = since
            && store.is_there().await.unwrap_or(false)
        {
            return Some(since.elapsed());
        }
        let over = since.map_or(begin.elapsed() > PATIENCE, |since| since.elapsed() > patience);
        if over {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
