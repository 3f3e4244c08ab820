//! A local HTTP/1.1 proxy that lets many AI coding agents share one Fireworks account.
//!
//! Agents point their base URL at it. It holds each request until the request bucket and the rolling
//! token budgets of its model have room, sends it over a TLS connection that serves that request and
//! no other, relays the answer as it comes, reads the token usage out of it, and settles the budgets
//! with what was really used. Limits show as waiting instead of as 429s.
//!
//! # The shape
//!
//! A pure state machine that knows HTTP, budgets and queues, inside a thin shell that knows sockets,
//! clocks and files. The core is everything but [`net`]; its one door is [`proxy::Proxy`].
//!
//! # The walk of one request
//!
//! The modules are listed in the order in which a request meets them.
//!
//! 1. [`net`] accepts the connection and delivers what it reads through [`proxy`] to its
//!    [`session`], as [`event::Input`].
//! 2. [`http`] reads the head and the body, and refuses whatever is in doubt.
//! 3. [`access`] lets it in, or does not.
//! 4. [`route`] decides: a page of [`status`], or on to the upstream.
//! 5. [`inspect`] walks the body once, with the scanner of [`json`].
//! 6. [`admission`] lets it wait in the [`queue`] until the [`budget`]s have room.
//! 7. The session's exchange asks for a connection of its own and sends the request.
//!    What was refused for the moment or lost before an answer is tried again, by the rules of [`retry`].
//! 8. [`relay`] passes the response on through the [`outbox`]; [`usage`] watches it go by.
//! 9. The reservation is settled, the [`ledger`] counts the day, [`stats`] counts everything, and [`history`] keeps the last hour; [`state`] is what
//!    another run needs of that.
//!
//! What cannot be served ends in a [`rejection`]; what goes wrong at the upstream is a [`failure`].
//! The command line's other answers are in [`cli`]. What does not work around us is an [`outage`]. What the log is
//! told are entries of the [`journal`]. [`context`] is what all sessions share. [`config`],
//! [`time`] and [`calendar`] are known to all.
//!
//! # Invariants
//!
//! - Nothing but `net` and `main` touches a clock, a thread, a socket, a file or a random source.
//! - Mutate once, drain [`proxy::Proxy::poll_output`], mutate again. Same inputs and times, same
//!   outputs.
//! - A reservation ends in exactly one of settle and refund.
//! - Nobody waits without a timer, and everything has a bound with a name.
//! - A panic means our bug: no input from a client, an upstream, a file or the environment panics.

pub mod net;
pub mod proxy;
pub mod session;

pub mod http;

pub mod access;

pub mod route;

pub mod json;

pub mod inspect;

pub mod admission;
pub mod budget;
pub mod queue;

pub mod retry;

pub mod outbox;
pub mod relay;
pub mod usage;

pub mod history;
pub mod ledger;
pub mod state;
pub mod stats;

pub mod failure;
pub mod rejection;
pub mod status;

pub mod context;
pub mod event;
pub mod journal;
pub mod memory;
pub mod outage;

pub mod cli;

pub mod calendar;
pub mod config;
pub mod connect;
pub mod time;
