//! What a seed decides before its run begins: the settings of the proxy, and how often each odd thing
//! happens. In each run some never do (swarm testing: Groce et al., 2012), since what happens all the time
//! hides what happens only without it.

use std::time::Duration;

use fireworks_proxy::time::Wall;

use crate::support::world::Dice;

/// What does not happen in the plainest of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
pub enum Odd {
    // Of clients.
    Page, Malformed, Stranger, Oversized, Chunked, Expect, OldVersion, HeadMethod, Free, Unrepeatable, Pipelined,
    Trickles, StallsSending, Leaves, Resets, ReadsSlowly, ReadsNever, StatesTimeout, SaysClose, Lingers, Bulky,
    NamesSession,
    // Of the way to the upstream, and of the upstream.
    Unresolved, Refused, TlsBroken, TlsUntrusted, DialHangs, TakesNothing, Limited, Overloaded, Broken, BadRequest,
    AsksToWait, DropsEarly, Cut, Stalls, Early, Interim, BadHead, Unreported, UntilClose, SpeaksOn, Large, Tells,
    // Of the machine.
    Kill, LosesSave, Stop, StopsAgain, DiskFull, WallJumps, Hiccup, Sleep, LinkStalls, TinyPieces, Crowd,
}

/// Every odd thing with the percentage that it has at most, in the order of the enumeration.
#[rustfmt::skip]
pub const ODDS: [(Odd, u64); 55] = {
    use Odd::*;
    [
        (Page, 30), (Malformed, 15), (Stranger, 15), (Oversized, 10), (Chunked, 60), (Expect, 40), (OldVersion, 20),
        (HeadMethod, 15), (Free, 30), (Unrepeatable, 30), (Pipelined, 40), (Trickles, 30), (StallsSending, 10),
        (Leaves, 40), (Resets, 60), (ReadsSlowly, 30), (ReadsNever, 10), (StatesTimeout, 50), (SaysClose, 20),
        (Lingers, 50), (Bulky, 30), (NamesSession, 80),
        (Unresolved, 15), (Refused, 15), (TlsBroken, 15), (TlsUntrusted, 10), (DialHangs, 10), (TakesNothing, 10),
        (Limited, 30), (Overloaded, 30), (Broken, 20), (BadRequest, 15), (AsksToWait, 60), (DropsEarly, 20),
        (Cut, 25), (Stalls, 15), (Early, 20), (Interim, 30), (BadHead, 10), (Unreported, 30), (UntilClose, 40),
        (SpeaksOn, 30), (Large, 15), (Tells, 70),
        (Kill, 15), (LosesSave, 8), (Stop, 10), (StopsAgain, 60), (DiskFull, 15), (WallJumps, 15), (Hiccup, 30),
        (Sleep, 8), (LinkStalls, 40), (TinyPieces, 40), (Crowd, 30),
    ]
};

/// What clients send in the runs that ask for it.
pub const SECRET: &str = "the-secret-of-all-clients";

/// The line in which they send it.
pub const SECRET_FIELD: &str = "X-Fireworks-Proxy-Token: the-secret-of-all-clients\r\n";

/// Which limits the proxy is set to, and what answers report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// Every request costs what the proxy guesses, so that the model knows what is reserved.
    Exact,
    /// Answers report what they like.
    Free,
}

/// What a seed decides.
#[derive(Debug)]
pub struct Swarm {
    /// The settings, as `(name without prefix, value)`.
    pub settings: Vec<(&'static str, String)>,
    pub honesty: Honesty,
    /// Whether the upstream's own limits are those of the settings, and it refuses for no other reason.
    pub is_fair: bool,
    /// Tokens a minute in each dimension, before the ratio.
    pub limits: [u64; 3],
    pub safety_ratio: f64,
    /// What is generated for each request of an exact run, in tokens.
    pub reserve: u64,
    pub requests_per_second: f64,
    pub max_wait: Duration,
    pub max_hold: Duration,
    pub retries_max: usize,
    pub drain: Duration,
    pub daily_limit: Option<u64>,
    /// How far local time is ahead of UTC.
    pub zone_millis: i64,
    pub starts_at: Wall,
    /// What may be held for all clients: `None` for far more than comes together.
    pub buffered_mib: Option<usize>,
    /// The longest body that costs no tokens, in thousands of bytes. Where memory may be tight, a few fill it.
    pub bulk_thousands_max: u64,
    /// The largest of tiny pieces, in bytes. Where bodies are long, pieces have to be larger for any to be whole.
    pub tiny_bytes_max: u64,
    /// Whether clients have to send [`SECRET`].
    pub asks_for_secret: bool,
    pub clients_max: usize,
    pub keys: u64,
    pub models: u64,
    pub spawn_gap_millis: u64,
    /// The longest text of a request, in characters.
    pub text_max: u64,
    /// The longest delay of a link.
    pub delay_millis_max: u64,
    percent: [u64; ODDS.len()],
}

/// Time zones without clock changes, whose days the model can count by itself; and how far each is ahead.
const ZONES: [(&str, i64); 4] =
    [("UTC", 0), ("Asia/Tokyo", 540), ("Asia/Kolkata", 330), ("America/Phoenix", -420)];

fn one_of<T: Copy>(dice: &mut Dice, items: &[T]) -> T {
    *dice.pick(items).expect("there is one")
}

impl Swarm {
    pub fn draw(dice: &mut Dice) -> Self {
        let mut percent = ODDS.map(|(_, max)| if dice.chance(45) { 0 } else { 1 + dice.below(max) });
        let honesty = if dice.chance(65) { Honesty::Exact } else { Honesty::Free };
        let is_fair = honesty == Honesty::Exact && dice.chance(50);
        if is_fair {
            percent[Odd::Limited as usize] = 0;
        }
        let reserve = one_of(dice, &[5, 20, 100]);
        let text_max = one_of(dice, &[100, 400, 2_000]);
        let prompts = one_of(dice, &[2, 5, 20, 1_000]) * (text_max + 100);
        let limits =
            [prompts, prompts * one_of(dice, &[50, 100]) / 100, reserve * one_of(dice, &[2, 5, 30, 1_000])];
        let (zone, zone_minutes) = one_of(dice, &ZONES);
        let mut swarm = Self {
            settings: vec![("TIMEZONE", zone.to_owned())],
            honesty,
            is_fair,
            limits,
            safety_ratio: one_of(dice, &[0.5, 0.8, 1.0]),
            reserve,
            requests_per_second: one_of(dice, &[0.3, 1.0, 4.0, 1_000.0]),
            max_wait: Duration::from_secs(one_of(dice, &[2, 30, 120, 1_000])),
            max_hold: Duration::from_secs(one_of(dice, &[5, 60, 240, 1_000])),
            retries_max: one_of(dice, &[0, 1, 3, 5]),
            drain: Duration::from_secs(one_of(dice, &[0, 5, 30])),
            daily_limit: dice.chance(40).then(|| 1 + dice.below(50) * (text_max + reserve)),
            zone_millis: zone_minutes * 60_000,
            starts_at: Wall::from_unix_millis(0),
            buffered_mib: dice.chance(30).then(|| one_of(dice, &[1, 2])),
            bulk_thousands_max: 200,
            tiny_bytes_max: 50,
            asks_for_secret: dice.chance(30),
            clients_max: one_of(dice, &[2, 6, 16]),
            keys: 1 + dice.below(2),
            models: 1 + dice.below(2),
            spawn_gap_millis: one_of(dice, &[20, 500, 4_000]),
            text_max,
            delay_millis_max: one_of(dice, &[0, 5, 200, 900]),
            percent,
        };
        swarm.starts_at = swarm.first_moment(dice);
        swarm.write_settings(dice);
        swarm.write_bounds_of_clients();
        swarm
    }

    /// Half of the runs begin shortly before midnight.
    fn first_moment(&self, dice: &mut Dice) -> Wall {
        const DAY: i64 = 86_400_000;
        let before = if dice.chance(50) { 1 + dice.below(300_000) } else { 1 + dice.below(86_000_000) };
        let before = i64::try_from(before).expect("within a day");
        Wall::from_unix_millis(20_600 * DAY - self.zone_millis - before)
    }

    fn write_settings(&mut self, dice: &mut Dice) {
        let seconds = |span: Duration| span.as_secs().to_string();
        let names = ["PROMPT_TPM_LIMIT", "UNCACHED_PROMPT_TPM_LIMIT", "GENERATED_TPM_LIMIT"];
        self.settings.extend(names.into_iter().zip(self.limits.map(|limit| limit.to_string())));
        self.settings.extend([
            ("TPM_SAFETY_RATIO", self.safety_ratio.to_string()),
            ("OUTPUT_TOKEN_RESERVE", self.reserve.to_string()),
            ("CHARS_PER_TOKEN", "1".to_owned()),
            ("RPS", self.requests_per_second.to_string()),
            ("MAX_WAIT", seconds(self.max_wait)),
            ("MAX_HOLD", seconds(self.max_hold)),
            ("MAX_RETRIES", self.retries_max.to_string()),
            ("DRAIN", seconds(self.drain)),
            ("DAILY_TOKEN_LIMIT", self.daily_limit.unwrap_or(0).to_string()),
            ("READ_TIMEOUT", one_of(dice, &["20", "300", "1800"]).to_owned()),
            ("WRITE_TIMEOUT", one_of(dice, &["5", "30"]).to_owned()),
            ("CONNECT_TIMEOUT", one_of(dice, &["2", "10"]).to_owned()),
            ("CLIENT_HEAD_TIMEOUT", one_of(dice, &["5", "30"]).to_owned()),
            ("CLIENT_BODY_TIMEOUT", one_of(dice, &["10", "60"]).to_owned()),
            ("CLIENT_IDLE_TIMEOUT", one_of(dice, &["20", "300"]).to_owned()),
        ]);
    }

    /// What clients may take up, and what they have to bring.
    fn write_bounds_of_clients(&mut self) {
        if self.asks_for_secret {
            self.settings.push(("CLIENT_TOKEN", SECRET.to_owned()));
        }
        if let Some(mebibytes) = self.buffered_mib {
            let settings = [("MAX_BODY_MIB", "1".to_owned()), ("MAX_BUFFERED_MIB", mebibytes.to_string())];
            self.settings.extend(settings);
            (self.bulk_thousands_max, self.tiny_bytes_max) = (600, 5_000);
            // Memory has to become tight and to ease again, not only to be tight for ever.
            for (odd, percent) in [(Odd::Free, 40), (Odd::Bulky, 80)] {
                self.percent[odd as usize] = self.percent[odd as usize].max(percent);
            }
            self.clients_max = self.clients_max.max(6);
        }
    }

    /// How probable that is in this run.
    pub fn percent_of(&self, odd: Odd) -> u64 {
        self.percent[odd as usize]
    }

    /// What may be used within a minute in each dimension.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "limits of runs are far below 2^53, and not negative"
    )]
    pub fn effective(&self) -> [u64; 3] {
        self.limits.map(|limit| ((limit as f64 * self.safety_ratio) as u64).max(1))
    }
}
