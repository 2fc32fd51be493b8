//! When nothing may be shifted: `freeze`, for ever or in weekly windows, and the next opening.
//!
//! Pure: the moment comes in, and the rules of time zones are those compiled in, so that every machine gives the same
//! answer. Changed with the declaration language.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How far ahead an opening is looked for. Windows in zones with different summer times can leave a gap on a few days
/// of the year alone, so it is more than one year.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 400);

/// `spec.freeze` of a Federation, a Zone or a Split: when its weights may not shift.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Freeze {
    /// Not given, or `false`.
    #[default]
    Never,
    /// `true`: until Git says otherwise.
    Always,
    /// `windows`, at least one.
    Windows(Vec<Window>),
}

/// A window that comes back every week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// `days` on which it begins; default all.
    pub days: BTreeSet<Day>,
    /// `from`: when it begins, before 24:00.
    pub from: TimeOfDay,
    /// `to`: when it ends; on the next day unless it is later than `from`. Never equal to it.
    pub to: TimeOfDay,
    /// `timeZone`; default UTC.
    pub time_zone: WindowZone,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// The whole week.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// As it is declared.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }

    fn of(date: Date) -> Self {
        match date.weekday() {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A time of day in whole minutes, 00:00 to 24:00 (which is the next day's 00:00).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// 24:00, the end of the day.
    pub const END: Self = Self(1440);

    /// Minutes since midnight; `None` above 1440.
    pub fn from_minutes(minutes: u16) -> Option<Self> {
        (minutes <= 1440).then_some(Self(minutes))
    }

    /// Minutes since midnight, 0 to 1440.
    pub fn minutes(self) -> u16 {
        self.0
    }

    /// Reads `22:00`: two digits, a colon, two digits.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let two = |digits: &str| -> Option<u16> {
            (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
        };
        let (hour, minute) = (two(hour)?, two(minute)?);
        if minute > 59 {
            return None;
        }
        Self::from_minutes(hour * 60 + minute)
    }

    /// This time of a day; 24:00 is on the next one.
    fn on(self, date: Date) -> Option<DateTime> {
        if self == Self::END {
            return Some(date.tomorrow().ok()?.to_datetime(Time::midnight()));
        }
        let hour = i8::try_from(self.0 / 60).ok()?;
        let minute = i8::try_from(self.0 % 60).ok()?;
        Some(date.to_datetime(Time::new(hour, minute, 0, 0).ok()?))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

/// A time zone by its IANA name, with the rules that are compiled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowZone(TimeZone);

impl WindowZone {
    /// UTC.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone of this name (`Europe/Berlin`, in any case); `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        (!zone.is_unknown()).then_some(Self(zone))
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Every name that there is.
    pub(crate) fn names() -> Vec<String> {
        let zones = TimeZoneDatabase::bundled();
        zones.available().map(|name| name.to_string()).collect()
    }

    /// The moments between which the clock shows a time. Where the clock is put back it shows it twice: the first and the
    /// last. Where it is put forward past the time: the moment of that, twice.
    fn moments(&self, at: DateTime) -> Option<(Timestamp, Timestamp)> {
        let ambiguous = self.0.to_ambiguous_timestamp(at);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                let moment = offset.to_timestamp(at).ok()?;
                Some((moment, moment))
            }
            AmbiguousOffset::Fold { before, after } => {
                Some((before.to_timestamp(at).ok()?, after.to_timestamp(at).ok()?))
            }
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(at).ok()?;
                let change = self.0.following(before).next()?.timestamp();
                Some((change, change))
            }
        }
    }
}

impl fmt::Display for WindowZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Window {
    /// When the window that covers a moment ends; the latest, should two of its days.
    fn end_at(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.time_zone.0.to_datetime(now).date();
        // A window is at most a day long, and the clock may have been put anywhere within it.
        [
            today.checked_sub(1.day()).ok(),
            Some(today),
            today.tomorrow().ok(),
        ]
        .into_iter()
        .flatten()
        .filter(|date| self.days.contains(&Day::of(*date)))
        .filter_map(|date| self.on(date))
        .filter(|(from, to)| *from <= now && now < *to)
        .map(|(_, to)| to)
        .max()
    }

    /// The window that begins on a day: from the first moment at which the clock shows `from` to the last at which it
    /// shows `to`. In doubt about an hour that there is twice it is frozen.
    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.to > self.from {
            date
        } else {
            date.tomorrow().ok()?
        };
        let (from, _) = self.time_zone.moments(self.from.on(date)?)?;
        let (_, to) = self.time_zone.moments(self.to.on(last)?)?;
        Some((from, to))
    }
}

/// Whether weights may shift at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frozen {
    /// They may.
    No,
    /// Not before this moment: the first from then on that no window covers.
    Until(Timestamp),
    /// Not until Git says otherwise: `freeze: true`, or windows that leave no moment free within the next 400 days.
    Indefinitely,
}

impl Freeze {
    /// Whether it freezes at this moment, and until when.
    pub fn at(&self, now: Timestamp) -> Frozen {
        Self::any_at([self], now)
    }

    /// Whether any of several freezes: that of the Federation, the Zone and the Split together. The next opening is
    /// when none of them does.
    pub fn any_at<'f>(freezes: impl IntoIterator<Item = &'f Self>, now: Timestamp) -> Frozen {
        let mut windows: Vec<&Window> = Vec::new();
        for freeze in freezes {
            match freeze {
                Self::Never => {}
                Self::Always => return Frozen::Indefinitely,
                Self::Windows(some) => windows.extend(some),
            }
        }
        let horizon = now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut open = now;
        while let Some(end) = windows.iter().filter_map(|window| window.end_at(open)).max() {
            if end >= horizon {
                return Frozen::Indefinitely;
            }
            // Every end is later than the moment that its window covers.
            open = end;
        }
        if open == now {
            Frozen::No
        } else {
            Frozen::Until(open)
        }
    }
}
