//! Joining and renewing: the only two ways to a certificate.
//!
//! Join needs a token that can still be spent; the token decides the zone. Renew needs a certificate that is still
//! valid; that certificate decides everything. Of a request only its key is used.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use weir_link::{AgentToken, Identity, Peer, PeerCertificate};
use weir_wire::v1::enrollment_server::{Enrollment, EnrollmentServer};
use weir_wire::v1::{Certificate, JoinRequest, RenewRequest};

use crate::ca::{Authority, AuthorityError, CheckedRequest, Issued};
use crate::ledger::{Ledger, NewEvent};
use crate::sessions::{Sessions, caller};
use crate::tokens::{Refused, Tokens};

/// The gRPC service.
#[derive(Clone)]
pub struct Enrolment {
    authority: Arc<Authority>,
    tokens: Tokens,
    ledger: Ledger,
    sessions: Sessions,
    life: Duration,
}

impl Enrolment {
    /// Certificates live for `life`.
    pub fn new(authority: Arc<Authority>, ledger: Ledger, sessions: Sessions, life: Duration) -> Self {
        Self {
            authority,
            tokens: Tokens::new(ledger.pool().clone()),
            ledger,
            sessions,
            life,
        }
    }

    /// The gRPC side.
    pub fn grpc(&self) -> EnrollmentServer<Self> {
        // A request for one key is small.
        EnrollmentServer::new(self.clone()).max_decoding_message_size(64 << 10)
    }

    fn issue(
        &self,
        request: &CheckedRequest,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Certificate, Status> {
        let Issued {
            chain,
            roots,
            expires,
        } = self
            .authority
            .issue_agent(request, identity, self.life, now)
            .map_err(|e| Status::internal(e.to_string()))?;
        self.sessions.renewed(&PeerCertificate {
            identity: identity.clone(),
            expires,
        });
        Ok(Certificate {
            chain: chain.iter().map(|c| c.to_vec()).collect(),
            roots: roots.iter().map(|c| c.to_vec()).collect(),
            federation: identity.federation().to_owned(),
            zone: identity.zone().to_owned(),
            agent: identity.agent().to_owned(),
        })
    }
}

fn refused(why: Refused) -> Status {
    let text = why.to_string();
    match why {
        Refused::Unknown => Status::unauthenticated(text),
        Refused::Ledger(_) => Status::unavailable(text),
        Refused::OtherZone { .. }
        | Refused::Spent { .. }
        | Refused::Expired { .. }
        | Refused::Revoked { .. } => Status::permission_denied(text),
    }
}

fn unusable(why: AuthorityError) -> Status {
    Status::invalid_argument(why.to_string())
}

#[tonic::async_trait]
impl Enrollment for Enrolment {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Certificate>, Status> {
        let address = request
            .extensions()
            .get::<Peer>()
            .map_or_else(String::new, |peer| peer.address.to_string());
        let asked = request.into_inner();
        let now = Timestamp::now();
        // Everything that can be refused is refused before the token is spent.
        let token: AgentToken = asked
            .token
            .parse()
            .map_err(|e: weir_link::TokenError| Status::invalid_argument(e.to_string()))?;
        let key = CheckedRequest::check(&asked.csr).map_err(unusable)?;
        let zone = self
            .tokens
            .examine(&token, &asked.zone, now)
            .await
            .map_err(refused)?;
        let federation = self.authority.federation().as_str();
        let identity = Identity::new(federation, zone.as_str(), &asked.agent)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        if let Some(there) = self.sessions.connected(&zone, identity.agent()) {
            return Err(Status::already_exists(format!(
                "zone {zone} has an agent {} already, connected from {there}: give this one another name (`agent:`), or \
                 stop the other first; the token can still be used",
                identity.agent()
            )));
        }
        self.tokens
            .spend(&token, &asked.zone, identity.agent(), now)
            .await
            .map_err(refused)?;
        let certificate = self.issue(&key, &identity, now)?;
        tracing::info!(agent = %identity, token = token.id(), address, "agent joined");
        let joined = NewEvent::new(
            "agent.joined",
            format!(
                "agent {} joined zone {zone} with token {}",
                identity.agent(),
                token.id()
            ),
        );
        if let Err(error) = self.ledger.record(now, &[joined.zone(&zone)]).await {
            // It joined all the same; the log has it.
            tracing::error!(%error, "the event of a join could not be written");
        }
        Ok(Response::new(certificate))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certificate>, Status> {
        let certificate = caller(&request, self.authority.federation())?;
        let key = CheckedRequest::check(&request.into_inner().csr).map_err(unusable)?;
        let renewed = self.issue(&key, &certificate.identity, Timestamp::now())?;
        tracing::info!(agent = %certificate.identity, "certificate renewed");
        Ok(Response::new(renewed))
    }
}
