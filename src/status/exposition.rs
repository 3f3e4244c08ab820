//! The text format of Prometheus, version 0.0.4: each family of metrics under one `HELP` and one `TYPE`, all its samples
//! together, label values escaped. What the families are is not decided here.
//!
//! The rules: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{self, Write as _};

use crate::stats::histogram::Histogram;

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// One family of metrics in the making.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// A label's name and value.
pub(super) type Label<'a> = (&'static str, &'a str);

impl Exposition {
    /// A family whose values only grow; its name ends in `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// A family whose values rise and fall.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A family of histograms.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let head = format!("# HELP {name} ");
        debug_assert!(!self.text.contains(&head), "{name} is there twice");
        self.text += &head;
        escape(&mut self.text, help, false);
        write(&mut self.text, format_args!("\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.text, name }
    }

    /// The page.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One value.
    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: impl fmt::Display) {
        self.line("", labels, None, value);
    }

    /// The buckets of a histogram, which take in all below them, with sum and count.
    pub(super) fn buckets(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            self.line("_bucket", labels, Some(&bound.as_secs_f64().to_string()), count);
        }
        let count = histogram.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], bucket: Option<&str>, value: impl fmt::Display) {
        write(self.text, format_args!("{}{suffix}", self.name));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bucket.map(|bound| ("le", bound))) {
            write(self.text, format_args!("{before}{name}=\""));
            escape(self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").expect("a String takes every write");
    }
}

/// In help a backslash and a line break are escaped, in the value of a label a quote too.
fn escape(text: &mut String, value: &str, is_quoted: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if is_quoted => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

fn write(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_family_is_written_as_the_format_asks() {
        let mut page = Exposition::default();
        let mut family = page.counter("a_total", "How \"often\" \\ one\nline.");
        family.sample(&[], 3);
        family.sample(&[("x", "1"), ("y", "")], 0.5);
        page.gauge("b", "Odd values.").sample(&[("name", "a\"b\\c\nd\u{e9}")], 1_u64 << 60);
        assert_eq!(
            page.into_text(),
            "# HELP a_total How \"often\" \\\\ one\\nline.\n# TYPE a_total counter\na_total 3\n\
             a_total{x=\"1\",y=\"\"} 0.5\n# HELP b Odd values.\n# TYPE b gauge\n\
             b{name=\"a\\\"b\\\\c\\nd\u{e9}\"} 1152921504606846976\n"
        );
    }

    #[test]
    fn buckets_take_in_all_below_them() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(250), Duration::from_secs(60)];
        let mut histogram = Histogram::new(BOUNDS);
        for millis in [100, 250, 1_000, 90_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut page = Exposition::default();
        page.histogram("a_seconds", "Times.").buckets(&[("model", "m")], &histogram);
        assert_eq!(
            page.into_text(),
            "# HELP a_seconds Times.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{model=\"m\",le=\"0.25\"} 2\na_seconds_bucket{model=\"m\",le=\"60\"} 3\n\
             a_seconds_bucket{model=\"m\",le=\"+Inf\"} 4\na_seconds_sum{model=\"m\"} 91.35\n\
             a_seconds_count{model=\"m\"} 4\n"
        );
    }
}
