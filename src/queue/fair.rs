//! One lane of the wait queue: whose turn it is.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996) over turns: each session
//! has a tag, the turns that it has had, and the session with the smallest tag goes first. So those who wait go one
//! after another, however many requests one of them sends at once. A session that begins to wait starts at the lane's
//! virtual time, for what it did not ask for earlier is nobody's debt. Within a session the earliest deadline goes
//! first. A session that has nothing under way goes before all others once its first deadline is near: who gets nothing
//! at all loses more than who gets less.
//!
//! Turns are counted and not tokens. Shares of tokens were tried in the bench of goodput: conversations that have grown
//! long then wait until they are refused, and no more work gets done.
//!
//! Not as in the paper, virtual time is not the tag of whoever started last. It passes as the fluid system's does, by
//! the turn divided among those who wait, within the range of their tags. Otherwise sessions that come only once, all
//! of which would start at the same virtual time, could hold up for ever whoever has had a turn.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, SessionKey};
use crate::time::Mono;

/// The most sessions without a request that are remembered in a lane, for what they are ahead of virtual
/// time. A client that makes up names must not grow our memory. Whoever is least ahead is forgotten first.
const SESSIONS_AHEAD_MAX: usize = 1_024;

/// The turns that a session has had, or virtual time, in parts of [`TURN`]. The longest run of the proxy does not fill it.
type Tag = u64;

/// One turn; large enough to be divided among all who wait.
const TURN: Tag = 1_000_000;

/// The requests of one lane, session by session.
#[derive(Debug)]
pub(super) struct Lane<W> {
    /// Where a session starts that begins to wait.
    virtual_time: Tag,
    /// Those that wait, those with requests that were started, and those that are ahead of virtual time.
    sessions: BTreeMap<SessionKey, Session<W>>,
    /// The sessions that wait, in the order of their turns: by tag, then by the place of their first request.
    turns: BTreeSet<(Tag, Place, SessionKey)>,
    /// The sessions that wait and have nothing under way, by the place of their first request.
    idle: BTreeSet<(Place, SessionKey)>,
    /// The sessions that have no request, and are remembered because they are ahead of virtual time.
    ahead: BTreeSet<(Tag, SessionKey)>,
    waiting: usize,
    started: usize,
}

#[derive(Debug)]
struct Session<W> {
    tag: Tag,
    /// Virtual time when it last began to wait. While it waits its tag does not fall below: what it was ahead was
    /// forgiven then, so turns that are given back later are no credit. Else ten refused requests of one session would
    /// come back with ten turns before everybody else's.
    joined_at: Tag,
    waiting: BTreeMap<Place, W>,
    /// How many of its requests were started and have not ended.
    started: usize,
}

impl<W> Default for Lane<W> {
    fn default() -> Self {
        Self {
            virtual_time: 0,
            sessions: BTreeMap::new(),
            turns: BTreeSet::new(),
            idle: BTreeSet::new(),
            ahead: BTreeSet::new(),
            waiting: 0,
            started: 0,
        }
    }
}

impl<W> Default for Session<W> {
    fn default() -> Self {
        Self { tag: 0, joined_at: 0, waiting: BTreeMap::new(), started: 0 }
    }
}

impl<W> Lane<W> {
    /// Lets a request wait.
    pub(super) fn push(&mut self, key: SessionKey, place: Place, waiter: W) {
        let virtual_time = self.virtual_time;
        self.waiting += 1;
        self.change(key, |session| {
            if session.waiting.is_empty() {
                session.joined_at = virtual_time;
                session.tag = session.tag.max(virtual_time);
            }
            session.waiting.insert(place, waiter);
        });
    }

    /// Takes out a request that leaves without a start; `None` when it does not wait.
    pub(super) fn remove(&mut self, key: SessionKey, place: Place) -> Option<W> {
        self.get(key, place)?;
        self.waiting -= 1;
        self.change(key, |session| session.waiting.remove(&place))
    }

    /// Takes out a request that starts now, which is a turn of its session; `None` when it does not wait. It need
    /// not be the first.
    pub(super) fn start(&mut self, key: SessionKey, place: Place) -> Option<W> {
        self.get(key, place)?;
        self.pass_time();
        self.waiting -= 1;
        self.started += 1;
        self.change(key, |session| {
            session.tag = session.tag.saturating_add(TURN);
            session.started += 1;
            session.waiting.remove(&place)
        })
    }

    /// A request that was started has ended. Where it was not served, its session gets the turn back.
    pub(super) fn end(&mut self, key: SessionKey, was_served: bool) {
        self.started -= 1;
        let back = if was_served { 0 } else { TURN };
        self.change(key, |session| {
            let floor = if session.waiting.is_empty() { 0 } else { session.joined_at };
            session.tag = session.tag.saturating_sub(back).max(floor);
            session.started -= 1;
        });
    }

    /// A request that waits.
    pub(super) fn get(&self, key: SessionKey, place: Place) -> Option<&W> {
        self.sessions.get(&key)?.waiting.get(&place)
    }

    /// The request whose turn it is, and the first of [`Self::candidates`].
    pub(super) fn first(&self, urgent_until: Mono) -> Option<(SessionKey, Place)> {
        let urgent = self.next_urgent().filter(|(_, place)| place.deadline <= urgent_until);
        urgent.or_else(|| self.turns.first().map(|(_, place, key)| (*key, *place)))
    }

    /// Of the sessions that have nothing under way, the first request that has the earliest deadline: the next that is
    /// urgent, or the one that has been for longest.
    pub(super) fn next_urgent(&self) -> Option<(SessionKey, Place)> {
        self.idle.first().map(|(place, key)| (*key, *place))
    }

    /// Every waiting request. First those whose deadlines are not after `urgent_until`, of sessions that have nothing
    /// under way, by deadline; then the first requests of the other sessions, in the order of turns; at last those that
    /// wait behind another one of their session, session by session. To take a few of many is cheap.
    pub(super) fn candidates(&self, urgent_until: Mono) -> impl Iterator<Item = (SessionKey, Place, &W)> {
        let is_urgent = move |place: &Place| place.deadline <= urgent_until;
        let urgent = self.idle.iter().take_while(move |(place, _)| is_urgent(place));
        // No more are left out here than were found urgent.
        let in_turn = self.turns.iter().map(|(_, place, key)| (*place, *key));
        let in_turn = in_turn.filter(move |first| !(is_urgent(&first.0) && self.idle.contains(first)));
        let firsts = urgent.copied().chain(in_turn);
        let behind = self.turns.iter().flat_map(|(_, _, key)| {
            self.sessions[key].waiting.iter().skip(1).map(|(place, waiter)| (*key, *place, waiter))
        });
        firsts.map(|(place, key)| (key, place, &self.sessions[&key].waiting[&place])).chain(behind)
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no request waits and none that was started goes on: nothing here matters any more.
    pub(super) fn is_over(&self) -> bool {
        self.waiting + self.started == 0
    }

    /// A request starts: virtual time passes, within the range of the tags of those who wait.
    fn pass_time(&mut self) {
        let Some(((least, ..), (greatest, ..))) = self.turns.first().zip(self.turns.last()) else { return };
        let each = TURN.div_ceil(self.turns.len() as u64);
        self.virtual_time = self.virtual_time.saturating_add(each).clamp(*least, *greatest);
    }

    /// Changes a session, and sees to it that it is found where it belongs afterwards.
    fn change<R>(&mut self, key: SessionKey, change: impl FnOnce(&mut Session<W>) -> R) -> R {
        let session = self.sessions.entry(key).or_default();
        match session.waiting.first_key_value() {
            Some((first, _)) => {
                self.idle.remove(&(*first, key));
                self.turns.remove(&(session.tag, *first, key))
            }
            None => self.ahead.remove(&(session.tag, key)),
        };
        let result = change(session);
        match session.waiting.first_key_value() {
            Some((first, _)) => {
                if session.started == 0 {
                    self.idle.insert((*first, key));
                }
                self.turns.insert((session.tag, *first, key))
            }
            None if session.started == 0 => self.ahead.insert((session.tag, key)),
            None => false,
        };
        // Who begins to wait must not start behind all others, because they were given something back.
        if let Some((greatest, ..)) = self.turns.last() {
            self.virtual_time = self.virtual_time.min(*greatest);
        }
        self.forget();
        result
    }

    /// Forgets the sessions that have no request, where that changes nothing or they are too many.
    fn forget(&mut self) {
        while let Some((tag, key)) = self.ahead.first().copied() {
            if tag > self.virtual_time && self.ahead.len() <= SESSIONS_AHEAD_MAX {
                return;
            }
            self.ahead.pop_first();
            self.sessions.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's deadline is near.
    const CALM: Mono = Mono::ZERO;

    /// A lane whose requests are named by their session and the order of their arrival.
    #[derive(Default)]
    struct Queue {
        lane: Lane<&'static str>,
        arrivals: u64,
    }

    const fn key(name: &str) -> SessionKey {
        SessionKey(name.as_bytes()[0] as u64)
    }

    const fn at(micros: u64) -> Mono {
        Mono::from_micros(micros)
    }

    impl Queue {
        /// A request that is named after its session, and something more.
        fn push(&mut self, name: &'static str, deadline: u64) {
            let place = Place { deadline: at(deadline), sequence: self.arrivals };
            self.arrivals += 1;
            self.lane.push(key(name), place, name);
        }

        /// Requests as text, all with one deadline.
        fn push_all(&mut self, names: &'static str) {
            names.split(' ').for_each(|name| self.push(name, 100));
        }

        /// Starts the first.
        fn start(&mut self, urgent_until: Mono) -> &'static str {
            let (key, place) = self.lane.first(urgent_until).expect("somebody waits");
            self.lane.start(key, place).expect("it waits")
        }

        /// Starts so many of them.
        fn starts(&mut self, count: usize) -> String {
            let names: Vec<_> = (0..count).map(|_| self.start(CALM)).collect();
            names.join(" ")
        }

        /// A request of this session has ended, served or not.
        fn end(&mut self, name: &str, was_served: bool) {
            self.lane.end(key(name), was_served);
        }

        fn order(&self, urgent_until: Mono) -> String {
            let names: Vec<_> = self.lane.candidates(urgent_until).map(|(_, _, name)| *name).collect();
            names.join(" ")
        }

        fn turns(&self, name: &str) -> Option<Tag> {
            self.lane.sessions.get(&key(name)).map(|session| session.tag / TURN)
        }
    }

    #[test]
    fn ten_of_one_session_do_not_starve_seven_with_one() {
        let mut queue = Queue::default();
        queue.push_all("a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b c d e f g h");
        assert_eq!(queue.starts(10), "a0 b c d e f g h a1 a2");
        // Whoever comes back, and whoever is new, has a turn before those that have had more.
        queue.push_all("b2 i");
        assert_eq!(queue.starts(4), "b2 i a3 a4");
    }

    #[test]
    fn over_a_long_run_all_have_equally_many_turns() {
        let mut queue = Queue::default();
        queue.push_all("a0 a1 a2 a3 a4 a5 a6 a7 b0 b1 b2 c0");
        let mut turns = BTreeMap::new();
        for _ in 0..3_000 {
            let name = queue.start(CALM);
            *turns.entry(key(name)).or_insert(0) += 1;
            queue.end(name, true);
            queue.push(name, 100);
        }
        assert_eq!(turns.into_values().collect::<Vec<_>>(), [1_000; 3]);
    }

    #[test]
    fn within_a_session_the_earliest_deadline_goes_first_then_the_order_of_arrival() {
        let mut queue = Queue::default();
        for (name, deadline) in [("a late", 90), ("a soon", 20), ("a soon too", 20), ("b", 50)] {
            queue.push(name, deadline);
        }
        assert_eq!(queue.starts(4), "a soon b a soon too a late");
    }

    #[test]
    fn the_first_of_each_session_are_candidates_before_any_second() {
        let mut queue = Queue::default();
        queue.push_all("a0 a1 a2 b0 b1 c0");
        assert_eq!(queue.order(CALM), "a0 b0 c0 a1 a2 b1");
        assert_eq!(queue.starts(1), "a0");
        assert_eq!(queue.order(CALM), "b0 c0 a1 b1 a2");
    }

    #[test]
    fn near_its_deadline_a_session_goes_first_but_not_with_something_under_way() {
        let mut queue = Queue::default();
        for (name, deadline) in [("a0", 10), ("a1", 20), ("b0", 90), ("c0", 50), ("c1", 60), ("d0", 40)] {
            queue.push(name, deadline);
        }
        assert_eq!(queue.starts(1), "a0");
        assert_eq!(queue.order(at(39)), "d0 c0 b0 a1 c1");
        assert_eq!(queue.order(at(50)), "d0 c0 b0 a1 c1", "by deadline, and nobody twice");
        assert_eq!((queue.start(at(90)), queue.start(at(90))), ("d0", "c0"));
        assert_eq!(queue.order(at(90)), "b0 a1 c1", "a and c have something under way");
        queue.end("a0", true);
        assert_eq!(queue.order(at(90)), "a1 b0 c1");
        assert_eq!(queue.order(at(19)), "b0 a1 c1", "a has had its turn, and it is not urgent");
    }

    #[test]
    fn the_next_to_be_urgent_has_the_earliest_deadline_of_those_with_nothing_under_way() {
        let mut queue = Queue::default();
        assert_eq!(queue.lane.next_urgent(), None);
        queue.push_all("a0");
        queue.push("b0", 70);
        queue.push("a1", 30);
        let next = |queue: &Queue| queue.lane.next_urgent().map(|(_, place)| place.deadline);
        assert_eq!(next(&queue), Some(at(30)));
        assert_eq!(queue.starts(1), "a1");
        assert_eq!(next(&queue), Some(at(70)));
        queue.end("a", true);
        queue.push("a2", 60);
        assert_eq!(next(&queue), Some(at(60)));
    }

    #[test]
    fn who_was_not_served_gets_its_turn_back() {
        let mut queue = Queue::default();
        queue.push_all("a0 a1 a2 b0 b1 b2");
        assert_eq!(queue.starts(3), "a0 b0 a1");
        queue.end("a", false);
        assert_eq!((queue.turns("a"), queue.turns("b")), (Some(1), Some(1)));
        queue.end("a", true);
        assert_eq!(queue.starts(3), "a2 b1 b2", "level again, and a came first");
    }

    #[test]
    fn turns_given_back_after_a_pause_are_no_credit() {
        let mut queue = Queue::default();
        queue.push_all("a0 a1 a2 a3 a4 a5");
        assert_eq!(queue.starts(6), "a0 a1 a2 a3 a4 a5");
        // All are refused at once, and come back one after another while others wait.
        queue.end("a", false);
        queue.push_all("b0 b1 b2 b3 a0");
        for _ in 0..5 {
            queue.end("a", false);
        }
        queue.push_all("a1 a2 a3");
        assert_eq!(queue.starts(6), "b0 a0 b1 a1 b2 a2");
    }

    #[test]
    fn who_was_away_has_no_credit() {
        let mut queue = Queue::default();
        queue.push_all("a0 b0 b1 b2 b3 b4 b5 b6");
        assert_eq!(queue.starts(6), "a0 b0 b1 b2 b3 b4");
        queue.push_all("a1 a2 a3");
        assert_eq!(queue.starts(4), "a1 b5 a2 b6");
    }

    #[test]
    fn who_comes_once_does_not_hold_up_who_has_had_a_turn() {
        let mut queue = Queue::default();
        queue.push_all("a1 a2 b");
        assert_eq!(queue.starts(1), "a1");
        // Three wait all the time: virtual time passes by a third of a turn with each start, so who comes after the third
        // is behind it.
        let mut order = Vec::new();
        for stranger in ["c", "d", "e", "f", "g", "h", "i", "j"] {
            queue.push(stranger, 100);
            order.push(queue.start(CALM));
        }
        assert_eq!(order.iter().position(|name| *name == "a2"), Some(4), "{order:?}");
    }

    #[test]
    fn who_begins_to_wait_is_not_behind_all_others_because_they_were_given_turns_back() {
        let mut queue = Queue::default();
        queue.push_all("a1 a2 a3 b1 b2 b3");
        assert_eq!(queue.starts(4), "a1 b1 a2 b2");
        for name in ["a", "a", "b", "b"] {
            queue.end(name, false);
        }
        queue.push("c", 50);
        assert_eq!((queue.turns("a"), queue.turns("b"), queue.turns("c")), (Some(0), Some(0), Some(0)));
        assert_eq!(queue.starts(3), "c a3 b3");
    }

    #[test]
    fn one_that_passes_the_first_takes_nothing_from_it() {
        let mut queue = Queue::default();
        queue.push_all("a b1 b2");
        let (key, place, _) = queue.lane.candidates(CALM).nth(1).expect("three wait");
        assert_eq!(queue.lane.start(key, place), Some("b1"));
        queue.push("c", 100);
        assert_eq!(queue.starts(3), "a c b2");
    }

    #[test]
    fn who_has_no_request_is_remembered_as_long_as_it_is_ahead() {
        let mut queue = Queue::default();
        queue.push_all("a b1 b2 b3");
        assert_eq!(queue.starts(1), "a");
        queue.end("a", true);
        assert_eq!(queue.starts(1), "b1");
        assert_eq!(queue.turns("a"), Some(1), "virtual time is half a turn");
        assert_eq!((queue.starts(2).as_str(), queue.turns("a")), ("b2 b3", None));
        for _ in 0..3 {
            queue.end("b", true);
        }
        assert!(queue.lane.is_over());
    }

    #[test]
    fn names_that_are_made_up_are_forgotten() {
        let mut lane = Lane::default();
        let place = Place { deadline: Mono::ZERO, sequence: 0 };
        lane.push(SessionKey(0), place, ());
        for name in 1..3_000 {
            for sequence in 0..name {
                lane.push(SessionKey(name), Place { sequence, ..place }, ());
                lane.start(SessionKey(name), Place { sequence, ..place }).expect("it waits");
                lane.end(SessionKey(name), true);
                if sequence > 3 {
                    break;
                }
            }
        }
        assert_eq!(lane.sessions.len(), SESSIONS_AHEAD_MAX + 1);
        assert!(!lane.sessions.contains_key(&SessionKey(1)), "who is least ahead is forgotten");
        assert!(lane.sessions.contains_key(&SessionKey(0)), "it waits");
    }
}
