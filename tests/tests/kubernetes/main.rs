//! Real API servers: what Weir renders and writes there, what its driver does while they are away, and a federation with real
//! Kuma on top of one. `kubernetes_scale.rs` measures, and is a program of its own for that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so by failing"
)]

mod kuma;
mod objects;
mod outage;
mod writes;
