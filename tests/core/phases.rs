//! The phases of a request, to be entered by tests of what can happen in each.

use fireworks_proxy::event::{ConnId, Input};

use super::{BODY, SECOND};
use crate::support::world::{World, answer_with, chat, streamed};

/// The body of a request for a streamed answer.
pub(super) const STREAM: &str = r#"{"model":"m","stream":true}"#;

/// Where a request can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its head is coming.
    Head,
    /// Its body is coming.
    Body,
    Queued,
    Connecting,
    /// The upstream has taken a part of it.
    Sending,
    /// It is sent whole, and there is no answer.
    Sent,
    /// An answer that is not passed on is coming.
    Held,
    Paused,
    QueuedAgain,
    ConnectingAgain,
    SentAgain,
    /// Its answer is coming, and is taken.
    Streaming,
    /// Its answer is coming, and is not taken.
    Stuck,
    /// Its answer is whole, and not taken.
    Flushing,
}

impl Phase {
    pub(super) const ALL: [Self; 14] = [
        Self::Head,
        Self::Body,
        Self::Queued,
        Self::Connecting,
        Self::Sending,
        Self::Sent,
        Self::Held,
        Self::Paused,
        Self::QueuedAgain,
        Self::ConnectingAgain,
        Self::SentAgain,
        Self::Streaming,
        Self::Stuck,
        Self::Flushing,
    ];

    /// Whether the request waits for room or for another try.
    pub(super) fn is_waiting(self) -> bool {
        matches!(self, Self::Queued | Self::Paused | Self::QueuedAgain)
    }

    /// Whether it has an upstream connection.
    pub(super) fn is_at_upstream(self) -> bool {
        !self.is_waiting() && !matches!(self, Self::Head | Self::Body | Self::Flushing)
    }

    /// Brings a request named `a` there, in a world whose lanes have room for one request at a time; a
    /// request named `blocker` takes that room where it has to wait. Gives its client.
    pub(super) fn enter(self, world: &mut World) -> ConnId {
        let request = chat("a", "", STREAM);
        match self {
            Self::Head => return world.client_with(&request[..20]),
            Self::Body => return world.client_with(&request[..request.len() - 5]),
            Self::Queued => Self::block(world),
            Self::Connecting | Self::Sending => world.connects = false,
            _ => {}
        }
        let client = world.client_with(&request);
        match self {
            Self::Sending => {
                let upstream = world.dialed.pop_front().expect("it was dialed");
                world.stall(upstream);
                world.input(upstream, Input::Connected);
                world.take(upstream, 20);
            }
            Self::Held => world.reply("a", "HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nx"),
            Self::Streaming => world.reply("a", streamed(&["one"])),
            Self::Stuck => {
                world.stall(client);
                world.reply("a", streamed(&["one"]));
            }
            Self::Flushing => {
                world.stall(client);
                world.answer("a", 5, 5);
            }
            Self::Paused | Self::QueuedAgain | Self::ConnectingAgain | Self::SentAgain => {
                world.reply("a", answer_with(503, "", "no room"));
                self.come_back(world);
            }
            _ => {}
        }
        client
    }

    fn block(world: &mut World) {
        world.client_with(&chat("blocker", "", BODY));
    }

    fn come_back(self, world: &mut World) {
        match self {
            Self::QueuedAgain => Self::block(world),
            Self::ConnectingAgain => world.connects = false,
            _ => {}
        }
        if self != Self::Paused {
            world.advance(SECOND * 2);
        }
    }
}
