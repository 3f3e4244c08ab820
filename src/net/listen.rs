//! The listening sockets.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream},
};

use super::StartError;
use crate::config::{Config, Host};

/// How often a port that the system chose for one address is tried on the other.
const SHARED_PORT_ATTEMPTS_MAX: usize = 20;

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) token: Token,
    pub(super) address: SocketAddr,
    /// Whether a client may be waiting.
    pub(super) is_ready: bool,
}

impl Listener {
    /// The next client; `None` when there was none after all.
    pub(super) fn accept(&mut self) -> io::Result<Option<TcpStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_ready = false;
                Ok(None)
            }
            // The client left before it was accepted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Opens the listeners that the settings ask for. `localhost` is both loopback addresses, on one
/// port: Python clients and Codex try `::1` first, and whoever else listened there would get their keys.
pub(super) fn bind(config: &Config, registry: &Registry) -> Result<Vec<Listener>, StartError> {
    let sockets = match config.host {
        Host::Address(address) => listen(address, config.port).map(|socket| vec![socket]),
        Host::Localhost => bind_localhost(config.port),
    };
    let sockets = sockets.map_err(|error| error.told(config))?;
    let watch = |(index, mut socket): (usize, TcpListener)| {
        let token = Token(index + 1);
        let address = socket.local_addr()?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Listener { socket, token, address, is_ready: false })
    };
    let listeners = sockets.into_iter().enumerate().map(watch).collect::<io::Result<_>>();
    listeners
        .map_err(|error| StartError::System { what: "cannot watch the listening socket".to_owned(), error })
}

fn bind_localhost(port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let mut attempts = 0;
    loop {
        let v4 = listen(Ipv4Addr::LOCALHOST.into(), port)?;
        let shared_port = v4.local_addr().map_or(port, |address| address.port());
        attempts += 1;
        match listen(Ipv6Addr::LOCALHOST.into(), shared_port) {
            Ok(v6) => return Ok(vec![v4, v6]),
            // The machine has no IPv6.
            Err(ListenError { error, .. }) if is_absent(&error) => return Ok(vec![v4]),
            Err(_) if port == 0 && attempts < SHARED_PORT_ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an address does not exist on this machine.
fn is_absent(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own: 97 on Linux, 47 on macOS, 10047 on Windows.
    error.kind() == io::ErrorKind::AddrNotAvailable || matches!(error.raw_os_error(), Some(97 | 47 | 10_047))
}

#[derive(Debug)]
struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

fn listen(address: IpAddr, port: u16) -> Result<TcpListener, ListenError> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address).map_err(|error| ListenError { address, error })
}

impl ListenError {
    /// Which setting is to blame, and what could be done.
    fn told(self, config: &Config) -> StartError {
        let Self { address, error } = self;
        let (name, value, accepted) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "FIREWORKS_PROXY_PORT",
                address.port().to_string(),
                format!(
                    "a free port; {address} is in use. Stop what listens there (kill_proxy.ps1 does, if it is \
                     this proxy), or set FIREWORKS_PROXY_PORT to another port"
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                "FIREWORKS_PROXY_PORT",
                address.port().to_string(),
                "a port that this user may listen on, for example one above 1023".to_owned(),
            ),
            _ => (
                "FIREWORKS_PROXY_HOST",
                address.ip().to_string(),
                format!("an address of this machine ({error})"),
            ),
        };
        StartError::Config(config.error(name, value, accepted))
    }
}
