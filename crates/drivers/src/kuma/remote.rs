//! Evidence on proxies of other hosts, through the zone's control plane: sampled (live, a few, inside a hard budget) and
//! acknowledged (computed and taken, no proof). Asked only where no proxy of this host calls the service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use weir_model::{MeshName, SplitName};
use weir_planner::{Coverage, Digest, Evidence, Item, Proof, ServiceFact, Verdict};

use super::budget::Budget;
use super::elsewhere::{Dataplane, Rejections, as_dump};
use super::listed::{Listed, only_if_seen};
use super::proof::{self, Reading, Round};
use super::rest::Rest;
use super::{ABREAST, Sampled};

/// Of so many callers the computed configuration is looked at.
const LOOKED_AT: usize = 20;
/// How long a list of dataplanes and an acknowledgement serve. Insights themselves lag by 10 s.
const FRESH: Duration = Duration::from_secs(5);
/// How long they serve when there is nothing to wait for.
const SETTLED: Duration = Duration::from_secs(30);
/// A change is in Envoy within 2 s (`kuma.md` R4): a sample before that wastes a call.
const SETTLE: SignedDuration = SignedDuration::from_secs(2);
/// For so long a control plane must have listed nobody who calls a service before that is believed: one that came back, with
/// whatever it forgot, hears of its proxies one after the other, within seconds.
const QUIET: Duration = Duration::from_secs(30);
/// Between two samples of one change, if the first was not what it should be.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What is known of proxies elsewhere.
#[derive(Debug)]
pub(crate) struct Remote {
    budget: Budget,
    per_change: u32,
    /// Dataplanes of the mesh, and when they were listed; or why they could not be.
    dataplanes: Option<(Instant, MeshName, Result<Listed, String>)>,
    changes: BTreeMap<SplitName, Change>,
    /// Since when the control plane lists nobody who calls a service at a port.
    quiet: BTreeMap<(String, u16), Instant>,
}

/// One split's newest change.
#[derive(Debug)]
struct Change {
    digest: Digest,
    /// When its policy was last written, as far as is known.
    written: Option<Timestamp>,
    calls: u32,
    last_call: Option<Timestamp>,
    /// Read from the proxies themselves, since the change.
    sampled: BTreeMap<String, Reading>,
    acknowledged: Option<(Instant, Proof)>,
    /// What each proxy had rejected when the policy was written, or when it was last read and right: none of that was what
    /// is to be proven.
    rejected: BTreeMap<String, Rejections>,
    /// Proxies that may call the service, as far as their definition tells, and do not.
    strangers: BTreeSet<String>,
}

impl Remote {
    pub(crate) fn new(sampled: Sampled, file: std::path::PathBuf) -> Self {
        Self {
            budget: Budget::new(file, sampled.calls_per_hour),
            per_change: sampled.per_change,
            dataplanes: None,
            changes: BTreeMap::new(),
            quiet: BTreeMap::new(),
        }
    }

    /// A split's policy was written, or was found written then: what was sampled before says nothing any more.
    pub(crate) fn written(&mut self, split: &SplitName, at: Timestamp) {
        let listed = self
            .dataplanes
            .as_ref()
            .and_then(|(_, _, list)| list.as_ref().ok())
            .map(|listed| &listed.connected);
        if let Some(change) = self.changes.get_mut(split)
            && change.written.is_none_or(|before| before < at)
        {
            let first = change.written.replace(at).is_none();
            change.begin_anew();
            change.acknowledged = None;
            // Insights lag: what they told until now was before this. Only before the first write of this content, though: a
            // later one (a label, an annotation) changes no listener, and who rejected the content then has rejected it still.
            if first {
                let all = listed.into_iter().flatten();
                change.rejected = all.map(|d| (d.name.clone(), d.rejections())).collect();
            }
        }
    }

    /// Whether a write to this split would be remembered; makes it so.
    pub(crate) fn expect(&mut self, split: &SplitName, digest: Digest) {
        if self
            .changes
            .get(split)
            .is_none_or(|change| change.digest != digest)
        {
            self.changes.insert(
                split.clone(),
                Change {
                    digest,
                    written: None,
                    calls: 0,
                    last_call: None,
                    sampled: BTreeMap::new(),
                    acknowledged: None,
                    rejected: BTreeMap::new(),
                    strangers: BTreeSet::new(),
                },
            );
        }
    }

    /// How many connected dataplanes may call a service, as far as the control plane tells; none if it does not.
    pub(crate) async fn callers(
        &mut self,
        rest: &Rest,
        mesh: &MeshName,
        service: &str,
        port: u16,
        patient: bool,
    ) -> Option<u32> {
        let all = self
            .list(rest, mesh, if patient { SETTLED } else { FRESH })
            .await
            .ok()?;
        let callers = all.connected.iter().filter(|d| d.calls(service, port)).count();
        self.quiet.remove(&(service.to_owned(), port));
        Some(number(callers))
    }

    /// Those that may call any of these items' services; none if the control plane does not tell.
    pub(crate) async fn of_any(&mut self, rest: &Rest, items: &[Arc<Item>]) -> Option<Vec<Dataplane>> {
        let mesh = &items.first()?.mesh;
        let all = self.list(rest, mesh, SETTLED).await.ok()?;
        let calls = |d: &&Dataplane| items.iter().any(|item| d.calls(item.service.as_str(), item.port));
        Some(all.connected.iter().filter(calls).cloned().collect())
    }

    /// Dataplanes of the mesh, or why they are not known.
    async fn list(&mut self, rest: &Rest, mesh: &MeshName, fresh: Duration) -> Result<&Listed, String> {
        let stale = self
            .dataplanes
            .as_ref()
            .is_none_or(|(at, of, _)| of != mesh || at.elapsed() > fresh);
        if stale {
            let path = format!("meshes/{mesh}/dataplanes/_overview");
            let list = match rest.list(&path, "").await {
                Ok(Some(list)) => Ok(Listed::read(&list)),
                Ok(None) => Err(format!(
                    "GET {path}: this control plane does not know such a list"
                )),
                Err(error) => Err(error.to_string()),
            };
            // A failure serves as long: a control plane that hangs is not waited for once for every item.
            self.dataplanes = Some((Instant::now(), mesh.clone(), list));
        }
        match &self.dataplanes {
            Some((_, _, Ok(list))) => Ok(list),
            Some((_, _, Err(why))) => Err(why.clone()),
            None => Err("they were not listed".to_owned()),
        }
    }

    /// Whether nobody has been listed who calls this for long enough; from now on, if not before.
    fn is_quiet(&mut self, service: (String, u16)) -> bool {
        let since = self.quiet.entry(service).or_insert_with(Instant::now);
        since.elapsed() >= QUIET
    }

    /// The best evidence on one item.
    pub(crate) async fn prove(
        &mut self,
        rest: &Rest,
        item: &Item,
        services: &[ServiceFact],
        here: String,
    ) -> Proof {
        let now = Timestamp::now();
        self.expect(&item.split, item.digest);
        let patient = self.changes.get(&item.split).is_some_and(Change::is_settled);
        let service = (item.service.to_string(), item.port);
        let all = match self
            .list(rest, &item.mesh, if patient { SETTLED } else { FRESH })
            .await
        {
            Ok(all) => all,
            Err(why) => {
                self.quiet.remove(&service);
                let why = format!("{here}, and the zone's control plane does not tell of others: {why}");
                return proof::unknown(why, 0, now);
            }
        };
        let mut callers: Vec<Dataplane> = all
            .connected
            .iter()
            .filter(|d| d.calls(item.service.as_str(), item.port))
            .cloned()
            .collect();
        let nobody = all.has_no_caller(item.service.as_str(), item.port);
        let unseen = all.may_be_called_unseen(item.service.as_str(), item.port);
        if callers.is_empty() {
            let mut proof = proof::unknown(format!("{here}, and no connected proxy of this zone"), 0, now);
            if !nobody {
                self.quiet.remove(&service);
            } else if self.is_quiet(service) {
                // As where proxies may call it and, as the control plane computes it for them, do not.
                proof.evidence = Evidence::Acknowledged;
            }
            return proof;
        }
        self.quiet.remove(&service);
        // Which are looked at must not depend on how they are listed, and differs from change to change.
        callers.sort_by_cached_key(|d| {
            let mut hash = blake3::Hasher::new();
            hash.update(&item.digest.0).update(d.name.as_bytes());
            *hash.finalize().as_bytes()
        });
        let Some(change) = self.changes.get_mut(&item.split) else {
            return proof::unknown(here, number(callers.len()), now);
        };
        // A pod that is gone proves nothing.
        let before = change.sampled.len();
        change
            .sampled
            .retain(|name, _| callers.iter().any(|d| d.name == *name));
        if change.sampled.is_empty() && before > 0 {
            change.begin_anew();
            change.acknowledged = None;
        }
        // What a proxy rejected may be what is to be proven, and then it runs on with what it had: until it was read itself,
        // others do not speak for it.
        let doubts: BTreeMap<&str, String> = callers
            .iter()
            .filter(|d| !change.strangers.contains(&d.name))
            .filter_map(|d| Some((d.name.as_str(), d.rejected_since(change.rejected.get(&d.name))?)))
            .collect();
        let doubted = doubts
            .keys()
            .filter(|name| change.sampled.contains_key(**name))
            .count();
        if doubted > 0 {
            change
                .sampled
                .retain(|name, _| !doubts.contains_key(name.as_str()));
            change.calls = change.calls.saturating_sub(number(doubted));
        }
        if doubted > 0 || (!doubts.is_empty() && change.is_settled()) {
            change.acknowledged = None;
        }
        let (acknowledged, computed) = match &change.acknowledged {
            Some((at, proof)) if at.elapsed() < if patient { SETTLED } else { FRESH } => {
                (proof.clone(), Vec::new())
            }
            _ => {
                // Those that are in doubt first: they are to be looked at, whatever else is not.
                let mut order: Vec<&Dataplane> = callers.iter().collect();
                order.sort_by_key(|d| !doubts.contains_key(d.name.as_str()));
                let found = acknowledge(rest, item, services, &order, change.written, &doubts, now).await;
                // The ground moved: what was read from a proxy while the control plane still computed the plan says
                // nothing of what it sends now.
                if found.moved {
                    change.begin_anew();
                }
                change.acknowledged = Some((Instant::now(), found.proof.clone()));
                change.strangers = found.strangers;
                (found.proof, found.computed)
            }
        };
        let most = self.per_change.saturating_add(number(doubts.len()));
        if let Some(next) = change.next_sample(&computed, item, most, now) {
            match self.budget.take(now) {
                Ok(()) => {
                    change.sample(rest, item, services, &next, now).await;
                    if change
                        .sampled
                        .get(&next)
                        .is_some_and(|reading| is_right(item, reading))
                        && let Some(dataplane) = callers.iter().find(|d| d.name == next)
                    {
                        change.rejected.insert(next, dataplane.rejections());
                    }
                }
                Err(why) => tracing::debug!(split = %item.split, why, "not sampled"),
            }
        }
        if change.sampled.is_empty() {
            return only_if_seen(acknowledged, unseen);
        }
        let round = Round {
            seen: change
                .sampled
                .iter()
                .map(|(n, r)| (n.clone(), r.clone()))
                .collect(),
            mute: Vec::new(),
            elsewhere: number(callers.len().saturating_sub(change.sampled.len())),
        };
        let mut proof = round.verdict(item, Evidence::Sampled, change.last_call.unwrap_or(now));
        let open = doubts.into_iter().find(|(name, _)| {
            let read = change.sampled.get(*name);
            !change.strangers.contains(*name) && !read.is_some_and(|reading| is_right(item, reading))
        });
        if let Some((_, why)) = open
            && proof.verdict == Verdict::Exact
        {
            proof.verdict = Verdict::Unknown(why);
            proof.evidence = Evidence::Unknown;
        }
        only_if_seen(proof, unseen)
    }
}

impl Change {
    /// What was sampled says nothing any more; as many may be sampled again as after a change, inside the hourly budget.
    fn begin_anew(&mut self) {
        self.sampled.clear();
        self.calls = 0;
    }

    /// Nothing more will be learned by asking often.
    fn is_settled(&self) -> bool {
        matches!(&self.acknowledged, Some((_, proof)) if proof.verdict == Verdict::Exact)
    }

    /// The next proxy that is worth a call: its computed configuration is right, it was not seen right yet.
    fn next_sample(&self, computed: &[String], item: &Item, most: u32, now: Timestamp) -> Option<String> {
        let early = self.written.is_some_and(|at| now.duration_since(at) < SETTLE);
        let wrong = self.sampled.values().any(|r| !is_right(item, r));
        let soon = self.last_call.is_some_and(|at| now.duration_since(at) < AGAIN);
        if early || self.calls >= most || (wrong && soon) {
            return None;
        }
        computed
            .iter()
            .find(|name| self.sampled.get(*name).is_none_or(|r| !is_right(item, r)))
            .cloned()
    }

    async fn sample(
        &mut self,
        rest: &Rest,
        item: &Item,
        services: &[ServiceFact],
        name: &str,
        now: Timestamp,
    ) {
        self.calls += 1;
        self.last_call = Some(now);
        let path = format!("meshes/{}/dataplanes/{name}/xds", item.mesh);
        let reading = match rest.get(&path).await {
            Ok(Some(dump)) => proof::read(item, &dump, services),
            Ok(None) => return,
            Err(error) => Reading::Unclear(error.to_string()),
        };
        tracing::info!(split = %item.split, dataplane = name, call = self.calls, "sampled through the control plane");
        self.sampled.insert(name.to_owned(), reading);
    }
}

/// Whether a proxy runs the planned weights.
fn is_right(item: &Item, reading: &Reading) -> bool {
    matches!(reading, Reading::Weights(weights) if proof::is_exact(item, weights))
}

/// What was found out without asking a proxy.
struct Acknowledged {
    proof: Proof,
    /// Those whose computed configuration is the planned one.
    computed: Vec<String>,
    /// Those that do not call the service.
    strangers: BTreeSet<String>,
    /// Whether anybody's computed configuration is another than the planned one.
    moved: bool,
}

/// What the control plane computed for the callers, and whether they took something since. `doubts` are those that rejected
/// something since, with why.
async fn acknowledge(
    rest: &Rest,
    item: &Item,
    services: &[ServiceFact],
    callers: &[&Dataplane],
    written: Option<Timestamp>,
    doubts: &BTreeMap<&str, String>,
    now: Timestamp,
) -> Acknowledged {
    // Made first and driven then: a stream that borrows what its closure borrows cannot be sent.
    let asks: Vec<_> = callers
        .iter()
        .take(LOOKED_AT)
        .map(|dataplane| computed_for(rest, item, services, &dataplane.name))
        .collect();
    let answers: Vec<_> = futures::stream::iter(asks).buffered(ABREAST).collect().await;
    let mut computed = Vec::new();
    let mut strangers = BTreeSet::new();
    let mut moved = false;
    let mut taken = 0;
    let mut weights = None;
    let mut obstacle = None;
    for (dataplane, reading) in callers.iter().zip(answers) {
        let why = match reading {
            Ok(Reading::NotCaller) => {
                strangers.insert(dataplane.name.clone());
                continue;
            }
            Ok(Reading::Weights(w)) if proof::is_exact(item, &w) => {
                computed.push(dataplane.name.clone());
                let took = match written {
                    Some(written) => dataplane.took_since(written),
                    None => Err("it is not known when the policy was written".to_owned()),
                };
                match (doubts.get(dataplane.name.as_str()), took) {
                    (Some(why), _) => why.clone(),
                    (None, Err(why)) => why,
                    (None, Ok(())) => {
                        taken += 1;
                        weights.get_or_insert(w);
                        continue;
                    }
                }
            }
            Ok(Reading::Different(what)) => {
                moved = true;
                format!("as the control plane computes it for {}, {what}", dataplane.name)
            }
            Ok(Reading::Weights(_)) => {
                moved = true;
                format!(
                    "the control plane computes other weights than the planned ones for {}",
                    dataplane.name
                )
            }
            Ok(Reading::Unclear(why)) | Err(why) => why,
        };
        obstacle.get_or_insert(why);
    }
    let of = number(callers.len() - strangers.len());
    let proof = match (obstacle, of) {
        (_, 0) => Proof {
            evidence: Evidence::Acknowledged,
            ..proof::unknown("no proxy of this zone calls the service".to_owned(), 0, now)
        },
        (Some(why), of) => proof::unknown(why, of, now),
        (None, of) => Proof {
            verdict: Verdict::Exact,
            evidence: Evidence::Acknowledged,
            at: now,
            coverage: Coverage { seen: taken, of },
            weights,
            unhealthy: BTreeSet::new(),
        },
    };
    Acknowledged {
        proof,
        computed,
        strangers,
        moved,
    }
}

/// What the control plane would send to one dataplane, read for one item.
async fn computed_for(
    rest: &Rest,
    item: &Item,
    services: &[ServiceFact],
    name: &str,
) -> Result<Reading, String> {
    let path = format!("meshes/{}/dataplanes/{name}/_config", item.mesh);
    match rest.get(&path).await {
        Ok(Some(config)) => as_dump(&config)
            .map(|dump| proof::read(item, &dump, services))
            .ok_or_else(|| format!("the configuration computed for {name} has no listeners")),
        Ok(None) => Err(format!("{name} is gone")),
        Err(error) => Err(error.to_string()),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
