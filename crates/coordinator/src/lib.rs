//! The coordinator: reads Git, plans, holds agents' sessions, answers people. It decides; it never touches traffic:
//! without it, every zone stays as it is.

mod agents;
pub mod api;
pub mod ca;
pub mod commands;
pub mod config;
pub mod decide;
pub mod enrolment;
pub mod fleet;
pub mod git;
pub mod judging;
mod keeping;
mod leading;
pub mod ledger;
mod metrics;
pub mod observing;
mod ordering;
pub mod parts;
pub mod planning;
mod progress;
pub mod selfcheck;
pub mod senses;
pub mod serve;
pub mod sessions;
pub mod sources;
mod splits;
pub mod standing;
pub mod state;
mod steps;
pub mod tokens;
mod webhook;
mod words;
