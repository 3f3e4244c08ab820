//! Who looks: a dashboard that is open, and Prometheus.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

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

/// Everybody who looks, on one connection that is kept. Their time goes on while they look, and stands still meanwhile.
pub(crate) struct Lookers {
    client: Client,
    /// For how long they have looked.
    looked: Duration,
    /// What is due, by that time.
    due: Vec<(Duration, Look)>,
}

impl Lookers {
    /// Those who look again and again; what they ask for once, they have asked for.
    pub(crate) fn at(proxy: SocketAddr) -> Self {
        let mut client = Client::connect(proxy);
        let (again, once): (Vec<Look>, Vec<Look>) = LOOKS.iter().partition(|look| look.every.is_some());
        for look in once {
            fetch(&mut client, look.path);
        }
        let due = again.into_iter().map(|look| (Duration::ZERO, look)).collect();
        Self { client, looked: Duration::ZERO, due }
    }

    /// Look for so long.
    pub(crate) fn look_for(&mut self, span: Duration) {
        let (from, until) = (Instant::now(), self.looked + span);
        while let Some((at, look)) =
            self.due.iter_mut().min_by_key(|(at, _)| *at).filter(|(at, _)| *at < until)
        {
            std::thread::sleep(
                (from + at.saturating_sub(self.looked)).saturating_duration_since(Instant::now()),
            );
            fetch(&mut self.client, look.path);
            *at += look.every.expect("these are asked for again and again");
        }
        std::thread::sleep((from + span).saturating_duration_since(Instant::now()));
        self.looked = until;
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
