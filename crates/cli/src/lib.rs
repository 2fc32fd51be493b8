//! What people type: `weir`. One file per command; `output` holds what all of them share.
//!
//! `check`, `plan` and `explain` work on files and open no connection; the others read the coordinator's API.

pub mod check;
pub mod command;
pub mod completions;
pub mod connection;
pub mod events;
pub mod explain;
pub mod history;
pub mod output;
pub mod plan;
pub mod status;
pub mod zones;
