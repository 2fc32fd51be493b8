//! The doubles of Kuma and of an API server: held against recorded answers, against rules that were measured, and under real
//! requests. Changed when a recording, or a real one, says otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

mod cluster;
mod outage;
mod recorded;
mod rules;
mod traffic;
