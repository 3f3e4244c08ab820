//! One response on its way from the upstream to the client.
//!
//! Bytes pass as they come, with their framing checked, and are never held for more than the client
//! takes to read them. Where both sides can, the upstream's own framing is kept to the byte; two
//! clients need another: HTTP/1.0 knows no chunks, and a body that ends with the connection is
//! chunked for HTTP/1.1, so that a cut cannot be mistaken for its end.

use crate::{
    http::{
        HttpError,
        body::BodyReader,
        head::{Framing, RequestHead, ResponseHead, Version},
        write,
    },
    outbox::Outbox,
    usage::Meter,
};

/// A response whose head has been passed on.
#[derive(Debug)]
pub struct Relay {
    /// The response's status.
    pub status: u16,
    /// Reads the usage.
    pub meter: Meter,
    /// Whether the client's connection can serve another request afterwards.
    pub keeps_alive: bool,
    reader: BodyReader,
    mode: Mode,
}

/// What the client gets of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Its bytes with their framing.
    Verbatim,
    /// The payload alone.
    Unframed,
    /// The payload in chunks of ours.
    Chunked,
}

impl Relay {
    /// Passes on the head of the response to `request`, with the fields in `extra` added.
    pub fn begin(
        request: &RequestHead,
        response: &ResponseHead,
        extra: &[(&str, &str)],
        client: &mut Outbox,
    ) -> Self {
        let mode = match (request.version, response.framing) {
            (Version::Http10, Framing::Chunked) => Mode::Unframed,
            (Version::Http11, Framing::UntilClose) => Mode::Chunked,
            _ => Mode::Verbatim,
        };
        let is_chunked =
            mode == Mode::Chunked || (mode == Mode::Verbatim && response.framing == Framing::Chunked);
        let keeps_alive = request.keeps_alive();
        client.push(&write::relayed_response(response, is_chunked, !keeps_alive, extra));
        Self {
            status: response.status,
            meter: Meter::new(response.fields.text("content-type"), response.fields.text("content-encoding")),
            keeps_alive,
            reader: BodyReader::new(response.framing),
            mode,
        }
    }

    /// Passes on the next bytes of the body. What comes behind its end is dropped: the connection
    /// serves no further request.
    ///
    /// # Errors
    /// The framing is malformed; the bytes up to there have been passed on.
    pub fn pass(&mut self, mut bytes: &[u8], client: &mut Outbox) -> Result<(), HttpError> {
        loop {
            let progress = self.reader.read(bytes)?;
            if progress.used == 0 {
                return Ok(());
            }
            self.meter.watch(progress.payload);
            match self.mode {
                Mode::Verbatim => client.push(&bytes[..progress.used]),
                Mode::Unframed => client.push(progress.payload),
                Mode::Chunked => {
                    client.push(write::chunk_size_line(progress.payload.len()).as_bytes());
                    client.push(progress.payload);
                    client.push(b"\r\n");
                }
            }
            bytes = &bytes[progress.used..];
        }
    }

    /// Whether the whole body has been passed on.
    pub fn is_ended(&self) -> bool {
        self.reader.is_ended()
    }

    /// The upstream closed the connection in good order. Whether the body ended with that.
    pub fn close(&mut self, client: &mut Outbox) -> bool {
        let ends_here = self.reader.may_close();
        if ends_here && self.mode == Mode::Chunked {
            client.push(write::LAST_CHUNK);
        }
        ends_here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{parse_request, parse_response};

    /// Relays a response to a request and gives what the client gets, and whether it is whole.
    fn relayed(version: &str, fields: &str, body: &[u8]) -> (String, bool) {
        let request = parse_request(format!("POST / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let response = parse_response(head.as_bytes(), "POST").expect("accepted");
        let mut client = Outbox::default();
        let mut relay = Relay::begin(&request.expect("accepted"), &response, &[], &mut client);
        relay.pass(body, &mut client).expect("well framed");
        let is_whole = relay.is_ended() || relay.close(&mut client);
        (String::from_utf8_lossy(client.pending()).into_owned(), is_whole)
    }

    const CHUNKS: &[u8] = b"3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n";

    #[test]
    fn the_upstreams_framing_is_kept_to_the_byte() {
        let (text, is_whole) = relayed("1.1", "transfer-encoding: chunked\r\n", CHUNKS);
        assert!(is_whole && text.ends_with("\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"), "{text}");
        assert!(text.contains("Transfer-Encoding: chunked\r\n") && !text.contains("Connection"));
        let (text, is_whole) = relayed("1.1", "content-length: 3\r\n", b"abcdef");
        assert!(is_whole && text.ends_with("content-length: 3\r\n\r\nabc"), "{text}");
    }

    #[test]
    fn an_old_client_gets_no_chunks() {
        let (text, is_whole) = relayed("1.0", "transfer-encoding: chunked\r\n", CHUNKS);
        assert!(is_whole && text.ends_with("Connection: close\r\n\r\nabc"), "{text}");
        assert!(!text.contains("ransfer"));
    }

    #[test]
    fn a_body_that_ends_with_the_connection_is_chunked() {
        let (text, is_whole) = relayed("1.1", "", b"abc");
        assert!(is_whole && text.ends_with("chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{text}");
        let (text, _) = relayed("1.0", "", b"abc");
        assert!(text.ends_with("close\r\n\r\nabc"), "{text}");
    }

    #[test]
    fn a_cut_is_not_an_end() {
        let (text, is_whole) = relayed("1.1", "transfer-encoding: chunked\r\n", b"3\r\nabc\r\n");
        assert!(!is_whole && text.ends_with("3\r\nabc\r\n"));
        assert!(!relayed("1.1", "content-length: 4\r\n", b"abc").1);
    }
}
