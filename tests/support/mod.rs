//! What the integration tests, the examples and the benches share.
//!
//! - [`binary`]: the real binary in a process of its own, and its log.
//! - [`certs`]: a certificate authority made at test time, and the good and bad certificates it issues.
//! - [`client`]: a small blocking HTTP/1.1 client that shows the framing instead of hiding it.
//! - [`dice`]: random numbers from a seed.
//! - [`failing`]: one failure as everybody is told of it.
//! - [`fake`]: the fake Fireworks, scripted by `x-fake-*` request headers.
//! - [`forward_proxy`]: a forward proxy that does what it is told.
//! - [`front`]: what stands before a fake and loses or holds up connections.
//! - [`log`]: what proxies in this process log.
//!
//! Nothing here uses the library under test, except `proxy` (which starts it). Each binary that declares
//! `mod support;` compiles all of it and uses a part.

// Each binary uses a part of this, and a `pub` item of a test binary is reachable from nowhere else.
#![allow(dead_code, unused_imports, unreachable_pub)]
// The core may not touch clocks, threads and sockets; the test support is made of them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod binary;
pub mod certs;
pub mod client;
pub mod dice;
pub mod failing;
pub mod fake;
pub mod forward_proxy;
pub mod front;
pub mod log;
pub mod proxy;
pub mod raw_upstream;
pub mod wire;
pub mod world;
