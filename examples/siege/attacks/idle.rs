//! Connections on which nothing is ever sent.

use std::sync::Arc;

use super::{Allowance, Attack, KIB, Lasts, MIB, Reaches};
use crate::connection::{Manner, Reading, Then};

pub(super) const IDLE: Attack = Attack {
    name: "idle",
    what: "connections on which nothing is sent",
    connections: [10_000, 2_000],
    opened_per_second: 4_000,
    manner: |_| Manner { opening: Arc::from([]), then: Then::Nothing, reading: Reading::Nothing },
    lasts: Lasts::ForTheTime,
    reaches_upstream: Reaches::Nothing,
    // A session and its timer in the core, a socket and its place in two maps in the shell: together below a kilobyte.
    allowance: Allowance { bytes_per_connection: KIB, bytes_in_all: MIB, includes_buffered: false },
};
