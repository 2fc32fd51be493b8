//! Joining, and staying: how an agent comes by its certificate and renews it while its session goes on.
//!
//! What is said to the coordinator is the caller's (`exchange`, a call of the agent protocol); what is trusted, when to
//! renew and what is kept is decided here.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::backoff::{Backoff, random};
use crate::connect::{Connector, DialError, explain};
use crate::credentials::{Credentials, CredentialsError, IdentityDir, KeyAndRequest};
use crate::identity::{Identity, IdentityError};
use crate::tls::Fingerprint;
use crate::token::AgentToken;

/// What the caller's exchange sends to join.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The token as text: a secret.
    pub token: AgentToken,
    /// The zone that the agent is set up for: a token of another zone is refused, unspent.
    pub zone: String,
    /// The agent's own name.
    pub agent: String,
    /// PKCS#10, DER.
    pub request: Vec<u8>,
}

/// What the coordinator answered.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// What to trust from now on, DER.
    pub roots: Vec<Vec<u8>>,
}

/// Why joining or renewing failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] IdentityError),
    /// The coordinator refused, in its own words.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The connection broke during the call.
    #[error("the call to the coordinator failed: {0}")]
    Broken(String),
    /// The answer cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The answer is another's.
    #[error("the coordinator issued a certificate for {issued}, asked for was {wanted}")]
    Other {
        /// What came.
        issued: String,
        /// What should have come.
        wanted: String,
    },
    /// The answer brings a certificate authority that the token does not know.
    #[error(
        "the coordinator wants to be trusted by another certificate authority than the token's: nothing was kept"
    )]
    OtherAuthority,
}

fn status(status: &tonic::Status) -> JoinError {
    if std::error::Error::source(status).is_some() {
        JoinError::Broken(explain(status))
    } else {
        JoinError::Refused(status.message().to_owned())
    }
}

/// How long the coordinator may take to answer: a call that hangs must not keep the next try from being made.
const ANSWER: Duration = Duration::from_secs(30);

async fn answer(call: impl Future<Output = Result<Issued, tonic::Status>>) -> Result<Issued, JoinError> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answered) => answered.map_err(|s| status(&s)),
        Err(_) => Err(JoinError::Broken(format!(
            "no answer within {} s",
            ANSWER.as_secs()
        ))),
    }
}

fn certificates(list: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    list.into_iter().map(CertificateDer::from).collect()
}

/// Joins: verifies the coordinator by the token's fingerprint, has a fresh key signed, checks the answer. Nothing is
/// stored yet (`IdentityDir::store`).
///
/// # Errors
/// Why not; the token is spent only if the coordinator answered.
pub async fn join<F, Fut>(
    coordinator: &str,
    zone: &str,
    agent: &str,
    token: AgentToken,
    exchange: F,
) -> Result<Credentials, JoinError>
where
    F: FnOnce(Channel, Ask) -> Fut,
    Fut: Future<Output = Result<Issued, tonic::Status>>,
{
    // The federation is not known yet; any label will do to check the two names before the token is spent.
    Identity::new("any", zone, agent)?;
    let authority = token.authority();
    let connector = Connector::joining(coordinator, authority)?;
    let fresh = KeyAndRequest::generate()?;
    let channel = connector.channel().await?;
    let ask = Ask {
        token,
        zone: zone.to_owned(),
        agent: agent.to_owned(),
        request: fresh.request.clone(),
    };
    let issued = answer(exchange(channel, ask)).await?;
    if !issued.roots.iter().any(|root| Fingerprint::of(root) == authority) {
        return Err(JoinError::OtherAuthority);
    }
    let credentials = fresh.certified(certificates(issued.chain), certificates(issued.roots))?;
    let got = credentials.identity();
    if got.zone() != zone || got.agent() != agent {
        return Err(JoinError::Other {
            issued: format!("agent {} of zone {}", got.agent(), got.zone()),
            wanted: format!(
                "agent {agent} of zone {zone}; the token belongs to zone {}",
                got.zone()
            ),
        });
    }
    Ok(credentials)
}

/// Renews once, by a connection of its own with the certificate that is still valid. Nothing is stored or replaced yet.
///
/// # Errors
/// Why not.
pub async fn renew<F, Fut>(connector: &Connector, exchange: F) -> Result<Credentials, JoinError>
where
    F: FnOnce(Channel, Vec<u8>) -> Fut,
    Fut: Future<Output = Result<Issued, tonic::Status>>,
{
    let before = connector.credentials().ok_or(CredentialsError::Incomplete(
        "nothing yet: this agent has not joined",
    ))?;
    let fresh = KeyAndRequest::generate()?;
    let channel = connector.channel().await?;
    let issued = answer(exchange(channel, fresh.request.clone())).await?;
    let credentials = fresh.certified(certificates(issued.chain), certificates(issued.roots))?;
    if credentials.identity() != before.identity() {
        return Err(JoinError::Other {
            issued: credentials.identity().to_string(),
            wanted: before.identity().to_string(),
        });
    }
    Ok(credentials)
}

/// How long to wait before the next look at the clock. Never long: a machine that slept, or whose clock was set, must
/// not miss the hour.
fn pause(now: Timestamp, due: Timestamp) -> Option<Duration> {
    let left = now.duration_until(due);
    if left <= SignedDuration::ZERO {
        return None;
    }
    Some(left.unsigned_abs().min(Duration::from_secs(30)))
}

/// Keeps the certificate fresh until stopped: at two thirds of its life it is renewed, stored, and used by the next
/// dial. The session that stands goes on. A failure is logged and tried again with backoff; the old certificate serves
/// until it ends.
pub async fn keep_fresh<F, Fut>(connector: Connector, dir: IdentityDir, exchange: F, stop: CancellationToken)
where
    F: Fn(Channel, Vec<u8>) -> Fut,
    Fut: Future<Output = Result<Issued, tonic::Status>>,
{
    const TRIES: Backoff = Backoff {
        first: Duration::from_secs(5),
        most: Duration::from_secs(300),
    };
    let mut failures = 0;
    loop {
        let Some(current) = connector.credentials() else {
            return;
        };
        let wait = match pause(Timestamp::now(), current.renew_at()) {
            Some(wait) => wait,
            None => match renew_and_keep(&connector, &dir, &exchange).await {
                Ok(expires) => {
                    failures = 0;
                    tracing::info!(%expires, "certificate renewed");
                    // A life too short to be sensible must not become a loop without a pause.
                    Duration::from_secs(1)
                }
                Err(error) => {
                    tracing::warn!(%error, expires = %current.expires(), "certificate not renewed");
                    let life = current
                        .renew_at()
                        .duration_until(current.expires())
                        .unsigned_abs();
                    let wait = TRIES.wait(failures, random()).min(life / 4);
                    failures += 1;
                    wait
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew_and_keep<F, Fut>(
    connector: &Connector,
    dir: &IdentityDir,
    exchange: &F,
) -> Result<Timestamp, JoinError>
where
    F: Fn(Channel, Vec<u8>) -> Fut,
    Fut: Future<Output = Result<Issued, tonic::Status>>,
{
    let fresh = renew(connector, exchange).await?;
    // First on disk, then in use: after a crash at any point the agent holds a certificate that the coordinator knows.
    dir.store(&fresh)?;
    let expires = fresh.expires();
    connector.replace(fresh)?;
    Ok(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_short_and_ends() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(pause(at(0), at(10_000)), Some(Duration::from_secs(30)));
        assert_eq!(pause(at(0), at(7)), Some(Duration::from_secs(7)));
        assert_eq!(pause(at(7), at(7)), None);
        assert_eq!(pause(at(9), at(7)), None);
    }
}
