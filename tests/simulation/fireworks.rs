//! The upstream: a model Fireworks with rolling windows of its own, and every way to fail.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::{Failure, FailureClass},
    time::Mono,
};

use super::{
    answer::Answer,
    engine::{Event, Simulation},
    pipe::End,
    request::{Lane, Request, Session},
    swarm::Odd,
};

/// Fireworks counts tokens per minute, from when it sees them.
const MINUTE: Duration = Duration::from_secs(60);

/// The proxy counts a prompt so much longer than a minute, from when it was sent: what takes longer to come is
/// counted here when it is not counted there any more.
const TIMELY: Duration = Duration::from_millis(500);

/// What Fireworks counts for itself.
#[derive(Debug, Default)]
pub struct Fireworks {
    /// What each try was charged.
    used: BTreeMap<Lane, VecDeque<Charge>>,
    /// Its limits, in percent of those that the proxy is set to; none at first.
    pub share: Option<u64>,
}

/// What a try was charged.
#[derive(Debug, Clone, Copy)]
struct Charge {
    at: Mono,
    id: ConnId,
    tokens: [u64; 3],
    /// Whether it came so soon after it was sent that the proxy counts it for as long.
    is_timely: bool,
}

impl Fireworks {
    fn charges(&mut self, lane: Lane, now: Mono) -> &mut VecDeque<Charge> {
        let charges = self.used.entry(lane).or_default();
        while charges.front().is_some_and(|charge| charge.at + MINUTE <= now) {
            charges.pop_front();
        }
        charges
    }

    /// What nobody has received is not charged as generated: the proxy cannot know of it.
    pub fn forgive(&mut self, lane: Lane, id: ConnId) {
        let charges = self.used.entry(lane).or_default();
        charges.iter_mut().filter(|charge| charge.id == id).for_each(|charge| charge.tokens[2] = 0);
    }

    /// The dimension of which it refuses a request with so long a prompt, and whether those charges are enough for
    /// that which came in time. One that is bigger than its limits goes alone.
    fn refuses(&mut self, lane: Lane, prompt: u64, limits: [u64; 3], now: Mono) -> Option<(usize, bool)> {
        let asked = [prompt, prompt, 0];
        let charges = self.charges(lane, now);
        let is_beyond = |at: usize, is_wanted: &dyn Fn(&Charge) -> bool| {
            let wanted = charges.iter().filter(|charge| is_wanted(charge));
            let used: u64 = wanted.map(|charge| charge.tokens[at]).sum();
            used > 0 && used + asked[at] > limits[at]
        };
        let at = (0..3).find(|at| is_beyond(*at, &|_| true))?;
        Some((at, is_beyond(at, &|charge| charge.is_timely)))
    }
}

/// One try of a request at the upstream. Kept until the request is answered.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has happened to a try or not is a list of yes and no"
)]
pub struct Exchange {
    pub client: ConnId,
    /// Which of its client's requests it is for.
    pub request: usize,
    pub lane: Option<Lane>,
    pub session: Session,
    /// What the model takes to be reserved, and may charge.
    pub cost: [u64; 3],
    pub is_stream: bool,
    pub prompt: u64,
    /// Its place among all tries.
    pub place: u64,
    pub started_at: Mono,
    pub is_open: bool,
    /// What the proxy has written of the head, and how much of the body.
    pub head: Vec<u8>,
    pub is_head_written: bool,
    pub body_written: usize,
    pub sent_at: Option<Mono>,
    /// How much of it all has arrived.
    arrived: usize,
    pub answer: Option<Answer>,
    is_decided: bool,
    said: usize,
    breaks_at: Option<(usize, Option<End>)>,
    /// How much of the answer the proxy was told, and whether its end.
    pub delivered: usize,
    pub has_ended: bool,
    pub answered_at: Option<Mono>,
    /// When the head came of an answer that says that it was let in.
    pub admitted_at: Option<Mono>,
    pub ended_at: Mono,
    pub dial_failure: Option<FailureClass>,
}

impl Exchange {
    /// The try of one of a client's requests that starts now, at a place among all tries.
    pub fn new(
        (client, index): (ConnId, usize),
        (place, started_at): (u64, Mono),
        cost: [u64; 3],
        request: &Request,
    ) -> Self {
        Self {
            client,
            request: index,
            lane: request.lane,
            session: request.session(client),
            cost,
            is_stream: request.is_stream,
            prompt: request.prompt,
            place,
            started_at,
            is_open: true,
            head: Vec::new(),
            is_head_written: false,
            body_written: 0,
            sent_at: None,
            arrived: 0,
            answer: None,
            is_decided: false,
            said: 0,
            breaks_at: None,
            delivered: 0,
            has_ended: false,
            answered_at: None,
            admitted_at: None,
            ended_at: Mono::ZERO,
            dial_failure: None,
        }
    }

    /// The answer, if the proxy has got its head.
    pub fn begun_answer(&self) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| self.delivered >= answer.head_end)
    }

    /// Whether the proxy has got all of an answer.
    pub fn is_answered_whole(&self) -> bool {
        self.begun_answer().is_some_and(|answer| {
            self.delivered >= answer.body_end && (self.has_ended || !answer.ends_with_close)
        })
    }
}

impl Simulation {
    pub fn dialed(&mut self, id: ConnId) {
        self.history.note(self.now, id, "is dialed", 0);
        let client = self.proxy().context_mut().owner_of(id).expect("it serves a client");
        self.check_dial(id, client);
        let conn = self.new_conn(false);
        self.conns.insert(id, conn);
        let span = self.millis_below(300);
        self.plan(span, Event::Dialed(id));
    }

    pub fn dial_ends(&mut self, id: ConnId) {
        if !self.conns.contains_key(&id) {
            return;
        }
        for (odd, class) in [
            (Odd::Unresolved, FailureClass::Dns),
            (Odd::Refused, FailureClass::ConnectRefused),
            (Odd::TlsBroken, FailureClass::TlsOther),
            (Odd::TlsUntrusted, FailureClass::TlsCertificate),
        ] {
            if self.is_odd(odd) {
                self.exchanges.get_mut(&id).expect("it was dialed").dial_failure = Some(class);
                return self.tell(id, Input::Failed(Failure::new(class, "by the dice")));
            }
        }
        if self.is_odd(Odd::DialHangs) {
            return;
        }
        let takes_nothing = self.is_odd(Odd::TakesNothing);
        let conn = self.conns.get_mut(&id).expect("it is there");
        conn.is_connected = true;
        if takes_nothing {
            conn.outbound.clog();
        }
        self.tell(id, Input::Connected);
        self.wake(id);
    }

    /// Bytes from the proxy have come to the other end.
    pub fn outbound_arrived(&mut self, id: ConnId) {
        if self.clients.contains_key(&id) {
            return self.client_has_mail(id);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let count = conn.outbound.ready().len();
        conn.outbound.take(count);
        self.wake(id);
        let early = self.is_odd(Odd::Early);
        let exchange = self.exchanges.get_mut(&id).expect("it was dialed");
        exchange.arrived += count;
        let body_len = self.clients[&exchange.client].requests[exchange.request].body.len();
        let is_whole = exchange.is_head_written && exchange.arrived == exchange.head.len() + body_len;
        let has_head = exchange.is_head_written && exchange.arrived >= exchange.head.len();
        if !exchange.is_decided && (is_whole || (has_head && early)) {
            exchange.is_decided = true;
            self.decide(id);
        }
    }

    /// Fireworks makes up its mind.
    fn decide(&mut self, id: ConnId) {
        if !self.is_odd(Odd::DropsEarly) {
            let status = self.status_for(id);
            self.draw_answer(id, status);
        }
        let thinks = match self.dice.below(4) {
            0 => self.millis_below(30_000),
            1 => Duration::ZERO,
            _ => self.millis_below(1_000),
        };
        self.plan(thinks, Event::UpstreamSpeaks(id));
    }

    fn status_for(&mut self, id: ConnId) -> u16 {
        let Exchange { lane, prompt, .. } = self.exchanges[&id];
        let percent = if self.swarm.is_fair { Some(100) } else { self.fireworks.share };
        if let (Some(lane), Some(percent)) = (lane, percent) {
            let limits = self.swarm.limits.map(|limit| limit * percent / 100);
            if let Some((at, is_of_timely)) = self.fireworks.refuses(lane, prompt, limits, self.now) {
                // What is charged later is foreseen only as well as answers are alike.
                let is_foreseen = self.rules.holds_all(lane, at);
                let is_fair = self.swarm.is_fair && self.rules.is_first_process;
                let is_broken_promise = is_fair && is_of_timely && is_foreseen;
                assert!(!is_broken_promise, "a fair Fireworks met its limits {limits:?} in {lane:?}: {at}");
                self.history.saw("beyond what was foreseen");
                return 429;
            }
        }
        match () {
            () if self.is_odd(Odd::Limited) => 429,
            () if self.is_odd(Odd::Overloaded) => *self.dice.pick(&[503, 529]).expect("one"),
            () if self.is_odd(Odd::Broken) => *self.dice.pick(&[500, 502, 504, 408, 520]).expect("one"),
            () if self.is_odd(Odd::BadRequest) => 400,
            () => 200,
        }
    }

    fn draw_answer(&mut self, id: ConnId, status: u16) {
        let exchange = &self.exchanges[&id];
        let request = &self.clients[&exchange.client].requests[exchange.request];
        let (lane, prompt, sent_at) = (exchange.lane, exchange.prompt, exchange.sent_at);
        let Self { swarm, dice, odds_seen, .. } = self;
        let is_odd = |odd: Odd, dice: &mut crate::support::world::Dice| {
            let is_odd = dice.chance(swarm.percent_of(odd));
            odds_seen[odd as usize] += u64::from(is_odd);
            is_odd
        };
        let answer = Answer::draw(id.as_u64(), status, request, swarm, dice, is_odd);
        if let Some(lane) = lane.filter(|_| status == 200) {
            let is_timely = sent_at.is_none_or(|sent_at| self.now.since(sent_at) <= TIMELY);
            let charge = Charge { at: self.now, id, tokens: [prompt, prompt, 0], is_timely };
            self.fireworks.charges(lane, self.now).push_back(charge);
        }
        let (length, ends_with_close) = (answer.wire.len() as u64, answer.ends_with_close);
        let breaks_at = match () {
            // What would end by closing is cut by what is no end: TLS tells the two apart.
            () if self.is_odd(Odd::Cut) && (ends_with_close || self.dice.chance(50)) => {
                Some(Some(End::Reset))
            }
            () if self.is_odd(Odd::Cut) && !ends_with_close => Some(Some(End::Eof)),
            () if self.is_odd(Odd::Stalls) => Some(None),
            () => None,
        };
        let place = usize::try_from(self.dice.below(length)).expect("small");
        let exchange = self.exchanges.get_mut(&id).expect("it was dialed");
        exchange.answer = Some(answer);
        exchange.breaks_at = breaks_at.map(|end| (place, end));
    }

    pub fn upstream_speaks(&mut self, id: ConnId) {
        let Some(exchange) = self.exchanges.get(&id).filter(|exchange| exchange.is_open) else { return };
        let Some(answer) = &exchange.answer else {
            let end = if self.dice.chance(50) { End::Eof } else { End::Reset };
            return self.end_inbound(id, end);
        };
        let (said, breaks_at) = (exchange.said, exchange.breaks_at);
        let until = breaks_at.map_or(answer.wire.len(), |(at, _)| at);
        let left = until - said;
        let at_once = if self.dice.chance(30) {
            left
        } else {
            usize::try_from(self.dice.below(left as u64 + 1)).expect("small")
        };
        let count = if answer.wire.len() > 20_000 { at_once.max(left.min(20_000)) } else { at_once };
        let bytes = answer.wire[said..said + count].to_vec();
        let (ends_with_close, is_reported) = (answer.ends_with_close, !answer.marks.is_empty());
        self.exchanges.get_mut(&id).expect("it is there").said += count;
        if count > 0 {
            self.push_inbound(id, &bytes);
        }
        if count < left {
            let gap = self.millis_below(800);
            return self.plan(gap, Event::UpstreamSpeaks(id));
        }
        let exchange = &self.exchanges[&id];
        if let Some(lane) = exchange.lane.filter(|_| is_reported && breaks_at.is_none()) {
            let generated = exchange.cost[2];
            let charge = Charge { at: self.now, id, tokens: [0, 0, generated], is_timely: true };
            self.fireworks.charges(lane, self.now).push_back(charge);
        }
        match breaks_at {
            Some((_, Some(end))) => self.end_inbound(id, end),
            Some((_, None)) => {}
            None if ends_with_close || self.dice.chance(50) => self.end_inbound(id, End::Eof),
            None => {}
        }
    }
}
