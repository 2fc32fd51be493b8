//! What several tests need: the programs that they start, whether real parts are there, the story that is told with
//! either cast, an API server for a test alone (`kubernetes`), and the simulation (`simulate`).

pub mod amount;
pub mod kubernetes;
pub mod presence;
pub mod programs;
pub mod recorded;
pub mod simulate;
pub mod story;

pub use presence::{Need, real_kuma};
pub use programs::{bare_programs, programs};
