//! The way to the upstream through a forward proxy: requests through its tunnel, and every way in which there is none.
//!
//! - [`tunnels`]: requests that get through, and what they look like from outside.
//! - [`refusals`]: each failure, as everybody is told of it.
//! - [`environment`]: the real binary: what names the proxy, what is shown of it, and files of roots.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "forward_proxy/environment.rs"]
mod environment;
#[path = "forward_proxy/refusals.rs"]
mod refusals;
#[path = "forward_proxy/tunnels.rs"]
mod tunnels;
