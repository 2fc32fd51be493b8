//! The sandbox end to end, as people run it: real processes, real requests, the double in Kuma's place.
//!
//! The tour and a small soak as processes with their lines held against their schema; the tour's exit code where it must be
//! 1; bad input to a running federation, which is answered and changes nothing; and the whole story of `weir_tests::story`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

mod bad_input;
mod soak;
mod tour;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use weir_sandbox::play::Scene;
use weir_tests::{programs, story};

/// Arguments, or what must be in a text.
type Words<'a> = &'a [&'a str];
/// Variables, or files, with their values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Runs a program to its end with a directory for temporary files of its own, which it must leave empty.
fn run(bin: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let own = tempfile::tempdir().unwrap();
    let mut command = Command::new(bin.join(program));
    command
        .args(args)
        .env("TMPDIR", own.path())
        .env("NO_COLOR", "1")
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    let output = command.output().expect(program);
    if output.status.success() {
        let left: Vec<_> = std::fs::read_dir(own.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{program} left {left:?}");
    }
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story_on_the_double_loses_no_request() {
    programs().unwrap();
    if let Err(error) = story::tell(false, 1_000).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_leaves_a_dead_backend_within_seconds() {
    programs().unwrap();
    if let Err(error) = story::tell_of_an_outage(Scene::WithDoubleCluster, false).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_leaves_a_backend_whose_proxy_is_dead_within_seconds() {
    programs().unwrap();
    if let Err(error) = story::tell_of_a_dead_proxy(Scene::Vms, false).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_towards_a_backend_that_got_slow_is_taken_back() {
    programs().unwrap();
    if let Err(error) = story::tell_of_a_slow_one(Scene::WithDoubleCluster, false).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_drained_is_stopped_without_a_loss() {
    programs().unwrap();
    if let Err(error) = story::tell_of_a_stop(Scene::WithDoubleCluster, false).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_port_is_split_once_its_name_is_declared() {
    programs().unwrap();
    if let Err(error) = story::tell_of_a_named_port(Scene::Vms, false, 1_000).await {
        panic!("{error:#}");
    }
}
