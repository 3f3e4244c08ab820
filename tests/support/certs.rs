//! Certificates made at test time.
//!
//! Owns the test authority, the leaf certificates (good and bad) it issues, and the rustls configurations made of
//! them. It opens no connection and writes no file.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

/// The names a server on this machine answers to.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Which certificate a server shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateKind {
    /// Issued by the authority for [`LOCAL_NAMES`], valid now.
    #[default]
    Valid,
    /// As valid, but its time ended in 2002.
    Expired,
    /// As valid, but for `wrong.example` only.
    WrongHost,
    /// Right names and time, but issued by an authority nobody trusts.
    UnknownIssuer,
}

/// Which TLS versions a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 only.
    Only12,
    /// TLS 1.3 only.
    Only13,
}

/// A certificate authority that lives as long as the test.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl CertificateAuthority {
    /// A new authority with a key of its own.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names cannot be malformed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "fireworks-proxy test authority");
        let certificate = params.self_signed(&key).expect("the parameters above are complete");
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's certificate as PEM text, fit for `FIREWORKS_PROXY_CA_FILE`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A leaf certificate of the given kind for [`LOCAL_NAMES`].
    pub fn issue(&self, kind: CertificateKind) -> Identity {
        match kind {
            CertificateKind::Valid => self.issue_for(&LOCAL_NAMES, 2100),
            CertificateKind::Expired => self.issue_for(&LOCAL_NAMES, 2002),
            CertificateKind::WrongHost => self.issue_for(&["wrong.example"], 2100),
            CertificateKind::UnknownIssuer => Self::new().issue_for(&LOCAL_NAMES, 2100),
        }
    }

    /// A leaf certificate for these DNS names and IP addresses, valid from 2001 to the start of a year.
    pub fn issue_for(&self, names: &[&str], valid_until_year: i32) -> Identity {
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("the test's names are well-formed");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(valid_until_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer's key signs");
        Identity { certificate: certificate.der().clone(), key_der: key.serialize_der() }
    }

    /// A client configuration that trusts this authority and nobody else.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("the authority's own certificate parses");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// A leaf certificate with its private key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Identity {
    /// A server configuration that shows this certificate.
    pub fn server_config(&self, versions: TlsVersions) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions.supported())
            .expect("ring supports both versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .expect("certificate and key belong together");
        Arc::new(config)
    }
}

impl TlsVersions {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Both => &BOTH,
            Self::Only12 => &BOTH[1..],
            Self::Only13 => &BOTH[..1],
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
