//! The settings as they were written, and what is wrong with one.
//!
//! Owns the promise that a secret is not shown: neither in the line that describes the settings, nor
//! in an error about one, nor in what `{:?}` prints.

use std::{borrow::Cow, collections::BTreeMap, ffi::OsString, fmt, str::FromStr};

use super::{
    environment::Environment,
    redacted::without_credentials,
    settings::{PREFIX, SETTINGS, Setting, UPSTREAM_PROXY, nearest_name},
    shown::{Origin, ShownSetting, describe},
};

/// Stands in for the value of a secret.
const HIDDEN: &str = "***";

/// As much of a value as an error quotes: more would be a file that was taken for its name.
const QUOTED_CHARS_MAX: usize = 200;

/// The settings as they were written, by name. Only names that are known and set are in it.
#[derive(Clone, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, Written>,
    /// Names that begin as ours do and mean nothing.
    unknown: Vec<String>,
    /// What is set for others, too.
    pub(super) environment: Environment,
}

#[derive(Clone)]
struct Written {
    text: String,
    origin: Origin,
}

impl Raw {
    /// Picks our settings out of an environment, and what of others' is heeded. Our names are compared without
    /// case, as Windows does. An empty value counts as not set, but for [`Setting::may_be_empty`].
    ///
    /// # Errors
    /// When one of our values is not Unicode text.
    pub fn from_variables(
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Self::default();
        for (name, value) in variables {
            let written_name = name.to_string_lossy();
            let name = written_name.to_ascii_uppercase();
            if !name.starts_with(PREFIX) {
                raw.environment.take(&written_name, &value);
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                raw.unknown.push(name);
                continue;
            };
            let value = value.into_string().map_err(|value| {
                ConfigError::new(setting, Origin::Environment, &value.to_string_lossy(), "text in UTF-8")
            })?;
            raw.write(setting, &value, Origin::Environment);
        }
        Ok(raw)
    }

    /// Adds what was given as flags, in this order. A flag beats the environment, and of two alike the
    /// later one counts. One with an empty value gives the default back, but for [`Setting::may_be_empty`].
    #[must_use]
    pub fn with_flags<'a>(mut self, flags: impl IntoIterator<Item = (&'static Setting, &'a str)>) -> Self {
        for (setting, value) in flags {
            self.values.remove(setting.name);
            self.write(setting, value, Origin::Flag);
        }
        self
    }

    fn write(&mut self, setting: &'static Setting, value: &str, origin: Origin) {
        let text = value.trim().to_owned();
        if !text.is_empty() || setting.may_be_empty() {
            self.values.insert(setting.name, Written { text, origin });
        }
    }

    /// One warning for each name that begins as ours do but is not one of them, and one for a secret where
    /// others can see it.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let visible = SETTINGS
            .iter()
            .filter(|setting| self.origin(setting.name) == Origin::Flag && self.hides_some_of(setting))
            .map(|setting| {
                format!(
                    "other users of this machine can see the secret after {} in the list of processes; \
                     set {} in its place",
                    setting.flag(),
                    setting.name
                )
            });
        let unknown = self.unknown.iter().map(|name| {
            let name = name.replace(char::is_control, "?");
            format!("{name} is not a setting of this proxy; did you mean {}?", nearest_name(&name))
        });
        unknown.chain(visible)
    }

    /// Whether its value is shown otherwise than it was written.
    fn hides_some_of(&self, setting: &Setting) -> bool {
        shown(setting, self.text(setting.name)) != self.text(setting.name)
    }

    /// Whether a value was written.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as written, if one was.
    pub(super) fn written(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|written| written.text.as_str())
    }

    /// The name under which it was written: the flag's, or the variable's.
    pub(super) fn name_written(&self, name: &'static str) -> String {
        name_by(name, self.origin(name)).into_owned()
    }

    /// The value as written, or the default of the table.
    pub(super) fn text(&self, name: &'static str) -> &str {
        self.values.get(name).map_or_else(|| setting_of(name).default, |written| &written.text)
    }

    /// Where that value came from.
    fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |written| written.origin)
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
        ConfigError::new(setting_of(name), self.origin(name), self.text(name), accepted)
    }

    /// Every setting with its value in effect, in the table's order. No secret is in it.
    pub(super) fn shown(&self) -> Vec<ShownSetting> {
        let show = |setting: &'static Setting| {
            let value = match self.text(setting.name) {
                "" => String::new(),
                // A path may have any.
                value => shown(setting, value).replace(char::is_control, "?"),
            };
            ShownSetting { setting, value, origin: self.origin(setting.name) }
        };
        SETTINGS.iter().map(show).collect()
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Raw {{{} }}", describe(&self.shown()))
    }
}

fn setting_of(name: &str) -> &'static Setting {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    setting.expect("every name read is in the table of settings")
}

/// What somebody has written who sets it there: the flag, or the variable.
fn name_by(name: &'static str, origin: Origin) -> Cow<'static, str> {
    match origin {
        Origin::Flag => setting_of(name).flag().into(),
        Origin::Default | Origin::Environment => name.into(),
    }
}

/// A value as it may be shown.
fn shown<'a>(setting: &Setting, value: &'a str) -> Cow<'a, str> {
    match setting.name {
        _ if setting.is_secret() => HIDDEN.into(),
        UPSTREAM_PROXY => without_credentials(value).into(),
        _ => value.into(),
    }
}

/// A setting whose value cannot be meant. The start ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// Where the value came from: an error names a flag where it was one.
    pub origin: Origin,
    /// What was written, as it may be shown.
    pub value: String,
    /// What could have been written.
    pub accepted: String,
}

impl ConfigError {
    fn new(setting: &Setting, origin: Origin, value: &str, accepted: &str) -> Self {
        let value = shown(setting, value).into_owned();
        Self { name: setting.name, origin, value, accepted: accepted.to_owned() }
    }

    /// One about a variable of others, which may hold a URL with credentials.
    pub(super) fn of_others(name: &'static str, value: &str, accepted: &str) -> Self {
        let value = without_credentials(value);
        Self { name, origin: Origin::Environment, value, accepted: accepted.to_owned() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_by(self.name, self.origin))?;
        let quoted: String = self.value.chars().take(QUOTED_CHARS_MAX).collect();
        let rest = if quoted.len() < self.value.len() { "…" } else { "" };
        // What could begin a line of its own is escaped; a backslash stays one, as in the paths of Windows.
        let quoted = format!("{quoted:?}").replace(r"\\", r"\");
        write!(formatter, "={quoted}{rest} is not accepted; wanted: {}", self.accepted)
    }
}

impl std::error::Error for ConfigError {}
