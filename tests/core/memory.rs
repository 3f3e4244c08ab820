//! The bounds on all connections together, of their number and of what is held for them: what happens there,
//! and that nothing is lost.

use fireworks_proxy::{
    event::{ConnId, Input},
    proxy::SESSIONS_MAX,
};

use super::{SECOND, phases::STREAM, utc};
use crate::support::world::{World, chat};

const MIB: usize = 1024 * 1024;

/// The largest body, in every test here.
const BODY_BYTES_MAX: usize = MIB;

/// What connections may hold beside bodies: a few heads.
const HEADS_BYTES: usize = 64 * 1024;

/// A core that holds four bodies, and whose upstream takes requests when a test lets it.
fn world() -> World {
    let settings = [
        ("MAX_BODY_MIB", "1"),
        ("MAX_BUFFERED_MIB", "4"),
        ("MAX_WAIT", "86400"),
        ("MAX_HOLD", "86400"),
        ("CONNECT_TIMEOUT", "86400"),
        ("RPS", "1000"),
        ("PROMPT_TPM_LIMIT", "1000000000000"),
        ("UNCACHED_PROMPT_TPM_LIMIT", "1000000000000"),
        ("GENERATED_TPM_LIMIT", "1000000000000"),
    ];
    let mut world = World::new(&settings, utc(5, 21, 2, 0));
    world.connects = false;
    world
}

/// A client and what of its request it has not sent yet.
struct Sender {
    client: ConnId,
    rest: Vec<u8>,
}

impl Sender {
    fn new(world: &mut World, request: Vec<u8>) -> Self {
        Self { client: world.client(), rest: request }
    }

    /// Sends at most so many bytes, as far as the core reads. Whether it read any.
    fn send(&mut self, world: &mut World, count: usize) -> bool {
        let count = count.min(self.rest.len()).min(world.proxy.window(self.client));
        let bytes: Vec<u8> = self.rest.drain(..count).collect();
        if count > 0 {
            world.input(self.client, Input::Received(&bytes));
        }
        count > 0
    }
}

fn with_length(body_bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; body_bytes]].concat()
}

fn chunked(body_bytes: usize) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let size = format!("{body_bytes:x}\r\n");
    [head.as_bytes(), size.as_bytes(), &vec![b'x'; body_bytes], b"\r\n0\r\n\r\n"].concat()
}

/// Senders that have sent all but the last byte, as far as they were read: nobody is whole.
fn unfinished(world: &mut World, count: usize) -> Vec<Sender> {
    let mut senders: Vec<Sender> =
        (0..count).map(|_| Sender::new(world, with_length(BODY_BYTES_MAX))).collect();
    for sender in &mut senders {
        let last = sender.rest.pop().expect("a body");
        while sender.send(world, 60_000) {}
        sender.rest.push(last);
    }
    senders
}

/// All senders send in turns until nobody is read any more, and what is held stays in its bounds.
fn send_in_turns(world: &mut World, senders: &mut [Sender]) {
    let mut goes_on = true;
    while goes_on {
        goes_on = false;
        for sender in senders.iter_mut() {
            goes_on |= sender.send(world, 60_000);
            let held = held_bytes(world);
            // The setting, and one more body.
            assert!(held <= 5 * MIB + HEADS_BYTES, "{held} bytes are held");
        }
    }
}

fn held_bytes(world: &mut World) -> usize {
    world.proxy.context_mut().memory.held_bytes()
}

/// Connects the oldest waiting request and answers it. Whether there was one.
fn answer_one(world: &mut World) -> bool {
    let Some(upstream) = world.dialed.pop_front() else { return false };
    world.input(upstream, Input::Connected);
    world.deliver(upstream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    true
}

#[test]
fn bodies_beyond_the_bound_wait_in_their_senders_and_every_one_is_answered() {
    for request in [with_length, chunked] {
        let mut world = world();
        let mut senders: Vec<Sender> =
            (0..40).map(|_| Sender::new(&mut world, request(BODY_BYTES_MAX))).collect();
        send_in_turns(&mut world, &mut senders);
        let whole = senders.iter().filter(|sender| sender.rest.is_empty()).count();
        assert!((1..=4).contains(&whole), "{whole} were read whole");
        while answer_one(&mut world) {
            send_in_turns(&mut world, &mut senders);
        }
        for sender in &senders {
            assert_eq!(world.status_of(sender.client), Some(200));
        }
        assert_eq!(world.times_logged("requests are read one at a time").len(), 1);
        assert_eq!(world.times_logged("requests are read at full speed again").len(), 1);
        for sender in &senders {
            world.input(sender.client, Input::Eof);
        }
        assert_eq!(held_bytes(&mut world), 0);
        world.assert_settled();
    }
}

#[test]
fn a_client_that_we_do_not_read_is_not_too_slow() {
    let mut world = world();
    let mut senders: Vec<Sender> =
        (0..6).map(|_| Sender::new(&mut world, with_length(BODY_BYTES_MAX))).collect();
    send_in_turns(&mut world, &mut senders);
    world.advance(SECOND * 3_600);
    assert_eq!(world.clients_without_answer().len(), 6, "none was refused in an hour");
    while answer_one(&mut world) {
        send_in_turns(&mut world, &mut senders);
    }
    assert!(senders.iter().all(|sender| world.status_of(sender.client) == Some(200)));
}

#[test]
fn whoever_is_read_while_memory_is_tight_makes_way_when_it_stalls() {
    let mut world = world();
    let mut senders = unfinished(&mut world, 6);
    let is_read = |world: &World, sender: &Sender| world.proxy.window(sender.client) > 0;
    assert_eq!(senders.iter().filter(|sender| is_read(&world, sender)).count(), 1);
    world.advance(SECOND * 1_200);
    let refused = senders.iter().filter(|sender| world.status_of(sender.client) == Some(408)).count();
    assert!(refused >= 2, "{refused} had their turn and sent nothing");
    senders.retain(|sender| world.status_of(sender.client).is_none());
    send_in_turns(&mut world, &mut senders);
    while answer_one(&mut world) {}
    assert!(senders.iter().all(|sender| world.status_of(sender.client) == Some(200)));
}

#[test]
fn whoever_gets_its_turn_has_its_whole_time_from_then_on() {
    let mut world = world();
    let mut senders = unfinished(&mut world, 6);
    // All of them began at once. The first has the turn, and does nothing with it.
    assert!(world.proxy.window(senders[0].client) > 0 && world.proxy.window(senders[1].client) == 0);
    world.advance(SECOND * 61);
    assert_eq!(world.status_of(senders.remove(0).client), Some(408));
    assert_eq!(world.clients_without_answer().len(), 5, "nobody else was read");
    send_in_turns(&mut world, &mut senders);
    while answer_one(&mut world) {
        send_in_turns(&mut world, &mut senders);
    }
    assert!(senders.iter().all(|sender| world.status_of(sender.client) == Some(200)));
}

#[test]
fn a_slow_body_lets_shorter_ones_pass_and_does_not_stay_for_that() {
    let mut world = world();
    let mut slow: Vec<Sender> =
        (0..6).map(|_| Sender::new(&mut world, with_length(BODY_BYTES_MAX))).collect();
    for sender in &mut slow {
        // Less than half of it, as far as it is read.
        let _rounds = (0..8).take_while(|_| sender.send(&mut world, 50_000)).count();
    }
    assert!(world.proxy.context_mut().memory.is_tight());
    let mut seconds = 0;
    while world.status_of(slow[0].client).is_none() {
        let mut quick = Sender::new(&mut world, with_length(200_000));
        while quick.send(&mut world, 60_000) {}
        assert!(quick.rest.is_empty(), "it has less to come, after {seconds} s");
        assert!(answer_one(&mut world));
        assert_eq!(world.status_of(quick.client), Some(200));
        world.input(quick.client, Input::Eof);
        world.advance(SECOND);
        seconds += 1;
    }
    assert_eq!(world.status_of(slow[0].client), Some(408));
    assert!(seconds <= 61, "it had a minute without a byte: {seconds}");
}

fn long_head() -> Vec<u8> {
    let long = "x".repeat(20_000);
    format!("GET /health HTTP/1.1\r\nHost: localhost\r\nx-long: {long}\r\n\r\n").into_bytes()
}

#[test]
fn a_long_head_waits_for_its_turn_and_is_not_too_slow() {
    let mut world = world();
    let mut senders = unfinished(&mut world, 3);
    let mut head = Sender::new(&mut world, long_head());
    while head.send(&mut world, 60_000) {}
    assert!(!head.rest.is_empty(), "the first body has its turn");
    world.advance(SECOND * 59);
    assert_eq!(world.status_of(head.client), None);
    send_in_turns(&mut world, &mut senders[..1]);
    while head.send(&mut world, 60_000) {}
    assert_eq!(world.status_of(head.client), None, "then the others, which have less to come");
    send_in_turns(&mut world, &mut senders);
    while head.send(&mut world, 60_000) {}
    assert_eq!(world.status_of(head.client), Some(200));
}

#[test]
fn a_long_head_is_read_where_there_is_room_for_one_body_alone() {
    let mut world = World::new(&[("MAX_BODY_MIB", "1"), ("MAX_BUFFERED_MIB", "1")], utc(5, 21, 2, 0));
    let mut head = Sender::new(&mut world, long_head());
    while head.send(&mut world, 60_000) {}
    assert_eq!(world.status_of(head.client), Some(200));
    let mut stalls = Sender::new(&mut world, long_head());
    assert!(stalls.send(&mut world, 5_000));
    world.advance(SECOND * 31);
    assert_eq!(world.status_of(stalls.client), Some(408), "it was read, and sent nothing");
}

#[test]
fn a_body_that_comes_byte_by_byte_does_not_stay() {
    let mut world = world();
    let mut sender = Sender::new(&mut world, with_length(BODY_BYTES_MAX));
    assert!(sender.send(&mut world, 200));
    let mut seconds = 0;
    while world.status_of(sender.client).is_none() {
        world.advance(SECOND);
        sender.send(&mut world, 1);
        seconds += 1;
    }
    assert_eq!((world.status_of(sender.client), seconds), (Some(408), 61), "a minute, and what it earned");
}

#[test]
fn a_body_that_comes_slowly_and_steadily_is_read_whole() {
    let mut world = world();
    let mut sender = Sender::new(&mut world, with_length(BODY_BYTES_MAX));
    while !sender.rest.is_empty() {
        assert!(sender.send(&mut world, 5_000));
        world.advance(SECOND);
    }
    assert!(answer_one(&mut world));
    assert_eq!(world.status_of(sender.client), Some(200));
}

#[test]
fn answers_pass_in_small_portions_while_memory_is_tight() {
    let mut world = world();
    let client = world.client_with(&chat("a", "", STREAM));
    let upstream = world.dialed.pop_front().expect("it was dialed");
    world.input(upstream, Input::Connected);
    world.deliver(upstream, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let wide = world.proxy.window(upstream);
    let mut senders: Vec<Sender> =
        (0..4).map(|_| Sender::new(&mut world, with_length(BODY_BYTES_MAX))).collect();
    send_in_turns(&mut world, &mut senders);
    let narrow = world.proxy.window(upstream);
    assert!(0 < narrow && narrow < wide, "{narrow} < {wide}");
    world.stall(client);
    while world.proxy.window(upstream) > 0 {
        let room = world.proxy.window(upstream);
        world.deliver(upstream, &vec![b'x'; room]);
    }
    world.flow(client);
    assert_eq!(world.proxy.window(upstream), narrow, "it goes on when the client has taken its portion");
    for sender in &senders {
        world.input(sender.client, Input::Eof);
    }
    assert_eq!(world.proxy.window(upstream), wide);
}

#[test]
fn a_head_of_usual_size_is_read_while_memory_is_tight() {
    let mut world = world();
    let mut senders: Vec<Sender> =
        (0..8).map(|_| Sender::new(&mut world, with_length(BODY_BYTES_MAX))).collect();
    send_in_turns(&mut world, &mut senders);
    assert!(world.proxy.context_mut().memory.is_tight());
    let fields = format!("x-long: {}\r\n", "x".repeat(3_000));
    let head = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let client = world.client_with(head.as_bytes());
    assert_eq!(world.status_of(client), Some(200));
}

#[test]
fn the_connection_idle_for_the_longest_makes_room_for_another() {
    let mut world = world();
    let clients: Vec<ConnId> = (0..SESSIONS_MAX).map(|_| world.client()).collect();
    assert!(world.proxy.is_full());
    assert!(!world.make_room(), "their first requests may be on their way");
    world.advance(SECOND);
    // The first begins a request, and the second has had an answer just now.
    world.deliver(clients[0], b"GET /health HTTP/1.1\r\n");
    world.deliver(clients[1], b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for client in &clients[2..] {
        assert!(world.make_room() && world.is_closed(*client));
    }
    assert!(!world.make_room());
    world.advance(SECOND);
    assert!(world.make_room() && world.is_closed(clients[1]));
    assert!(!world.make_room() && !world.is_closed(clients[0]), "it is not idle");
}
