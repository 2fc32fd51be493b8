//! Whether the real parts are on this machine, and what a test does if not: it says by name that it is skipped and why,
//! or fails where `WEIR_REQUIRE` (a list such as `kuma,envoy`) names what is missing.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;

use weir_sandbox::real::{Absent, Parts};

/// The variable that turns absence into failure.
pub const REQUIRE: &str = "WEIR_REQUIRE";

/// What may be missing on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// `kuma-cp` and `kuma-dp`.
    Kuma,
    /// `envoy`.
    Envoy,
    /// A Kubernetes API server.
    Kubernetes,
    /// The definitions of Gateway API.
    GatewayApi,
    /// `postgres` and `initdb`, for a server of the sandbox's own.
    Postgres,
}

impl Need {
    const ALL: [Self; 5] = [
        Self::Kuma,
        Self::Envoy,
        Self::Kubernetes,
        Self::GatewayApi,
        Self::Postgres,
    ];

    /// Whose executable that is.
    fn of(executable: &str) -> Self {
        if executable == "envoy" {
            Self::Envoy
        } else {
            Self::Kuma
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kuma => "kuma",
            Self::Envoy => "envoy",
            Self::Kubernetes => "kubernetes",
            Self::GatewayApi => "gateway-api",
            Self::Postgres => "postgres",
        })
    }
}

/// What a list requires.
///
/// # Errors
/// A word that is no [`Need`]: a slip of the pen must not let anything be skipped.
pub fn required(list: &str) -> Result<BTreeSet<Need>, String> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = |word: &str| {
        let found = Need::ALL.into_iter().find(|need| need.to_string() == word);
        found.ok_or_else(|| {
            let all = Need::ALL.map(|need| need.to_string()).join(", ");
            format!("{REQUIRE}={list}: `{word}` is none of {all}")
        })
    };
    words.map(known).collect()
}

/// What to do where something is missing: skip, with what to say; or fail, with what to say.
///
/// # Errors
/// If it must not be missing, or the list cannot be read.
pub fn skip(test: &str, list: &str, absent: &Absent) -> Result<String, String> {
    let required = required(list)?;
    let missing: BTreeSet<Need> = absent.missing.iter().map(|name| Need::of(name)).collect();
    let demanded: Vec<String> = required.intersection(&missing).map(Need::to_string).collect();
    if demanded.is_empty() {
        Ok(format!("test {test} is SKIPPED: {absent}"))
    } else {
        Err(format!(
            "{REQUIRE} demands {}, but {absent}",
            demanded.join(" and ")
        ))
    }
}

/// The real Kuma and Envoy of this machine; none if they are not there and need not be, which is said on standard error
/// past the capture of the test's own output.
///
/// # Panics
/// If they are not there and must be: the test has failed.
pub fn real_kuma(test: &str) -> Option<Parts> {
    let list = std::env::var(REQUIRE).unwrap_or_default();
    // Also where nothing is missing: a wrong list is wrong everywhere.
    if let Err(wrong) = required(&list) {
        panic!("{wrong}");
    }
    match Parts::find() {
        Ok(parts) => Some(parts),
        Err(absent) => match skip(test, &list, &absent) {
            Ok(said) => {
                // Not by `eprintln!`: the test runner keeps that for itself. If standard error is gone, nobody listens.
                let _ = writeln!(std::io::stderr(), "\n{said}");
                None
            }
            Err(why) => panic!("{why}"),
        },
    }
}
