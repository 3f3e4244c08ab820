//! What the core says of itself: budgets, counters and the log.

use fireworks_proxy::{
    budget::Balance,
    failure::{FailureClass, Reach},
    stats::Stats,
};

use super::World;

impl World {
    /// Every lane's model with its budgets.
    pub fn balances(&mut self) -> Vec<(String, [Balance; 3])> {
        let now = self.now.mono;
        let lanes = self.proxy.context_mut().admission.budgets_mut().lanes_mut();
        lanes.map(|(_, lane)| (lane.model.clone(), lane.balances(now))).collect()
    }

    /// How many requests wait.
    pub fn waiting(&mut self) -> usize {
        self.proxy.context_mut().admission.waiting()
    }

    /// The counters.
    pub fn stats(&mut self) -> &Stats {
        &self.proxy.context_mut().stats
    }

    /// Requests that came to an end, as finished, refused, left and failed.
    pub fn ends(&mut self) -> [u64; 4] {
        let stats = self.stats();
        [stats.finished, stats.refused, stats.client_gone, stats.failed]
    }

    /// Everything that went wrong, by side and class, as `/usage` shows it.
    pub fn failures(&mut self) -> Vec<(String, u64)> {
        let page = self.page("/usage");
        let mut found = Vec::new();
        for (side, classes) in page["failures"].as_object().expect("an object") {
            for (class, count) in classes.as_object().expect("an object") {
                found.push((format!("{side} {class}"), count.as_u64().expect("a count")));
            }
        }
        found.retain(|(_, count)| *count > 0);
        found
    }

    /// The lines of the log that tell of requests and retries, without their ids.
    pub fn request_lines(&self) -> Vec<String> {
        let is_of_request = |line: &&String| line.contains(" request | ") || line.contains(" retry | ");
        let without_id = |line: &String| {
            let words = line.split(' ').filter(|word| !word.starts_with("id="));
            words.collect::<Vec<_>>().join(" ")
        };
        self.log.iter().filter(is_of_request).map(without_id).collect()
    }

    /// Checks that every request has come to one end, and that each has its line in the log.
    #[track_caller]
    pub fn assert_all_ended(&mut self) {
        let (total, ends) = (self.stats().requests, self.ends());
        assert_eq!(total, ends.iter().sum::<u64>(), "{ends:?}: some request has no end, or two");
        let is_end = |line: &&String| line.contains(" request | ");
        let lines = self.log.iter().filter(is_end).count() as u64;
        assert_eq!(lines, total, "{:#?}", self.request_lines());
        let upstream = FailureClass::ALL.map(|class| (class.reach(), class.name()));
        let stopped =
            [Reach::NeverReached, Reach::MayHaveReached, Reach::Acknowledged].map(|reach| (reach, "stopped"));
        let stats = self.stats();
        let causes: u64 =
            upstream.iter().chain(&stopped).map(|(reach, class)| stats.failures(*reach, class)).sum();
        assert!(stats.failed <= causes, "{} requests failed of {causes} failures", stats.failed);
    }

    /// Checks that nobody waits, nothing is in flight, and no reservation is left behind.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        self.assert_all_ended();
        assert_eq!(self.waiting(), 0, "somebody waits");
        assert_eq!(self.proxy.context_mut().stats.in_flight, 0, "something is in flight");
        let lanes = self.proxy.context_mut().admission.budgets_mut().lanes_mut();
        let in_flight: usize = lanes.map(|(_, lane)| lane.in_flight).sum();
        assert_eq!(in_flight, 0, "a lane has something in flight");
        for (model, balances) in self.balances() {
            assert!(balances.iter().all(|balance| balance.reserved == 0), "{model}: {balances:?}");
        }
        assert!(self.upstreams.values().all(|side| side.is_closed), "an upstream connection is open");
    }
}
