//! Ages, by the clock of whoever answered: a wrong clock here must not make old things look new.

use jiff::{SignedDuration, Timestamp};

/// The time of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Now, at the coordinator.
    pub now: Timestamp,
}

impl Clock {
    /// By the `Date` of an answer; by this machine's clock if it has none.
    pub fn of(date: Option<&str>) -> Self {
        let told = date.and_then(|date| {
            let parser = jiff::fmt::rfc2822::DateTimeParser::new();
            parser.parse_timestamp(date).ok()
        });
        Self {
            now: told.unwrap_or_else(Timestamp::now),
        }
    }

    /// How long ago a time of the API was, in one figure: `3 s`, `12 min`. A time that is not one is shown as it is.
    pub fn since(self, at: &str) -> String {
        match at.parse::<Timestamp>() {
            Ok(at) => span(self.now.duration_since(at)),
            Err(_) => format!("an unknown time ({at})"),
        }
    }

    /// `3 s ago`.
    pub fn ago(self, at: &str) -> String {
        format!("{} ago", self.since(at))
    }

    /// `in 15 h`, or `15 h ago`.
    pub fn until(self, at: &str) -> String {
        match at.parse::<Timestamp>() {
            Ok(at) if at > self.now => format!("in {}", span(at.duration_since(self.now))),
            _ => self.ago(at),
        }
    }
}

/// `3 s`, `12 min`, `5 h`, `2 d`; what is before its time is `0 s`.
pub fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_by_the_clock_of_the_answer() {
        let clock = Clock::of(Some("Tue, 24 Nov 2026 12:00:00 GMT"));
        assert_eq!(clock.ago("2026-11-24T11:59:57Z"), "3 s ago");
        assert_eq!(clock.ago("2026-11-24T11:48:00Z"), "12 min ago");
        assert_eq!(clock.ago("2026-11-24T12:00:09Z"), "0 s ago");
        assert_eq!(clock.until("2026-11-25T03:00:00Z"), "in 15 h");
        assert_eq!(clock.until("2026-11-20T12:00:00Z"), "4 d ago");
    }
}
