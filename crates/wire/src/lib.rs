//! What crosses a network: the agent protocol (`weir.agent.v1`) and the shapes of the HTTP API.
//!
//! Pure: types and conversions; it opens nothing.

pub mod api;
mod error;
mod gateway;
mod greeting;
mod item;
mod report;
mod scalar;
mod term;
mod update;

pub use error::WireError;
pub use greeting::{Greeting, Welcome};
pub use report::{AgentReport, agent_report};
pub use term::{Offered, Term};
pub use update::{Held, Holds, assemble, plan_update};

/// Generated from `proto/weir/agent/v1/agent.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::use_self
)]
pub mod v1 {
    tonic::include_proto!("weir.agent.v1");
}
