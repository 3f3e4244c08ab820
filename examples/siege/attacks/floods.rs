//! Floods: connections that close at once, and requests whose answers nobody reads.

use std::sync::Arc;

use super::{Allowance, Attack, KIB, Lasts, MIB, Reaches, completion, completion_body};
use crate::connection::{Manner, Reading, Then};

/// So many requests are written at once.
const PIPELINED: usize = 1_000;

pub(super) const CONNECTS: Attack = Attack {
    name: "connects",
    what: "connections that send the beginning of a head and close, every second one by a reset",
    connections: [2_000, 500],
    opened_per_second: 1_000,
    manner: |_| Manner { opening: Arc::from(&b"GET /hea"[..]), then: Then::Close, reading: Reading::Nothing },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Nothing,
    // Those of one turn at most are open at once.
    allowance: Allowance { bytes_per_connection: 0, bytes_in_all: MIB, includes_buffered: false },
};

pub(super) const PIPELINES: Attack = Attack {
    name: "pipelines",
    what: "clients that pipeline requests for a page by the thousand and read no answer",
    connections: [64, 16],
    opened_per_second: 500,
    manner: |_| Manner {
        opening: b"GET /usage HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(PIPELINED).into(),
        then: Then::Repeat,
        reading: Reading::Nothing,
    },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Nothing,
    // Pipelined requests up to the longest head, and one page.
    allowance: Allowance { bytes_per_connection: 160 * KIB, bytes_in_all: MIB, includes_buffered: false },
};

pub(super) const REQUESTS: Attack = Attack {
    name: "requests",
    what: "clients that pipeline completions by the thousand and read no answer",
    connections: [16, 8],
    opened_per_second: 500,
    manner: |_| Manner {
        opening: completion("x-fake-head-delay-ms: 200\r\n", &completion_body(200, true))
            .repeat(PIPELINED)
            .into(),
        then: Then::Repeat,
        reading: Reading::Nothing,
    },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Some,
    // Pipelined requests up to the longest head, what is held of an answer, and two connections with TLS.
    allowance: Allowance { bytes_per_connection: 320 * KIB, bytes_in_all: 2 * MIB, includes_buffered: false },
};
