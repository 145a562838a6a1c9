//! Cluster addresses of services.

use crate::base::{Error, Kind, Result, Rng, Seed};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// The addresses of services: 10.96.0.0/12, kubeadm's default range, each with the service that has it.
///
/// Which one a service gets is drawn from the seed, as Kubernetes draws it. The first 256 are left for those that ask
/// for an address by number, as are 10.96.0.1 and 10.96.0.10 (`kubernetes`, `kube-dns`).
pub struct Addresses {
    taken: BTreeMap<Ipv4Addr, Arc<str>>,
    rng: Rng,
}

const BASE: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const SIZE: u32 = 1 << 20;
const RESERVED: u32 = 256;

impl Addresses {
    /// None taken.
    pub fn new(seed: Seed) -> Self {
        Addresses { taken: BTreeMap::new(), rng: seed.rng() }
    }

    /// Whether an address is in the range, taken or not.
    pub fn contains(ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if (BASE..BASE + SIZE).contains(&ip.into()))
    }

    /// A free address for this service.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] when none is left.
    pub fn allocate(&mut self, service: &str) -> Result<Ipv4Addr> {
        let first = RESERVED + self.rng.below(u64::from(SIZE - RESERVED - 1)) as u32;
        let after = (first..SIZE - 1).chain(RESERVED..first).map(|offset| Ipv4Addr::from(BASE + offset));
        let free = after.into_iter().find(|ip| !self.taken.contains_key(ip));
        let ip = free.ok_or_else(|| Error::new(Kind::Overloaded, "the range 10.96.0.0/12 is full"))?;
        self.taken.insert(ip, service.into());
        Ok(ip)
    }

    /// This very address for this service.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is not in the range, [`Kind::Conflict`] where another service has it.
    pub fn claim(&mut self, ip: Ipv4Addr, service: &str) -> Result {
        if !Addresses::contains(ip.into()) {
            let message = format!("failed to allocate IP {ip}: the provided IP is not in the valid range 10.96.0.0/12");
            return Err(Error::new(Kind::Invalid, message));
        }
        match self.taken.get(&ip) {
            Some(owner) if **owner != *service => {
                let message = format!("failed to allocate IP {ip}: provided IP is already allocated");
                Err(Error::new(Kind::Conflict, message))
            }
            _ => {
                self.taken.insert(ip, service.into());
                Ok(())
            }
        }
    }

    /// The address is free again.
    pub fn release(&mut self, ip: Ipv4Addr) {
        self.taken.remove(&ip);
    }

    /// Which service has the address.
    pub fn owner(&self, ip: Ipv4Addr) -> Option<&Arc<str>> {
        self.taken.get(&ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_from_the_seed_and_never_twice() {
        let draw = |seed| {
            let mut addresses = Addresses::new(Seed::new(seed));
            (0..1000).map(|i| addresses.allocate(&format!("s{i}")).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let distinct: std::collections::BTreeSet<_> = draw(1).into_iter().collect();
        assert_eq!(distinct.len(), 1000);
        assert!(distinct.iter().all(|ip| Addresses::contains((*ip).into())));
    }

    #[test]
    fn claims_are_checked() {
        let mut addresses = Addresses::new(Seed::new(1));
        let ip = Ipv4Addr::new(10, 96, 0, 7);
        addresses.claim(ip, "a").unwrap();
        addresses.claim(ip, "a").unwrap();
        assert_eq!(
            addresses.claim(ip, "b").unwrap_err().to_string(),
            "conflict: failed to allocate IP 10.96.0.7: provided IP is already allocated"
        );
        assert_eq!(addresses.claim(Ipv4Addr::new(10, 112, 0, 1), "b").unwrap_err().kind(), Kind::Invalid);
        addresses.release(ip);
        addresses.claim(ip, "b").unwrap();
        assert_eq!(addresses.owner(ip).map(|owner| &**owner), Some("b"));
    }

    #[test]
    fn a_full_range_says_so() {
        let mut addresses = Addresses::new(Seed::new(1));
        let owner: Arc<str> = "x".into();
        addresses.taken = (RESERVED..SIZE - 1).map(|offset| (Ipv4Addr::from(BASE + offset), owner.clone())).collect();
        assert_eq!(addresses.allocate("y").unwrap_err().kind(), Kind::Overloaded);
    }
}
