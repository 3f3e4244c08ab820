//! How everything comes to rest after the load, and how the proxy ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::Sample;
use crate::support::binary::{Binary, SOON};
use crate::support::client::Client;
use crate::support::fake::{FakeFireworks, Statistics};

/// How long everything may take to come to rest after the load has gone: nothing is kept for a client that has left,
/// and the rest is for a loaded machine.
const REST_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at whether it has.
const REST_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How everything came to rest after the load had gone.
#[derive(Default)]
pub(crate) struct Rest {
    /// How long it took.
    pub(crate) took: Duration,
    /// What was the last to do so.
    pub(crate) last: Vec<String>,
    /// What had not done so in time.
    pub(crate) missing: Vec<String>,
}

/// Waits until nothing is under way any more. Gives the page that says so, and how it came to that.
pub(crate) fn come_to_rest(
    proxy: &Binary,
    fake: &FakeFireworks,
    before: Option<Sample>,
) -> (Option<Value>, Rest) {
    let (began, mut rest) = (Instant::now(), Rest::default());
    loop {
        // Before the page is asked for: that takes a connection too, which may not be gone at once.
        let now = Sample::take(proxy.pid(), Duration::ZERO);
        let page = usage(proxy.address());
        let unrest = unrest(page.as_ref(), &fake.statistics(), before, now);
        rest.took = began.elapsed();
        if unrest.is_empty() || page.is_none() {
            return (page, rest);
        }
        if rest.took > REST_WITHIN {
            rest.missing = unrest;
            return (page, rest);
        }
        rest.last = unrest;
        std::thread::sleep(REST_LOOK_EVERY);
    }
}

/// What is still under way, at the proxy and at the upstream.
fn unrest(
    page: Option<&Value>,
    statistics: &Statistics,
    before: Option<Sample>,
    now: Option<Sample>,
) -> Vec<String> {
    let at_proxy = |name: &str| page.and_then(|page| page["requests"][name].as_u64()).unwrap_or(0);
    let (before, now) =
        (before.map_or(0, |sample| sample.descriptors), now.map_or(0, |sample| sample.descriptors));
    let counts = [
        (at_proxy("queued"), "requests queued"),
        (at_proxy("in_flight"), "requests in flight"),
        (now.saturating_sub(before) as u64, "descriptors more than before the first request"),
        (statistics.in_flight, "requests being answered by the upstream"),
        (statistics.connections_open, "connections open at the upstream"),
    ];
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

/// `/usage`, unless the proxy does not answer.
pub(crate) fn usage(proxy: SocketAddr) -> Option<Value> {
    let mut client = Client::try_connect(proxy).ok()?;
    client.send(b"GET /usage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    client.try_read_head().ok()?;
    serde_json::from_slice(&client.read_body_to_end().ok()?.bytes).ok()
}

/// Tells the proxy to end; gives whether it did so in good order, and its log.
pub(crate) fn end_proxy(proxy: Binary, is_alive: bool) -> (Result<(), String>, Vec<String>) {
    #[cfg(unix)]
    if is_alive {
        proxy.signal("TERM");
        let (status, log, _) = proxy.try_wait_for_end();
        let ended = match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("told to end, it ended with {status}")),
            None => Err(format!("told to end when nothing was under way, it had not after {SOON:?}")),
        };
        return (ended, log);
    }
    let ended = if is_alive { Ok(()) } else { Err("it did not answer".to_owned()) };
    (ended, proxy.kill().0)
}
