//! The double of Kuma: its REST surface as recorded, zone sync with its delays, proxies with weights, and the ugly parts.
//!
//! `store` holds objects, `rest` and `validate` answer as Kuma does, `compute` turns policies into what a proxy runs,
//! `routes` is what it runs, `proxy` runs it, `admin` shows it as Envoy would; `control_plane` and `dataplane` are the
//! processes.

pub mod admin;
pub mod cast;
pub mod compute;
pub mod control_plane;
pub mod dataplane;
pub mod pattern;
pub mod proxy;
pub mod rest;
pub mod routes;
pub mod store;
pub mod validate;

/// The version of Kuma that the double plays.
pub const KUMA_VERSION: &str = "2.14.3";
/// The version of Envoy that the double plays.
pub const ENVOY_VERSION: &str = "1.38.3";
