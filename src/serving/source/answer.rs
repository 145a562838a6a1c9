//! What records say of endpoints: pure.

use super::{super::Attributes, Member, Srv};
use crate::base::{Error, Kind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

/// Which addresses count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// All: a host with an address of each kind is two endpoints.
    #[default]
    All,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Family {
    /// Whether an endpoint can be there at all.
    fn takes(self, ip: &IpAddr) -> bool {
        let family = match self {
            Family::All => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        };
        // 0.0.0.0 is what filtering resolvers say for "no"
        family && !ip.is_unspecified() && !ip.is_multicast()
    }
}

/// The most endpoints that one name can have; more are left out, and that is told. One answer over TCP has room for
/// about as many.
pub(super) const MEMBERS_MAX: usize = 4096;

pub(super) type Members = BTreeMap<SocketAddr, Member<SocketAddr>>;

/// A name that can be asked for: at most 253 letters, digits, `-` and `_`, in labels of at most 63; or an address.
pub(super) fn check(name: &str) -> Result {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    let text = name.strip_suffix('.').unwrap_or(name);
    if text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label)) {
        return Ok(());
    }
    // what a stranger sent is not repeated at length
    let shown: String = name.chars().flat_map(char::escape_default).take(64).collect();
    Err(Error::new(Kind::Invalid, "not a host name").at(shown))
}

/// A target of SRV records as it is asked for; none for `.`, which is nowhere.
pub(super) fn target(record: &Srv) -> Option<String> {
    let name = record.target.strip_suffix('.').unwrap_or(&record.target);
    (!name.is_empty() && record.port > 0).then(|| name.to_ascii_lowercase())
}

/// One endpoint for each address, and whether any were left out. Which are does not depend on the order of the answer:
/// the highest addresses.
pub(super) fn hosts(ips: &[IpAddr], port: u16, family: Family) -> (Members, bool) {
    let taken: BTreeSet<_> = ips.iter().filter(|ip| family.takes(ip)).map(|ip| SocketAddr::new(*ip, port)).collect();
    let cut = taken.len() > MEMBERS_MAX;
    (taken.into_iter().take(MEMBERS_MAX).map(|address| (address, Member::new(address))).collect(), cut)
}

/// The endpoints of the lowest priority of which any target has an address, and whether any were left out. `ips` are the
/// targets' addresses.
pub(super) fn services(records: &[Srv], ips: &BTreeMap<String, Vec<IpAddr>>, family: Family) -> (Members, bool) {
    let mut tiers: BTreeMap<u16, BTreeMap<(String, u16), u32>> = BTreeMap::new();
    for record in records {
        let Some(name) = target(record) else { continue };
        let weight = tiers.entry(record.priority).or_default().entry((name, record.port)).or_default();
        *weight = weight.saturating_add(record.weight.into());
    }
    let found = tiers.iter().map(|(priority, tier)| spread(*priority, tier, ips, family));
    found.into_iter().find(|(members, _)| !members.is_empty()).unwrap_or_default()
}

/// Shares the weight of each target among its addresses.
fn spread(
    priority: u16,
    tier: &BTreeMap<(String, u16), u32>,
    ips: &BTreeMap<String, Vec<IpAddr>>,
    family: Family,
) -> (Members, bool) {
    let places: Vec<_> = tier
        .iter()
        .map(|((name, port), weight)| {
            let mut taken: Vec<_> = ips.get(name).into_iter().flatten().filter(|ip| family.takes(ip)).collect();
            taken.sort_unstable();
            taken.dedup();
            (name, *port, *weight, taken)
        })
        .filter(|(_, _, _, taken)| !taken.is_empty())
        .collect();
    let weights = || places.iter().map(|(_, _, weight, _)| *weight);
    // weight 0 is "hardly ever" beside others, and equal among its like; here it would be "never"
    let scale = if weights().any(|weight| weight == 0) && weights().any(|weight| weight > 0) { 10 } else { 1 };
    let counts = || places.iter().map(|(_, _, _, taken)| taken.len());
    let parts = if counts().min() == counts().max() { None } else { Some(60) };
    let (mut members, mut cut) = (Members::new(), false);
    for (name, port, weight, taken) in &places {
        let whole = weight.saturating_mul(scale).max(1);
        let share = u32::try_from(taken.len()).unwrap_or(u32::MAX).max(1);
        let weight = parts.map_or(whole, |parts| (whole.saturating_mul(parts) / share).max(1));
        for ip in taken {
            let address = SocketAddr::new(**ip, *port);
            let full = members.len() >= MEMBERS_MAX;
            match members.get_mut(&address) {
                Some(Member { attributes: Attributes { weight: sum, .. }, .. }) => *sum = sum.saturating_add(weight),
                None if full => cut = true,
                None => {
                    let member = Member::new(address).about(|it| {
                        it.weight(weight).label("host", name.as_str()).label("priority", priority.to_string());
                    });
                    members.insert(address, member);
                }
            }
        }
    }
    (members, cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 80, target: target.into() }
    }

    fn weights(records: &[Srv], ips: &[(&str, &[u8])]) -> Vec<(u8, u32)> {
        let ips = ips
            .iter()
            .map(|(name, last)| (name.to_string(), last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()));
        let (members, _) = services(records, &ips.collect(), Family::All);
        let last = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        members.iter().map(|(address, member)| (last(address), member.attributes.weight)).collect()
    }

    #[test]
    fn the_lowest_priority_that_has_an_address_is_used_by_weight() {
        let records = [srv(20, 1, "c"), srv(10, 3, "a."), srv(10, 1, "B")];
        assert_eq!(weights(&records, &[("a", &[1]), ("b", &[2]), ("c", &[3])]), [(1, 3), (2, 1)]);
        assert_eq!(weights(&records, &[("c", &[3])]), [(3, 1)], "none of the first has one");
        assert_eq!(weights(&records, &[]), []);
        assert_eq!(weights(&[srv(0, 0, ".")], &[("", &[1])]), [], "decidedly not there");
    }

    #[test]
    fn weight_zero_is_hardly_ever_beside_others_and_equal_among_its_like() {
        let ips: [(&str, &[u8]); 2] = [("a", &[1]), ("b", &[2])];
        assert_eq!(weights(&[srv(0, 0, "a"), srv(0, 0, "b")], &ips), [(1, 1), (2, 1)]);
        assert_eq!(weights(&[srv(0, 0, "a"), srv(0, 50, "b")], &ips), [(1, 1), (2, 500)]);
    }

    #[test]
    fn the_addresses_of_a_target_share_its_weight() {
        let records = [srv(0, 10, "a"), srv(0, 10, "b")];
        let seen = weights(&records, &[("a", &[1, 2, 3]), ("b", &[4])]);
        assert_eq!(seen, [(1, 200), (2, 200), (3, 200), (4, 600)]);
        assert_eq!(weights(&records, &[("a", &[1, 2]), ("b", &[3, 4])]), [(1, 10), (2, 10), (3, 10), (4, 10)]);
        assert_eq!(weights(&records, &[("a", &[1]), ("b", &[1])]), [(1, 20)], "two names of one place");
    }

    #[test]
    fn addresses_that_are_none_are_left_out() {
        let ips: Vec<IpAddr> =
            ["0.0.0.0", "10.0.0.1", "::", "fd00::1", "224.0.0.1", "10.0.0.1"].map(|ip| ip.parse().unwrap()).into();
        let keys = |family| hosts(&ips, 80, family).0.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(keys(Family::All), ["10.0.0.1:80", "[fd00::1]:80"]);
        assert_eq!((keys(Family::V4), keys(Family::V6)), (vec!["10.0.0.1:80".into()], vec!["[fd00::1]:80".into()]));
    }

    #[test]
    fn hostile_names_are_refused_and_not_repeated() {
        for good in ["cart", "cart.shop.", "_http._tcp.cart", "10.0.0.1", "::1", &"a.".repeat(126)] {
            check(good).unwrap();
        }
        let long = "x".repeat(64);
        let endless = "a.".repeat(100_000);
        for bad in ["", ".", "a..b", "a b", "a\nb", "ä", "a/b", "*", &long, &endless, "\0"] {
            let error = check(bad).unwrap_err();
            assert!(error.kind() == Kind::Invalid && error.to_string().len() < 100, "{error}");
        }
        assert_eq!(check("a\nb").unwrap_err().to_string(), "a\\nb: invalid: not a host name");
    }

    #[test]
    fn any_records_make_endpoints_that_can_be_drawn() {
        let mut rng = Seed::new(11).rng();
        for _ in 0..2_000 {
            let names = rng.below(8);
            let records: Vec<_> = (0..rng.below(40))
                .map(|_| Srv {
                    priority: rng.below(3) as u16,
                    weight: *rng.choose(&[0, 1, 7, u16::MAX]).unwrap(),
                    port: rng.below(3) as u16,
                    target: rng.below(names + 1).to_string(),
                })
                .collect();
            let ips = (0..names).map(|name| {
                (name.to_string(), (0..rng.below(5)).map(|_| IpAddr::from([10, 0, 0, rng.below(9) as u8])).collect())
            });
            let ips = ips.collect();
            let (members, _) = services(&records, &ips, Family::All);
            assert!(members.values().all(|it| it.attributes.weight > 0 && it.address.port() > 0));
            let tier = |it: &Member<SocketAddr>| it.attributes.labels.get("priority").unwrap().to_owned();
            let tiers: std::collections::BTreeSet<_> = members.values().map(tier).collect();
            assert!(tiers.len() <= 1, "one priority at a time");
        }
        let many: Vec<_> = (0..70_000_u32).map(|number| IpAddr::from((0x0A00_0001 + number).to_be_bytes())).collect();
        let (members, cut) = hosts(&many, 80, Family::All);
        assert_eq!((members.len(), cut), (MEMBERS_MAX, true));
        let ips = BTreeMap::from([("a".to_string(), many)]);
        let (members, cut) = services(&[srv(0, u16::MAX, "a"), srv(0, 0, "b")], &ips, Family::All);
        assert_eq!((members.len(), cut), (MEMBERS_MAX, true));
    }
}
