//! The attacks: each says what its connections do, how many there are, and what that may cost.
//!
//! What it may cost is memory: so much for each connection, and so much for all of them together. The figures are
//! bounds of the design with room for the allocator, not what happened to be measured.

mod floods;
mod heads;
mod idle;
mod trickles;
mod unread;
pub(crate) mod uploads;

use std::sync::Arc;

use crate::connection::Manner;
use crate::options::{Options, Scale};

/// One mebibyte.
const MIB: u64 = 1024 * 1024;

/// One kibibyte.
const KIB: u64 = 1024;

/// All of them, from those that send nothing to those that send most.
pub(crate) const ALL: [&Attack; 9] = [
    &idle::IDLE,
    &heads::HEADS,
    &trickles::TRICKLES,
    &floods::CONNECTS,
    &floods::PIPELINES,
    &floods::REQUESTS,
    &unread::UNREAD,
    &unread::SIPPED,
    &uploads::UPLOADS,
];

/// One attack.
pub(crate) struct Attack {
    /// One word for the table and the command line.
    pub(crate) name: &'static str,
    /// What happens, in a line.
    pub(crate) what: &'static str,
    /// How many connections there are at once.
    pub(crate) connections: [usize; 2],
    pub(crate) opened_per_second: usize,
    /// What each of them does.
    pub(crate) manner: fn(Scale) -> Manner,
    pub(crate) lasts: Lasts,
    /// How many of its requests are to be at the upstream at one moment: an attack that does not get there proves
    /// nothing.
    pub(crate) reaches_upstream: Reaches,
    pub(crate) allowance: Allowance,
}

/// When an attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// After the time of the options, with all connections open.
    ForTheTime,
    /// When every connection has its answer. They are the requests of honest users, and each must be answered 200.
    UntilAllAreAnswered,
}

/// How many connections of an attack are to be at the upstream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaches {
    /// None of them.
    Nothing,
    /// Some.
    Some,
    /// All.
    All,
}

/// By how much memory may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// For each connection.
    pub(crate) bytes_per_connection: u64,
    /// For all together.
    pub(crate) bytes_in_all: u64,
    /// Whether the bound of buffered bytes comes on top.
    pub(crate) includes_buffered: bool,
}

impl Allowance {
    /// In bytes.
    pub(crate) fn bytes(self, connections: usize, options: &Options) -> u64 {
        let buffered = if self.includes_buffered { options.buffered_mib * MIB } else { 0 };
        self.bytes_per_connection * connections as u64 + self.bytes_in_all + buffered
    }
}

/// A completion's body of so many bytes.
fn completion_body(bytes: usize, is_stream: bool) -> String {
    let start = format!(
        r#"{{"model":"besieged","max_tokens":16,"stream":{is_stream},"messages":[{{"role":"user","content":""#
    );
    let end = r#""}]}"#;
    let text = ".".repeat(bytes.saturating_sub(start.len() + end.len()));
    start + &text + end
}

/// A completion: these fields and this body.
fn completion(fields: &str, body: &str) -> Arc<[u8]> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Authorization: Bearer fw_siege\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    (head + body).into_bytes().into()
}
