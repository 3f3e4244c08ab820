//! The fields of a head (RFC 9110, section 5), and which of them are the connection's own.

use std::fmt;

use super::{HttpError, is_token};

/// Fields that concern one connection alone, whether or not `Connection` names them (RFC 9110, section
/// 7.6.1; RFC 9112, section 6.1; RFC 7540, section 3.2.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields that are for everybody on the way: framing, routing, content and credentials. Nobody may name
/// them in `Connection` (RFC 9110, section 7.6.1). To leave them out would change the message, and to keep
/// them would break the rule that what is named goes no further.
const END_TO_END: [&str; 7] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "x-api-key",
];

/// The fields of a head, in the order and spelling in which they came.
#[derive(Clone, Default)]
pub struct Fields {
    list: Vec<(Box<str>, Box<[u8]>)>,
}

/// Names without values: some of these are credentials.
impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// Takes over what was split, and checks what `Connection` names.
    pub(super) fn collect(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let entry = |header: &httparse::Header<'_>| (header.name.into(), header.value.trim_ascii().into());
        let fields = Self { list: headers.iter().map(entry).collect() };
        // An empty element of a list counts as none (RFC 9110, section 5.6.1.2).
        for option in fields.all("connection").flat_map(elements).filter(|option| !option.is_empty()) {
            if !is_token(option) {
                return Err(HttpError::Malformed("a Connection option is not a token"));
            }
            if END_TO_END.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes())) {
                return Err(HttpError::Malformed("Connection names a field that is not the connection's"));
            }
        }
        Ok(fields)
    }

    /// Every field: its name as spelled and its value without surrounding white space.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The values of every field of that name, compared without case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of that name, where it is UTF-8 text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether a comma-separated list field holds `token`, compared without case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether a field concerns this connection alone and must not be forwarded (RFC 9110, section
    /// 7.6.1): the well-known ones and those that `Connection` names.
    pub fn is_hop_by_hop(&self, name: &str) -> bool {
        HOP_BY_HOP.iter().any(|other| name.eq_ignore_ascii_case(other)) || self.lists("connection", name)
    }
}

fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
