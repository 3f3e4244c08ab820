//! skeleton
pub mod admission;
pub mod budget;
pub mod config;
pub mod http;
pub mod inspect;
pub mod json;
pub mod queue;
pub mod route;
pub mod time;
pub mod usage;
