//! skeleton
pub mod config;
pub mod http;
pub mod inspect;
pub mod json;
pub mod route;
pub mod time;
pub mod usage;
