//! The planner from outside. Every plan that any of these tests makes goes through the linter.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod canonical;
mod declared;
mod gateways;
mod history;
mod lint;
mod moving;
mod properties;
mod retiring;
mod work;
mod world;
