//! The nouns that the core and the shell exchange.

use std::time::Duration;

use crate::{failure::Failure, journal::Entry, time::Wall};

/// Names a connection, to a client or to the upstream. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// The id with this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Something that happened on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A client connected; the id is a fresh one from [`crate::proxy::Proxy::next_conn_id`].
    Accepted,
    /// The forward proxy on the way of an upstream connection has let it through; TLS comes next.
    Tunneled,
    /// The upstream connection that [`Output::Dial`] asked for is ready, its TLS handshake done.
    Connected,
    /// Bytes came: at most [`crate::proxy::Proxy::window`] of them.
    Received(&'a [u8]),
    /// So many bytes of [`crate::proxy::Proxy::pending_write`] went out.
    Wrote(usize),
    /// The peer ended its side in good order.
    Eof,
    /// The connection is of no further use.
    Failed(Failure),
}

/// What the shell is asked to do. Bytes to write are pulled with
/// [`crate::proxy::Proxy::pending_write`] instead.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a new connection to the upstream under this id; answer with `Connected` or `Failed`.
    Dial(ConnId),
    /// This connection has bytes to write, or room again for bytes to read.
    Run(ConnId),
    /// Send the end of our side; the peer's side stays open.
    ShutdownWrite(ConnId),
    /// Close the connection and forget its id.
    Close(ConnId),
    /// Replace the state file by these bytes; answer with [`crate::proxy::Proxy::handle_saved`].
    Save(Vec<u8>),
    /// Write an entry to the log.
    Log(log::Level, Entry),
    /// Measure the process; answer with [`crate::proxy::Proxy::handle_measured`]. This client's page waits for it.
    Measure(ConnId),
}

/// What the system says of this process. What it does not say is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessFigures {
    /// Memory that is really there, in bytes.
    pub resident_bytes: Option<u64>,
    /// Addresses that are in use, in bytes.
    pub virtual_bytes: Option<u64>,
    /// The processor time that was used, of the program and of the system on its behalf.
    pub cpu: Option<Duration>,
    /// Open descriptors.
    pub open_descriptors: Option<u64>,
    /// How many there may be.
    pub descriptors_max: Option<u64>,
    /// When the process was started.
    pub started_at: Option<Wall>,
}

/// Why the core wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The deadline of a client's session.
    Session(ConnId),
    /// There may be room for a waiting request.
    Admission,
    /// The day's count has to be saved.
    Save,
    /// The line of statistics is due.
    StatsLine,
    /// A sample of the last hour is due.
    Sample,
    /// What is still under way when the proxy is stopped has had its time.
    DrainEnd,
}
