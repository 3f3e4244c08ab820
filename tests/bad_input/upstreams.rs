//! Upstreams that cannot be reached or do not speak HTTP: the client and the log are told what it was, and whether
//! Fireworks saw the request.

#[cfg(target_os = "linux")]
use crate::support::{binary::Binary, client::Client, wire::error_code};
use crate::support::{
    certs::{CertificateKind, TlsVersions},
    failing::expect_failure,
    fake::{FakeFireworks, FakeOptions},
    log,
    proxy::ProxyUnderTest,
    wire::{CHAT, body_of, proxy_to},
};

#[test]
fn an_upstream_name_that_does_not_resolve_is_a_bad_gateway() {
    log::collect();
    // RFC 6761, section 6.4: it never will.
    let name = "no-such-host.invalid";
    let proxy = proxy_to(&format!("https://{name}/x"), &[]);
    for answer in expect_failure(&proxy, &[], 502, "dns", "never_reached") {
        assert!(
            answer.text().contains(name) && answer.text().contains("does not resolve"),
            "{}",
            answer.text()
        );
    }
    let lines = log::lines_with(name);
    assert!(lines.iter().any(|line| line.contains("the request never reached Fireworks")), "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("WARN ")), "{lines:#?}");
    assert!(log::lines_with("fw_secret").is_empty(), "no credential, ever");
}

#[test]
fn an_upstream_that_refuses_the_connection_is_a_bad_gateway() {
    log::collect();
    // Nobody listens on the lowest port, and no test can be given it.
    for upstream in ["https://127.0.0.1:1/inference", "https://localhost:1/inference", "http://127.0.0.1:1"] {
        let proxy = proxy_to(upstream, &[]);
        for answer in expect_failure(&proxy, &[], 502, "connect_refused", "never_reached") {
            assert!(answer.text().contains(upstream), "{}", answer.text());
        }
        let lines = log::lines_with(&format!("{upstream}: "));
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

/// Each kind of bad certificate, and what is said of it.
const NOT_TRUSTED: [(CertificateKind, &[&str]); 11] = [
    (CertificateKind::Expired, &["it expired on 2002-01-01 00:00:00 UTC, and this machine's clock says 20"]),
    (CertificateKind::NotYetValid, &["it is not valid before 2090-01-01 00:00:00 UTC", "clock says 20"]),
    (CertificateKind::WrongHost, &["it is for wrong.example, not for localhost"]),
    (CertificateKind::CommonNameOnly, &["it is for no host", "not for localhost"]),
    (CertificateKind::UnknownIssuer, &["its issuer is not trusted", "FIREWORKS_PROXY_CA_FILE"]),
    (CertificateKind::ForgedIssuer, &["a signature does not hold: it is forged, or "]),
    (CertificateKind::SelfSigned, &["its issuer is not trusted: it is self-signed, or "]),
    (CertificateKind::SelfSignedAuthority, &["it is an authority's own, as self-signed ones often are"]),
    (CertificateKind::IssuedByServer, &["it was issued by a server's certificate, which may issue none"]),
    (CertificateKind::WeakIssuerKey, &["a signature does not hold", "RSA below 2048 bits"]),
    (CertificateKind::WeakSignature, &["it is signed with SHA-1, which is too weak"]),
];

#[test]
fn a_certificate_that_is_not_trusted_is_refused_with_its_reason() {
    log::collect();
    for (certificate, reason) in NOT_TRUSTED {
        for tls_versions in [TlsVersions::Only12, TlsVersions::Only13] {
            let options = FakeOptions { certificate, tls_versions, ..FakeOptions::default() };
            let fake = FakeFireworks::start(options);
            let proxy = ProxyUnderTest::start(&fake, &[("MAX_RETRIES", "5")]);
            let said = expect_failure(&proxy, &[], 502, "tls_certificate", "never_reached");
            for answer in said {
                let text = answer.text();
                assert!(reason.iter().all(|part| text.contains(part)), "{certificate:?}: {text}");
                assert!(text.contains(": its certificate is not trusted ("), "{certificate:?}: {text}");
            }
            assert!(fake.requests().is_empty(), "{certificate:?}: nothing of a request was sent");
            assert_eq!(fake.statistics().connections, 4, "{certificate:?}: one try for each request");
            let lines = log::lines_with(&format!("localhost:{}/", fake.port()));
            let tells = |line: &String| {
                line.contains(reason[0]) && line.contains("the request never reached Fireworks")
            };
            assert!(lines.iter().any(tells), "{certificate:?}: {lines:#?}");
        }
    }
}

#[test]
fn a_server_key_that_is_too_weak_is_refused() {
    let fake = FakeFireworks::start(FakeOptions {
        certificate: CertificateKind::WeakServerKey,
        tls_versions: TlsVersions::Only12,
        ..FakeOptions::default()
    });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    for answer in expect_failure(&proxy, &[], 502, "tls_certificate", "never_reached") {
        assert!(answer.text().contains("RSA below 2048 bits"), "{}", answer.text());
    }
    assert!(fake.requests().is_empty());
}

/// So what the list above refuses is refused for its fault alone.
#[test]
fn a_certificate_without_a_fault_is_trusted() {
    for tls_versions in [TlsVersions::Only12, TlsVersions::Only13] {
        let fake = FakeFireworks::start(FakeOptions { tls_versions, ..FakeOptions::default() });
        let proxy = ProxyUnderTest::start(&fake, &[]);
        assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200, "{tls_versions:?}");
    }
}

#[test]
fn the_built_in_roots_do_not_trust_a_private_authority() {
    let fake = FakeFireworks::start_default();
    let proxy = proxy_to(&fake.base_url(), &[]);
    expect_failure(&proxy, &[], 502, "tls_certificate", "never_reached");
    assert!(fake.requests().is_empty());
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let proxy = proxy_to(&format!("https://127.0.0.1:{}/inference", fake.port()), &[]);
    expect_failure(&proxy, &[], 502, "tls_other", "never_reached");
    assert!(fake.requests().is_empty());
}

#[test]
fn an_answer_that_is_not_http_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions {
        default_script: vec![("x-fake-garbage-head".to_owned(), "1".to_owned())],
        ..FakeOptions::default()
    });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    expect_failure(&proxy, &[], 502, "bad_head", "acknowledged");
    assert_eq!(fake.requests().len(), 4);
}

#[test]
fn an_answer_that_closes_before_its_head_is_a_bad_gateway() {
    let fake = FakeFireworks::start(FakeOptions {
        default_script: vec![("x-fake-cut".to_owned(), "before-head".to_owned())],
        ..FakeOptions::default()
    });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    expect_failure(&proxy, &[], 502, "closed_before_head", "may_have_reached");
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
