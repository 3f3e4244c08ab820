//! Who looks: a dashboard that is open, and Prometheus.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::ending::Ending;
use crate::support::client::Client;

/// A page, and how often it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) path: &'static str,
    /// The time between two looks; `None` for once per visit.
    pub(crate) every: Option<Duration>,
    /// Who looks so often.
    pub(crate) by: &'static str,
}

/// What is looked at, and how often. A dashboard asks for the last hour as a whole once, and then for what is new; it
/// never has to be older than the day.
pub(crate) const LOOKS: [Look; 6] = [
    Look { path: "/usage", every: Some(Duration::from_secs(1)), by: "the dashboard" },
    Look { path: "/history?since=9999999999", every: Some(Duration::from_secs(10)), by: "the dashboard" },
    Look { path: "/metrics", every: Some(Duration::from_secs(15)), by: "Prometheus" },
    Look { path: "/dashboard", every: None, by: "the dashboard" },
    Look { path: "/history", every: None, by: "the dashboard" },
    Look { path: "/settings", every: None, by: "the dashboard" },
];

/// Looks at everything as often as it is looked at, until the end is called.
pub(crate) fn watch(proxy: SocketAddr, ending: &Ending) {
    let mut client = Client::connect(proxy);
    let mut due: Vec<(Instant, Look)> = LOOKS.iter().map(|look| (Instant::now(), *look)).collect();
    while let Some((at, look)) = due.iter_mut().min_by_key(|(at, _)| *at) {
        if ending.pause(at.saturating_duration_since(Instant::now())).is_err() {
            return;
        }
        fetch(&mut client, look.path);
        if let Some(every) = look.every {
            *at += every;
        } else {
            let seen = look.path;
            due.retain(|(_, look)| look.path != seen);
        }
    }
}

/// Asks for a page on a connection that is kept. Gives its length.
pub(crate) fn fetch(client: &mut Client, path: &str) -> usize {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(request.as_bytes()).expect("the proxy takes it");
    let head = client.try_read_head().expect("it answers");
    assert_eq!(head.status, 200, "{path}");
    client.read_body_to_end().expect("it answers whole").text().len()
}
