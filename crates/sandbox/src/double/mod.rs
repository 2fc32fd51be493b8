//! The double of Kuma: its REST surface as recorded, zone sync with its delays, proxies with weights, and the ugly parts.
//!
//! `store` holds objects, `rest` and `validate` answer as Kuma does, `compute` turns policies into what a proxy runs,
//! `routes` is what it runs, `proxy` runs it, `admin` shows it as Envoy would; `control_plane` and `dataplane` are the
//! processes. Where a zone is a cluster, `api_server` is a process of its own,
//! `in_cluster` is how a control plane lives there and `admission` what it says as its webhook; `cluster_zone` sets it up.

pub mod admin;
mod admission;
pub mod api_server;
pub mod cast;
pub mod cluster_zone;
pub mod compute;
pub mod control_plane;
pub mod dataplane;
mod in_cluster;
mod kept;
pub mod pattern;
pub mod proxy;
pub mod rest;
pub mod routes;
pub mod store;
pub mod times;
pub mod validate;

/// The version of Kuma that the double plays.
pub const KUMA_VERSION: &str = "2.14.3";
/// The version of Envoy that the double plays.
pub const ENVOY_VERSION: &str = "1.38.3";
