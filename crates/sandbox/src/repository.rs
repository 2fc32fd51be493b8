//! The Git repository of the play: the declaration as a newcomer finds it, commits, and `git revert`.
//!
//! Written with libgit2, so that a machine without `git` can play too.

mod edges;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use git2::{Repository as Git, RepositoryInitOptions, Signature};

pub use edges::{BASE, Channel, Edge};

/// The branch.
pub const BRANCH: &str = "main";
/// The file that people edit, relative to the repository.
pub const SPLIT: &str = "traffic/checkout.yaml";
/// The file with the zones.
const ZONES: &str = "traffic/zones.yaml";

/// Where which backend is, on VMs alone.
pub const BACKENDS: [(&str, &str); 2] = [("vm", "fra"), ("cloud", "ams")];

/// What the zones are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// VMs, all of them.
    Vms,
    /// VMs, and a cluster where the backend `cloud` is.
    VmsAndCluster,
}

impl Ground {
    /// Where which backend is.
    pub fn backends(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Vms => BACKENDS,
            Self::VmsAndCluster => [BACKENDS[0], ("cloud", CLUSTER)],
        }
    }

    fn cloud(self) -> String {
        let (_, zone) = self.backends()[1];
        match self {
            Self::Vms => format!("{{zone: {zone}}}"),
            Self::VmsAndCluster => format!("{{zone: {zone}, namespace: {NAMESPACE}}}"),
        }
    }

    fn platform(self, zone: &str) -> &'static str {
        match self {
            Self::VmsAndCluster if zone == CLUSTER => "eks",
            _ => "vm",
        }
    }
}

/// The zone that is a cluster, where there is one.
pub const CLUSTER: &str = "use1";
/// The namespace of the split service in that zone.
pub const NAMESPACE: &str = "shop";

/// The repository.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
    zones: Vec<String>,
    ground: Ground,
    edges: Vec<Edge>,
}

impl Repository {
    /// Makes one with a first commit: all requests to `vm`.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn create(
        dir: &Path,
        zones: &[String],
        ground: Ground,
        edges: Vec<Edge>,
    ) -> anyhow::Result<(Self, String)> {
        let mut options = RepositoryInitOptions::new();
        options.initial_head(BRANCH).mkpath(true);
        let git = Git::init_opts(dir, &options)
            .with_context(|| format!("cannot make a repository in {}", dir.display()))?;
        // So that `git commit` works here for somebody who never told Git who they are.
        let mut config = git.config()?;
        config.set_str("user.name", "Sandbox")?;
        config.set_str("user.email", "sandbox@example.com")?;
        let here = Self {
            dir: dir.to_path_buf(),
            zones: zones.to_vec(),
            ground,
            edges,
        };
        here.write("traffic/federation.yaml", FEDERATION)?;
        here.write(ZONES, &here.zones_text(None))?;
        for edge in &here.edges {
            if let Some(base) = edge.base() {
                here.write(BASE, &base)?;
            }
        }
        let commit = here.commit(
            &[(SPLIT, &here.split_text(100, 0))],
            "Declare the split: everything to the VMs",
        )?;
        Ok((here, commit))
    }

    /// The split with these weights, as it is written here.
    pub fn split_text(&self, vm: u32, cloud: u32) -> String {
        split_text_on(self.ground, vm, cloud) + &edges::doors(&self.edges)
    }

    /// What its zones are.
    pub fn ground(&self) -> Ground {
        self.ground
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes files and commits everything; the commit's id.
    ///
    /// # Errors
    /// If Git or the disk refuses.
    pub fn commit(&self, files: &[(&str, &str)], message: &str) -> anyhow::Result<String> {
        for (file, text) in files {
            self.write(file, text)?;
        }
        let git = Git::open(&self.dir)?;
        let mut index = git.index()?;
        index.add_all(["traffic"], git2::IndexAddOption::DEFAULT, None)?;
        index.write()?;
        self.record(&git, message)
    }

    /// Removes a file and commits that, with the word that it is meant although it may be the last; the commit's id.
    ///
    /// # Errors
    /// If Git or the disk refuses.
    pub fn remove(&self, file: &str, message: &str) -> anyhow::Result<String> {
        std::fs::remove_file(self.dir.join(file)).with_context(|| format!("cannot remove {file}"))?;
        let git = Git::open(&self.dir)?;
        let mut index = git.index()?;
        index.remove_path(Path::new(file))?;
        index.write()?;
        self.commit(
            &[("traffic/federation.yaml", &format!("{FEDERATION}{MEANT}"))],
            message,
        )
    }

    /// Commits that one zone is in a wave of its own, after all others; the commit's id.
    ///
    /// # Errors
    /// If Git or the disk refuses.
    pub fn follows(&self, zone: &str) -> anyhow::Result<String> {
        let text = self.zones_text(Some(zone));
        self.commit(&[(ZONES, &text)], &format!("Move {zone} after the others"))
    }

    /// The zones, as they are written here; one of them in the second wave, if any shall be.
    fn zones_text(&self, follows: Option<&str>) -> String {
        let zone = |name: &String| {
            let platform = self.ground.platform(name);
            let gateways = edges::declared(&self.edges, name);
            let wave = match follows == Some(name) {
                true => "  wave: 2\n",
                false => "",
            };
            let spec = if gateways.is_empty() && wave.is_empty() {
                format!("spec: {{platform: {platform}}}\n")
            } else {
                format!("spec:\n  platform: {platform}\n{wave}{gateways}")
            };
            format!("apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\n{spec}")
        };
        let all: Vec<String> = self.zones.iter().map(zone).collect();
        format!(
            "# The zones. Each has its own Kuma control plane and its own agent.\n{}",
            all.join("---\n")
        )
    }

    /// `git revert` of the newest commit; the new commit's id.
    ///
    /// # Errors
    /// If Git refuses.
    pub fn revert(&self) -> anyhow::Result<String> {
        let git = Git::open(&self.dir)?;
        let head = git.head()?.peel_to_commit()?;
        let message = String::from_utf8_lossy(head.message_bytes()).into_owned();
        let subject = message.lines().next().unwrap_or_default();
        git.revert(&head, None)?;
        let commit = self.record(
            &git,
            &format!("Revert \"{subject}\"\n\nThis reverts commit {}.", head.id()),
        )?;
        git.cleanup_state()?;
        Ok(commit)
    }

    fn record(&self, git: &Git, message: &str) -> anyhow::Result<String> {
        let tree = git.find_tree(git.index()?.write_tree()?)?;
        let who = Signature::now("Sandbox", "sandbox@example.com")?;
        let parent = match git.head() {
            Ok(head) => Some(head.peel_to_commit()?),
            // The very first commit.
            Err(_) => None,
        };
        let parents: Vec<_> = parent.iter().collect();
        let id = git.commit(Some("HEAD"), &who, &who, message, &tree, &parents)?;
        Ok(id.to_string())
    }
}

const FEDERATION: &str = "\
# The federation: its name stands in every certificate and every plan.
apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: sandbox}
spec:
  mesh: default              # the Kuma mesh whose services are split
";

/// What a commit says that takes the last split away.
const MEANT: &str = "  prune: allow               # one commit may take away all splits
";

/// The split as a newcomer finds it, on VMs.
pub fn split_text(vm: u32, cloud: u32) -> String {
    split_text_on(Ground::Vms, vm, cloud)
}

fn split_text_on(ground: Ground, vm: u32, cloud: u32) -> String {
    let to = ground.cloud();
    format!(
        "\
# How requests to `checkout` are shared out. This is the file to edit: change the weights, commit, and watch.
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {{name: checkout}}
spec:
  service: checkout          # the name that callers use
  port: 8080
  protocol: http
  backends:                  # the service in a zone: there, a Kuma MeshService named `checkout`
    vm: {{zone: fra}}
    cloud: {to}
  routes:
    - name: default          # without a match: it takes every request that no route above it takes
      weights:               # per cent, at most two decimals; the sum is exactly 100
        vm: {vm}
        cloud: {cloud}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_declaration_is_right_and_a_revert_takes_a_commit_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let zones = ["fra", "ams", "par"].map(str::to_owned);
        let (repository, first) =
            Repository::create(dir.path(), &zones, Ground::Vms, Vec::new()).expect("a repository");
        let read = |file: &str| weir_model::SourceFile {
            source: weir_model::SourceName("main".into()),
            path: file.into(),
            bytes: std::fs::read(dir.path().join(file)).expect(file).into(),
        };
        let parsed = weir_model::parse(&["traffic/federation.yaml", "traffic/zones.yaml", SPLIT].map(read));
        assert_eq!(parsed.diagnostics, []);
        assert_eq!(parsed.declaration.splits.len(), 1);

        let second = repository
            .commit(&[(SPLIT, &split_text(0, 100))], "Move")
            .expect("a commit");
        let third = repository.revert().expect("a revert");
        assert!(first != second && second != third);
        assert_eq!(read(SPLIT).bytes, split_text(100, 0).into_bytes().into());
        let git = Git::open(dir.path()).expect("a repository");
        let clean = git.statuses(None).expect("a status");
        assert!(clean.is_empty(), "nothing is left uncommitted");
    }

    #[test]
    fn a_cluster_is_a_zone_like_another_but_for_its_namespace() {
        let dir = tempfile::tempdir().expect("a directory");
        let zones = ["fra", CLUSTER].map(str::to_owned);
        Repository::create(dir.path(), &zones, Ground::VmsAndCluster, Vec::new()).expect("a repository");
        let read = |file: &str| weir_model::SourceFile {
            source: weir_model::SourceName("main".into()),
            path: file.into(),
            bytes: std::fs::read(dir.path().join(file)).expect(file).into(),
        };
        let parsed = weir_model::parse(&["traffic/federation.yaml", "traffic/zones.yaml", SPLIT].map(read));
        assert_eq!(parsed.diagnostics, []);
        assert_eq!(parsed.declaration.zones.len(), 2);
    }

    #[test]
    fn gateways_of_every_channel_are_doors_of_the_split() {
        let dir = tempfile::tempdir().expect("a directory");
        let zones = ["fra", CLUSTER].map(str::to_owned);
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = || [("vm".to_owned(), at(8_081)), ("cloud".to_owned(), at(8_082))].into();
        let edge = |channel, zone: &str| Edge {
            channel,
            zone: zone.to_owned(),
            addresses: addresses(),
            sidecar: None,
        };
        let in_mesh = Edge {
            sidecar: Some(at(33_001)),
            addresses: Default::default(),
            ..edge(Channel::InMesh, "fra")
        };
        let edges = vec![
            edge(Channel::WithoutDatabase, "fra"),
            edge(Channel::WithDatabase, "fra"),
            edge(Channel::Controller, CLUSTER),
            in_mesh,
        ];
        Repository::create(dir.path(), &zones, Ground::VmsAndCluster, edges).expect("a repository");
        let read = |file: &str| weir_model::SourceFile {
            source: weir_model::SourceName("main".into()),
            // As the coordinator reads it, from the source's path on.
            path: file.trim_start_matches("traffic/").into(),
            bytes: std::fs::read(dir.path().join(file)).expect(file).into(),
        };
        let files = ["traffic/federation.yaml", "traffic/zones.yaml", SPLIT, BASE];
        let parsed = weir_model::parse(&files.map(read));
        assert_eq!(parsed.diagnostics, []);
        let split = parsed.declaration.splits.values().next().expect("the split");
        assert_eq!(split.gateways.len(), 4);
    }
}
