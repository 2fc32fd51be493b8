//! A zone's gateway in a line: how it stands by proof, and what was counted there.

use std::collections::BTreeMap;

use weir_wire::api::{DoorCounted, DoorInZone};

use super::text::{percent, word};
use crate::clock::Clock;
use crate::layout::thousands;

/// A gateway in a line: how it stands, what carries the weights, what that rests on.
pub(super) fn door(door: &DoorInZone, clock: Clock) -> String {
    let mut text = format!("gateway {}: {}", door.gateway, word(door.standing));
    match (&door.reason, &door.weights) {
        (Some(why), _) => text.push_str(&format!(": {why}")),
        (None, Some(weights)) => {
            let routes = weights.iter().map(|(route, shares)| {
                let shares: Vec<String> = shares
                    .iter()
                    .map(|(to, share)| format!("{to} {}", percent(*share)))
                    .collect();
                match weights.len() {
                    1 => shares.join(", "),
                    _ => format!("{route} {}", shares.join(", ")),
                }
            });
            text.push_str(&format!(", Kong gives {}", routes.collect::<Vec<_>>().join("; ")));
        }
        (None, None) => text.push_str(", the mesh carries the weights"),
    }
    if door.carries {
        text.push_str(&format!("; {}", of_door(door.counting.as_ref(), clock)));
    }
    let nodes = if door.of == 1 { "node" } else { "nodes" };
    if let Some(at) = &door.proven_at {
        text.push_str(&format!(
            "; {} of {} {nodes} read {}",
            door.seen,
            door.of,
            clock.ago(at)
        ));
    }
    text
}

/// What really left a gateway, or that nobody counts it: what stands before this is by proof alone.
fn of_door(counting: Option<&DoorCounted>, clock: Clock) -> String {
    let Some(counting) = counting else {
        return "requests are not counted there".to_owned();
    };
    let Some(since) = &counting.since else {
        let why = counting.reason.as_deref().unwrap_or("no reason is given");
        return format!("requests are not counted there: {why}");
    };
    let sum = |of: &BTreeMap<String, u64>| of.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
    let total = sum(&counting.counted).saturating_add(counting.unplaced);
    let mut parts: Vec<String> = counting
        .counted
        .iter()
        .map(|(backend, n)| format!("{backend} {}", thousands(*n)))
        .collect();
    if counting.unplaced > 0 {
        parts.push(format!("(unknown) {}", thousands(counting.unplaced)));
    }
    if parts.is_empty() {
        return format!("counted: none in {}", clock.since(since));
    }
    let failed = match sum(&counting.failed) {
        0 => String::new(),
        n => format!(", {} failed", thousands(n)),
    };
    format!(
        "counted: {} of {} in {}{failed}",
        parts.join(", "),
        thousands(total),
        clock.since(since)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_says_whether_it_is_counted() {
        let clock = Clock::of(Some("Tue, 24 Nov 2026 12:00:00 GMT"));
        let of = |counting: Option<DoorCounted>| of_door(counting.as_ref(), clock);
        let counted = |all: &[(&str, u64)], failed: u64, unplaced: u64| DoorCounted {
            counted: all.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            failed: [("vm".to_owned(), failed)].into(),
            unplaced,
            since: Some("2026-11-24T11:58:00Z".to_owned()),
            reason: None,
        };
        let not = |reason: Option<&str>| DoorCounted {
            since: None,
            reason: reason.map(str::to_owned),
            ..counted(&[], 0, 0)
        };
        let lines = [
            of(None),
            of(Some(not(Some(
                "127.0.0.1:8009 cannot be listened at: address in use",
            )))),
            of(Some(not(None))),
            of(Some(counted(&[("cloud", 998), ("vm", 9_002)], 0, 0))),
            of(Some(counted(&[("cloud", 998), ("vm", 9_000)], 7, 2))),
            of(Some(counted(&[], 0, 0))),
            of(Some(counted(&[("cloud", u64::MAX), ("vm", u64::MAX)], 0, 1))),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        requests are not counted there
        requests are not counted there: 127.0.0.1:8009 cannot be listened at: address in use
        requests are not counted there: no reason is given
        counted: cloud 998, vm 9,002 of 10,000 in 2 min
        counted: cloud 998, vm 9,000, (unknown) 2 of 10,000 in 2 min, 7 failed
        counted: none in 2 min
        counted: cloud 18,446,744,073,709,551,615, vm 18,446,744,073,709,551,615, (unknown) 1 of 18,446,744,073,709,551,615 in 2 min
        ");
    }
}
