//! Request heads: any split is the whole, what is accepted is strict, and what is written is read back.

use fireworks_proxy::http::{
    HEAD_BYTES_MAX, HEAD_FIELDS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX,
    head::{Framing, HeadSearch, RequestHead, Version, parse_request},
    write::{CLIENT_TOKEN_FIELD, upstream_request},
};

use super::{
    Outcome,
    split::splits,
    strict_head::{Declared, Field, declared, elements, end_to_end, is_token, read, values},
};

/// More than the fields that are added on the way to the upstream.
const FIELDS_ADDED_MAX: usize = 4;

/// The length of a body that came in chunks.
const BODY_BYTES: usize = 37;

/// `data` is what a client sends at the beginning of its connection.
pub fn request_head(data: &[u8]) -> Outcome {
    let Some(end) = find_end(data) else { return Outcome::Refused };
    let Ok(head) = parse_request(&data[..end]) else { return Outcome::Refused };
    let fields = check_strict(&data[..end], &head);
    check_written(&head, &fields);
    Outcome::Accepted
}

/// Where the head ends, if it does, however it was delivered.
pub fn find_end(data: &[u8]) -> Option<usize> {
    let data = &data[..data.len().min(HEAD_BYTES_MAX)];
    let whole = HeadSearch::default().find_end(data);
    for pieces in splits(data) {
        let (mut search, mut length) = (HeadSearch::default(), 0);
        let mut found = search.find_end(&[]);
        for piece in pieces {
            length += piece.len();
            found = search.find_end(&data[..length]);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        assert_eq!(found, whole, "the end of the head depends on how it is split");
    }
    let plain = data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    if let Ok(Some(end)) = whole {
        assert_eq!(Some(end), plain, "the head ends elsewhere");
    }
    whole.ok().flatten()
}

/// Holds an accepted head against RFC 9112. Gives its fields.
fn check_strict(bytes: &[u8], head: &RequestHead) -> Vec<Field> {
    let (line, fields) = read(bytes);
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("a request line of three parts") };
    let is_http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => panic!("a version that is not spoken here was accepted"),
    };
    let is_tunnel = [&b"CONNECT"[..], b"TRACE"].iter().any(|name| method.eq_ignore_ascii_case(name));
    assert!(is_token(method) && method.len() <= METHOD_BYTES_MAX && !is_tunnel, "{}", method.escape_ascii());
    check_target(target);
    check_connection(&fields);
    check_host(&fields, is_http_11);
    let framing = match declared(&fields, is_http_11) {
        Declared::Nothing | Declared::Length(0) => Framing::Empty,
        Declared::Length(length) => Framing::Length(length),
        Declared::Chunked => Framing::Chunked,
    };
    let expects = values(&fields, "expect");
    assert!(expects.iter().all(|value| value.eq_ignore_ascii_case(b"100-continue")), "an odd expectation");

    assert_eq!((head.method.as_bytes(), head.target.as_bytes()), (method, target));
    assert_eq!(head.version == Version::Http11, is_http_11);
    assert_eq!(head.framing, framing);
    assert_eq!(head.expects_continue, is_http_11 && !expects.is_empty());
    assert_eq!(fields_of(head), fields, "the fields as they came");
    assert!(fields.len() <= HEAD_FIELDS_MAX);
    let says_close = elements(&fields, "connection").contains(&"close".to_owned());
    assert_eq!(head.keeps_alive(), is_http_11 && !says_close);
    fields
}

/// RFC 9112, section 3.2.1, and RFC 3986, section 2: a path of a URI's characters and whole escapes.
fn check_target(target: &[u8]) {
    assert!(target.starts_with(b"/") && target.len() <= TARGET_BYTES_MAX, "a target is a path");
    let mut rest = target;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'%' {
            let (escape, after) = after.split_at_checked(2).expect("an escape is whole");
            assert!(escape.iter().all(u8::is_ascii_hexdigit), "{}", target.escape_ascii());
            rest = after;
        } else {
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=".contains(byte);
            assert!(is_plain, "{}", target.escape_ascii());
        }
    }
}

/// RFC 9110, section 7.6.1: tokens, and none of them a field that is for everybody on the way.
fn check_connection(fields: &[Field]) {
    const FOR_ALL: &str =
        "authorization cache-control content-encoding content-length content-type host x-api-key";
    for name in elements(fields, "connection").iter().filter(|name| !name.is_empty()) {
        assert!(is_token(name.as_bytes()), "Connection names {name:?}");
        assert!(!FOR_ALL.split(' ').any(|other| other == name), "Connection names {name:?}");
    }
}

/// RFC 9112, section 3.2: one `Host` in HTTP/1.1, and a host in it.
fn check_host(fields: &[Field], is_http_11: bool) {
    let hosts = values(fields, "host");
    assert!(hosts.len() == 1 || (hosts.is_empty() && !is_http_11), "{} Host fields", hosts.len());
    for host in hosts {
        let is_odd =
            |byte: &u8| byte.is_ascii_whitespace() || b"/?#@\\,;\"<>".contains(byte) || *byte >= 0x7f;
        assert!(!host.iter().any(is_odd), "a Host that is no host: {}", host.escape_ascii());
    }
}

fn fields_of(head: &RequestHead) -> Vec<Field> {
    head.fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// The head as it goes to the upstream is read back as what it should be, and then goes on unchanged.
fn check_written(head: &RequestHead, fields: &[Field]) {
    if fields.len() + FIELDS_ADDED_MAX > HEAD_FIELDS_MAX {
        return;
    }
    let target = format!("/inference{}", head.target);
    let written = upstream_request(head, &target, "upstream.test:8443", BODY_BYTES);
    if written.len() > HEAD_BYTES_MAX || target.len() > TARGET_BYTES_MAX {
        return;
    }
    assert_eq!(find_end(&written), Some(written.len()), "one head and nothing behind it");
    let again = parse_request(&written).expect("what we write we accept");
    assert_eq!((&again.method, &*again.target, again.version), (&head.method, &*target, Version::Http11));
    assert_eq!(fields_of(&again), expected_upstream(head, fields, BODY_BYTES));
    let framing = match head.framing {
        Framing::Chunked => Framing::Length(BODY_BYTES as u64),
        framing => framing,
    };
    assert_eq!(again.framing, framing);
    assert!(!again.keeps_alive() && !again.expects_continue);
    // Our own `Connection: close` names a field called so, which therefore does not go on twice.
    if values(fields, "close").is_empty() {
        let twice = upstream_request(&again, &target, "upstream.test:8443", BODY_BYTES);
        assert_eq!(twice.escape_ascii().to_string(), written.escape_ascii().to_string());
    }
}

/// What [`upstream_request`] says that it leaves out, replaces and adds.
fn expected_upstream(head: &RequestHead, fields: &[Field], body_bytes: usize) -> Vec<Field> {
    let mut kept = end_to_end(fields);
    // Host and Accept-Encoding are ours in any case, so nobody can name them away.
    let (host, encoding) = ("host", "accept-encoding");
    if kept.len() < fields.len() {
        let goes_on = |field: &&Field| {
            kept.contains(field) || [host, encoding].iter().any(|name| field.0.eq_ignore_ascii_case(name))
        };
        kept = fields.iter().filter(goes_on).cloned().collect();
    }
    let is = |field: &Field, name: &str| field.0.eq_ignore_ascii_case(name);
    kept.retain(|field| !["expect", "trailer", CLIENT_TOKEN_FIELD].iter().any(|name| is(field, name)));
    let mut encodings = 0;
    kept.retain(|field| {
        encodings += usize::from(is(field, encoding));
        !is(field, encoding) || encodings == 1
    });
    for field in &mut kept {
        if is(field, host) {
            field.1 = b"upstream.test:8443".to_vec();
        } else if is(field, encoding) {
            field.1 = b"identity".to_vec();
        }
    }
    let mut add = |name: &str, value: &str| kept.push((name.to_owned(), value.as_bytes().to_vec()));
    if values(fields, host).is_empty() {
        add("Host", "upstream.test:8443");
    }
    if encodings == 0 {
        add("Accept-Encoding", "identity");
    }
    if head.framing == Framing::Chunked {
        add("Content-Length", &body_bytes.to_string());
    }
    add("Connection", "close");
    kept
}
