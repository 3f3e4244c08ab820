//! A request on its way in: the upload that gathers its body, and the job it becomes.

use std::time::Duration;

use super::{body_buffer::BodyBuffer, retrying::HeldAnswer};
use crate::{
    admission::Ticket,
    budget::{LaneId, demand::Asked},
    config::Config,
    context::{Context, RequestId},
    failure::{Failure, Reach},
    http::{
        HttpError,
        body::BodyReader,
        head::{Fields, Framing, RequestHead},
        write::{REQUEST_ID_FIELD, RETRIES_FIELD, WAIT_FIELD},
    },
    inspect::{ContentSize, Inspection, Inspector, TextSize, client_name},
    memory::Share,
    route::Forward,
    time::Mono,
};

/// How much earlier than a client's own time limit its wait ends, so that our answer still reaches it.
const CLIENT_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// How fast a body has to come on the average, after a first [`Timeouts::client_body`]. Slower than any
/// link in use, and fast enough that who sends a byte now and then does not stay.
///
/// [`Timeouts::client_body`]: crate::config::Timeouts::client_body
const BODY_BYTES_PER_SECOND_MIN: u64 = 4096;

/// A request whose body is being read.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) id: RequestId,
    pub(super) head: RequestHead,
    pub(super) forward: Forward,
    /// The length of the head.
    head_bytes: usize,
    reader: BodyReader,
    body: BodyBuffer,
    /// Looks at the body of a request that costs tokens, as it comes.
    inspector: Option<Box<Inspector>>,
    /// The most that the body may come to: what was announced, or else the limit.
    body_bytes_max: usize,
    pub(super) arrived: Mono,
    /// When it will have come too slowly.
    slow_at: Mono,
}

impl Upload {
    pub(super) fn new(
        id: RequestId,
        (head, head_bytes): (RequestHead, usize),
        forward: Forward,
        config: &Config,
        now: Mono,
    ) -> Self {
        let body_bytes_max = match head.framing {
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Framing::Empty => 0,
            Framing::Chunked | Framing::UntilClose => config.body_bytes_max,
        };
        Self {
            id,
            reader: BodyReader::new(head.framing),
            body: BodyBuffer::default(),
            inspector: forward.is_generation.then(Box::default),
            head,
            head_bytes,
            forward,
            body_bytes_max,
            arrived: now,
            slow_at: now + config.timeouts.client_body,
        }
    }

    /// Whether it announces a body that is longer than the limit.
    pub(super) fn is_too_large(&self, config: &Config) -> bool {
        self.body_bytes_max > config.body_bytes_max
    }

    /// Takes in what belongs to the body, and says how much that was.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        let mut used = 0;
        loop {
            let progress = self.reader.read(&bytes[used..])?;
            if progress.used == 0 {
                return Ok(used);
            }
            if self.body.len() + progress.payload.len() > self.body_bytes_max {
                return Err(HttpError::BodyTooLarge);
            }
            self.body.push(progress.payload, self.body_bytes_max);
            if let Some(inspector) = &mut self.inspector {
                inspector.feed(progress.payload);
            }
            used += progress.used;
        }
    }

    /// So many bytes of it came. When the next are late, or all of it comes too slowly.
    pub(super) fn deadline(&mut self, came: usize, client_body: Duration, now: Mono) -> Mono {
        let earned = Duration::from_micros(came as u64 * 1_000_000 / BODY_BYTES_PER_SECOND_MIN);
        self.slow_at = self.slow_at + earned;
        self.slow_at.min(now + client_body)
    }

    /// It was us who did not read: so much time is left for the client. When that is over.
    pub(super) fn forgive(&mut self, time_left: Duration, now: Mono) -> Mono {
        self.slow_at = now + time_left;
        self.slow_at
    }

    /// The memory that it takes, and may take.
    pub(super) fn share(&self) -> Share {
        let body_bytes = self.body.held_bytes();
        Share {
            held_bytes: self.head_bytes + body_bytes,
            whole_body_bytes: 0,
            upload_left: Some(self.body_bytes_max.saturating_sub(body_bytes)),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.reader.is_ended()
    }

    /// Whether the client waits to be told to go on.
    pub(super) fn awaits_continue(&self) -> bool {
        self.head.expects_continue && !self.is_whole()
    }
}

/// A request that was read whole and is for the upstream.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: RequestId,
    pub(super) head: RequestHead,
    head_bytes: usize,
    pub(super) forward: Forward,
    pub(super) body: BodyBuffer,
    pub(super) model: Option<String>,
    pub(super) agent_session: Option<String>,
    pub(super) is_stream: bool,
    pub(super) asked: Asked,
    /// The keyed hash of its key, if it costs tokens.
    pub(super) credential: Option<u64>,
    /// The lane whose budgets it needs, if it costs tokens.
    pub(super) lane: Option<LaneId>,
    pub(super) arrived: Mono,
    pub(super) queued_at: Mono,
    /// When its time until an answer begins is over: see [`hold_until`].
    pub(super) hold_until: Mono,
    /// What is left of the time that it may wait in the queue.
    pub(super) wait_left: Duration,
    /// Since when it is in the queue, this time.
    pub(super) in_queue_since: Mono,
    /// Since when it is kept from the upstream, by the queue or by a pause.
    pub(super) held_since: Mono,
    /// How long it was, all told; the clock stops when it is sent on its way.
    pub(super) waited: Duration,
    /// How long after its arrival the answer that is passed on began, if it has.
    pub(super) first_byte: Option<Duration>,
    /// How often it was tried again so far.
    pub(super) retries: u32,
    /// How far it has come, in whichever try it came furthest.
    pub(super) reach: Reach,
    /// Its place in the queue.
    pub(super) ticket: Option<Ticket>,
    /// The upstream's last answer, which was not passed on.
    pub(super) last_answer: Option<Box<HeldAnswer>>,
    /// The last failure before an answer.
    pub(super) last_failure: Option<Failure>,
}

impl Job {
    /// Inspects a request that was read whole, and finds its lane.
    pub(super) fn new(upload: Upload, ctx: &mut Context, now: Mono) -> Self {
        let Upload { id, head, head_bytes, forward, mut body, inspector, arrived, .. } = upload;
        // Of a chunked body nobody knew how long it would be.
        body.complete();
        let inspection = inspector.map(|inspector| inspector.finish(&head.fields)).unwrap_or_default();
        let mut job = Self {
            id,
            asked: asked(&inspection, body.len()),
            hold_until: hold_until(&head, arrived, now, &ctx.config),
            wait_left: ctx.config.max_wait,
            head,
            head_bytes,
            forward,
            body,
            model: inspection.model,
            agent_session: inspection.agent_session,
            is_stream: inspection.stream,
            credential: None,
            lane: None,
            arrived,
            queued_at: now,
            in_queue_since: now,
            held_since: now,
            waited: Duration::ZERO,
            first_byte: None,
            retries: 0,
            reach: Reach::NeverReached,
            ticket: None,
            last_answer: None,
            last_failure: None,
        };
        job.find_lane(ctx, now);
        job
    }

    /// Finds its lane, if it costs tokens. To be done whenever it is to wait: a lane that nobody waits in
    /// may be dropped, as during a pause.
    pub(super) fn find_lane(&mut self, ctx: &mut Context, now: Mono) {
        if self.forward.is_generation {
            let credential = ctx.credential_hash(credential(&self.head.fields));
            let model = self.model.as_deref().unwrap_or("");
            self.credential = Some(credential);
            self.lane = Some(ctx.admission.find_or_add_lane(credential, model, now));
        }
    }

    /// Who sent it, as far as it says: the agent's session, or else its program.
    pub(super) fn session_or_client(&self) -> &str {
        self.agent_session.as_deref().or_else(|| client_name(&self.head.fields)).unwrap_or("")
    }

    /// The memory that it takes.
    pub(super) fn share(&self) -> Share {
        let body_bytes = self.body.held_bytes();
        let answer_bytes = self.last_answer.as_ref().map_or(0, |answer| answer.held_bytes());
        let prefix_bytes = size_of_val(&*self.asked.prefixes);
        Share {
            held_bytes: self.head_bytes + body_bytes + answer_bytes + prefix_bytes,
            whole_body_bytes: body_bytes,
            upload_left: None,
        }
    }

    /// When its wait in the queue ends, if it begins now.
    pub(super) fn wait_deadline(&self, now: Mono) -> Mono {
        (now + self.wait_left).min(self.hold_until)
    }

    /// It is not kept from the upstream any longer, or will not get there.
    pub(super) fn end_wait(&mut self, now: Mono) {
        self.waited += now.since(self.held_since);
        self.held_since = now;
    }

    /// What every answer to it says of it beside what it answers.
    pub(super) fn told_to_client(&self) -> [(&'static str, String); 3] {
        [
            (WAIT_FIELD, self.waited.as_millis().to_string()),
            (RETRIES_FIELD, self.retries.to_string()),
            (REQUEST_ID_FIELD, self.id.to_string()),
        ]
    }

    /// The answer begins that its client gets.
    pub(super) fn answer_begins(&mut self, now: Mono) {
        self.first_byte = Some(now.since(self.arrived));
    }

    /// It leaves the queue for the upstream. Whether that is a retry.
    pub(super) fn admitted(&mut self, ticket: Ticket, now: Mono) -> bool {
        let is_retry = self.ticket.replace(ticket).is_some();
        self.retries += u32::from(is_retry);
        self.end_wait(now);
        self.wait_left = self.wait_left.saturating_sub(now.since(self.in_queue_since));
        is_retry
    }
}

/// When the time is over that a request has until its answer begins: `max_hold` after it was read whole,
/// or before the client's own patience ends.
fn hold_until(head: &RequestHead, arrived: Mono, now: Mono, config: &Config) -> Mono {
    let ours = now + config.max_hold;
    stated_timeout(head).map_or(ours, |theirs| {
        // Of a very short limit half is left for the answer.
        let usable = theirs.saturating_sub(CLIENT_TIMEOUT_MARGIN).max(theirs / 2);
        ours.min(arrived + usable)
    })
}

/// The key itself, so that a client that sends it as a bearer token shares its lanes with one that
/// sends it as `x-api-key`: to Fireworks they are one account.
fn credential(fields: &Fields) -> &[u8] {
    let first = |name| fields.all(name).next().unwrap_or_default();
    let authorization = first("authorization");
    match authorization.split_at_checked(b"Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
        _ if authorization.is_empty() => first("x-api-key"),
        _ => authorization,
    }
}

/// What the budgets are asked for. A body that is not JSON is taken for text as a whole.
fn asked(inspection: &Inspection, body_bytes: usize) -> Asked {
    let size = if inspection.is_json {
        inspection.prompt_size()
    } else {
        let text = TextSize { ascii: body_bytes as u64, ..TextSize::default() };
        ContentSize { text, attachments: 0 }
    };
    Asked { size, prefixes: inspection.prefixes.as_slice().into(), output_cap: inspection.output_cap }
}

/// The time limit that an SDK states for its request. It is not always a number: the Python
/// Anthropic SDK sends `NOT_GIVEN` when streaming.
fn stated_timeout(head: &RequestHead) -> Option<Duration> {
    ["x-stainless-timeout", "x-stainless-read-timeout"]
        .iter()
        .filter_map(|name| head.fields.text(name)?.parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .filter_map(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::head::parse_request, route::Dialect, time::Now};

    fn upload(fields: &str, body_bytes_max: usize) -> Upload {
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = parse_request(head.as_bytes()).expect("accepted");
        let forward = Forward {
            target: "/v1/messages".to_owned(),
            is_generation: true,
            may_repeat: true,
            dialect: Dialect::Anthropic,
        };
        let config = Config { body_bytes_max, ..Config::defaults() };
        let id = Context::new(Config::defaults(), 0, Now::default()).next_request_id();
        Upload::new(id, (head, 100), forward, &config, Mono::ZERO)
    }

    fn job(fields: &str, body: &str) -> Job {
        let mut upload = upload(&format!("{fields}Content-Length: {}\r\n", body.len()), 1_000);
        upload.receive(body.as_bytes()).expect("a body");
        let mut ctx = Context::new(Config::defaults(), 0, Now::default());
        Job::new(upload, &mut ctx, Mono::ZERO + Duration::from_secs(1))
    }

    #[test]
    fn a_body_may_fill_the_limit_and_not_exceed_it() {
        let config = Config { body_bytes_max: 10, ..Config::defaults() };
        assert!(!upload("Content-Length: 10\r\n", 10).is_too_large(&config));
        assert!(upload("Content-Length: 11\r\n", 10).is_too_large(&config));
        let mut chunked = upload("Transfer-Encoding: chunked\r\n", 10);
        assert!(!chunked.is_too_large(&config));
        assert_eq!(chunked.receive(b"a\r\n0123456789\r\n"), Ok(15));
        assert_eq!(chunked.receive(b"1\r\nx\r\n"), Err(HttpError::BodyTooLarge));
    }

    #[test]
    fn the_time_ends_before_the_clients_patience() {
        let seconds = |at: Mono| at.as_micros() / 1_000_000;
        let queued = Mono::ZERO + Duration::from_secs(1);
        let ends = |fields: &str| {
            let job = job(fields, "{}");
            (seconds(job.wait_deadline(queued)), seconds(job.hold_until))
        };
        assert_eq!(ends(""), (121, 241), "from when it was queued");
        assert_eq!(ends("x-stainless-read-timeout: 60\r\n"), (55, 55), "from when it arrived");
        assert_eq!(ends("x-stainless-timeout: 180\r\n"), (121, 175));
        assert_eq!(ends("x-stainless-timeout: 600.0\r\n"), (121, 241));
        assert_eq!(ends("x-stainless-timeout: NOT_GIVEN\r\nx-stainless-read-timeout: 60\r\n"), (55, 55));
        assert_eq!(ends("x-stainless-timeout: 8\r\n"), (4, 4));
        for odd in ["-1", "0", "NaN", "inf", "1e300", "soon"] {
            assert_eq!(ends(&format!("x-stainless-timeout: {odd}\r\n")), (121, 241), "{odd}");
        }
    }

    #[test]
    fn one_key_is_one_credential_however_it_is_sent() {
        let of = |fields: &str| {
            let head = parse_request(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
            credential(&head.expect("accepted").fields).to_vec()
        };
        for fields in [
            "Authorization: Bearer fw_1\r\n",
            "authorization: bearer  fw_1\r\n",
            "X-Api-Key: fw_1\r\n",
            "x-api-key: fw_1\r\nAuthorization: Bearer fw_1\r\n",
        ] {
            assert_eq!(of(fields), b"fw_1", "{fields:?}");
        }
        assert_eq!(of("Authorization: Basic eDp5\r\n"), b"Basic eDp5");
        assert_eq!(of(""), b"");
    }

    #[test]
    fn the_prompt_is_guessed_from_text_or_else_from_size() {
        let text = job("", r#"{"messages":[{"content":"0123456789"}]}"#);
        assert_eq!(text.asked.size.text.chars(), 17, "what the model is given, and the keys within");
        assert_eq!(text.asked.prefixes.len(), 1);
        let unreadable = job("", "0123456789012345678901234567890123456789");
        assert_eq!(unreadable.asked.size.text.chars(), 40);
        assert!(unreadable.asked.prefixes.is_empty());
    }
}
