//! How each value is written: part of the canonical bytes, and as fixed as they are (see the table in `canonical.rs`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_model::{
    Address, Backend, BackendName, BasisPoints, CommitId, DnsLabel, Door, Entry, FederationName, GatewayName,
    HeaderMatch, Match, MeshName, PathMatch, PortName, Protocol, QueryMatch, RouteName, ServiceName,
    SourceCommit, SourceName, SplitName, ValueMatch, Via, ZoneName,
};

use crate::plan::{Destination, Digest, Generation, ItemRoute};

/// A value that has canonical bytes.
pub(super) trait Put {
    fn put(&self, to: &mut Vec<u8>);
}

pub(super) fn count(to: &mut Vec<u8>, entries: usize) {
    // usize is at most 64 bits wide on every target of Rust
    to.extend((entries as u64).to_be_bytes());
}

pub(super) fn list<'a, T: Put + 'a>(to: &mut Vec<u8>, entries: impl ExactSizeIterator<Item = &'a T>) {
    count(to, entries.len());
    for entry in entries {
        entry.put(to);
    }
}

impl Put for str {
    fn put(&self, to: &mut Vec<u8>) {
        count(to, self.len());
        to.extend(self.as_bytes());
    }
}

macro_rules! put_names {
    ($($name:ty)*) => {$(
        impl Put for $name {
            fn put(&self, to: &mut Vec<u8>) {
                self.as_str().put(to);
            }
        }
    )*};
}

put_names! { String DnsLabel PortName FederationName MeshName ZoneName SplitName ServiceName BackendName RouteName GatewayName }

macro_rules! put_numbers {
    ($($number:ty)*) => {$(
        impl Put for $number {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend(self.to_be_bytes());
            }
        }
    )*};
}

put_numbers! { u16 u32 u64 i32 i64 }

impl<T: Put> Put for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            None => to.push(0),
            Some(value) => {
                to.push(1);
                value.put(to);
            }
        }
    }
}

impl<K: Put, V: Put> Put for BTreeMap<K, V> {
    fn put(&self, to: &mut Vec<u8>) {
        count(to, self.len());
        for (key, value) in self {
            key.put(to);
            value.put(to);
        }
    }
}

impl<T: Put> Put for BTreeSet<T> {
    fn put(&self, to: &mut Vec<u8>) {
        list(to, self.iter());
    }
}

/// As it is written: an address has one way only.
impl Put for Address {
    fn put(&self, to: &mut Vec<u8>) {
        self.to_string().put(to);
    }
}

impl Put for Door {
    fn put(&self, to: &mut Vec<u8>) {
        match &self.entry {
            Entry::Routes(routing) => {
                // What says nothing of TLS has the bytes that it had before anything could be said.
                let of_tls = !routing.snis.is_empty() || !routing.https_redirect.is_default();
                to.push(if of_tls { 4 } else { 1 });
                routing.hosts.put(to);
                routing.paths.put(to);
                routing.methods.put(to);
                routing.headers.put(to);
                for flag in [routing.https_only, routing.strip_path, routing.preserve_host] {
                    to.push(u8::from(flag));
                }
                if of_tls {
                    routing.snis.put(to);
                    u32::from(routing.https_redirect.code()).put(to);
                }
            }
            Entry::Service(name) => {
                to.push(2);
                name.put(to);
            }
            Entry::HttpRoute(name) => {
                to.push(3);
                name.put(to);
            }
        }
        match &self.via {
            Via::Mesh(address) => {
                to.push(1);
                address.put(to);
            }
            Via::Addresses(addresses) => {
                to.push(2);
                addresses.put(to);
            }
        }
    }
}

impl Put for SourceName {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }
}

impl Put for CommitId {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }
}

impl Put for SourceCommit {
    fn put(&self, to: &mut Vec<u8>) {
        self.source.put(to);
        self.commit.put(to);
    }
}

impl Put for Generation {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }
}

impl Put for Digest {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.0);
    }
}

/// `u32`: basis points.
impl Put for BasisPoints {
    fn put(&self, to: &mut Vec<u8>) {
        self.get().put(to);
    }
}

impl Put for Timestamp {
    fn put(&self, to: &mut Vec<u8>) {
        self.as_second().put(to);
        self.subsec_nanosecond().put(to);
    }
}

impl Put for Protocol {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(match self {
            Self::Http => 1,
            Self::Http2 => 2,
            Self::Grpc => 3,
            Self::Tcp => 4,
        });
    }
}

impl Put for Backend {
    fn put(&self, to: &mut Vec<u8>) {
        self.zone.put(to);
        self.namespace.put(to);
    }
}

impl Put for Destination {
    fn put(&self, to: &mut Vec<u8>) {
        self.zone.put(to);
        self.kuma_zone.put(to);
        self.namespace.put(to);
        self.service.put(to);
        self.port.put(to);
    }
}

impl Put for ItemRoute {
    fn put(&self, to: &mut Vec<u8>) {
        self.name.put(to);
        self.matches.put(to);
        self.weights.put(to);
    }
}

impl Put for Match {
    fn put(&self, to: &mut Vec<u8>) {
        self.path.put(to);
        self.method.put(to);
        list(to, self.headers.iter());
        list(to, self.query.iter());
    }
}

impl Put for PathMatch {
    fn put(&self, to: &mut Vec<u8>) {
        let (which, text) = match self {
            Self::Exact(text) => (1, text),
            Self::Prefix(text) => (2, text),
            Self::Regex(text) => (3, text),
        };
        to.push(which);
        text.put(to);
    }
}

impl Put for ValueMatch {
    fn put(&self, to: &mut Vec<u8>) {
        let (which, text) = match self {
            Self::Exact(text) => (1, text),
            Self::Regex(text) => (3, text),
        };
        to.push(which);
        text.put(to);
    }
}

impl Put for HeaderMatch {
    fn put(&self, to: &mut Vec<u8>) {
        self.name.put(to);
        self.value.put(to);
    }
}

impl Put for QueryMatch {
    fn put(&self, to: &mut Vec<u8>) {
        self.name.put(to);
        self.value.put(to);
    }
}
