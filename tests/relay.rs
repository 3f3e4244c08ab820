//! Requests through the running proxy and back, over real sockets and real TLS.
//!
//! - [`requests`]: what of a request reaches the upstream, and how.
//! - [`responses`]: what of a response reaches the client.
//! - [`usage`]: what is read on the way, as the page `/usage` shows it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "relay/requests.rs"]
mod requests;
#[path = "relay/responses.rs"]
mod responses;
#[path = "relay/usage.rs"]
mod usage;
