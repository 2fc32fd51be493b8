//! HTTP to an API server as one user: exchanges, lists, server-side apply of manifests, and what types there are.
//!
//! Written without a Kubernetes library, so that what the driver does with one is held against something else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use crate::real::rest::{Answer, Awaited};

/// Longer than any answer that was ever seen of a server that is well.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects in one page of a list.
const PAGE: usize = 500;

/// An API server, as one user sees it.
#[derive(Debug, Clone)]
pub struct ApiServer {
    client: reqwest::Client,
    base: String,
    token: String,
}

/// A type of objects that an API server has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Type {
    /// `v1`, `kuma.io/v1alpha1`.
    pub version: String,
    /// `MeshService`.
    pub kind: String,
    /// `meshservices`.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it can be listed.
    pub listable: bool,
}

/// `kuma.io`; none of the types that have no group.
fn group_of(version: &str) -> Option<&str> {
    version.split_once('/').map(|(group, _)| group)
}

impl Type {
    fn group(&self) -> Option<&str> {
        group_of(&self.version)
    }

    /// Where its objects are, of one namespace or of all.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let group = if self.version.contains('/') { "apis" } else { "api" };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("/{group}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("/{group}/{}/{}", self.version, self.plural),
        }
    }
}

impl ApiServer {
    /// Speaks to `https://127.0.0.1:6443` with a token, and trusts one authority alone.
    ///
    /// # Errors
    /// If the authority is no certificate.
    pub fn new(base: &str, authority: &str, token: &str) -> anyhow::Result<Self> {
        // Somebody may have installed one already: then that one is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes())?])
            .timeout(PATIENCE)
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            base: base.to_owned(),
            token: token.to_owned(),
        })
    }

    /// Speaks to the server of a kubeconfig as its user, as [`super::Cluster`] writes them: one of each, with a token.
    ///
    /// # Errors
    /// If it cannot be read, or says something else.
    pub fn by_kubeconfig(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let config: Value = serde_saphyr::from_str(&text)?;
        let cluster = &config["clusters"][0]["cluster"];
        let text = |value: &Value, what: &str| {
            let found = value.as_str().map(str::to_owned);
            found.with_context(|| format!("{} names no {what}", file.display()))
        };
        let authority = text(&cluster["certificate-authority"], "authority")?;
        let authority = std::fs::read_to_string(&authority).context(authority)?;
        let token = text(&config["users"][0]["user"]["token"], "token")?;
        Self::new(&text(&cluster["server"], "server")?, &authority, &token)
    }

    /// The same server as somebody with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// One exchange, whatever its status; a body is sent as `kind` (`application/json`).
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let what = format!("{method} {path}");
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
            .header("accept", "application/json");
        if let Some(body) = body {
            request = request
                .header("content-type", kind)
                .body(serde_json::to_vec(body)?);
        }
        let response = request.send().await.with_context(|| what.clone())?;
        let status = response.status();
        let content_type = response.headers().get("content-type");
        let content_type = content_type.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.with_context(|| what)?;
        Ok(Answer {
            status,
            content_type,
            body,
        })
    }

    /// A GET that must succeed.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        succeeded(path, self.exchange(Method::GET, path, "", None).await?)
    }

    /// A GET of something that may not be there.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success and 404.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.exchange(Method::GET, path, "", None).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        succeeded(path, answer).map(Some)
    }

    /// A DELETE that must succeed; without waiting for the object's finalizers.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let now = json!({"gracePeriodSeconds": 0});
        let answer = self
            .exchange(Method::DELETE, path, "application/json", Some(&now))
            .await?;
        succeeded(path, answer).map(drop)
    }

    /// A merge patch that must succeed; the object as it is then.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let kind = "application/merge-patch+json";
        succeeded(path, self.exchange(Method::PATCH, path, kind, Some(patch)).await?)
    }

    /// A POST that must succeed; what was made.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let kind = "application/json";
        succeeded(path, self.exchange(Method::POST, path, kind, Some(object)).await?)
    }

    /// Server-side apply, whatever its status. `query` is more than the manager: `&force=true`.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn apply_at(
        &self,
        path: &str,
        manager: &str,
        query: &str,
        object: &Value,
    ) -> anyhow::Result<Answer> {
        let path = format!("{path}?fieldManager={manager}{query}");
        self.exchange(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))
            .await
    }

    /// Server-side apply, forced, of an object that says itself what and where it is; the object as it is then.
    ///
    /// # Errors
    /// If its type is not there, nobody answers, or with anything but success.
    pub async fn apply(&self, types: &Types, manager: &str, object: &Value) -> anyhow::Result<Value> {
        let path = types.path_of(object)?;
        let answer = self.apply_at(&path, manager, "&force=true", object).await?;
        succeeded(&path, answer)
    }

    /// All objects at this path, page by page.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut from = String::new();
        loop {
            let mut page = self.get(&format!("{path}?limit={PAGE}{from}")).await?;
            if let Some(items) = page["items"].as_array_mut() {
                found.append(items);
            }
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => from = format!("&continue={token}"),
                _ => return Ok(found),
            }
        }
    }

    /// A token of a ServiceAccount, as a pod is given one.
    ///
    /// # Errors
    /// If the account is not there or the user may not.
    pub async fn account_token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let wanted = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86_400},
        });
        let made = self.create(&path, &wanted).await?;
        let token = made["status"]["token"].as_str();
        Ok(token.context("an answer without a token")?.to_owned())
    }

    /// What types there are, each in its group's preferred version; those that it does not have, in another one.
    ///
    /// # Errors
    /// If nobody answers, or with anything but success.
    pub async fn types(&self) -> anyhow::Result<Types> {
        let mut paths = vec![("v1".to_owned(), "/api/v1".to_owned())];
        let groups = self.get("/apis").await?;
        for group in groups["groups"].as_array().into_iter().flatten() {
            let version = |of: &Value| of["groupVersion"].as_str().map(str::to_owned);
            let preferred = version(&group["preferredVersion"]).context("a group without a version")?;
            let others = group["versions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(version);
            let others: Vec<String> = others.filter(|other| *other != preferred).collect();
            let all = [preferred].into_iter().chain(others);
            paths.extend(all.map(|version| (version.clone(), format!("/apis/{version}"))));
        }
        let mut types: Vec<Type> = Vec::new();
        for (version, path) in paths {
            // A group can go between the two calls, with its last definition.
            let Some(list) = self.find(&path).await? else {
                continue;
            };
            for one in list["resources"].as_array().into_iter().flatten() {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                let plural = text("name");
                let known = types
                    .iter()
                    .any(|known| known.plural == plural && known.group() == group_of(&version));
                if plural.contains('/') || known {
                    continue;
                }
                types.push(Type {
                    version: version.clone(),
                    kind: text("kind"),
                    plural,
                    namespaced: one["namespaced"] == true,
                    listable: one["verbs"]
                        .as_array()
                        .is_some_and(|verbs| verbs.iter().any(|v| v == "list")),
                });
            }
        }
        types.sort();
        Ok(Types { types })
    }

    /// Installs definitions of types and waits until each is served; the types that there are then.
    ///
    /// # Errors
    /// If one is refused or never served.
    pub async fn define(&self, definitions: &[Value]) -> anyhow::Result<Types> {
        let home = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str();
            let path = format!("{home}/{}", name.context("a definition without a name")?);
            let answer = self.apply_at(&path, "install", "&force=true", definition).await?;
            succeeded(&path, answer)?;
        }
        let mut wait = Awaited::new("every definition is established and served");
        loop {
            let all = self.list(home).await?;
            let established = |one: &Value| {
                one["status"]["conditions"].as_array().is_some_and(|c| {
                    c.iter()
                        .any(|c| c["type"] == "Established" && c["status"] == "True")
                })
            };
            if all.iter().all(established) {
                let types = self.types().await?;
                let served = |one: &Value| types.serves(&one["spec"]);
                if definitions.iter().all(served) {
                    return Ok(types);
                }
            }
            wait.again(None).await?;
        }
    }
}

/// What types an API server has.
#[derive(Debug, Clone)]
pub struct Types {
    types: Vec<Type>,
}

impl Types {
    /// All of them, sorted.
    pub fn all(&self) -> &[Type] {
        &self.types
    }

    /// Whether there is what this definition's `spec` defines.
    fn serves(&self, spec: &Value) -> bool {
        let (group, kind) = (spec["group"].as_str(), spec["names"]["kind"].as_str());
        self.types
            .iter()
            .any(|t| Some(t.kind.as_str()) == kind && t.version.split('/').next() == group)
    }

    /// Where an object is that says so itself.
    ///
    /// # Errors
    /// If it does not, or there is no such type.
    pub fn path_of(&self, object: &Value) -> anyhow::Result<String> {
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let known = self
            .types
            .iter()
            .find(|t| Some(t.version.as_str()) == version && Some(t.kind.as_str()) == kind);
        let known = known.with_context(|| format!("the API server has no {version:?} {kind:?}"))?;
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().context("an object without a name")?;
        if known.namespaced && metadata["namespace"].as_str().is_none() {
            bail!("{} {name} is in no namespace", known.kind);
        }
        Ok(format!("{}/{name}", known.path(metadata["namespace"].as_str())))
    }
}

fn succeeded(path: &str, answer: Answer) -> anyhow::Result<Value> {
    if !answer.status.is_success() {
        bail!("{path}: {} {}", answer.status, answer.text());
    }
    answer.json()
}

/// The documents of a YAML file, empty ones left out.
///
/// # Errors
/// If it is no YAML, or has what JSON cannot say.
pub fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut document = String::new();
    let mut take = |document: &mut String| -> anyhow::Result<()> {
        if document
            .lines()
            .any(|l| !l.trim().is_empty() && !l.starts_with('#'))
        {
            let value: Value = serde_saphyr::from_str(document)?;
            if !value.is_null() {
                found.push(value);
            }
        }
        document.clear();
        Ok(())
    };
    for line in text.lines() {
        // A literal block cannot hold this at the beginning of a line: its lines are indented.
        if line.trim_end() == "---" {
            take(&mut document)?;
        } else {
            document += line;
            document.push('\n');
        }
    }
    take(&mut document)?;
    Ok(found)
}

/// Reads every `.yaml` file below a directory, in the order of their names.
///
/// # Errors
/// If one cannot be read; names it.
pub fn documents_in(dir: &Path) -> anyhow::Result<Vec<Value>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let text = std::fs::read_to_string(&path)?;
            files.insert(path, text);
        }
    }
    let mut found = Vec::new();
    for (path, text) in files {
        found.extend(documents(&text).with_context(|| path.display().to_string())?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_taken_apart_and_empty_ones_left_out() {
        let text = "# only a comment\n---\na: 1\n---\n\n---\nb: |\n  ---\n  text\nc: \"no\"\n";
        let found = documents(text).expect("YAML");
        assert_eq!(found, [json!({"a": 1}), json!({"b": "---\ntext\n", "c": "no"})]);
    }

    #[test]
    fn a_path_says_group_and_namespace() {
        let of = |version: &str, namespaced| Type {
            version: version.into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced,
            listable: true,
        };
        assert_eq!(
            of("v1", true).path(Some("shop")),
            "/api/v1/namespaces/shop/things"
        );
        assert_eq!(
            of("kuma.io/v1alpha1", true).path(None),
            "/apis/kuma.io/v1alpha1/things"
        );
        assert_eq!(
            of("kuma.io/v1alpha1", false).path(Some("shop")),
            "/apis/kuma.io/v1alpha1/things"
        );
    }
}
