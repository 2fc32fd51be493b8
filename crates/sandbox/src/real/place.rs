//! Ports for control planes and loopback addresses for proxies, free at the time of asking and never given twice.
//!
//! Proxies get an address each: Kuma gives a proxy a listener for its admin interface only if its address is not
//! 127.0.0.1. Ports stay below the range that the kernel takes outgoing connections from, or one of those could take a
//! port between two starts of a control plane.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use anyhow::Context as _;

const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One sandbox's own part of loopback.
#[derive(Debug)]
pub(crate) struct Place {
    network: [u8; 3],
    next_host: u8,
    next_port: u16,
    /// Networks that were given away, beside its own.
    networks: u8,
}

impl Place {
    /// Picks a network `127.x.y.0/24` in which nothing listens on `port`.
    pub(crate) fn pick(port: u16) -> anyhow::Result<Self> {
        let seed = seed();
        let start = u16::from_be_bytes([seed[2], seed[3]]) % (PORTS.end - PORTS.start);
        for turn in 0..16_u8 {
            // 127.0 is left to everybody else.
            let network = [127, 1 + seed[0] % 250, seed[1].wrapping_add(turn)];
            let place = Self {
                network,
                next_host: 2,
                networks: 0,
                next_port: PORTS.start + start,
            };
            if TcpListener::bind(SocketAddrV4::new(place.host(2), port)).is_ok() {
                return Ok(place);
            }
        }
        anyhow::bail!(
            "no free loopback network 127.x.y.0/24: the real parts need one loopback address for each proxy, which Linux has without setting up anything"
        )
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last)
    }

    /// A loopback network of its own, `127.x.y.0/24`.
    pub(crate) fn network(&mut self) -> [u8; 3] {
        self.networks += 1;
        let [a, b, c] = self.network;
        [a, b, c.wrapping_add(100 + self.networks)]
    }

    /// A loopback address that no proxy has yet.
    pub(crate) fn address(&mut self) -> anyhow::Result<Ipv4Addr> {
        let host = self.host(self.next_host);
        self.next_host = self
            .next_host
            .checked_add(1)
            .context("more than 250 proxies in one sandbox")?;
        Ok(host)
    }

    /// A port that is free on every address: some of Kuma's listeners cannot be bound to one.
    pub(crate) fn port(&mut self) -> anyhow::Result<u16> {
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end {
                port + 1
            } else {
                PORTS.start
            };
            let free = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).is_ok();
            if free && crate::ports::take(port) {
                return Ok(port);
            }
        }
        anyhow::bail!("no free port from {} to {}", PORTS.start, PORTS.end - 1)
    }
}

/// Differs from process to process and from call to call, so that two sandboxes hardly ever try the same ports.
fn seed() -> [u8; 4] {
    use std::hash::{BuildHasher as _, Hasher as _};
    let number = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let [a, b, c, d, ..] = number.to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_are_given_once() {
        let mut place = Place::pick(8080).expect("loopback");
        let (a, b) = (
            place.address().expect("an address"),
            place.address().expect("an address"),
        );
        assert!(a.is_loopback() && b.is_loopback() && a != b);
        let (a, b) = (place.port().expect("a port"), place.port().expect("a port"));
        assert!(PORTS.contains(&a) && PORTS.contains(&b) && a != b);
    }
}
