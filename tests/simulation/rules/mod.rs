//! The model: what must hold whatever happens, written from the contracts and not from the code. It sees
//! what goes into the core and what comes out, and keeps books of its own.

pub mod answers;
pub mod books;
pub mod days;
mod dials;
mod memory;
mod order;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use fireworks_proxy::{event::ConnId, time::Mono};

pub use steps::check_outbox;

use self::{
    books::{Bucket, LaneBook, Taught},
    days::Days,
    memory::Tightness,
    order::Order,
};
use super::{history::History, request::Lane, swarm::Swarm};

/// A place within a session: the deadline of the first wait, then the order of arrival.
pub type Place = (Mono, u64);

/// What the model keeps.
#[derive(Debug)]
pub struct Rules {
    pub books: BTreeMap<Lane, LaneBook>,
    /// What the answers of all processes have taught: a new one may know it, or nothing.
    pub taught: BTreeMap<Lane, Taught>,
    pub bucket: Bucket,
    pub days: Days,
    pub tightness: Tightness,
    pub order: Order,
    /// Requests that wait for their first try, by lane.
    pub waiting: BTreeMap<Option<Lane>, BTreeMap<Place, ConnId>>,
    /// Requests that were tried, are not answered, and are not at the upstream.
    pub coming_back: BTreeMap<Option<Lane>, u64>,
    /// Tries that are under way, and those of them that cost tokens.
    pub open: u64,
    pub open_with_lane: usize,
    /// The ids of the requests of which the log has told the end.
    ended: BTreeSet<String>,
    /// The ids that answers had.
    answered: BTreeSet<String>,
    pub is_first_process: bool,
    /// Whether the log says that something was cut by a stop.
    pub is_cut_told: bool,
    /// Whether something was counted since the last look at the ledger.
    pub is_day_dirty: bool,
    places: u64,
    processes: u64,
}

impl Rules {
    pub fn new(swarm: &Swarm) -> Self {
        Self {
            books: BTreeMap::new(),
            taught: BTreeMap::new(),
            bucket: Bucket::new(swarm.requests_per_second),
            days: Days::new(swarm),
            tightness: Tightness::default(),
            order: Order::default(),
            waiting: BTreeMap::new(),
            coming_back: BTreeMap::new(),
            open: 0,
            open_with_lane: 0,
            ended: BTreeSet::new(),
            answered: BTreeSet::new(),
            is_first_process: true,
            is_cut_told: false,
            is_day_dirty: false,
            places: 0,
            processes: 0,
        }
    }

    /// A new process knows nothing but the state file.
    pub fn begin_process(&mut self, swarm: &Swarm, file: Option<&[u8]>, now: Mono) {
        self.books.clear();
        self.bucket = Bucket::new(swarm.requests_per_second);
        self.waiting.clear();
        self.coming_back.clear();
        (self.open, self.open_with_lane) = (0, 0);
        self.ended.clear();
        self.answered.clear();
        self.is_cut_told = false;
        self.tightness = Tightness::default();
        self.order = Order::default();
        self.processes += 1;
        self.is_first_process = self.processes == 1;
        self.days.take_up(file, now);
    }

    /// Whether all that requests of a lane will be charged in a dimension was held from their starts on.
    pub fn holds_all(&self, lane: Lane, dimension: usize) -> bool {
        self.taught.get(&lane).copied().unwrap_or_default().holds_all(dimension)
    }

    pub fn next_place(&mut self) -> u64 {
        self.places += 1;
        self.places
    }

    /// The machine does nothing before this.
    pub fn late_at(&mut self, until: Mono) {
        self.days.late_at(until);
    }

    /// An answer has this id. No other has it.
    pub fn note_answer_id(&mut self, id: &str) {
        assert!(self.answered.insert(id.to_owned()), "two answers to {id}");
    }

    /// Of how many requests the log has told the end.
    pub fn end_lines(&self) -> u64 {
        self.ended.len() as u64
    }

    /// With nothing under way any more, each id that a client got is in the log.
    pub fn check_ids(&self) {
        let unknown = self.answered.difference(&self.ended).next();
        assert_eq!(unknown, None, "it was answered, and the log has no line for it");
    }

    /// Reads a line of the log for what it says of an end.
    pub fn note_line(&mut self, line: &str, history: &mut History) {
        self.is_cut_told |= line.contains("were cut");
        let is_request = line.starts_with("request | ");
        if is_request {
            let id = line.split(' ').find_map(|word| word.strip_prefix("id="));
            let id = id.unwrap_or_else(|| panic!("no id: {line}")).to_owned();
            assert!(self.ended.insert(id), "it has ended before: {line}");
        }
        if is_request || line.starts_with("retry | ") {
            let words = line.split(' ').skip(3);
            let told = words
                .filter(|word| ["status=", "outcome=", "after="].iter().any(|name| word.starts_with(name)));
            told.for_each(|word| history.saw(word));
        }
    }
}
