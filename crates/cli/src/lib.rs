//! What people type: `weir`. One file per command; `output` and `layout` hold what all of them share.
//!
//! `check`, `plan` and `explain` work on files and open no connection; the others ask the coordinator's API, and `abort`, `freeze`
//! and `resume` order by it.

pub mod check;
pub mod client;
pub mod clock;
pub mod command;
pub mod completions;
pub mod connection;
pub mod drain;
pub mod events;
pub mod explain;
pub mod history;
pub mod layout;
pub mod output;
pub mod plan;
pub mod sse;
pub mod status;
pub mod steer;
pub mod trouble;
pub mod zones;
