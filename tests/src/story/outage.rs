//! A backend that dies under load while a fallback is declared, and one that is stopped on purpose.

use anyhow::ensure;
use weir_sandbox::outage::{Beside, Dies, End, dead, playing, slowing, stopping};
use weir_sandbox::play::{Play, Scene, Setup};

/// The last failure must come before this. The goal is 3 s, and docs/guarantees.md has what was measured; a machine that
/// is busy with other tests takes somewhat longer until an Envoy has the new weights, and without a fallback there is no last one.
fn last_ms() -> u64 {
    if crate::amount::is_asked() { 4_000 } else { 6_000 }
}

/// Some requests fail, then none; every zone is shown as fallen back; the share comes back by itself and loses nothing.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell_of_an_outage(scene: Scene, real: bool) -> anyhow::Result<()> {
    let mut play = start(scene, real).await?;
    let end = match playing(&mut play, Dies::Application, Beside::Fallback).await {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    fell_back(&end)?;
    ensure!(
        end.back_after_ms.is_some() && end.failed_at_return == 0,
        "{end:?}"
    );
    Ok(())
}

/// The same for a proxy that dies, which Kuma does not know for some seconds either. Its way back is not waited for.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell_of_a_dead_proxy(scene: Scene, real: bool) -> anyhow::Result<()> {
    let mut play = start(scene, real).await?;
    let end = match dead(&mut play, Dies::Dataplane).await {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    fell_back(&end)
}

fn fell_back(end: &End) -> anyhow::Result<()> {
    ensure!(end.zones.len() > 1, "{end:?}");
    for zone in end.zones.values() {
        ensure!(zone.failed > 0, "nothing died: {end:?}");
        ensure!(zone.last_failed_after_ms < last_ms(), "{end:?}");
    }
    let told = end.told.clone().unwrap_or_default();
    ensure!(told.contains("the share of cloud goes to vm since"), "{end:?}");
    Ok(())
}

/// Drained, stopped, started and undrained: not one request is lost.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell_of_a_stop(scene: Scene, real: bool) -> anyhow::Result<()> {
    let mut play = start(scene, real).await?;
    let end = match stopping(&mut play).await {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    ensure!(end.failed == 0, "{end:?}");
    ensure!(
        end.told.contains("backend cloud is drained: \"new kernel\""),
        "{end:?}"
    );
    Ok(())
}

/// Answers that take longer take a step back by themselves, with the figures; nobody loses a request.
///
/// # Errors
/// Whatever was not as it should be, with the ends of all logs.
pub async fn tell_of_a_slow_one(scene: Scene, real: bool) -> anyhow::Result<()> {
    let mut play = start(scene, real).await?;
    let end = match slowing(&mut play).await {
        Ok(end) => end,
        Err(error) => return Err(play.failed(error).await),
    };
    play.stop().await;
    ensure!(end.failed == 0, "{end:?}");
    for word in [
        "answers of what gained weight take longer than",
        "since the step; by the same callers before it",
    ] {
        ensure!(end.told.contains(word), "{end:?}");
    }
    Ok(())
}

async fn start(scene: Scene, real: bool) -> anyhow::Result<Play> {
    let setup = Setup {
        real,
        ..Setup::default()
    };
    Play::start_on(scene, setup, |_| {}).await
}
