//! A real API server for a test: with Kuma's definitions, namespaces, users, and nothing left behind.

pub mod driven;
pub mod exchanges;
pub mod relay;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use weir_sandbox::cluster::{ApiServer, Binaries, Cluster, Definitions, Source, Store, Types, User};
use weir_sandbox::process::Keeper;
use weir_sandbox::real::cluster_zone;

use crate::presence::{Need, REQUIRE, required};

/// Kuma's system namespace.
pub const SYSTEM: &str = "kuma-system";
/// Where applications are.
pub const SHOP: &str = "shop";

/// An API server that one test has for itself.
#[derive(Debug)]
pub struct Stand {
    /// The server.
    pub cluster: Cluster,
    /// As somebody who may do everything.
    pub admin: ApiServer,
    /// What types there are.
    pub types: Types,
    /// Whether Kuma's own definitions are installed, and not our small ones.
    pub published: bool,
    dir: tempfile::TempDir,
}

/// The programs of a cluster, for the test of this name. None where they are absent: then it says that the test is skipped.
///
/// # Errors
/// If they are absent though `WEIR_REQUIRE` names `kubernetes`.
pub fn binaries(test: &str) -> anyhow::Result<Option<Binaries>> {
    match Binaries::find() {
        Ok(binaries) => Ok(Some(binaries)),
        Err(absent) => {
            let list = std::env::var(REQUIRE).unwrap_or_default();
            if required(&list)
                .map_err(anyhow::Error::msg)?
                .contains(&Need::Kubernetes)
            {
                bail!("{REQUIRE} demands kubernetes, but {absent}");
            }
            say(&format!("test {test} is SKIPPED: {absent}"));
            Ok(None)
        }
    }
}

/// Starts one for the test of this name. None where `kube-apiserver` and `etcd` are absent: then it says that the test is
/// skipped.
///
/// # Errors
/// If they are there and do not start, or are absent though `WEIR_REQUIRE` names `kubernetes`.
pub async fn stand(test: &str) -> anyhow::Result<Option<Stand>> {
    let Some(binaries) = binaries(test)? else {
        return Ok(None);
    };
    // Without it processes still go with the test, unless that is killed.
    let keeper = Keeper::start().unwrap_or_else(|_| Keeper::none());
    let dir = tempfile::tempdir()?;
    let (home, logs) = (dir.path().join("cluster"), dir.path().join("logs"));
    let users = [
        cluster_zone::agent(),
        User::named("argocd"),
        User::named("nobody"),
    ];
    let cluster = Cluster::start(test, &home, &logs, keeper, binaries, &users).await?;
    let admin = cluster.api(&User::admin())?;
    let definitions = Definitions::find(&checkout().join("../shared/reference/crds"))?;
    let published = matches!(definitions.source, Source::Published(_));
    if !published {
        say(&format!(
            "{test}: Kuma's published definitions are neither in WEIR_CRDS nor beside the checkout; small ones of our own serve"
        ));
    }
    let types = admin.define(&definitions.documents).await?;
    let stand = Stand {
        cluster,
        admin,
        types,
        published,
        dir,
    };
    stand.namespace(SYSTEM, "false").await?;
    stand.namespace(SHOP, "enabled").await?;
    Ok(Some(stand))
}

/// The same with the HTTPRoute of Gateway API. None where its definition is absent as well, which is told or a failure in the same
/// way.
///
/// # Errors
/// As of [`stand`], and if the definition is refused.
pub async fn stand_with_routes(test: &str) -> anyhow::Result<Option<Stand>> {
    let Some(definition) = route_definition(test)? else {
        return Ok(None);
    };
    let Some(mut stand) = stand(test).await? else {
        return Ok(None);
    };
    stand.types = stand.admin.define(&definition).await?;
    Ok(Some(stand))
}

/// Gateway API's own definition of an HTTPRoute, or why it is not here, in words.
///
/// # Errors
/// If it is here and cannot be read.
pub fn http_route_definition() -> anyhow::Result<Result<Vec<Value>, String>> {
    let found = weir_sandbox::play::edge::definition()?;
    Ok(found.ok_or_else(|| {
        "the definitions of Gateway API are not in WEIR_GATEWAY_API (tests/kubernetes/gateway-api/fetch gets them)"
            .to_owned()
    }))
}

/// The same for a test: none where it is absent, and that is said.
///
/// # Errors
/// If it is absent and demanded, or cannot be read.
pub fn route_definition(test: &str) -> anyhow::Result<Option<Vec<Value>>> {
    let absent = match http_route_definition()? {
        Ok(definition) => return Ok(Some(definition)),
        Err(absent) => absent,
    };
    let list = std::env::var(REQUIRE).unwrap_or_default();
    let needs = required(&list).map_err(anyhow::Error::msg)?;
    if needs.contains(&Need::GatewayApi) {
        bail!("{REQUIRE} demands gateway-api, but {absent}");
    }
    say(&format!("test {test} is SKIPPED: {absent}"));
    Ok(None)
}

impl Stand {
    /// A directory that goes with the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a namespace with this value of Kuma's injection label.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn namespace(&self, name: &str, injection: &str) -> anyhow::Result<()> {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kuma.io/sidecar-injection": injection}},
        }))
        .await
        .map(drop)
    }

    /// Installs Kong's own types as well, for the test of this name.
    ///
    /// # Errors
    /// If a definition is refused.
    pub async fn with_kongs_types(&mut self, test: &str) -> anyhow::Result<()> {
        let definitions = Definitions::of_kong(&checkout().join("../shared/reference/crds"))?;
        if definitions.source == Source::Own {
            say(&format!(
                "{test}: Kong's published definitions are neither in WEIR_CRDS nor beside the checkout; small ones of our own serve"
            ));
        }
        self.types = self.admin.define(&definitions.documents).await?;
        Ok(())
    }

    /// Applies an object as the person who set the cluster up; the object as it is then.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn apply(&self, object: &Value) -> anyhow::Result<Value> {
        self.admin.apply(&self.types, "set-up", object).await
    }

    /// Applies every document of a YAML text.
    ///
    /// # Errors
    /// If one is refused.
    pub async fn apply_text(&self, text: &str) -> anyhow::Result<()> {
        for document in weir_sandbox::cluster::documents(text)? {
            self.apply(&document).await?;
        }
        Ok(())
    }

    /// Everything that the server holds.
    ///
    /// # Errors
    /// If something cannot be listed.
    pub async fn store(&self) -> anyhow::Result<Store> {
        Store::read(&self.admin).await
    }
}

/// So that it is seen also where the output of tests that pass is not.
fn say(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "\n{text}");
}

/// The tree that this was built from.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the tree.
///
/// # Errors
/// If it cannot be read; names it.
pub fn file(path: &str) -> anyhow::Result<String> {
    let path = checkout().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
