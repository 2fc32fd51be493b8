//! Weir's programs as the tests start them: built by `cargo build`, into the same directory as the tests.
//!
//! Building what is built already costs half a second, and a test never runs yesterday's program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

/// Builds the programs that people install, or finds that they are built; their directory.
///
/// # Errors
/// What `cargo build` says.
pub fn programs() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, &["--bins"])
}

/// Builds those, and `weir-agent-bare`: an agent that writes policies without the anchor, to see what that loses.
///
/// # Errors
/// What `cargo build` says.
pub fn bare_programs() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    programs()?;
    // Of the whole workspace: only so are the crates of others the very ones that are there already.
    once(
        &BUILT,
        &[
            "--bin",
            "weir-agent-bare",
            "--features",
            "weir-agent/bare-policies",
        ],
    )
}

fn once(built: &'static OnceLock<Result<PathBuf, String>>, what: &[&str]) -> anyhow::Result<&'static Path> {
    let built = built.get_or_init(|| build(what).map_err(|error| format!("{error:#}")));
    match built {
        Ok(dir) => Ok(dir),
        Err(error) => bail!("{error}"),
    }
}

fn build(what: &[&str]) -> anyhow::Result<PathBuf> {
    // <target>/<profile>/deps/<test>
    let own = std::env::current_exe()?;
    let dir = own
        .ancestors()
        .nth(2)
        .context("a test outside of a target directory")?;
    let target = dir.parent().context("a profile without a target directory")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--workspace", "--locked"])
        .args(what)
        .env("CARGO_TARGET_DIR", target);
    if dir.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    let output = command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "cargo build {}:\n{}",
            what.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(dir.to_path_buf())
}
