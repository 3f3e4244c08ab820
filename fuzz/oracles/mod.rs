//! What must hold for any input, one oracle for each fuzz target.
//!
//! An oracle takes bytes and panics when what it knows does not hold. It is written from the documents (the
//! RFCs, the manual, ARCHITECTURE.md) and as unlike the code under test as it can be: whole inputs instead
//! of states, lists instead of wheels, `serde_json` instead of a scanner.
//!
//! The same oracles run in two places: under libFuzzer, which makes up inputs (`fuzz_targets`), and in
//! `cargo test`, which replays the committed ones (`tests/fuzz_corpus.rs`). So nothing here knows libFuzzer.
//!
//! Texts are read as they are, so that a seed is a plain file. Sequences of operations are read byte by
//! byte with [`operations::Operations`].

// In the test binary, and in the fuzz crate, each a part is out of reach.
#![allow(dead_code, unreachable_pub)]

mod body_inspection;
mod budgets;
mod chunked_body;
mod config;
mod connect_answer;
mod json_events;
mod json_scanner;
mod limit_headers;
mod operations;
mod proxy;
mod proxy_checks;
mod proxy_says;
mod request_head;
mod response_head;
mod retry_after;
mod room;
mod split;
mod state_file;
mod strict_head;
mod timer_wheel;
mod usage_json;
mod usage_sse;
mod wait_queue;
#[allow(unused_imports)]
#[path = "../../tests/support/world/mod.rs"]
mod world;

pub use body_inspection::body_inspection;
pub use budgets::budgets;
pub use chunked_body::chunked_body;
pub use config::config;
pub use connect_answer::connect_answer;
pub use json_scanner::json_scanner;
pub use limit_headers::limit_headers;
pub use proxy::proxy;
pub use request_head::request_head;
pub use response_head::response_head;
pub use retry_after::retry_after;
pub use state_file::state_file;
pub use timer_wheel::timer_wheel;
pub use usage_json::usage_json;
pub use usage_sse::usage_sse;
pub use wait_queue::wait_queue;

/// How far an input came. Seeds are named by it, so that a corpus that is refused as a whole is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The code under test took it for what it claims to be, and everything was checked.
    Accepted,
    /// The code under test refused it, or the input is outside of what the oracle can judge.
    Refused,
}
