//! The fields of how and when weights move. Part of the table in `shape.rs`; read in `read/transition.rs` and `read/freeze.rs`.

use super::{Form, INSUFFICIENT, LATENCIES, Shape, optional, required, shape};

/// `transition`.
pub(crate) static TRANSITION: Shape = shape(
    "a transition",
    "How weights move from what is in force to what is declared.",
    &[
        optional(
            "maxStep",
            Form::PerCent { zero: false },
            "By how many percentage points a weight may change in one step; all at once if not given.",
        ),
        optional(
            "bake",
            Form::Duration("0s", "7d"),
            "How long a proven step rests before the next begins; `0s` if not given.",
        ),
        optional(
            "verify",
            Form::Object(&VERIFY),
            "What has to be seen of each step before it counts as good.",
        ),
    ],
);

/// `verify`.
pub(crate) static VERIFY: Shape = shape(
    "`verify`",
    "What has to be seen of each step before it counts as good.",
    &[
        optional(
            "requests",
            Form::Whole(1, 1_000_000_000),
            "How many requests a verdict needs, for each step; 100 if not given.",
        ),
        optional(
            "within",
            Form::Duration("1s", "24h"),
            "How long to wait for that many; `30s` if not given.",
        ),
        optional(
            "insufficient",
            Form::Word(INSUFFICIENT),
            "What to do when there were fewer: `proceed` if not given.",
        ),
        optional(
            "latency",
            Form::Word(LATENCIES),
            "An answer that takes longer is slow, and many more slow ones than before return the split, as failures do; not judged if not given.",
        ),
    ],
);

/// `freeze` with windows.
pub(crate) static FREEZE: Shape = shape(
    "a freeze",
    "When no weight shifts.",
    &[required(
        "windows",
        Form::List(&WINDOW, crate::limits::WINDOWS),
        "Times of the week.",
    )],
);

/// A window.
pub(crate) static WINDOW: Shape = shape(
    "a window",
    "A time that comes back every week.",
    &[
        optional(
            "days",
            Form::Days,
            "The days on which it begins; all if not given.",
        ),
        required("from", Form::TimeOfDay, "When it begins: \"22:00\"."),
        required(
            "to",
            Form::TimeOfDay,
            "When it ends, on the next day unless it is later than `from`: \"06:00\", at most \"24:00\".",
        ),
        optional(
            "timeZone",
            Form::Text,
            "The IANA time zone of both, such as Europe/Berlin; UTC if not given.",
        ),
    ],
);
