//! The repository: what each commit declares, as the files that the coordinator reads.

use std::fmt::Write as _;

use weir_coordinator::git::{Content, Head, Signature};
use weir_model::{CommitId, SourceFile, SourceName};

use super::*;

#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) tree: Tree,
    pub(crate) head: Arc<Head>,
    pub(crate) parent: Option<usize>,
}

/// The repository: all commits that ever were, and where the branch is.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) commits: Vec<Commit>,
    pub(crate) branch: usize,
    pub(crate) zones: usize,
    /// The zones that have a gateway, and how that is configured.
    pub(crate) gates: BTreeMap<Place, Kind>,
}

fn text(tree: &Tree, zones: usize, gates: &BTreeMap<Place, Kind>) -> String {
    let mut text = String::from(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec:\n  transition: {verify: {requests: 5, within: 3s}}\n",
    );
    for (place, zone) in ZONES.iter().enumerate().take(zones) {
        let wave = tree.wave(place);
        let detached = if tree.detached == Some(place) {
            ", state: detached"
        } else {
            ""
        };
        let gate = gates.get(&place).map(|kind| kind.text()).unwrap_or_default();
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {zone}}}\nspec: {{platform: vm, wave: {wave}{detached}{gate}}}\n"
        );
    }
    for (split, declared) in &tree.splits {
        let name = SPLITS[*split];
        let (most, bake) = declared.steps;
        let verify = if declared.latency {
            ", verify: {latency: 250ms}"
        } else {
            ""
        };
        let backends: Vec<String> = declared
            .backends
            .iter()
            .map(|place| {
                let most = declared.capacity.get(place);
                let most = most.map_or_else(String::new, |most| {
                    format!(", capacity: {}.{:02}", most / 100, most % 100)
                });
                format!("{}: {{zone: {}{most}}}", BACKENDS[*place], ZONES[*place])
            })
            .collect();
        let freeze = if declared.frozen { "  freeze: true\n" } else { "" };
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: {name}}}\nspec:\n{freeze}  service: {name}\n  port: \
             8080\n  protocol: {}\n  backends: {{{}}}\n  transition: {{maxStep: {most}, bake: {bake}s{verify}}}\n{}{}  routes:\n",
            declared.protocol,
            backends.join(", "),
            outlet::text(declared),
            if gates.is_empty() {
                String::new()
            } else {
                gateway::doors(*split, declared)
            }
        );
        let last = declared.routes.len() - 1;
        for (number, route) in declared.routes.iter().enumerate() {
            let weights: Vec<String> = route
                .iter()
                .map(|(place, weight)| format!("{}: {}.{:02}", BACKENDS[*place], weight / 100, weight % 100))
                .collect();
            let matches = if number == last {
                ""
            } else {
                "match: {headers: [{name: x-beta, exact: \"true\"}]}, "
            };
            let name = if number == last { "default" } else { "beta" };
            let _ = writeln!(
                text,
                "    - {{name: {name}, {matches}weights: {{{}}}}}",
                weights.join(", ")
            );
        }
    }
    if tree.broken {
        text.push_str("---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: oops\n");
    }
    text
}

impl Repository {
    pub(crate) fn new(first: Tree, zones: usize, gates: BTreeMap<Place, Kind>) -> Self {
        let mut repository = Self {
            commits: Vec::new(),
            branch: 0,
            zones,
            gates,
        };
        repository.commit(first, None, "the first", 0);
        repository
    }

    /// Commits on top of the branch.
    pub(crate) fn commit(&mut self, tree: Tree, parent: Option<usize>, subject: &str, now: Ms) -> usize {
        let bytes = text(&tree, self.zones, &self.gates).into_bytes();
        let of_tree = blake3::hash(&bytes).to_hex();
        let number = self.commits.len();
        let id = blake3::hash(format!("{number} {of_tree}").as_bytes()).to_hex();
        let head = Head {
            commit: CommitId(id[..40].to_owned()),
            author: "Ada <ada@example.com>".to_owned(),
            committer: "Ada <ada@example.com>".to_owned(),
            signature: Signature::Absent,
            authored_at: stamp(now),
            subject: subject.to_owned(),
            content: Content::Files(self.files(bytes)),
            tree: Some(of_tree[..40].to_owned()),
        };
        self.commits.push(Commit {
            tree,
            head: Arc::new(head),
            parent,
        });
        self.branch = number;
        number
    }

    fn files(&self, bytes: Vec<u8>) -> Arc<[SourceFile]> {
        let file = |path: &str, bytes: Vec<u8>| SourceFile {
            source: SourceName("main".to_owned()),
            path: path.to_owned(),
            bytes: bytes.into(),
        };
        // One that nobody names would be a file with a declaration that is none.
        let named = self.gates.values().any(|kind| kind.base);
        let base = named.then(|| file("edge.yaml", gateway::BASE.as_bytes().to_vec()));
        [file("all.yaml", bytes)].into_iter().chain(base).collect()
    }

    pub(crate) fn newest(&self) -> Arc<Head> {
        Arc::clone(&self.commits[self.branch].head)
    }

    pub(crate) fn head_of(&self, id: &CommitId) -> Option<Arc<Head>> {
        let found = self.commits.iter().find(|commit| commit.head.commit == *id);
        found.map(|commit| Arc::clone(&commit.head))
    }

    pub(crate) fn tree_of(&self, id: &CommitId) -> Option<&Tree> {
        let found = self.commits.iter().find(|commit| commit.head.commit == *id);
        found.map(|commit| &commit.tree)
    }
}
