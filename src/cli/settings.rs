//! `--print-config`: every setting with its value and where it came from, and what they come to.

use std::fmt::Write as _;

use crate::config::Config;

const BYTES_PER_MIB: usize = 1024 * 1024;

/// Longer values, such as paths, stand out of the column.
const VALUE_COLUMNS_MAX: usize = 36;

/// One line a setting: name, value, origin; secrets hidden. Below them, what is meant.
pub fn settings(config: &Config) -> String {
    let shown = config.shown.iter().map(|it| {
        let value = if it.value.is_empty() { "-" } else { it.value.as_str() };
        (it.setting.name, value, it.origin)
    });
    let name_columns = shown.clone().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let value_columns =
        shown.clone().map(|(_, value, _)| value.chars().count().min(VALUE_COLUMNS_MAX)).max().unwrap_or(0);
    let mut text = String::new();
    let written = "a String takes every write";
    for (name, value, origin) in shown {
        writeln!(text, "{name:name_columns$}  {value:value_columns$}  {origin}").expect(written);
    }
    writeln!(text, "\n# what is meant").expect(written);
    writeln!(text, "# {}", config.tokens_used_at_most()).expect(written);
    let held = config.buffered_bytes_max / BYTES_PER_MIB;
    writeln!(text, "# requests and answers held in all: at most {held} MiB").expect(written);
    let base_url = match config.port {
        0 => "a port that the system chooses at the start".to_owned(),
        port => config.host.base_url(port),
    };
    writeln!(text, "# clients on this machine use {base_url}").expect(written);
    writeln!(text, "# requests go to {}", config.way()).expect(written);
    for file in &config.ca_files {
        let path = file.path.display().to_string().replace(char::is_control, "?");
        writeln!(text, "# trusted besides the built-in roots: those in {path} ({})", file.named_by)
            .expect(written);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Raw, SETTINGS};

    #[test]
    fn every_setting_has_a_line_with_value_and_origin_in_columns() {
        let variables = [
            ("FIREWORKS_PROXY_CLIENT_TOKEN", "sixteen-letters!"),
            ("FIREWORKS_PROXY_TPM_SAFETY_RATIO", "0.5"),
            // More than may be held by default, which makes room by itself.
            ("FIREWORKS_PROXY_MAX_BODY_MIB", "1024"),
            ("FIREWORKS_PROXY_USAGE_STATE", "/a/very/long/path/that/is/longer/than/the/column/is.json"),
        ];
        let raw = Raw::from_variables(variables.map(|(name, value)| (name.into(), value.into())).into_iter());
        let port = SETTINGS.iter().find(|setting| setting.flag() == "--port").expect("in the table");
        let raw = raw.expect("Unicode").with_flags([(port, "9000")]);
        let text = settings(&Config::from_raw(&raw).expect("accepted"));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for (setting, line) in SETTINGS.iter().zip(&lines) {
            let (value, origin) = match setting.name.trim_start_matches("FIREWORKS_PROXY_") {
                "CLIENT_TOKEN" => ("***", "environment"),
                "TPM_SAFETY_RATIO" => ("0.5", "environment"),
                "MAX_BODY_MIB" => ("1024", "environment"),
                "USAGE_STATE" => (variables[3].1, "environment"),
                "PORT" => ("9000", "flag"),
                _ if setting.default.is_empty() => ("-", "default"),
                _ => (setting.default, "default"),
            };
            assert_eq!(line, &[setting.name, value, origin]);
        }
        let columns = |origin| text.lines().filter_map(move |line| line.find(origin));
        assert!(columns("  default").all(|at| Some(at) == columns("  default").next()), "{text}");
        assert!(text.contains("prompt=2250000 uncached=450000 generated=18000\n"), "{text}");
        assert!(text.contains("at most 1024 MiB\n") && text.contains("http://localhost:9000"), "{text}");
        let text = settings(&Config { port: 0, ..Config::defaults() });
        assert!(text.contains("use a port that the system chooses") && !text.contains("http://"), "{text}");
    }
}
