//! The real parts, without Weir: two zones, callers and backends, for measuring what a policy written by hand costs.
//!
//! `cargo run -p weir-sandbox --example stage -- DIR` writes the addresses to `DIR/stage.json` and runs until it is
//! interrupted.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context as _;
use weir_sandbox::process::Keeper;
use weir_sandbox::real::{Parts, Real};
use weir_sandbox::traffic::Application;
use weir_sandbox::{Cast, Stage};
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).context("the directory is missing")?;
    let dir = std::path::PathBuf::from(dir);
    std::fs::create_dir_all(&dir)?;
    let stage = Stage {
        dir: dir.clone(),
        mesh: "default".into(),
        service: "checkout".into(),
        port: 8080,
        port_name: None,
        keeper: Keeper::none(),
    };
    let zones = vec!["fra".to_owned(), "ams".to_owned()];
    let mut cast = Real::new(stage, Parts::find()?, zones.clone())?;
    let global = cast.start_global().await?;
    let mut apis = BTreeMap::new();
    let mut admin = BTreeMap::new();
    for z in &zones {
        let p = cast.start_zone(z).await?;
        apis.insert(z.clone(), p.api);
        admin.insert(z.clone(), p.envoy_admin);
    }
    let mut apps = Vec::new();
    for z in &zones {
        let a = Application::start(if z == "fra" { "vm" } else { "cloud" }).await?;
        cast.start_backend(z, a.address).await?;
        apps.push(a);
    }
    let mut out = BTreeMap::new();
    for z in &zones {
        let o = cast.start_caller(z).await?;
        out.insert(
            z.clone(),
            o.iter()
                .map(|o| (o.target.clone(), o.address.to_string()))
                .collect::<BTreeMap<_, _>>(),
        );
    }
    cast.settled(&zones).await?;
    std::fs::write(
        dir.join("stage.json"),
        serde_json::to_string_pretty(
            &serde_json::json!({"global": global.api, "apis": apis, "admin": admin, "out": out}),
        )?,
    )?;
    writeln!(std::io::stdout(), "ready")?;
    tokio::signal::ctrl_c().await?;
    cast.stop().await;
    Ok(())
}
