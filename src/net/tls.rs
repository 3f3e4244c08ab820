//! TLS to the upstream: trusted roots, names and what failures mean.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::{StartError, certificate};
use crate::{
    config::Config,
    failure::{Failure, FailureClass},
};

/// Begins TLS connections to the upstream.
#[derive(Debug)]
pub(super) struct Connector {
    /// `None` for plain HTTP to a loopback host.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    /// Reads the trusted roots. TLS 1.2 and 1.3; certificates and host names are verified.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        if !config.upstream.tls {
            return Ok(Self { tls: None });
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &config.ca_file {
            add_roots(&mut roots, path).map_err(|accepted| {
                config.error("FIREWORKS_PROXY_CA_FILE", path.display().to_string(), accepted)
            })?;
        }
        let host = config.upstream.host.clone();
        let name = ServerName::try_from(host).map_err(|error| {
            let accepted = format!("a host name that a certificate can be for ({error})");
            config.error("FIREWORKS_PROXY_UPSTREAM", config.upstream.to_string(), accepted)
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let mut tls = builder
            .expect("ring supports TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some((Arc::new(tls), name)) })
    }

    /// A new TLS connection; `None` where the upstream is spoken to in plain HTTP.
    pub(super) fn begin(&self) -> Result<Option<ClientConnection>, Failure> {
        let Some((tls, name)) = &self.tls else { return Ok(None) };
        ClientConnection::new(Arc::clone(tls), name.clone()).map(Some).map_err(|error| failure_of(&error))
    }
}

/// What a TLS error amounts to.
pub(super) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::InvalidCertificate(why) => {
            Failure::new(FailureClass::TlsCertificate, certificate::reason(why))
        }
        Error::NoCertificatesPresented => Failure::new(FailureClass::TlsCertificate, "it shows none"),
        _ => Failure::new(FailureClass::TlsOther, error.to_string()),
    }
}

/// Trusts the certificates of a file; else what the file should have been.
fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("a readable PEM file of certificates ({error})"))?;
    if certificates.is_empty() {
        return Err("a PEM file with at least one certificate".to_owned());
    }
    for (index, certificate) in certificates.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|error| format!("valid certificates; number {} is not ({error})", index + 1))?;
    }
    Ok(())
}
