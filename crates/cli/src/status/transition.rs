//! A transition as people read it: where it is, what it waits for, and what happens next.

use weir_planner::Phase;
use weir_wire::api::{SplitStatus, Standing, Transition};

use super::text::paint;
use crate::clock::Clock;
use crate::layout::{Page, Paint, clean, thousands};

/// `shift, bite 1 of 2, wave 1`: what stands beside the split's name.
pub(super) fn position(transition: &Transition) -> String {
    let mut text = transition.phase.word().to_owned();
    if transition.bites > 0 && transition.phase != Phase::Quarantined {
        text.push_str(&match transition.bite {
            0 => ", nothing moved yet".to_owned(),
            bite => format!(", bite {bite} of {}", transition.bites),
        });
    }
    if let Some(wave) = transition.wave {
        text.push_str(&format!(", wave {wave}"));
    }
    text
}

/// `return (next: it rests at vm 100)`, for whoever waits. What it waits for may tell of numbers that change with each look: of
/// that only the zones are said.
pub(super) fn in_a_line(transition: &Transition) -> String {
    let position = position(transition);
    let zones: Option<Vec<&str>> = transition.waits.iter().map(|wait| wait.zone.as_deref()).collect();
    match (zones.unwrap_or_default().as_slice(), transition.next.as_str()) {
        ([], "") => position,
        ([], next) => format!("{position} (next: {})", clean(next)),
        (zones, _) => format!("{position} (waits for {})", clean(&zones.join(", "))),
    }
}

/// All that is known of it, below the split's name.
pub(super) fn draw(page: &mut Page, split: &SplitStatus, clock: Clock) {
    if let Some(reason) = &split.reason {
        let paint = match split.standing {
            Standing::Converged => Paint::Plain,
            standing => paint(standing),
        };
        page.words(2, 4, paint, reason);
    }
    let Some(transition) = &split.transition else {
        return;
    };
    let mut text = format!("transition: {}", transition.phase.word());
    if transition.bites > 0 {
        text.push_str(&format!(", bite {} of {}", transition.bite, transition.bites));
    }
    if let Some(since) = &transition.since {
        text.push_str(&format!(", for {}", clock.since(since)));
    }
    page.words(2, 4, Paint::Bold, &text);
    if let Some(waves) = waves(transition) {
        page.words(4, 2, Paint::Plain, &waves);
    }
    for wait in &transition.waits {
        // What is held says so of the whole already.
        let since = wait
            .since
            .as_ref()
            .filter(|since| transition.since.as_ref() != Some(*since));
        let since = since.map(|since| format!(", for {}", clock.since(since)));
        let since = since.unwrap_or_default();
        let text = match &wait.zone {
            Some(zone) => format!("waits for zone {zone}{since}: {}", wait.why),
            None => format!("waits{since}: {}", wait.why),
        };
        page.words(4, 2, Paint::Yellow, &text);
    }
    let when = match &transition.until {
        Some(until) => format!(" (time alone may change this {})", clock.until(until)),
        None => String::new(),
    };
    page.words(4, 2, Paint::Plain, &format!("next: {}{when}", transition.next));
    if transition.phase != Phase::Quarantined
        && let Some(price) = price(split)
    {
        page.words(4, 2, Paint::Plain, &price);
    }
}

/// What each step costs: the listeners of the zone are replaced, and what is open on them for long is closed.
fn price(split: &SplitStatus) -> Option<String> {
    let what = if split.protocol == "tcp" {
        "connections"
    } else {
        "requests"
    };
    let zones = split.zones.iter();
    let open: Vec<String> = zones
        .filter_map(|zone| Some(format!("{} in {}", thousands(zone.open?), zone.zone)))
        .collect();
    (!open.is_empty()).then(|| {
        format!(
            "price: a step of a zone closes what is still open 30 s later; open now: {} ({what})",
            open.join(", ")
        )
    })
}

/// `waves: 1 moved, 2 moving, 3 to move`, of the bite that was taken last.
fn waves(transition: &Transition) -> Option<String> {
    let waves = &transition.waves;
    if waves.is_empty() {
        return None;
    }
    let last = transition.wave;
    let parts: Vec<String> = waves
        .iter()
        .map(|wave| {
            let stands = match last {
                Some(last) if *wave == last && transition.phase == Phase::Shift => "moving",
                Some(last) if *wave <= last => "moved",
                // all at once, as where no share changes on the way
                None if transition.bite > 0 => "moved",
                _ => "to move",
            };
            format!("{wave} {stands}")
        })
        .collect();
    Some(format!("waves: {}", parts.join(", ")))
}
