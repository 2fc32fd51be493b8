//! What changes from one plan to the next, in words that fit 80 columns.

use std::collections::BTreeSet;
use std::fmt;

use weir_model::{CommitId, PortName};

use super::{Address, Change, Fate, GatewayChange, ItemChange, PlanDiff, Presence, RouteChange};
use crate::words::{self, Lines};

impl PlanDiff {
    /// What changes that stands in no split, a line each.
    pub(crate) fn whole(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(Change {
            was: Some(was),
            is: Some(is),
        }) = &self.mesh
        {
            lines.push(format!("mesh {was} -> {is}"));
        }
        for (zone, change) in &self.zones {
            lines.push(match (&change.was, &change.is) {
                (Some(was), Some(is)) => format!("zone {zone}: {was} -> {is} in Kuma"),
                (None, _) => format!("zone {zone} added"),
                (_, None) => format!("zone {zone} removed"),
            });
        }
        for (zone, gateways) in &self.gateways {
            lines.extend(gateways.iter().map(|(name, change)| {
                let what = match change {
                    GatewayChange::Added => "added",
                    GatewayChange::Removed => "let go of, what it runs stays",
                    GatewayChange::Base => "its base changes",
                    GatewayChange::Changed => "changes",
                };
                format!("gateway {name} of zone {zone}: {what}")
            }));
        }
        lines
    }

    /// What changes, a line each, without the commits: for lists and histories.
    pub fn sentences(&self) -> Vec<String> {
        let mut lines = self.whole();
        for (split, parts) in &self.splits {
            for part in parts {
                let head = format!("split {split} in {}", words::list(&part.zones));
                lines.extend(
                    part.change
                        .sentences()
                        .into_iter()
                        .map(|what| format!("{head}: {what}")),
                );
            }
        }
        lines
    }
}

impl ItemChange {
    /// What changes, a line each.
    pub fn sentences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.presence {
            Presence::Added => lines.push("added".to_owned()),
            Presence::Removed => {
                return vec!["removed with its policies".to_owned()];
            }
            Presence::Left => return vec!["planned no more, what the agents hold stays".to_owned()],
            Presence::Rewritten => return vec!["written anew, nothing in it changes".to_owned()],
            Presence::Changed => {}
        }
        if let Some(Change { was, is: Some(is) }) = &self.address {
            let text = |at: &Address| {
                format!(
                    "{} port {} ({})",
                    at.service,
                    at.port,
                    words::protocol(at.protocol)
                )
            };
            lines.push(match was {
                None => format!("for {}", text(is)),
                Some(was) => format!("for {} -> {}", text(was), text(is)),
            });
        }
        if let Some(Change { was, is }) = &self.port_names {
            let text = |names: &Option<BTreeSet<PortName>>| {
                let names: Vec<String> = names.iter().flatten().map(ToString::to_string).collect();
                match names.is_empty() {
                    true => "none".to_owned(),
                    false => names.join(", "),
                }
            };
            lines.push(format!("names of the port: {} -> {}", text(was), text(is)));
        }
        for (backend, fate) in &self.destinations {
            lines.push(match fate {
                Fate::Added(at) => format!("backend {backend} added in {}", words::place(at)),
                Fate::Removed(at) => format!("backend {backend} removed from {}", words::place(at)),
                Fate::Retires(at) => {
                    format!(
                        "backend {backend} in {} retires, kept by the anchor",
                        words::place(at)
                    )
                }
                Fate::Released(at) => format!("backend {backend} in {} leaves the anchor", words::place(at)),
            });
        }
        for change in &self.routes {
            lines.push(change.sentence());
        }
        for (gateway, change) in &self.doors {
            lines.push(match (&change.was, &change.is) {
                (None, Some(is)) => format!("door at gateway {gateway} added: {}", words::door(is)),
                (Some(_), Some(is)) => format!("door at gateway {gateway} changes: {}", words::door(is)),
                (_, None) => format!("door at gateway {gateway} removed"),
            });
        }
        if self.reordered {
            lines.push("routes change places".to_owned());
        }
        if lines.is_empty() {
            let what = if self.replaces_listener {
                "moves to another mesh"
            } else {
                "names change, no traffic does"
            };
            lines.push(what.to_owned());
        }
        lines
    }
}

impl RouteChange {
    fn sentence(&self) -> String {
        let name = &self.route;
        let weights: Vec<String> = self
            .weights
            .iter()
            .map(|(backend, change)| match (change.was, change.is) {
                (Some(was), Some(is)) => format!("{backend} {was} -> {is}"),
                (None, Some(is)) => format!("{backend} {is}"),
                (Some(was), None) => format!("{backend} {was} -> none"),
                (None, None) => format!("{backend} none"),
            })
            .collect();
        let weights = weights.join(", ");
        match &self.matches {
            None => format!("route {name}: {weights}"),
            Some(Change { was: _, is: None }) => format!("route {name} removed"),
            Some(Change {
                was: None,
                is: Some(is),
            }) => {
                format!("route {name} added for {}: {weights}", words::matches(is))
            }
            Some(Change {
                was: Some(was),
                is: Some(is),
            }) => {
                let takes = format!(
                    "route {name} takes {} -> {}",
                    words::matches(was),
                    words::matches(is)
                );
                if weights.is_empty() {
                    takes
                } else {
                    format!("{takes}; {weights}")
                }
            }
        }
    }
}

impl fmt::Display for PlanDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines::default();
        lines.put(
            0,
            &match self.from {
                None => format!("generation {}, the first", self.to),
                Some(from) => format!("generation {from} -> {}", self.to),
            },
        );
        for (origin, change) in &self.commits {
            let short = |commit: &Option<CommitId>| match commit {
                None => "none".to_owned(),
                Some(commit) => commit.short().to_owned(),
            };
            lines.put(
                0,
                &format!(
                    "commit of {origin}: {} -> {}",
                    short(&change.was),
                    short(&change.is)
                ),
            );
        }
        for sentence in self.whole() {
            lines.put(0, &sentence);
        }
        for (split, parts) in &self.splits {
            lines.gap();
            for part in parts {
                lines.put(0, &format!("split {split} in {}", words::list(&part.zones)));
                for sentence in part.change.sentences() {
                    lines.put(2, &sentence);
                }
            }
        }
        if self.is_empty() {
            lines.put(0, "nothing changes in any zone");
        }
        f.write_str(&lines.text())
    }
}
