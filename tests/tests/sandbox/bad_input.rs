//! Bad input to a running federation, which is answered and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use weir_sandbox::coordinator::proven;
use weir_sandbox::repository::{SPLIT as FILE, split_text};
use weir_sandbox::waiting::poll;
use weir_tests::programs;
use weir_tests::story::Story;

use crate::{Pairs, Words, run, text};

/// A verdict without enough requests ends after half of this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What runs and what the coordinator remembers, to be compared before and after.
async fn standing(story: &Story) -> (u64, BTreeMap<String, String>, Vec<String>, Vec<String>) {
    let list = story.play.viewer.splits().await.unwrap();
    let zones = story.play.viewer.zones().await.unwrap();
    let agents = zones
        .zones
        .iter()
        .flat_map(|z| z.agents.iter().map(|a| format!("{} {}", z.name, a.name)));
    let weights = list
        .splits
        .iter()
        .flat_map(|s| &s.zones)
        .map(|z| format!("{} {:?} {:?}", z.zone, z.generation, z.weights));
    (
        list.generation,
        list.commits.clone(),
        agents.collect(),
        weights.collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_to_a_running_federation_is_answered_and_changes_nothing() {
    let bin = programs().unwrap();
    let mut story = Story::start(false, 500).await.unwrap();
    let told = bad_input(bin, &mut story).await;
    match told {
        Ok(()) => story.play.stop().await,
        Err(error) => panic!("{:#}", story.play.failed(error).await),
    }
}

async fn bad_input(bin: &Path, story: &mut Story) -> anyhow::Result<()> {
    let good = story.commit(70, 30)?;
    story.play.proven(&good).await?;
    // The end of a verdict is a plan of its own, and nothing that bad input made.
    story
        .play
        .until("the split rests", PATIENCE, |split| {
            let split = split.context("it is gone")?;
            Ok(split.transition.is_none().then_some(()))
        })
        .await?;
    let before = standing(story).await;

    broken_declarations(bin, story, &good).await?;
    spent_tokens(bin, story)?;
    wrong_configurations(bin, story).await?;

    assert_eq!(standing(story).await, before);
    story.shares("after all of that", |_| [70, 30]).await?;
    story.unharmed("bad input")?;
    // And what is right is taken as if nothing had been.
    story.play.repository.commit(
        &[("traffic/zones.yaml", &zones(story))],
        "Take the broken files back",
    )?;
    let right = story.commit(40, 60)?;
    story.play.proven(&right).await?;
    story.shares("a good commit after bad ones", |_| [40, 60]).await?;
    story.unharmed("a good commit after bad ones")
}

fn zones(story: &Story) -> String {
    let zone = |name: &String| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\nspec: {{platform: vm}}\n"
        )
    };
    story
        .play
        .zones
        .iter()
        .map(zone)
        .collect::<Vec<_>>()
        .join("---\n")
}

/// The last good commit stays in force, says so everywhere, and every fault has its code and its place.
async fn broken_declarations(bin: &Path, story: &Story, good: &str) -> anyhow::Result<()> {
    let token = tempfile::NamedTempFile::new()?;
    let dir = story.play.dir.display().to_string();
    let config = format!("{dir}/coordinator/coordinator.yaml");
    let made = run(
        bin,
        "weir-coordinator",
        &["token", "create", "--config", &config, "--viewer", "test"],
        &[],
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    std::fs::write(token.path(), made.stdout)?;
    let (ca, token) = (
        format!("{dir}/coordinator/data/ca/ca.pem"),
        token.path().to_str().unwrap().to_owned(),
    );
    let connection = [
        ("WEIR_COORDINATOR", story.play.address.as_str()),
        ("WEIR_TOKEN_FILE", &token),
        ("WEIR_CA", &ca),
    ];

    // A sum, a slip of the pen, no YAML at all in a second file: each is named, none hides another.
    let sum = split_text(60, 60);
    let slip = split_text(70, 30).replace("weights:", "wieghts:");
    let cases: [(&str, Pairs<'_>, Words<'_>); 3] = [
        ("Sum", &[(FILE, &sum)], &["WEIR0102"]),
        ("Slip", &[(FILE, &slip)], &["WEIR0201", "wieghts"]),
        (
            "Both",
            &[(FILE, &sum), ("traffic/zones.yaml", "kind: [Zone\n")],
            &["WEIR0102", "zones.yaml"],
        ),
    ];
    for (message, files, words) in cases {
        let commit = story.play.repository.commit(files, message)?;
        story.play.look();
        let viewer = &story.play.viewer;
        let recorded = async || {
            let record = viewer.commit(&commit).await?;
            Ok(record.ok_or_else(|| format!("{message}: the coordinator does not see {commit}")))
        };
        let record = poll(PATIENCE, recorded).await?;
        assert_eq!(
            (record.verdict.as_str(), record.generation),
            ("refused", None),
            "{record:?}"
        );
        let said = |d: &weir_model::Diagnostic| format!("{} {} {:?}", d.code, d.message, d.labels);
        let all = record.diagnostics.iter().map(said).collect::<Vec<_>>().join("\n");
        assert!(words.iter().all(|word| all.contains(word)), "{words:?} in {all}");
        assert!(
            record.diagnostics.iter().all(|d| !d.labels.is_empty()),
            "without a place: {all}"
        );

        // It is in the ledger first, and shown after that.
        let shown = async || {
            let list = viewer.splits().await?;
            let notice = list.notice.clone().unwrap_or_default();
            Ok(match notice.contains(&commit[..7]) {
                true => Ok(list),
                false => Err(format!("{message}: {notice}")),
            })
        };
        let list = poll(PATIENCE, shown).await?;
        assert_eq!(
            list.commits.values().collect::<Vec<_>>(),
            [good],
            "the last good commit stays in force"
        );

        // People are told as much by both of their commands.
        let status = run(bin, "weir", &["status"], &connection);
        let shown = text(&status.stdout) + &text(&status.stderr);
        assert!(
            shown.contains(&commit[..7]) && shown.contains("70") && shown.contains("30"),
            "{shown}"
        );
        let repository = story.play.repository.dir().join("traffic");
        let check = run(bin, "weir", &["check", repository.to_str().unwrap()], &[]);
        assert_ne!(check.status.code(), Some(0));
        let shown = text(&check.stdout) + &text(&check.stderr);
        assert!(
            words.iter().all(|word| shown.contains(word)),
            "{words:?} in {shown}"
        );
        story.shares(message, |_| [70, 30]).await?;
    }
    Ok(())
}

/// A token is spent once, by one agent, for one zone.
fn spent_tokens(bin: &Path, story: &Story) -> anyhow::Result<()> {
    let fra = story.play.dir.join("zones/fra/agent");
    let own = tempfile::tempdir()?;
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (data, config) = (own.path().join("data"), own.path().join("agent.yaml"));
    let right = std::fs::read_to_string(fra.join("agent.yaml"))?;
    let second = right
        .replace(&path(&fra.join("data")), &path(&data))
        .replace("fra-1", "fra-2");
    std::fs::write(&config, second)?;
    let identity = fra.join("data/identity");
    let kept = files(&identity);
    assert!(!kept.is_empty());

    let coordinator = path(&story.play.dir.join("coordinator/coordinator.yaml"));
    let ams = run(
        bin,
        "weir-coordinator",
        &["token", "create", "--config", &coordinator, "--zone", "ams"],
        &[],
    );
    let ams_token = own.path().join("ams");
    std::fs::write(&ams_token, &ams.stdout)?;
    let cases: [(&Path, &Path, &[&str]); 4] = [
        (
            &config,
            &fra.join("token"),
            &["spent by agent fra-1", "weir-coordinator token create --zone fra"],
        ),
        (
            &config,
            &ams_token,
            &["joins zone ams", "zone fra", "the token can still be used"],
        ),
        (&config, &config, &["token"]),
        (
            &fra.join("agent.yaml"),
            &fra.join("token"),
            &["has joined already", "identity"],
        ),
    ];
    for (config, token, words) in cases {
        let output = run(
            bin,
            "weir-agent",
            &["join", "--config", &path(config), "--token-file", &path(token)],
            &[],
        );
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            words.iter().all(|word| told.contains(word)),
            "{words:?} in {told}"
        );
        // The lock that keeps a second agent out of the directory is an empty file, made before anything is asked: a
        // token that can be refused without asking leaves not even that.
        let mut left = files(&data);
        let lock = left.remove(&data.join("lock").display().to_string());
        assert!(lock.is_none_or(|lock| lock.is_empty()), "the lock is empty");
        assert_eq!(left, BTreeMap::new(), "a refused agent keeps nothing");
        assert_eq!(files(&identity), kept, "the agent that spent it is who it was");
        // Nor can it run.
        let output = run(
            bin,
            "weir-agent",
            &["run", "--config", &path(&own.path().join("agent.yaml"))],
            &[],
        );
        let told = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && told.contains("has not joined"),
            "{told}"
        );
    }
    // The token of the other zone was not spent by being refused.
    let list = run(
        bin,
        "weir-coordinator",
        &["token", "list", "--config", &coordinator],
        &[],
    );
    let list = text(&list.stdout);
    assert!(
        list.lines().any(|l| l.contains("ams") && l.contains("open")),
        "{list}"
    );
    Ok(())
}

/// Every file below a directory with its content.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(
                path.display().to_string(),
                std::fs::read(&path).unwrap_or_default(),
            );
        }
    }
    found
}

/// A coordinator with a wrong configuration does not start, says where it is wrong, and leaves ledger and traffic alone;
/// with the right one again it takes up what was in force.
async fn wrong_configurations(bin: &Path, story: &mut Story) -> anyhow::Result<()> {
    let dir = story.play.dir.join("coordinator");
    let file = dir.join("coordinator.yaml");
    let right = std::fs::read_to_string(&file)?;
    let serve = |text: &str| {
        let wrong = dir.join("wrong.yaml");
        std::fs::write(&wrong, text).unwrap();
        run(
            bin,
            "weir-coordinator",
            &["serve", "--config", wrong.to_str().unwrap()],
            &[],
        )
    };
    // Beside the running one.
    let told = serve(&right);
    assert_eq!(told.status.code(), Some(1));
    let told = text(&told.stderr);
    assert!(told.contains("another weir-coordinator serves"), "{told}");

    story.play.kill_coordinator().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = story.play.address.rsplit(':').next().unwrap();
    let occupied = taken.local_addr()?.port().to_string();
    let cases = [
        (right.replace("poll: 1s", "pol: 1s"), 2, "wrong.yaml:10:", "pol"),
        (
            right.replace("poll: 1s", "poll: often"),
            2,
            "wrong.yaml:10:",
            "often",
        ),
        (
            right.replace("sources:", "sources: []\nother:"),
            2,
            "wrong.yaml:",
            "help",
        ),
        (
            right.replace("federation: sandbox", "federation: other"),
            1,
            "holds plans of the federation `sandbox`",
            "other",
        ),
        (
            right.replace(&format!(":{port}"), &format!(":{occupied}")),
            1,
            &occupied,
            "listen",
        ),
    ];
    for (wrong, code, place, word) in &cases {
        assert_ne!(*wrong, right);
        let output = serve(wrong);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{told}");
        assert!(
            told.contains(place) && told.contains(word),
            "{place} and {word} in {told}"
        );
    }
    story
        .shares("with a coordinator that does not start", |_| [70, 30])
        .await?;
    story.unharmed("with a coordinator that does not start")?;
    story.play.restart_coordinator().await?;
    // They come back at their own pace, 20 s apart by now.
    let patience = std::time::Duration::from_secs(90);
    story
        .play
        .until("the agents are back", patience, |split| {
            let split = split.context("the split is gone")?;
            let all = split.zones.iter().all(|zone| proven(split, zone));
            Ok(all.then_some(()))
        })
        .await
}
