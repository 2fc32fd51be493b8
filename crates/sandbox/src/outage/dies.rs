//! What dies, and who is there to do something about it.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::DIES;
use crate::cast::Carrier;
use crate::play::Play;

/// What of a backend dies, by `kill -9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dies {
    /// Its application, behind a proxy that lives: Kuma goes on calling it Available.
    Application,
    /// Its dataplane: kuma-dp with its Envoy. Kuma calls it Unavailable after some 13 s.
    Dataplane,
    /// The ingress of its zone, with --real: callers in other zones do not reach it, those in its own do, and Kuma goes on
    /// calling it Available.
    Ingress,
}

/// Who is there when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Beside {
    /// Weir, with a declared fallback.
    Fallback,
    /// Weir, and nothing is declared.
    Weir,
    /// Nobody: the same policies were put once by hand.
    Nobody,
}

impl Dies {
    /// How long it must be well again before its share comes back. An ingress takes some seconds for its way back, and the
    /// MeshService behind it is Available all the same.
    pub(super) fn recover(self) -> Duration {
        match self {
            Self::Application | Self::Dataplane => Duration::from_secs(10),
            Self::Ingress => Duration::from_secs(20),
        }
    }

    pub(super) async fn die(self, play: &mut Play) -> anyhow::Result<()> {
        match self.proxy() {
            None => play.end_application(DIES),
            Some(which) => play.cast.kill_proxy(at(play), which).await,
        }
    }

    pub(super) async fn live(self, play: &mut Play) -> anyhow::Result<()> {
        match self.proxy() {
            None => play.begin_application(DIES).await,
            Some(which) => play.cast.restart_proxy(at(play), which).await,
        }
    }

    fn proxy(self) -> Option<Carrier> {
        match self {
            Self::Application => None,
            Self::Dataplane => Some(Carrier::Dataplane),
            Self::Ingress => Some(Carrier::Ingress),
        }
    }
}

/// The zone of the backend that dies.
fn at(play: &Play) -> &'static str {
    let [_, (_, zone)] = play.repository.ground().backends();
    zone
}
