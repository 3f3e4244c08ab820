//! What is strict: a table of messages, each with the section of the RFC that it is about and what has to come of it.
//!
//! - [`table`]: the cases.
//! - [`parsing`]: each of them read whole, byte by byte and in random pieces, with the same outcome.
//! - [`requests`]: each request through a running proxy: what reaches the upstream is one well-formed request or
//!   nothing, and nothing is smuggled behind it.
//! - [`responses`]: each response through a running proxy: what reaches the client is one well-formed answer, a
//!   refusal, or a cut that shows.
//! - [`reference`]: a second opinion on what is well-formed, which shares nothing with the proxy.
//! - [`upstream`]: the upstream that records and plays bytes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "strict/parsing.rs"]
mod parsing;
#[path = "strict/reference.rs"]
mod reference;
#[path = "strict/requests.rs"]
mod requests;
#[path = "strict/responses.rs"]
mod responses;
#[path = "strict/table/mod.rs"]
mod table;
#[path = "strict/upstream.rs"]
mod upstream;
