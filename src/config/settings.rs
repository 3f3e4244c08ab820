//! The table of settings: every variable's name, default and meaning, in the order of the manual.
//!
//! This is the one list: the reader of the environment, the flags, the help, the warning about unknown
//! names and the table of the manual are all held against it.

/// What every variable of ours begins with.
pub const PREFIX: &str = "FIREWORKS_PROXY_";

/// The only setting of whose value nothing is shown.
const SECRET: &str = "FIREWORKS_PROXY_CLIENT_TOKEN";

/// The only setting that may hold credentials, and for which an empty value says something.
pub(super) const UPSTREAM_PROXY: &str = "FIREWORKS_PROXY_UPSTREAM_PROXY";

/// One environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// The value that stands when it is not set; empty when there is none.
    pub default: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

impl Setting {
    /// Whether its value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.name == SECRET
    }

    /// Whether set to nothing differs from not set. For all others it does not, which is how most shells
    /// and service managers clear a variable.
    pub fn may_be_empty(&self) -> bool {
        self.name == UPSTREAM_PROXY
    }

    /// The flag that sets it: `--client-token` for `FIREWORKS_PROXY_CLIENT_TOKEN`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.trim_start_matches(PREFIX).to_ascii_lowercase().replace('_', "-"))
    }
}

/// Every setting, in the order of the table in the manual.
pub const SETTINGS: [Setting; 32] = [
    Setting {
        name: "FIREWORKS_PROXY_RPS",
        default: "20",
        meaning: "requests per second, sustained; burst capacity the same number",
    },
    Setting {
        name: "FIREWORKS_PROXY_PORT",
        default: "8787",
        meaning: "local port; 0 lets the system choose one",
    },
    Setting {
        name: "FIREWORKS_PROXY_HOST",
        default: "localhost",
        meaning: "listen address; `localhost` means 127.0.0.1 and, where the machine has it, ::1",
    },
    Setting {
        name: "FIREWORKS_PROXY_ALLOWED_HOSTS",
        default: "",
        meaning: "further names and IP addresses that clients reach the proxy by, with commas between them",
    },
    Setting {
        name: SECRET,
        default: "",
        meaning: "secret that clients have to send as `x-fireworks-proxy-token`; at least 16 characters",
    },
    Setting {
        name: "FIREWORKS_PROXY_UPSTREAM",
        default: "https://api.fireworks.ai/inference",
        meaning: "base URL; `http://` is allowed for loopback hosts only",
    },
    Setting {
        name: UPSTREAM_PROXY,
        default: "",
        meaning: "forward proxy on the way there, `http://[user:password@]host[:port]`; set to nothing: none; \
                  not set: what `HTTPS_PROXY` and `NO_PROXY` say",
    },
    Setting {
        name: "FIREWORKS_PROXY_CA_FILE",
        default: "",
        meaning: "PEM file of further trusted roots, added to the built-in ones",
    },
    Setting {
        name: "FIREWORKS_PROXY_MAX_WAIT",
        default: "120",
        meaning: "most seconds a request waits in the queue",
    },
    Setting {
        name: "FIREWORKS_PROXY_MAX_HOLD",
        default: "240",
        meaning: "most seconds until an answer begins, waiting and retries together",
    },
    Setting {
        name: "FIREWORKS_PROXY_MAX_RETRIES",
        default: "5",
        meaning: "how often a request that the upstream refused or lost is tried again; 0 means never",
    },
    Setting {
        name: "FIREWORKS_PROXY_CONNECT_TIMEOUT",
        default: "10",
        meaning: "seconds for name look-up, TCP and TLS together",
    },
    Setting {
        name: "FIREWORKS_PROXY_WRITE_TIMEOUT",
        default: "30",
        meaning: "seconds in which the upstream takes nothing of a request",
    },
    Setting {
        name: "FIREWORKS_PROXY_READ_TIMEOUT",
        default: "1800",
        meaning: "seconds in which the upstream sends nothing of an answer",
    },
    Setting {
        name: "FIREWORKS_PROXY_CLIENT_HEAD_TIMEOUT",
        default: "30",
        meaning: "seconds for a client to send a request's head",
    },
    Setting {
        name: "FIREWORKS_PROXY_CLIENT_BODY_TIMEOUT",
        default: "60",
        meaning: "seconds in which a client sends nothing of a body, or takes nothing of an answer",
    },
    Setting {
        name: "FIREWORKS_PROXY_CLIENT_IDLE_TIMEOUT",
        default: "300",
        meaning: "seconds that a client's connection stays open between requests",
    },
    Setting {
        name: "FIREWORKS_PROXY_DRAIN",
        default: "30",
        meaning: "most seconds for answers under way to end when the proxy is stopped",
    },
    Setting { name: "FIREWORKS_PROXY_MAX_BODY_MIB", default: "64", meaning: "largest request body, in MiB" },
    Setting {
        name: "FIREWORKS_PROXY_MAX_BUFFERED_MIB",
        default: "512",
        meaning: "MiB of requests and answers held in all; beyond it clients are read more slowly",
    },
    Setting {
        name: "FIREWORKS_PROXY_PROMPT_TPM_LIMIT",
        default: "4500000",
        meaning: "total prompt tokens per minute, before the safety ratio",
    },
    Setting {
        name: "FIREWORKS_PROXY_UNCACHED_PROMPT_TPM_LIMIT",
        default: "900000",
        meaning: "uncached prompt tokens per minute, before the safety ratio",
    },
    Setting {
        name: "FIREWORKS_PROXY_GENERATED_TPM_LIMIT",
        default: "36000",
        meaning: "generated tokens per minute, before the safety ratio",
    },
    Setting {
        name: "FIREWORKS_PROXY_TPM_SAFETY_RATIO",
        default: "adaptive",
        meaning: "share of the token limits that is used; adaptive finds it, from 0.80 on; a number fixes it",
    },
    Setting {
        name: "FIREWORKS_PROXY_OUTPUT_TOKEN_RESERVE",
        default: "2048",
        meaning: "generated tokens reserved for a request before anything better is known",
    },
    Setting {
        name: "FIREWORKS_PROXY_CHARS_PER_TOKEN",
        default: "3.5",
        meaning: "first guess of the prompt's characters per token",
    },
    Setting {
        name: "FIREWORKS_PROXY_DAILY_TOKEN_LIMIT",
        default: "200000000",
        meaning: "tokens per day before the proxy answers 429 itself; 0 means no cap",
    },
    Setting {
        name: "FIREWORKS_PROXY_DAILY_TOKEN_WARN_RATIO",
        default: "0.80",
        meaning: "share of the day's limit from which on the log warns",
    },
    Setting {
        name: "FIREWORKS_PROXY_TIMEZONE",
        default: "Australia/Melbourne",
        meaning: "calendar day of the daily count, and the clock of the log",
    },
    Setting {
        name: "FIREWORKS_PROXY_USAGE_STATE",
        default: "daily_usage.json",
        meaning: "file that keeps today's count; its folder is created when missing",
    },
    Setting { name: "FIREWORKS_PROXY_LOG", default: "info", meaning: "error, warn, info, debug, trace" },
    Setting {
        name: "FIREWORKS_PROXY_LOG_FORMAT",
        default: "text",
        meaning: "form of the log's lines: text, or json with one object a line",
    },
];

/// The known name nearest to `unknown`, which is shown to who mistyped one.
pub fn nearest_name(unknown: &str) -> &'static str {
    let names = SETTINGS.iter().map(|setting| setting.name);
    nearest(unknown, names).expect("the table of settings is not empty")
}

/// The known word that is the fewest edits away from `unknown`, the first of several; `None` where none
/// is known.
pub fn nearest<W: AsRef<str>>(unknown: &str, known: impl IntoIterator<Item = W>) -> Option<W> {
    known.into_iter().min_by_key(|word| edit_distance(word.as_ref(), unknown))
}

/// Levenshtein's distance in bytes, one row at a time.
fn edit_distance(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_byte) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right_byte) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_byte != *right_byte);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(nearest_name("FIREWORKS_PROXY_PROT"), "FIREWORKS_PROXY_PORT");
        assert_eq!(nearest_name("FIREWORKS_PROXY_TIME_ZONE"), "FIREWORKS_PROXY_TIMEZONE");
        assert_eq!(nearest_name("FIREWORKS_PROXY_GENERATED_TPM"), "FIREWORKS_PROXY_GENERATED_TPM_LIMIT");
    }

    #[test]
    fn every_setting_has_a_flag_of_its_own() {
        let flag_of = |name: &str| SETTINGS.iter().find(|setting| setting.name == name).map(Setting::flag);
        assert_eq!(flag_of("FIREWORKS_PROXY_CLIENT_TOKEN").as_deref(), Some("--client-token"));
        let flags: std::collections::BTreeSet<String> = SETTINGS.iter().map(Setting::flag).collect();
        assert_eq!(flags.len(), SETTINGS.len());
        assert_eq!(nearest("--prot", &flags).map(String::as_str), Some("--port"));
    }

    #[test]
    fn the_distance_counts_single_edits() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }
}
