//! TLS of the API port. The certificate is read again when its files change, without a restart.

use crate::config::Tls;
use anyhow::{Context, ensure};
use off_kit::{Kit, LogLimit};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tracing::{info, warn};

/// How often the files are compared with what is used.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The settings of TLS; `None` without a certificate.
///
/// # Errors
/// The files cannot be read, or the key is not that of the certificate.
pub(crate) fn start(kit: &Kit, config: &Tls) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (Some(certificate), Some(key)) = (&config.tls_cert_file, &config.tls_key_file) else { return Ok(None) };
    let files = Files { certificate: certificate.clone(), key: key.clone() };
    let provider = Arc::new(ring::default_provider());
    let read = files.read()?;
    let current = Arc::new(Current(RwLock::new(read.parse(&provider)?)));
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut every = kit.tasks.every(kit.clock.shortened(POLL_INTERVAL));
    kit.tasks.spawn("certificate", async move {
        let (mut used, log_limit) = (read, LogLimit::default());
        while every.tick().await {
            let (files, provider, before) = (files.clone(), provider.clone(), used.clone());
            let changed = tokio::task::spawn_blocking(move || files.read_if_changed(&before, &provider)).await?;
            match changed {
                Ok(None) => {}
                Ok(Some((read, parsed))) => {
                    *current.0.write().unwrap_or_else(PoisonError::into_inner) = parsed;
                    used = read;
                    info!("the certificate has changed and is used from now on");
                }
                // Certificate and key are replaced one after the other.
                Err(error) => {
                    if let Some(suppressed) = log_limit.admit() {
                        warn!(suppressed, "the changed certificate cannot be used, the last one stays: {error:#}");
                    }
                }
            }
        }
        Ok(())
    });
    Ok(Some(Arc::new(server)))
}

/// The files of a certificate.
#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files contain. Not `Debug`: it has the private key.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(&self) -> anyhow::Result<Contents> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let certificate = read(&self.certificate).context("TLS_CERT_FILE")?;
        let key = read(&self.key).context("TLS_KEY_FILE")?;
        Ok(Contents { certificate, key })
    }

    fn read_if_changed(
        &self,
        used: &Contents,
        provider: &CryptoProvider,
    ) -> anyhow::Result<Option<(Contents, Arc<CertifiedKey>)>> {
        let read = self.read()?;
        if read == *used {
            return Ok(None);
        }
        let parsed = read.parse(provider)?;
        Ok(Some((read, parsed)))
    }
}

impl Contents {
    fn parse(&self, provider: &CryptoProvider) -> anyhow::Result<Arc<CertifiedKey>> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.context("TLS_CERT_FILE: it contains no certificates in PEM format")?;
        // The error of the parser could repeat parts of the key.
        let key = PrivateKeyDer::from_pem_slice(&self.key).ok();
        let key = key.context("TLS_KEY_FILE: it contains no private key in PEM format")?;
        let certified = CertifiedKey::from_der(chain, key, provider);
        let certified = certified.context("TLS_KEY_FILE: it is not the key of the certificate in TLS_CERT_FILE")?;
        ensure!(certified.keys_match().is_ok(), "TLS_KEY_FILE: it is not the key of the certificate in TLS_CERT_FILE");
        Ok(Arc::new(certified))
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
