//! `weir-coordinator split abort|freeze|resume`: orders from the host itself, for when the API cannot be reached or nobody
//! has a token. Planning alone carries them out, so they need a coordinator that serves.

use std::os::unix::fs::MetadataExt as _;

use clap::{Args, Subcommand};
use weir_model::{BackendName, SplitName};

use crate::commands::{Configured, Failure, ledger, print};
use crate::ledger::OrderKind;
use crate::ordering;
use crate::serve::{self, ServeError};

#[derive(Debug, Subcommand)]
pub(crate) enum Split {
    /// Breaks off the transition of a split: back to where it last rested, everywhere at once.
    Abort(Abort),
    /// Keeps a split, or all, where they are. Reverts and aborts pass.
    Freeze(Order),
    /// Ends what `freeze` began, and lets a split go on that an abort or a bad verdict sent back.
    Resume(Order),
    /// Takes a backend's share away, for it to be stopped: 0 % in every zone until `undrain`.
    Drain(Drain),
    /// Ends what `drain` began: the split goes to what Git declares.
    Undrain(Undrain),
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    of: Undrain,
    /// Who takes the share; without it the first of the declared fallback, else the others by their own shares.
    #[arg(long, value_name = "BACKEND")]
    to: Option<BackendName>,
}

#[derive(Debug, Args)]
pub(crate) struct Undrain {
    #[command(flatten)]
    order: Abort,
    /// The backend.
    #[arg(value_name = "BACKEND")]
    backend: BackendName,
}

#[derive(Debug, Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    configured: Configured,
    /// The split.
    #[arg(value_name = "SPLIT")]
    split: SplitName,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WORDS", value_parser = ordering::reason)]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    configured: Configured,
    /// The split; all without it.
    #[arg(value_name = "SPLIT")]
    split: Option<SplitName>,
    /// Why, for whoever reads the history.
    #[arg(long, value_name = "WORDS", value_parser = ordering::reason)]
    reason: String,
}

impl From<Abort> for Order {
    fn from(of: Abort) -> Self {
        Self {
            configured: of.configured,
            split: Some(of.split),
            reason: of.reason,
        }
    }
}

pub(crate) async fn run(command: Split) -> Result<(), Failure> {
    let (kind, of) = match command {
        Split::Abort(of) => (OrderKind::Abort, of.into()),
        Split::Drain(Drain { of, to }) => {
            let backend = of.backend;
            (OrderKind::Drain { backend, to }, of.order.into())
        }
        Split::Undrain(Undrain { order, backend }) => (OrderKind::Undrain { backend }, order.into()),
        Split::Freeze(of) => (OrderKind::Freeze, of),
        Split::Resume(of) => (OrderKind::Resume, of),
    };
    let (config, ledger) = ledger(&of.configured.config).await?;
    match serve::lock(&config.data) {
        Err(ServeError::Locked(_)) => {}
        Ok(_alone) => {
            return Err(Failure::new(format!(
                "no coordinator serves from {}, and only one that serves carries out orders; start it, then try again. \
                 Nothing moves meanwhile",
                config.data.display()
            )));
        }
        Err(other) => return Err(Failure::new(other)),
    }
    let answer = ordering::give(&ledger, kind, of.split, of.reason, who())
        .await
        .map_err(|error| Failure::new(format!("{error}; look at the coordinator's log and /readyz")))?;
    if answer.done {
        print(&format!("{}\n", answer.message))
    } else {
        Err(Failure::new(answer.message))
    }
}

/// Who is at the host, as far as it can be told: whoever may run this may also say otherwise.
fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty() && !name.chars().any(char::is_control));
    let name = named.unwrap_or_else(|| match std::fs::metadata("/proc/self") {
        Ok(of) => format!("uid {}", of.uid()),
        Err(_) => "somebody".to_owned(),
    });
    format!("{name} on the coordinator's host")
}
