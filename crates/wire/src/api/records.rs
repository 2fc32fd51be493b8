//! What is on record: commits, events and plans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_model::Diagnostic;

/// `GET /v1/commits`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitList {
    /// State of each source.
    pub sources: Vec<SourceStatus>,
    /// Newest first.
    pub commits: Vec<CommitRecord>,
}

/// One Git source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Name.
    pub name: String,
    /// Where it is read from; never with credentials.
    pub url: String,
    /// Branch.
    pub branch: String,
    /// Whether the last look succeeded.
    pub reachable: bool,
    /// What went wrong, if not.
    pub error: Option<String>,
    /// Commit last seen.
    pub head: Option<String>,
    /// Commit in force.
    pub in_force: Option<String>,
    /// When last looked at.
    pub checked_at: Option<String>,
    /// Set while the newest commit is not taken because that in force was made from it: what happened, and what to do.
    #[serde(default)]
    pub rewound: Option<String>,
}

/// One commit that the coordinator saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitRecord {
    /// Source.
    pub source: String,
    /// Commit.
    pub commit: String,
    /// Author, `Name <mail>`.
    pub author: String,
    /// Who committed it, in the same way; none where that was not recorded.
    #[serde(default)]
    pub committer: Option<String>,
    /// `none`, or `present`: there is a signature, which nobody verified. None where that was not recorded.
    #[serde(default)]
    pub signature: Option<String>,
    /// When it was authored.
    pub authored_at: String,
    /// First line.
    pub subject: String,
    /// When the coordinator saw it.
    pub seen_at: String,
    /// `taken` or `refused`.
    pub verdict: String,
    /// Generation that it made; none if it was refused or changed nothing.
    pub generation: Option<u64>,
    /// What was wrong or doubtful.
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
    /// When each zone proved its generation.
    pub proven: BTreeMap<String, String>,
}

/// `GET /v1/events`: server-sent, `id:` is [`Event::id`], `event:` is [`Event::kind`]; `Last-Event-ID` or `?after=` resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Rises by one.
    pub id: u64,
    /// When.
    pub at: String,
    /// `commit.taken`, `commit.refused`, `coordinator.superseded`, `source.*` (`unreachable`, `reachable`, `rewound`,
    /// `rewritten`), `plan.made`, `agent.joined`, `agent.connected`, `agent.gone`, `agent.forgotten`, `zone.*` (`proven`, `held`, `overridden`, `fallback`, `failed`,
    /// `different`, `stale`, `pinned`, `unpinned`, `contested`, `uncontested`), `mesh.gone`, `mesh.back`, `service.vanished`,
    /// `service.back`, `backend.down`, `backend.up`, `backend.relieved`, `transition.*` (`held`, `frozen`, `waits`, `bakes`, `verifies`, `returns`, `quarantined`, `drained`,
    /// `rests`, `unjudged`), `order.*` (`abort`, `freeze`, `resume`, `drain`, `undrain`, `refused`), `selfcheck.failed`.
    pub kind: String,
    /// In one sentence.
    pub message: String,
    /// Zone, if about one.
    pub zone: Option<String>,
    /// Split, if about one.
    pub split: Option<String>,
    /// Generation, if about one.
    pub generation: Option<u64>,
}

/// `GET /v1/plans/{generation}` (or `latest`): what changed against the parent, and the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    /// Generation.
    pub generation: u64,
    /// Id.
    pub id: String,
    /// Parent's id.
    pub parent: Option<String>,
    /// Commits, by source.
    pub commits: BTreeMap<String, String>,
    /// When it was made.
    pub created: String,
    /// What changed against the parent, a sentence each.
    pub changes: Vec<String>,
    /// The plan itself, as canonical JSON.
    #[schema(value_type = Object)]
    pub plan: serde_json::Value,
}
