//! No credential and no text of a request is ever logged, shown or kept, in whatever way a request ends.
//!
//! The real binary runs with the log at its most talkative, and every request carries a secret wherever
//! there is place for one. Then all that came out of it is searched: each line of the log, each page, each
//! answer of its own, each file.
//!
//! - [`search`]: finds a secret, or a part of one, in any of its usual spellings.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "secrets/search.rs"]
mod search;

use std::{collections::BTreeSet, net::TcpListener, path::Path};

use fireworks_proxy::failure::FailureClass;
use search::Search;
use support::{
    binary::{Binary, await_true, quiet_zone, run_to_end},
    certs::CertificateKind,
    client::{Client, Response},
    fake::{FakeFireworks, FakeOptions},
    forward_proxy::{ForwardProxy, Reply},
    front::{Front, Plan},
    wire::{CHAT, MESSAGES, large_body},
};

const API_KEY: &str = "fw_Jm7tXk2pLz9vRw4nQb";
const BEARER_KEY: &str = "fw_8sDhYc5gNf3uWa6eTo";
const COOKIE: &str = "sid-Vx1kGz0qMr8yBj2l";
const PROXY_PASSWORD: &str = "dXNlcjpIazl3UGUzc1Z0";
const QUERY_KEY: &str = "q-Ut6rEi4oCn7aZd9x";
const PROMPT: &str = "Zanzibar-Quokka-Lighthouse";
const PASSWORD: &str = "hunter2-Kq8vNw5zTy";
const FORWARD_USER: &str = "svc-Lq6dWn0rHx3tPb";
const FORWARD_PASSWORD: &str = "Ek5zTc8yVj1mUa7oSg";
const TOKEN: &str = "Rb4mXj9cLs7fHg2wPd";
const WRONG_TOKEN: &str = "Gv3nYk8tQe6zMa1uCi";
const MALFORMED: &str = "Wf5pOl2xIb9rSh4jDm";

const SECRETS: [&str; 12] = [
    API_KEY,
    BEARER_KEY,
    COOKIE,
    PROXY_PASSWORD,
    QUERY_KEY,
    PROMPT,
    PASSWORD,
    FORWARD_USER,
    FORWARD_PASSWORD,
    TOKEN,
    WRONG_TOKEN,
    MALFORMED,
];

/// Of these the proxy sends nothing on to the upstream: two concern this connection alone, two are for the forward proxy,
/// and two are of requests refused.
const NOT_FORWARDED: [&str; 6] =
    [PROXY_PASSWORD, FORWARD_USER, FORWARD_PASSWORD, TOKEN, WRONG_TOKEN, MALFORMED];

/// Everything that proxies have written so far, with what it is.
#[derive(Default)]
struct Written {
    /// The form of their logs.
    is_json: bool,
    texts: Vec<(String, String)>,
    /// The classes of failures that they have counted.
    failures: BTreeSet<String>,
}

impl Written {
    fn add(&mut self, what: &str, text: impl Into<String>) {
        self.texts.push((what.to_owned(), text.into()));
    }

    /// Asks with every secret there is.
    fn ask(&mut self, proxy: &Binary, path: &str, fields: &[(&str, &str)]) {
        self.ask_with(proxy, path, fields, body().as_bytes());
    }

    fn ask_with(&mut self, proxy: &Binary, path: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut client = Client::connect(proxy.address());
        send(&mut client, path, fields, body);
        self.read_answer(client, path);
    }

    /// Keeps what comes back, whether it is an answer, a part of one, or nothing.
    fn read_answer(&mut self, mut client: Client, what: &str) {
        let Ok(head) = client.try_read_head() else { return };
        let body = match client.read_body_to_end() {
            Ok(body) => body.text(),
            Err(cut) => String::from_utf8_lossy(&cut.got).into_owned(),
        };
        self.add(what, String::from_utf8_lossy(&head.raw).into_owned() + &body);
    }

    /// Reads the pages, which need the secret.
    fn look(&mut self, proxy: &Binary) {
        for path in ["/", "/health", "/usage", "/metrics", "/settings"] {
            let response = page(proxy, path);
            self.add(path, String::from_utf8_lossy(&response.head.raw).into_owned() + &response.text());
            if path == "/usage" {
                self.count_failures(&response.json());
            }
        }
    }

    fn count_failures(&mut self, usage: &serde_json::Value) {
        let sides = usage["failures"].as_object().expect("sides").values();
        let classes = sides.flat_map(|side| side.as_object().expect("classes"));
        let happened = classes.filter(|(_, count)| **count != 0).map(|(class, _)| class.clone());
        self.failures.extend(happened);
    }

    /// Ends a proxy, and keeps its log and its files.
    fn end(&mut self, proxy: Binary) {
        self.look(&proxy);
        #[cfg(unix)]
        let (lines, folder) = {
            proxy.signal("INT");
            let (_, lines, folder) = proxy.wait_for_end();
            (lines, folder)
        };
        #[cfg(not(unix))]
        let (lines, folder) = proxy.kill();
        self.add_log(lines);
        self.add_files(folder.path());
    }

    fn add_log(&mut self, lines: Vec<String>) {
        assert!(lines.len() > 3, "a log: {lines:#?}");
        for line in lines {
            self.add("the log", line);
        }
    }

    /// Keeps each file, and checks that there are no others than there should be.
    fn add_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(["ca.pem", "daily_usage.json"].contains(&name.as_str()), "{name} was written too");
            let content = std::fs::read(&path).expect("a file");
            self.add(&name, String::from_utf8_lossy(&content));
        }
    }
}

fn body() -> String {
    let messages = serde_json::json!([{"role": "user", "content": PROMPT}]);
    serde_json::json!({"model": "m", "stream": true, "messages": messages, "password": PASSWORD}).to_string()
}

/// Sends a request that is let in, with a secret wherever there is place for one.
fn send(client: &mut Client, path: &str, fields: &[(&str, &str)], body: &[u8]) {
    let (bearer, proxy) = (format!("Bearer {BEARER_KEY}"), format!("Basic {PROXY_PASSWORD}"));
    // Which of both keys is the lane's depends on whether there is a bearer token.
    let key = if path == CHAT { ("Authorization", bearer.as_str()) } else { ("x-api-key", API_KEY) };
    let secret = [
        key,
        ("Cookie", COOKIE),
        ("Proxy-Authorization", proxy.as_str()),
        ("x-fireworks-proxy-token", TOKEN),
    ];
    client.request("POST", &format!("{path}?key={QUERY_KEY}"), &[&secret, fields].concat(), body);
}

fn page(proxy: &Binary, path: &str) -> Response {
    let mut client = Client::connect(proxy.address());
    client.request("GET", path, &[("x-fireworks-proxy-token", TOKEN)], b"");
    client.read_response()
}

fn start(fake: &FakeFireworks, settings: &[(&str, &str)], written: &Written) -> Binary {
    let format = if written.is_json { "json" } else { "text" };
    let all = [
        &[("LOG", "trace"), ("LOG_FORMAT", format), ("CLIENT_TOKEN", TOKEN), ("MAX_RETRIES", "0")],
        settings,
    ]
    .concat();
    Binary::start(fake, &all)
}

/// Everything a running upstream can do to a request, with retries.
fn good_and_bad_answers(fake: &FakeFireworks, written: &mut Written) {
    let settings =
        [("MAX_RETRIES", "1"), ("DAILY_TOKEN_LIMIT", "100000"), ("RPS", "1000"), ("TIMEZONE", quiet_zone())];
    let proxy = start(fake, &settings, written);
    let endings: [&[(&str, &str)]; 8] = [
        &[],
        &[("x-fake-status", "401")],
        &[("x-fake-status", "429"), ("x-fake-times", "1"), ("x-fake-id", "once")],
        &[("x-fake-status", "503"), ("x-fake-body", "html")],
        &[("x-fake-cut", "before-head")],
        &[("x-fake-garbage-head", "1")],
        &[("x-fake-cut", "mid-stream")],
        &[("Content-Encoding", PROMPT)],
    ];
    for ending in endings {
        for path in [MESSAGES, CHAT] {
            written.ask(&proxy, path, ending);
        }
    }
    written.ask_with(&proxy, CHAT, &[], &body().as_bytes()[..40]);
    refused_at_the_door(&proxy, written);
    written.ask(&proxy, MESSAGES, &[("x-fake-prompt-tokens", "100000")]);
    proxy.wait_for_line(&["DAILY TOKEN LIMIT REACHED"]);
    written.ask(&proxy, MESSAGES, &[]);
    await_true("the count is kept", || {
        std::fs::read_to_string(proxy.state_file()).is_ok_and(|text| text.contains("100"))
    });
    assert_no_other_file_is_open(&proxy);
    written.end(proxy);
}

/// What is malformed, and what is not let in.
fn refused_at_the_door(proxy: &Binary, written: &mut Written) {
    let local = "HTTP/1.1\r\nHost: localhost\r\n";
    let basic = format!("http://user:{MALFORMED}@evil.example");
    for raw in [
        format!("{MALFORMED}\r\n\r\n"),
        format!("GET /{MALFORMED} HTTP/3.0\r\n\r\n"),
        format!("GET http://user:{MALFORMED}@localhost/ {local}\r\n"),
        format!("GET /v1/models {local}Authorization {MALFORMED}\r\n\r\n"),
        format!("GET /v1/models {local}{MALFORMED} : x\r\n\r\n"),
        format!("GET /v1/models {local}Cookie: {MALFORMED}\x01\r\n\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nHost: user:{MALFORMED}@localhost\r\n\r\n"),
        format!("GET /v1/models?key={QUERY_KEY} HTTP/1.1\r\nHost: evil.example\r\nCookie: {COOKIE}\r\n\r\n"),
        format!("GET /v1/models?key={QUERY_KEY} {local}Origin: {basic}\r\nCookie: {COOKIE}\r\n\r\n"),
        format!("GET /usage?key={QUERY_KEY} {local}x-fireworks-proxy-token: {WRONG_TOKEN}\r\n\r\n"),
        format!("GET /usage {local}x-fireworks-proxy-token: {TOKEN}{MALFORMED}\r\n\r\n"),
        format!("POST /v1/messages {local}Content-Length: {MALFORMED}\r\n\r\n"),
        format!("POST /v1/messages {local}X-Api-Key: {API_KEY}\r\nExpect: {MALFORMED}\r\n\r\n"),
        format!(
            "POST /v1/messages {local}x-fireworks-proxy-token: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n{MALFORMED}"
        ),
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(raw.as_bytes()).expect("sent");
        let answer = String::from_utf8_lossy(&client.read_raw_until_eof()).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505 "), "{raw}: {answer}");
        written.add("a refusal", answer);
    }
}

/// Upstreams that cannot be reached, each in its own way.
fn unreachable_upstreams(written: &mut Written) {
    let plain = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let expired =
        FakeFireworks::start(FakeOptions { certificate: CertificateKind::Expired, ..FakeOptions::default() });
    // The system completes the TCP connection; nobody ever accepts it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("bound");
    let upstreams = [
        // Nobody listens on the lowest port, and no name ends so (RFC 6761, section 6.4).
        "https://127.0.0.1:1/x".to_owned(),
        "https://no-such-host.invalid/x".to_owned(),
        expired.base_url(),
        format!("https://127.0.0.1:{}/x", plain.port()),
        format!("https://{silent}/x"),
    ];
    for upstream in upstreams {
        let proxy = start(&expired, &[("UPSTREAM", &upstream), ("CONNECT_TIMEOUT", "0.5")], written);
        for path in [MESSAGES, CHAT] {
            written.ask(&proxy, path, &[]);
        }
        written.end(proxy);
    }
}

/// Forward proxies that let through or do not, each in its own way, named by our setting and by the environment.
fn forward_proxies(fake: &FakeFireworks, written: &mut Written) {
    let user_information = format!("{FORWARD_USER}:{FORWARD_PASSWORD}@");
    let forwards = [
        Reply::Pass,
        Reply::status("407 Proxy Authentication Required"),
        Reply::status("403 Forbidden"),
        Reply::status("503 Service Unavailable"),
        Reply::Hold(Vec::new()),
    ]
    .map(ForwardProxy::always);
    let urls = forwards.iter().map(|forward| forward.url(&user_information));
    // Nobody listens on the lowest port, and no name ends so (RFC 6761, section 6.4).
    let nobody =
        ["127.0.0.1:1", "no-such-proxy.invalid:3128"].map(|host| format!("http://{user_information}{host}"));
    for (url, name) in urls.chain(nobody).zip(["UPSTREAM_PROXY", "HTTPS_PROXY"].into_iter().cycle()) {
        let proxy = start(fake, &[(name, &url), ("CONNECT_TIMEOUT", "0.5")], written);
        for path in [MESSAGES, CHAT] {
            written.ask(&proxy, path, &[]);
        }
        written.end(proxy);
    }
    let sent = forwards.iter().flat_map(ForwardProxy::heads);
    assert!(sent.filter(|head| head.contains("Proxy-Authorization: Basic ")).count() >= 10, "they were sent");
    let refused = |name| run_to_end(&[(name, &format!("socks5://{user_information}proxy.example"))]);
    for name in ["UPSTREAM_PROXY", "HTTPS_PROXY"] {
        written.add("a refusal to start", refused(name).refusal());
    }
}

/// Whatever can take too long, and clients that leave.
fn waits_that_end(fake: &FakeFireworks, written: &mut Written) {
    let times = [("READ_TIMEOUT", "0.5"), ("MAX_HOLD", "0.5"), ("CLIENT_HEAD_TIMEOUT", "0.5")];
    let proxy = start(fake, &times, written);
    written.ask(&proxy, MESSAGES, &[("x-fake-gate", "head")]);
    written.ask(&proxy, CHAT, &[("x-fake-gate", "middle")]);
    let mut slow = Client::connect(proxy.address());
    slow.send(format!("POST /v1/messages?{QUERY_KEY} HTTP/1.1\r\nX-Api-Key: {API_KEY}").as_bytes())
        .expect("sent");
    written.read_answer(slow, "a client that was too slow");
    written.end(proxy);

    let proxy = start(fake, &[("RPS", "0.001"), ("MAX_WAIT", "0.5")], written);
    written.ask(&proxy, MESSAGES, &[]);
    written.ask(&proxy, MESSAGES, &[]);
    let mut leaver = Client::connect(proxy.address());
    send(&mut leaver, CHAT, &[], body().as_bytes());
    leaver.close();
    proxy.wait_for_line(&["client_gone"]);
    written.end(proxy);

    let stalls = Front::start(fake, |_| Plan::StallRequest(64 * 1024));
    let proxy = start(fake, &[("UPSTREAM", &stalls.base_url()), ("WRITE_TIMEOUT", "0.5")], written);
    written.ask_with(&proxy, MESSAGES, &[], &large_body(16 << 20));
    written.end(proxy);
}

/// A stop while one answer is under way and another client asks for one, and a second stop that cuts.
#[cfg(unix)]
fn stops(fake: &FakeFireworks, written: &mut Written) {
    let proxy = start(fake, &[("MAX_WAIT", "60"), ("RPS", "0.001"), ("DRAIN", "60")], written);
    let mut answered = Client::connect(proxy.address());
    send(&mut answered, MESSAGES, &[("x-fake-gate", "middle")], body().as_bytes());
    answered.read_final_head();
    let mut waiting = Client::connect(proxy.address());
    send(&mut waiting, CHAT, &[], body().as_bytes());
    await_true("one waits", || page(&proxy, "/usage").json()["requests"]["queued"] == 1);
    proxy.signal("INT");
    written.read_answer(waiting, "a client that met a stop");
    proxy.signal("INT");
    let (code, lines, folder) = proxy.wait_for_end();
    assert_eq!(code, Some(1), "something was cut: {lines:#?}");
    for class in ["draining", "stopped"] {
        let told = lines.iter().any(|line| line.contains(&format!("outcome={class} ")));
        assert!(told, "{class}: {lines:#?}");
        written.failures.insert(class.to_owned());
    }
    written.add_log(lines);
    written.add_files(folder.path());
}

/// Besides its standard streams the proxy has sockets and the like open, and no file.
fn assert_no_other_file_is_open(proxy: &Binary) {
    #[cfg(target_os = "linux")]
    {
        let links = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("a process of ours");
        for link in links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok()) {
            let name = link.to_string_lossy();
            let is_expected = ["socket:", "pipe:", "anon_inode:", "/dev/null"];
            assert!(is_expected.iter().any(|kind| name.starts_with(kind)), "{name} is open");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = proxy;
}

#[test]
fn no_credential_and_no_text_of_a_body_is_ever_logged_shown_or_kept() {
    let fake = FakeFireworks::start_default();
    let mut written = Written::default();
    good_and_bad_answers(&fake, &mut written);
    unreachable_upstreams(&mut written);
    forward_proxies(&fake, &mut written);
    waits_that_end(&fake, &mut written);
    #[cfg(unix)]
    stops(&fake, &mut written);

    assert_all_has_happened(&fake, &written);
    assert_no_secret(&written);
}

#[test]
fn nor_is_it_in_the_log_in_json() {
    let fake = FakeFireworks::start_default();
    let mut written = Written { is_json: true, ..Written::default() };
    good_and_bad_answers(&fake, &mut written);
    waits_that_end(&fake, &mut written);
    let lines = written.texts.iter().filter(|(what, _)| what == "the log");
    let events: Vec<_> = lines
        .map(|(_, line)| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["event"].clone())
        .collect();
    assert!(events.iter().filter(|event| **event == "request").count() > 30, "the log tells of it");
    assert_no_secret(&written);
}

#[track_caller]
fn assert_no_secret(written: &Written) {
    let search = Search::new(&SECRETS);
    for (what, text) in &written.texts {
        if let Some(secret) = search.find_in(text) {
            panic!("{secret}, or a part of it, is in {what}: {text}");
        }
    }
}

/// What is searched is worth searching: the secrets were under way, and every kind of failure was met.
fn assert_all_has_happened(fake: &FakeFireworks, written: &Written) {
    let received = fake.requests();
    for secret in SECRETS {
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(secret);
        let was_sent_on = received.iter().any(|request| holds(&request.head) || holds(&request.body));
        assert_eq!(was_sent_on, !NOT_FORWARDED.contains(&secret), "{secret}");
    }
    let own = [
        "bad_request",
        "misdirected",
        "cross_site",
        "client_token",
        "client_timeout",
        "queue_timeout",
        "daily_limit",
        "client_gone",
    ];
    for class in FailureClass::ALL.into_iter().map(FailureClass::name).chain(own) {
        assert!(written.failures.contains(class), "{class} did not happen: {:?}", written.failures);
    }
    let counted = |part: &str| written.texts.iter().filter(|(_, text)| text.contains(part)).count();
    assert!(counted(" retry | ") > 0 && counted("request | ") > 30, "the log tells of it");
    assert!(counted(" TRACE ") > 0, "and is as talkative as can be");
}
