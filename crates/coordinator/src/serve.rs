//! `weir-coordinator serve`: puts the parts together, and takes them apart again.
//!
//! The order of the start matters: what was in force is published from the ledger before Git is read and before the
//! first agent is let in, so that a restart changes nothing (I6).

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_link::private_file;
use weir_model::ZoneName;
use weir_planner::PlanId;

use crate::api::{self, Access, Answering};
use crate::ca::{Authority, AuthorityError};
use crate::config::{Config, HostName};
use crate::enrolment::Enrolment;
use crate::keeping;
use crate::leading;
use crate::ledger::{Ledger, LedgerError};
use crate::observing::{self, Observing};
use crate::parts::Parts;
use crate::planning::{self, Planning, StartError};
use crate::selfcheck::SelfChecks;
use crate::sessions::{SessionLimits, Sessions};
use crate::sources::Sources;
use crate::state::{InForce, Troubles};
use crate::tokens::Tokens;

/// Everything is over within this time after the stop.
const END: Duration = Duration::from_secs(5);

/// Why the coordinator does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {cause}; set `data` to a directory that this user may write", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another coordinator uses it.
    #[error(
        "another weir-coordinator serves from {}: stop that one first, or give this one its own `data` directory",
        .0.display()
    )]
    Locked(PathBuf),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What stands in the ledger cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The port is not to be had.
    #[error("cannot listen on {address}: {cause}; is something else there? set `listen` to a free address")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A part ended before the stop.
    #[error(
        "{0} ended by itself, so the coordinator has stopped: this is a bug, please report it with the log; traffic stays \
         as it is, start the coordinator again"
    )]
    Died(&'static str),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
}

/// Opens the data directory and holds it until dropped.
pub(crate) fn lock(data: &Path) -> Result<File, ServeError> {
    let failed = |cause| ServeError::Data {
        path: data.to_owned(),
        cause,
    };
    private_file::create_dir(data).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked(data.to_owned())),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Where the bound address is written for those who started us.
fn listen_file(data: &Path) -> PathBuf {
    data.join("listen")
}

/// Serves until stopped.
///
/// # Errors
/// Why it cannot start. Once it serves, nothing ends it but the stop.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), ServeError> {
    let data = config.data.clone();
    let locked = lock(&data)?;
    let ledger = Ledger::open(&config.ledger_file()).await?;
    let in_force = planning::recall(&ledger, &config.federation).await?;
    let fleet = observing::recall(&ledger).await?;
    if let Some(known) = &in_force {
        tracing::info!(generation = %known.plan.generation, "the plan in force is taken up from the ledger");
    }

    let names: Vec<String> = config.names.iter().map(HostName::to_string).collect();
    let authority_dir = data.join("ca");
    let federation = config.federation.clone();
    let authority = tokio::task::spawn_blocking(move || Authority::open(&authority_dir, &federation))
        .await
        .map_err(|panic| AuthorityError::Signing(panic.to_string()))??;
    let authority = Arc::new(authority);
    let tls = authority.server_tls(&names)?;

    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|cause| ServeError::Listen {
            address: config.listen,
            cause,
        })?;
    let address = listener.local_addr().map_err(|cause| ServeError::Listen {
        address: config.listen,
        cause,
    })?;

    let mut proven = BTreeMap::new();
    if let Some(known) = &in_force {
        let generation = known.plan.generation;
        for zone in ledger.zone_proofs(generation).await?.into_keys() {
            proven.extend(ZoneName::new(zone).ok().map(|zone| (zone, generation)));
        }
    }
    let parts = Parts::new(stop.clone());
    let (in_force_tx, in_force) = watch::channel(in_force);
    let (fleet_tx, fleet) = watch::channel(Arc::new(fleet));
    let troubles_tx = Arc::new(watch::Sender::new(Troubles::default()));
    let troubles = troubles_tx.subscribe();
    let checks = Arc::new(SelfChecks::default());
    let tokens = Tokens::new(ledger.pool().clone());

    let limits = SessionLimits::default();
    let limits = SessionLimits {
        // Well within the silence that is allowed, or every zone would be stale between two reports.
        report_interval: limits.report_interval.min(config.stale / 3),
        ..limits
    };
    let term = ledger.term().await?.next();
    let sessions = Sessions::new(config.federation.clone(), term, limits, stop.clone());
    parts.spawn(
        "the keeping of the term",
        leading::keep(
            sessions.clone(),
            ledger.clone(),
            Arc::clone(&troubles_tx),
            stop.clone(),
        ),
    );
    if let Some(known) = in_force.borrow().as_ref() {
        sessions.publish(Arc::clone(&known.plan));
    }
    let enrolment = Enrolment::new(
        Arc::clone(&authority),
        ledger.clone(),
        sessions.clone(),
        config.certificate_life,
    );
    let grpc = tonic::service::Routes::new(enrolment.grpc())
        .add_service(sessions.grpc())
        .prepare()
        .into_axum_router();
    parts.spawn(
        "publishing",
        publish(sessions.clone(), in_force.clone(), stop.clone()),
    );
    let observing = Observing::new(
        ledger.clone(),
        sessions,
        in_force.clone(),
        fleet_tx,
        (Arc::clone(&troubles_tx), Arc::clone(&checks)),
        config.stale,
        proven,
    );
    parts.spawn("observing", observing.run(stop.clone()));
    parts.spawn(
        "the keeping of history",
        keeping::keep(ledger.clone(), in_force.clone(), config.history, stop.clone()),
    );
    let sources = Sources::start(&config.sources, &data.join("git"), &in_force, &parts, &stop);
    let planning = Planning::new(
        config.federation.clone(),
        ledger.clone(),
        sources.states(),
        fleet.clone(),
        in_force_tx,
        (troubles_tx, Arc::clone(&checks)),
        config.stale,
    )
    .await?;
    parts.spawn("planning", planning.run(stop.clone()));
    parts.spawn(
        "the wait for SIGHUP",
        look_on_hangup(sources.clone(), stop.clone())?,
    );
    {
        let (authority, tls, stop) = (Arc::clone(&authority), tls.clone(), stop.clone());
        parts.spawn("the keeping of the certificate", async move {
            authority.keep_server_fresh(&tls, &names, stop).await;
        });
    }

    let http = api::router(Answering {
        ledger: ledger.clone(),
        sources,
        in_force,
        fleet,
        troubles,
        checks,
        stale: config.stale,
        webhooks: Arc::new(
            config
                .sources
                .iter()
                .filter_map(|source| Some((source.name.clone(), source.webhook.clone()?)))
                .collect::<BTreeMap<_, _>>(),
        ),
        access: if config.anonymous_read {
            Access::Anyone
        } else {
            Access::Viewers(tokens)
        },
        stop: stop.clone(),
    });
    // Last: whoever finds the file finds the port open.
    private_file::write_with_mode(&listen_file(&data), format!("{address}\n").as_bytes(), 0o644).map_err(
        |cause| ServeError::Data {
            path: data.clone(),
            cause,
        },
    )?;
    tracing::info!(federation = %config.federation, %term, %address, data = %data.display(), "serving");
    weir_link::serve(
        listener,
        tls,
        weir_link::App { grpc, http },
        weir_link::Limits {
            drain: Duration::from_secs(2),
            ..weir_link::Limits::default()
        },
        stop,
    )
    .await;
    if !parts.ended(END).await {
        tracing::warn!("some work was cut short; the ledger is whole all the same");
    }
    ledger.close().await;
    if let Err(error) = fs::remove_file(listen_file(&data)) {
        tracing::debug!(%error, "the listen file was gone already");
    }
    drop(locked);
    if let Some(part) = parts.died() {
        return Err(ServeError::Died(part));
    }
    tracing::info!("stopped; traffic stays as it is");
    Ok(())
}

/// Hands each new plan to the agents' sessions.
async fn publish(
    sessions: Sessions,
    mut in_force: watch::Receiver<Option<InForce>>,
    stop: CancellationToken,
) {
    let mut published: Option<PlanId> = None;
    loop {
        let plan = in_force
            .borrow_and_update()
            .as_ref()
            .map(|known| Arc::clone(&known.plan));
        if let Some(plan) = plan
            && published != Some(plan.id)
        {
            published = Some(plan.id);
            sessions.publish(plan);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = in_force.changed() => if changed.is_err() { return },
        }
    }
}

/// SIGHUP: look at all sources now.
fn look_on_hangup(
    sources: Sources,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, ServeError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    Ok(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                signal = hangup.recv() => if signal.is_none() { return },
            }
            tracing::info!("SIGHUP: looking at all sources");
            sources.poke_all();
        }
    })
}
