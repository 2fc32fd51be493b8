//! The coordinator from outside: what it reads, decides, remembers, answers and sends; the program itself as people run it.
//! One test program, because each more of them links the whole coordinator once more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod decide;
mod drains;
mod drains_beside;
mod federation;
mod forgetting;
mod git;
mod held_since;
mod history;
mod joining;
mod judging;
mod ledger;
mod openapi;
mod orders;
mod program;
mod repository;
mod rewound;
mod serve;
mod sessions;
mod sources_away;
mod standing;
mod two_coordinators;
mod unjudged;
mod unsound;
