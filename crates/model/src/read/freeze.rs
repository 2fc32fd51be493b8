//! When nothing shifts, as it is written: `freeze`, its windows, their days, times and time zones.
//!
//! Changed together with the table in `shape.rs`.

use std::collections::BTreeSet;

use super::heading;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::freeze::{Day, Freeze, TimeOfDay, Window, WindowZone};
use crate::limits;
use crate::nearest::nearest;
use crate::reader::{At, Reader, shown};
use crate::shape;
use crate::yaml::{Entry, Node, Scalar, Value};

/// Reads a `freeze`; `None` when a part of it could not be read.
pub(super) fn freeze(reader: &mut Reader<'_>, entry: &Entry) -> Option<Freeze> {
    if let Value::Scalar { .. } | Value::Sequence(_) = &entry.value.value {
        return match entry.value.scalar() {
            Some(Scalar::Bool(true)) => Some(Freeze::Always),
            Some(Scalar::Bool(false)) => Some(Freeze::Never),
            _ => {
                let help = "write `true`, `false`, or `{windows: [{from: \"22:00\", to: \"06:00\"}]}`";
                reader.wrong_type(&entry.value, "`freeze`", "true, false or windows", help);
                None
            }
        };
    }
    let fields = reader.fields(&entry.value, &shape::FREEZE, &entry.key_span)?;
    let entry = fields.get("windows")?;
    let items = reader.list(&entry.value, "`windows`", limits::WINDOWS)?;
    if items.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            "a freeze by windows needs at least one",
            "no window here",
            "add one, or write `freeze: false`",
        );
        return None;
    }
    let mut sound = true;
    let mut windows = Vec::new();
    for item in items {
        match window(reader, item) {
            Some(window) => windows.push(window),
            None => sound = false,
        }
    }
    sound.then_some(Freeze::Windows(windows))
}

fn window(reader: &mut Reader<'_>, node: &Node) -> Option<Window> {
    let fields = reader.fields(node, &shape::WINDOW, &heading(node))?;
    let days = match fields.get("days") {
        None => Some(Day::ALL.into()),
        Some(entry) => days(reader, entry),
    };
    let from = fields
        .get("from")
        .and_then(|entry| time(reader, &entry.value, "`from`"));
    let to = fields
        .get("to")
        .and_then(|entry| time(reader, &entry.value, "`to`"));
    let time_zone = match fields.get("timeZone") {
        None => Some(WindowZone::UTC),
        Some(entry) => time_zone(reader, &entry.value),
    };
    let (from, to) = (from?, to?);
    if from.value == to.value || from.value == TimeOfDay::END {
        let (message, help) = if from.value == TimeOfDay::END {
            ("a window cannot begin at 24:00", "write 00:00, on the next day")
        } else {
            (
                "this window begins when it ends",
                "give it a length; a whole day is from \"00:00\" to \"24:00\"",
            )
        };
        reader.diagnostics.push(
            Diagnostic::error(codes::BAD_WINDOW, message, from.place.label("begins here"))
                .also(to.place.label("ends here"))
                .help(help),
        );
        return None;
    }
    Some(Window {
        days: days?,
        from: from.value,
        to: to.value,
        time_zone: time_zone?,
    })
}

fn days(reader: &mut Reader<'_>, entry: &Entry) -> Option<BTreeSet<Day>> {
    let items = reader.list(&entry.value, "`days`", Day::ALL.len())?;
    if items.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            "a window on no day is none",
            "no day here",
            "name the days on which it begins, or leave `days` out for all of them",
        );
        return None;
    }
    let mut sound = true;
    let mut days = BTreeSet::new();
    for item in items {
        let Some(text) = reader.text(item, "a day") else {
            sound = false;
            continue;
        };
        let known = Day::ALL.map(Day::as_str);
        let (message, label, help) = match Day::ALL.into_iter().find(|day| day.as_str() == text) {
            Some(day) if days.insert(day) => continue,
            Some(day) => (
                format!("the day `{day}` stands twice"),
                "again here",
                "remove one of the two".to_owned(),
            ),
            None => (
                format!("there is no day `{}`", shown(text)),
                "not a day",
                match Day::ALL
                    .iter()
                    .find(|day| text.to_ascii_lowercase().starts_with(day.as_str()))
                {
                    Some(day) => format!("did you mean `{day}`? The days are: {}", known.join(", ")),
                    None => format!("the days are: {}", known.join(", ")),
                },
            ),
        };
        sound = false;
        reader.error(codes::BAD_WINDOW, &item.span, message, label, help);
    }
    sound.then_some(days)
}

fn time(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<At<TimeOfDay>> {
    let text = reader.text(node, what)?;
    if let Some(time) = TimeOfDay::read(text) {
        return Some(reader.at(time, &node.span));
    }
    reader.error(
        codes::BAD_WINDOW,
        &node.span,
        format!("{what} is a time of day, and `{}` is none", shown(text)),
        "not a time of day",
        "write two digits for the hour and two for the minute: \"06:00\", \"22:30\"; the end of the day is \"24:00\"",
    );
    None
}

fn time_zone(reader: &mut Reader<'_>, node: &Node) -> Option<WindowZone> {
    let text = reader.text(node, "`timeZone`")?;
    if let Some(zone) = WindowZone::named(text) {
        return Some(zone);
    }
    let known = WindowZone::names();
    // A place without its region, or a slip within a region: all names together are too many to compare with.
    let meant = match text.split_once('/') {
        None => known.iter().find(|name| {
            let place = name.rsplit('/').next();
            place.is_some_and(|place| place.eq_ignore_ascii_case(text))
        }),
        Some((region, _)) => {
            let within = |name: &&String| {
                let theirs = name.split_once('/');
                theirs.is_some_and(|(theirs, _)| theirs.eq_ignore_ascii_case(region))
            };
            let near = nearest(text, known.iter().filter(within).map(String::as_str));
            near.and_then(|near| known.iter().find(|name| *name == near))
        }
    };
    let help = match meant {
        Some(name) => format!("did you mean `{name}`?"),
        None => "write the IANA name of a place in it, such as Europe/Berlin, or UTC".to_owned(),
    };
    reader.error(
        codes::UNKNOWN_TIME_ZONE,
        &node.span,
        format!("there is no time zone `{}`", shown(text)),
        "not a time zone",
        help,
    );
    None
}
