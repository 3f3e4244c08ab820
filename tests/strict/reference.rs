//! A second opinion on what is well-formed: it shares no code with the proxy, and is stricter where the proxy
//! writes only one form.

/// A head: its first line and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The values of every field of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The only value of that name, if there is any.
    fn only(&self, name: &str) -> Result<Option<&[u8]>, String> {
        match self.all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(format!("{name} is there twice")),
        }
    }

    fn length(&self) -> Result<Option<usize>, String> {
        let Some(value) = self.only("content-length")? else { return Ok(None) };
        let text = String::from_utf8_lossy(value);
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number).map(Some).ok_or_else(|| format!("Content-Length: {text}"))
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// An answer, whole or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether its end has come.
    pub(crate) is_whole: bool,
}

/// The first request in `bytes`, as the proxy writes them, and how long it is. `None` if it is not whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some((head, start)) = head(bytes)? else { return Ok(None) };
    let words: Vec<&str> = head.line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(format!("request line {:?}", head.line)) };
    let is_target = target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method.as_bytes()) || !is_target {
        return Err(format!("request line {:?}", head.line));
    }
    if head.all("host").len() != 1 || head.all("connection") != [b"close"] {
        return Err(format!("Host or Connection: {head:?}"));
    }
    for name in ["transfer-encoding", "te", "trailer", "expect", "upgrade", "keep-alive", "proxy-connection"]
    {
        if !head.all(name).is_empty() {
            return Err(format!("{name} was passed on"));
        }
    }
    let end = start + head.length()?.unwrap_or(0);
    Ok(bytes.get(start..end).map(|body| (Request { body: body.to_vec(), head }, end)))
}

/// All answers in `bytes`, to requests with these methods. The last may not be whole.
pub(crate) fn answers(mut bytes: &[u8], methods: &[&str]) -> Result<Vec<Answer>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Some((head, start)) = head(bytes)? else {
            return Err(format!("half a head: {:?}", String::from_utf8_lossy(bytes)));
        };
        let status = status(&head.line)?;
        if status < 200 {
            bytes = &bytes[start..];
            continue;
        }
        let method = methods.get(found.len()).ok_or_else(|| format!("one answer too many: {head:?}"))?;
        let (body, end, is_whole) = body(&head, status, method, &bytes[start..])?;
        found.push(Answer { head, status, body, is_whole });
        bytes = &bytes[start + end..];
        if !is_whole && !bytes.is_empty() {
            return Err("something is behind an answer that is not whole".to_owned());
        }
    }
    Ok(found)
}

/// The body at the start of `bytes`: its payload, its length with its framing, and whether it is whole.
fn body(head: &Head, status: u16, method: &str, bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), String> {
    let (length, coding) = (head.length()?, head.only("transfer-encoding")?);
    if coding.is_some_and(|coding| coding != b"chunked") || (length.is_some() && coding.is_some()) {
        return Err(format!("framing: {head:?}"));
    }
    if status == 204 && (length.is_some() || coding.is_some()) {
        return Err(format!("a body is announced: {head:?}"));
    }
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok((Vec::new(), 0, true));
    }
    if coding.is_some() {
        return chunks(bytes);
    }
    // Without framing all is body, and only the connection's end tells the end.
    let end = length.unwrap_or(bytes.len()).min(bytes.len());
    Ok((bytes[..end].to_vec(), end, length.is_none_or(|length| length == end)))
}

fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), String> {
    let (mut payload, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(&bytes[at..])? else { return Ok((payload, bytes.len(), false)) };
        at += line.len() + 2;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or("a chunk's size")?;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|error| error.to_string())?;
        let end = at.saturating_add(size).min(bytes.len());
        payload.extend_from_slice(&bytes[at..end]);
        let behind = &bytes[end..bytes.len().min(end + 2)];
        match behind {
            b"\r\n" => at = end + 2,
            b"" | b"\r" => return Ok((payload, bytes.len(), false)),
            _ => return Err("no CRLF behind a chunk".to_owned()),
        }
    }
    loop {
        match line(&bytes[at..])? {
            None => return Ok((payload, bytes.len(), false)),
            Some(b"") => return Ok((payload, at + 2, true)),
            Some(trailer) => {
                field(trailer)?;
                at += trailer.len() + 2;
            }
        }
    }
}

fn status(line: &str) -> Result<u16, String> {
    let code =
        line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..4)).and_then(|code| code.strip_suffix(' '));
    let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    code.and_then(|code| code.parse().ok()).ok_or_else(|| format!("status line {line:?}"))
}

/// The head at the start of `bytes` and how long it is.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let (mut at, mut lines) = (0, Vec::new());
    loop {
        match line(&bytes[at..])? {
            None => return Ok(None),
            Some(b"") => break,
            Some(line) => {
                lines.push(line);
                at += line.len() + 2;
            }
        }
    }
    let (first, fields) = lines.split_first().ok_or("an empty line before a head")?;
    let fields = fields.iter().map(|line| field(line)).collect::<Result<_, _>>()?;
    // Only a reason phrase may hold other than ASCII, and the status is read before it.
    Ok(Some((Head { line: String::from_utf8_lossy(first).into_owned(), fields }, at + 2)))
}

/// The line at the start of `bytes`, without its CRLF.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").ok_or("a bare LF")?;
    let is_text = line.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..));
    if is_text {
        Ok(Some(line))
    } else {
        Err(format!("a control character in {:?}", String::from_utf8_lossy(line)))
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(format!("a field is called {:?}", String::from_utf8_lossy(name)));
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.trim_ascii().to_vec()))
}

fn is_token(text: &[u8]) -> bool {
    const OTHER: &[u8] = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || OTHER.contains(byte))
}

#[test]
fn the_second_opinion_is_an_opinion() {
    let whole = b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokGET";
    let (found, length) = request(whole).expect("well-formed").expect("whole");
    assert_eq!((found.body.as_slice(), length), (&b"ok"[..], whole.len() - 3));
    assert_eq!(request(&whole[..length - 1]), Ok(None));
    for bad in [
        "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET /x y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        assert!(request(bad.as_bytes()).is_err(), "{bad}");
    }
    let two =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 204 \r\n\r\n";
    let found = answers(two, &["GET", "GET"]).expect("well-formed");
    assert!(found.len() == 2 && found.iter().all(|answer| answer.is_whole));
    assert!(answers(two, &["GET"]).is_err(), "one too many");
    let cut = &answers(&two[..two.len() - 21], &["GET"]).expect("well-formed as far as it goes")[0];
    assert!(!cut.is_whole && cut.body == b"ok");
}
