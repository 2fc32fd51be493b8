//! The status as people read it: beside each share what it rests on, below it what was counted.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::BasisPoints;
use weir_planner::Evidence;
use weir_wire::api::{AgentNote, FailingBackend, Percent, SplitInZone, SplitList, SplitStatus, Standing};

use super::transition;
use crate::clock::Clock;
use crate::layout::{COLUMNS, Page, Paint, clean, short, thousands, width};

/// All of it.
pub(super) fn page(list: &SplitList, clock: Clock) -> String {
    let mut page = Page::new();
    if list.generation == 0 {
        if list.notice.is_none() {
            page.words(0, 2, Paint::Bold, "there is no plan yet");
        }
    } else {
        let commits: Vec<String> = list
            .commits
            .iter()
            .map(|(source, commit)| format!("{source} {}", short(commit)))
            .collect();
        let of = if commits.is_empty() { "" } else { ": " };
        let text = format!("generation {}{of}{}", list.generation, commits.join(", "));
        page.words(0, 2, Paint::Bold, &text);
    }
    if let Some(notice) = &list.notice {
        page.words(0, 2, Paint::Red, &format!("! {notice}"));
    }
    for why in &list.frozen {
        page.words(0, 2, Paint::Yellow, why);
    }
    for AgentNote { zone, agent, note } in &list.notes {
        let text = format!("note: zone {zone}, agent {agent}: {note}");
        page.words(0, 2, Paint::Yellow, &text);
    }
    if list.generation > 0 && list.splits.is_empty() {
        page.gap();
        page.words(0, 2, Paint::Plain, "no splits");
    }
    for split in &list.splits {
        page.gap();
        self::split(&mut page, split, clock);
    }
    page.text()
}

/// `checkout: fra converged, ams held`, for whoever waits.
pub(super) fn in_a_line(list: &SplitList) -> String {
    let mut parts = Vec::new();
    for split in &list.splits {
        let open: Vec<String> = split
            .zones
            .iter()
            .filter(|zone| is_waited_for(zone) || !zone.failing.is_empty())
            .map(|zone| match &zone.reason {
                // What was counted of a backend that is down changes with each look.
                _ if !is_waited_for(zone) => {
                    let all: Vec<String> = zone.failing.iter().map(|of| clean(&down(of))).collect();
                    format!("{} {}, but {}", zone.zone, word(zone.standing), all.join(", "))
                }
                // How long it has been silent changes with each look.
                Some(why) if !matches!(zone.standing, Standing::Progressing | Standing::Stale) => {
                    format!("{} {} ({})", zone.zone, word(zone.standing), clean(why))
                }
                _ => format!("{} {}", zone.zone, word(zone.standing)),
            })
            .collect();
        if !open.is_empty() {
            parts.push(format!("{}: {}", split.name, open.join(", ")));
        } else if split.standing != Standing::Converged {
            let why = match (&split.transition, &split.reason) {
                (Some(transition), _) => transition::in_a_line(transition),
                (None, Some(why)) => clean(why),
                (None, None) => word(split.standing).to_owned(),
            };
            parts.push(format!("{}: {why}", split.name));
        }
    }
    match (&list.notice, parts.is_empty()) {
        (Some(notice), true) => clean(notice),
        (None, true) => "there is no plan yet".to_owned(),
        _ => parts.join("; "),
    }
}

/// Whether a split waits for how this zone stands.
fn is_waited_for(zone: &SplitInZone) -> bool {
    zone.detached.is_none() && zone.standing > Standing::Idle
}

/// A standing in a word.
pub(crate) fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Converged => "converged",
        Standing::Idle => "idle",
        Standing::Progressing => "progressing",
        Standing::Held => "held",
        Standing::Overridden => "overridden",
        Standing::Fallback => "fallback",
        Standing::Different => "different",
        Standing::Failed => "failed",
        Standing::Stale => "stale",
        Standing::Unknown => "unknown",
    }
}

/// The same of a zone. What is known of one that is detached is never its whole word: it would be taken for one that is well.
pub(crate) fn stands(standing: Standing, detached: bool) -> String {
    match detached {
        true => format!("detached (last known: {})", word(standing)),
        false => word(standing).to_owned(),
    }
}

/// That nobody waits for a detached zone, with where that is declared.
pub(crate) fn aside(why: &str) -> String {
    format!("nobody waits for this zone: {why}")
}

/// A standing's colour.
pub(crate) fn paint(standing: Standing) -> Paint {
    match standing {
        Standing::Converged => Paint::Green,
        // Neither proven nor wrong.
        Standing::Idle => Paint::Plain,
        Standing::Progressing | Standing::Stale | Standing::Unknown => Paint::Yellow,
        Standing::Held
        | Standing::Overridden
        | Standing::Fallback
        | Standing::Different
        | Standing::Failed => Paint::Red,
    }
}

fn split(page: &mut Page, split: &SplitStatus, clock: Clock) {
    let mut head = format!("{}: {}", split.name, word(split.standing));
    if let Some(transition) = &split.transition {
        head.push_str(&format!(" ({})", transition::position(transition)));
    }
    let down: BTreeSet<String> = split
        .zones
        .iter()
        .flat_map(|zone| &zone.failing)
        .map(down)
        .collect();
    for down in &down {
        head.push_str(&format!("; {down}"));
    }
    let paint = match down.is_empty() {
        true => paint(split.standing),
        false => Paint::Red,
    };
    page.words(0, 2, paint, &head);
    let text = format!(
        "{} service {}:{}; generation {} of commit {}, {}",
        split.protocol,
        split.service,
        split.port,
        split.generation,
        short(&split.commit),
        clock.ago(&split.since),
    );
    page.words(2, 2, Paint::Plain, &text);
    transition::draw(page, split, clock);
    for in_zone in &split.zones {
        page.gap();
        zone(page, split, in_zone, clock);
    }
}

fn zone(page: &mut Page, split: &SplitStatus, zone: &SplitInZone, clock: Clock) {
    // The reason of a zone that stands well is only what is said of its backends below.
    let reason = zone.reason.as_ref();
    let reason = reason.filter(|_| zone.standing != Standing::Converged || zone.failing.is_empty());
    let stands = stands(zone.standing, zone.detached.is_some());
    let head = match reason {
        Some(why) => format!("{}: {stands}: {why}", zone.zone),
        None => format!("{}: {stands}", zone.zone),
    };
    let colour = match (zone.failing.is_empty(), &zone.detached) {
        (false, _) => Paint::Red,
        (true, Some(_)) => Paint::Yellow,
        (true, None) => paint(zone.standing),
    };
    page.words(2, 4, colour, &head);
    if let Some(why) = &zone.detached {
        page.words(4, 2, Paint::Yellow, &aside(why));
    }
    for failing in &zone.failing {
        let text = format!("! {}: {}. {}", down(failing), failing.why, failing.help);
        page.words(4, 2, Paint::Red, &text);
    }
    page.words(4, 2, Paint::Plain, &grounds(split, zone, clock));
    for writer in &zone.second_writers {
        page.words(4, 2, Paint::Yellow, &format!("also writes here: {writer}"));
    }
    for note in &zone.notes {
        page.words(4, 2, Paint::Yellow, &format!("note: {note}"));
    }
    for door in &zone.doors {
        page.words(4, 2, paint(door.standing), &super::door::door(door, clock));
    }
    shares(page, split, zone);
    page.words(4, 2, Paint::Plain, &counted(zone, clock));
}

/// `backend eks is down and keeps its share of 80 %`.
fn down(failing: &FailingBackend) -> String {
    format!(
        "backend {} is down and keeps its share of {}",
        failing.backend,
        percent(failing.share)
    )
}

/// What the shares below rest on: class of evidence, coverage, age.
fn grounds(split: &SplitStatus, zone: &SplitInZone, clock: Clock) -> String {
    let mut text = match zone.evidence {
        Evidence::Live => "evidence live".to_owned(),
        Evidence::Sampled => "evidence sampled".to_owned(),
        Evidence::Acknowledged => "evidence acknowledged (by the control plane alone)".to_owned(),
        Evidence::Unknown => "evidence unknown".to_owned(),
    };
    let proxies = if zone.of == 1 { "proxy" } else { "proxies" };
    text.push_str(&match zone.of {
        0 => ", no proxy known".to_owned(),
        of => format!(", {} of {of} {proxies}", zone.seen),
    });
    text.push_str(&match &zone.proven_at {
        Some(at) => format!(", {}", clock.ago(at)),
        None => ", never read back".to_owned(),
    });
    if zone.standing >= Standing::Stale {
        text.push_str(&match &zone.heard_at {
            Some(at) => format!("; last heard {}", clock.ago(at)),
            None => "; never heard".to_owned(),
        });
    }
    if zone.generation != 0 && zone.generation != split.generation {
        text.push_str(&format!("; drives generation {}", zone.generation));
    }
    text
}

/// One share: a backend of a route.
struct Share<'a> {
    route: &'a str,
    backend: &'a str,
    declared: Option<Percent>,
    /// What the zone is told; an older coordinator does not say it.
    told: Option<Percent>,
    read: Read,
    counted: Option<u64>,
}

/// What was read back for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Unknown,
    Nothing,
    Weight(Percent),
}

/// The name of the rows that count over all routes: an agent cannot tell them apart.
const ALL: &str = "(all routes)";

const NOTHING: Percent = Percent(BasisPoints::ZERO);

fn gather<'a>(split: &'a SplitStatus, zone: &'a SplitInZone) -> Vec<Share<'a>> {
    let read = zone.weights.as_ref();
    let routes: BTreeSet<&str> = split
        .declared
        .keys()
        .chain(zone.told.keys())
        .chain(read.into_iter().flat_map(BTreeMap::keys))
        .map(String::as_str)
        .collect();
    let single = routes.len() == 1;
    let mut shares = Vec::new();
    for route in routes {
        let declared = split.declared.get(route);
        let told = zone.told.get(route);
        let live = read.and_then(|weights| weights.get(route));
        let counted = zone.counted.keys().filter(|_| single);
        let backends: BTreeSet<&str> = declared
            .into_iter()
            .flat_map(BTreeMap::keys)
            .chain(told.into_iter().flat_map(BTreeMap::keys))
            .chain(live.into_iter().flat_map(BTreeMap::keys))
            .chain(counted)
            .map(String::as_str)
            .collect();
        shares.extend(backends.into_iter().map(|backend| {
            Share {
                route,
                backend,
                declared: declared.and_then(|of| of.get(backend)).copied(),
                told: told.and_then(|of| of.get(backend)).copied(),
                read: match (read, live) {
                    (None, _) => Read::Unknown,
                    (Some(_), None) => Read::Nothing,
                    // A backend that a route does not name gets nothing of it.
                    (Some(_), Some(live)) => live
                        .get(backend)
                        .map_or(Read::Weight(NOTHING), |w| Read::Weight(*w)),
                },
                counted: single.then(|| zone.counted.get(backend).copied()).flatten(),
            }
        }));
    }
    if !single {
        shares.extend(zone.counted.iter().map(|(backend, n)| Share {
            route: ALL,
            backend,
            declared: None,
            told: None,
            read: Read::Nothing,
            counted: Some(*n),
        }));
    }
    shares
}

fn shares(page: &mut Page, split: &SplitStatus, zone: &SplitInZone) {
    let shares = gather(split, zone);
    let total: u64 = zone.counted.values().fold(0, |sum, n| sum.saturating_add(*n));
    let counts: Vec<String> = shares
        .iter()
        .map(|share| share.counted.map(thousands).unwrap_or_default())
        .collect();
    let widest = counts.iter().map(|text| width(text)).max().unwrap_or(0).max(7);
    // A split at rest is told what is declared: the column would say everything twice.
    let moving = split.transition.is_some()
        || (!zone.told.is_empty() && shares.iter().any(|share| share.told != share.declared));
    // What follows the names: declared, told, read back, counted and its share.
    let numbers = 2 + 9 + if moving { 2 + 9 } else { 0 } + 2 + 9 + 2 + widest + 2 + 7;
    let room = COLUMNS.saturating_sub(4 + 2 + numbers) / 2;
    let column =
        |names: &mut dyn Iterator<Item = &str>| names.map(width).filter(|w| *w <= room).max().unwrap_or(0);
    let routes = column(&mut shares.iter().map(|share| share.route));
    let backends = column(&mut shares.iter().map(|share| share.backend));
    let line = |names: &str, cells: [&str; 5]| {
        let names = format!("{names:<0$}", 4 + routes + 2 + backends);
        let told = match moving {
            true => format!("  {:>9}", cells[1]),
            false => String::new(),
        };
        format!(
            "{names}  {:>9}{told}  {:>9}  {:>widest$}  {:>7}",
            cells[0], cells[2], cells[3], cells[4]
        )
    };
    let read = if zone.standing >= Standing::Stale {
        "last read"
    } else {
        "read back"
    };
    page.row(Paint::Dim, &line("", ["declared", "told", read, "counted", ""]));
    let mut last = None;
    for (share, count) in shares.iter().zip(&counts) {
        let mut names = String::new();
        if last != Some(share.route) {
            if width(share.route) > routes {
                page.words(4, 2, Paint::Plain, share.route);
            } else {
                names = format!("    {}", clean(share.route));
            }
            last = Some(share.route);
        }
        if width(share.backend) > backends {
            if !names.trim().is_empty() {
                page.row(Paint::Plain, &names);
            }
            page.words(6, 2, Paint::Plain, share.backend);
            names.clear();
        } else {
            names = format!("{names:<0$}  {1}", 4 + routes, clean(share.backend));
        }
        let all = share.route == ALL;
        let named = |weight: Option<Percent>| match weight {
            Some(weight) => percent(weight),
            None if all => String::new(),
            None => "-".to_owned(),
        };
        let read = match share.read {
            Read::Weight(weight) => percent(weight),
            Read::Unknown => "?".to_owned(),
            Read::Nothing if all => String::new(),
            Read::Nothing => "-".to_owned(),
        };
        let part = match share.counted {
            Some(n) if total > 0 => part(n, total),
            _ => String::new(),
        };
        let wanted = match zone.told.is_empty() {
            true => share.declared,
            false => share.told,
        };
        let off = !all && share.read != Read::Unknown && wanted.map(Read::Weight) != Some(share.read);
        let zero = wanted.is_none() && share.read == Read::Weight(NOTHING);
        let paint = if off && !zero { Paint::Red } else { Paint::Plain };
        page.row(
            paint,
            &line(
                &names,
                [&named(share.declared), &named(share.told), &read, count, &part],
            ),
        );
    }
}

pub(super) fn percent(weight: Percent) -> String {
    format!("{} %", weight.0)
}

/// A count's share of all: one decimal, and never rounded to all or nothing.
fn part(n: u64, total: u64) -> String {
    let tenths = (u128::from(n) * 1_000 + u128::from(total) / 2) / u128::from(total);
    match tenths {
        0 if n > 0 => "<0.1 %".to_owned(),
        1_000 if n < total => ">99.9 %".to_owned(),
        _ => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

fn counted(zone: &SplitInZone, clock: Clock) -> String {
    let total: u64 = zone.counted.values().fold(0, |sum, n| sum.saturating_add(*n));
    let Some(since) = &zone.counted_since else {
        return "nothing counted yet".to_owned();
    };
    let failed: Vec<String> = zone
        .failed
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(backend, n)| format!("{} of {backend}", thousands(*n)))
        .collect();
    let failed = match failed.is_empty() {
        true => "none failed".to_owned(),
        false => format!("failed: {}", failed.join(", ")),
    };
    let requests = if total == 1 { "request" } else { "requests" };
    let open = zone.open.map(|open| format!("; {} open now", thousands(open)));
    format!(
        "{} {requests} counted in {}, {failed}{}",
        thousands(total),
        clock.since(since),
        open.unwrap_or_default()
    )
}
