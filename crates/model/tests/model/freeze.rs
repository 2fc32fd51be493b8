//! When a freeze holds and when it next opens: midnight, summer time, several windows, and a comparison with the clock
//! on the wall.

use std::collections::BTreeSet;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, civil};
use proptest::prelude::*;
use weir_model::{Day, Freeze, Frozen, TimeOfDay, Window, WindowZone};

fn time(text: &str) -> TimeOfDay {
    let (hour, minute) = text.split_once(':').unwrap();
    TimeOfDay::from_minutes(hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()).unwrap()
}

fn window(days: &[Day], from: &str, to: &str, zone: &str) -> Window {
    Window {
        days: days.iter().copied().collect(),
        from: time(from),
        to: time(to),
        time_zone: WindowZone::named(zone).unwrap(),
    }
}

fn at(freeze: &Freeze, now: &str) -> String {
    match freeze.at(now.parse().unwrap()) {
        Frozen::No => "no".to_owned(),
        Frozen::Until(opening) => opening.to_string(),
        Frozen::Indefinitely => "indefinitely".to_owned(),
    }
}

fn windows(windows: &[Window]) -> Freeze {
    Freeze::Windows(windows.to_vec())
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    // 2026-03-06 is a Friday.
    let freeze = windows(&[window(&[Day::Fri], "22:00", "06:00", "UTC")]);
    for (now, expected) in [
        ("2026-03-06T21:59:59.999999999Z", "no"),
        ("2026-03-06T22:00:00Z", "2026-03-07T06:00:00Z"),
        ("2026-03-07T05:59:59.999999999Z", "2026-03-07T06:00:00Z"),
        ("2026-03-07T06:00:00Z", "no"),
        ("2026-03-06T03:00:00Z", "no"),
        ("2026-03-07T23:00:00Z", "no"),
    ] {
        assert_eq!(at(&freeze, now), expected, "{now}");
    }
    let day = windows(&[window(&[Day::Fri], "00:00", "24:00", "UTC")]);
    assert_eq!(at(&day, "2026-03-05T23:59:59Z"), "no");
    assert_eq!(at(&day, "2026-03-06T00:00:00Z"), "2026-03-07T00:00:00Z");
    assert_eq!(at(&day, "2026-03-07T00:00:00Z"), "no");
    assert_eq!(at(&Freeze::Never, "2026-03-06T22:00:00Z"), "no");
    assert_eq!(at(&Freeze::Always, "2026-03-06T22:00:00Z"), "indefinitely");
}

/// In Berlin the clock goes from 02:00 to 03:00 on 2026-03-29 (01:00 UTC) and from 03:00 back to 02:00 on 2026-10-25
/// (01:00 UTC). An hour that is there twice is frozen twice; one that is not there opens or ends where it would be.
#[test]
fn summer_time_comes_and_goes() {
    let berlin = |from: &str, to: &str| windows(&[window(&Day::ALL, from, to, "Europe/Berlin")]);
    for (from, to, now, expected) in [
        // As long as the night is.
        ("22:00", "06:00", "2026-01-10T22:00:00Z", "2026-01-11T05:00:00Z"),
        ("22:00", "06:00", "2026-07-10T21:00:00Z", "2026-07-11T04:00:00Z"),
        ("22:00", "06:00", "2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"),
        ("22:00", "06:00", "2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"),
        // Ends in the hour that is not there.
        ("01:00", "02:30", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
        ("01:00", "02:30", "2026-03-29T01:00:00Z", "no"),
        // Begins in it.
        ("02:30", "05:00", "2026-03-29T00:59:59Z", "no"),
        ("02:30", "05:00", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z"),
        // Lies in it.
        ("02:10", "02:50", "2026-03-29T01:00:00Z", "no"),
        // Ends in the hour that is there twice: the second time.
        ("01:00", "02:30", "2026-10-25T00:15:00Z", "2026-10-25T01:30:00Z"),
        ("01:00", "02:30", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"),
        ("01:00", "02:30", "2026-10-25T01:30:00Z", "no"),
        // Begins in it: the first time.
        ("02:30", "05:00", "2026-10-25T00:29:59Z", "no"),
        ("02:30", "05:00", "2026-10-25T00:30:00Z", "2026-10-25T04:00:00Z"),
    ] {
        assert_eq!(at(&berlin(from, to), now), expected, "{from} to {to} at {now}");
    }
    // In St. John's Sunday, 2010-11-07, began for one minute, was Saturday for another hour, and began again (02:31 UTC).
    let sunday = windows(&[window(&[Day::Sun], "00:00", "06:00", "America/St_Johns")]);
    assert_eq!(at(&sunday, "2010-11-07T02:29:59Z"), "no");
    assert_eq!(at(&sunday, "2010-11-07T02:30:00Z"), "2010-11-07T09:30:00Z");
    assert_eq!(at(&sunday, "2010-11-07T03:00:00Z"), "2010-11-07T09:30:00Z");
}

/// The next opening is when none covers, and it is looked for beyond the window that covers now.
#[test]
fn windows_that_touch_or_overlap_are_one() {
    let freeze = windows(&[
        window(&[Day::Mon], "08:00", "12:00", "UTC"),
        window(&[Day::Mon], "12:00", "14:00", "UTC"),
        window(&[Day::Mon], "13:00", "18:00", "UTC"),
        window(&[Day::Mon], "18:01", "19:00", "UTC"),
    ]);
    // 2026-03-02 is a Monday.
    assert_eq!(at(&freeze, "2026-03-02T08:00:00Z"), "2026-03-02T18:00:00Z");
    assert_eq!(at(&freeze, "2026-03-02T18:00:00Z"), "no");
    assert_eq!(at(&freeze, "2026-03-02T18:01:00Z"), "2026-03-02T19:00:00Z");
    // Several freezes together open when none of them holds.
    let one = windows(&[window(&Day::ALL, "00:00", "10:00", "UTC")]);
    let two = windows(&[window(&Day::ALL, "09:00", "20:00", "UTC")]);
    let now: Timestamp = "2026-03-02T05:00:00Z".parse().unwrap();
    assert_eq!(
        Freeze::any_at([&one, &Freeze::Never, &two], now),
        Frozen::Until("2026-03-02T20:00:00Z".parse().unwrap())
    );
    assert_eq!(Freeze::any_at([&one, &Freeze::Always], now), Frozen::Indefinitely);
    assert_eq!(Freeze::any_at([], now), Frozen::No);
}

#[test]
fn windows_that_cover_the_whole_week_never_open() {
    let halves = |zone: &str| {
        windows(&[
            window(&Day::ALL, "06:00", "18:00", zone),
            window(&Day::ALL, "18:00", "06:00", zone),
        ])
    };
    let whole = windows(&[window(&Day::ALL, "00:00", "24:00", "America/New_York")]);
    for freeze in [halves("UTC"), halves("Europe/Berlin"), whole] {
        assert_eq!(at(&freeze, "2026-02-01T12:00:00Z"), "indefinitely", "{freeze:?}");
    }
    let but_an_hour = windows(&[
        window(&Day::ALL[..6], "00:00", "24:00", "UTC"),
        window(&[Day::Sun], "00:00", "23:00", "UTC"),
    ]);
    // 2026-02-08 is a Sunday.
    assert_eq!(at(&but_an_hour, "2026-02-02T00:00:00Z"), "2026-02-08T23:00:00Z");
    // Two time zones that close the day between them in winter alone: open from the first day of summer time on.
    let winter = windows(&[
        window(&Day::ALL, "00:00", "12:00", "UTC"),
        window(&Day::ALL, "13:00", "01:00", "Europe/Berlin"),
    ]);
    assert_eq!(at(&winter, "2026-01-15T00:00:00Z"), "2026-03-29T23:00:00Z");
}

/// No moment that a clock can show makes it panic or run for ever.
#[test]
fn the_ends_of_time_have_an_answer() {
    let freeze = windows(&[window(&Day::ALL, "00:00", "24:00", "Pacific/Apia")]);
    freeze.at(Timestamp::MIN);
    freeze.at(Timestamp::MAX);
    // Apia had no 30 December 2011.
    assert_eq!(at(&freeze, "2011-12-29T12:00:00Z"), "indefinitely");
}

#[test]
fn time_zones_are_those_compiled_in() {
    assert_eq!(
        WindowZone::named("europe/berlin").unwrap().name(),
        "Europe/Berlin"
    );
    assert_eq!(WindowZone::named("UTC").unwrap(), WindowZone::UTC);
    for unknown in [
        "",
        "Europe/Berlim",
        "Etc/Unknown",
        "../../etc/passwd",
        "CET-1CEST",
        "\0",
    ] {
        assert_eq!(WindowZone::named(unknown), None, "{unknown}");
    }
}

const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
];

fn any_window() -> impl Strategy<Value = Window> {
    let days = prop::collection::btree_set(prop::sample::select(&Day::ALL[..]), 1..=7);
    (days, 0..1440_u16, 0..=1440_u16, prop::sample::select(&ZONES[..]))
        .prop_filter("a length", |(_, from, to, _)| from != to)
        .prop_map(|(days, from, to, zone)| Window {
            days,
            from: TimeOfDay::from_minutes(from).unwrap(),
            to: TimeOfDay::from_minutes(to).unwrap(),
            time_zone: WindowZone::named(zone).unwrap(),
        })
}

/// Whether the clock on the wall is inside the window.
fn on_the_wall(window: &Window, zone: &TimeZone, now: Timestamp) -> bool {
    let shown = zone.to_datetime(now);
    let minutes = u16::from(shown.hour().unsigned_abs()) * 60 + u16::from(shown.minute().unsigned_abs());
    let day = |date: civil::Date| {
        let at = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        window.days.contains(&Day::ALL[at])
    };
    let (from, to) = (window.from.minutes(), window.to.minutes());
    if from < to {
        return day(shown.date()) && (from..to).contains(&minutes);
    }
    (day(shown.date()) && minutes >= from) || (day(shown.date().yesterday().unwrap()) && minutes < to)
}

proptest! {
    /// Whenever the wall says so it is frozen, and on days without a change of the clock only then; the opening is the
    /// first moment that is not.
    #[test]
    fn it_agrees_with_the_clock_on_the_wall(
        some in prop::collection::vec(any_window(), 1..=3),
        // 2025 and 2026, in seconds
        now in 1_735_689_600..1_798_761_600_i64,
    ) {
        let rules = TimeZoneDatabase::bundled();
        let zones: Vec<TimeZone> = some.iter().map(|w| rules.get(w.time_zone.name()).unwrap()).collect();
        let freeze = Freeze::Windows(some.clone());
        let wall = |now: Timestamp| some.iter().zip(&zones).any(|(w, zone)| on_the_wall(w, zone, now));
        let day = SignedDuration::from_hours(26);
        let quiet = |now: Timestamp| {
            zones.iter().all(|zone| {
                zone.following(now - day).take_while(|change| change.timestamp() < now + day).count() == 0
            })
        };
        let now = Timestamp::from_second(now).unwrap();
        let frozen = freeze.at(now);
        if quiet(now) {
            prop_assert_eq!(frozen != Frozen::No, wall(now));
        }
        prop_assert!(frozen != Frozen::No || !wall(now));
        if let Frozen::Until(opening) = frozen {
            prop_assert_eq!(freeze.at(opening), Frozen::No);
            prop_assert!(!wall(opening));
            for part in 0..20_i32 {
                let between = now + (opening - SignedDuration::from_nanos(1)).duration_since(now) * part / 19;
                prop_assert_eq!(freeze.at(between), frozen);
                prop_assert!(wall(between) || !quiet(between), "{} is open", between);
            }
        }
    }

    /// It does not matter in which order windows stand, nor how they are dealt out to freezes.
    #[test]
    fn windows_are_a_set(
        some in prop::collection::vec(any_window(), 2..=4), now in 1_735_689_600..1_798_761_600_i64,
    ) {
        let now = Timestamp::from_second(now).unwrap();
        let together = Freeze::Windows(some.clone()).at(now);
        let each: Vec<Freeze> = some.into_iter().rev().map(|w| Freeze::Windows(vec![w])).collect();
        prop_assert_eq!(Freeze::any_at(&each, now), together);
        let all: BTreeSet<Frozen> = each.iter().map(|freeze| freeze.at(now)).collect();
        prop_assert!(all.into_iter().all(|one| one <= together));
    }
}
