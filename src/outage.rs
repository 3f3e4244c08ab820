//! Something outside of us that does not work, such as a full disk: when the log is to hear of it.
//!
//! Owns when it was spoken of, so that what fails every second fills no log. Knows neither what
//! failed nor the words for it.

use std::time::Duration;

use crate::time::Mono;

/// At most so often it is said that something does not work.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Whether something works, as far as the log knows.
#[derive(Debug, Default)]
pub struct Outage {
    told_at: Option<Mono>,
    /// Whether the log's last word is that it does not work.
    is_told: bool,
}

impl Outage {
    /// It has failed. Whether to say so: at once, and then once a minute, also when it works in between.
    #[must_use]
    pub fn failed(&mut self, now: Mono) -> bool {
        let is_due = self.told_at.is_none_or(|told_at| now.since(told_at) >= TELL_INTERVAL);
        if is_due {
            self.told_at = Some(now);
            self.is_told = true;
        }
        is_due
    }

    /// It works. Whether to say so: once, if it was said that it does not.
    #[must_use]
    pub fn works(&mut self) -> bool {
        std::mem::take(&mut self.is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_a_minute_and_its_end_once() {
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        assert!(!outage.works(), "nothing was said of it");
        let told: Vec<u64> = (5..=130).filter(|second| outage.failed(at(*second))).collect();
        assert_eq!(told, [5, 65, 125]);
        assert!(outage.works() && !outage.works());
        assert!(!outage.failed(at(131)) && !outage.works(), "what comes and goes is not told each time");
        assert!(outage.failed(at(185)) && outage.works());
    }
}
