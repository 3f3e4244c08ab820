//! What the tests of the wire share: request bodies, a fake with its proxy, twins to compare with, and the pages.
//!
//! Nothing here waits for a fixed time: a page is asked again until it says what is awaited, or [`SOON`] is over.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Client, Response},
    fake::{FakeFireworks, FakeOptions, RecordedRequest},
    proxy::ProxyUnderTest,
};

/// Long enough for a busy machine. Only a failing test waits for all of it.
pub const SOON: Duration = Duration::from_secs(20);

pub const CHAT: &str = "/v1/chat/completions";
pub const MESSAGES: &str = "/v1/messages";
pub const RESPONSES: &str = "/v1/responses";

/// Each dialect's path with what its streams end with.
pub const STREAM_ENDS: [(&str, &str); 3] = [
    (CHAT, "data: [DONE]\n\n"),
    (MESSAGES, "data: {\"type\":\"message_stop\"}\n\n"),
    (RESPONSES, "\"type\":\"response.completed\""),
];

/// What makes a request cost 1,200 prompt tokens, 1,024 of them cached, and 42 generated ones.
pub const COST: [(&str, &str); 3] =
    [("x-fake-prompt-tokens", "1200"), ("x-fake-cached-tokens", "1024"), ("x-fake-generated", "42")];

/// A request body that every dialect understands.
pub fn body_of(model: &str, stream: bool) -> String {
    let text = "Say something about harbours.";
    let messages = json!([{"role": "user", "content": text}]);
    json!({"model": model, "stream": stream, "max_tokens": 1000, "messages": messages, "input": text, "prompt": text})
        .to_string()
}

/// A JSON body of more than so many bytes, no two stretches of it alike.
pub fn large_body(bytes: usize) -> Vec<u8> {
    let mut picture = String::with_capacity(bytes + 32);
    let mut state = 1_u64;
    while picture.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(picture, "{:x}", state >> 8).expect("a String takes every write");
    }
    let url = format!("data:image/png;base64,{picture}");
    let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
    json!({"messages": [{"role": "user", "content": content}], "model": "m"}).to_string().into_bytes()
}

/// Pieces of a body whose sizes go up and down between 1 and 8,000 bytes.
pub fn pieces(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut sizes = [1, 7, 8_000, 131, 1_460, 4_096, 3].into_iter().cycle();
    std::iter::from_fn(move || {
        let (piece, rest) = body.split_at(sizes.next()?.min(body.len()));
        body = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Sends a body in chunks, each with an extension, and a trailer.
#[track_caller]
pub fn send_in_chunks(client: &mut Client, body: &[u8]) {
    for piece in pieces(body) {
        let chunk = [format!("{:X};a=b\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        client.send(&chunk).expect("the proxy takes the chunk");
    }
    client.send(b"0\r\nX-Sum: 1\r\n\r\n").expect("the proxy takes the end");
}

/// A fake with nothing but defaults, and a proxy before it.
pub fn pair(settings: &[(&str, &str)]) -> (FakeFireworks, ProxyUnderTest) {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, settings);
    (fake, proxy)
}

/// A proxy before another upstream than a fake.
pub fn proxy_to(upstream: &str, settings: &[(&str, &str)]) -> ProxyUnderTest {
    let folder = tempfile::tempdir().expect("a folder for the state file");
    ProxyUnderTest::start_with(folder, &[&[("UPSTREAM", upstream)], settings].concat())
}

/// A TLS connection straight to a fake.
pub fn direct(fake: &FakeFireworks) -> Client {
    Client::connect_tls(fake.address(), "localhost", fake.client_config())
}

/// The only request that a fake has received.
#[track_caller]
pub fn the_request(fake: &FakeFireworks) -> RecordedRequest {
    let mut requests = fake.requests();
    assert_eq!(requests.len(), 1, "{requests:#?}");
    requests.remove(0)
}

/// Two like fakes, one with the proxy before it: what is sent to both must be answered alike. A fake numbers its
/// answers, so each comparison has to reach both.
pub struct Twins {
    pub plain: FakeFireworks,
    pub proxied: FakeFireworks,
    pub proxy: ProxyUnderTest,
}

impl Twins {
    pub fn start() -> Self {
        Self::start_with(&FakeOptions::default(), &[])
    }

    pub fn start_with(options: &FakeOptions, settings: &[(&str, &str)]) -> Self {
        let [plain, proxied] = [(); 2].map(|()| FakeFireworks::start(options.clone()));
        let proxy = ProxyUnderTest::start(&proxied, settings);
        Self { plain, proxied, proxy }
    }

    /// The answers to one request, each on a connection of its own: straight, and through the proxy.
    #[track_caller]
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (Response, Response) {
        let headers = [headers, &[("Connection", "close")]].concat();
        let mut straight = direct(&self.plain);
        straight.request(method, &format!("/inference{path}"), &headers, body.as_bytes());
        let mut through = self.proxy.connect();
        through.request(method, path, &headers, body.as_bytes());
        (straight.read_response(), through.read_response())
    }
}

/// The lines of a response's head without those that may differ: the framing, the connection, and the wait.
pub fn lasting_lines(response: &Response) -> Vec<String> {
    const MAY_DIFFER: [&str; 3] = ["connection:", "transfer-encoding:", "x-fireworks-proxy-"];
    let text = String::from_utf8_lossy(&response.head.raw).into_owned();
    let lasts = |line: &&str| !MAY_DIFFER.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    text.lines().filter(lasts).map(str::to_owned).collect()
}

/// Checks that two bodies have the same bytes, and where both are chunked, the same chunks.
#[track_caller]
pub fn assert_same_body(through: &Response, straight: &Response) {
    assert_eq!(through.text(), straight.text());
    assert_eq!(through.body.bytes, straight.body.bytes);
    let are_chunked =
        [through, straight].iter().all(|response| response.header("transfer-encoding").is_some());
    if are_chunked {
        assert_eq!(through.body.chunks, straight.body.chunks);
    }
}

/// Reads a page until it says what is awaited. Panics when it does not come to say it.
#[track_caller]
pub fn await_page(read: impl Fn() -> Value, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let page = read();
        if holds(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "it never came: {page:#}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lane of a model on the page `/usage`. Panics when there is none.
#[track_caller]
pub fn lane_of(usage: &Value, model: &str) -> Value {
    let lanes = usage["lanes"].as_array().expect("a list of lanes");
    let lane = lanes.iter().find(|lane| lane["model"] == model);
    lane.unwrap_or_else(|| panic!("no lane of {model}: {usage:#}")).clone()
}

/// What a lane has used of its three budgets, checked to have nothing reserved any more.
#[track_caller]
pub fn settled(lane: &Value) -> [u64; 3] {
    ["prompt", "uncached_prompt", "generated"].map(|dimension| {
        let budget = &lane["budgets"][dimension];
        assert_eq!(budget["reserved"], 0, "{lane:#}");
        budget["used_60s"].as_u64().expect("a number of tokens")
    })
}

/// The code of an error in the dialect of its path. Panics when the envelope is of another dialect.
#[track_caller]
pub fn error_code(path: &str, response: &Response) -> String {
    let json = response.json();
    let error = &json["error"];
    let is_anthropic = path.starts_with(MESSAGES);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(json["type"] == "error", is_anthropic, "{path}: {json}");
    assert_eq!(error.get("param").is_some(), !is_anthropic, "{path}: {json}");
    assert!(error["type"].is_string() && error["message"].is_string(), "{path}: {json}");
    error["code"].as_str().expect("a code").to_owned()
}
