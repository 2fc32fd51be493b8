//! The program: a Git source that cannot be read holds up nobody else, and nothing that it declares goes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Coordinator;
use crate::repository::{Repository, declaration, split};
use serde_json::Value;
use tempfile::TempDir;

/// A configuration with these sources, each a repository of that name beside it.
fn configure(dir: &Path, sources: &[&str]) -> PathBuf {
    let file = dir.join("coordinator.yaml");
    let mut text =
        "federation: shop\nlisten: 127.0.0.1:0\ndata: data\napi: {anonymousRead: true}\nsources:\n"
            .to_owned();
    for source in sources {
        text.push_str(&format!("  - {{name: {source}, url: {source}, poll: 200ms}}\n"));
    }
    fs::write(&file, text).unwrap();
    file
}

fn splits(list: &Value) -> Vec<&str> {
    let splits = list["splits"].as_array().unwrap();
    splits
        .iter()
        .map(|split| split["name"].as_str().unwrap())
        .collect()
}

fn notice(list: &Value) -> &str {
    list["notice"].as_str().unwrap_or_default()
}

/// Whether checkout is told this weight for its VMs. Generations are not counted: coming to rest has one of its own.
fn vm_has(percent: u64) -> impl Fn(u16, &Value) -> bool {
    move |_, list| {
        let splits = list["splits"].as_array().into_iter().flatten();
        let mut checkout = splits.filter(|split| split["name"] == "checkout");
        checkout.any(|split| split["declared"]["default"]["vm"] == percent)
    }
}

/// The commit that took a service under the split is taken back: the only split goes, and nobody has to say that it may.
/// The same file gone in another commit is an accident.
#[tokio::test]
async fn a_revert_of_the_first_split_is_taken_and_an_accident_is_not() {
    let dir = TempDir::new().unwrap();
    let whole = declaration("shop", "100", "0");
    let (zones, split) = whole.split_once("kind: Split").unwrap();
    let zones = zones.rsplit_once("---").unwrap().0;
    let split = format!("apiVersion: weir.dev/v1alpha1\nkind: Split{split}");
    let repository = Repository::with(&dir.path().join("main"), &[("zones.yaml", zones)]);
    let file = configure(dir.path(), &["main"]);
    let coordinator = Coordinator::start(&file).await;
    let generation = |g: u64| move |_: u16, list: &Value| list["generation"] == g;
    coordinator.until("/v1/splits", generation(1)).await;
    repository.commit("adopt", &[("zones.yaml", zones), ("split.yaml", &split)]);
    let list = coordinator.until("/v1/splits", generation(2)).await;
    assert_eq!(splits(&list), ["checkout"]);
    repository.commit("an accident", &[("zones.yaml", &format!("{zones}\n# tidied\n"))]);
    let list = coordinator
        .until("/v1/splits", |_, list| notice(list).contains("WEIR0904"))
        .await;
    assert_eq!(splits(&list), ["checkout"]);
    repository.commit("Revert \"adopt\"", &[("zones.yaml", zones)]);
    let list = coordinator.until("/v1/splits", generation(3)).await;
    assert_eq!(splits(&list), [""; 0]);
}

#[tokio::test]
async fn a_source_that_is_away_holds_up_nobody_else_even_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let base = Repository::with(&at("base"), &[("a.yaml", &declaration("shop", "100", "0"))]);
    let search = Repository::with(&at("search"), &[("b.yaml", &split("search", "100", "0"))]);
    let commit = search
        .git
        .refname_to_id(crate::repository::BRANCH)
        .unwrap()
        .to_string();
    let file = configure(dir.path(), &["base", "search"]);
    let coordinator = Coordinator::start(&file).await;
    coordinator
        .until("/v1/splits", |_, list| list["generation"] == 1)
        .await;
    drop(coordinator);

    // Away since before the start: what it had declared stays, and a change and a revert elsewhere are taken.
    fs::rename(at("search"), at("search-away")).unwrap();
    let coordinator = Coordinator::start(&file).await;
    base.commit("shift", &[("a.yaml", &declaration("shop", "50", "50"))]);
    let list = coordinator
        .until("/v1/splits", |_, list| {
            list["generation"] == 2 && notice(list).contains("search")
        })
        .await;
    assert_eq!(splits(&list), ["checkout", "search"]);
    assert!(
        notice(&list).contains("source search cannot be read: ")
            && notice(&list).contains(&format!("its commit {} stays in force", &commit[..12])),
        "{list}"
    );
    base.commit("revert", &[("a.yaml", &declaration("shop", "100", "0"))]);
    coordinator.until("/v1/splits", vm_has(100)).await;
    drop(coordinator);

    // A source that is new in the configuration and was never read declares nothing in force.
    let file = configure(dir.path(), &["base", "new", "search"]);
    let coordinator = Coordinator::start(&file).await;
    base.commit("shift again", &[("a.yaml", &declaration("shop", "70", "30"))]);
    let list = coordinator.until("/v1/splits", vm_has(70)).await;
    assert_eq!(splits(&list), ["checkout", "search"]);
    Repository::with(&at("new"), &[("c.yaml", &split("new", "100", "0"))]);
    let list = coordinator
        .until("/v1/splits", |_, list| splits(list).contains(&"new"))
        .await;
    assert_eq!(splits(&list), ["checkout", "new", "search"]);
    drop(coordinator);

    // Its copy is lost as well: what it declares is not known, so nothing is planned, and that is said.
    fs::remove_dir_all(at("data").join("git/search")).unwrap();
    let coordinator = Coordinator::start(&file).await;
    base.commit("and again", &[("a.yaml", &declaration("shop", "60", "40"))]);
    let list = coordinator
        .until("/v1/splits", |_, list| {
            notice(list).contains("no commit of any source is taken")
        })
        .await;
    assert!(notice(&list).contains("until `search` can be read"), "{list}");
    assert_eq!(splits(&list), ["checkout", "new", "search"]);
    fs::rename(at("search-away"), at("search")).unwrap();
    let list = coordinator
        .until("/v1/splits", |_, list| {
            vm_has(60)(200, list) && notice(list).is_empty()
        })
        .await;
    assert_eq!(splits(&list), ["checkout", "new", "search"]);
    drop(coordinator);

    // Another name for a source is a source that is gone and one that was never read.
    fs::rename(at("search"), at("found")).unwrap();
    let file = configure(dir.path(), &["base", "found-soon", "new"]);
    let coordinator = Coordinator::start(&file).await;
    base.commit("once more", &[("a.yaml", &declaration("shop", "10", "90"))]);
    let list = coordinator
        .until("/v1/splits", |_, list| {
            notice(list).contains("until `found-soon` can be read")
        })
        .await;
    assert_eq!(splits(&list), ["checkout", "new", "search"]);
}
