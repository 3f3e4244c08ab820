//! `kill -9` at any instant: the state file parses and lacks at most the answers of the last second.
//!
//! Three series of lives, each on one state file: the real binary is started, put under load, killed hard, judged
//! by its file, and started again. What is judged is exact, on however slow a machine:
//!
//! An answer is counted before its client has the last byte of it, and the count has to be saved in the first turn
//! of the event loop that begins a second later or more. That there was such a turn, and that it has ended, is not
//! told by a clock of ours but by two further requests: one that was sent a second after the answer was there, and
//! one that was sent when that one had been answered, and was answered too. Who is busy elsewhere for a second
//! answers no requests, so a slow machine makes fewer answers due, and never one that is missing.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use fireworks_proxy::{
    budget::Budgets,
    config::{Config, Raw},
    ledger::Ledger,
    state::{self, Restored},
    time::{Mono, Now, Wall},
};
use support::{
    binary::{Binary, await_true, quiet_zone},
    client::Client,
    fake::{FakeFireworks, FakeOptions},
    wire::CHAT,
    world::Dice,
};

const SERIES: u64 = 3;
/// A process takes longer to start on Windows, and a second under Wine.
const LIVES: u64 = if cfg!(windows) { 14 } else { 98 };
const CLIENTS: usize = 3;

/// What the proxy may lack.
const LAST: Duration = Duration::from_secs(1);

/// So many answers have to be due in a life that is long enough for it.
const DUE_MIN: usize = 10;

/// What each answer costs.
const PROMPT_TOKENS: u64 = 12;
const GENERATED_TOKENS: u64 = 5;

/// Nothing waits for a budget.
const SETTINGS: [(&str, &str); 5] = [
    ("RPS", "1000"),
    ("PROMPT_TPM_LIMIT", "1000000000"),
    ("UNCACHED_PROMPT_TPM_LIMIT", "1000000000"),
    ("GENERATED_TPM_LIMIT", "1000000000"),
    ("DAILY_TOKEN_LIMIT", "0"),
];

fn settings() -> Vec<(&'static str, &'static str)> {
    [&SETTINGS[..], &[("TIMEZONE", quiet_zone())]].concat()
}

/// An answer that a client had whole.
#[derive(Clone, Copy)]
struct Answer {
    sent_at: Instant,
    done_at: Instant,
}

/// What the clients of one life have got.
#[derive(Default)]
struct Answers(Mutex<Vec<Answer>>);

impl Answers {
    fn all(&self) -> Vec<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Asks one thing after the other until the proxy is gone.
    fn fill(&self, address: SocketAddr) {
        let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nx-fake-prompt-tokens: {PROMPT_TOKENS}\r\n\
             x-fake-generated: {GENERATED_TOKENS}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let Ok(mut client) = Client::try_connect(address) else { return };
        client.expect_answer_to("POST");
        loop {
            let sent_at = Instant::now();
            if client.send(request.as_bytes()).is_err() {
                return;
            }
            let Ok(head) = client.try_read_head() else { return };
            let Ok(body) = client.read_body_to_end() else { return };
            assert_eq!(head.status, 200, "{}", body.text());
            let answer = Answer { sent_at, done_at: Instant::now() };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        }
    }
}

/// How many of these answers have to be in the file.
fn due(answers: &[Answer]) -> usize {
    let Some(last_sent) = answers.iter().map(|answer| answer.sent_at).max() else { return 0 };
    let witnesses = answers.iter().filter(|answer| answer.done_at <= last_sent);
    let Some(witness) = witnesses.map(|answer| answer.sent_at).max() else { return 0 };
    answers.iter().filter(|answer| answer.done_at + LAST <= witness).count()
}

/// How many answers a state file has counted, by the rules of the program; `None` when there is no file.
#[track_caller]
fn counted(file: &Path) -> Option<u64> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let text = String::from_utf8_lossy(&bytes);
    let variables = [("FIREWORKS_PROXY_TIMEZONE".into(), quiet_zone().into())];
    let raw = Raw::from_variables(variables.into_iter()).expect("Unicode settings");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    let now = Wall::from_unix_millis(i64::try_from(since.as_millis()).expect("this age"));
    let config = Config::from_raw(&raw).expect("settings that are accepted");
    let (mut ledger, mut budgets) = (Ledger::new(&config, now), Budgets::new(&config));
    let now = Now { mono: Mono::ZERO, wall: now };
    assert_eq!(state::restore(&bytes, &mut ledger, &mut budgets, now), Restored::Continued, "{text:?}");
    let answers = ledger.prompt_tokens() / PROMPT_TOKENS;
    let whole = (answers * PROMPT_TOKENS, answers * GENERATED_TOKENS);
    assert_eq!((ledger.prompt_tokens(), ledger.generated_tokens()), whole, "{text}");
    Some(answers)
}

/// One state file from life to life.
struct Series {
    fake: FakeFireworks,
    folder: Option<tempfile::TempDir>,
    dice: Dice,
    /// The answers in the file at the end of the last life.
    base: Option<u64>,
    looks: u64,
    due: usize,
}

impl Series {
    fn new(seed: u64) -> Self {
        let options = FakeOptions { tls: false, keep_bodies: false, ..FakeOptions::default() };
        Self {
            fake: FakeFireworks::start(options),
            folder: Some(tempfile::tempdir().expect("a folder")),
            dice: Dice::new(seed),
            base: None,
            looks: 0,
            due: 0,
        }
    }

    fn micros_below(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.dice.below(bound))
    }

    /// Within its start, before anybody can ask.
    fn kill_starting(&mut self) {
        let after = self.micros_below(60_000);
        let folder = self.folder.take().expect("between two lives");
        Binary::start_and_kill(folder.path(), &self.fake, &settings(), after);
        self.judge(folder, &[]);
    }

    /// Under load, when `until` says so.
    fn kill_under_load(&mut self, until: impl FnOnce(&mut Self, &Path, &Answers)) {
        let folder = self.folder.take().expect("between two lives");
        let proxy = Binary::start_in(folder, &self.fake, &settings());
        if let Some(base) = self.base {
            let used = base * (PROMPT_TOKENS + GENERATED_TOKENS);
            proxy.wait_for_line(&[&format!(": {used} tokens were used today already")]);
        }
        let answers = Arc::new(Answers::default());
        let address = proxy.address();
        let fill = |_| {
            std::thread::spawn({
                let answers = Arc::clone(&answers);
                move || answers.fill(address)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(fill).collect();
        until(self, &proxy.state_file(), &answers);
        // These were there before the kill; what comes until it has happened is judged by nobody.
        let had = answers.all();
        let (_, folder) = proxy.kill();
        for client in clients {
            client.join().expect("a client saw nothing but good answers");
        }
        self.judge(folder, &had);
    }

    /// While it saves, or right after that. Every look at the file is what a kill at that instant would leave.
    fn kill_saving(&mut self) {
        self.kill_under_load(|series, file, answers| {
            let temporary = file.with_extension("json.tmp");
            await_true_at_once("a save", || {
                // Elsewhere a look may itself get in the way of the one who writes.
                let is_saved = if cfg!(unix) { series.look(file) } else { answers.len() > 0 };
                is_saved || temporary.exists()
            });
        });
    }

    /// Whether the file has a count that it had not before.
    fn look(&mut self, file: &Path) -> bool {
        self.looks += 1;
        let count = counted(file);
        assert!(count >= self.base, "{count:?} after {:?}", self.base);
        count > self.base
    }

    /// After some answers.
    fn kill_answering(&mut self) {
        let (count, pause) = (1 + self.dice.below(60), self.micros_below(30_000));
        self.kill_under_load(|_, _, answers| {
            await_true("answers", || answers.len() as u64 >= count);
            std::thread::sleep(pause);
        });
    }

    /// When answers are old enough to have to be in the file.
    fn kill_with_answers_due(&mut self) {
        let pause = self.micros_below(500_000);
        self.kill_under_load(|_, _, answers| {
            await_true("answers that are due", || due(&answers.all()) >= DUE_MIN);
            std::thread::sleep(pause);
        });
    }

    /// Checks what a life has left in the file.
    #[track_caller]
    fn judge(&mut self, folder: tempfile::TempDir, had: &[Answer]) {
        let count = counted(&folder.path().join("daily_usage.json"));
        assert!(count >= self.base, "{count:?} answers after {:?}", self.base);
        let (due, since) = (due(had), count.unwrap_or(0) - self.base.unwrap_or(0));
        assert!(since >= due as u64, "of {} answers {due} are due, and {since} are in the file", had.len());
        let charged = self.fake.statistics().prompt_tokens / PROMPT_TOKENS;
        assert!(count.unwrap_or(0) <= charged, "{count:?} answers, and {charged} were asked for");
        (self.base, self.folder) = (count, Some(folder));
        self.due += due;
    }

    /// Lives and kills, and one life that ends well.
    fn run(mut self) -> (u64, usize) {
        for life in 0..LIVES {
            match life % 7 {
                0 => self.kill_starting(),
                1 | 3 | 5 => self.kill_saving(),
                2 | 4 => self.kill_answering(),
                _ => self.kill_with_answers_due(),
            }
        }
        let folder = self.folder.take().expect("between two lives");
        let names = std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry"));
        for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            let is_ours = ["ca.pem", "daily_usage.json", "daily_usage.json.tmp"].contains(&name.as_str());
            assert!(is_ours, "no file was ever put aside: {name}");
        }
        let proxy = Binary::start_in(folder, &self.fake, &settings());
        let used = self.base.expect("answers were counted") * (PROMPT_TOKENS + GENERATED_TOKENS);
        assert_eq!(proxy.page("/usage")["day"]["used"], used);
        (self.looks, self.due)
    }
}

/// Looks again at once, and not after a pause: what is looked for is over in microseconds.
#[track_caller]
fn await_true_at_once(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + support::binary::SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came: {what}");
    }
}

#[test]
fn killed_at_any_instant_the_state_file_is_whole_and_lacks_at_most_the_last_second() {
    let series = |seed| std::thread::spawn(move || Series::new(seed).run());
    let running: Vec<_> = (1..=SERIES).map(series).collect();
    let ended = running.into_iter().map(|series| series.join().expect("a series of lives"));
    let (looks, due) = ended.fold((0, 0), |(looks, due), (more, further)| (looks + more, due + further));
    println!(
        "{} kills, {looks} looks at the file while it was saved, {due} answers were due",
        SERIES * LIVES
    );
    assert!(due >= DUE_MIN * usize::try_from(SERIES * LIVES / 7).expect("small"));
}
