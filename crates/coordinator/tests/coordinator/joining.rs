//! Joining and renewing: each token once, each refusal in words, and what a newcomer reads when it does not work.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use weir_coordinator::ca::Authority;
use weir_coordinator::sessions::SessionLimits;
use weir_coordinator::tokens::{Purpose, Refused, Revoked, State};
use weir_link::{AgentToken, Connector, IdentityDir, ViewerToken};
use weir_model::FederationName;
use weir_wire::v1::JoinRequest;
use weir_wire::v1::enrollment_client::EnrollmentClient;

use crate::federation::{Agent, Coordinator, ask_to_join, ask_to_renew, greeting, plan, until, zone};

#[tokio::test]
async fn a_token_joins_one_agent_once() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("fra").await;
    let credentials = coordinator.join("fra", "fra-1", token.clone()).await.unwrap();
    assert_eq!(credentials.identity().uri(), "spiffe://shop/zone/fra/agent/fra-1");
    let life = Timestamp::now().duration_until(credentials.expires());
    assert!(
        life > SignedDuration::from_mins(59) && life <= SignedDuration::from_hours(1),
        "{life}"
    );

    let spent = coordinator.tokens.list(Timestamp::now()).await.unwrap();
    let State::Spent { at, by } = &spent[0].state else {
        panic!("{spent:?}");
    };
    assert_eq!(
        (spent[0].purpose.clone(), by.as_str()),
        (Purpose::Join(zone("fra")), "fra-1")
    );
    assert_eq!(
        coordinator
            .join("fra", "fra-2", token)
            .await
            .unwrap_err()
            .to_string(),
        format!(
            "the coordinator refused: this token was spent by agent fra-1 at {at:.0}: each token joins one agent; create \
             another with `weir-coordinator token create --zone fra`"
        )
    );
    let events = coordinator.ledger.events(0, 10).await.unwrap();
    let id = &spent[0].id;
    assert_eq!(
        events
            .iter()
            .map(|e| (e.kind.as_str(), e.message.as_str()))
            .collect::<Vec<_>>(),
        [(
            "agent.joined",
            format!("agent fra-1 joined zone fra with token {id}").as_str()
        )]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_come_with_one_token_at_once_one_joins() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("fra").await;
    let names: Vec<String> = (1..=8).map(|n| format!("fra-{n}")).collect();
    let tries = names
        .iter()
        .map(|name| coordinator.join("fra", name, token.clone()));
    let mut joined = Vec::new();
    for result in futures::future::join_all(tries).await {
        match result {
            Ok(credentials) => joined.push(credentials.identity().agent().to_owned()),
            Err(error) => assert!(
                error.to_string().contains("this token was spent by agent fra-"),
                "{error}"
            ),
        }
    }
    assert_eq!(joined.len(), 1, "{joined:?}");
    let State::Spent { by, .. } = &coordinator.tokens.list(Timestamp::now()).await.unwrap()[0].state else {
        panic!("not spent");
    };
    assert_eq!(*by, joined[0]);
}

#[tokio::test]
async fn each_refusal_says_what_to_do_and_spends_nothing() {
    let coordinator = Coordinator::start().await;
    let now = Timestamp::now();
    let refused = async |zone: &str, agent: &str, token: &AgentToken| {
        coordinator
            .join(zone, agent, token.clone())
            .await
            .unwrap_err()
            .to_string()
    };

    let token = coordinator.token("ams").await;
    assert_eq!(
        refused("fra", "fra-1", &token).await,
        "the coordinator refused: this token joins zone ams, but the agent is set up for zone fra: nothing was changed \
         and the token can still be used; set `zone: ams`, or create a token with `weir-coordinator token create --zone \
         fra`"
    );
    assert_eq!(
        refused("ams", "Ams_1", &token).await,
        "agent `Ams_1` is not a name: up to 63 of a-z, 0-9 and `-`, beginning with a letter, not ending in `-`"
    );
    let other = AgentToken::new(token.id(), &"z".repeat(40), token.authority()).unwrap();
    assert_eq!(
        refused("ams", "ams-1", &other).await,
        "the coordinator refused: this token is not known to this coordinator: copy it again, whole, or create another \
         (`weir-coordinator token create --zone <zone>`)"
    );
    // After all that it still joins.
    coordinator.join("ams", "ams-1", token).await.unwrap();

    let made = now - SignedDuration::from_hours(2);
    let hour = Duration::from_secs(3600);
    let old = coordinator
        .tokens
        .create_agent(&zone("fra"), hour, coordinator.authority.fingerprint(), made)
        .await
        .unwrap();
    assert_eq!(
        refused("fra", "fra-1", &old.token).await,
        format!(
            "the coordinator refused: this token expired at {:.0}: create another with `weir-coordinator token create \
             --zone fra`",
            old.expires
        )
    );

    let taken_back = coordinator.token("fra").await;
    assert_eq!(
        coordinator.tokens.revoke(taken_back.id(), now).await.unwrap(),
        Revoked::Now
    );
    assert_eq!(
        refused("fra", "fra-1", &taken_back).await,
        format!(
            "the coordinator refused: this token was revoked at {now:.0}: ask whoever runs the coordinator for another"
        )
    );
    let again = coordinator.tokens.revoke(taken_back.id(), now).await.unwrap();
    assert!(
        matches!(again, Revoked::Before(State::Revoked { .. })),
        "{again:?}"
    );
    assert_eq!(
        coordinator.tokens.revoke("00000000", now).await.unwrap(),
        Revoked::Unknown
    );
}

#[tokio::test]
async fn what_does_not_come_from_our_own_agent_is_answered_as_well() {
    let coordinator = Coordinator::start().await;
    let token = coordinator.token("fra").await;
    let channel = Connector::joining(&coordinator.url(), coordinator.authority.fingerprint())
        .unwrap()
        .channel()
        .await
        .unwrap();
    let said = async |token: String, csr: Vec<u8>| {
        let request = JoinRequest {
            token,
            agent: "fra-1".to_owned(),
            csr,
            zone: String::new(),
        };
        let status = EnrollmentClient::new(channel.clone())
            .join(request)
            .await
            .unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let (code, text) = said(token.to_string(), b"nonsense".to_vec()).await;
    assert_eq!(code, tonic::Code::InvalidArgument);
    assert!(
        text.starts_with("the certificate request cannot be used: "),
        "{text}"
    );
    let (code, text) = said("weir-v-0123abcd-x".to_owned(), Vec::new()).await;
    assert_eq!(code, tonic::Code::InvalidArgument);
    assert!(text.starts_with("this is a viewer's token"), "{text}");
    let (code, _) = said(token.to_string(), vec![0; 100_000]).await;
    assert_eq!(
        code,
        tonic::Code::OutOfRange,
        "more than a request for one key needs"
    );
    let status = ask_to_renew(channel, Vec::new()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            tonic::Code::Unauthenticated,
            "this call needs an agent's certificate: join first (`weir-agent join`), with a token of \
             `weir-coordinator token create --zone <zone>`"
        )
    );
    coordinator.join("fra", "fra-1", token).await.unwrap();
}

#[tokio::test]
async fn a_coordinator_with_another_authority_never_sees_the_token() {
    let (coordinator, impostor) = (Coordinator::start().await, Coordinator::start().await);
    let token = coordinator.token("fra").await;
    let never = |_, _| async { panic!("the token was about to be sent") };
    let error = weir_link::join(&impostor.url(), "fra", "fra-1", token.clone(), never).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("it shows another certificate authority than the one that made the token"),
        "{error}"
    );
    coordinator.join("fra", "fra-1", token).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_connected_is_not_given_away() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    let token = coordinator.token("fra").await;
    let error = coordinator
        .join("fra", "fra-1", token.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "the coordinator refused: zone fra has an agent fra-1 already, connected from 127.0.0.1:"
        ),
        "{error}"
    );
    drop(agent);
    until(&coordinator.sessions, |seen| {
        seen.values().all(|agent| agent.connected.is_none())
    })
    .await;
    coordinator.join("fra", "fra-1", token).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_while_its_session_goes_on() {
    let life = Duration::from_secs(6);
    let coordinator = Coordinator::with(SessionLimits::default(), life).await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let first = connector.credentials().unwrap();
    let dir = IdentityDir::new(coordinator.dir.path().join("identity"));
    dir.store(&first).unwrap();
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;

    let stop = CancellationToken::new();
    let keeping = tokio::spawn(weir_link::keep_fresh(
        connector.clone(),
        dir.clone(),
        ask_to_renew,
        stop.clone(),
    ));
    let renewed = |seen: &weir_coordinator::sessions::Seen| {
        seen.values()
            .all(|agent| agent.certificate_expires > first.expires() + SignedDuration::from_secs(1))
    };
    until(&coordinator.sessions, renewed).await;
    // The session outlives the certificate with which it began: the plan that comes after its end still arrives.
    let left = Timestamp::now().duration_until(first.expires()) + SignedDuration::from_millis(200);
    tokio::time::sleep(left.unsigned_abs()).await;
    coordinator.sessions.publish(plan(90, None));
    assert_eq!(agent.plan().await.generation, 1);

    // No more renewals. What the last one brought is on disk, in use, and with a new key.
    stop.cancel();
    keeping.await.unwrap();
    let kept = dir.load().unwrap();
    assert!(kept.expires() > first.expires());
    let now = connector.credentials().unwrap();
    assert_ne!(now.chain(), first.chain());
    let known = coordinator
        .sessions
        .snapshot()
        .into_values()
        .map(|agent| agent.certificate_expires);
    assert!(
        known.eq([kept.expires()]),
        "the coordinator knows the end of the certificate to the second"
    );
    let mode = std::fs::metadata(dir.path().join("key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // Not renewed any more, the session ends with the certificate.
    assert_eq!(
        agent.goodbye().await,
        "the agent's certificate has ended without being renewed"
    );
    let error = connector.channel().await.unwrap_err().to_string();
    assert!(
        error.starts_with("the certificate of shop/fra/fra-1 ended at "),
        "{error}"
    );
}

#[tokio::test]
async fn the_coordinators_own_certificate_is_replaced_while_it_serves() {
    let coordinator = Coordinator::start().await;
    let connector = coordinator.joined("fra", "fra-1").await;
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    let shop = FederationName::new("shop").unwrap();
    let authority = Authority::open(&coordinator.dir.path().join("ca"), &shop).unwrap();
    let authority = authority.with_server_life(Duration::from_secs(1));
    let before = coordinator.tls.shown();
    let keeping = authority.keep_server_fresh(&coordinator.tls, &[], CancellationToken::new());
    let replaced = async {
        while coordinator.tls.shown() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = keeping => panic!("it was not stopped"),
        replaced = tokio::time::timeout(Duration::from_mins(1), replaced) => replaced.expect("within a minute"),
    }
    // Who connects now sees the new one, and who was connected goes on.
    drop(connector.channel().await.unwrap());
    coordinator.sessions.publish(plan(90, None));
    assert_eq!(agent.plan().await.generation, 1);
}

#[tokio::test]
async fn viewers_read_until_their_token_ends_and_it_shows_when_they_last_did() {
    let coordinator = Coordinator::start().await;
    let tokens = &coordinator.tokens;
    let made = Timestamp::from_second(1_800_000_000).unwrap();
    let day = Duration::from_secs(86_400);
    let viewer = tokens.create_viewer("grafana", day, made).await.unwrap();
    let hour = SignedDuration::from_hours(1);
    assert_eq!(
        tokens.viewer(&viewer.token, made + hour).await.unwrap(),
        "grafana"
    );
    assert_eq!(
        tokens
            .viewer(&viewer.token, made + hour + SignedDuration::from_secs(59))
            .await
            .unwrap(),
        "grafana"
    );
    assert_eq!(tokens.list(made + hour).await.unwrap()[0].used, Some(made + hour));

    // When it was used is worth noting, and not worth shutting people out of a coordinator whose disk is full.
    sqlx::query("CREATE TRIGGER full BEFORE UPDATE ON tokens BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .execute(coordinator.ledger.pool())
        .await
        .unwrap();
    assert_eq!(
        tokens.viewer(&viewer.token, made + hour * 2).await.unwrap(),
        "grafana"
    );
    sqlx::query("DROP TRIGGER full")
        .execute(coordinator.ledger.pool())
        .await
        .unwrap();

    let wrong = ViewerToken::new(viewer.token.id(), &"a".repeat(40)).unwrap();
    assert!(matches!(tokens.viewer(&wrong, made).await, Err(Refused::Unknown)));
    let agents = AgentToken::new(
        viewer.token.id(),
        viewer.token.secret(),
        coordinator.authority.fingerprint(),
    );
    assert!(matches!(
        tokens.examine(&agents.unwrap(), "", made).await,
        Err(Refused::Unknown)
    ));
    assert!(matches!(
        tokens.viewer(&viewer.token, made + day).await,
        Err(Refused::Expired { .. })
    ));
    assert_eq!(
        tokens.revoke(viewer.token.id(), made + hour).await.unwrap(),
        Revoked::Now
    );
    assert!(matches!(
        tokens.viewer(&viewer.token, made + hour).await,
        Err(Refused::Revoked { .. })
    ));

    // Nothing in the files of the ledger gives a secret away.
    let secret = viewer.token.secret().as_bytes();
    for file in std::fs::read_dir(coordinator.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn an_authority_is_made_once_kept_private_and_not_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let shop = FederationName::new("shop").unwrap();
    // Two processes at a time: both end up with the same authority.
    let made: Vec<_> = std::thread::scope(|scope| {
        let open = || Authority::open(&ca, &shop).unwrap().fingerprint();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    let mode = |name: &str| std::fs::metadata(ca.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key.pem"), mode("ca.pem")), (0o600, 0o644));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no drafts stay"
    );

    let bank = FederationName::new("bank").unwrap();
    let Err(error) = Authority::open(&ca, &bank) else {
        panic!("the authority of another federation was taken");
    };
    assert!(
        error
            .to_string()
            .contains("was made for another federation than `bank` (spiffe://shop)"),
        "{error}"
    );
    std::fs::write(ca.join("key.pem"), "nonsense").unwrap();
    let Err(error) = Authority::open(&ca, &shop) else {
        panic!("nonsense was taken for a key");
    };
    assert_eq!(
        error.to_string(),
        format!(
            "certificate authority: {0}/key.pem does not hold a private key in PEM; restore {0} from a backup (without \
             it every agent must join again)",
            ca.display()
        )
    );
}

#[tokio::test]
async fn a_join_needs_only_the_address_the_token_and_two_names() {
    let coordinator = Coordinator::start().await;
    let text = coordinator.token("fra").await.to_string();
    // What `weir-agent join` does, whole.
    let token: AgentToken = text.parse().unwrap();
    let credentials = weir_link::join(&coordinator.url(), "fra", "fra-1", token, ask_to_join)
        .await
        .unwrap();
    let dir = IdentityDir::new(coordinator.dir.path().join("agent/identity"));
    dir.store(&credentials).unwrap();
    // What `weir-agent run` does next.
    let connector = Connector::new(&coordinator.url(), dir.load().unwrap()).unwrap();
    coordinator.sessions.publish(plan(90, None));
    let mut agent = Agent::connects(&connector, &greeting("fra", "fra-1")).await;
    assert_eq!(agent.plan().await.zone, "fra");
}
