//! Large bodies at once from many honest users, before an upstream that takes its time: more in all than the proxy may
//! buffer. It may take them one after another, and may refuse none.

use super::{Allowance, Attack, Lasts, MIB, Reaches, completion, completion_body};
use crate::connection::{Manner, Reading, Then};

const BODY_BYTES: [usize; 2] = [48 * 1024 * 1024, 24 * 1024 * 1024];

/// Until the answer's head.
const HEAD_DELAY_MS: [u64; 2] = [1_500, 500];

/// Words of the answer.
pub(super) const EVENTS: usize = 8;

pub(super) const UPLOADS: Attack = Attack {
    name: "uploads",
    what: "large bodies at once, in all more than may be buffered, each to be answered 200",
    connections: [40, 12],
    opened_per_second: 500,
    manner: |scale| Manner {
        opening: completion(
            &format!(
                "Connection: close\r\nx-fake-head-delay-ms: {}\r\nx-fake-events: {EVENTS}\r\n\
                 x-fake-prompt-tokens: 1000\r\n",
                scale.of(HEAD_DELAY_MS)
            ),
            &completion_body(scale.of(BODY_BYTES), false),
        ),
        then: Then::Nothing,
        reading: Reading::Whole,
    },
    lasts: Lasts::UntilAllAreAnswered,
    reaches_upstream: Reaches::Some,
    // What the bound does not count: buffers of connections, and what the allocator keeps of vectors that grew.
    allowance: Allowance { bytes_per_connection: MIB, bytes_in_all: 64 * MIB, includes_buffered: true },
};

/// Whether an upload got what the upstream has for it.
pub(crate) fn is_answered(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.starts_with("HTTP/1.1 200 ") && text.contains(crate::support::fake::answer_text(EVENTS).trim_end())
}
