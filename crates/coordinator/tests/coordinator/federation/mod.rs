//! A coordinator's port without Git: ledger, authority, enrolment and sessions, over real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use weir_coordinator::ca::Authority;
use weir_coordinator::enrolment::Enrolment;
use weir_coordinator::ledger::Ledger;
use weir_coordinator::sessions::{SessionLimits, Sessions};
use weir_coordinator::tokens::Tokens;
use weir_link::{AgentToken, App, Ask, Connector, Credentials, Issued, JoinError, Limits};
use weir_model::{CommitId, DnsLabel, FederationName, SourceCommit, SourceFile, SourceName, ZoneName};
use weir_planner::{Generation, Inputs, Plan, Planned};
use weir_wire::v1::agents_client::AgentsClient;
use weir_wire::v1::enrollment_client::EnrollmentClient;
use weir_wire::v1::{
    FromAgent, FromCoordinator, Goodbye, Hello, JoinRequest, PlanUpdate, RenewRequest, from_agent,
    from_coordinator,
};
use weir_wire::{Greeting, Term, v1};

pub(crate) struct Coordinator {
    pub(crate) dir: TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) ledger: Ledger,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    pub(crate) address: SocketAddr,
    pub(crate) tls: weir_link::ServerTls,
    pub(crate) stop: CancellationToken,
    _guard: DropGuard,
}

pub(crate) fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

/// One call of the agent protocol, as an agent makes it.
pub(crate) async fn ask_to_join(channel: Channel, ask: Ask) -> Result<Issued, Status> {
    let request = JoinRequest {
        token: ask.token.to_string(),
        agent: ask.agent,
        csr: ask.request,
        zone: ask.zone,
    };
    let answer = EnrollmentClient::new(channel).join(request).await?.into_inner();
    Ok(Issued {
        chain: answer.chain,
        roots: answer.roots,
    })
}

/// As [`ask_to_join`], with a certificate that is still valid.
pub(crate) async fn ask_to_renew(channel: Channel, csr: Vec<u8>) -> Result<Issued, Status> {
    let answer = EnrollmentClient::new(channel)
        .renew(RenewRequest { csr })
        .await?
        .into_inner();
    Ok(Issued {
        chain: answer.chain,
        roots: answer.roots,
    })
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::with(SessionLimits::default(), Duration::from_secs(3600)).await
    }

    pub(crate) async fn with(limits: SessionLimits, life: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let federation = FederationName::new("shop").unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).await.unwrap();
        let authority = Arc::new(Authority::open(&dir.path().join("ca"), &federation).unwrap());
        let stop = CancellationToken::new();
        let sessions = Sessions::new(federation, Term(1), limits, stop.clone());
        let enrolment = Enrolment::new(Arc::clone(&authority), ledger.clone(), sessions.clone(), life);
        let grpc = tonic::service::Routes::new(enrolment.grpc())
            .add_service(sessions.grpc())
            .prepare()
            .into_axum_router();
        let app = App {
            grpc,
            http: axum::Router::new(),
        };
        let tls = authority.server_tls(&["127.0.0.1".to_owned()]).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(weir_link::serve(
            listener,
            tls.clone(),
            app,
            Limits::default(),
            stop.clone(),
        ));
        Self {
            dir,
            authority,
            tokens: Tokens::new(ledger.pool().clone()),
            ledger,
            sessions,
            address,
            tls,
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) async fn token(&self, zone_name: &str) -> AgentToken {
        let hour = Duration::from_secs(3600);
        let (zone, authority) = (zone(zone_name), self.authority.fingerprint());
        let made = self.tokens.create_agent(&zone, hour, authority, Timestamp::now());
        made.await.unwrap().token
    }

    pub(crate) async fn join(
        &self,
        zone: &str,
        agent: &str,
        token: AgentToken,
    ) -> Result<Credentials, JoinError> {
        weir_link::join(&self.url(), zone, agent, token, ask_to_join).await
    }

    /// Joins with a fresh token.
    pub(crate) async fn joined(&self, zone: &str, agent: &str) -> Connector {
        let credentials = self.join(zone, agent, self.token(zone).await).await.unwrap();
        Connector::new(&self.url(), credentials).unwrap()
    }
}

/// The agent's end of a session.
pub(crate) struct Agent {
    pub(crate) say: mpsc::Sender<FromAgent>,
    pub(crate) hear: Streaming<FromCoordinator>,
}

pub(crate) fn greeting(zone: &str, agent: &str) -> Greeting {
    Greeting {
        federation: FederationName::new("shop").unwrap(),
        zone: ZoneName::new(zone).unwrap(),
        agent: DnsLabel::new(agent).unwrap(),
        version: "1.2.3".to_owned(),
        highest: Generation(0),
        plan: None,
        generation: Generation(0),
        holds: weir_wire::Holds::default(),
        term: Term::NONE,
    }
}

impl Agent {
    /// Opens a session; the coordinator has not answered the greeting yet.
    pub(crate) async fn greets(connector: &Connector, greeting: &Greeting) -> Self {
        let channel = connector.channel().await.unwrap();
        let (say, stream) = mpsc::channel(4);
        let hello = from_agent::Message::Hello(Hello::from(greeting));
        say.send(FromAgent { message: Some(hello) }).await.unwrap();
        let mut client = AgentsClient::new(channel).max_encoding_message_size(64 << 20);
        let hear = client
            .session(ReceiverStream::new(stream))
            .await
            .unwrap()
            .into_inner();
        Self { say, hear }
    }

    /// Opens a session and is welcome.
    pub(crate) async fn connects(connector: &Connector, greeting: &Greeting) -> Self {
        let mut agent = Self::greets(connector, greeting).await;
        match agent.next().await {
            Ok(Some(from_coordinator::Message::Welcome(_))) => agent,
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<from_coordinator::Message>, Status> {
        let heard = tokio::time::timeout(Duration::from_secs(10), self.hear.message()).await;
        Ok(heard
            .expect("the coordinator says something")?
            .and_then(|m| m.message))
    }

    pub(crate) async fn plan(&mut self) -> PlanUpdate {
        match self.next().await {
            Ok(Some(from_coordinator::Message::Plan(update))) => update,
            other => panic!("no plan but {other:?}"),
        }
    }

    pub(crate) async fn goodbye(&mut self) -> String {
        match self.next().await {
            Ok(Some(from_coordinator::Message::Goodbye(Goodbye { reason }))) => reason,
            other => panic!("no goodbye but {other:?}"),
        }
    }

    /// What the coordinator has against this agent.
    pub(crate) async fn refusal(&mut self) -> (tonic::Code, String) {
        let status = self.next().await.expect_err("a refusal");
        (status.code(), status.message().to_owned())
    }

    pub(crate) async fn report(&self, report: v1::Report) {
        let message = Some(from_agent::Message::Report(report));
        self.say.send(FromAgent { message }).await.unwrap();
    }
}

/// The plan of two splits over the zones fra and ams, `vm` per cent of `checkout` to the first backend.
pub(crate) fn plan(vm: u32, parent: Option<&Plan>) -> Arc<Plan> {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {{name: shop}}\nspec: {{}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: fra}}\nspec: {{platform: vm}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: ams}}\nspec: {{platform: vm}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: checkout}}\nspec:\n  service: checkout\n  \
         port: 8080\n  protocol: http\n  backends: {{vm: {{zone: fra}}, cloud: {{zone: ams}}}}\n  routes:\n    \
         - {{name: default, weights: {{vm: {vm}, cloud: {cloud}}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: cart}}\nspec:\n  service: cart\n  \
         port: 8080\n  protocol: http\n  backends: {{vm: {{zone: fra}}, cloud: {{zone: ams}}}}\n  routes:\n    \
         - {{name: default, weights: {{vm: 100, cloud: 0}}}}\n",
        cloud = 100 - vm
    );
    let source = SourceName("main".to_owned());
    let parsed = weir_model::parse(&[SourceFile {
        source: source.clone(),
        path: "all.yaml".to_owned(),
        bytes: text.into_bytes().into(),
    }]);
    assert!(!parsed.refused(), "{:?}", parsed.diagnostics);
    let made = weir_planner::plan(Inputs {
        declaration: &parsed.declaration,
        commits: &[SourceCommit {
            source,
            commit: CommitId(format!("{vm:040x}")),
        }],
        highest: Generation(0),
        parent,
        now: Timestamp::now(),
    });
    match made {
        Planned::New(plan) => {
            assert_eq!(weir_planner::lint(&plan, parent), []);
            Arc::new(plan)
        }
        other => panic!("no plan but {other:?}"),
    }
}

/// Waits until what the sessions show satisfies `when`. Woken by changes, not by the clock.
pub(crate) async fn until(sessions: &Sessions, when: impl Fn(&weir_coordinator::sessions::Seen) -> bool) {
    let mut changes = sessions.changes();
    let wait = async {
        while !when(&sessions.snapshot()) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it comes true");
}
