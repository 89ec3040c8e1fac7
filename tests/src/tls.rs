//! Certificates of a test's own authority, and a front that puts TLS before a server which has none.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An authority that nobody knows who is not told.
pub struct Authority {
    /// Its own certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// When a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Over,
}

impl Authority {
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// A certificate for these names and addresses.
    pub fn certify(&self, names: &[&str], validity: Validity) -> anyhow::Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        if validity == Validity::Over {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate()?;
        Ok(Identity {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Its certificate as a file.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let path = dir.join("authority.pem");
        std::fs::write(&path, &self.pem)?;
        Ok(path)
    }
}

impl Identity {
    /// Certificate and key as files.
    pub fn write(&self, dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        std::fs::write(&certificate, &self.certificate)?;
        std::fs::write(&key, &self.key)?;
        Ok((certificate, key))
    }
}

/// A running front; dropped, it ends.
#[derive(Debug)]
pub struct TlsFront {
    pub address: SocketAddr,
    agreed: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    _tasks: TaskTracker,
}

impl TlsFront {
    /// Takes TLS connections that speak one of `protocols`, and passes on what is in them.
    pub async fn start(
        identity: &Identity,
        protocols: &[&str],
        target: SocketAddr,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(
                    identity.certificate.as_bytes(),
                )?],
                PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?,
            )?;
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let agreed = Arc::new(Mutex::new(Vec::new()));
        let (token, tracker, log) = (stop.clone(), tasks.clone(), Arc::clone(&agreed));
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                let passed = async move { drop(pass(acceptor, client, target, &log).await) };
                tracker.spawn(token.clone().run_until_cancelled_owned(passed));
            }
        }));
        Ok(Self {
            address,
            agreed,
            stop,
            _tasks: tasks,
        })
    }

    /// The protocol of each connection whose handshake was completed.
    pub fn agreed(&self) -> Vec<String> {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn pass(
    acceptor: TlsAcceptor,
    client: TcpStream,
    target: SocketAddr,
    agreed: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let protocol = client.get_ref().1.alpn_protocol().unwrap_or_default();
    agreed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(String::from_utf8_lossy(protocol).into_owned());
    let mut server = TcpStream::connect(target)
        .await
        .context("reach the server behind")?;
    server.set_nodelay(true)?;
    io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
