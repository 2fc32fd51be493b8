//! The Kubernetes driver against an API server in this process, with answers recorded from a real kube-apiserver 1.36 and
//! Kuma 2.14.3 (`objects.json`, and what is marked so in `answers.json`).

#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

mod applying;
#[path = "../checkout/mod.rs"]
mod checkout;
mod cluster;
mod evidence;
mod fuzz;
mod meaning;
mod observing;
mod plan;
mod rights;
mod transport;
mod watching;
