//! A thin client for the REST surface of one control plane: paged lists, one object, and every failure sorted by what it
//! means. Changed when Kuma's answers change, never for what is asked.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::{DriverError, Fault};

/// The largest answer that is read; Kuma's largest so far (a list page of 1000 policies) is some megabytes.
const LARGEST: usize = 64 << 20;
/// The most objects of one kind; far above any mesh that Kuma itself holds.
const MOST: usize = 100_000;
/// Kuma's largest page.
const PAGE: usize = 1000;

/// The control plane's REST surface.
#[derive(Debug)]
pub(crate) struct Rest {
    client: Client,
    base: String,
    token_file: Option<PathBuf>,
}

/// What only a person can do where the mesh is gone.
const MAKE_IT: &str = "a zone that starts with an empty store gets its meshes from Kuma's global control plane within seconds. \
                       If this stays, the global control plane lost its store, and with that deletes the mesh in every zone: \
                       no zone may make it. Make the Mesh on the global control plane again, with its \
                       MeshTrafficPermission and MeshMultiZoneServices (restore its store, or apply them), and give it a \
                       PostgreSQL store. Until then the Envoys keep what they run and nothing can be changed, and half a \
                       minute after the mesh went requests to other zones fail; Weir puts its policies back within a second \
                       of the mesh's return";

/// Why a call failed: [`DriverError`] without the object.
struct Failure {
    why: String,
    fault: Fault,
    help: String,
}

impl Failure {
    fn new(fault: Fault, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fault,
            help: help.into(),
        }
    }
}

impl Rest {
    /// Checks the address; nothing is dialled.
    pub(crate) fn new(
        base: &str,
        token_file: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, DriverError> {
        let setup = |why: String| {
            DriverError::new(
                format!("control plane at {base}"),
                why,
                Fault::Setup,
                "set kuma.api to the REST address of the zone's own control plane, such as http://127.0.0.1:5681",
            )
        };
        let url = reqwest::Url::parse(base).map_err(|e| setup(format!("its address is not a URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(setup(
                "its address begins with neither http:// nor https://".to_owned(),
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let url = format!("{}://…@{}", url.scheme(), url.host_str().unwrap_or_default());
            return Err(DriverError::new(
                format!("control plane at {url}"),
                "its address holds a user or a password, which would stand in logs and reports",
                Fault::Setup,
                "put a user token into a file and name that file in kuma.tokenFile",
            ));
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(setup("no TLS provider is installed in this program".to_owned()));
        }
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(2).min(timeout))
            .timeout(timeout)
            // The control plane is on this host or beside it: no proxy of the environment, no detour.
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .map_err(|e| setup(chain(&e)))?;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            token_file,
        })
    }

    /// Where it is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `GET path`; none if the object does not exist. A missing mesh is an error of its own.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, DriverError> {
        let wrap = |f: Failure| wrap("GET", path, f);
        let (status, body) = self.call(Method::GET, path, None).await.map_err(wrap)?;
        match status {
            StatusCode::OK => json(&body).map(Some).map_err(wrap),
            StatusCode::NOT_FOUND if !is_missing_mesh(&body) => Ok(None),
            other => Err(wrap(refusal(other, &body))),
        }
    }

    /// All items of a list; none if the path does not exist at all.
    pub(crate) async fn list(&self, path: &str, query: &str) -> Result<Option<Vec<Value>>, DriverError> {
        let mut items: Vec<Value> = Vec::new();
        let mut pages = 0;
        loop {
            let glue = if query.is_empty() { "" } else { "&" };
            let page = format!("{path}?{query}{glue}offset={}&size={PAGE}", items.len());
            let wrap = |f: Failure| wrap("GET", &page, f);
            let Some(mut answer) = self.get(&page).await? else {
                return Ok(None);
            };
            let more = answer.get("next").is_some_and(|n| !n.is_null());
            let total = answer.get("total").and_then(Value::as_u64);
            let Some(Value::Array(found)) = answer.get_mut("items").map(Value::take) else {
                return Err(wrap(unknown("the answer has no list of items")));
            };
            let empty = found.is_empty();
            items.extend(found);
            pages += 1;
            if items.len() > MOST {
                return Err(wrap(unknown(&format!("more than {MOST} objects"))));
            }
            if !more || empty {
                // Pages are by position: an object removed meanwhile would hide another one from us.
                if pages > 1 && total.is_some_and(|t| t != items.len() as u64) {
                    return Err(wrap(Failure::new(
                        Fault::NotYet,
                        format!(
                            "the list changed while it was read ({} of {total:?})",
                            items.len()
                        ),
                        "nothing to do: the next activation reads it again",
                    )));
                }
                return Ok(Some(items));
            }
        }
    }

    /// `PUT path`.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<(), DriverError> {
        let wrap = |f: Failure| wrap("PUT", path, f);
        let (status, answer) = self.call(Method::PUT, path, Some(body)).await.map_err(wrap)?;
        if !status.is_success() {
            return Err(wrap(refusal(status, &answer)));
        }
        let warnings = json(&answer).ok();
        if let Some(Value::Array(list)) = warnings.as_ref().and_then(|v| v.get("warnings")) {
            for warning in list {
                tracing::warn!(object = path, %warning, "the control plane warns");
            }
        }
        Ok(())
    }

    /// `DELETE path`; false if there was nothing.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, DriverError> {
        let wrap = |f: Failure| wrap("DELETE", path, f);
        let (status, body) = self.call(Method::DELETE, path, None).await.map_err(wrap)?;
        match status {
            s if s.is_success() => Ok(true),
            StatusCode::NOT_FOUND if !is_missing_mesh(&body) => Ok(false),
            other => Err(wrap(refusal(other, &body))),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let mut request = self.client.request(method, format!("{}/{path}", self.base));
        if let Some(file) = &self.token_file {
            let token = tokio::fs::read_to_string(file).await.map_err(|e| {
                Failure::new(
                    Fault::Setup,
                    format!("the token file {} cannot be read: {e}", file.display()),
                    "put a user token of this control plane there, readable for the agent alone",
                )
            })?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.map_err(|e| self.away(&e))?;
        let status = answer.status();
        self.read(answer).await.map(|body| (status, body))
    }

    async fn read(&self, mut answer: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.away(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(unknown(&format!("an answer of more than {LARGEST} bytes")));
            }
        }
        Ok(body)
    }

    fn away(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            format!("no answer in time from {}", self.base)
        } else {
            chain(error)
        };
        Failure::new(
            Fault::Away,
            why,
            format!(
                "is the zone's control plane running and listening at {}? Traffic stays as it is",
                self.base
            ),
        )
    }
}

fn wrap(method: &str, path: &str, failure: Failure) -> DriverError {
    DriverError::new(
        if path.is_empty() {
            format!("{method} /")
        } else {
            format!("{method} {path}")
        },
        failure.why,
        failure.fault,
        failure.help,
    )
}

fn unknown(why: &str) -> Failure {
    Failure::new(
        Fault::Unknown,
        why,
        "is this really the REST address of a Kuma control plane? If so, its version may be new to Weir",
    )
}

fn json(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|e| {
        let start: String = String::from_utf8_lossy(body).chars().take(60).collect();
        unknown(&format!("the answer is not JSON ({e}): `{start}`"))
    })
}

/// Kuma says 404 for an unknown object and for an unknown mesh; only the title tells which.
fn is_missing_mesh(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|v| Some(v.get("title")?.as_str()? == "Failed to retrieve Mesh"))
        .unwrap_or(false)
}

/// What the control plane says for itself: title, detail and each parameter that it does not like.
fn words(status: StatusCode, body: &[u8]) -> String {
    let Ok(error) = serde_json::from_slice::<Value>(body) else {
        let text: String = String::from_utf8_lossy(body).trim().chars().take(200).collect();
        return format!("{status}: {text}");
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut said = format!("{status}: {}: {}", text("title"), text("detail"));
    for parameter in error
        .get("invalid_parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
        said.push_str(&format!("; {}: {}", part("field"), part("reason")));
    }
    said
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let said = words(status, body);
    match status {
        StatusCode::NOT_FOUND if is_missing_mesh(body) => Failure::new(
            Fault::MeshGone,
            "the control plane does not have this mesh",
            MAKE_IT,
        ),
        StatusCode::NOT_FOUND => Failure::new(Fault::NotYet, said, "the next activation looks again"),
        StatusCode::CONFLICT => Failure::new(
            Fault::NotYet,
            said,
            "somebody wrote the same object at the same moment; the next activation looks again",
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::new(
            Fault::Setup,
            said,
            "give the agent a token of this control plane: kuma.tokenFile in its configuration",
        ),
        s if s.is_server_error() => Failure::new(
            Fault::Away,
            said,
            "the control plane answers but cannot work (its store?); its log says why. Traffic stays as it is",
        ),
        StatusCode::METHOD_NOT_ALLOWED => Failure::new(
            Fault::Refused,
            said,
            "this control plane does not let policies be written here: is it a Universal zone control plane, \
             and is it not read-only (KUMA_API_SERVER_READ_ONLY)?",
        ),
        s if s.is_client_error() => Failure::new(
            Fault::Refused,
            said,
            "the control plane does not accept what Weir wrote; please report it with this message",
        ),
        _ => unknown(&said),
    }
}

/// An error with everything below it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(below) = next {
        let more = below.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = below.source();
    }
    text
}
