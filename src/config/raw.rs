//! The settings as they were written, and what is wrong with one.
//!
//! Owns the promise that a secret is not shown: neither in the line that describes the settings, nor
//! in an error about one, nor in what `{:?}` prints.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Write as _},
    str::FromStr,
};

use super::settings::{PREFIX, SETTINGS, Setting, nearest_name};

/// Stands in for the value of a secret.
const HIDDEN: &str = "***";

/// The settings as they were written, by name. Only names that are known and set are in it.
#[derive(Clone, Default)]
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
            let value = value
                .into_string()
                .map_err(|value| ConfigError::new(setting, &value.to_string_lossy(), "text in UTF-8"))?;
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

    /// Whether a value was written.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as written, or the default of the table.
    pub(super) fn text(&self, name: &'static str) -> &str {
        self.values.get(name).map_or_else(|| setting_of(name).default, String::as_str)
    }

    /// The value parsed and checked, or the error that names it.
    pub(super) fn parse<T: FromStr>(
        &self,
        name: &'static str,
        accepted: &str,
        is_meant: impl Fn(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let parsed = self.text(name).parse().ok().filter(is_meant);
        parsed.ok_or_else(|| self.error(name, accepted))
    }

    /// The error about a value.
    pub(super) fn error(&self, name: &'static str, accepted: &str) -> ConfigError {
        ConfigError::new(setting_of(name), self.text(name), accepted)
    }

    /// Every setting as `NAME=value`, those that were set marked. No secret is in it.
    pub(super) fn describe(&self) -> String {
        SETTINGS.iter().fold(String::new(), |mut line, setting| {
            let origin = if self.is_set(setting.name) { " (set)" } else { "" };
            let value = match self.text(setting.name) {
                "" => "-".into(),
                value => shown(setting, value),
            };
            // A path may have any.
            let value = value.replace(char::is_control, "?");
            let name = setting.name.trim_start_matches(PREFIX);
            write!(line, " {name}={value}{origin}").expect("a String takes every write");
            line
        })
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Raw {{{} }}", self.describe())
    }
}

fn setting_of(name: &str) -> &'static Setting {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    setting.expect("every name read is in the table of settings")
}

/// A value as it may be shown.
fn shown<'a>(setting: &Setting, value: &'a str) -> Cow<'a, str> {
    if setting.is_secret() { HIDDEN.into() } else { value.into() }
}

/// A setting whose value cannot be meant. The start ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What was written, as it may be shown.
    pub value: String,
    /// What could have been written.
    pub accepted: String,
}

impl ConfigError {
    fn new(setting: &Setting, value: &str, accepted: &str) -> Self {
        let value = shown(setting, value).into_owned();
        Self { name: setting.name, value, accepted: accepted.to_owned() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={:?} is not accepted; wanted: {}", self.name, self.value, self.accepted)
    }
}

impl std::error::Error for ConfigError {}
