//! A zone's agent: takes plans, makes them true through the zone's own Kuma, proves it, reports.
//!
//! `run` is the loop, `activation` one turn of it, `decide`, `conclude` and `take` its pure parts; `session` talks to the
//! coordinator, `store` keeps the last good plan, `status` tells people on the host; `pin` is what people on the host decide
//! instead (`break_glass`, its commands). Tests stand on the pure parts and on a fake zone.
//!
//! A panic anywhere is a bug. It ends the process with exit code 1 and changes nothing in the zone: an agent that is not
//! there is noticed and started again (systemd, Kubernetes), one that limps on is not.

pub mod activation;
pub mod anchors;
pub mod break_glass;
pub mod command;
pub mod conclude;
pub mod config;
pub mod contest;
pub mod counting;
pub mod current;
pub mod decide;
pub mod fallback;
pub mod gateways;
mod outdated;
pub mod past;
pub mod pin;
pub mod run;
pub mod sealed;
pub mod session;
pub mod status;
pub mod store;
pub mod take;
