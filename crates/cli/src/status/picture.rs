//! One look at the coordinator.

use jiff::SignedDuration;
use serde_json::Value;
use weir_wire::api::{CommitList, SplitList, Standing, ZoneList};

use super::{Scope, belief, worst};
use crate::client::Client;
use crate::clock::{Clock, span};
use crate::layout::{clean, short};
use crate::output::Exit;
use crate::trouble::{Kind, Trouble};

/// What one look showed.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// As it is believed.
    pub(super) list: SplitList,
    /// As it came, cut to what is asked for.
    pub(super) value: Value,
    /// When.
    pub(super) clock: Clock,
}

/// Looks.
pub(super) async fn look(client: &Client, scope: &Scope) -> Result<Picture, Trouble> {
    let answer = client.get("v1/splits").await?;
    let mut list: SplitList = answer.read()?;
    belief::believe(&mut list);
    let zones = match scope.zone {
        None => Vec::new(),
        Some(_) => {
            let zones: ZoneList = client.get("v1/zones").await?.read()?;
            zones.zones.into_iter().map(|zone| zone.name).collect()
        }
    };
    scope.cut(&mut list, &zones)?;
    let value = scope.cut_value(answer.value, &list);
    Ok(Picture {
        list,
        value,
        clock: answer.clock,
    })
}

/// Why a commit is not in force yet; none if it is.
pub(super) async fn not_in_force(client: &Client, commit: &str) -> Result<Option<String>, Trouble> {
    let known: CommitList = client.get("v1/commits").await?.read()?;
    let in_force = |source: &weir_wire::api::SourceStatus| {
        source
            .in_force
            .as_deref()
            .is_some_and(|is| is.starts_with(commit))
    };
    if known.sources.iter().any(in_force) {
        return Ok(None);
    }
    let seen = known.commits.iter().find(|seen| seen.commit.starts_with(commit));
    match seen {
        None => Ok(Some(format!("commit {} has not been seen yet", short(commit)))),
        Some(seen) if seen.verdict == "refused" => Err(Trouble::new(
            Kind::Refused,
            format!("commit {} is refused, nothing of it is in force", short(commit)),
            "`weir history` shows what is wrong with it",
        )),
        Some(_) => Ok(Some(format!(
            "commit {} was seen, but is not what is in force",
            short(commit)
        ))),
    }
}

/// Which zones do not run all of the plan in force, though every split that there still is stands well, and how a command ends
/// that goes by that; none if all do.
pub(super) async fn left_in_zones(
    client: &Client,
    scope: &Scope,
    picture: &Picture,
) -> Result<Option<(String, Exit)>, Trouble> {
    let list: ZoneList = client.get("v1/zones").await?.read()?;
    let in_scope = |name: &String| scope.zone.as_ref().is_none_or(|zone| zone == name);
    let open: Vec<_> = list
        .zones
        .iter()
        .filter(|zone| in_scope(&zone.name) && scope.split.is_none())
        // Where no agent was ever heard nothing of ours runs; a zone that is declared no more is told nothing.
        .filter(|zone| !zone.agents.is_empty() && !zone.kuma_zone.is_empty())
        // Nobody waits for one that is detached, as long as nobody asks for it by name.
        .filter(|zone| zone.detached.is_none() || scope.zone.is_some())
        .filter(|zone| zone.standing > Standing::Idle || zone.generation < picture.list.generation)
        .collect();
    let words: Vec<String> = open
        .iter()
        .map(|zone| match &zone.reason {
            Some(why) if zone.standing > Standing::Idle => {
                format!("{} {}: {}", zone.name, super::word(zone.standing), clean(why))
            }
            _ if zone.standing <= Standing::Idle => format!(
                "{} holds generation {}, not {}",
                zone.name, zone.generation, picture.list.generation
            ),
            _ => format!("{} {}", zone.name, super::word(zone.standing)),
        })
        .collect();
    let silent = |standing: Standing| matches!(standing, Standing::Stale | Standing::Unknown);
    let exit = match open.iter().any(|zone| silent(zone.standing)) {
        true => Exit::Unknown,
        false => Exit::Differs,
    };
    Ok((!open.is_empty()).then(|| (words.join("; "), exit)))
}

impl Picture {
    /// How a command ends that shows this.
    pub(super) fn exit(&self) -> Exit {
        let worst = worst(self.list.splits.iter().map(|split| split.standing));
        match worst {
            _ if self.list.generation == 0 => Exit::Unknown,
            Some(Standing::Stale | Standing::Unknown) => Exit::Unknown,
            // What is proven is what runs, and not that anybody answers.
            Some(Standing::Converged) | None if self.list.notice.is_none() && !self.fails() => Exit::Fine,
            _ => Exit::Differs,
        }
    }

    /// Whether a backend is down and keeps its share.
    fn fails(&self) -> bool {
        let mut zones = self.list.splits.iter().flat_map(|split| &split.zones);
        zones.any(|zone| !zone.failing.is_empty())
    }

    /// The same, after a silence: nothing of it is known any more.
    pub(super) fn aged(&self, why: &str, silence: SignedDuration) -> Self {
        let mut aged = self.clone();
        if let Ok(now) = self.clock.now.checked_add(silence) {
            aged.clock.now = now;
        }
        let told = format!("{why}; what is shown is {} old", span(silence));
        aged.list.notice = Some(told);
        for split in &mut aged.list.splits {
            split.standing = split.standing.max(Standing::Stale);
            for zone in &mut split.zones {
                zone.standing = zone.standing.max(Standing::Stale);
            }
        }
        aged
    }
}
