//! The Kuma objects that Weir writes, and the steps between live and wanted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_model::{MeshName, SplitName};
use weir_planner::{Digest, Generation, Item};

/// The label that says that somebody pinned an object's weights on one agent's host, and which pin it is. Absent where
/// nobody did. It outranks generations: other agents of the zone leave the object to the one that wrote it.
pub const PINNED: &str = "weir.dev/pinned";

/// A pin's label in words: whose pin, and since when.
pub fn pin_in_words(label: &str) -> String {
    let since = label
        .rsplit_once('.')
        .and_then(|(agent, at)| Some((agent, Timestamp::from_second(at.parse().ok()?).ok()?)));
    match since {
        Some((agent, at)) => format!("agent {agent} of this zone since {at}"),
        None => format!("another agent of this zone ({label})"),
    }
}

/// The label that says which backends of a split are down, who has their shares, and when an agent of the zone decided so. The
/// newest word counts for all its agents. Absent where none was ever down.
pub const FALLEN: &str = "weir.dev/fallback";

/// The label with the generation of the plan that removed something beside an object, which so goes on telling of that plan.
/// Absent where none did.
pub const PLAN: &str = "weir.dev/plan";

/// The label with the commit that an object was made of. Alone it is no difference: of two histories of plans, as after a ledger was
/// lost, agents may hold the very same item, of the same generation, of two commits, and would write over each other for good.
pub const COMMIT: &str = "weir.dev/commit";

/// Which of Kuma's two shapes a zone takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Form {
    /// Universal: a REST document, labels at the top level.
    #[default]
    Universal,
    /// A Kubernetes object in Kuma's system namespace.
    Kubernetes {
        /// `kuma-system` unless somebody installed it elsewhere.
        namespace: String,
    },
}

/// What kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// http, http2, grpc.
    #[serde(rename = "MeshHTTPRoute")]
    MeshHttpRoute,
    /// tcp.
    #[serde(rename = "MeshTCPRoute")]
    MeshTcpRoute,
}

impl Kind {
    /// Kuma's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeshHttpRoute => "MeshHTTPRoute",
            Self::MeshTcpRoute => "MeshTCPRoute",
        }
    }

    /// The plural in REST and Kubernetes paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::MeshHttpRoute => "meshhttproutes",
            Self::MeshTcpRoute => "meshtcproutes",
        }
    }
}

/// One policy of ours, wanted or live, independent of the form.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Kind.
    pub kind: Kind,
    /// Mesh.
    pub mesh: MeshName,
    /// Name, `weir-<split>`.
    pub name: String,
    /// `weir.dev/...` labels and `kuma.io/origin: zone`; not what Kuma computes itself.
    pub labels: BTreeMap<String, String>,
    /// The policy; the same bytes in both forms.
    pub spec: serde_json::Value,
}

impl Object {
    /// Which pin its weights are of, if any.
    pub fn pinned(&self) -> Option<&str> {
        self.labels.get(PINNED).map(String::as_str)
    }

    /// The newest plan that it tells of, when it is of this generation: its own, or the one that removed something beside it.
    pub fn tells_of(&self, generation: Generation) -> Generation {
        let marked = self.labels.get(PLAN).and_then(|text| text.parse().ok());
        generation.max(Generation(marked.unwrap_or_default()))
    }

    /// Whether it is for the service and port that an item is for, of whatever split it is.
    pub fn is_for(&self, item: &Item) -> bool {
        let port = item.port.to_string();
        let targets = self.spec.get("to").and_then(serde_json::Value::as_array);
        let mut targets = targets.into_iter().flatten().filter_map(|to| to.get("targetRef"));
        self.mesh == item.mesh
            && targets.any(|target| {
                let text = |at: &str| target.pointer(at).and_then(serde_json::Value::as_str);
                text("/labels/kuma.io~1display-name") == Some(item.service.as_str())
                    && text("/sectionName") == Some(port.as_str())
            })
    }
}

/// One thing to do at the zone's control plane. Ordered as given: writes before removals.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write this object whole: it is absent, or ours and different, and not of a newer generation.
    Put {
        /// What to write.
        object: Object,
        /// Why, for the log: `absent`, `weights differ`, `labels differ`.
        reason: String,
        /// The split, its item's generation and digest.
        split: SplitName,
        /// The item's generation.
        generation: Generation,
        /// The item's digest.
        digest: Digest,
    },
    /// Write the anchor alone, where no policy of ours is: callers' Envoys get the clusters of all backends, and no request
    /// moves. Left undone if there is a whole policy of ours by then: nothing in force is taken back by it.
    Introduce {
        /// What to write.
        object: Object,
        /// Why.
        reason: String,
        /// The split.
        split: SplitName,
        /// The item's generation.
        generation: Generation,
    },
    /// Write the anchor alone over a policy that no plan wants any more: requests go where they went before the split,
    /// and every cluster stays. Left undone if the policy carries this generation or a newer one.
    Withdraw {
        /// What to write.
        object: Object,
        /// Why.
        reason: String,
        /// The split, as its label says.
        split: String,
        /// The plan's generation, which the object then carries.
        generation: Generation,
    },
    /// Remove an object that carries our mark, that the plan does not name, and that is not of a newer generation.
    Delete {
        /// Kind.
        kind: Kind,
        /// Mesh.
        mesh: MeshName,
        /// Name.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Step {
    /// Kind, mesh and name of the object that it writes or removes.
    pub fn object(&self) -> (Kind, &MeshName, &str) {
        match self {
            Self::Put { object, .. } | Self::Introduce { object, .. } | Self::Withdraw { object, .. } => {
                (object.kind, &object.mesh, &object.name)
            }
            Self::Delete { kind, mesh, name, .. } => (*kind, mesh, name),
        }
    }
}
