//! From the environment to what it means.
//!
//! [`Raw`] is what was written, [`Config`] is what it means: parsed, bounded, with units in its
//! types or names. Owns the table of settings and every error about them; each error names the
//! variable, its value and what is accepted. Reads no environment: `main` hands the variables in.

mod settings;
mod timeouts;
mod upstream;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Write as _},
    str::FromStr,
    time::Duration,
};

use log::LevelFilter;
use time_tz::Tz;

pub use settings::{PREFIX, SETTINGS, Setting, nearest_name};
pub use timeouts::Timeouts;
pub use upstream::Upstream;

/// The settings as they were written, by name. Only names that are known and set are in it.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, String>,
    /// Names that begin as ours do and mean nothing.
    unknown: Vec<String>,
}

impl Raw {
    /// Picks our settings out of an environment. Names are compared without case, as Windows does.
    /// An empty value counts as not set, which is how most shells and service managers clear one.
    ///
    /// # Errors
    /// When one of our values is not Unicode text.
    pub fn from_variables(
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy().to_ascii_uppercase();
            if !name.starts_with(PREFIX) {
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                raw.unknown.push(name);
                continue;
            };
            let value = value.into_string().map_err(|value| ConfigError {
                name: setting.name,
                value: value.to_string_lossy().into_owned(),
                accepted: "text in UTF-8".to_owned(),
            })?;
            if !value.trim().is_empty() {
                raw.values.insert(setting.name, value.trim().to_owned());
            }
        }
        Ok(raw)
    }

    /// One warning for each name that begins as ours do but is not one of them.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|name| {
            format!("{name} is not a setting of this proxy; did you mean {}?", nearest_name(name))
        })
    }

    fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as written, or the default of the table.
    fn text(&self, name: &'static str) -> &str {
        let written = self.values.get(name).map(String::as_str);
        written.unwrap_or_else(|| {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            setting.expect("every name read is in the table of settings").default
        })
    }

    /// The value parsed and checked, or the error that names it.
    fn parse<T: FromStr>(
        &self,
        name: &'static str,
        accepted: &str,
        is_meant: impl Fn(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let parsed = self.text(name).parse().ok().filter(is_meant);
        parsed.ok_or_else(|| self.error(name, accepted))
    }

    fn error(&self, name: &'static str, accepted: &str) -> ConfigError {
        ConfigError { name, value: self.text(name).to_owned(), accepted: accepted.to_owned() }
    }
}

/// A setting whose value cannot be meant. The start ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What was written.
    pub value: String,
    /// What could have been written.
    pub accepted: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={:?} is not accepted; wanted: {}", self.name, self.value, self.accepted)
    }
}

impl std::error::Error for ConfigError {}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// 127.0.0.1 and, where the machine has it, `::1`.
    Localhost,
    /// One address.
    Address(std::net::IpAddr),
}

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
    /// Where requests go.
    pub upstream: Upstream,
    /// PEM file of further trusted roots.
    pub ca_file: Option<std::path::PathBuf>,
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
    /// The token limits of each lane, before the safety ratio.
    pub limits: TokenLimits,
    /// The share of the limits that is used, in (0, 1].
    pub safety_ratio: f64,
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
}

/// Keeps every span and count far from where arithmetic could overflow.
const TOKENS_MAX: u64 = 1_000_000_000_000_000;
/// From a request in a quarter of an hour to ten times Fireworks' account-wide cap of 6,000 a minute.
const REQUESTS_PER_SECOND: std::ops::RangeInclusive<f64> = 0.001..=1_000.0;
/// A day: a longer wait is a wish, not a queue.
const WAIT_SECONDS_MAX: f64 = 86_400.0;
/// More would outlast every hold: the back-off doubles.
const RETRIES_MAX: u32 = 100;
/// The largest body that may be allowed: it is held in memory while its request waits.
const BODY_MIB_MAX: usize = 1_024;
/// Beyond these the guess of a prompt would be no guess.
const CHARS_PER_TOKEN: std::ops::RangeInclusive<f64> = 0.1..=100.0;

impl Config {
    /// Gives the settings their meaning.
    ///
    /// # Errors
    /// The first value, in the table's order, that cannot be meant.
    pub fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let ratio =
            |name| raw.parse(name, "a ratio above 0 and at most 1", |ratio| *ratio > 0.0 && *ratio <= 1.0);
        Ok(Self {
            requests_per_second: raw.parse("FIREWORKS_PROXY_RPS", "a number from 0.001 to 1000", |rate| {
                REQUESTS_PER_SECOND.contains(rate)
            })?,
            port: raw.parse("FIREWORKS_PROXY_PORT", "a whole number from 0 to 65535", |_| true)?,
            host: parse_host(raw)?,
            upstream: Upstream::parse(raw.text("FIREWORKS_PROXY_UPSTREAM")).ok_or_else(|| {
                let accepted = "https://host[:port][/path], or http:// for localhost, without credentials";
                let mut error = raw.error("FIREWORKS_PROXY_UPSTREAM", accepted);
                error.value = without_credentials(&error.value);
                error
            })?,
            ca_file: Some(raw.text("FIREWORKS_PROXY_CA_FILE"))
                .filter(|path| !path.is_empty())
                .map(Into::into),
            max_wait: parse_seconds(raw, "FIREWORKS_PROXY_MAX_WAIT")?,
            max_hold: parse_seconds(raw, "FIREWORKS_PROXY_MAX_HOLD")?,
            retries_max: raw.parse(
                "FIREWORKS_PROXY_MAX_RETRIES",
                "a whole number from 0 to 100",
                |retries| *retries <= RETRIES_MAX,
            )?,
            timeouts: Timeouts::from_raw(raw)?,
            drain: parse_drain(raw)?,
            body_bytes_max: parse_mebibytes(raw, "FIREWORKS_PROXY_MAX_BODY_MIB")?,
            limits: parse_limits(raw)?,
            safety_ratio: ratio("FIREWORKS_PROXY_TPM_SAFETY_RATIO")?,
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
        })
    }

    /// The configuration with every setting at its default.
    ///
    /// # Panics
    /// Never: a test parses the defaults.
    pub fn defaults() -> Self {
        Self::from_raw(&Raw::default()).expect("the defaults are accepted")
    }

    /// The upstream and what may be sent there: the end of the log's first line.
    pub fn summary(&self) -> String {
        format!(
            "{} (RPS limit={:?}, {})",
            self.upstream,
            self.requests_per_second,
            self.tokens_used_at_most()
        )
    }

    /// What the token limits come to after the safety ratio.
    fn tokens_used_at_most(&self) -> String {
        let TokenLimits { prompt, uncached_prompt, generated } = self.limits;
        let [prompt, uncached, generated] = [prompt, uncached_prompt, generated]
            .map(|limit| share_of(limit.tokens_per_minute, self.safety_ratio));
        format!("tokens per minute: prompt={prompt} uncached={uncached} generated={generated}")
    }

    /// One line: every setting with its value, those that were set marked, and what the token limits
    /// come to. Holds no secret, because no setting is one; and no control character, which a path may
    /// have.
    pub fn describe(&self, raw: &Raw) -> String {
        let mut line = String::from("settings |");
        for setting in &SETTINGS {
            let origin = if raw.is_set(setting.name) { " (set)" } else { "" };
            let value = raw.text(setting.name);
            let name = setting.name.trim_start_matches(PREFIX);
            let value = if value.is_empty() { "-" } else { value }.replace(char::is_control, "?");
            write!(line, " {name}={value}{origin}").expect("a String takes every write");
        }
        line + " | meaning: at most these " + &self.tokens_used_at_most()
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

/// A URL as it may be shown: a password in front of the host, or a key in the query, is a secret even
/// where it is refused.
fn without_credentials(url: &str) -> String {
    let (url, query) = match url.find(['?', '#']) {
        Some(at) => (&url[..at], format!("{}***", &url[at..=at])),
        None => (url, String::new()),
    };
    let shown = match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://***{}", &url[..scheme], &url[at..]),
        (None, Some(at)) => format!("***{}", &url[at..]),
        _ => url.to_owned(),
    };
    shown + &query
}

fn parse_host(raw: &Raw) -> Result<Host, ConfigError> {
    let name = "FIREWORKS_PROXY_HOST";
    let text = raw.text(name);
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Host::Localhost);
    }
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = literal.parse().map(Host::Address);
    address.map_err(|_| raw.error(name, "localhost or an IP address of this machine"))
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

fn parse_mebibytes(raw: &Raw, name: &'static str) -> Result<usize, ConfigError> {
    let mebibytes: usize =
        raw.parse(name, "a whole number from 1 to 1024", |size| (1..=BODY_MIB_MAX).contains(size))?;
    Ok(mebibytes * 1024 * 1024)
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
        let (line, summary) = (config.describe(&raw), config.summary());
        assert!(!line.contains('\n') && line.contains(" RPS=5 (set) ") && line.contains(" PORT=8787 "));
        assert!(summary.contains("(RPS limit=5.0, tokens per minute: prompt=3600000 "), "{summary}");
        for setting in &SETTINGS {
            assert!(line.contains(setting.name.trim_start_matches(PREFIX)), "{}", setting.name);
        }
    }

    #[test]
    fn a_path_with_a_line_end_in_it_makes_no_second_line() {
        let raw = raw(&[("FIREWORKS_PROXY_USAGE_STATE", "a\nb\u{1b}c")]);
        let line = Config::from_raw(&raw).expect("accepted").describe(&raw);
        assert!(line.contains(" USAGE_STATE=a?b?c (set) "), "{line}");
    }
}
