//! What comes after TCP on the way to the upstream: a forward proxy's tunnel, where there is one, and TLS with its
//! trusted roots and names; and what failures mean.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, crypto::ring, pki_types::ServerName};

use super::{StartError, certificate, roots};
use crate::{
    config::{CaFile, Config, ForwardProxy, Upstream},
    connect::Connect,
    failure::{Failure, FailureClass},
};

/// Makes a TCP connection one to the upstream.
#[derive(Debug)]
pub(super) struct Connector {
    forward_proxy: Option<(ForwardProxy, Upstream)>,
    /// The files of trusted roots, and how many there were in each.
    added_roots: Vec<(CaFile, usize)>,
    /// `None` for plain HTTP to a loopback host.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    /// Reads the trusted roots. TLS 1.2 and 1.3; certificates and host names are verified.
    pub(super) fn new(config: &Config) -> Result<Self, StartError> {
        let forward_proxy = config.forward_proxy.clone().map(|proxy| (proxy, config.upstream.clone()));
        if !config.upstream.tls {
            return Ok(Self { forward_proxy, added_roots: Vec::new(), tls: None });
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut added_roots = Vec::new();
        for file in &config.ca_files {
            let count = roots::add(&mut roots, &file.path)
                .map_err(|accepted| config.error(file.named_by, file.path.display().to_string(), accepted))?;
            added_roots.push((file.clone(), count));
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
        Ok(Self { forward_proxy, added_roots, tls: Some((Arc::new(tls), name)) })
    }

    /// What trusted roots there are besides the built-in ones, in words; empty where there are none.
    pub(super) fn added_roots(&self) -> String {
        let of_file = |(file, count): &(CaFile, usize)| {
            format!("{count} of {} ({})", file.path.display(), file.named_by)
        };
        self.added_roots.iter().map(of_file).collect::<Vec<_>>().join(" and ")
    }

    /// A tunnel to ask for; `None` where TCP leads to the upstream itself.
    pub(super) fn ask_for_tunnel(&self) -> Option<Connect> {
        self.forward_proxy.as_ref().map(|(proxy, upstream)| Connect::new(proxy, upstream))
    }

    /// What it amounts to that nobody accepts a TCP connection.
    pub(super) fn unreachable(&self, failure: Failure) -> Failure {
        match self.forward_proxy {
            Some(_) => Failure { class: FailureClass::ProxyUnreachable, ..failure },
            None => failure,
        }
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
