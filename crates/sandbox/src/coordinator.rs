//! What the sandbox asks its coordinator: the public API over TLS, with a viewer's token.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use weir_wire::api::{
    CommitList, CommitRecord, Event, Percent, SplitHistory, SplitInZone, SplitList, SplitStatus, Standing,
    ZoneList,
};

/// The name of the split of the play.
pub const SPLIT: &str = "checkout";

/// A reader of the API.
#[derive(Debug, Clone)]
pub struct Viewer {
    client: reqwest::Client,
    address: String,
    token: String,
}

impl Viewer {
    /// A reader that trusts the coordinator's own authority and nobody else.
    ///
    /// # Errors
    /// If the authority's certificate cannot be read.
    pub fn new(address: &str, authority: &Path, token: String) -> anyhow::Result<Self> {
        // Somebody may have installed one already: then that one is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = std::fs::read(authority).with_context(|| format!("cannot read {}", authority.display()))?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .timeout(Duration::from_secs(5))
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            address: address.to_owned(),
            token,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.address);
        let response = self.client.get(&url).bearer_auth(&self.token).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if !status.is_success() {
            bail!("GET {path} answers {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("GET {path}"))
    }

    /// `/v1/splits`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn splits(&self) -> anyhow::Result<SplitList> {
        self.get("/v1/splits").await
    }

    /// The split of the play; none if it is not declared.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn split(&self) -> anyhow::Result<Option<SplitStatus>> {
        let list = self.splits().await?;
        Ok(list.splits.into_iter().find(|split| split.name == SPLIT))
    }

    /// What the split of the play went through, newest step first.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn history(&self) -> anyhow::Result<SplitHistory> {
        self.get(&format!("/v1/splits/{SPLIT}/history")).await
    }

    /// How often what must hold was looked at again since the coordinator's start, and how often it did not hold.
    ///
    /// # Errors
    /// If it does not answer, or does not say.
    pub async fn selfchecks(&self) -> anyhow::Result<(u64, u64)> {
        let url = format!("{}/metrics", self.address);
        let answer = self.client.get(&url).bearer_auth(&self.token).send().await?;
        let text = answer.error_for_status()?.text().await?;
        let sum = |name: &str| -> anyhow::Result<u64> {
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
            let mut values = lines
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
                .peekable();
            values
                .peek()
                .with_context(|| format!("/metrics says nothing of {name}"))?;
            Ok(values.sum())
        };
        Ok((
            sum("weir_selfchecks_total")?,
            sum("weir_selfcheck_failures_total")?,
        ))
    }

    /// `/v1/zones`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn zones(&self) -> anyhow::Result<ZoneList> {
        self.get("/v1/zones").await
    }

    /// `/v1/commits`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn commits(&self) -> anyhow::Result<CommitList> {
        self.get("/v1/commits").await
    }

    /// What the coordinator says about one commit; none if it has not seen it.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn commit(&self, id: &str) -> anyhow::Result<Option<CommitRecord>> {
        let all = self.commits().await?;
        Ok(all.commits.into_iter().find(|c| c.commit == id))
    }

    /// Follows `/v1/events` from the first on; ends when the stream does.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn follow(&self, after: u64, mut seen: impl FnMut(Event)) -> anyhow::Result<()> {
        let url = format!("{}/v1/events?after={after}", self.address);
        let request = self
            .client
            .get(url)
            .bearer_auth(&self.token)
            .timeout(Duration::from_secs(86_400));
        let mut response = request.send().await?.error_for_status()?;
        let mut text = String::new();
        while let Some(chunk) = response.chunk().await? {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some(data) = line.strip_prefix("data:")
                    && let Ok(event) = serde_json::from_str(data.trim())
                {
                    seen(event);
                }
                text = rest.to_owned();
            }
        }
        Ok(())
    }
}

/// What is declared: backend to basis points, of the split's last route.
pub fn declared(split: &SplitStatus) -> BTreeMap<String, u32> {
    let points = |weights: &BTreeMap<String, Percent>| {
        let all = weights
            .iter()
            .map(|(backend, weight)| (backend.clone(), weight.0.get()));
        all.collect()
    };
    split.declared.get("default").map(points).unwrap_or_default()
}

/// A zone's line in the status.
///
/// # Errors
/// If there is none.
pub fn in_zone<'a>(split: &'a SplitStatus, zone: &str) -> anyhow::Result<&'a SplitInZone> {
    let found = split.zones.iter().find(|z| z.zone == zone);
    found.with_context(|| format!("zone {zone} is not in the status"))
}

/// Whether a zone's proof says that it runs what is declared, now: not only what it was told so far.
pub fn proven(split: &SplitStatus, zone: &SplitInZone) -> bool {
    zone.generation == split.generation && follows(split, zone)
}

/// Whether it runs what is declared, whichever wave brought that: earlier waves stand at earlier generations.
pub fn follows(split: &SplitStatus, zone: &SplitInZone) -> bool {
    zone.standing == Standing::Converged && runs_declared(split, zone)
}

fn runs_declared(split: &SplitStatus, zone: &SplitInZone) -> bool {
    let some = |weights: &BTreeMap<String, Percent>| {
        let all = weights.iter().filter(|(_, w)| w.0.get() > 0);
        all.map(|(b, w)| (b.clone(), w.0)).collect::<BTreeMap<_, _>>()
    };
    zone.weights.as_ref().is_some_and(|live| {
        let mut routes = split.declared.iter();
        routes.all(|(route, wanted)| live.get(route).map(some) == Some(some(wanted)))
    })
}

/// `exact`, `different` or `unknown`: what a zone's proof says about the declared weights.
pub fn weights_word(split: &SplitStatus, zone: &SplitInZone) -> &'static str {
    if proven(split, zone) {
        return "exact";
    }
    match &zone.weights {
        None => "unknown",
        Some(_) if runs_declared(split, zone) => "unknown",
        Some(_) => "different",
    }
}
