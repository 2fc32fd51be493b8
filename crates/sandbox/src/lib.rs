//! A whole federation on one machine, on loopback: for newcomers and for the tests.
//!
//! `cast` is who plays Kuma: `double` (our own) or `real` (the real parts). `traffic` is applications and callers, `play`
//! starts everything, `tour`, `soak`, `pace` and `live` are what people see of it, `bound` judges shares, `process` starts and ends
//! processes. `cluster` is a Kubernetes API server, for zones that are clusters. `kong` is the double of a Kong gateway.

pub mod bound;
pub mod cast;
pub mod cluster;
pub mod command;
pub mod coordinator;
pub mod double;
pub mod kic;
pub mod kong;
pub mod live;
pub mod outage;
pub mod pace;
pub mod play;
mod ports;
pub mod process;
pub mod real;
pub mod repository;
pub mod soak;
pub mod tour;
pub mod traffic;
pub mod waiting;

pub use cast::{Cast, GlobalParts, Outbound, Stage, ZoneParts};

/// A UUID that nobody had before.
pub(crate) fn random_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = |of: u8| RandomState::new().hash_one(of);
    let (a, b) = (random(0), random(1));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

/// An HTTP client of the sandbox. It keeps no connections: tests run several runtimes in one process.
pub fn http_client() -> reqwest::Client {
    use std::sync::OnceLock;
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let make = || {
        // Somebody may have installed one already: then that one is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy();
        client.build().unwrap_or_default()
    };
    CLIENT.get_or_init(make).clone()
}
