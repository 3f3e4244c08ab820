//! Files of trusted roots, beside those that are built in. What is in them is read elsewhere.

use std::path::PathBuf;

use super::{Raw, environment::SSL_CERT_FILE};

/// A PEM file of trusted roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// The variable that names it.
    pub named_by: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl CaFile {
    /// Ours, and OpenSSL's. Each adds to the built-in roots.
    pub(super) fn from_raw(raw: &Raw) -> Vec<Self> {
        let name = "FIREWORKS_PROXY_CA_FILE";
        let ours = raw.written(name).map(|path| Self { named_by: name, path: path.into() });
        let others = raw.environment.first(&[SSL_CERT_FILE]);
        let others = others.map(|(named_by, path)| Self { named_by, path: path.into() });
        ours.into_iter().chain(others).collect()
    }
}
