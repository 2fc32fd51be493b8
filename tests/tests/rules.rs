//! The rule of the rooms, held over `cargo metadata`: who may depend on whom, what pure rooms may never link, one TLS
//! provider, no double in a product. Changed by whoever changes docs/architecture.md, in the same commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Room -> the rooms that it may use, tests included. Whatever is not listed is refused.
const MAY_USE: &[(&str, &[&str])] = &[
    ("weir-model", &[]),
    ("weir-planner", &["weir-model"]),
    ("weir-render", &["weir-model", "weir-planner"]),
    ("weir-wire", &["weir-model", "weir-planner"]),
    ("weir-link", &[]),
    ("weir-drivers", &["weir-model", "weir-planner", "weir-render"]),
    (
        "weir-coordinator",
        &[
            "weir-model",
            "weir-planner",
            "weir-render",
            "weir-wire",
            "weir-link",
        ],
    ),
    (
        "weir-agent",
        &[
            "weir-model",
            "weir-planner",
            "weir-render",
            "weir-wire",
            "weir-link",
            "weir-drivers",
        ],
    ),
    (
        "weir-cli",
        &[
            "weir-model",
            "weir-planner",
            "weir-render",
            "weir-wire",
            "weir-link",
        ],
    ),
    ("weir-sandbox", &["weir-model", "weir-planner", "weir-wire"]),
    (
        "weir-tests",
        &[
            "weir-agent",
            "weir-coordinator",
            "weir-model",
            "weir-planner",
            "weir-render",
            "weir-drivers",
            "weir-wire",
            "weir-sandbox",
        ],
    ),
];

/// Crates that open something, or draw time or chance.
const OPENS_OR_DRAWS: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "reqwest",
    "tonic",
    "rustls",
    "git2",
    "sqlx",
    "getrandom",
    "rand",
    "tempfile",
    "chrono",
];

/// Room -> crates that must not be in what it links, however deep, and why.
const MAY_NOT_LINK: &[(&str, &[&str], &str)] = &[
    (
        "weir-model",
        OPENS_OR_DRAWS,
        "a pure room opens nothing and draws nothing",
    ),
    (
        "weir-planner",
        OPENS_OR_DRAWS,
        "a pure room opens nothing and draws nothing",
    ),
    (
        "weir-render",
        OPENS_OR_DRAWS,
        "a pure room opens nothing and draws nothing",
    ),
    (
        "weir-wire",
        &["reqwest", "rustls", "git2", "sqlx", "rcgen"],
        "the protocol knows no transport security, Git or store",
    ),
    (
        "weir-link",
        &["git2", "sqlx", "reqwest"],
        "the link knows bytes and identities, not traffic",
    ),
    (
        "weir-agent",
        &[
            "git2",
            "libgit2-sys",
            "sqlx",
            "sqlx-core",
            "libsqlite3-sys",
            "axum-server",
        ],
        "privilege follows linkage: no Git and no SQL on a VM host",
    ),
    (
        "weir-cli",
        &["sqlx", "sqlx-core", "libsqlite3-sys", "prometheus-client"],
        "the command line holds no store",
    ),
];

/// Crates that nothing in this workspace may link at all, and why.
const NEVER: &[(&str, &str)] = &[
    (
        "ring",
        "two TLS providers in one program make rustls refuse to choose: aws-lc-rs is the one",
    ),
    ("openssl-sys", "TLS is rustls with aws-lc-rs"),
    ("native-tls", "TLS is rustls with aws-lc-rs"),
    (
        "libssh2-sys",
        "ssh is the `ssh` program, with the user's own configuration",
    ),
    (
        "serde_yaml",
        "not kept any more; YAML is serde-saphyr, which keeps spans",
    ),
    ("chrono", "time is jiff"),
];

/// Rooms that make a program.
const WITH_A_PROGRAM: &[&str] = &["weir-coordinator", "weir-agent", "weir-cli", "weir-sandbox"];

struct Tree {
    /// Room -> what its manifest names, tests and build scripts included.
    direct: BTreeMap<String, BTreeSet<String>>,
    manifests: BTreeMap<String, PathBuf>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

fn tree() -> Tree {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let mut tree = Tree {
        direct: BTreeMap::new(),
        manifests: BTreeMap::new(),
    };
    let members: BTreeSet<String> = metadata["workspace_members"]
        .as_array()
        .expect("members")
        .iter()
        .map(text)
        .collect();
    for package in metadata["packages"].as_array().expect("packages") {
        let (id, name) = (text(&package["id"]), text(&package["name"]));
        if members.contains(&id) {
            tree.manifests
                .insert(name.clone(), PathBuf::from(text(&package["manifest_path"])));
            let direct = package["dependencies"].as_array().expect("dependencies").iter();
            tree.direct
                .insert(name, direct.map(|d| text(&d["name"])).collect());
        }
    }
    tree
}

/// Names of all that `room` links, itself included. From `cargo tree`, because `cargo metadata` also lists what a feature
/// that nobody turned on would bring.
fn linked(room: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree", "--locked", "-p", room, "-e", "normal", "--prefix", "none", "--format", "{p}",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo tree is text");
    let found: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(
        found.contains(room) && found.contains("serde"),
        "cargo tree names crates: {found:?}"
    );
    found
}

#[test]
fn a_room_uses_only_the_rooms_below_it() {
    let tree = tree();
    let listed: BTreeSet<_> = MAY_USE.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(
        tree.direct.keys().cloned().collect::<BTreeSet<_>>(),
        listed,
        "each room has a line in MAY_USE"
    );
    let mut wrong = Vec::new();
    for (room, may) in MAY_USE {
        for used in tree.direct[*room].iter().filter(|name| name.starts_with("weir-")) {
            if !may.contains(&used.as_str()) {
                wrong.push(format!(
                    "{room} uses {used}, which docs/architecture.md does not allow"
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_room_links_nothing_that_it_must_not() {
    let mut wrong = Vec::new();
    for room in tree().direct.keys() {
        let linked = linked(room);
        let banned = MAY_NOT_LINK.iter().filter(|(of, ..)| of == room);
        let banned = banned.flat_map(|(_, names, why)| names.iter().map(move |name| (name, why)));
        for (name, why) in banned.chain(NEVER.iter().map(|(name, why)| (name, why))) {
            if linked.contains(*name) {
                wrong.push(format!(
                    "{room} links {name} (cargo tree -p {room} -i {name}): {why}"
                ));
            }
        }
        let is_program = WITH_A_PROGRAM.contains(&room.as_str());
        if is_program && !linked.contains("aws-lc-rs") {
            wrong.push(format!(
                "{room} is a program and lacks the one TLS provider, aws-lc-rs"
            ));
        }
        if room != "weir-tests" && room != "weir-sandbox" && linked.contains("weir-sandbox") {
            wrong.push(format!(
                "{room} links the sandbox: no product knows that a double exists"
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The simulation breaks Weir on purpose by switches in the code. No program that people install has them: only the
/// tests' package can turn them on, and does so for nothing by default.
#[test]
fn no_product_can_be_sabotaged() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs, for it runs this test");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let mut named = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        for (feature, turns_on) in package["features"].as_object().expect("features") {
            if format!("{feature} {turns_on}").contains("sabotage") {
                named.push(format!("{name}: {feature} = {turns_on}"));
            }
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["features"].to_string().contains("sabotage") {
                named.push(format!("{name} turns it on in {}", dependency["name"]));
            }
        }
    }
    assert_eq!(
        named,
        [
            "weir-model: sabotage = []",
            "weir-tests: sabotage = [\"weir-model/sabotage\"]"
        ]
    );
    // In this very test nothing is on, whatever is asked for.
    assert!(!weir_model::sabotaged("skip-prepare"));
}

#[test]
fn every_ban_has_its_reason() {
    let tree = tree();
    let mut wrong = Vec::new();
    for (room, manifest) in &tree.manifests {
        let bans = manifest.with_file_name(".clippy.toml");
        let Ok(text) = std::fs::read_to_string(&bans) else {
            wrong.push(format!("{room} has no .clippy.toml"));
            continue;
        };
        let entries = text
            .lines()
            .filter(|line| line.trim_start().starts_with("{ path"));
        wrong.extend(
            entries
                .filter(|line| !line.contains("reason = \""))
                .map(|line| format!("{room}: {line}")),
        );
        let pure = ["weir-model", "weir-planner", "weir-render"].contains(&room.as_str());
        if pure && !text.contains("std::time::SystemTime::now") {
            wrong.push(format!("{room} is a pure room and does not ban the clock"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Files below `folder` whose name ends so, without what cargo builds.
fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder)
        .expect("a folder of this workspace")
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                files(&path, ending, into);
            }
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

#[test]
fn every_source_file_says_what_it_holds() {
    let mut sources = Vec::new();
    files(&root(), ".rs", &mut sources);
    let mut wrong = Vec::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("readable");
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with //!", path.display()));
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if [
            "core", "common", "util", "utils", "manager", "helper", "helpers", "service", "handler", "misc",
        ]
        .contains(&name.as_str())
        {
            wrong.push(format!("{} is named for nothing in particular", path.display()));
        }
        if text.contains(concat!("#[", "ignore")) {
            wrong.push(format!("{} holds a test that is never run", path.display()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut pages = Vec::new();
    files(&root(), ".md", &mut pages);
    assert!(pages.len() > 3, "documents are found");
    let mut wrong = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("readable");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.contains(' ') || target.contains('\n') {
                continue;
            }
            if !page.with_file_name("").join(file).exists() {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Whoever meets a code at night must find its page with `weir explain`, whichever program gave it.
#[test]
fn every_code_in_the_sources_has_a_page() {
    let mut sources = Vec::new();
    files(&root().join("crates"), "rs", &mut sources);
    sources.retain(|file| file.components().any(|part| part.as_os_str() == "src"));
    assert!(sources.len() > 100, "{} sources", sources.len());
    let mut wrong = Vec::new();
    for file in sources {
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        // A number of its own, beside the table.
        if !file.ends_with("model/src/codes.rs") {
            let own = text
                .split("Code(")
                .skip(1)
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            wrong.extend(own.map(|rest| format!("{}: Code({}", file.display(), &rest[..rest.len().min(6)])));
        }
        for named in text.split("WEIR").skip(1).filter_map(|rest| rest.get(..4)) {
            if let Ok(number) = named.parse::<u16>()
                && weir_model::page(weir_model::Code(number)).is_none()
            {
                wrong.push(format!("{}: WEIR{named}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no page in docs/errors: {wrong:#?}");
    let mut pages = Vec::new();
    files(&root().join("docs/errors"), "md", &mut pages);
    assert_eq!(
        pages.len(),
        weir_model::codes::ALL.len() + 1,
        "a page that no code has, beside the index"
    );
}
