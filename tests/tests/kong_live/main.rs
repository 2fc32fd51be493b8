//! Kong without a database, driven as an agent drives it: a real one at `WEIR_KONG_ADMIN`, else the double.
//!
//! All of it is written to pass on a real Kong 3.9.3; `tests/README.md` says how. It posts whole documents: whatever that
//! Kong had before is gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

#[allow(dead_code, reason = "asking is kong_double's; not all of it is needed here")]
#[path = "../kong_double/asking.rs"]
mod asking;
mod bad;
mod changes;
mod counting;
mod database;
mod nodes;
mod ownership;
mod refusals;
mod routes;
mod something;
mod stage;
