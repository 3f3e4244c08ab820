//! From the environment and the flags to what they mean.
//!
//! [`Raw`] is what was written, [`Config`] is what it means: parsed, bounded, with units in its
//! types or names. Owns the table of settings and every error about them; each error names the
//! variable or the flag, its value and what is accepted. Reads no environment: `main` hands the
//! variables in.

mod access;
mod ca_file;
mod environment;
mod forward_proxy;
mod log_format;
mod no_proxy;
mod raw;
mod redacted;
mod settings;
mod shown;
mod techniques;
mod timeouts;
mod upstream;

use std::{ops::RangeInclusive, time::Duration};

use log::LevelFilter;
use time_tz::Tz;

pub use access::{Access, ClientToken, Host, HostName};
pub use ca_file::CaFile;
pub use forward_proxy::{Credentials, ForwardProxy};
pub use log_format::LogFormat;
pub use raw::{ConfigError, Raw};
pub(crate) use redacted::without_credentials;
pub use settings::{PREFIX, SETTINGS, Setting, nearest, nearest_name};
pub use shown::{Origin, ShownSetting};
pub use techniques::{Technique, Techniques};
pub use timeouts::Timeouts;
pub use upstream::Upstream;

/// A token limit per minute and whether the operator chose it.
///
/// A limit that was set is a ceiling that learning can lower, not raise; one left at its default is
/// only where learning starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimit {
    /// Tokens per minute, before the safety ratio.
    pub tokens_per_minute: u64,
    /// Whether the operator set it.
    pub is_ceiling: bool,
}

/// The limits of the three budgets of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// All prompt tokens, cached or not.
    pub prompt: TokenLimit,
    /// Prompt tokens that no cache served.
    pub uncached_prompt: TokenLimit,
    /// Generated tokens.
    pub generated: TokenLimit,
}

/// What the settings mean.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests per second over time; the burst is the same number, at least one.
    pub requests_per_second: f64,
    /// The local port; 0 for one that the system chooses.
    pub port: u16,
    /// The listen address.
    pub host: Host,
    /// Who may come in.
    pub access: Access,
    /// Where requests go.
    pub upstream: Upstream,
    /// The forward proxy on the way there.
    pub forward_proxy: Option<ForwardProxy>,
    /// PEM files of further trusted roots, with the variables that name them.
    pub ca_files: Vec<CaFile>,
    /// The longest wait in the queue.
    pub max_wait: Duration,
    /// The longest time until an answer begins, from when the request was read whole.
    pub max_hold: Duration,
    /// How often a request is tried again.
    pub retries_max: u32,
    /// The longest steps of clients and of the upstream.
    pub timeouts: Timeouts,
    /// How long answers under way may go on when the proxy is stopped.
    pub drain: Duration,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// The most bytes that are held for all connections together; at least `body_bytes_max`.
    pub buffered_bytes_max: usize,
    /// The token limits of each lane, before the safety ratio.
    pub limits: TokenLimits,
    /// The share of the limits that is used, in (0, 1]; `None` for one that adapts.
    pub safety_ratio: Option<f64>,
    /// Generated tokens reserved before a lane has been observed.
    pub output_reserve_tokens: u64,
    /// First guess of characters per prompt token.
    pub chars_per_token: f64,
    /// Tokens a day before generation requests are refused; `None` for no cap.
    pub daily_limit_tokens: Option<u64>,
    /// The share of the daily limit that draws the warning, in (0, 1].
    pub daily_warn_ratio: f64,
    /// The zone whose calendar day the ledger counts.
    pub timezone: &'static Tz,
    /// The file that keeps the day's count.
    pub usage_state: std::path::PathBuf,
    /// The most detailed level that is logged.
    pub log_level: LevelFilter,
    /// The form of the log's lines.
    pub log_format: LogFormat,
    /// Every setting as it may be shown, with where its value came from, in the table's order.
    pub shown: Vec<ShownSetting>,
    /// What the budgets make use of; all, but in a bench.
    pub techniques: Techniques,
}

/// Keeps every span and count far from where arithmetic could overflow.
const TOKENS_MAX: u64 = 1_000_000_000_000_000;
/// From a request in a quarter of an hour to ten times Fireworks' account-wide cap of 6,000 a minute.
const REQUESTS_PER_SECOND: RangeInclusive<f64> = 0.001..=1_000.0;
/// A day: a longer wait is a wish, not a queue.
const WAIT_SECONDS_MAX: f64 = 86_400.0;
/// More would outlast every hold: the back-off doubles.
const RETRIES_MAX: u32 = 100;
/// The largest body that may be allowed: it is held in memory while its request waits.
const BODY_MIB_MAX: usize = 1_024;
/// What a pointer of 32 bits could address, less a MiB.
const BUFFERED_MIB_MAX: usize = 4_095;
const BYTES_PER_MIB: usize = 1024 * 1024;
/// Beyond these the guess of a prompt would be no guess.
const CHARS_PER_TOKEN: RangeInclusive<f64> = 0.1..=100.0;

impl Config {
    /// Gives the settings their meaning.
    ///
    /// # Errors
    /// The first value found that cannot be meant.
    pub fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let ratio =
            |name| raw.parse(name, "a ratio above 0 and at most 1", |ratio| *ratio > 0.0 && *ratio <= 1.0);
        let host = Host::from_raw(raw)?;
        let upstream = parse_upstream(raw)?;
        Ok(Self {
            requests_per_second: raw.parse("FIREWORKS_PROXY_RPS", "a number from 0.001 to 1000", |rate| {
                REQUESTS_PER_SECOND.contains(rate)
            })?,
            port: raw.parse("FIREWORKS_PROXY_PORT", "a whole number from 0 to 65535", |_| true)?,
            access: Access::from_raw(raw, &host)?,
            host,
            forward_proxy: ForwardProxy::from_raw(raw, &upstream)?,
            upstream,
            ca_files: CaFile::from_raw(raw),
            max_wait: parse_seconds(raw, "FIREWORKS_PROXY_MAX_WAIT")?,
            max_hold: parse_seconds(raw, "FIREWORKS_PROXY_MAX_HOLD")?,
            retries_max: raw.parse(
                "FIREWORKS_PROXY_MAX_RETRIES",
                "a whole number from 0 to 100",
                |retries| *retries <= RETRIES_MAX,
            )?,
            timeouts: Timeouts::from_raw(raw)?,
            drain: parse_drain(raw)?,
            body_bytes_max: parse_mebibytes(raw, "FIREWORKS_PROXY_MAX_BODY_MIB", 1..=BODY_MIB_MAX)?,
            buffered_bytes_max: parse_buffered(raw)?,
            limits: parse_limits(raw)?,
            safety_ratio: parse_safety_ratio(raw)?,
            output_reserve_tokens: parse_tokens(raw, "FIREWORKS_PROXY_OUTPUT_TOKEN_RESERVE")?,
            chars_per_token: raw.parse(
                "FIREWORKS_PROXY_CHARS_PER_TOKEN",
                "a number from 0.1 to 100",
                |chars| CHARS_PER_TOKEN.contains(chars),
            )?,
            daily_limit_tokens: parse_daily_limit(raw)?,
            daily_warn_ratio: ratio("FIREWORKS_PROXY_DAILY_TOKEN_WARN_RATIO")?,
            timezone: parse_timezone(raw)?,
            usage_state: raw.text("FIREWORKS_PROXY_USAGE_STATE").into(),
            log_level: raw.parse(
                "FIREWORKS_PROXY_LOG",
                "error, warn, info, debug or trace",
                |level: &LevelFilter| *level != LevelFilter::Off,
            )?,
            log_format: raw.parse("FIREWORKS_PROXY_LOG_FORMAT", "text or json", |_| true)?,
            shown: raw.shown(),
            techniques: Techniques::default(),
        })
    }

    /// The configuration with every setting at its default.
    ///
    /// # Panics
    /// Never: a test parses the defaults.
    pub fn defaults() -> Self {
        Self::from_raw(&Raw::default()).expect("the defaults are accepted")
    }

    /// The upstream, and the forward proxy on the way there with what names it.
    pub fn way(&self) -> String {
        match &self.forward_proxy {
            Some(proxy) => format!("{} through {proxy} ({})", self.upstream, proxy.named_by),
            None => self.upstream.to_string(),
        }
    }

    /// The way to the upstream and what may be sent there: the end of the log's first line.
    pub fn summary(&self) -> String {
        format!("{} (RPS limit={:?}, {})", self.way(), self.requests_per_second, self.tokens_used_at_most())
    }

    /// What the token limits come to after the safety ratio.
    pub fn tokens_used_at_most(&self) -> String {
        let TokenLimits { prompt, uncached_prompt, generated } = self.limits;
        let [prompt, uncached, generated] = [prompt, uncached_prompt, generated]
            .map(|limit| share_of(limit.tokens_per_minute, self.safety_ratio.unwrap_or(SAFETY_RATIO_START)));
        let adaptive = if self.safety_ratio.is_none() { " at first, adaptive" } else { "" };
        format!("tokens per minute: prompt={prompt} uncached={uncached} generated={generated}{adaptive}")
    }

    /// One line: every setting with its value, secrets and control characters hidden, those that were
    /// set marked, and what the token limits come to.
    pub fn describe(&self) -> String {
        format!("settings |{} | meaning: {}", shown::describe(&self.shown), self.tokens_used_at_most())
    }

    /// The error about a value that was parsed and then turned out to be of no use, such as a port that
    /// is taken. `name` is a variable of the table, or one of others that is heeded.
    pub fn error(&self, name: &'static str, value: String, accepted: String) -> ConfigError {
        let shown = self.shown.iter().find(|shown| shown.setting.name == name);
        let origin = shown.map_or(Origin::Environment, |shown| shown.origin);
        ConfigError { name, origin, value, accepted }
    }
}

/// `ratio` of `tokens`, rounded down, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "tokens are below 2^53 and the ratio is in (0, 1], so the product is exact enough and in range"
)]
pub fn share_of(tokens: u64, ratio: f64) -> u64 {
    ((tokens as f64 * ratio) as u64).max(1)
}

fn parse_upstream(raw: &Raw) -> Result<Upstream, ConfigError> {
    Upstream::parse(raw.text("FIREWORKS_PROXY_UPSTREAM")).ok_or_else(|| {
        let accepted = "https://host[:port][/path], or http:// for localhost, without credentials";
        let mut error = raw.error("FIREWORKS_PROXY_UPSTREAM", accepted);
        error.value = without_credentials(&error.value);
        error
    })
}

fn parse_seconds(raw: &Raw, name: &'static str) -> Result<Duration, ConfigError> {
    let accepted = "a number of seconds above 0, at most 86400";
    let seconds = raw.parse(name, accepted, |seconds| *seconds > 0.0 && *seconds <= WAIT_SECONDS_MAX)?;
    Ok(Duration::from_secs_f64(seconds))
}

/// Unlike the others, none at all has a meaning.
fn parse_drain(raw: &Raw) -> Result<Duration, ConfigError> {
    let accepted = "a number of seconds from 0 to 86400";
    let seconds = raw.parse("FIREWORKS_PROXY_DRAIN", accepted, |seconds| {
        *seconds >= 0.0 && *seconds <= WAIT_SECONDS_MAX
    })?;
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_mebibytes(
    raw: &Raw,
    name: &'static str,
    range: RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    let accepted = format!("a whole number of MiB from {} to {}", range.start(), range.end());
    let mebibytes: usize = raw.parse(name, &accepted, |size| range.contains(size))?;
    Ok(mebibytes * BYTES_PER_MIB)
}

/// A body has to fit, or it could never be read. The default makes room by itself.
fn parse_buffered(raw: &Raw) -> Result<usize, ConfigError> {
    let name = "FIREWORKS_PROXY_MAX_BUFFERED_MIB";
    let body_bytes = parse_mebibytes(raw, "FIREWORKS_PROXY_MAX_BODY_MIB", 1..=BODY_MIB_MAX)?;
    if !raw.is_set(name) {
        return Ok(parse_mebibytes(raw, name, 1..=BUFFERED_MIB_MAX)?.max(body_bytes));
    }
    parse_mebibytes(raw, name, body_bytes / BYTES_PER_MIB..=BUFFERED_MIB_MAX).map_err(|mut error| {
        error.accepted += ", not below FIREWORKS_PROXY_MAX_BODY_MIB";
        error
    })
}

fn parse_tokens(raw: &Raw, name: &'static str) -> Result<u64, ConfigError> {
    raw.parse(name, "a whole number of tokens from 1 to 10^15", |tokens| (1..=TOKENS_MAX).contains(tokens))
}

fn parse_limits(raw: &Raw) -> Result<TokenLimits, ConfigError> {
    let limit = |name| {
        let tokens_per_minute = parse_tokens(raw, name)?;
        Ok(TokenLimit { tokens_per_minute, is_ceiling: raw.is_set(name) })
    };
    Ok(TokenLimits {
        prompt: limit("FIREWORKS_PROXY_PROMPT_TPM_LIMIT")?,
        uncached_prompt: limit("FIREWORKS_PROXY_UNCACHED_PROMPT_TPM_LIMIT")?,
        generated: limit("FIREWORKS_PROXY_GENERATED_TPM_LIMIT")?,
    })
}

/// The share of the limits that is used at first where it adapts.
pub const SAFETY_RATIO_START: f64 = 0.80;

/// The word for a ratio that adapts.
const ADAPTIVE: &str = "adaptive";

fn parse_safety_ratio(raw: &Raw) -> Result<Option<f64>, ConfigError> {
    const NAME: &str = "FIREWORKS_PROXY_TPM_SAFETY_RATIO";
    if raw.text(NAME).eq_ignore_ascii_case(ADAPTIVE) {
        return Ok(None);
    }
    let accepted = "adaptive, or a ratio above 0 and at most 1";
    raw.parse(NAME, accepted, |ratio| *ratio > 0.0 && *ratio <= 1.0).map(Some)
}

fn parse_daily_limit(raw: &Raw) -> Result<Option<u64>, ConfigError> {
    let accepted = "a whole number of tokens up to 10^15, or 0 for no cap";
    let tokens = raw.parse("FIREWORKS_PROXY_DAILY_TOKEN_LIMIT", accepted, |tokens| *tokens <= TOKENS_MAX)?;
    Ok(Some(tokens).filter(|tokens| *tokens != 0))
}

fn parse_timezone(raw: &Raw) -> Result<&'static Tz, ConfigError> {
    let name = "FIREWORKS_PROXY_TIMEZONE";
    let zone = time_tz::timezones::get_by_name(raw.text(name));
    zone.ok_or_else(|| raw.error(name, "an IANA time zone such as Europe/Berlin or UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(variables: &[(&str, &str)]) -> Raw {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Raw::from_variables(variables).expect("Unicode values")
    }

    fn error_of(name: &str, value: &str) -> String {
        match Config::from_raw(&raw(&[(name, value)])) {
            Ok(_) => panic!("{name}={value} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_defaults_mean_what_the_table_says() {
        let config = Config::defaults();
        assert!((config.requests_per_second - 20.0).abs() < f64::EPSILON);
        assert_eq!((config.port, &config.host), (8787, &Host::Localhost));
        assert_eq!(config.upstream.to_string(), "https://api.fireworks.ai/inference");
        assert_eq!((config.max_wait, config.body_bytes_max), (Duration::from_secs(120), 64 << 20));
        assert_eq!((config.max_hold, config.retries_max), (Duration::from_secs(240), 5));
        assert_eq!(config.limits.generated, TokenLimit { tokens_per_minute: 36_000, is_ceiling: false });
        assert_eq!(config.daily_limit_tokens, Some(200_000_000));
        assert_eq!(config.log_level, LevelFilter::Info);
    }

    #[test]
    fn a_limit_that_was_set_is_a_ceiling() {
        let config = Config::from_raw(&raw(&[("fireworks_proxy_generated_tpm_limit", " 36000 ")]));
        let limit = config.expect("accepted").limits.generated;
        assert_eq!(limit, TokenLimit { tokens_per_minute: 36_000, is_ceiling: true });
    }

    #[test]
    fn an_error_names_the_variable_the_value_and_what_is_accepted() {
        let refused = [
            ("RPS", &["0", "-1", "nan", "inf", "1e-20", "x"][..]),
            ("PORT", &["65536", "-1", "http", "80.5"]),
            ("HOST", &["example.com", "1.2.3"]),
            ("UPSTREAM", &["http://api.fireworks.ai", "api.fireworks.ai"]),
            ("MAX_WAIT", &["0", "-3", "86401", "soon"]),
            ("MAX_HOLD", &["0", "nan"]),
            ("MAX_RETRIES", &["-1", "101", "2.5"]),
            ("READ_TIMEOUT", &["0", "-1", "86401"]),
            ("CLIENT_IDLE_TIMEOUT", &["never"]),
            ("DRAIN", &["-1", "86401"]),
            ("MAX_BODY_MIB", &["0", "1025", "1.5"]),
            ("MAX_BUFFERED_MIB", &["0", "63", "4096"]),
            ("PROMPT_TPM_LIMIT", &["0", "-1", "1e6", "99999999999999999999"]),
            ("UNCACHED_PROMPT_TPM_LIMIT", &["0"]),
            ("GENERATED_TPM_LIMIT", &["36k"]),
            ("TPM_SAFETY_RATIO", &["0", "1.01", "80%", "NaN"]),
            ("OUTPUT_TOKEN_RESERVE", &["0"]),
            ("CHARS_PER_TOKEN", &["0", "101"]),
            ("DAILY_TOKEN_LIMIT", &["-1", "many"]),
            ("DAILY_TOKEN_WARN_RATIO", &["0", "2"]),
            ("TIMEZONE", &["Melbourne", "Mars/Olympus"]),
            ("LOG", &["loud", "off"]),
            ("LOG_FORMAT", &["xml", "jsonl"]),
        ];
        for (suffix, values) in refused {
            for value in values {
                let name = format!("{PREFIX}{suffix}");
                let error = error_of(&name, value);
                assert!(error.starts_with(&format!("{name}={value:?} is not accepted; wanted: ")), "{error}");
                assert!(!error.contains('\n'), "{error}");
            }
        }
    }

    fn setting(name: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.name == name).expect("in the table")
    }

    #[test]
    fn a_flag_beats_the_environment_and_is_what_an_error_names() {
        let port = setting("FIREWORKS_PROXY_PORT");
        let with_flags = |values: &[&'static str]| {
            let raw = raw(&[("FIREWORKS_PROXY_PORT", "1"), ("FIREWORKS_PROXY_RPS", "5")]);
            Config::from_raw(&raw.with_flags(values.iter().map(|value| (port, *value))))
        };
        let origin = |config: &Config, name: &str| {
            let shown = config.shown.iter().find(|shown| shown.setting.name == name).expect("shown");
            (shown.value.clone(), shown.origin)
        };
        let config = with_flags(&["2", "3"]).expect("accepted");
        assert_eq!(config.port, 3);
        assert_eq!(origin(&config, "FIREWORKS_PROXY_PORT"), ("3".to_owned(), Origin::Flag));
        assert_eq!(origin(&config, "FIREWORKS_PROXY_RPS"), ("5".to_owned(), Origin::Environment));
        assert_eq!(origin(&config, "FIREWORKS_PROXY_CA_FILE"), (String::new(), Origin::Default));
        assert!(config.describe().contains(" RPS=5 (set) PORT=3 (flag) "), "{}", config.describe());
        let error = with_flags(&["x"]).expect_err("no number").to_string();
        assert!(error.starts_with("--port=\"x\" is not accepted; wanted: "), "{error}");
        let later = config.error("FIREWORKS_PROXY_PORT", "3".to_owned(), "another".to_owned());
        assert_eq!(later.to_string(), "--port=\"3\" is not accepted; wanted: another");
        assert_eq!(with_flags(&[""]).expect("accepted").port, 8787, "nothing stands for the default");
    }

    #[test]
    fn a_secret_is_not_shown_wherever_it_came_from() {
        let token = setting("FIREWORKS_PROXY_CLIENT_TOKEN");
        let from_flag = Raw::default().with_flags([(token, "sixteen-letters!")]);
        for raw in [raw(&[(token.name, "sixteen-letters!")]), from_flag] {
            let config = Config::from_raw(&raw).expect("accepted");
            let shown = config.shown.iter().find(|shown| shown.setting == token).expect("shown");
            assert_eq!(shown.value, "***");
            let warnings: Vec<String> = raw.warnings().collect();
            assert_eq!(!warnings.is_empty(), shown.origin == Origin::Flag, "{warnings:?}");
            assert!(warnings.iter().all(|warning| warning.contains("--client-token")), "{warnings:?}");
            assert!(!format!("{raw:?}{config:?}").contains("sixteen"));
        }
    }

    #[test]
    fn a_password_in_a_refused_url_is_not_shown() {
        for url in ["https://user:secret@host/x", "user:secret@host", "https://a@b:secret@host"] {
            let error = error_of("FIREWORKS_PROXY_UPSTREAM", url);
            assert!(!error.contains("secret") && error.contains("***@host"), "{error}");
        }
        let error = error_of("FIREWORKS_PROXY_UPSTREAM", "https://host/inference?api_key=secret@x");
        assert!(!error.contains("secret") && error.contains("\"https://host/inference?***\""), "{error}");
    }

    #[test]
    fn unknown_names_of_ours_draw_a_warning_and_others_do_not() {
        let raw = raw(&[("FIREWORKS_PROXY_PROT", "1"), ("FIREWORKS_API_KEY", "secret"), ("PATH", "/bin")]);
        let warnings: Vec<String> = raw.warnings().collect();
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains("FIREWORKS_PROXY_PROT") && warnings[0].contains("FIREWORKS_PROXY_PORT?")
        );
        let two_lines: Vec<String> = self::raw(&[("FIREWORKS_PROXY_\u{1b}X\nY", "1")]).warnings().collect();
        assert!(two_lines[0].starts_with("FIREWORKS_PROXY_?X?Y is not"), "{two_lines:?}");
    }

    #[test]
    fn a_file_in_place_of_its_name_is_not_quoted_to_its_end() {
        let error = error_of("FIREWORKS_PROXY_PORT", &"9".repeat(100_000));
        assert!(
            error.len() < 400 && error.contains("999\"… is not accepted; wanted: a whole number"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let raw = raw(&[("FIREWORKS_PROXY_PORT", "  ")]);
        assert_eq!(Config::from_raw(&raw).expect("accepted").port, 8787);
        assert!(!raw.is_set("FIREWORKS_PROXY_PORT"));
    }

    #[test]
    fn the_description_is_one_line_with_every_setting() {
        let raw = raw(&[("FIREWORKS_PROXY_RPS", "5")]);
        let config = Config::from_raw(&raw).expect("accepted");
        let (line, summary) = (config.describe(), config.summary());
        assert!(!line.contains('\n') && line.contains(" RPS=5 (set) ") && line.contains(" PORT=8787 "));
        assert!(summary.contains("(RPS limit=5.0, tokens per minute: prompt=3600000 "), "{summary}");
        for setting in &SETTINGS {
            assert!(line.contains(setting.name.trim_start_matches(PREFIX)), "{}", setting.name);
        }
    }

    #[test]
    fn a_path_with_a_line_end_in_it_makes_no_second_line() {
        let raw = raw(&[("FIREWORKS_PROXY_USAGE_STATE", "a\nb\u{1b}c")]);
        let line = Config::from_raw(&raw).expect("accepted").describe();
        assert!(line.contains(" USAGE_STATE=a?b?c (set) "), "{line}");
    }
}
