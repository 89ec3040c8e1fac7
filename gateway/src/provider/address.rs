//! Which addresses an upstream may have. Checked after resolution, on the very address that is connected to, so that a
//! name cannot be pointed inside between the check and the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether upstreams may lie in private networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    PublicOnly,
    /// `UPSTREAM_ALLOW_PRIVATE_ADDRESSES=true`: everything that can be connected to.
    PrivateToo,
}

impl AddressRule {
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::PrivateToo => true,
            Self::PublicOnly => match address {
                IpAddr::V4(v4) => is_public_v4(v4),
                IpAddr::V6(v6) => is_public_v6(v6),
            },
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !PRIVATE_V4.iter().any(|(network, bits)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        address.to_bits() & mask == network.to_bits() & mask
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    // Global unicast is 2000::/3; what lies outside is loopback, local, multicast, or not given out.
    let first = address.segments()[0];
    let global = first & 0xe000 == 0x2000;
    let teredo = first == 0x2001 && address.segments()[1] == 0;
    let documentation = first == 0x2001 && address.segments()[1] == 0x0db8;
    global && !teredo && !documentation
}

/// The IPv4 address that a translator, a tunnel or the kernel would use for it.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let v4_at = |shift: u32| Some(Ipv4Addr::from_bits((bits >> shift) as u32));
    match (bits >> 96) as u32 {
        // ::/96 compatible (which holds :: and ::1), ::ffff:0:0/96 mapped, ::ffff:0:0:0/96 translated
        0 if matches!((bits >> 32) as u64, 0 | 0xffff | 0xffff_0000) => v4_at(0),
        // NAT64: the well-known prefix, and the local one, whose IPv4 is not always at the end
        0x0064_ff9b if (bits >> 32) as u64 == 0 => v4_at(0),
        0x0064_ff9b => Some(Ipv4Addr::UNSPECIFIED),
        // 6to4: 2002::/16
        high if high >> 16 == 0x2002 => v4_at(80),
        _ => None,
    }
}

const PRIVATE_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_in_every_dress() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "::ffff:0:127.0.0.1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(!AddressRule::PublicOnly.allows(address), "{text}");
            assert!(AddressRule::PrivateToo.allows(address), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "8.8.8.8",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(
                AddressRule::PublicOnly.allows(text.parse().unwrap()),
                "{text}"
            );
        }
    }
}
