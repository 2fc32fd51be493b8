//! The model from outside: files to values and diagnostics, the pages of the codes, the schema, and when a freeze holds.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

mod declaration;
mod freeze;
mod gateway;
mod pages;
mod properties;
mod schema;
mod transcripts;
mod transition;
