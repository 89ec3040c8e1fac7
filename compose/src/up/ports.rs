//! Which ports everything listens on, decided before anything starts. A chosen port is held by a socket until the child
//! that gets it is about to be spawned, so that two of ours never choose the same one.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::Context as _;
use aws_lc_rs::rand;

use super::options::{UpOptions, UsageError};

/// The ports of one run; they stay as they are when a child is restarted.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) gateways: Vec<HeldPort>,
    pub(crate) admin: HeldPort,
    pub(crate) demo: Option<HeldPort>,
}

/// A port that nobody else can take until `release`.
#[derive(Debug)]
pub(crate) struct HeldPort {
    pub(crate) addr: SocketAddr,
    _listener: TcpListener,
}

impl HeldPort {
    /// Lets go of the port; the child binds it next.
    pub(crate) fn release(self) -> SocketAddr {
        self.addr
    }
}

impl Ports {
    /// Those that are given first, then the defaults or whatever is free after them.
    pub(crate) fn choose(options: &UpOptions) -> anyhow::Result<Self> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let demo_wanted = !options.no_demo;
        let mut gateway = given(options.host, options.gateway_port, "--gateway-port")?;
        let mut admin = given(options.host, options.admin_port, "--admin-port")?;
        let mut demo = match options.demo_port {
            Some(port) if demo_wanted => given(loopback, Some(port), "--demo-port")?,
            Some(_) | None => None,
        };
        let first = match gateway.take() {
            Some(held) => held,
            None => next_free(options.host, GATEWAY_PORT)?,
        };
        let admin = match admin.take() {
            Some(held) => held,
            None => next_free(options.host, ADMIN_PORT)?,
        };
        let demo = match demo.take() {
            None if demo_wanted => Some(next_free(loopback, DEMO_PORT)?),
            held => held,
        };
        let mut gateways = vec![first];
        for _ in 1..options.gateways {
            gateways.push(any_free(options.host)?);
        }
        Ok(Self {
            gateways,
            admin,
            demo,
        })
    }
}

/// Any free port outside the range from which the kernel takes the ports of outgoing connections: a child that is started
/// again must find its port free.
pub(crate) fn any_free(host: IpAddr) -> anyhow::Result<HeldPort> {
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        rand::fill(&mut random).context("random bytes")?;
        let port = LOWEST_FREE + u16::from_le_bytes(random) % FREE_PORTS;
        if let Ok(held) = hold(host, port) {
            return Ok(held);
        }
    }
    hold(host, 0).with_context(|| format!("find a free port on {host}"))
}

fn given(host: IpAddr, port: Option<u16>, flag: &str) -> anyhow::Result<Option<HeldPort>> {
    match port {
        None => Ok(None),
        Some(0) => any_free(host).map(Some),
        Some(port) => hold(host, port).map(Some).map_err(|error| {
            UsageError(format!(
                "{flag} {port}: {host}:{port} cannot be used: {error}"
            ))
            .into()
        }),
    }
}

fn next_free(host: IpAddr, wanted: u16) -> anyhow::Result<HeldPort> {
    (wanted..wanted + ATTEMPTS)
        .find_map(|port| hold(host, port).ok())
        .map_or_else(|| any_free(host), Ok)
}

fn hold(host: IpAddr, port: u16) -> io::Result<HeldPort> {
    let listener = TcpListener::bind((host, port))?;
    Ok(HeldPort {
        addr: listener.local_addr()?,
        _listener: listener,
    })
}

const GATEWAY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;
const DEMO_PORT: u16 = 8082;
const ATTEMPTS: u16 = 100;
const LOWEST_FREE: u16 = 18_000;
/// Up to 31,999, below Linux' default ephemeral range.
const FREE_PORTS: u16 = 14_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_taken_port_gives_the_next_free_one() {
        let taken = any_free(HERE).unwrap();
        let next = next_free(HERE, taken.addr.port()).unwrap();
        assert!(next.addr.port() > taken.addr.port());
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_wrong_usage() {
        let taken = any_free(HERE).unwrap();
        let port = taken.addr.port();
        let error = given(HERE, Some(port), "--gateway-port").unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert_eq!(taken.release().port(), port);
        assert!(given(HERE, Some(port), "--gateway-port").unwrap().is_some());
    }

    #[test]
    fn a_free_port_is_none_that_outgoing_connections_get() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let lowest = range.map_or(32_768, |text| {
            let first = text.split_whitespace().next();
            first.and_then(|text| text.parse().ok()).unwrap_or(32_768)
        });
        let port = any_free(HERE).unwrap().addr.port();
        assert!(port < lowest || lowest < LOWEST_FREE, "{port}");
    }
}
