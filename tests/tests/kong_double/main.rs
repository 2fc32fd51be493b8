//! The double of Kong: held against recorded answers, and made to do what Kong does under load, on restarts and with a
//! database. Changed when a recording, or a real Kong, says otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

mod asking;
mod database;
mod documents;
mod logs;
mod recorded;
mod refused;
mod routes;
mod shares;
