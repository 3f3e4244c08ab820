//! What goes wrong on the way to the upstream and back, and within the proxy: each failure has one code and one
//! side, which the client, the log and `/usage` agree on.
//!
//! Upstreams that cannot be reached at all, or do not speak HTTP, are in `bad_input`.
//!
//! - [`clients`]: time limits of clients, and what else goes wrong on their side.
//! - [`upstreams`]: time limits of the upstream, and answers that stop.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "failures/clients.rs"]
mod clients;
#[path = "failures/upstreams.rs"]
mod upstreams;
