//! The double of Kong Ingress Controller 3.5.13: HTTPRoutes, Services, EndpointSlices and KongUpstreamPolicies of an API
//! server in, Kong's configuration and the routes' status out.
//!
//! It is held against what a real one was recorded to post and to say (`tests/recorded/kic-3.5.13`). Its oddities are the
//! controller's:
//! - A weight is divided by the number of endpoints and rounded down, but never to 0; targets of weight 0 stay.
//! - A backend that is not there, or has no endpoint, is left out, and the others take its share; the first is told as
//!   `ResolvedRefs: False`, the second is not told at all.
//! - Services of one rule with different `konghq.com/...` annotations take the whole rule with them.
//! - What the KongUpstreamPolicy that they all name says of algorithm, hash, slots and health checks is the upstream's, to the word: also a
//!   header with `-` in it, which Kong does not find.
//! - One configuration, posted as a whole and as JSON: what Kong refuses of one route keeps back all of them, `Programmed` is
//!   `Unknown` then, and it is tried again and again.
//! - Without a route it posts one empty upstream, `kong`.
//! - Rules with the same backends and weights are one service, by the first one's name.
//! - Of what a Kong has it notices only that it lost all of it.
//! - Its word is of the spec's generation: a changed annotation leaves it as it was.
//!
//! What it does NOT imitate: other kinds than HTTPRoute, listeners (there is one, for http) and their hosts, ReferenceGrants, filters, plugins, a policy's
//! own status, Events, several gateways' discovery, leader election, the router of expressions. It lists, and watches nothing.

mod translate;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::ApiServer;
use translate::{Cluster, Said, translate};

/// The controller's name in the status of routes.
const CONTROLLER: &str = "konghq.com/kic-gateway-controller";

/// One controller, until it is dropped.
#[derive(Debug)]
pub struct Controller {
    over: CancellationToken,
}

/// What it is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Gateway whose routes it takes: namespace and name.
    pub gateway: (String, String),
    /// The Admin APIs of the Kongs that it runs, `http://127.0.0.1:8001`.
    pub kongs: Vec<String>,
    /// `--proxy-sync-seconds`: how often it looks and posts.
    pub sync: Duration,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Controller {
    /// Starts it over an API server, as a user who may read, and write status.
    ///
    /// # Errors
    /// If the client for Kong cannot be made.
    pub fn start(server: ApiServer, options: Options) -> anyhow::Result<Self> {
        let over = CancellationToken::new();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()?;
        let work = Work {
            server,
            options,
            client,
            last: None,
        };
        tokio::spawn(work.run(over.clone()));
        Ok(Self { over })
    }
}

struct Work {
    server: ApiServer,
    options: Options,
    client: reqwest::Client,
    /// What every Kong accepted last.
    last: Option<Value>,
}

impl Work {
    async fn run(mut self, over: CancellationToken) {
        loop {
            let turn = over.run_until_cancelled(self.turn()).await;
            match turn {
                None => return,
                Some(Ok(())) => {}
                // It tries again, as the real one does, and says so.
                Some(Err(error)) => tracing::warn!("ingress controller: {error:#}"),
            }
            if over
                .run_until_cancelled(tokio::time::sleep(self.options.sync))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        let list = |path| self.server.list(path);
        // Where nobody installed Kong's own types there is none of these.
        let policies = self
            .server
            .find("/apis/configuration.konghq.com/v1beta1/kongupstreampolicies")
            .await?;
        let policies = policies.as_ref().and_then(|all| all["items"].as_array());
        let cluster = Cluster {
            routes: list("/apis/gateway.networking.k8s.io/v1/httproutes").await?,
            services: list("/api/v1/services").await?,
            slices: list("/apis/discovery.k8s.io/v1/endpointslices").await?,
            policies: policies.cloned().unwrap_or_default(),
        };
        let (configuration, said) = translate(&self.options.gateway, &cluster);
        // First it says what it found; that Kong has it, when Kong has it.
        let mut accepted = true;
        let mut empty = false;
        for kong in &self.options.kongs {
            empty |= self.is_empty(kong).await?;
        }
        if empty || self.last.as_ref() != Some(&configuration) {
            for kong in &self.options.kongs {
                accepted &= self.post(kong, &configuration).await?;
            }
            if accepted {
                self.last = Some(configuration);
            }
        }
        for said in said {
            self.tell(&said, accepted).await?;
        }
        Ok(())
    }

    /// Whether a Kong lost all that it had: the one change there that the controller notices.
    async fn is_empty(&self, kong: &str) -> anyhow::Result<bool> {
        let answer = self
            .client
            .get(format!("{kong}/status"))
            .send()
            .await
            .context("GET /status")?;
        let status: Value = answer.json().await.context("GET /status")?;
        Ok(status["configuration_hash"]
            .as_str()
            .is_none_or(|hash| hash.bytes().all(|b| b == b'0')))
    }

    async fn post(&self, kong: &str, configuration: &Value) -> anyhow::Result<bool> {
        let url = format!("{kong}/config?check_hash=1&flatten_errors=1");
        let request = self.client.post(url).json(configuration);
        let answer = request.send().await.context("POST /config")?;
        Ok(answer.status().is_success())
    }

    async fn tell(&self, said: &Said, accepted: bool) -> anyhow::Result<()> {
        let parents = parents(said, accepted);
        let same = |a: &Value, b: &Value| {
            let plain = |of: &Value| {
                let mut of = of.clone();
                for condition in of
                    .pointer_mut("/0/conditions")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    condition["lastTransitionTime"] = Value::Null;
                }
                of
            };
            plain(a) == plain(b)
        };
        if same(&said.before, &parents) {
            return Ok(());
        }
        let path = format!(
            "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes/{}/status",
            said.namespace, said.name
        );
        let status = json!({"status": {"parents": parents}});
        self.server.merge(&path, &status).await.map(drop)
    }
}

/// `status.parents` of a route; `accepted`: Kong took the configuration that it is in.
fn parents(said: &Said, accepted: bool) -> Value {
    let (resolved, reason) = match said.resolved {
        true => ("True", "ResolvedRefs"),
        false => ("False", "BackendNotFound"),
    };
    let (programmed, why) = match (said.translated, accepted) {
        (false, _) => ("False", "TranslationError"),
        (true, true) => ("True", "ConfiguredInGateway"),
        (true, false) => ("Unknown", "Unknown"),
    };
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "observedGeneration": said.generation, "lastTransitionTime": now,
        })
    };
    json!([{
        "controllerName": CONTROLLER,
        "parentRef": said.parent,
        "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("ResolvedRefs", resolved, reason),
            condition("Programmed", programmed, why),
        ],
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against what the real controller was recorded to say: conditions but for their messages and times.
    #[test]
    fn it_says_of_a_route_what_the_real_one_said() {
        let service = |name: &str| json!({"metadata": {"name": name, "namespace": "edge"}, "spec": {"ports": [{"port": 8080}]}});
        for (name, accepted) in [
            ("programmed", true),
            ("backend-not-found", true),
            ("wrong-port", true),
            ("kong-refused", false),
        ] {
            let file = format!(
                "{}/../../tests/recorded/kic-3.5.13/httproute-{name}.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let text = std::fs::read_to_string(file).expect("recorded");
            let exchange: Value = serde_json::from_str(&text).expect("JSON");
            let recorded = &exchange["response"]["body"];
            let mut route = recorded.clone();
            route.as_object_mut().expect("a route").remove("status");
            let cluster = Cluster {
                routes: vec![route],
                services: vec![service("checkout-vm"), service("checkout")],
                ..Cluster::default()
            };
            let (_, said) = translate(&("edge".to_owned(), "edge".to_owned()), &cluster);
            let shape = |parents: &Value| {
                let mut parents = parents.clone();
                for parent in parents.as_array_mut().expect("parents") {
                    for condition in parent["conditions"].as_array_mut().expect("conditions") {
                        let condition = condition.as_object_mut().expect("a condition");
                        let known = condition
                            .remove("message")
                            .zip(condition.remove("lastTransitionTime"));
                        assert!(known.is_some_and(|(message, time)| message.is_string() && time.is_string()));
                    }
                }
                parents
            };
            assert_eq!(
                shape(&parents(&said[0], accepted)),
                shape(&recorded["status"]["parents"]),
                "{name}"
            );
        }
    }
}
