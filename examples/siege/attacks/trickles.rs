//! Slowloris on bodies: each announces a large one and sends next to nothing of it.

use std::time::Duration;

use super::{Allowance, Attack, KIB, Lasts, MIB, Reaches};
use crate::connection::{Manner, Reading, Then};

/// Below the largest body that the proxy takes by default.
const ANNOUNCED_BYTES: u64 = 50 * MIB;

const BYTE_EVERY: Duration = Duration::from_millis(300);

pub(super) const TRICKLES: Attack = Attack {
    name: "trickles",
    what: "slowloris: bodies of 50 MiB are announced and come a byte at a time",
    connections: [1_000, 300],
    opened_per_second: 1_000,
    manner: |_| Manner {
        opening: format!(
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             x-api-key: fw_siege\r\nContent-Length: {ANNOUNCED_BYTES}\r\n\r\n"
        )
        .into_bytes()
        .into(),
        then: Then::Drip { bytes: b" ", every: BYTE_EVERY },
        reading: Reading::Nothing,
    },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Nothing,
    // What an idle one costs, the head as it was understood, and the bytes of the body that have come: what was
    // announced counts for nothing.
    allowance: Allowance { bytes_per_connection: 8 * KIB, bytes_in_all: MIB, includes_buffered: false },
};
