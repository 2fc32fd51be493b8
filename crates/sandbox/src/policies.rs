//! Where zones keep Weir's policy of the split, for a hand in Kuma that reads, writes and removes it.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use crate::cluster::ApiServer;
use crate::play::Play;
use crate::real::cluster_zone::SYSTEM;
use crate::real::rest::Api;
use crate::repository::CLUSTER;

/// What marks labels and annotations as Weir's.
const MARK: &str = "weir.dev/";
/// The policy that Weir writes for the split of the play.
const OURS: &str = "weir-checkout";

/// Where a zone keeps its policies.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// Its control plane's REST API.
    Universal(Api),
    /// The API server of its cluster.
    Cluster(ApiServer),
}

impl Store {
    /// That of each zone.
    pub(crate) fn all(play: &Play) -> BTreeMap<String, Self> {
        let cluster = play.cast.cluster_admin();
        let stores = play.parts.iter().map(|(zone, parts)| {
            let store = match &cluster {
                Some(admin) if zone == CLUSTER => Self::Cluster(admin.clone()),
                _ => Self::Universal(Api::new(&parts.api)),
            };
            (zone.clone(), store)
        });
        stores.collect()
    }

    fn path(&self) -> String {
        match self {
            Self::Universal(_) => format!("/meshes/default/meshhttproutes/{OURS}"),
            Self::Cluster(_) => format!("/apis/kuma.io/v1alpha1/namespaces/{SYSTEM}/meshhttproutes/{OURS}"),
        }
    }

    /// Weir's policy as it is there.
    pub(crate) async fn policy(&self) -> anyhow::Result<Value> {
        match self {
            Self::Universal(api) => api.get(&self.path()).await,
            Self::Cluster(api) => api.get(&self.path()).await,
        }
    }

    pub(crate) async fn put(&self, document: &Value) -> anyhow::Result<()> {
        match self {
            Self::Universal(api) => api.put(&self.path(), document).await,
            Self::Cluster(api) => {
                let spec = json!({"spec": document["spec"]});
                api.merge(&self.path(), &spec).await.map(drop)
            }
        }
    }

    pub(crate) async fn delete(&self) -> anyhow::Result<()> {
        let path = self.path();
        match self {
            Self::Universal(api) => {
                let answer = api.exchange(Method::DELETE, &path, None).await?;
                anyhow::ensure!(
                    answer.status.is_success(),
                    "DELETE {}{path}: {}",
                    api.base(),
                    answer.text()
                );
                Ok(())
            }
            Self::Cluster(api) => api.delete(&path).await,
        }
    }

    /// Whether it is there.
    pub(crate) async fn is_there(&self) -> anyhow::Result<bool> {
        match self {
            Self::Universal(api) => Ok(api.status(&self.path()).await?.is_success()),
            Self::Cluster(api) => Ok(api.find(&self.path()).await?.is_some()),
        }
    }

    /// Puts it as somebody would who has no Weir: without its labels. What was put.
    pub(crate) async fn put_by_hand(&self) -> anyhow::Result<Value> {
        let mut document = self.policy().await?;
        match self {
            Self::Universal(_) => {
                if let Some(labels) = document["labels"].as_object_mut() {
                    labels.retain(|label, _| !label.starts_with(MARK));
                }
                self.put(&document).await?;
            }
            Self::Cluster(api) => {
                let none = |of: &Value| -> serde_json::Map<String, Value> {
                    let all = of.as_object().into_iter().flatten();
                    let ours = all.filter(|(name, _)| name.starts_with(MARK));
                    ours.map(|(name, _)| (name.clone(), Value::Null)).collect()
                };
                let metadata = &document["metadata"];
                let (labels, annotations) = (none(&metadata["labels"]), none(&metadata["annotations"]));
                let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
                document = api.merge(&self.path(), &patch).await?;
            }
        }
        Ok(document)
    }
}

/// Ends coordinator and agents, and puts their policies once more by hand: nobody looks after them any more. What was put, by
/// zone.
pub(crate) async fn left_alone(play: &mut Play) -> anyhow::Result<BTreeMap<String, (Store, Value)>> {
    play.end_weir().await?;
    let mut put = BTreeMap::new();
    for (zone, store) in Store::all(play) {
        let document = store.put_by_hand().await?;
        put.insert(zone, (store, document));
    }
    Ok(put)
}
