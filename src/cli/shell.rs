//! The shells that snippets are written for, and how each of them quotes.

/// A family of shells that read the same lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// POSIX: sh, dash, bash, zsh, ksh.
    Sh,
    /// fish.
    Fish,
    /// Windows PowerShell 5.1 and PowerShell 7.
    PowerShell,
    /// The command prompt of Windows.
    Cmd,
}

/// A part of a variable's value. After a variable nothing may follow that could be of its name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    /// To the letter.
    Text(&'a str),
    /// What another variable holds by then.
    Variable(&'a str),
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sh, Self::Fish, Self::PowerShell, Self::Cmd];

    /// The name after `--shell`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Fish => "fish",
            Self::PowerShell => "powershell",
            Self::Cmd => "cmd",
        }
    }

    /// The shell of this name. Those that read the lines of `sh` go by their own names too.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bash" | "dash" | "ksh" | "zsh" => Some(Self::Sh),
            "pwsh" => Some(Self::PowerShell),
            _ => Self::ALL.into_iter().find(|shell| shell.name() == name),
        }
    }

    /// The shell that the program was probably started from, by its environment. `SHELL` names it on
    /// Unix, and on Windows in shells that came from there. On Windows the command prompt sets `PROMPT`,
    /// and PowerShell puts a folder of the user into `PSModulePath`.
    pub fn guess(is_windows: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        if let Some(shell) = variable("SHELL") {
            let name = shell.rsplit(['/', '\\']).next().unwrap_or_default();
            return if name.trim_end_matches(".exe") == "fish" { Self::Fish } else { Self::Sh };
        }
        if !is_windows {
            return Self::Sh;
        }
        let lower = |name| variable(name).map(|value| value.to_ascii_lowercase());
        let is_within_powershell = lower("PSModulePath")
            .zip(lower("USERPROFILE"))
            .is_some_and(|(modules, user)| modules.contains(&user));
        if variable("PROMPT").is_some() && !is_within_powershell { Self::Cmd } else { Self::PowerShell }
    }

    /// A line that says something and does nothing. The shell zsh takes no comments at its prompt, so there it is
    /// a command that does nothing.
    pub(super) fn comment(self, text: &str) -> String {
        match self {
            Self::Sh => format!(": {}\n", self.quote(&[Piece::Text(text)])),
            Self::Fish | Self::PowerShell => format!("# {text}\n"),
            Self::Cmd => format!("rem {text}\n"),
        }
    }

    /// A line that sets an environment variable for what is started from this shell.
    pub(super) fn set(self, name: &str, value: &[Piece<'_>]) -> String {
        let value = self.quote(value);
        match self {
            Self::Sh => format!("export {name}={value}\n"),
            Self::Fish => format!("set -gx {name} {value}\n"),
            Self::PowerShell => format!("$env:{name} = {value}\n"),
            Self::Cmd => format!("set \"{name}={value}\"\n"),
        }
    }

    /// One word. In `cmd` it goes without quotes of its own, for the inside of `set "…"`.
    pub(super) fn quote(self, value: &[Piece<'_>]) -> String {
        let is_literal = value.iter().all(|piece| matches!(piece, Piece::Text(_)));
        let inner: String = value.iter().map(|piece| self.piece(*piece, is_literal)).collect();
        match self {
            Self::Cmd => inner,
            _ if is_literal => format!("'{inner}'"),
            _ => format!("\"{inner}\""),
        }
    }

    /// Within single quotes where nothing is to be replaced, within double ones else.
    fn piece(self, piece: Piece<'_>, is_literal: bool) -> String {
        match (self, piece) {
            (Self::Sh | Self::Fish, Piece::Variable(name)) => format!("${name}"),
            (Self::PowerShell, Piece::Variable(name)) => format!("$env:{name}"),
            (Self::Cmd, Piece::Variable(name)) => format!("%{name}%"),
            (Self::Sh, Piece::Text(text)) if is_literal => text.replace('\'', r"'\''"),
            (Self::Fish, Piece::Text(text)) if is_literal => escaped(text, "\\'", '\\'),
            (Self::PowerShell, Piece::Text(text)) if is_literal => text.replace('\'', "''"),
            (Self::Sh, Piece::Text(text)) => escaped(text, "\\\"$`", '\\'),
            (Self::Fish, Piece::Text(text)) => escaped(text, "\\\"$", '\\'),
            (Self::PowerShell, Piece::Text(text)) => escaped(text, "\"$`", '`'),
            // At the prompt nothing takes the meaning off a percent sign; the texts have none.
            (Self::Cmd, Piece::Text(text)) => text.to_owned(),
        }
    }
}

/// `text` with `mark` before each of these characters.
fn escaped(text: &str, special: &str, mark: char) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if special.contains(character) {
            escaped.push(mark);
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_what_they_should() {
        let literal = [Piece::Text(r#"it's "$x" `y` \z"#)];
        let mixed = [Piece::Text(r#"a"$`\: "#), Piece::Variable("KEY")];
        for (shell, quoted, with_variable) in [
            (Shell::Sh, r#"'it'\''s "$x" `y` \z'"#, r#""a\"\$\`\\: $KEY""#),
            (Shell::Fish, r#"'it\'s "$x" `y` \\z'"#, r#""a\"\$`\\: $KEY""#),
            (Shell::PowerShell, r#"'it''s "$x" `y` \z'"#, r#""a`"`$``\: $env:KEY""#),
        ] {
            assert_eq!(shell.quote(&literal), quoted);
            assert_eq!(shell.quote(&mixed), with_variable);
        }
        assert_eq!(Shell::Cmd.set("A", &[Piece::Text("{\"a\":1}")]), "set \"A={\"a\":1}\"\n");
        assert_eq!(Shell::Cmd.set("A", &[Piece::Text("b: "), Piece::Variable("B")]), "set \"A=b: %B%\"\n");
        assert_eq!(Shell::PowerShell.set("A", &[Piece::Variable("B")]), "$env:A = \"$env:B\"\n");
        assert_eq!(Shell::Fish.set("A", &[Piece::Text("b")]), "set -gx A 'b'\n");
    }

    fn guess(is_windows: bool, variables: &[(&str, &str)]) -> Shell {
        Shell::guess(is_windows, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_shell_is_found_by_its_traces() {
        assert_eq!(guess(false, &[("SHELL", "/usr/bin/fish")]), Shell::Fish);
        for shell in ["/bin/bash", "/bin/zsh", "/bin/sh", ""] {
            assert_eq!(guess(false, &[("SHELL", shell)]), Shell::Sh);
        }
        assert_eq!(guess(false, &[]), Shell::Sh);
        assert_eq!(guess(true, &[("SHELL", r"C:\Git\usr\bin\bash.exe")]), Shell::Sh);
        let machine = ("PSModulePath", r"C:\Program Files\WindowsPowerShell\Modules");
        let own = ("PSModulePath", r"C:\USERS\me\Documents\PowerShell\Modules;C:\Program Files");
        let user = ("USERPROFILE", r"C:\Users\me");
        assert_eq!(guess(true, &[own, user]), Shell::PowerShell);
        assert_eq!(guess(true, &[own, user, ("PROMPT", "$P$G")]), Shell::PowerShell, "started from cmd");
        assert_eq!(guess(true, &[machine, user, ("PROMPT", "$P$G")]), Shell::Cmd);
        assert_eq!(guess(true, &[machine, user]), Shell::PowerShell);
    }

    #[test]
    fn shells_go_by_their_own_names() {
        assert!(Shell::ALL.into_iter().all(|shell| Shell::named(shell.name()) == Some(shell)));
        assert_eq!((Shell::named("zsh"), Shell::named("pwsh")), (Some(Shell::Sh), Some(Shell::PowerShell)));
        assert_eq!(Shell::named("nu"), None);
    }
}
