//! A whole federation on one machine, on loopback: for newcomers and for the tests.
//!
//! `cast` is who plays Kuma: `double` (our own) or `real` (the real parts). `traffic` is applications and callers, `play`
//! starts everything, `tour`, `soak`, `outage`, `restarts`, `pace` and `live` are what people see of it, `bound` judges shares, `process` starts and ends
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
mod policies;
mod ports;
pub mod process;
pub mod real;
pub mod repository;
mod restartable;
pub mod restarts;
pub mod soak;
pub mod tour;
pub mod traffic;
pub mod waiting;

pub use cast::{Cast, GlobalParts, Outbound, Stage, ZoneParts};

thread_local! {
    static IDS: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// From now on the ids that doubles make in this thread follow from this number: for tests that tell the same story each time.
pub fn repeat_ids(from: u64) {
    IDS.set(Some(from));
}

fn repeatable() -> Option<(u64, u64)> {
    let last = IDS.get()?;
    let next = last.wrapping_add(0x9E37_79B9_7F4A_7C15);
    IDS.set(Some(next));
    let hash = blake3::hash(&next.to_le_bytes());
    let part = |at: usize| {
        let bytes = hash.as_bytes()[at..].first_chunk::<8>();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    Some((part(0), part(8)))
}

/// A UUID that nobody had before.
pub(crate) fn random_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = |of: u8| RandomState::new().hash_one(of);
    let (a, b) = repeatable().unwrap_or_else(|| (random(0), random(1)));
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
