//! The head of a request, and where its content ends (RFC 9112, sections 3, 5 and 6).

use std::mem::MaybeUninit;

use actix_http::Request;
use actix_web::http::header::{CONNECTION, EXPECT};
use actix_web::http::{Method, Uri, Version};
use actix_web::web::BytesMut;
use memchr::memchr_iter;

use super::response::Client;
use crate::error::{Error, Kind};
use crate::http1::lines::{Framing, FramingError, Lines, lower_version, place, says};

/// The largest head, in bytes, and the most lines in it. The edge asks for less, and says so under the request's own
/// id.
const LIMIT: usize = 128 * 1024;
const LINES: usize = 128;

/// A request without its content.
pub(super) struct Head {
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// Whether another may come over this connection.
    pub(super) keeps: bool,
    /// Whether the client waits for a word before it sends content.
    pub(super) expects: bool,
    pub(super) client: Client,
}

/// Whether a head may end in `bytes`.
pub(super) fn may_end(bytes: &[u8]) -> bool {
    let breaks = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut behind = breaks.map(|(at, _)| &bytes[at + 1..]);
    behind.any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

/// Whether a line of `head` ends without a carriage return, at `from` or behind it. It could be the end of a line to
/// somebody, and none to somebody else (RFC 9112, section 2.2).
pub(super) fn has_bare_line_feed(head: &[u8], from: usize) -> bool {
    let mut feeds = memchr_iter(b'\n', &head[from..]);
    feeds.any(|at| (from + at).checked_sub(1).is_none_or(|before| head[before] != b'\r'))
}

/// What such a client is told.
pub(super) const BARE_LINE_FEED: &str = "a line ends in a bare line feed";

/// Takes the head of a request from `input`; nothing while it is not all there.
///
/// # Errors
/// 400, 414, 431 or 501. Nobody can tell what comes behind it.
pub(super) fn take(input: &mut BytesMut) -> Result<Option<Head>, Error> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, &mut lines) {
        Ok(httparse::Status::Complete(length)) if has_bare_line_feed(&input[..length], 0) => {
            return Err(malformed(BARE_LINE_FEED));
        }
        Ok(httparse::Status::Complete(length)) if length <= LIMIT => length,
        Ok(httparse::Status::Partial) if input.len() <= LIMIT => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Error::new(Kind::HeadTooLarge, "the head is too large"));
        }
        Err(httparse::Error::Version) if lower_version(input) => return take(input),
        Err(_) => return Err(malformed("the request is not one of HTTP/1.1")),
    };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| malformed("the method is none"))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let target = place(parsed.path.unwrap_or_default().as_bytes(), input);
    let lines = Lines::of(parsed.headers, input).map_err(malformed)?;
    let bytes = input.split_to(length).freeze();
    if target.len() > usize::from(u16::MAX) {
        return Err(Error::new(Kind::TargetTooLong, "the target is too long"));
    }
    let is_old = version == Version::HTTP_10;
    let framing = Framing::of(&lines, &bytes, is_old).map_err(|error| match error {
        FramingError::Malformed(detail) => malformed(detail),
        FramingError::UnknownCoding => Error::new(Kind::NotImplemented, error.to_string()),
    })?;
    let says = |name, word| says(lines.get_all(name, &bytes), word);
    let keeps = (!is_old || says(CONNECTION, "keep-alive")) && !says(CONNECTION, "close");
    // In HTTP/1.0 nobody waits.
    let expects = !is_old && says(EXPECT, "100-continue");
    let client = Client { is_old, asks_for_head: method == Method::HEAD };
    let uri = Uri::from_maybe_shared(bytes.slice(target));
    let mut request = Request::new();
    let head = request.head_mut();
    head.uri = uri.map_err(|_| malformed("the target is none"))?;
    for line in lines.cut(&bytes, |_| true) {
        let (name, value) = line.map_err(malformed)?;
        head.headers.append(name, value);
    }
    (head.method, head.version) = (method, version);
    Ok(Some(Head { request, framing, keeps, expects, client }))
}

pub(super) fn malformed(detail: &'static str) -> Error {
    Error::new(Kind::Malformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<Head>, Kind> {
        take(&mut BytesMut::from(head)).map_err(|error| error.kind())
    }

    /// The head of a POST with these lines.
    fn post(version: &str, lines: &str) -> Option<Head> {
        read(&format!("POST / HTTP/1.{version}\r\n{lines}\r\n")).ok()?
    }

    #[test]
    fn content_ends_in_one_way_or_the_request_is_refused() {
        let framing = |lines| post("1", lines).map(|head| head.framing);
        let none = Framing { chunked: false, length: None };
        assert_eq!(framing(""), Some(none));
        let length = Some(5);
        assert_eq!(framing("content-length: 5\r\n"), Some(Framing { length, ..none }));
        let chunked = Framing { chunked: true, ..none };
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Some(chunked));
        for bad in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "content-length: +5\r\n",
            "content-length:\r\n",
        ] {
            assert_eq!(framing(bad), None, "{bad:?}");
        }
        assert!(post("0", "transfer-encoding: chunked\r\n").is_none());
    }

    #[test]
    fn a_connection_is_kept_as_the_client_says() {
        let keeps = |version, lines| post(version, lines).unwrap().keeps;
        assert!(keeps("1", ""));
        assert!(!keeps("1", "connection: x, Close\r\n"));
        assert!(!keeps("0", ""));
        assert!(keeps("0", "connection: Keep-Alive\r\n"));
        assert!(post("1", "expect: 100-continue\r\n").unwrap().expects);
        assert!(!post("0", "expect: 100-continue\r\n").unwrap().expects);
    }

    #[test]
    fn a_head_is_whole_or_wanting_or_none() {
        let mut input = BytesMut::from("\r\nGET /a?b HTTP/1.1\r\nx: 1\r\nempty:\r\n\r\nmore");
        let head = take(&mut input).unwrap().unwrap();
        assert_eq!(head.request.uri(), "/a?b");
        assert_eq!(head.request.head().headers.get("empty").unwrap(), "");
        assert_eq!(input, "more");
        assert!(read("GET / HTTP/1.1\r\nx: 1\r\n").unwrap().is_none());
        let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(count));
        assert!(read(&lines(LINES)).is_ok());
        assert_eq!(read(&lines(LINES + 1)).err(), Some(Kind::HeadTooLarge));
        let long = "x".repeat(LIMIT);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nx: {long}")).err(), Some(Kind::HeadTooLarge));
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", &long[..70_000]);
        assert_eq!(read(&target).err(), Some(Kind::TargetTooLong));
    }

    #[test]
    fn a_version_beyond_ours_is_read_as_ours() {
        for version in ["1.2", "1.9"] {
            let head = read(&format!("\r\nGET /HTTP/1.3 HTTP/{version}\r\nhost: a\r\n\r\n"));
            let head = head.unwrap().unwrap();
            assert_eq!(head.request.version(), Version::HTTP_11);
            assert_eq!(head.request.uri(), "/HTTP/1.3");
            assert!(head.keeps);
        }
        for bad in ["2.0", "1.10", "1.", "1.a", "0.9", "11.1"] {
            assert_eq!(read(&format!("GET / HTTP/{bad}\r\n\r\n")).err(), Some(Kind::Malformed));
        }
    }

    #[test]
    fn a_line_ends_in_both_characters() {
        for bad in ["GET / HTTP/1.1\n", "\nGET /", "GET / HTTP/1.1\r\nhost: a\n", "\r\n\n"] {
            assert!(has_bare_line_feed(bad.as_bytes(), 0), "{bad:?}");
        }
        assert!(!has_bare_line_feed(b"\r\nGET / HTTP/1.1\r\n\r\n", 0));
        assert!(!has_bare_line_feed(b"x\r\n", 2), "it began before");
        assert_eq!(read("GET / HTTP/1.1\nhost: a\n\n").err(), Some(Kind::Malformed));
        assert!(read("GET / HTTP/1.1\r\nhost: a\r\n\r\nbody\n").unwrap().is_some());
    }

    #[test]
    fn a_coding_that_nobody_knows_is_not_implemented() {
        let kind = |value: &str| {
            read(&format!("POST / HTTP/1.1\r\ntransfer-encoding: {value}\r\n\r\n")).err()
        };
        for unknown in ["gzip", "gzip, chunked", "identity", "xchunked", "x, y"] {
            assert_eq!(kind(unknown), Some(Kind::NotImplemented), "{unknown}");
        }
        for bad in ["chunked, chunked", "chunked, gzip", "", ",chunked", "chunked;q=1", "\"x\""] {
            assert_eq!(kind(bad), Some(Kind::Malformed), "{bad}");
        }
        assert_eq!(kind("Chunked"), None);
    }

    #[test]
    fn the_end_of_a_head_is_seen() {
        for end in ["x\r\n\r\n", "x\n\ny", "\n\r\n"] {
            assert!(may_end(end.as_bytes()), "{end:?}");
        }
        for more in ["", "\r\n", "x\r\ny\r\n", "\n\r"] {
            assert!(!may_end(more.as_bytes()), "{more:?}");
        }
    }
}
