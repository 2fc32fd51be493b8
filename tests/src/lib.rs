//! What several tests need: the programs that they start, an API server (`kubernetes`).

pub mod kubernetes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};

/// Weir's programs, built once for all tests of one executable.
#[derive(Debug, Clone)]
pub struct Programs {
    /// As people install them.
    pub plain: PathBuf,
    /// With an agent that may be told to write bare policies: to see what that loses.
    pub bare: PathBuf,
}

/// Builds the programs, or finds that they are built.
///
/// # Errors
/// What `cargo build` says.
pub fn programs() -> anyhow::Result<&'static Programs> {
    static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> anyhow::Result<Programs> {
    // target/<profile>/deps/<test>
    let own = std::env::current_exe()?;
    let plain = own
        .ancestors()
        .nth(2)
        .context("a test outside of a target directory")?
        .to_path_buf();
    let bare = plain.join("bare");
    std::fs::create_dir_all(&bare)?;
    // The plain agent last: both are kept compiled, so that a second time costs nothing.
    cargo(
        &plain,
        &["-p", "weir-agent", "--features", "weir-agent/bare-policies"],
    )?;
    replace(&plain.join("weir-agent"), &bare.join("weir-agent"))?;
    cargo(&plain, &["--workspace", "--bins"])?;
    for program in ["weir-coordinator", "weir-sandbox"] {
        replace(&plain.join(program), &bare.join(program))?;
    }
    Ok(Programs { plain, bare })
}

/// By a new name first: the old file may be running.
fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new).with_context(|| format!("cannot copy {}", from.display()))?;
    std::fs::rename(&new, to)?;
    Ok(())
}

fn cargo(plain: &Path, what: &[&str]) -> anyhow::Result<()> {
    let target = plain.parent().context("a profile without a target directory")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("build")
        .arg("--locked")
        .args(what)
        .env("CARGO_TARGET_DIR", target);
    if plain.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    let output = command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()?;
    if !output.status.success() {
        bail!(
            "cargo build {}:\n{}",
            what.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
