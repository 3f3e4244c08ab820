//! A simulated world drives the core alone: virtual time, clients, links and an upstream that do everything
//! that they can do, kills and restarts; and a model that knows only the rules looks at every step.
//!
//! One seed decides everything. A failure says which seed and step it was, what happened last, and how to
//! replay it: `SIMULATION_SEED=n SIMULATION_STEPS=m cargo test --test simulation replay`.
//! `SIMULATION_SEEDS=n` runs more seeds than the 256 of every day.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// A `pub` item of a test binary is reachable from nowhere else.
#![allow(unreachable_pub)]

mod support;

mod simulation {
    pub mod answer;
    pub mod clients;
    pub mod engine;
    pub mod fireworks;
    pub mod history;
    pub mod pipe;
    pub mod process;
    pub mod reader;
    pub mod request;
    pub mod rules;
    pub mod runs;
    pub mod swarm;
    pub mod turns;
    pub mod whims;
}
