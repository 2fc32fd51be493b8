//! How many connections each address has open, with a bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of all addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    /// Of one address.
    most: usize,
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place for one more; none if this address has as many as it may.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of = open.entry(address).or_default();
        if *of >= self.most {
            return None;
        }
        *of += 1;
        Some(Place {
            crowd: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = open.get_mut(&self.address) {
            *of -= 1;
            if *of == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the /64 network, because whoever has one address of it most often has them all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &Crowd, address: &str) -> Option<Place> {
        crowd.enter(address.parse().expect("an address"))
    }

    #[test]
    fn each_address_has_its_own_bound_and_leaves_nothing_behind() {
        let crowd = Crowd::new(2);
        let one = enter(&crowd, "192.0.2.1");
        let two = enter(&crowd, "::ffff:192.0.2.1");
        assert!(one.is_some() && two.is_some());
        assert!(enter(&crowd, "192.0.2.1").is_none());
        assert!(enter(&crowd, "192.0.2.2").is_some());
        drop(one);
        assert!(enter(&crowd, "192.0.2.1").is_some());
        let network = [enter(&crowd, "2001:db8::1"), enter(&crowd, "2001:db8::2")];
        assert!(network.iter().all(Option::is_some));
        assert!(enter(&crowd, "2001:db8::3").is_none());
        assert!(enter(&crowd, "2001:db8:0:1::3").is_some());
        drop((network, two));
        assert!(crowd.open.lock().expect("no panic").is_empty());
    }
}
