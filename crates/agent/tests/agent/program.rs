//! The program itself: what it says and how it ends when something is wrong before it could begin.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use weir_agent::store::Store;
use weir_model::{
    BackendName, BasisPoints, CommitId, DnsLabel, FederationName, Match, MeshName, Protocol, RouteName,
    ServiceName, SplitName, ZoneName,
};
use weir_planner::{Destination, Digest, Generation, Item, ItemRoute, PlanId, ZonePlan, anchor, item_digest};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-agent");

const CONFIG: &str = "\
zone: fra
agent: fra-1
coordinator: https://127.0.0.1:9
data: data
kuma: {api: http://127.0.0.1:9}
";

fn ask(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = Command::new(PROGRAM)
        .args(arguments)
        .args(["--config", "agent.yaml"])
        .current_dir(dir)
        .env_remove("WEIR_LOG")
        .env_remove("SUDO_USER")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, stdout, stderr) = ask(dir, arguments);
    assert_eq!(stdout, "", "stdout is for answers");
    (code, stderr)
}

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["run"][..], &["status"], &["join", "--token", "x"]] {
        let missing = run(dir.path(), command);
        assert_eq!(missing.0, Some(2), "{missing:?}");
        assert!(missing.1.contains("agent.yaml"), "{missing:?}");
    }
    std::fs::write(
        dir.path().join("agent.yaml"),
        CONFIG.replace("zone: fra", "zone: Fra"),
    )
    .unwrap();
    let (code, text) = run(dir.path(), &["run"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("agent.yaml:1:7"), "{text}");
    assert!(!dir.path().join("data").exists(), "nothing is made");
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    for (command, words) in [
        (&["run"][..], "weir-agent join"),
        (&["status"], "is it running?"),
        (&["join", "--token", "weir-a-rubbish"], "token"),
        (
            &["join", "--token-file", "none"],
            "cannot read the token file none",
        ),
    ] {
        let (code, text) = run(dir.path(), command);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(words), "{command:?}: {text}");
    }
}

/// As a pod's first container does, at every start.
#[test]
fn joining_once_more_does_nothing_if_so_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    let identity = dir.path().join("data/identity");
    std::fs::create_dir_all(&identity).unwrap();
    std::fs::write(identity.join("cert.pem"), "").unwrap();
    std::fs::write(identity.join("key.pem"), "").unwrap();
    let (code, text) = run(dir.path(), &["join", "--token-file", "none"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("has joined already"), "{text}");
    let (code, text) = run(dir.path(), &["join", "--unless-joined", "--token-file", "none"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn two_agents_never_share_one_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.yaml"), CONFIG).unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let first = std::fs::File::create(dir.path().join("data/lock")).unwrap();
    first.try_lock().unwrap();
    let (code, text) = run(dir.path(), &["run"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("another weir-agent runs with the data directory data: stop that one first"),
        "{text}"
    );
    drop(first);
    assert!(run(dir.path(), &["run"]).1.contains("weir-agent join"));
}

/// A plan of one split that goes to a VM, as an agent keeps it.
fn keep_plan(dir: &Path) {
    let split = SplitName::new("checkout").unwrap();
    let service = ServiceName::new("checkout").unwrap();
    let at = |zone: &str| Destination {
        zone: ZoneName::new(zone).unwrap(),
        kuma_zone: DnsLabel::new(zone).unwrap(),
        namespace: None,
        service: service.clone(),
        port: 8080,
    };
    let backend = |name: &str| BackendName::new(name).unwrap();
    let federation = FederationName::new("shop").unwrap();
    let mut item = Item {
        anchor: anchor(&federation, &split),
        split: split.clone(),
        zone: ZoneName::new("fra").unwrap(),
        kuma_zone: DnsLabel::new("fra").unwrap(),
        mesh: MeshName::new("default").unwrap(),
        service: service.clone(),
        port: 8080,
        port_names: [].into(),
        protocol: Protocol::Http,
        destinations: BTreeMap::from([(backend("vm"), at("fra")), (backend("eks"), at("use1"))]),
        retiring: BTreeSet::new(),
        routes: vec![ItemRoute {
            name: RouteName::new("default").unwrap(),
            matches: Match::default(),
            weights: BTreeMap::from([(backend("eks"), BasisPoints::WHOLE)]),
        }],
        fallback: [].into(),
        doors: [].into(),
        generation: Generation(4),
        commit: CommitId("0123456789abcdef0123456789abcdef01234567".to_owned()),
        digest: Digest([0; 32]),
    };
    item.digest = item_digest(&item);
    let plan = ZonePlan {
        federation,
        zone: item.zone.clone(),
        kuma_zone: item.kuma_zone.clone(),
        mesh: item.mesh.clone(),
        plan: PlanId([1; 32]),
        generation: Generation(4),
        commits: Vec::new(),
        gateways: [].into(),
        items: BTreeMap::from([(split, Arc::new(item))]),
    };
    Store::new(&dir.join("data")).keep_plan(&plan).unwrap();
}

/// With nothing that answers: no coordinator, no control plane, no agent.
#[test]
fn a_split_is_pinned_and_unpinned_with_everything_else_gone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("agent.yaml"), CONFIG).unwrap();
    let pin = |weights: &'static str, reason: &'static str| {
        let weights = ["pin", "--split", "checkout", "--weights", weights];
        [&weights[..], &["--reason", reason]].concat()
    };
    let (code, text) = run(dir, &pin("vm=100", "eks is dark"));
    assert_eq!(code, Some(1));
    assert!(text.contains("the data directory data cannot be used"), "{text}");
    std::fs::create_dir(dir.join("data")).unwrap();
    let (code, text) = run(dir, &pin("vm=100", "eks is dark"));
    assert_eq!(code, Some(1));
    assert!(
        text.contains("no plan is held in data: there is nothing to pin yet"),
        "{text}"
    );
    keep_plan(dir);
    for (arguments, code, words) in [
        (pin("vm=90", "eks is dark"), 2, "add up to 90.00 %, not to 100 %"),
        (pin("vm=100", " "), 2, "say why"),
        (
            pin("lab=100", "eks is dark"),
            1,
            "lab is no backend of split checkout",
        ),
        (
            vec!["unpin", "--split", "checkout"],
            1,
            "split checkout is not pinned on this host",
        ),
    ] {
        let (ended, text) = run(dir, &arguments);
        assert_eq!(ended, Some(code), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!dir.join("data/pins.json").exists(), "nothing changed");
    }
    assert_eq!(ask(dir, &["pins"]).1, "nothing is pinned on this host\n");

    let (code, out, text) = ask(dir, &pin("vm=99.5,eks=0.5", "eks is dark"));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("warning: the control plane cannot be read ("),
        "{text}"
    );
    assert_eq!(
        out,
        "split checkout is pinned on this host:\n  default: eks 0.5 %, vm 99.5 %\nIt holds until `weir-agent unpin --split \
         checkout`, whatever plan comes. No agent answers here: it follows when it runs.\n"
    );
    let file = std::fs::metadata(dir.join("data/pins.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let (_, out, _) = ask(dir, &["pins"]);
    assert!(out.starts_with("split checkout, pinned for "), "{out}");
    assert!(
        out.ends_with(", at generation 4: eks is dark\n  default: eks 0.5 %, vm 99.5 %\n"),
        "{out}"
    );
    let (_, out, _) = ask(dir, &["pins", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all[0]["pin"]["weights"]["default"]["vm"], 9_950);

    // One at a time.
    let other = std::fs::File::open(dir.join("data/pins.lock")).unwrap();
    other.try_lock().unwrap();
    let (code, text) = run(dir, &["unpin", "--split", "checkout"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is at work here"), "{text}");
    drop(other);

    let (code, out, _) = ask(dir, &["unpin", "--split", "checkout"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with(
            "split checkout is not pinned any more: it follows plan 4 again, which has it at generation 4."
        ),
        "{out}"
    );
    assert_eq!(ask(dir, &["pins"]).1, "nothing is pinned on this host\n");
}

/// Policies without the anchor lose requests: no program that people get can be told to write them.
#[cfg(not(feature = "bare-policies"))]
#[test]
fn the_program_has_no_switch_for_bare_policies() {
    let name = concat!("WEIR_TEST_BARE", "_POLICIES").as_bytes();
    let program = std::fs::read(PROGRAM).unwrap();
    assert!(!program.windows(name.len()).any(|bytes| bytes == name));
}
