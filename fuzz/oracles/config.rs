//! Settings from any environment: what is accepted is within its range, and what is not is named.
//!
//! An input is an environment as Linux shows it in `/proc/self/environ`: entries of `NAME=value`, ended by
//! zero bytes.

use std::{ffi::OsString, time::Duration};

use fireworks_proxy::config::{Config, ConfigError, Credentials, PREFIX, Raw, SETTINGS};

use super::Outcome;

/// The range of each setting that is a number, and whether it must be a whole one.
const NUMBERS: [(&str, f64, f64, Kind); 22] = [
    ("RPS", 0.001, 1_000.0, Kind::Real),
    ("PORT", 0.0, 65_535.0, Kind::Whole),
    ("MAX_WAIT", 0.0, 86_400.0, Kind::Above),
    ("MAX_HOLD", 0.0, 86_400.0, Kind::Above),
    ("MAX_RETRIES", 0.0, 100.0, Kind::Whole),
    ("CONNECT_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("WRITE_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("READ_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("CLIENT_HEAD_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("CLIENT_BODY_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("CLIENT_IDLE_TIMEOUT", 0.0, 86_400.0, Kind::Above),
    ("DRAIN", 0.0, 86_400.0, Kind::Real),
    ("MAX_BODY_MIB", 1.0, 1_024.0, Kind::Whole),
    // Room for a body of the default size.
    ("MAX_BUFFERED_MIB", 64.0, 4_095.0, Kind::Whole),
    ("PROMPT_TPM_LIMIT", 1.0, 1e15, Kind::Whole),
    ("UNCACHED_PROMPT_TPM_LIMIT", 1.0, 1e15, Kind::Whole),
    ("GENERATED_TPM_LIMIT", 1.0, 1e15, Kind::Whole),
    ("TPM_SAFETY_RATIO", 0.0, 1.0, Kind::AboveOrAdaptive),
    ("OUTPUT_TOKEN_RESERVE", 1.0, 1e15, Kind::Whole),
    ("CHARS_PER_TOKEN", 0.1, 100.0, Kind::Real),
    ("DAILY_TOKEN_LIMIT", 0.0, 1e15, Kind::Whole),
    ("DAILY_TOKEN_WARN_RATIO", 0.0, 1.0, Kind::Above),
];

/// What a number may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Real,
    /// Above its least value.
    Above,
    /// The same, or the word `adaptive`.
    AboveOrAdaptive,
}

/// `data` is the environment.
pub fn config(data: &[u8]) -> Outcome {
    let raw = match Raw::from_variables(variables(data)) {
        Ok(raw) => raw,
        Err(error) => return refused(&error),
    };
    for warning in raw.warnings() {
        assert!(SETTINGS.iter().any(|setting| warning.ends_with(&format!("{}?", setting.name))), "{warning}");
    }
    check_numbers(data);
    let config = match Config::from_raw(&raw) {
        Ok(config) => config,
        Err(error) => return refused(&error),
    };
    check_ranges(&config);
    for line in [config.describe(), config.summary()] {
        assert!(!line.contains(char::is_control), "not one line: {line:?}");
    }
    let again = Config::from_raw(&raw).expect("accepted once");
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
    Outcome::Accepted
}

fn variables(data: &[u8]) -> impl Iterator<Item = (OsString, OsString)> {
    let entries = data.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((&entry[..at], &entry[at + 1..]))
    });
    entries.map(|(name, value)| (text(name), text(value)))
}

#[cfg(unix)]
fn text(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn text(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// What others set for every program, and the proxy heeds.
const OF_OTHERS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// An error is one line, which begins with a variable's name and ends with what could be written.
fn refused(error: &ConfigError) -> Outcome {
    let line = error.to_string();
    let is_ours = SETTINGS.iter().any(|setting| setting.name == error.name);
    assert!(is_ours || OF_OTHERS.contains(&error.name), "{line}");
    assert!(line.starts_with(&format!("{}=", error.name)) && !line.contains(char::is_control), "{line:?}");
    assert!(!error.accepted.is_empty() && line.ends_with(&error.accepted), "{line}");
    Outcome::Refused
}

/// Each number by itself is accepted if it is one and within its range, and only then.
fn check_numbers(data: &[u8]) {
    for (suffix, least, most, kind) in NUMBERS {
        let name = format!("{PREFIX}{suffix}");
        let is_it = |other: &OsString| other.to_string_lossy().eq_ignore_ascii_case(&name);
        let values: Vec<OsString> =
            variables(data).filter(|(other, _)| is_it(other)).map(|(_, value)| value).collect();
        let [value] = &values[..] else { continue };
        let Some(text) = value.to_str().map(str::trim).filter(|text| !text.is_empty()) else { continue };
        let alone = Raw::from_variables(std::iter::once((name.clone().into(), text.into())));
        let result = Config::from_raw(&alone.expect("it is text"));
        let is_meant = is_meant(text, least, most, kind);
        match result {
            Ok(_) => assert!(is_meant, "{name}={text} was accepted"),
            Err(error) => assert!(!is_meant && error.name == name, "{name}={text} was refused: {error}"),
        }
    }
}

fn is_meant(text: &str, least: f64, most: f64, kind: Kind) -> bool {
    if kind == Kind::AboveOrAdaptive && text.eq_ignore_ascii_case("adaptive") {
        return true;
    }
    let Ok(number) = text.parse::<f64>() else { return false };
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        // Above 10^15 neighbours are still apart.
        Kind::Whole => is_whole && (least..=most).contains(&number),
        Kind::Real => (least..=most).contains(&number),
        Kind::Above | Kind::AboveOrAdaptive => number > least && number <= most,
    }
}

fn check_ranges(config: &Config) {
    let day = Duration::from_secs(86_400);
    assert!((0.001..=1_000.0).contains(&config.requests_per_second));
    let timeouts = config.timeouts;
    for span in [
        config.max_wait,
        config.max_hold,
        timeouts.connect,
        timeouts.write,
        timeouts.read,
        timeouts.client_head,
        timeouts.client_body,
        timeouts.client_idle,
    ] {
        assert!(span <= day, "{span:?}");
    }
    assert!(config.drain <= day && config.retries_max <= 100);
    assert!(
        (1 << 20..=1 << 30).contains(&config.body_bytes_max) && config.body_bytes_max.is_multiple_of(1 << 20)
    );
    let limits = config.limits;
    for tokens in [
        limits.prompt.tokens_per_minute,
        limits.uncached_prompt.tokens_per_minute,
        limits.generated.tokens_per_minute,
        config.output_reserve_tokens,
        config.daily_limit_tokens.unwrap_or(1),
    ] {
        assert!((1..=1_000_000_000_000_000).contains(&tokens), "{tokens}");
    }
    for ratio in [config.safety_ratio.unwrap_or(1.0), config.daily_warn_ratio] {
        assert!(ratio > 0.0 && ratio <= 1.0, "{ratio}");
    }
    check_upstream(config);
    check_forward_proxy(config);
}

/// Nothing goes to this machine through a proxy, and its credentials can be sent in one field and are not shown.
fn check_forward_proxy(config: &Config) {
    let Some(proxy) = &config.forward_proxy else { return };
    assert!(config.upstream.tls && proxy.port > 0 && !proxy.host.is_empty(), "{proxy}");
    let shown = proxy.to_string();
    let expected = if proxy.credentials.is_some() { "http://***@" } else { "http://" };
    assert_eq!(shown, format!("{expected}{}", proxy.authority()));
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
    let credentials = proxy.credentials.iter().flat_map(Credentials::as_bytes);
    assert!(credentials.clone().all(|byte| !byte.is_ascii_control()), "{proxy}");
    assert!(proxy.credentials.is_none() || credentials.clone().any(|byte| *byte == b':'), "{proxy}");
}

/// No key goes over a network in the clear, and the base URL is put together again as it was meant.
fn check_upstream(config: &Config) {
    let upstream = &config.upstream;
    let address = upstream.host.parse::<std::net::IpAddr>();
    let is_here =
        upstream.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    assert!(upstream.tls || is_here, "{upstream}");
    assert!(upstream.port > 0 && !upstream.host.is_empty() && !upstream.base_path.ends_with('/'));
    assert!(upstream.base_path.is_empty() || upstream.base_path.starts_with('/'));
    let url = upstream.to_string();
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
    assert_eq!(fireworks_proxy::config::Upstream::parse(&url).as_ref(), Some(upstream), "{url}");
}
