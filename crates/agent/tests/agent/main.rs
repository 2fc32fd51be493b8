//! The agent from outside: its turns in a zone that is not there, alone with a dead backend, replacing another, and the
//! program itself with what deploys it.
#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

mod deploy;
mod fallback;
mod first;
mod program;
mod replacing;
mod simulation;
mod turns;
mod word;
