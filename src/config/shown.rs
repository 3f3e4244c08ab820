//! The settings as they may be shown, and where each value came from.

use std::fmt::{self, Write as _};

use super::settings::{PREFIX, Setting};

/// Where a setting's value came from. A flag beats the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// An environment variable.
    Environment,
    /// A flag on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// One setting with its value in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// Which one.
    pub setting: &'static Setting,
    /// The value as it may be shown: one line, `***` for a secret, empty for none.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// Every setting as ` NAME=value`, without the prefix; those that were set are marked.
pub(super) fn describe(shown: &[ShownSetting]) -> String {
    shown.iter().fold(String::new(), |mut line, ShownSetting { setting, value, origin }| {
        let name = setting.name.trim_start_matches(PREFIX);
        let value = if value.is_empty() { "-" } else { value };
        let mark = match origin {
            Origin::Default => "",
            Origin::Environment => " (set)",
            Origin::Flag => " (flag)",
        };
        write!(line, " {name}={value}{mark}").expect("a String takes every write");
        line
    })
}
