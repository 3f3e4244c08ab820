//! The request bucket: so many requests per second over time, and as many at once.

use std::time::Duration;

use crate::time::Mono;

/// A token bucket kept as one number, the theoretical arrival time of the generic cell rate
/// algorithm: the point at which the bucket will be full again. Refills are computed, never ticked.
#[derive(Debug, Clone)]
pub struct RequestBucket {
    /// The span in which one request's worth flows in.
    interval: Duration,
    /// How many requests a full bucket holds.
    capacity: u32,
    full_at: Mono,
    /// When it was last full and a request was taken out.
    begun_at: Mono,
}

impl RequestBucket {
    /// A full bucket. Its capacity is one second's worth, at least one request.
    pub fn new(requests_per_second: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the rate is bounded to 1,000 by its setting, and a cast of a float saturates"
        )]
        let capacity = (requests_per_second as u32).max(1);
        let interval = Duration::from_secs_f64(1.0 / requests_per_second);
        Self { interval, capacity, full_at: Mono::ZERO, begun_at: Mono::ZERO }
    }

    /// When the bucket will hold a request: `Ok` for at once, else the time to ask again.
    pub fn check(&self, now: Mono) -> Result<(), Mono> {
        let earliest = self.full_at - self.interval * (self.capacity - 1);
        if earliest <= now { Ok(()) } else { Err(earliest) }
    }

    /// Takes one request out. To be called after [`Self::check`] has said `Ok`.
    pub fn take(&mut self, now: Mono) {
        if self.full_at <= now {
            self.begun_at = now;
        }
        self.full_at = self.full_at.max(now) + self.interval;
    }

    /// Puts one request back that was taken out at `taken_at` and never sent. Its place has flowed back by
    /// itself if the bucket has been full since.
    pub fn give_back(&mut self, taken_at: Mono) {
        if taken_at >= self.begun_at {
            self.full_at = self.full_at - self.interval;
        }
    }

    /// How long the `nth` request from now has to wait, the first one being 1, if nobody else takes any.
    pub fn wait_for(&self, nth: usize, now: Mono) -> Duration {
        let nth = u32::try_from(nth).unwrap_or(u32::MAX);
        let flows_in = self.full_at.max(now) + self.interval.saturating_mul(nth.saturating_sub(1));
        (flows_in - self.interval * (self.capacity - 1)).since(now)
    }

    /// Whole requests in the bucket.
    pub fn available(&self, now: Mono) -> u32 {
        let missing = self.full_at.since(now).as_micros().div_ceil(self.interval.as_micros().max(1));
        self.capacity.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// How many requests a full bucket holds.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes as many requests as there are at `now`.
    fn drain(bucket: &mut RequestBucket, now: Mono) -> u32 {
        let mut taken = 0;
        while bucket.check(now).is_ok() {
            bucket.take(now);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_burst_is_one_seconds_worth_and_flows_back_evenly() {
        let mut bucket = RequestBucket::new(20.0);
        let start = Mono::ZERO + SECOND;
        assert_eq!((bucket.available(start), drain(&mut bucket, start)), (20, 20));
        assert_eq!(bucket.check(start), Err(start + SECOND / 20));
        assert_eq!(drain(&mut bucket, start + SECOND / 20), 1);
        assert_eq!(drain(&mut bucket, start + SECOND * 100), 20);
    }

    #[test]
    fn slow_rates_let_one_through_at_a_time() {
        let mut bucket = RequestBucket::new(0.5);
        assert_eq!(drain(&mut bucket, Mono::ZERO), 1);
        assert_eq!(bucket.check(Mono::ZERO), Err(Mono::ZERO + SECOND * 2));
        assert_eq!(drain(&mut bucket, Mono::ZERO + SECOND * 2), 1);
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut bucket = RequestBucket::new(1.0);
        let now = Mono::ZERO + SECOND * 10;
        assert_eq!(drain(&mut bucket, now), 1);
        bucket.give_back(now);
        assert_eq!((bucket.available(now), drain(&mut bucket, now)), (1, 1));
    }

    #[test]
    fn what_has_flowed_back_is_not_given_back_as_well() {
        let mut bucket = RequestBucket::new(4.0);
        let (taken_at, later) = (Mono::ZERO + SECOND, Mono::ZERO + SECOND * 10);
        bucket.take(taken_at);
        assert_eq!(drain(&mut bucket, later), 4);
        bucket.give_back(taken_at);
        assert_eq!(drain(&mut bucket, later), 0, "the burst of this second is out");
        bucket.give_back(later);
        assert_eq!(drain(&mut bucket, later), 1);
    }

    #[test]
    fn each_in_a_row_waits_for_its_own_request() {
        let mut bucket = RequestBucket::new(2.0);
        let now = Mono::ZERO + SECOND;
        let waits = |bucket: &RequestBucket| [1, 2, 3, 5].map(|nth| bucket.wait_for(nth, now).as_millis());
        assert_eq!(waits(&bucket), [0, 0, 500, 1_500]);
        drain(&mut bucket, now);
        assert_eq!(waits(&bucket), [500, 1_000, 1_500, 2_500]);
        assert_eq!(bucket.wait_for(1, now), bucket.check(now).expect_err("it is empty").since(now));
    }
}
