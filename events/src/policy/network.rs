//! An address or a block of addresses in CIDR notation, IPv4 or IPv6. An IPv4 address written as IPv6 is that IPv4
//! address.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, or a block such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct ParseNetworkError;

impl Network {
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.base)
    }
}

/// `None` when the prefix is of the other family's length.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let host = 32_u8.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(u32::from(host)).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let host = 128_u8.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(u32::from(host)).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
                let prefix = prefix.parse::<u8>().ok().filter(|_| digits);
                (address, Some(prefix.ok_or(ParseNetworkError)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let (address, prefix) = match (address, address.to_canonical(), prefix) {
            (_, canonical @ IpAddr::V4(_), None) => (canonical, 32),
            (_, canonical @ IpAddr::V6(_), None) => (canonical, 128),
            (IpAddr::V6(_), canonical @ IpAddr::V4(_), Some(prefix)) if prefix >= MAPPED => {
                (canonical, prefix - MAPPED)
            }
            (given, _, Some(prefix)) => (given, prefix),
        };
        let base = masked(address, prefix).ok_or(ParseNetworkError)?;
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// The bits before an IPv4 address in its IPv6 form.
const MAPPED: u8 = (Ipv6Addr::BITS - 32) as u8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_begins_with_their_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.255.255.255"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::ffff:192.0.2.0/120", "192.0.2.200", "192.0.3.0"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.has(inside.parse().unwrap()), "{network} {inside}");
            assert!(
                !network.has(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::/129",
            "a/8",
            "10.0.0.1 ",
        ] {
            assert_eq!(text.parse::<Network>(), Err(ParseNetworkError), "{text:?}");
        }
    }
}
