//! Upstreams that cannot be reached or do not speak HTTP: the client and the log are told what it was, and whether
//! Fireworks saw the request.

use std::{
    net::TcpListener,
    sync::{Mutex, Once},
};

use fireworks_proxy::failure::Reach;

#[cfg(target_os = "linux")]
use crate::support::{binary::Binary, client::Client};
use crate::support::{
    certs::CertificateKind,
    client::Response,
    fake::{FakeFireworks, FakeOptions},
    proxy::ProxyUnderTest,
    wire::{CHAT, MESSAGES, RESPONSES, body_of, error_code, lane_of, proxy_to, settled},
};

/// Every line that was logged in this process.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().expect("no test panics while it logs").push(format!(
            "{} {}",
            record.level(),
            record.args()
        ));
    }

    fn flush(&self) {}
}

/// Collects what is logged from now on.
fn collect_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("no other logger was set");
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The lines logged so far that hold this text.
fn logged(text: &str) -> Vec<String> {
    let lines = LOGGED.lock().expect("no test panics while it logs");
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

/// Asks in every dialect and checks that each is told of the same failure, in its own envelope.
#[track_caller]
fn expect_failure(proxy: &ProxyUnderTest, status: u16, code: &str, reach: Reach) -> Vec<Response> {
    let explanation = match reach {
        Reach::NeverReached => "the request never reached Fireworks",
        Reach::MayHaveReached => "the request may have reached Fireworks",
        Reach::Acknowledged => "Fireworks had begun to answer",
    };
    let mut client = proxy.connect();
    let mut answers = Vec::new();
    for (path, stream) in [(CHAT, true), (MESSAGES, true), (RESPONSES, false), ("/v1/models", false)] {
        let model = format!("model of {path}");
        client.request("POST", path, &[("x-api-key", "fw_secret")], body_of(&model, stream).as_bytes());
        let response = client.read_response();
        assert_eq!(response.status(), status, "{path}: {}", response.text());
        assert_eq!(error_code(path, &response), code, "{path}");
        assert!(response.text().contains(explanation), "{path}: {}", response.text());
        assert_eq!(response.header("connection"), None, "{path}: our own connection is as good as before");
        assert_eq!(response.json()["error"]["upstream"], reach.name(), "{path}");
        if reach == Reach::NeverReached {
            assert_eq!(settled(&lane_of(&proxy.usage(), &model)), [0; 3], "{path}: it cost nothing");
        }
        answers.push(response);
    }
    let usage = proxy.usage();
    assert_eq!((&usage["requests"]["failed"], &usage["requests"]["in_flight"]), (&4.into(), &0.into()));
    let last_error = proxy.health()["last_upstream_error"]["error"].to_string();
    assert!(last_error.contains(code) && last_error.contains(explanation), "{last_error}");
    answers
}

#[test]
fn an_upstream_name_that_does_not_resolve_is_a_bad_gateway() {
    collect_log();
    // RFC 6761, section 6.4: it never will.
    let name = "no-such-host.invalid";
    let proxy = proxy_to(&format!("https://{name}/x"), &[]);
    for answer in expect_failure(&proxy, 502, "dns", Reach::NeverReached) {
        assert!(
            answer.text().contains(name) && answer.text().contains("does not resolve"),
            "{}",
            answer.text()
        );
    }
    let lines = logged(name);
    assert!(lines.iter().any(|line| line.contains("the request never reached Fireworks")), "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("WARN ")), "{lines:#?}");
    assert!(logged("fw_secret").is_empty(), "no credential, ever");
}

#[test]
fn an_upstream_that_refuses_the_connection_is_a_bad_gateway() {
    collect_log();
    // Nobody listens on the lowest port, and no test can be given it.
    for upstream in ["https://127.0.0.1:1/inference", "https://localhost:1/inference", "http://127.0.0.1:1"] {
        let proxy = proxy_to(upstream, &[]);
        for answer in expect_failure(&proxy, 502, "connect_refused", Reach::NeverReached) {
            assert!(answer.text().contains(upstream), "{}", answer.text());
        }
        let lines = logged(&format!("{upstream}: "));
        assert!(lines.iter().any(|line| line.contains("the request never reached Fireworks")), "{lines:#?}");
    }
}

/// The lowest number that the process has no descriptor of: with this limit it can open no more.
#[cfg(target_os = "linux")]
fn lowest_free_descriptor(pid: u32) -> u64 {
    let is_free = |number: &u64| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).is_err();
    (0..1_000).find(is_free).expect("a proxy with one client has few descriptors")
}

#[cfg(target_os = "linux")]
#[test]
fn a_proxy_that_may_open_no_more_sockets_says_that_it_is_its_own_fault() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let proxy = Binary::start(&fake, &[("MAX_RETRIES", "0")]);
    let pid = Pid::from_raw(i32::try_from(proxy.pid()).expect("a process id"));
    let mut client = Client::connect(proxy.address());
    let mut ask = |method, path, json: &str| {
        client.request(method, path, &[], json.as_bytes());
        client.read_response()
    };
    // After this, the connection has been accepted.
    assert_eq!(ask("GET", "/health", "").status(), 200);
    // A child's limits are those of its parent.
    let before = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(lowest_free_descriptor(proxy.pid())), ..before };
    prlimit(pid, Resource::Nofile, none_left).expect("a child of ours");
    let response = ask("POST", CHAT, &body_of("m", false));
    assert_eq!((response.status(), error_code(CHAT, &response).as_str()), (502, "connect_refused"));
    let said = response.text();
    assert!(said.contains("our own machine has no descriptor left: Too many open files"), "{said}");
    prlimit(pid, Resource::Nofile, before).expect("a child of ours");
    assert_eq!(ask("POST", CHAT, &body_of("m", false)).status(), 200);
}

#[test]
fn a_certificate_that_is_not_trusted_is_a_bad_gateway() {
    collect_log();
    for certificate in [CertificateKind::Expired, CertificateKind::WrongHost, CertificateKind::UnknownIssuer]
    {
        let fake = FakeFireworks::start(FakeOptions { certificate, ..FakeOptions::default() });
        let proxy = ProxyUnderTest::start(&fake, &[]);
        expect_failure(&proxy, 502, "tls_certificate", Reach::NeverReached);
        assert!(fake.requests().is_empty(), "{certificate:?}");
        let lines = logged(&format!("localhost:{}", fake.port()));
        assert!(lines.iter().any(|line| line.contains("the request never reached Fireworks")), "{lines:#?}");
    }
}

#[test]
fn the_built_in_roots_do_not_trust_a_private_authority() {
    let fake = FakeFireworks::start_default();
    let proxy = proxy_to(&fake.base_url(), &[]);
    expect_failure(&proxy, 502, "tls_certificate", Reach::NeverReached);
    assert!(fake.requests().is_empty());
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let proxy = proxy_to(&format!("https://127.0.0.1:{}/inference", fake.port()), &[]);
    expect_failure(&proxy, 502, "tls_other", Reach::NeverReached);
    assert!(fake.requests().is_empty());
}

#[test]
fn an_upstream_that_never_shakes_hands_is_a_gateway_timeout() {
    // The system completes the TCP connection; nobody ever accepts it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = silent.local_addr().expect("a bound listener has an address");
    let proxy = proxy_to(&format!("https://{address}/inference"), &[]);
    let response = proxy.post(MESSAGES, &[], &body_of("m", true));
    assert_eq!((response.status(), error_code(MESSAGES, &response).as_str()), (504, "connect_timeout"));
    assert!(response.text().contains("the request never reached Fireworks"), "{}", response.text());
    assert_eq!(settled(&lane_of(&proxy.usage(), "m")), [0; 3], "it cost nothing");
}

#[test]
fn an_answer_that_is_not_http_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions {
        default_script: vec![("x-fake-garbage-head".to_owned(), "1".to_owned())],
        ..FakeOptions::default()
    });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    expect_failure(&proxy, 502, "bad_head", Reach::Acknowledged);
    assert_eq!(fake.requests().len(), 4);
}

#[test]
fn an_answer_that_closes_before_its_head_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions {
        default_script: vec![("x-fake-cut".to_owned(), "before-head".to_owned())],
        ..FakeOptions::default()
    });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    expect_failure(&proxy, 502, "closed_before_head", Reach::MayHaveReached);
}

#[test]
fn the_same_proxy_serves_again_once_the_upstream_is_back() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    let failing = proxy.post(CHAT, &[("x-fake-garbage-head", "1")], &body_of("m", true));
    assert_eq!(failing.status(), 502);
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
    let health = proxy.health();
    assert!(health["last_upstream_success"].is_string() && health["last_upstream_error"].is_object());
}
