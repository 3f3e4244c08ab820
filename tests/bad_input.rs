//! What bad input gets: requests that are malformed or too large, and upstreams that cannot be reached.
//!
//! - [`requests`]: nothing of them reaches the upstream.
//! - [`upstreams`]: the client and the log are told what it was, and whether Fireworks saw the request.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "bad_input/requests.rs"]
mod requests;
#[path = "bad_input/upstreams.rs"]
mod upstreams;
