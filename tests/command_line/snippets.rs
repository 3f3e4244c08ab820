//! `env CLIENT`: the lines are taken by a real shell, and what they set and write is looked at.

use super::run;

/// The settings of a proxy with a secret on a port of its own.
const SETTINGS: [(&str, &str); 2] = [("PORT", "9000"), ("CLIENT_TOKEN", "sixteen-letters!")];

#[test]
fn only_what_is_to_be_pasted_is_printed_and_no_secret() {
    for client in ["kimi", "claude", "opencode", "openai", "anthropic"] {
        for shell in ["sh", "fish", "powershell", "cmd"] {
            let ended = run(&["env", client, "--shell", shell], &SETTINGS);
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
            assert!(ended.stdout.contains("http://localhost:9000") && !ended.stdout.contains("sixteen"));
        }
    }
    let ended = run(&["env", "claude", "--port", "0"], &[]);
    assert!(ended.refusal().contains("--port"), "nobody knows the port: {ended:?}");
}

#[test]
fn the_shell_is_found_by_itself() {
    for (shell, line) in
        [("/usr/bin/fish", "set -gx ANTHROPIC_BASE_URL "), ("/bin/zsh", "export ANTHROPIC_BASE_URL=")]
    {
        let ended = crate::support::binary::run_command_to_end(
            |command| {
                command.args(["env", "anthropic"]).env("SHELL", shell);
            },
            &[],
        );
        assert!(ended.stdout.lines().any(|it| it.starts_with(line)), "{shell}: {ended:?}");
    }
}

#[cfg(unix)]
mod taken_by_sh {
    use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

    use super::{SETTINGS, run};

    const KEY: &str = "fw_a key with $HOME in it";
    /// Whatever a shell or a file could stumble over.
    const SECRET: &str = r#"it's-a-"$HOME`x`\\n%&|!"#;
    const MODEL: &str = "accounts/fireworks/models/kimi-k2p6";

    /// What is in the environment after `sh` has taken the lines for this client. They are taken twice, as
    /// somebody would who is not sure.
    fn environment(client: &str, home: &Path, settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        let ended = run(&["env", client, "--shell=sh"], settings);
        let script = format!("set -eu\n{0}{0}exec env", ended.stdout);
        let output = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("FIREWORKS_API_KEY", KEY)
            .env("FIREWORKS_PROXY_CLIENT_TOKEN", SECRET)
            .output()
            .expect("sh runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{script}\n{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let entries = text.lines().filter_map(|entry| entry.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn claude_code_gets_its_variables() {
        let home = tempfile::tempdir().expect("a folder");
        let set = environment("claude", home.path(), &SETTINGS);
        for (name, value) in [
            ("ANTHROPIC_BASE_URL", "http://localhost:9000"),
            ("ANTHROPIC_AUTH_TOKEN", KEY),
            ("ANTHROPIC_MODEL", MODEL),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", MODEL),
            ("ANTHROPIC_DEFAULT_SONNET_MODEL", MODEL),
            ("ANTHROPIC_DEFAULT_OPUS_MODEL", MODEL),
            ("ANTHROPIC_CUSTOM_HEADERS", &format!("x-fireworks-proxy-token: {SECRET}")),
        ] {
            assert_eq!(set.get(name).map(String::as_str), Some(value), "{name}");
        }
        let open = environment("claude", home.path(), &[]);
        assert_eq!(open["ANTHROPIC_BASE_URL"], "http://localhost:8787");
        assert!(!open.contains_key("ANTHROPIC_CUSTOM_HEADERS"));
    }

    #[test]
    fn sdks_get_theirs() {
        let home = tempfile::tempdir().expect("a folder");
        let openai = environment("openai", home.path(), &SETTINGS);
        assert_eq!(openai["OPENAI_BASE_URL"], "http://localhost:9000/v1");
        assert_eq!(
            (&*openai["OPENAI_API_BASE"], &*openai["OPENAI_API_KEY"]),
            ("http://localhost:9000/v1", KEY)
        );
        let anthropic = environment("anthropic", home.path(), &SETTINGS);
        assert_eq!(anthropic["ANTHROPIC_BASE_URL"], "http://localhost:9000");
        assert_eq!(anthropic["ANTHROPIC_API_KEY"], KEY);
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), 0);
    }

    #[test]
    fn opencode_gets_a_provider_as_json() {
        let home = tempfile::tempdir().expect("a folder");
        let set = environment("opencode", home.path(), &SETTINGS);
        let content: serde_json::Value = serde_json::from_str(&set["OPENCODE_CONFIG_CONTENT"]).expect("JSON");
        let provider = &content["provider"]["fireworks-proxy"];
        assert_eq!(provider["npm"], "@ai-sdk/openai-compatible");
        assert_eq!(
            provider["options"],
            serde_json::json!({
                "baseURL": "http://localhost:9000/v1",
                "apiKey": "{env:FIREWORKS_API_KEY}",
                "headers": { "x-fireworks-proxy-token": "{env:FIREWORKS_PROXY_CLIENT_TOKEN}" },
            })
        );
        assert!(provider["models"].get(MODEL).is_some());
        assert_eq!(content["model"], format!("fireworks-proxy/{MODEL}"));
    }

    #[test]
    fn kimi_gets_a_file_of_its_own_that_nobody_else_reads() {
        let home = tempfile::tempdir().expect("a folder");
        let own = home.path().join(".kimi/config.toml");
        fs::create_dir(home.path().join(".kimi")).expect("made");
        fs::write(&own, "default_model = \"mine\"\n").expect("written");
        environment("kimi", home.path(), &SETTINGS);
        assert_eq!(fs::read_to_string(&own).expect("still there"), "default_model = \"mine\"\n");
        let file = home.path().join(".kimi/fireworks-proxy.toml");
        let mode = fs::metadata(&file).expect("written").permissions().mode();
        assert_eq!(mode & 0o077, 0, "the key is in it: {mode:o}");
        let config: toml::Table = fs::read_to_string(&file).expect("UTF-8").parse().expect("TOML");
        let provider = &config["providers"]["fireworks"];
        assert_eq!(provider["type"].as_str(), Some("anthropic"));
        assert_eq!(provider["base_url"].as_str(), Some("http://localhost:9000"));
        assert_eq!(provider["api_key"].as_str(), Some(KEY));
        assert_eq!(provider["custom_headers"]["x-fireworks-proxy-token"].as_str(), Some(SECRET));
        let model = config["default_model"].as_str().expect("a name");
        assert_eq!(config["models"][model]["provider"].as_str(), Some("fireworks"));
        assert_eq!(config["models"][model]["model"].as_str(), Some(MODEL));
        assert_eq!(config["models"][model]["max_context_size"].as_integer(), Some(262_144));
        // The first time there is not even the folder.
        let new = tempfile::tempdir().expect("a folder");
        environment("kimi", new.path(), &[]);
        let text = fs::read_to_string(new.path().join(".kimi/fireworks-proxy.toml")).expect("written");
        assert!(!text.contains("custom_headers") && text.parse::<toml::Table>().is_ok(), "{text}");
    }
}
