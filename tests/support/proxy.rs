//! The proxy under test: the real server on its own thread, on ports that the system chose.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use fireworks_proxy::{
    config::{Config, Raw},
    net::{Server, Stopper},
};

use super::{client, fake::FakeFireworks};

/// A running proxy with a state file of its own. Stops when dropped.
pub struct ProxyUnderTest {
    addresses: Vec<SocketAddr>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl ProxyUnderTest {
    /// A proxy in front of `fake`, with further settings as `(name without prefix, value)`.
    pub fn start(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the state file");
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, fake.ca_pem()).expect("the CA file is written");
        let upstream = fake.base_url();
        let mut all =
            vec![("UPSTREAM", upstream.as_str()), ("CA_FILE", ca_file.to_str().expect("a UTF-8 path"))];
        all.extend_from_slice(settings);
        Self::start_with(folder, &all)
    }

    /// A proxy with these settings and no others, but for the port and the state file, and but for
    /// retries: a test that is about them says how many.
    pub fn start_with(folder: tempfile::TempDir, settings: &[(&str, &str)]) -> Self {
        let state_file = folder.path().join("daily_usage.json");
        let state_file = state_file.to_str().expect("a UTF-8 path");
        let mut all = vec![("PORT", "0"), ("USAGE_STATE", state_file), ("MAX_RETRIES", "0")];
        all.extend_from_slice(settings);
        let variables =
            all.iter().map(|(name, value)| (format!("FIREWORKS_PROXY_{name}").into(), value.into()));
        let raw = Raw::from_variables(variables).expect("Unicode settings");
        let config = Config::from_raw(&raw).expect("settings that are accepted");
        let mut server = Server::bind(config).expect("the proxy starts");
        let (addresses, stopper) = (server.addresses(), server.stopper());
        let thread = std::thread::spawn(move || {
            server.run().expect("the event loop runs");
        });
        Self { addresses, stopper, thread: Some(thread), folder }
    }

    /// The IPv4 address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address that is listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The state file.
    pub fn state_file(&self) -> PathBuf {
        self.folder.path().join("daily_usage.json")
    }

    /// The folder of the state file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection to the proxy.
    pub fn connect(&self) -> client::Client {
        client::Client::connect(self.address())
    }

    /// A request on a connection of its own.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], json: &str) -> client::Response {
        client::post_json(self.address(), path, headers, json)
    }

    /// `/usage`, parsed.
    pub fn usage(&self) -> serde_json::Value {
        client::get(self.address(), "/usage").json()
    }

    /// `/health`, parsed.
    pub fn health(&self) -> serde_json::Value {
        client::get(self.address(), "/health").json()
    }

    /// Stops the proxy and gives its folder, so that another can go on with its state file.
    pub fn stop(mut self) -> tempfile::TempDir {
        self.join();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder to drop"))
    }

    fn join(&mut self) {
        // Twice, because nobody waits for what is under way.
        self.stopper.stop();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the proxy panicked");
        }
    }
}

impl Drop for ProxyUnderTest {
    fn drop(&mut self) {
        self.join();
    }
}
