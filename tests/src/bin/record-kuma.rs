//! Records what real Kuma answers, for the double to be held against: `cargo run -p weir-tests --bin record-kuma`.
//!
//! Needs `kuma-cp`, `kuma-dp` and `envoy` in `WEIR_KUMA_BIN` or on the PATH, and Weir's own programs (`cargo build`).
//! Writes `tests/recorded/kuma-<version>/`, one exchange a file; takes about a minute.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use weir_sandbox::real::{Parts, Real};
use weir_tests::recorded::{Stand, VERSION, directory, script::script, stage};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let zones = ["fra", "ams"].map(str::to_owned).to_vec();
    let real = Real::new(stage(dir.path())?, Parts::find()?, zones)?;
    let mut stand = Stand::set_up(Box::new(real)).await?;
    let recorded = record(&mut stand).await;
    stand.stop().await;
    recorded
}

async fn record(stand: &mut Stand) -> anyhow::Result<()> {
    let versions = stand.versions().await?;
    let kuma = versions.get("kuma-cp").context("kuma-cp says no version")?;
    ensure!(
        kuma == VERSION,
        "these recordings are of Kuma {VERSION}; this is {kuma}"
    );
    // All of them are in hand before an old one goes.
    let mut files = vec![("versions".to_owned(), serde_json::to_string_pretty(&versions)?)];
    for ask in script() {
        let exchange = stand.ask(&ask).await?;
        files.push((ask.name, serde_json::to_string_pretty(&exchange)?));
    }
    let dir = directory();
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    for (name, text) in &files {
        std::fs::write(dir.join(format!("{name}.json")), format!("{text}\n"))?;
    }
    writeln!(
        std::io::stdout(),
        "{} exchanges in {}",
        files.len() - 1,
        dir.display()
    )?;
    Ok(())
}
