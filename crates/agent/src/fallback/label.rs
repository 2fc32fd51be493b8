//! What an agent says to the others of its zone, on the policy that all of them drive.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weir_model::BackendName;
use weir_planner::{Generation, Item};
use weir_render::{FALLEN, Object};

use super::MOST;
use crate::decide::SPLIT;
use crate::take::Memory;

/// Hexadecimal digits of a backend's name on a label.
const DIGITS: usize = 6;
/// A word from so far ahead of our clock is nobody's. Clocks may be apart by less: who speaks next speaks later than what he
/// heard, so the order of words does not hang on them.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 365);

/// The label of a split's objects; none if nothing of it was ever down.
fn label(item: &Item, memory: &Memory) -> Option<String> {
    let fallen = memory.fallen.get(&item.split)?;
    if item.fallback.is_empty() {
        return None;
    }
    let pairs: Vec<String> = fallen
        .down
        .iter()
        .take(MOST)
        .map(|(name, down)| format!("{}{}", short(name), short(&down.to)))
        .collect();
    let pairs = if pairs.is_empty() {
        "up".to_owned()
    } else {
        pairs.join("-")
    };
    Some(format!("{pairs}.{}", fallen.at.as_millisecond().max(0)))
}

/// Puts it on objects.
pub(crate) fn mark(objects: &mut [Object], item: &Item, memory: &Memory) {
    if let Some(label) = label(item, memory) {
        for object in objects {
            object.labels.insert(FALLEN.to_owned(), label.clone());
        }
    }
}

fn short(name: &BackendName) -> String {
    let mut hex = blake3::hash(name.as_str().as_bytes()).to_hex().to_string();
    hex.truncate(DIGITS);
    hex
}

/// What a label says: when, and who has whose share, by name.
pub(super) struct Word {
    pub(super) at: Timestamp,
    pub(super) away: Vec<(BackendName, BackendName)>,
}

fn is_of(item: &Item, object: &Object) -> bool {
    object.labels.get(SPLIT).map(String::as_str) == Some(item.split.as_str())
}

/// Whether the split has live objects at all.
pub(super) fn is_there(item: &Item, ours: &[(Object, Generation)]) -> bool {
    ours.iter().any(|(object, _)| is_of(item, object))
}

/// The newest word on the split's live objects.
pub(super) fn word(item: &Item, ours: &[(Object, Generation)], stamp: Timestamp) -> Option<Word> {
    let words = ours
        .iter()
        .filter(|(object, _)| is_of(item, object))
        .filter_map(|(object, _)| read(item, object.labels.get(FALLEN)?));
    words
        .filter(|word| word.at.duration_since(stamp) <= AHEAD)
        .max_by(|one, other| (one.at, &one.away).cmp(&(other.at, &other.away)))
}

fn read(item: &Item, label: &str) -> Option<Word> {
    let (pairs, at) = label.rsplit_once('.')?;
    let at = Timestamp::from_millisecond(at.parse().ok()?).ok()?;
    let named = |hex: &str| {
        let mut same = item.destinations.keys().filter(|name| short(name) == hex);
        same.next().filter(|_| same.next().is_none()).cloned()
    };
    let away = match pairs {
        "up" => Vec::new(),
        pairs => pairs
            .split('-')
            .map(|pair| {
                let from = pair.get(..DIGITS).and_then(named)?;
                let to = pair.get(DIGITS..).and_then(named)?;
                super::takes_by_table(item, &from, &to).then_some((from, to))
            })
            .collect::<Option<BTreeMap<_, _>>>()?
            .into_iter()
            .collect(),
    };
    Some(Word { at, away })
}
