//! The lines that point a client at the proxy, for the user's shell.
//!
//! All of the output is to be pasted: what is said to people stands in comments. No secret is in it; it
//! refers to the variables that hold them, `FIREWORKS_API_KEY` and, where the proxy asks for its own
//! secret, `FIREWORKS_PROXY_CLIENT_TOKEN`. What each client needs is in the README and in CLIENTS.md.

use serde_json::json;

use super::shell::{Piece, Shell};
use crate::config::Config;

/// The model that the README's examples use.
const MODEL: &str = "accounts/fireworks/models/kimi-k2p6";

/// The context of that model, in tokens.
const CONTEXT_TOKENS: u32 = 262_144;

const KEY: &str = "FIREWORKS_API_KEY";
const TOKEN: &str = "FIREWORKS_PROXY_CLIENT_TOKEN";
const TOKEN_FIELD: &str = "x-fireworks-proxy-token";

/// The file of Kimi CLI that is ours alone: the user's own `config.toml` stays as it is.
const KIMI_FILE: &str = "fireworks-proxy.toml";

/// A client, or the SDKs of a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Kimi CLI.
    Kimi,
    /// Claude Code.
    Claude,
    /// `OpenCode`.
    OpenCode,
    /// What is built on the SDKs of `OpenAI`.
    OpenAi,
    /// What is built on the SDKs of Anthropic.
    Anthropic,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kimi, Self::Claude, Self::OpenCode, Self::OpenAi, Self::Anthropic];

    /// The name after `env`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kimi => "kimi",
            Self::Claude => "claude",
            Self::OpenCode => "opencode",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|client| client.name() == name)
    }
}

/// The lines for a client.
///
/// # Errors
/// Why there are none, in one line: nobody knows yet which port the system will choose.
pub fn snippet(client: Client, shell: Shell, config: &Config) -> Result<String, String> {
    if config.port == 0 {
        return Err(
            "with port 0 the system chooses one at the start; name the one it chose: --port".to_owned()
        );
    }
    let writer = Writer {
        shell,
        base_url: config.host.base_url(config.port),
        needs_token: config.access.client_token.is_some(),
    };
    let body = match client {
        Client::Kimi => writer.kimi(),
        Client::Claude => writer.claude(),
        Client::OpenCode => writer.opencode(),
        Client::OpenAi => writer.openai(),
        Client::Anthropic => writer.anthropic(),
    };
    Ok(writer.preface() + &body)
}

struct Writer {
    shell: Shell,
    base_url: String,
    needs_token: bool,
}

impl Writer {
    fn preface(&self) -> String {
        let mut preface = self.shell.comment(&format!("{KEY} has to hold your key for Fireworks."));
        if self.needs_token {
            preface += &self.shell.comment(&format!("{TOKEN} has to hold the secret of the proxy."));
        }
        preface
    }

    fn text(&self, name: &str, value: &str) -> String {
        self.shell.set(name, &[Piece::Text(value)])
    }

    fn copy(&self, name: &str, other: &str) -> String {
        self.shell.set(name, &[Piece::Variable(other)])
    }

    fn then(&self, what: &str) -> String {
        self.shell.comment(&format!("Then: {what}"))
    }

    fn claude(&self) -> String {
        let mut lines = self.text("ANTHROPIC_BASE_URL", &self.base_url);
        lines += &self.copy("ANTHROPIC_AUTH_TOKEN", KEY);
        lines += &self.text("ANTHROPIC_MODEL", MODEL);
        for role in ["HAIKU", "SONNET", "OPUS"] {
            lines += &self.text(&format!("ANTHROPIC_DEFAULT_{role}_MODEL"), MODEL);
        }
        if self.needs_token {
            let field = format!("{TOKEN_FIELD}: ");
            lines +=
                &self.shell.set("ANTHROPIC_CUSTOM_HEADERS", &[Piece::Text(&field), Piece::Variable(TOKEN)]);
        }
        lines + &self.then("claude")
    }

    /// Its provider is a piece of configuration, which `OpenCode` takes from a variable and merges with the
    /// user's files. It replaces `{env:…}` itself.
    fn opencode(&self) -> String {
        let mut options = json!({
            "baseURL": format!("{}/v1", self.base_url),
            "apiKey": format!("{{env:{KEY}}}"),
        });
        if self.needs_token {
            options["headers"] = json!({ TOKEN_FIELD: format!("{{env:{TOKEN}}}") });
        }
        let content = json!({
            "model": format!("fireworks-proxy/{MODEL}"),
            "provider": {
                "fireworks-proxy": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "Fireworks through the proxy",
                    "options": options,
                    "models": { MODEL: { "name": "Kimi K2.6" } },
                },
            },
        });
        self.text("OPENCODE_CONFIG_CONTENT", &content.to_string()) + &self.then("opencode")
    }

    fn openai(&self) -> String {
        let base_url = format!("{}/v1", self.base_url);
        let mut lines = self.text("OPENAI_BASE_URL", &base_url);
        lines += &self.shell.comment("The older name, which aider reads:");
        lines += &self.text("OPENAI_API_BASE", &base_url);
        lines += &self.copy("OPENAI_API_KEY", KEY);
        lines + &self.headers_in_code("default_headers in Python, defaultHeaders in TypeScript")
    }

    fn anthropic(&self) -> String {
        let mut lines = self.text("ANTHROPIC_BASE_URL", &self.base_url);
        lines += &self.copy("ANTHROPIC_API_KEY", KEY);
        lines + &self.headers_in_code("default_headers in Python, defaultHeaders in TypeScript")
    }

    /// SDKs have no variable for the fields that they send.
    fn headers_in_code(&self, option: &str) -> String {
        if !self.needs_token {
            return String::new();
        }
        self.shell.comment(&format!("In the code, with {option}: {TOKEN_FIELD} set to {TOKEN}."))
    }

    /// Its provider has to stand in a file, so it gets one of its own, which the user alone can read. On
    /// Windows the folder of the user sees to that; elsewhere the mode is set before a key is in it.
    fn kimi(&self) -> String {
        let toml = self.kimi_toml();
        let about = "Your own config.toml of Kimi CLI stays as it is. This is a file beside it.";
        let write = match self.shell {
            Shell::Sh => format!(
                "mkdir -p \"$HOME/.kimi\"\n(umask 077; cat > \"$HOME/.kimi/{KIMI_FILE}\") <<EOF\n{toml}EOF\n"
            ),
            Shell::Fish => fish_file(&toml),
            Shell::PowerShell => format!(
                "$kimi = Join-Path $HOME '.kimi'\n[void](New-Item -ItemType Directory -Force $kimi)\n\
                 $kimi = Join-Path $kimi '{KIMI_FILE}'\n[IO.File]::WriteAllText($kimi, '')\n\
                 if ($PSVersionTable['Platform'] -eq 'Unix') {{ chmod 600 $kimi }}\n\
                 [IO.File]::WriteAllText($kimi, @\"\n{toml}\"@)\n"
            ),
            Shell::Cmd => cmd_file(&toml),
        };
        let start = match self.shell {
            Shell::Sh | Shell::Fish => format!("kimi --config-file \"$HOME/.kimi/{KIMI_FILE}\""),
            Shell::PowerShell => format!("kimi --config-file (Join-Path $HOME '.kimi/{KIMI_FILE}')"),
            Shell::Cmd => format!("kimi --config-file \"%USERPROFILE%\\.kimi\\{KIMI_FILE}\""),
        };
        self.shell.comment(about) + &write + &self.then(&start)
    }

    /// The file, with variables as the shell writes them where it replaces them. A secret may have any
    /// character that can be seen, so it stands in three quotes.
    fn kimi_toml(&self) -> String {
        let variable = |name: &str| match self.shell {
            Shell::Sh | Shell::Fish => format!("${name}"),
            Shell::PowerShell => format!("$env:{name}"),
            Shell::Cmd => format!("%{name}%"),
        };
        let headers = if self.needs_token {
            format!("custom_headers = {{ \"{TOKEN_FIELD}\" = '''{}''' }}\n", variable(TOKEN))
        } else {
            String::new()
        };
        format!(
            "default_model = \"kimi\"\n\n[providers.fireworks]\ntype = \"anthropic\"\nbase_url = \"{}\"\n\
             api_key = '{}'\n{headers}\n[models.kimi]\nprovider = \"fireworks\"\nmodel = \"{MODEL}\"\n\
             max_context_size = {CONTEXT_TOKENS}\n",
            self.base_url,
            variable(KEY)
        )
    }
}

/// fish has no here-documents, and a mask would stay set.
fn fish_file(toml: &str) -> String {
    let path = format!("\"$HOME/.kimi/{KIMI_FILE}\"");
    let lines = toml.lines().map(|line| format!(" \\\n    \"{}\"", line.replace('"', "\\\"")));
    format!(
        "mkdir -p \"$HOME/.kimi\"\ntouch {path}\nchmod 600 {path}\nprintf '%s\\n'{} > {path}\n",
        lines.collect::<String>()
    )
}

/// The block is one command, so that the file is opened once.
fn cmd_file(toml: &str) -> String {
    let folder = "\"%USERPROFILE%\\.kimi\"";
    let echo = |line: &str| if line.is_empty() { "echo.\n".to_owned() } else { format!("echo {line}\n") };
    let lines: String = toml.lines().map(echo).collect();
    format!("if not exist {folder} mkdir {folder}\n(\n{lines}) > \"%USERPROFILE%\\.kimi\\{KIMI_FILE}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Raw;

    const SECRET: &str = "sixteen-letters!";

    fn config(settings: &[(&str, &str)]) -> Config {
        let variables = settings.iter().map(|(name, value)| (name.into(), value.into()));
        Config::from_raw(&Raw::from_variables(variables).expect("Unicode")).expect("accepted")
    }

    fn every_snippet(config: &Config) -> Vec<(Client, Shell, String)> {
        let pairs = Client::ALL.into_iter().flat_map(|client| Shell::ALL.map(|shell| (client, shell)));
        let written = |(client, shell)| (client, shell, snippet(client, shell, config).expect("a port"));
        pairs.map(written).collect()
    }

    #[test]
    fn each_names_the_proxy_as_it_is_reached_and_no_secret() {
        let settings = [("FIREWORKS_PROXY_PORT", "9000"), (TOKEN, SECRET)];
        for (client, shell, text) in every_snippet(&config(&settings)) {
            assert!(text.contains("http://localhost:9000"), "{client:?} {shell:?}: {text}");
            assert!(text.contains(KEY) && text.contains(TOKEN) && !text.contains(SECRET), "{text}");
            assert!(text.contains(TOKEN_FIELD), "{client:?} {shell:?}: {text}");
        }
        let settings = [("FIREWORKS_PROXY_HOST", "::"), (TOKEN, SECRET)];
        for (_, _, text) in every_snippet(&config(&settings)) {
            assert!(text.contains("http://[::1]:8787"), "{text}");
        }
        for (_, _, text) in every_snippet(&Config::defaults()) {
            assert!(text.contains("http://localhost:8787") && !text.contains(TOKEN), "{text}");
        }
        let unknown = snippet(Client::Claude, Shell::Sh, &config(&[("FIREWORKS_PROXY_PORT", "0")]));
        assert!(unknown.expect_err("nobody knows the port").contains("--port"));
    }

    #[test]
    fn powershell_sets_variables_and_writes_a_file_without_a_byte_order_mark() {
        let claude = snippet(Client::Claude, Shell::PowerShell, &config(&[(TOKEN, SECRET)])).expect("a port");
        for line in [
            "$env:ANTHROPIC_BASE_URL = 'http://localhost:8787'",
            "$env:ANTHROPIC_AUTH_TOKEN = \"$env:FIREWORKS_API_KEY\"",
            "$env:ANTHROPIC_CUSTOM_HEADERS = \"x-fireworks-proxy-token: $env:FIREWORKS_PROXY_CLIENT_TOKEN\"",
            "# Then: claude",
        ] {
            assert!(claude.lines().any(|other| other == line), "{line} in {claude}");
        }
        let kimi = snippet(Client::Kimi, Shell::PowerShell, &config(&[(TOKEN, SECRET)])).expect("a port");
        let (before, rest) = kimi.split_once("@\"\n").expect("a here-string begins at the end of a line");
        let (toml, after) = rest.split_once("\n\"@)\n").expect("and ends at the beginning of one");
        assert!(before.ends_with("[IO.File]::WriteAllText($kimi, "), "{before}");
        let (first, _) = before.split_once("chmod 600 $kimi }\n").expect("a mode, where there are modes");
        assert!(
            first.contains(
                "$kimi = Join-Path $kimi 'fireworks-proxy.toml'\n[IO.File]::WriteAllText($kimi, '')"
            )
        );
        assert!(after.starts_with("# Then: kimi --config-file "), "{after}");
        let replaced = ["$env:FIREWORKS_API_KEY", "$env:FIREWORKS_PROXY_CLIENT_TOKEN"];
        assert_eq!(toml.matches('$').count(), replaced.len(), "nothing else is replaced: {toml}");
        assert!(replaced.iter().all(|variable| toml.contains(variable)) && !toml.contains('`'), "{toml}");
        let opencode = snippet(Client::OpenCode, Shell::PowerShell, &Config::defaults()).expect("a port");
        let line = opencode.lines().find(|line| line.starts_with("$env:")).expect("a variable");
        let json =
            line.strip_prefix("$env:OPENCODE_CONFIG_CONTENT = '").and_then(|rest| rest.strip_suffix('\''));
        let parsed: serde_json::Value = serde_json::from_str(json.expect("quoted")).expect("JSON");
        assert_eq!(parsed["provider"]["fireworks-proxy"]["options"]["baseURL"], "http://localhost:8787/v1");
    }

    #[test]
    fn the_command_prompt_meets_nothing_that_it_would_take_for_its_own() {
        for (client, shell, text) in every_snippet(&config(&[(TOKEN, SECRET)])) {
            if shell != Shell::Cmd {
                continue;
            }
            for line in text.lines().filter(|line| !line.starts_with("rem ")) {
                let is_block = line == "(" || line.starts_with(") > ");
                let special = line.contains(['&', '|', '<', '^', '!']);
                assert!(!special && (is_block || !line.contains(['(', ')', '>'])), "{client:?}: {line}");
                let known = line.replace("%USERPROFILE%", "").replace(&format!("%{KEY}%"), "");
                assert!(!known.replace(&format!("%{TOKEN}%"), "").contains('%'), "{client:?}: {line}");
            }
        }
    }

    #[test]
    fn fish_gets_one_word_for_each_line_of_the_file() {
        let kimi = snippet(Client::Kimi, Shell::Fish, &Config::defaults()).expect("a port");
        assert!(kimi.contains("    \"base_url = \\\"http://localhost:8787\\\"\" \\\n"), "{kimi}");
        assert!(kimi.contains("    \"api_key = '$FIREWORKS_API_KEY'\" \\\n"), "{kimi}");
        assert!(kimi.contains("    \"max_context_size = 262144\" > \"$HOME/.kimi/fireworks-proxy.toml\"\n"));
    }
}
