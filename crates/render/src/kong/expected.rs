//! What is to be read back of a split from a Kong, whichever its channel.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::RouteName;
use weir_planner::Generation;

use crate::kong::targets::{Target, Targets};

/// What a Kong must run for one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The generation of the item.
    pub generation: Generation,
    /// The newest generation of the split that this agent knows: another one than the item's where somebody pinned what is older.
    pub known: Generation,
    /// Which pin its weights are of, if any.
    pub pin: Option<String>,
    /// By route. Empty where the mesh carries the weights: then the document's hash is all the proof that there is.
    pub upstreams: BTreeMap<RouteName, Upstream>,
}

/// An upstream of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in Kong: `weir.<split>.<route>`.
    pub name: String,
    /// Its targets.
    pub targets: Targets,
    /// Targets that Kong is given by a name, and resolves itself: none of ours, but of a controller that puts a Service's name
    /// there. By name and port; the name may be followed by a domain.
    pub names: BTreeMap<(String, u16), Target>,
    /// Whether targets may be there that nobody expects, if they get nothing: a controller lets endpoints drain so.
    pub drains: bool,
}

impl Upstream {
    /// Whether it divides requests among backends: more than one has a weight above 0.
    pub fn divides(&self) -> bool {
        self.backends_with(1) > 1
    }

    /// Whether it has targets of several backends, with weight or without. Of one alone, such as the one Service by which the mesh is
    /// reached, every way to choose a target gives that backend all requests.
    pub fn has_several(&self) -> bool {
        self.backends_with(0) > 1
    }

    /// How many backends have a target of this weight or more.
    fn backends_with(&self, weight: u16) -> usize {
        let targets = self.targets.values().chain(self.names.values());
        let with = targets.filter(|target| target.weight >= weight);
        let backends: BTreeSet<_> = with.map(|target| &target.backend).collect();
        backends.len()
    }
}
