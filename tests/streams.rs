//! Streams through the running proxy: without delay, and ended by whoever ends them first.
//!
//! - [`early`]: answers that begin before the request has been sent.
//! - [`flow`]: what passes, in which pieces, and on which connections.
//! - [`leaving`]: clients that leave before the end, or right at it.
//! - [`breaks`]: upstreams that break off.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "streams/breaks.rs"]
mod breaks;
#[path = "streams/early.rs"]
mod early;
#[path = "streams/flow.rs"]
mod flow;
#[path = "streams/leaving.rs"]
mod leaving;
