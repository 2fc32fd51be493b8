//! Ports and loopback addresses that are free. Ports that this process has given to anybody are remembered: what is free when it is asked for may be given away and not bound yet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Takes a port; false if it was given away before.
pub(crate) fn take(port: u16) -> bool {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port)
}

/// An address of this machine where this port is free: its own for each dataplane, as if each had its own host.
pub(crate) fn free_address(port: u16) -> anyhow::Result<IpAddr> {
    for _ in 0..200 {
        let random = uuid_bytes();
        let ip = Ipv4Addr::new(127, 1 + random[0] % 250, random[1], 1 + random[2] % 250);
        if TcpListener::bind((ip, port)).is_ok() {
            return Ok(ip.into());
        }
    }
    bail!("no loopback address has port {port} free")
}

/// A free port below the range of outgoing connections, so that none of these takes it before it is bound.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(listener()?.local_addr()?.port())
}

/// Somebody who listens at a free port of that range already, and keeps it: another sandbox, or a program that is just being started
/// with all that is open, may have it a moment after it was only looked at.
pub(crate) fn listener() -> anyhow::Result<TcpListener> {
    for _ in 0..200 {
        let random = uuid_bytes();
        let port = 20000 + u16::from_be_bytes([random[0], random[1]]) % 12000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && take(port)
        {
            listener.set_nonblocking(true)?;
            return Ok(listener);
        }
    }
    bail!("no free port between 20000 and 32000")
}

fn uuid_bytes() -> [u8; 4] {
    use std::hash::{BuildHasher as _, RandomState};
    // The standard library's only source of randomness: each state has its own keys.
    let random = RandomState::new().hash_one(0_u8).to_be_bytes();
    [random[0], random[1], random[2], random[3]]
}
