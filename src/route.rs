//! Where a request goes: a page of the proxy's own, or on to the upstream.

use crate::config::Upstream;

/// What a request's method and target ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A page of the proxy's own.
    Page(Page),
    /// One of these, with a method that it does not know.
    PageMethodNotAllowed,
    /// Everything else.
    Forward(Forward),
}

/// A page of the proxy's own. All of them know `GET` and `HEAD` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/`: a sign of life. Claude Code probes it with `HEAD`, without a key.
    Root,
    /// `/dashboard`: what the others say, for people.
    Dashboard,
    /// `/health`: whether the proxy works.
    Health,
    /// `/usage`: what goes on now, and the day.
    Usage,
    /// `/history`: the last hour.
    History,
    /// `/settings`: what is in force, and where it came from.
    Settings,
    /// `/metrics`: the counters, for Prometheus.
    Metrics,
}

impl Page {
    /// Every page, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Dashboard,
        Self::Health,
        Self::Usage,
        Self::History,
        Self::Settings,
        Self::Metrics,
    ];

    /// Its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Dashboard => "/dashboard",
            Self::Health => "/health",
            Self::Usage => "/usage",
            Self::History => "/history",
            Self::Settings => "/settings",
            Self::Metrics => "/metrics",
        }
    }

    /// Whether it tells anything of what the proxy does. The dashboard by itself is the same for everybody; what it
    /// shows it asks the other pages for, with the secret if there is one, which browsers cannot send with an address.
    pub const fn shows_something(self) -> bool {
        !matches!(self, Self::Dashboard)
    }

    /// The page of a target, whatever its query.
    pub fn of(target: &str) -> Option<Self> {
        let path = without_query(target);
        Self::ALL.into_iter().find(|page| page.path() == path)
    }
}

/// A request for the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The target at the upstream, with its base path and the query.
    pub target: String,
    /// Whether it makes the model work, and so costs tokens.
    pub is_generation: bool,
    /// Whether sending it twice does no more than cost twice, although it is a POST: true of the endpoints
    /// that answer and create nothing.
    pub may_repeat: bool,
    /// The dialect of its answers.
    pub dialect: Dialect,
}

/// How errors are worded on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"type":"error","error":{"type":…,"message":…}}`
    Anthropic,
    /// `{"error":{"message":…,"type":…,"param":…,"code":…}}`
    OpenAi,
}

impl Dialect {
    /// The dialect spoken at a target: Anthropic's under `messages`, OpenAI's elsewhere.
    pub fn of(target: &str) -> Self {
        let path = without_query(target);
        if path.split('/').any(|segment| segment == "messages") { Self::Anthropic } else { Self::OpenAi }
    }
}

/// Decides where a request goes.
pub fn route(method: &str, target: &str, upstream: &Upstream) -> Route {
    match Page::of(target) {
        Some(page) if matches!(method, "GET" | "HEAD") => Route::Page(page),
        Some(_) => Route::PageMethodNotAllowed,
        None => Route::Forward(forward(method, target, &upstream.base_path)),
    }
}

fn forward(method: &str, target: &str, base_path: &str) -> Forward {
    let has_base =
        target.strip_prefix(base_path).is_some_and(|rest| rest.starts_with(['/', '?']) || rest.is_empty());
    let own_path = without_query(if has_base { &target[base_path.len()..] } else { target });
    Forward {
        target: if has_base { target.to_owned() } else { format!("{base_path}{target}") },
        is_generation: method == "POST" && is_generation(own_path),
        may_repeat: method == "POST" && only_answers(own_path),
        dialect: Dialect::of(own_path),
    }
}

/// The endpoints that answer and create nothing.
const ENDPOINTS: [&str; 6] =
    ["/chat/completions", "/completions", "/messages", "/responses", "/embeddings", COUNT_TOKENS];

/// The one of them that costs nothing.
const COUNT_TOKENS: &str = "/count_tokens";

/// Everything sent with POST under `/v1/` but `count_tokens`, and the known endpoints wherever they are.
fn is_generation(path: &str) -> bool {
    let is_counted = path.starts_with("/v1/") || only_answers(path);
    is_counted && !path.trim_end_matches('/').ends_with(COUNT_TOKENS)
}

fn only_answers(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    ENDPOINTS.iter().any(|endpoint| path.ends_with(endpoint))
}

/// The query of a target, without its question mark; empty where there is none.
pub fn query_of(target: &str) -> &str {
    target.split_once('?').map_or("", |(_, query)| query)
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_fireworks(method: &str, target: &str) -> Route {
        route(method, target, &Upstream::parse("https://api.fireworks.ai/inference").expect("a base URL"))
    }

    fn forwarded(method: &str, target: &str) -> Forward {
        match to_fireworks(method, target) {
            Route::Forward(forward) => forward,
            other => panic!("{method} {target}: {other:?}"),
        }
    }

    #[test]
    fn own_pages_are_read_only() {
        for (target, page) in [("/", Page::Root), ("/?x=1", Page::Root), ("/usage", Page::Usage)] {
            for method in ["GET", "HEAD"] {
                assert_eq!(to_fireworks(method, target), Route::Page(page));
            }
        }
        assert_eq!(to_fireworks("POST", "/usage"), Route::PageMethodNotAllowed);
        assert_eq!(to_fireworks("POST", "/?x"), Route::PageMethodNotAllowed);
        assert_eq!(forwarded("GET", "/healthy").target, "/inference/healthy");
    }

    #[test]
    fn the_base_path_is_put_before_the_target_once() {
        assert_eq!(forwarded("POST", "/v1/messages?beta=true").target, "/inference/v1/messages?beta=true");
        assert_eq!(forwarded("POST", "/inference/v1/messages").target, "/inference/v1/messages");
        assert_eq!(forwarded("GET", "/inference?x").target, "/inference?x");
        assert_eq!(forwarded("GET", "/inferences/v1").target, "/inference/inferences/v1");
        let bare = Upstream::parse("https://host").expect("a base URL");
        let Route::Forward(forward) = route("GET", "/v1/models", &bare) else { panic!("not forwarded") };
        assert_eq!(forward.target, "/v1/models");
    }

    #[test]
    fn generation_is_what_is_posted_under_v1() {
        for target in [
            "/v1/chat/completions",
            "/v1/messages?beta=true",
            "/v1/responses",
            "/v1/embeddings",
            "/v1/something/new",
            "/inference/v1/messages",
            "/chat/completions",
        ] {
            assert!(forwarded("POST", target).is_generation, "{target}");
        }
        for (method, target) in [
            ("GET", "/v1/models"),
            ("POST", "/v1/messages/count_tokens"),
            ("POST", "/v1/messages/count_tokens?beta=true"),
            ("DELETE", "/v1/responses"),
            ("POST", "/other"),
        ] {
            assert!(!forwarded(method, target).is_generation, "{method} {target}");
        }
    }

    #[test]
    fn what_creates_something_is_not_repeated() {
        for target in ["/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens", "/v1/responses/"]
        {
            assert!(forwarded("POST", target).may_repeat, "{target}");
        }
        for target in ["/v1/files", "/v1/batches", "/v1/responses/abc/cancel"] {
            assert!(!forwarded("POST", target).may_repeat, "{target}");
        }
    }

    #[test]
    fn the_dialect_follows_the_path() {
        assert_eq!(forwarded("POST", "/v1/messages").dialect, Dialect::Anthropic);
        assert_eq!(forwarded("POST", "/v1/messages/count_tokens").dialect, Dialect::Anthropic);
        assert_eq!(forwarded("POST", "/v1/chat/completions").dialect, Dialect::OpenAi);
        assert_eq!(forwarded("GET", "/v1/models?for=/messages").dialect, Dialect::OpenAi);
    }
}
