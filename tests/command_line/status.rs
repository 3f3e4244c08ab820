//! `status`: against a proxy that runs, one that does not, and something else.

use std::{
    io::{BufRead, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout},
};

use super::run;
use crate::support::{
    binary::{Binary, command},
    fake::FakeFireworks,
};

const CHAT: &str = "/v1/chat/completions";

fn port_of(proxy: &Binary) -> String {
    proxy.address().port().to_string()
}

#[test]
fn the_running_proxy_is_asked_and_shown_without_escape_codes() {
    let fake = FakeFireworks::start_default();
    let token = ("CLIENT_TOKEN", "sixteen-letters!");
    let proxy = Binary::start(&fake, &[token, ("MAX_RETRIES", "0")]);
    let secret = ("x-fireworks-proxy-token", token.1);
    let model = r#"{"model":"accounts/fireworks/models/kimi-k2p6"}"#;
    let tokens = [secret, ("x-fake-prompt-tokens", "1200"), ("x-fake-generated", "34")];
    assert_eq!(proxy.post(CHAT, &tokens, model).status(), 200);
    assert_eq!(proxy.post(CHAT, &[secret, ("x-fake-status", "503")], model).status(), 503);
    let ended = run(&["status", "--port", &port_of(&proxy)], &[token]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let text = &ended.stdout;
    for part in ["1,234 of 200,000,000 tokens", "2 finished", "1 x 503", "kimi-k2p6 ", "1.2k/", "34/"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains(&format!("at {}", proxy.address())), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100) && !text.contains('\x1b'), "{text}");
    let refused = run(&["status", "--port", &port_of(&proxy)], &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("x-fireworks-proxy-token"), "{refused:?}");
}

#[test]
fn where_no_proxy_is_one_line_says_what_was_tried_and_what_to_do() {
    // Nobody listens on the lowest port, and no test can be given it.
    let ended = run(&["status", "--port=1"], &[]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{ended:?}");
    for part in ["127.0.0.1:1", "start it", "--port"] {
        assert!(ended.stderr.contains(part), "{part} in {ended:?}");
    }
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let answering = std::thread::spawn(move || drop(other.accept().expect("a client")));
    let ended = run(&["status", "--host=127.0.0.1", "--port", &port], &[]);
    answering.join().expect("it was asked");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("not this proxy"), "{ended:?}");
}

/// A watch that runs, and its lines as they come. Killed when dropped.
struct Watch {
    child: Child,
    /// `None` when nobody reads any more.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Watch {
    fn start(port: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(folder.path(), &[]);
        let mut child = command.args(["status", "--watch", "--port", port]).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines: Some(lines) }
    }

    /// Reads on to a line with this in it.
    #[track_caller]
    fn read_to(&mut self, part: &str) {
        let mut seen = Vec::new();
        for line in self.lines.as_mut().expect("somebody reads").map_while(Result::ok) {
            assert!(!line.contains('\x1b'), "{line:?}");
            if line.contains(part) {
                return;
            }
            seen.push(line);
        }
        panic!("no {part:?} in {seen:#?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_outlives_the_proxy_and_finds_the_next_one() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[]);
    let port = port_of(&proxy);
    let mut watch = Watch::start(&port);
    watch.read_to("day ");
    watch.read_to("day ");
    drop(proxy.kill());
    watch.read_to("no proxy is reachable");
    let _again = Binary::start(&fake, &[("PORT", &port)]);
    watch.read_to("day ");
}

#[test]
fn a_watch_that_nobody_reads_ends() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[]);
    let mut watch = Watch::start(&port_of(&proxy));
    watch.read_to("day ");
    watch.lines = None;
    assert_eq!(watch.child.wait().expect("a child of ours").code(), Some(0));
}
