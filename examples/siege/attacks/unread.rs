//! Fast streams for clients that do not read them, or hardly.

use std::time::Duration;

use super::{Allowance, Attack, KIB, Lasts, MIB, Reaches, completion, completion_body};
use crate::connection::{Manner, Reading, Then};
use crate::options::Scale;

/// Bytes of a comment behind each word of the answer.
const PADDING_BYTES: usize = 64 * 1024;

/// Words of an answer: of more bytes than all buffers of the system on its way hold.
const EVENTS: [usize; 2] = [320, 240];

/// A client that takes 160 KiB in a second.
const SIP: Reading = Reading::Sips { bytes: 16 * 1024, every: Duration::from_millis(100) };

/// A session, a request, two connections, one of them with TLS and its buffers, and what is held of the answer, for
/// which a vector may have twice the room.
const ALLOWANCE: Allowance =
    Allowance { bytes_per_connection: 448 * KIB, bytes_in_all: 2 * MIB, includes_buffered: false };

pub(super) const UNREAD: Attack = Attack {
    name: "unread",
    what: "streams of 20 MiB from a fast upstream to clients that read nothing",
    connections: [64, 16],
    opened_per_second: 100,
    manner: |scale| streamed(scale, Reading::Nothing),
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::All,
    allowance: ALLOWANCE,
};

pub(super) const SIPPED: Attack = Attack {
    name: "sipped",
    what: "the same to clients that read 160 KiB in a second",
    connections: [64, 16],
    opened_per_second: 100,
    manner: |scale| streamed(scale, SIP),
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::All,
    allowance: ALLOWANCE,
};

fn streamed(scale: Scale, reading: Reading) -> Manner {
    let fields = format!("x-fake-events: {}\r\nx-fake-padding: {PADDING_BYTES}\r\n", scale.of(EVENTS));
    Manner { opening: completion(&fields, &completion_body(200, true)), then: Then::Nothing, reading }
}
