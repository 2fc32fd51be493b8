//! Which commits are taken: pure, from the heads of all sources to a decision.
//!
//! All new heads together are tried first. If that is refused, each is tried alone beside what is in force, so that a
//! broken commit in one repository holds up nobody else's. A commit is taken or refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{
    CommitId, Declaration, Diagnostic, FederationName, Prune, Severity, SourceCommit, SourceFile, SourceName,
    SplitName, codes, sabotaged,
};
use weir_planner::{
    Finding, Generation, Inputs, Orders, Outlook, Plan, Planned, Refusal, Senses, Transit, prune,
};

use crate::git::{Content, Head, Unusable, limits};

/// One commit of each source.
pub type Heads = BTreeMap<SourceName, Arc<Head>>;

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The coordinator's own federation.
    pub federation: &'a FederationName,
    /// What is in force; may lack sources (at the very start, or new in the configuration).
    pub in_force: &'a Heads,
    /// The newest commit of every source.
    pub heads: &'a Heads,
    /// Those sources whose newest commit declares exactly what they did directly before what is in force: a revert.
    pub reverts: &'a BTreeSet<SourceName>,
    /// The newest plan.
    pub parent: Option<&'a Plan>,
    /// The highest generation that any agent reports.
    pub highest: Generation,
    /// The time.
    pub now: Timestamp,
    /// The zones and the orders, for a coordinator that moves splits step by step. None plans everything at once.
    pub transit: Option<Transiting<'a>>,
}

/// What transitions go by.
#[derive(Clone, Copy)]
pub struct Transiting<'a> {
    /// The zones.
    pub senses: &'a dyn Senses,
    /// What people ordered.
    pub orders: &'a Orders,
}

impl std::fmt::Debug for Transiting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transiting")
            .field("orders", self.orders)
            .finish_non_exhaustive()
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Sources whose head is in force from now on, with warnings.
    pub taken: BTreeMap<SourceName, Vec<Diagnostic>>,
    /// Sources whose head is refused, and why.
    pub refused: BTreeMap<SourceName, Vec<Diagnostic>>,
    /// What is in force now, and what it declares; none if nothing was taken and nothing had to be planned anew.
    pub accepted: Option<Accepted>,
}

/// A set of commits that stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The commits.
    pub in_force: Heads,
    /// What they declare.
    pub declaration: Declaration,
    /// The plan made of it; none if it changes nothing now.
    pub plan: Option<Plan>,
    /// Splits that are not at rest where they are declared: what they wait for.
    pub outlook: BTreeMap<SplitName, Outlook>,
    /// Splits that go on from a step of which traffic said nothing, and why.
    pub unjudged: BTreeMap<SplitName, String>,
}

/// Planning itself went wrong: a defect of this program. Nothing is recorded or published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no plan is published, because planning went wrong: {0}; please report it with the commit")]
pub struct Unsound(pub String);

impl Unsound {
    pub(crate) fn of(findings: &[Finding]) -> Self {
        let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Self(format!("the plan breaks its own rules: {}", all.join("; ")))
    }
}

enum Trial {
    Accepted(Box<Accepted>, Vec<Diagnostic>),
    Refused(Vec<Diagnostic>),
}

/// Decides about every head that is not in force.
///
/// # Errors
/// The planner made a plan that its linter refuses.
pub fn decide(question: Question<'_>) -> Result<Decision, Unsound> {
    let mut decision = Decision {
        taken: BTreeMap::new(),
        refused: BTreeMap::new(),
        accepted: None,
    };
    let pending: Vec<&SourceName> = question
        .heads
        .iter()
        .filter(|(source, head)| {
            question
                .in_force
                .get(*source)
                .is_none_or(|at| at.commit != head.commit)
        })
        .map(|(source, _)| source)
        .collect();
    let all = match attempt(question, question.heads)? {
        Trial::Accepted(accepted, warnings) => {
            for source in pending {
                decision
                    .taken
                    .insert(source.clone(), about(&warnings, source, question.heads.len()));
            }
            decision.accepted = Some(*accepted);
            return Ok(decision);
        }
        Trial::Refused(why) => why,
    };
    let complete = is_complete(question);
    let mut base = question.in_force.clone();
    base.retain(|source, _| question.heads.contains_key(source));
    let mut waiting = pending;
    if waiting.is_empty() {
        // All of these are in force, and together they are refused all the same: a source is no longer read, or this version
        // checks more than the one before. Somebody should hear of it.
        waiting.extend(question.heads.keys());
    }
    // Each round takes what stands beside what was taken before it; a round that takes nothing is the last.
    let mut progress = complete && question.heads.len() > 1;
    while progress {
        progress = false;
        let mut left = Vec::new();
        for source in waiting {
            let Some(head) = question.heads.get(source) else {
                continue;
            };
            let mut with = base.clone();
            with.insert(source.clone(), Arc::clone(head));
            match attempt(question, &with)? {
                Trial::Accepted(accepted, warnings) => {
                    decision
                        .taken
                        .insert(source.clone(), about(&warnings, source, question.heads.len()));
                    decision.accepted = Some(*accepted);
                    decision.refused.remove(source);
                    base = with;
                    progress = true;
                }
                Trial::Refused(why) => {
                    decision.refused.insert(source.clone(), why);
                    left.push(source);
                }
            }
        }
        waiting = left;
    }
    for source in waiting {
        decision
            .refused
            .entry(source.clone())
            .or_insert_with(|| all.clone());
    }
    if decision.accepted.is_none()
        && complete
        && question
            .parent
            .is_some_and(|parent| question.highest > parent.generation)
    {
        // Nothing new stands, but an agent has seen plans that this history does not hold: what is in force is planned
        // anew above them.
        if let Trial::Accepted(accepted, _) = attempt(question, &base)? {
            decision.accepted = Some(*accepted);
        }
    }
    Ok(decision)
}

/// Whether all that is in force is at hand. What is new in the configuration and was never good declares nothing of it, and holds
/// up nobody else; but what agents hold of a history that is lost may come from any source, and so may what there is before the
/// first plan.
fn is_complete(question: Question<'_>) -> bool {
    let is_in_force = |source: &SourceName| question.in_force.contains_key(source);
    let of_plan = question
        .parent
        .filter(|parent| question.highest <= parent.generation)
        .is_some_and(|parent| parent.commits.iter().all(|commit| is_in_force(&commit.source)));
    of_plan || question.heads.keys().all(is_in_force)
}

/// The warnings that belong to a source; those without a place belong to all.
fn about(warnings: &[Diagnostic], source: &SourceName, sources: usize) -> Vec<Diagnostic> {
    let belongs =
        |d: &&Diagnostic| sources == 1 || d.labels.first().is_none_or(|label| label.source == *source);
    warnings.iter().filter(belongs).cloned().collect()
}

fn attempt(question: Question<'_>, heads: &Heads) -> Result<Trial, Unsound> {
    let mut files: Vec<SourceFile> = Vec::new();
    let mut unusable = Vec::new();
    for (source, head) in heads {
        match &head.content {
            Content::Files(of) => files.extend(of.iter().cloned()),
            Content::Unusable(why) => unusable.push(unusable_diagnostic(source, why)),
        }
    }
    if !unusable.is_empty() {
        return Ok(Trial::Refused(unusable));
    }
    let mut parsed = weir_model::parse(&files);
    if parsed.refused() && !sabotaged("take-broken-commits") {
        return Ok(Trial::Refused(parsed.diagnostics));
    }
    // A revert wins (I8): who takes the last change back needs no leave for the splits that go with it, and waits for no wave.
    let news: Vec<&SourceName> = heads
        .iter()
        .filter(|(source, head)| {
            let now = question.in_force.get(*source);
            now.is_none_or(|now| now.commit != head.commit)
        })
        .map(|(source, _)| source)
        .collect();
    let reverts = !news.is_empty() && news.iter().all(|source| question.reverts.contains(*source));
    if reverts && let Some(federation) = &mut parsed.declaration.federation {
        federation.prune = Prune::Allow;
    }
    if let Some(other) = parsed
        .declaration
        .federation
        .as_ref()
        .filter(|federation| federation.name != *question.federation)
    {
        let mut why = parsed.diagnostics;
        why.push(other_federation(question.federation, other));
        return Ok(Trial::Refused(why));
    }
    // What they take back can only be told beside all that is in force.
    let whole = || {
        let mut of_plan = question.parent.into_iter().flat_map(|parent| &parent.commits);
        of_plan.all(|commit| question.in_force.contains_key(&commit.source))
    };
    let was = (reverts && whole())
        .then(|| declaration(question.in_force))
        .flatten();
    let mut at_odds = at_gateways(&parsed.declaration, question, reverts);
    let refused = at_odds.iter().any(|one| one.severity == Severity::Error);
    parsed.diagnostics.append(&mut at_odds);
    if refused {
        return Ok(Trial::Refused(parsed.diagnostics));
    }
    let commits: Vec<SourceCommit> = heads
        .iter()
        .map(|(source, head)| SourceCommit {
            source: source.clone(),
            commit: head.commit.clone(),
        })
        .collect();
    let inputs = Inputs {
        declaration: &parsed.declaration,
        commits: &commits,
        highest: question.highest,
        parent: question.parent,
        now: question.now,
    };
    let (mut planned, outlook, unjudged) = match question.transit {
        None => (weir_planner::plan(inputs), BTreeMap::new(), BTreeMap::new()),
        Some(Transiting { senses, orders }) => {
            let look = weir_planner::step(
                inputs,
                Transit {
                    senses,
                    orders,
                    reverts: was.as_ref(),
                    only: None,
                },
            );
            (look.planned, look.outlook, look.unjudged)
        }
    };
    if let Planned::New(_) = planned {
        let of_sources = prunes(question, &parsed.declaration);
        if !of_sources.is_empty() {
            planned = Planned::Refused(of_sources);
        }
    }
    let plan = match planned {
        Planned::Nothing => None,
        Planned::Refused(reasons) => {
            let mut why = parsed.diagnostics;
            why.extend(reasons.iter().map(|reason| Diagnostic {
                code: reason.code(),
                severity: Severity::Error,
                message: reason.to_string(),
                labels: place_of(reason, &parsed.declaration).into_iter().collect(),
                help: None,
            }));
            return Ok(Trial::Refused(why));
        }
        Planned::New(plan) => {
            // What is the parent's own was looked at with it, but where zones, gateways or the mesh change. A version with other rules
            // may have made that: to refuse every commit for it, reverts too, would help nobody.
            let findings = match question.parent {
                Some(parent) => weir_planner::lint_step(&plan, parent),
                None => weir_planner::lint(&plan, None),
            };
            if !findings.is_empty() {
                return Err(Unsound::of(&findings));
            }
            Some(plan)
        }
    };
    let accepted = Accepted {
        in_force: heads.clone(),
        declaration: parsed.declaration,
        plan,
        outlook,
        unjudged,
    };
    Ok(Trial::Accepted(Box::new(accepted), parsed.diagnostics))
}

/// What no gateway could run of what is declared. What is so already is in the way of nobody who changes something else, and
/// nothing is in the way of a revert (I8): agents hold what they cannot say to a Kong, and tell it.
fn at_gateways(declared: &Declaration, question: Question<'_>, reverts: bool) -> Vec<Diagnostic> {
    if !reverts {
        return weir_render::kong::declared_after(declared, || declaration(question.in_force));
    }
    let mut found = weir_render::kong::declared(declared);
    for one in &mut found {
        one.severity = Severity::Warning;
    }
    found
}

/// The sources that would lose too much of what they declare. A plan does not say which source a split comes from; the
/// commits in force do.
fn prunes(question: Question<'_>, after: &Declaration) -> Vec<Refusal> {
    let goes = |parent: &Plan| {
        question.highest <= parent.generation
            && parent.splits.keys().any(|name| !after.splits.contains_key(name))
    };
    let Some(parent) = question.parent.filter(|parent| goes(parent)) else {
        return Vec::new();
    };
    // A source that left the configuration while this program was not running: its files are not there to be read, so that
    // whatever goes now may be all that it had.
    let mut sources = parent.commits.iter().map(|commit| &commit.source);
    let dropped = sources
        .find(|source| !question.heads.contains_key(*source) && !question.in_force.contains_key(*source));
    if let Some(source) = dropped {
        return prune::of_dropped(parent, after, source).into_iter().collect();
    }
    if question.in_force.len() < 2 {
        return Vec::new();
    }
    let files: Vec<SourceFile> = question
        .in_force
        .values()
        .filter_map(|head| match &head.content {
            Content::Files(of) => Some(of.iter().cloned()),
            Content::Unusable(_) => None,
        })
        .flatten()
        .collect();
    prune::of_sources(&weir_model::parse(&files).declaration, after)
}

fn other_federation(ours: &FederationName, other: &weir_model::declaration::Federation) -> Diagnostic {
    let place = &other.place;
    Diagnostic {
        code: codes::OTHER_FEDERATION,
        severity: Severity::Error,
        message: format!(
            "this declares the federation `{}`, but the coordinator is of `{ours}`",
            other.name
        ),
        labels: vec![weir_model::Label {
            source: place.source.clone(),
            file: place.file.clone(),
            span: place.span.clone(),
            text: "declared here".to_owned(),
        }],
        help: Some(format!(
            "set metadata.name to `{ours}`, or point the coordinator at the repository of its own federation"
        )),
    }
}

/// Where in the declaration a refusal can be answered, if somewhere.
fn place_of(reason: &Refusal, declaration: &Declaration) -> Option<weir_model::Label> {
    let text = match reason {
        Refusal::FederationRenamed { was, .. } => format!("its name was `{was}`"),
        Refusal::MeshChanged { was, .. } => format!("its mesh was `{was}`"),
        Refusal::Prunes { .. } => "`prune: allow` here says that it is meant".to_owned(),
        _ => return None,
    };
    let place = &declaration.federation.as_ref()?.place;
    Some(weir_model::Label {
        source: place.source.clone(),
        file: place.file.clone(),
        span: place.span.clone(),
        text,
    })
}

fn unusable_diagnostic(source: &SourceName, why: &Unusable) -> Diagnostic {
    let (code, message, help) = match why {
        Unusable::NoSuchPath(path) => (
            codes::NO_SUCH_PATH,
            format!("source {source} has no directory `{path}` in this commit"),
            "put it back, or correct `path` of this source in the coordinator's configuration",
        ),
        Unusable::TooMany(files) => (
            codes::TOO_MANY_FILES,
            format!(
                "source {source} holds {files} or more YAML files; at most {} are read",
                limits::FILES
            ),
            "set `path` of this source to the directory that holds the declaration alone",
        ),
        Unusable::FileTooLarge(file, bytes) => (
            codes::FILE_TOO_LARGE,
            format!(
                "`{file}` of source {source} has {bytes} bytes; at most {} are read",
                limits::FILE_BYTES
            ),
            "split the file, or set `path` of this source so that it is not read",
        ),
        Unusable::TooDeep(path) => (
            codes::TOO_MANY_FILES,
            format!(
                "source {source} nests directories deeper than {}: `{path}`",
                limits::DEPTH
            ),
            "set `path` of this source to the directory that holds the declaration alone",
        ),
        Unusable::TooWide(_) => (
            codes::TOO_MANY_FILES,
            format!(
                "source {source} holds more than {} files and directories below its path",
                limits::NAMES
            ),
            "set `path` of this source to the directory that holds the declaration alone",
        ),
        Unusable::TotalTooLarge(bytes) => (
            codes::FILE_TOO_LARGE,
            format!(
                "the YAML files of source {source} have {bytes} bytes or more; at most {} are read",
                limits::TOTAL_BYTES
            ),
            "set `path` of this source to the directory that holds the declaration alone",
        ),
    };
    Diagnostic {
        code,
        severity: Severity::Error,
        message,
        labels: Vec::new(),
        help: Some(help.to_owned()),
    }
}

/// What commits that were taken once declare; none if this version would not take them.
pub fn declaration(heads: &Heads) -> Option<Declaration> {
    let files: Option<Vec<&Arc<[SourceFile]>>> = heads
        .values()
        .map(|head| match &head.content {
            Content::Files(of) => Some(of),
            Content::Unusable(_) => None,
        })
        .collect();
    let files: Vec<SourceFile> = files?.into_iter().flat_map(|of| of.iter().cloned()).collect();
    let parsed = weir_model::parse(&files);
    (!parsed.refused()).then_some(parsed.declaration)
}

/// The commits of heads, as the ledger keeps them.
pub fn commits(heads: &Heads) -> BTreeMap<SourceName, CommitId> {
    heads
        .iter()
        .map(|(source, head)| (source.clone(), head.commit.clone()))
        .collect()
}
