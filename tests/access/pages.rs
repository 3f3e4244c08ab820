//! What the proxy's own pages tell browsers, and which methods they know.

use crate::{
    assert_no_cors,
    support::wire::{error_code, pair},
};

const PAGES: [&str; 5] = ["/", "/?probe", "/health", "/usage", "/metrics"];

/// What stands on every page, whatever its content.
const PROTECTION: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

#[test]
fn pages_are_kept_by_no_cache_and_used_by_no_other_site() {
    let (_fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    for (method, path) in ["GET", "HEAD"].into_iter().flat_map(|method| PAGES.map(|path| (method, path))) {
        client.request(method, path, &[], b"");
        let response = client.read_response();
        assert_eq!(response.status(), 200, "{method} {path}");
        assert_eq!(response.body.bytes.is_empty(), method == "HEAD", "{method} {path}");
        for (name, value) in PROTECTION {
            assert_eq!(response.header(name), Some(value), "{method} {path}");
        }
        assert_no_cors(&response);
    }
}

#[test]
fn pages_know_get_and_head_alone() {
    let (fake, proxy) = pair(&[]);
    for (method, path) in
        ["POST", "PUT", "DELETE", "OPTIONS"].into_iter().flat_map(|method| PAGES.map(|path| (method, path)))
    {
        let mut client = proxy.connect();
        client.request(method, path, &[], b"");
        let response = client.read_response();
        assert_eq!(
            (response.status(), response.header("allow")),
            (405, Some("GET, HEAD")),
            "{method} {path}"
        );
        assert_eq!(error_code(path, &response), "bad_request", "{method} {path}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_no_cors(&response);
    }
    assert_eq!(fake.statistics().connections, 0, "none of it is Fireworks' business");
}
