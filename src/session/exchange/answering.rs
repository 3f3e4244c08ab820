//! The response of an exchange, from its head on: what it teaches, whether it is passed on or kept for
//! the case that no other comes, and what its request has cost.

use super::{Ending, Exchange, HELD_ANSWER_TIMEOUT, Progress, Stage};
use crate::{
    budget::{Dimension, Header, Reception, Spent, Tokens, demand::guess_tokens},
    context::Context,
    failure::{Failure, FailureClass},
    http::head::{self, ResponseHead},
    inspect::TextSize,
    outbox::Outbox,
    rejection,
    retry::{self, Verdict},
    session::{
        body_buffer::BodyBuffer,
        retrying::{self, HeldAnswer},
    },
    time::{Mono, Now},
};

/// The most interim answers that are read past. Each gives the next one the whole read timeout, so without
/// a bound they could hold a request for ever. Fireworks sends none, and others one or two.
const INTERIM_ANSWERS_MAX: u8 = 16;

/// Characters per token of what models write, where a stream was cut before it reported: English
/// prose and code run at four in the common tokenizers.
const GENERATED_CHARS_PER_TOKEN: f64 = 4.0;

impl Exchange {
    /// Looks for the response's head, past any interim ones, and passes it on.
    pub(super) fn receive_head(
        &mut self,
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        let bad = |what: String| Failure::new(FailureClass::BadHead, what);
        loop {
            let Stage::Head { inbox, search, interim_answers } = &mut self.stage else {
                return Ok(Progress::More);
            };
            let Some(end) = search.find_end(inbox).map_err(|error| bad(error.to_string()))? else {
                return Ok(Progress::More);
            };
            let response = head::parse_response(&inbox[..end], &self.job.head.method);
            let response = response.map_err(|error| bad(error.to_string()))?;
            let rest = inbox.split_off(end);
            // RFC 9110, section 15.2: interim answers come before the one that counts.
            if response.status < 200 {
                if *interim_answers == INTERIM_ANSWERS_MAX {
                    return Err(bad(format!("more than {INTERIM_ANSWERS_MAX} interim answers")));
                }
                *interim_answers += 1;
                *inbox = rest;
                continue;
            }
            return self.begin_body(response, &rest, outbox, ctx, now);
        }
    }

    fn begin_body(
        &mut self,
        response: ResponseHead,
        rest: &[u8],
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        ctx.stats.answered(response.status, now.wall);
        let verdict = Verdict::of(response.status);
        self.learn_limits(&response, verdict, ctx, now);
        let mut ask_to_wait = None;
        if verdict == Verdict::Final {
            ctx.admission.received(&mut self.reservation, Reception::Admitted, now.mono);
        } else {
            let (asked_wait, jitter) = (retry::asked_wait(&response.fields, now.wall), ctx.jitter());
            let pause = retry::wait(self.job.retries, asked_wait, jitter);
            let back_at = now.mono + pause;
            let is_repeatable = self.job.is_repeatable(verdict.was_refused());
            let comes_back = is_repeatable && self.job.may_come_back(back_at, ctx);
            // Others wait for the one that comes back. If it does not, its own many tries are none of theirs.
            let until = if comes_back { back_at } else { now.mono + retry::wait(0, asked_wait, jitter) };
            ctx.admission.received(&mut self.reservation, reception_of(verdict, until), now.mono);
            if comes_back {
                let read_until = back_at.max(now.mono + HELD_ANSWER_TIMEOUT);
                self.stage = Stage::Held(Box::new(HeldAnswer::new(response, back_at, read_until)));
                return self.receive(rest, outbox, ctx, now);
            }
            let was_to_be_repeated = is_repeatable && ctx.config.retries_max > 0;
            ask_to_wait = was_to_be_repeated.then(|| rejection::retry_after(Some(pause)));
        }
        self.job.answer_begins(now.mono);
        let mut relay = retrying::begin_relay(&self.job, &response, ask_to_wait.as_deref(), outbox);
        let count = |name| response.fields.text(name).and_then(|text| text.parse().ok());
        relay.meter.take_headers(count("fireworks-prompt-tokens"), count("fireworks-cached-prompt-tokens"));
        self.stage = Stage::Body(Box::new(relay));
        self.drop_what_no_try_needs();
        self.receive(rest, outbox, ctx, now)
    }

    /// An answer that is passed on is the last. It can go on for hours, and its request may be megabytes.
    pub(super) fn drop_what_no_try_needs(&mut self) {
        if self.relay().is_some() {
            self.job.last_answer = None;
            if self.is_sent() {
                self.job.body = BodyBuffer::default();
            }
        }
    }

    /// Takes the live limits from the response's head. An answer that is short of capacity, or broken,
    /// says nothing of our limits.
    fn learn_limits(&self, response: &ResponseHead, verdict: Verdict, ctx: &mut Context, now: Now) {
        if !matches!(verdict, Verdict::Final | Verdict::RateLimited) {
            return;
        }
        // One sample for each dimension, also where its limit comes in both spellings.
        let mut limits = [None; Dimension::ALL.len()];
        let mut remainders = limits;
        for (name, value) in response.fields.iter() {
            let of = |samples: &mut [Option<u64>; 3], dimension: Dimension| {
                let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                samples[dimension as usize] = value.or(samples[dimension as usize]);
            };
            if let Some(dimension) = Dimension::of_limit_field(name) {
                of(&mut limits, dimension);
            } else if let Some(dimension) = Dimension::of_remaining_field(name) {
                of(&mut remainders, dimension);
            }
        }
        for dimension in Dimension::ALL {
            let Some(limit) = limits[dimension as usize] else { continue };
            let header = Header { limit, remaining: remainders[dimension as usize] };
            ctx.admission.learn(&self.reservation, dimension, header, now.mono);
        }
    }

    /// What the request used, as far as it was reported or seen.
    pub(super) fn spent(&self, ending: &Ending) -> Spent {
        let held = self.reservation.held();
        let Some(relay) = self.relay() else {
            if matches!(self.stage, Stage::Held(_)) {
                return Spent::default();
            }
            // Sent and never answered: the prompt was charged at admission. An answer that comes whole
            // may have been generated by now; of a stream we would have seen the beginning.
            let generated = if self.job.is_stream { 0 } else { held.generated };
            return Spent { tokens: Tokens { generated, ..held }, is_reported: false };
        };
        if self.job.lane.is_none() || relay.status >= 400 {
            return Spent::default();
        }
        let report = relay.meter.report();
        let (prompt, uncached_prompt) = report.prompt().unwrap_or((held.prompt, held.uncached_prompt));
        let is_whole = matches!(ending, Ending::Complete);
        let text = relay.meter.generated_text();
        let seen = text.map(generated_tokens);
        let generated = match (report.generated(), seen) {
            // Zeros open an Anthropic stream of Fireworks; only its end is a report.
            (Some(reported), _) if is_whole && reported > 0 => reported,
            (Some(reported), seen) => reported.max(seen.unwrap_or(0)),
            (None, Some(seen)) => seen,
            (None, None) => held.generated,
        };
        Spent {
            tokens: Tokens { prompt, uncached_prompt, generated },
            // Embeddings report a prompt and generate nothing; a guess teaches nothing.
            is_reported: is_whole
                && report.prompt().is_some()
                && (report.generated().is_some() || generated == 0),
        }
    }
}

/// The tokens of a text that a model has written.
pub(super) fn generated_tokens(text: TextSize) -> u64 {
    guess_tokens(text.ascii + text.narrow, text.wide, 0, GENERATED_CHARS_PER_TOKEN)
}

/// What a verdict means for everybody in the lane.
fn reception_of(verdict: Verdict, until: Mono) -> Reception {
    match verdict {
        Verdict::Final => Reception::Admitted,
        Verdict::RateLimited => Reception::RateLimited { until },
        Verdict::Overloaded => Reception::Overloaded,
        Verdict::Broken => Reception::Unknown,
    }
}
