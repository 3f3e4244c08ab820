//! Slowloris on heads: each request begins well, and its head never ends.

use std::sync::Arc;
use std::time::Duration;

use super::{Allowance, Attack, KIB, Lasts, MIB, Reaches};
use crate::connection::{Manner, Reading, Then};

const BEGINNING: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n";

/// A field that can be sent for ever.
const FIELD: &[u8] = b"X-Patience: wait\r\n";

const BYTE_EVERY: Duration = Duration::from_millis(300);

pub(super) const HEADS: Attack = Attack {
    name: "heads",
    what: "slowloris: heads that come a byte at a time and never end",
    connections: [2_000, 500],
    opened_per_second: 2_000,
    manner: |_| Manner {
        opening: Arc::from(BEGINNING),
        then: Then::Drip { bytes: FIELD, every: BYTE_EVERY },
        reading: Reading::Nothing,
    },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Nothing,
    // What an idle one costs, and the bytes of its head with the vector's room to grow.
    allowance: Allowance { bytes_per_connection: 2 * KIB, bytes_in_all: MIB, includes_buffered: false },
};
