//! The coordinator: reads Git, plans, holds agents' sessions, answers people. It decides; it never touches traffic:
//! without it, every zone stays as it is.

pub mod ca;
pub mod config;
pub mod enrolment;
pub mod git;
pub mod ledger;
pub mod sessions;
pub mod tokens;
