//! Certificates made at test time.
//!
//! Owns the test authority, the leaf certificates (good and bad) it issues, and the rustls configurations made of
//! them. It opens no connection and writes no file.

mod small_rsa;
mod weak;

use std::{ops::Range, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::{CryptoProvider, ring::sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use small_rsa::SmallRsaKey;

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
    /// As valid, but its time begins in 2090.
    NotYetValid,
    /// As valid, but for no name, only with `localhost` as its common name.
    CommonNameOnly,
    /// Right names and time, but issued by an authority nobody trusts.
    UnknownIssuer,
    /// The same, and that authority bears the name of the one that is trusted.
    ForgedIssuer,
    /// Right names and time, but issued by itself.
    SelfSigned,
    /// The same, and it says that it is an authority, as `openssl req -x509` does unasked.
    SelfSignedAuthority,
    /// Right names and time, but issued by a server's certificate, which the authority issued.
    IssuedByServer,
    /// Right names and time, but issued with an RSA key of 1024 bits, whose root is trusted.
    WeakIssuerKey,
    /// Right names and time, but issued with a SHA-1 signature, whose root is trusted.
    WeakSignature,
    /// Right names, time and issuer, but for an RSA key of 1024 bits. TLS 1.2 only.
    WeakServerKey,
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
        Self::named("fireworks-proxy test authority")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names cannot be malformed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
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

    /// The roots that are to be trusted where a server shows a certificate of this kind, as PEM text.
    pub fn trusted_pem(&self, kind: CertificateKind) -> &str {
        match kind {
            CertificateKind::WeakIssuerKey => weak::RSA_1024_ROOT,
            CertificateKind::WeakSignature | CertificateKind::WeakServerKey => weak::RSA_2048_ROOT,
            _ => &self.pem,
        }
    }

    /// A leaf certificate of the given kind for [`LOCAL_NAMES`].
    pub fn issue(&self, kind: CertificateKind) -> Identity {
        let by = |issuer, params| Identity::new(Some(issuer), &params);
        match kind {
            CertificateKind::Valid => by(&self.issuer, server(&LOCAL_NAMES, 2001..2100)),
            CertificateKind::Expired => by(&self.issuer, server(&LOCAL_NAMES, 2001..2002)),
            CertificateKind::NotYetValid => by(&self.issuer, server(&LOCAL_NAMES, 2090..2100)),
            CertificateKind::WrongHost => by(&self.issuer, server(&["wrong.example"], 2001..2100)),
            CertificateKind::CommonNameOnly => {
                let mut params = server(&[], 2001..2100);
                params.distinguished_name.push(DnType::CommonName, "localhost");
                by(&self.issuer, params)
            }
            CertificateKind::UnknownIssuer => {
                by(&Self::named("nobody's authority").issuer, server(&LOCAL_NAMES, 2001..2100))
            }
            CertificateKind::ForgedIssuer => by(&Self::new().issuer, server(&LOCAL_NAMES, 2001..2100)),
            CertificateKind::SelfSigned => Identity::new(None, &server(&LOCAL_NAMES, 2001..2100)),
            CertificateKind::SelfSignedAuthority => {
                let mut params = server(&LOCAL_NAMES, 2001..2100);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                Identity::new(None, &params)
            }
            CertificateKind::IssuedByServer => self.issue_through_server(),
            CertificateKind::WeakIssuerKey => Identity::from_pem(weak::RSA_1024_LEAF, weak::LEAF_KEY),
            CertificateKind::WeakSignature => Identity::from_pem(weak::SHA_1_LEAF, weak::LEAF_KEY),
            CertificateKind::WeakServerKey => {
                Identity { chain: vec![certificate(weak::RSA_1024_SERVER)], key: Arc::new(SmallRsaKey) }
            }
        }
    }

    /// A certificate whose issuer has one of this authority, but may not issue any.
    fn issue_through_server(&self) -> Identity {
        let mut params = server(&["middle.example"], 2001..2100);
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name.push(DnType::CommonName, "middle.example");
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let middle = params.signed_by(&key, &self.issuer).expect("the issuer's key signs");
        let mut identity = Identity::new(Some(&Issuer::new(params, key)), &server(&LOCAL_NAMES, 2001..2100));
        identity.chain.push(middle.der().clone());
        identity
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

/// A server's certificate for these DNS names and IP addresses, valid from the start of a year to that of
/// another.
fn server(names: &[&str], years: Range<i32>) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("the test's names are well-formed");
    params.not_before = date_time_ymd(years.start, 1, 1);
    params.not_after = date_time_ymd(years.end, 1, 1);
    params
}

/// A leaf certificate, those between it and its root, and its private key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl Identity {
    /// A certificate with a new key; without an issuer it signs itself.
    fn new(issuer: Option<&Issuer<'static, KeyPair>>, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        };
        let certificate = certificate.expect("the issuer's key signs");
        let key = signing_key(&PrivatePkcs8KeyDer::from(key.serialize_der()).into());
        Self { chain: vec![certificate.der().clone()], key }
    }

    fn from_pem(leaf: &str, key: &str) -> Self {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a private key");
        Self { chain: vec![certificate(leaf)], key: signing_key(&key) }
    }

    /// A server configuration that shows this certificate.
    pub fn server_config(&self, versions: TlsVersions) -> Arc<ServerConfig> {
        let shown = CertifiedKey::new(self.chain.clone(), Arc::clone(&self.key));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions.supported())
            .expect("ring supports both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        Arc::new(config)
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

fn signing_key(key: &PrivateKeyDer<'_>) -> Arc<dyn SigningKey> {
    any_supported_type(key).expect("ring signs with it")
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
