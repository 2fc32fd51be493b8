//! What real Kuma answers, recorded: exchanges as files, made by `record-kuma`, against which the double is held.
//!
//! `script` is what is asked, `normal` takes away what differs from run to run, `differences` compares. Both casts are set up alike, asked the
//! same, and their answers go through the same `normal`: what is left must be equal.

pub mod differences;
pub mod normal;
pub mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_sandbox::cast::{Cast, Stage};
use weir_sandbox::process::Keeper;
use weir_sandbox::real::rest::Api;
use weir_sandbox::repository::BACKENDS;
use weir_sandbox::traffic::Application;

use script::{Ask, Body, Place};

/// The version whose recordings are kept here.
pub const VERSION: &str = "2.14.3";

/// One exchange as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// What it shows, and what was cut.
    pub what: String,
    /// What was asked.
    pub request: Request,
    /// What was answered, in normal form.
    pub response: Value,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `global`, `zone fra`, `admin socket of caller-fra`.
    #[serde(rename = "where")]
    pub place: String,
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// `Content-Type`, if a body was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_type: Option<String>,
    /// The body; a string if it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<Value>,
}

/// Where the recordings are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("recorded/kuma-{VERSION}"))
}

/// All recordings by name.
///
/// # Errors
/// If one cannot be read.
pub fn all() -> anyhow::Result<BTreeMap<String, Exchange>> {
    let mut found = BTreeMap::new();
    let dir = directory();
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") && path.file_stem().is_some_and(|n| n != "versions")
        {
            let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
            let exchange =
                serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| name.clone())?;
            found.insert(name, exchange);
        }
    }
    Ok(found)
}

/// A cast that is set up, and where it is asked.
pub struct Stand {
    cast: Box<dyn Cast>,
    global: Api,
    zone: Api,
    admin: Api,
    _applications: Vec<Application>,
}

/// A stage below a directory.
///
/// # Errors
/// If the keeper cannot be started.
pub fn stage(dir: &Path) -> anyhow::Result<Stage> {
    Ok(Stage {
        dir: dir.to_path_buf(),
        mesh: "default".into(),
        service: "checkout".into(),
        port: 8080,
        port_name: None,
        keeper: Keeper::start()?,
    })
}

impl Stand {
    /// Zones fra and ams, a backend in each, a caller in fra, and nothing else.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn set_up(mut cast: Box<dyn Cast>) -> anyhow::Result<Self> {
        let global = cast
            .start_global()
            .await?
            .api
            .context("no global control plane")?;
        let mut zone = None;
        let mut applications = Vec::new();
        for (backend, name) in BACKENDS {
            let parts = cast.start_zone(name).await?;
            let application = Application::start(backend).await?;
            cast.start_backend(name, application.address).await?;
            applications.push(application);
            zone = zone.or(Some(parts));
        }
        cast.start_caller("fra").await?;
        cast.settled(&BACKENDS.map(|(_, zone)| zone.to_owned())).await?;
        let zone = zone.context("no zone")?;
        // Each cast calls the caller's directory as it likes.
        let names = zone
            .envoy_admin
            .iter()
            .flat_map(|glob| ["caller", "caller-fra"].map(|n| glob.replace('*', n)));
        let socket = names
            .map(PathBuf::from)
            .find(|path| path.exists())
            .context("no admin socket of the caller")?;
        Ok(Self {
            cast,
            global: Api::new(global),
            zone: Api::new(zone.api),
            admin: Api::socket(socket),
            _applications: applications,
        })
    }

    /// Versions of what plays.
    ///
    /// # Errors
    /// If an executable does not say.
    pub async fn versions(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        self.cast.versions().await
    }

    /// Asks one thing; again until the answer is the awaited one, for at most a minute.
    ///
    /// # Errors
    /// If nobody answers at all.
    pub async fn ask(&self, ask: &Ask) -> anyhow::Result<Exchange> {
        let api = match ask.place {
            Place::Global => &self.global,
            Place::Zone => &self.zone,
            Place::Admin => &self.admin,
        };
        let (content_type, body) = match &ask.body {
            Body::None => (None, None),
            Body::Json(body) => (Some("application/json"), Some(body.clone())),
            Body::Text(kind, text) => (Some(*kind), Some(Value::from(*text))),
        };
        let bytes = match &ask.body {
            Body::None => Vec::new(),
            Body::Json(body) => serde_json::to_vec(body)?,
            Body::Text(_, text) => text.as_bytes().to_vec(),
        };
        let method: Method = ask.method.parse()?;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = api
                .send(method.clone(), &ask.path, content_type, bytes.clone())
                .await;
            let response = match answer {
                Ok(answer) => normal::response(&answer, ask.cut),
                // Kuma does that on purpose: it hangs up without a word.
                Err(_) if ask.hangs_up => json!({"status": null}),
                Err(error) => return Err(error.context(ask.name.clone())),
            };
            if ask.awaited.is_none_or(|so| so(&response)) {
                let request = Request {
                    place: ask.place.to_string(),
                    method: ask.method.to_owned(),
                    path: ask.path.clone(),
                    content_type: content_type.map(str::to_owned),
                    body,
                };
                let what = ask
                    .cut
                    .what()
                    .map_or_else(|| ask.what.to_owned(), |cut| format!("{} ({cut})", ask.what));
                return Ok(Exchange {
                    what,
                    request,
                    response,
                });
            }
            if Instant::now() > end {
                bail!(
                    "{}: the awaited answer does not come; the last is {response:#}",
                    ask.name
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.cast.stop().await;
    }
}
