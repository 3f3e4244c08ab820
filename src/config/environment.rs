//! The variables of others that are heeded, as curl and OpenSSL heed them.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

/// Name a forward proxy for `https://`; the first that is set counts (curl(1), "Environment").
pub(super) const FORWARD_PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// List the hosts that are reached without one; the first that is set counts.
pub(super) const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Names a file of trusted roots (OpenSSL, `X509_get_default_cert_file_env`). `SSL_CERT_DIR` is not read.
pub(super) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";

/// What they are set to. One that is set to nothing counts as not set, as it does for curl.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// Keeps a variable if it is one of these. Windows does not tell names apart by case; elsewhere
    /// `Https_Proxy` means nothing.
    pub(super) fn take(&mut self, name: &str, value: &OsStr) {
        let all = FORWARD_PROXY.into_iter().chain(NO_PROXY).chain([SSL_CERT_FILE]);
        let is_same =
            |known: &&str| if cfg!(windows) { known.eq_ignore_ascii_case(name) } else { *known == name };
        // The spelling that was used is the one that an error names.
        let known = all.clone().find(|known| *known == name).or_else(|| all.clone().find(is_same));
        if let Some(known) = known.filter(|_| !value.is_empty()) {
            self.0.insert(known, value.to_owned());
        }
    }

    /// The first of these that is set, and what it is set to.
    pub(super) fn first(&self, names: &[&'static str]) -> Option<(&'static str, &OsStr)> {
        names.iter().find_map(|name| Some((*name, self.0.get(name)?.as_os_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_set_to_something_counts() {
        let mut environment = Environment::default();
        for (name, value) in
            [("ALL_PROXY", "a"), ("https_proxy", ""), ("HTTPS_PROXY", "b"), ("HTTP_PROXY", "c")]
        {
            environment.take(name, OsStr::new(value));
        }
        assert_eq!(environment.first(&FORWARD_PROXY), Some(("HTTPS_PROXY", OsStr::new("b"))));
        environment.take("https_proxy", OsStr::new("d"));
        assert_eq!(environment.first(&FORWARD_PROXY), Some(("https_proxy", OsStr::new("d"))));
        assert_eq!(environment.first(&NO_PROXY), None);
    }

    #[test]
    fn only_windows_knows_other_spellings() {
        let mut environment = Environment::default();
        environment.take("Ssl_Cert_File", OsStr::new("roots.pem"));
        assert_eq!(environment.first(&[SSL_CERT_FILE]).is_some(), cfg!(windows));
    }
}
