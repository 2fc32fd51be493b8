//! A whole federation on one machine, on loopback: for newcomers and for the tests.
//!
//! `cast` is who plays Kuma, `real` the real parts, `process` starts and ends processes.

pub mod cast;
pub mod process;
pub mod real;

pub use cast::{Cast, GlobalParts, Outbound, Stage, ZoneParts};
