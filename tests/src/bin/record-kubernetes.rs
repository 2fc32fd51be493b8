//! Asks the kube-apiserver of this machine everything that the double is held against, and keeps its answers.

use anyhow::Context as _;
use weir_sandbox::cluster::{Binaries, Cluster, Definitions, User};
use weir_sandbox::process::Keeper;
use weir_sandbox::real::cluster_zone;
use weir_tests::kubernetes::exchanges::{self, About};
use weir_tests::kubernetes::http_route_definition;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (home, logs) = (dir.path().join("cluster"), dir.path().join("logs"));
    let users = exchanges::users();
    let mut cluster = Cluster::start(
        "record",
        &home,
        &logs,
        Keeper::start()?,
        Binaries::find()?,
        &users,
    )
    .await?;
    let admin = cluster.api(&User::admin())?;
    admin.define(&Definitions::own()?.documents).await?;
    let (agent, nobody) = (
        cluster.api(&cluster_zone::agent())?,
        cluster.api(&User::named("nobody"))?,
    );
    let definition = http_route_definition()?.map_err(anyhow::Error::msg)?;
    admin.define(&definition).await?;
    for about in [About::Policies, About::HttpRoutes] {
        let all = exchanges::exchange(about, &admin, &agent, &nobody).await?;
        // One exchange a line: what changes with a new version is seen at a glance.
        let lines: Result<Vec<String>, _> = all.iter().map(serde_json::to_string).collect();
        let text = format!("[\n{}\n]\n", lines?.join(",\n"));
        let file = about.file();
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    cluster.stop().await;
    Ok(())
}
