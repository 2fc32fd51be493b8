//! Real Kuma: a global control plane, two Universal zones, real Envoys, real coordinator and agents.
//!
//! Needs `kuma-cp`, `kuma-dp` and `envoy` in `WEIR_KUMA_BIN` or on the PATH. Where they are absent the test says so by
//! name; `WEIR_REQUIRE=kuma,envoy` makes that a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

use std::path::Path;
use std::process::Command;

use weir_sandbox::play::Scene;
use weir_tests::presence::{REQUIRE, required};
use weir_tests::{programs, real_kuma, story};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story_on_real_kuma_loses_no_request() {
    if real_kuma("kuma_live::the_whole_story_on_real_kuma_loses_no_request").is_none() {
        return;
    }
    programs().unwrap();
    if let Err(error) = story::tell(true, 2_000).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_leaves_a_dead_backend_of_real_kuma_within_seconds() {
    if real_kuma("kuma_live::a_share_leaves_a_dead_backend_of_real_kuma_within_seconds").is_none() {
        return;
    }
    programs().unwrap();
    if let Err(error) = story::tell_of_an_outage(Scene::Vms, true).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_towards_a_backend_of_real_kuma_that_got_slow_is_taken_back() {
    if real_kuma("kuma_live::a_step_towards_a_backend_of_real_kuma_that_got_slow_is_taken_back").is_none() {
        return;
    }
    programs().unwrap();
    if let Err(error) = story::tell_of_a_slow_one(Scene::Vms, true).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_real_kuma_that_is_drained_is_stopped_without_a_loss() {
    if real_kuma("kuma_live::a_backend_of_real_kuma_that_is_drained_is_stopped_without_a_loss").is_none() {
        return;
    }
    programs().unwrap();
    if let Err(error) = story::tell_of_a_stop(Scene::Vms, true).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_on_real_kuma_is_split_once_its_name_is_declared() {
    if real_kuma("kuma_live::a_named_port_on_real_kuma_is_split_once_its_name_is_declared").is_none() {
        return;
    }
    programs().unwrap();
    if let Err(error) = story::tell_of_a_named_port(Scene::Vms, true, 1_000).await {
        panic!("{error:#}");
    }
}

/// Runs the first test above in a process of its own, as `cargo test` does; whether it passed, and what people see of it.
fn told(kuma: &Path, require: Option<&str>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_whole_story_on_real_kuma_loses_no_request"]);
    command.env("WEIR_KUMA_BIN", kuma).env_remove(REQUIRE);
    if let Some(list) = require {
        command.env(REQUIRE, list);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn absent_parts_are_named_and_may_be_required() {
    let nothing = tempfile::tempdir().unwrap();
    for list in [None, Some(""), Some("kubernetes")] {
        let (passed, text) = told(nothing.path(), list);
        assert!(passed, "{list:?}: {text}");
        // Past the capture: whoever reads the output of `cargo test` sees it.
        for word in [
            "test kuma_live::the_whole_story_on_real_kuma_loses_no_request is SKIPPED",
            "kuma-cp, kuma-dp, envoy not found",
            "WEIR_KUMA_BIN",
        ] {
            assert!(text.contains(word), "{list:?}: `{word}` is not in {text}");
        }
    }
    for (list, word) in [
        ("kuma", "WEIR_REQUIRE demands kuma, but"),
        ("kuma,envoy", "WEIR_REQUIRE demands kuma and envoy, but"),
        ("kubernetes, envoy", "WEIR_REQUIRE demands envoy, but"),
        ("kuma;envoy", "`kuma;envoy` is none of kuma, envoy, kubernetes"),
    ] {
        let (passed, text) = told(nothing.path(), Some(list));
        assert!(!passed, "{list} lets absence pass: {text}");
        assert!(text.contains(word), "{list}: `{word}` is not in {text}");
    }
    assert!(required("kuma,envoy,kubernetes").is_ok());
}
