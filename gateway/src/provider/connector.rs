//! Opens connections to upstreams: resolves once, refuses private addresses, connects to the address it checked.
//! `provider::client` puts TLS on top.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::address::AddressRule;

#[derive(Clone, Copy, Debug)]
pub struct Connector {
    pub rule: AddressRule,
    /// For name resolution and all addresses together.
    pub timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the address of the provider has no host")]
    NoHost,
    #[error("the provider's host resolves to a private address")]
    PrivateAddress,
    #[error("the provider's host does not resolve")]
    Resolve(#[source] io::Error),
    #[error("no address of the provider takes a connection")]
    Connect(#[source] io::Error),
    #[error("connecting took longer than {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl Connector {
    async fn connect(self, target: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let connecting = self.connect_to_any(&target);
        let socket = tokio::time::timeout(self.timeout, connecting)
            .await
            .map_err(|_| ConnectError::Timeout(self.timeout))??;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Ok(TokioIo::new(socket))
    }

    async fn connect_to_any(&self, target: &Uri) -> Result<TcpStream, ConnectError> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.resolve(target).await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(ConnectError::Connect(last))
    }

    /// All addresses of the host, or a refusal if any one of them is not allowed.
    async fn resolve(&self, target: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = target
            .host()
            .filter(|host| !host.is_empty())
            .ok_or(ConnectError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let https = target.scheme_str() == Some("https");
        let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => tokio::net::lookup_host((host, port))
                .await
                .map_err(ConnectError::Resolve)?
                .collect(),
        };
        if addresses
            .iter()
            .any(|address| !self.rule.allows(address.ip()))
        {
            return Err(ConnectError::PrivateAddress);
        }
        Ok(addresses)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.connect(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Connector = Connector {
        rule: AddressRule::PublicOnly,
        timeout: Duration::from_secs(5),
    };

    #[tokio::test]
    async fn names_and_odd_spellings_of_private_addresses_are_refused() {
        for target in [
            "http://localhost/",
            "http://localhost./",
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
        ] {
            let outcome = PUBLIC.connect(target.parse().unwrap()).await;
            let error = outcome.map(|_| ()).unwrap_err();
            // A resolver that does not know the old spellings says that the name does not exist.
            let refused = matches!(
                error,
                ConnectError::PrivateAddress | ConnectError::Resolve(_)
            );
            assert!(refused, "{target}: {error}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_reached_when_that_is_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target: Uri = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let connector = Connector {
            rule: AddressRule::PrivateToo,
            ..PUBLIC
        };
        assert!(connector.connect(target).await.is_ok());
    }
}
