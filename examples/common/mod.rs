//! What the examples share that put the real binary under load.
//!
//! - [`ending`]: the end of a run, which nobody has to wait for.
//! - [`process`]: memory, descriptors and processor time of the proxy.
//! - [`program`]: where the proxy's release binary is.
//! - [`ranks`]: percentiles of times.
//! - [`rest`]: how everything comes to rest after the load, and how the proxy ends.
//!
//! Each example compiles all of it and uses a part.

#![allow(dead_code)]

pub(crate) mod ending;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod ranks;
pub(crate) mod rest;
