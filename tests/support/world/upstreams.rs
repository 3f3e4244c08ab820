//! The upstream's side of the world: what came there, and what it answers.

use fireworks_proxy::{event::ConnId, time::Mono};

use super::{Side, World, answer_bytes, answer_with};

impl World {
    /// The latest upstream connection on which the request with this `x-name` came.
    pub fn upstream_of(&self, name: &str) -> Option<ConnId> {
        self.upstreams_of(name).pop()
    }

    /// Every upstream connection on which the request with this `x-name` came, in their order.
    pub fn upstreams_of(&self, name: &str) -> Vec<ConnId> {
        let field = format!("x-name: {name}\r\n");
        let is_it = |side: &Side| String::from_utf8_lossy(&side.got).contains(&field);
        self.upstreams.iter().filter(|(_, side)| is_it(side)).map(|(conn, _)| *conn).collect()
    }

    /// When the request with this `x-name` was started, each time.
    pub fn starts_of(&self, name: &str) -> Vec<Mono> {
        let upstreams = self.upstreams_of(name);
        self.dials.iter().filter(|(_, conn)| upstreams.contains(conn)).map(|(at, _)| *at).collect()
    }

    /// The `x-name` of every request that the upstream has got, in the order of their connections.
    pub fn names(&self) -> Vec<String> {
        let name = |side: &Side| {
            let text = String::from_utf8_lossy(&side.got).into_owned();
            let (_, rest) = text.split_once("x-name: ")?;
            rest.lines().next().map(str::to_owned)
        };
        self.upstreams.values().filter_map(name).collect()
    }

    /// What an upstream connection was sent.
    pub fn sent_to(&self, upstream: ConnId) -> &[u8] {
        &self.upstreams[&upstream].got
    }

    /// The upstream connections that were asked for and are not closed.
    pub fn live_upstreams(&self) -> Vec<ConnId> {
        self.upstreams.iter().filter(|(_, side)| !side.is_closed).map(|(conn, _)| *conn).collect()
    }

    /// The upstream connections that are open and have got something.
    pub fn open_upstreams(&self) -> Vec<ConnId> {
        let open = self.upstreams.iter().filter(|(_, side)| !side.is_closed && !side.got.is_empty());
        open.map(|(conn, _)| *conn).collect()
    }

    /// The upstream answers a request with these tokens, none of the prompt cached.
    #[track_caller]
    pub fn answer(&mut self, name: &str, prompt: u64, generated: u64) {
        let upstream = self.upstream_of(name).unwrap_or_else(|| panic!("{name} is not at the upstream"));
        self.deliver(upstream, answer_bytes(prompt, generated).as_bytes());
    }

    /// The upstream answers a request with these bytes.
    #[track_caller]
    pub fn reply(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let upstream = self.upstream_of(name).unwrap_or_else(|| panic!("{name} is not at the upstream"));
        assert!(!self.is_closed(upstream), "{name} is not at the upstream any more");
        self.deliver(upstream, bytes.as_ref());
    }

    /// The upstream answers a request with this status, these fields and nothing else.
    #[track_caller]
    pub fn refuse(&mut self, name: &str, status: u16, fields: &str) {
        self.reply(name, answer_with(status, fields, ""));
    }

    /// The upstream answers a request with an error, which costs nothing and is not tried again.
    #[track_caller]
    pub fn fail(&mut self, name: &str) {
        let upstream = self.upstream_of(name).unwrap_or_else(|| panic!("{name} is not at the upstream"));
        self.deliver(upstream, b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n");
    }
}
