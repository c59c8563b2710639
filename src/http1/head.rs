//! The heads of requests and responses (RFC 9112, sections 2 to 6): one parser for both.

use std::mem::MaybeUninit;

use actix_http::Request;
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use actix_web::http::{Method, StatusCode, Uri, Version};
use actix_web::web::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter};

use super::content::Framing;
use super::headers::{Headers, is_hop_by_hop};
use super::lines::{Lines, digits, is_token, range_in, says, words};

/// The largest head of a request and of a response, in bytes. The application may have a lower limit for requests.
const MAX_REQUEST: usize = 128 * 1024;
const MAX_RESPONSE: usize = 64 * 1024;
/// The most header lines of a head.
const MAX_LINES: usize = 128;

/// Why input is not the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// HTTP/1.1 does not allow it, or two parsers could read it differently.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has too many bytes or lines.
    #[error("the head is too large")]
    TooLarge,
    /// The request target is longer than a `Uri` can be.
    #[error("the target is too long")]
    TargetTooLong,
    /// The transfer coding is not implemented (section 6.1).
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// The head was not complete in time.
    #[error("the request came too slowly")]
    Slow,
}

/// A request without its content.
#[derive(Debug)]
pub struct RequestHead {
    /// The method, target, version and headers.
    pub request: Request,
    /// The framing of its content.
    pub framing: Framing,
    /// Whether the client may send another request over this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends content.
    pub expects_continue: bool,
}

impl RequestHead {
    /// Takes the head of a request from `input`; `None` while it is incomplete.
    ///
    /// # Errors
    /// When it is malformed. The rest of the connection cannot be parsed then.
    pub fn take(input: &mut BytesMut) -> Result<Option<Self>, HeadError> {
        let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(input, &mut lines) {
            Err(httparse::Error::Version) => {
                lower_version(input)?;
                return Self::take(input);
            }
            length => head_length(length, input, MAX_REQUEST)?,
        };
        let Some(length) = length else { return Ok(None) };
        if has_bare_line_feed(&input[..length], 0) {
            return Err(BARE_LINE_FEED);
        }
        let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
        let method = method.map_err(|_| HeadError::Malformed("invalid method"))?;
        let is_http10 = parsed.version != Some(1);
        let target = range_in(parsed.path.unwrap_or_default().as_bytes(), input);
        let lines = Lines::new(parsed.headers, input)?;
        let bytes = input.split_to(length).freeze();
        if target.len() > usize::from(u16::MAX) {
            return Err(HeadError::TargetTooLong);
        }
        let framing = framing(&lines, &bytes, is_http10)?.unwrap_or(Framing::Length(0));
        // A client of HTTP/1.0 does not wait for it (RFC 9110, section 10.1.1).
        let expects_continue = !is_http10 && says(lines.get_all(EXPECT, &bytes), "100-continue");
        let keep_alive = keep_alive(&lines, &bytes, is_http10);
        let uri = Uri::from_maybe_shared(bytes.slice(target));
        let mut request = Request::new();
        let head = request.head_mut();
        head.method = method;
        head.version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
        head.uri = uri.map_err(|_| HeadError::Malformed("invalid target"))?;
        for line in lines.into_headers(&bytes, |_| true) {
            let (name, value) = line?;
            head.headers.append(name, value);
        }
        Ok(Some(Self { request, framing, keep_alive, expects_continue }))
    }
}

/// A response without its content.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The end-to-end headers, without Content-Length.
    pub headers: Headers,
    /// Content-Length; of a response to HEAD and a 304, the length of the content that is not sent.
    pub declared: Option<u64>,
    /// The protocol that the peer switches to, if it does.
    pub protocol: Option<Box<HeaderValue>>,
    /// The framing of its content.
    pub framing: Framing,
    /// Whether the connection may be used again after the content.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Takes the head of a response, to HEAD if `is_head`, from `input`; `None` while it is incomplete.
    ///
    /// # Errors
    /// When it is malformed or its framing is ambiguous.
    pub fn take(input: &mut BytesMut, is_head: bool) -> Result<Option<Self>, HeadError> {
        let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
        let mut parsed = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let length = parser.parse_response_with_uninit_headers(&mut parsed, input, &mut lines);
        let length = match length {
            Err(httparse::Error::Version) => {
                lower_version(input)?;
                return Self::take(input, is_head);
            }
            length => head_length(length, input, MAX_RESPONSE)?,
        };
        let Some(length) = length else { return Ok(None) };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(HeadError::Malformed("invalid status"))?;
        let is_http10 = parsed.version != Some(1);
        let lines = Lines::new(parsed.headers, input)?;
        let bytes = input.split_to(length).freeze();
        let said = framing(&lines, &bytes, is_http10)?;
        let declared = match said {
            Some(Framing::Length(length)) => Some(length),
            _ => None,
        };
        let framing = match said {
            _ if is_head || never_has_content(status) => Framing::Length(0),
            said => said.unwrap_or(Framing::Close),
        };
        let keep_alive =
            !is_http10 && framing != Framing::Close && keep_alive(&lines, &bytes, is_http10);
        let protocol = match status {
            StatusCode::SWITCHING_PROTOCOLS => lines.get_all(UPGRADE, &bytes).next(),
            _ => None,
        };
        let protocol =
            protocol.and_then(|protocol| HeaderValue::from_bytes(protocol).ok().map(Box::new));
        let headers = end_to_end_headers(lines, &bytes)?;
        Ok(Some(Self { status, headers, declared, protocol, framing, keep_alive }))
    }
}

/// Whether a response of `status` never has content (RFC 9112, section 6.3).
pub(super) fn never_has_content(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The end-to-end headers of `lines`, without Content-Length.
fn end_to_end_headers(lines: Lines, bytes: &Bytes) -> Result<Headers, HeadError> {
    let options = lines.get_all(CONNECTION, bytes).flat_map(words);
    let is_usual = |option: &&[u8]| {
        !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
    };
    let named = options.filter(is_usual).filter_map(|name| HeaderName::from_bytes(name).ok());
    let named = named.collect::<Vec<_>>();
    let stays = |name: &HeaderName| {
        *name != CONTENT_LENGTH
            && *name != CONNECTION
            && !is_hop_by_hop(name)
            && !named.contains(name)
    };
    let mut headers = Headers::with_capacity(lines.count() + Headers::SPARE);
    for line in lines.into_headers(bytes, stays) {
        let (name, value) = line?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The length of the head that httparse found in `input`, at most `limit`; `None` while it is incomplete.
fn head_length(
    parsed: httparse::Result<usize>,
    input: &[u8],
    limit: usize,
) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length <= limit => Ok(Some(length)),
        Ok(httparse::Status::Partial) if input.len() <= limit => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(_) => Err(NOT_HTTP1),
    }
}

/// Whether the connection persists after a message with these `lines` (section 9.3).
fn keep_alive(lines: &Lines, bytes: &[u8], is_http10: bool) -> bool {
    let says = |word| says(lines.get_all(CONNECTION, bytes), word);
    (!is_http10 || says("keep-alive")) && !says("close")
}

/// The framing that `lines` in `bytes` state, if any.
///
/// Refuses all that section 6.3 allows to refuse because two parsers could read it differently.
fn framing(lines: &Lines, bytes: &[u8], is_http10: bool) -> Result<Option<Framing>, HeadError> {
    let mut codings = lines.get_all(TRANSFER_ENCODING, bytes);
    let mut lengths = lines.get_all(CONTENT_LENGTH, bytes);
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return Err(AMBIGUOUS_LENGTH);
    }
    match (coding, length) {
        (Some(_), Some(_)) => Err(AMBIGUOUS_LENGTH),
        (Some(_), None) if is_http10 => Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) => check_codings(coding).map(|()| Some(Framing::Chunks)),
        (None, Some(length)) => match digits(length) {
            Some(length) => Ok(Some(Framing::Length(length))),
            None => Err(HeadError::Malformed("invalid Content-Length")),
        },
        (None, None) => Ok(None),
    }
}

const AMBIGUOUS_LENGTH: HeadError = HeadError::Malformed("ambiguous content length");

/// Checks that `value` of Transfer-Encoding is `chunked`, the only coding that is implemented.
fn check_codings(value: &[u8]) -> Result<(), HeadError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let codings = words(value).collect::<Vec<_>>();
    if !codings.iter().all(|coding| is_token(coding)) {
        return Err(HeadError::Malformed("invalid Transfer-Encoding"));
    }
    // Only the last coding may be chunked (section 7.1).
    let (_, before) = codings.split_last().unwrap_or((&value, &[]));
    if before.iter().any(|coding| is_chunked(coding)) {
        return Err(HeadError::Malformed("chunked is not the last transfer coding"));
    }
    Err(HeadError::UnknownCoding)
}

/// Overwrites a minor version above 1 in the message at the start of `input`, which is then read as HTTP/1.1 (RFC 9110,
/// section 2.5). Any other unknown version is an error.
fn lower_version(input: &mut [u8]) -> Result<(), HeadError> {
    const NAME: &[u8] = b"HTTP/1.";
    let from = input.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    let line = &input[from..];
    let line = line[..memchr(b'\n', line).unwrap_or(line.len())].trim_ascii_end();
    let minor = match line.strip_prefix(NAME) {
        // A status line begins with the version, and a request line ends with it.
        Some([_] | [_, b' ', ..]) => from + NAME.len(),
        Some(_) => return Err(NOT_HTTP1),
        None => {
            let before = line.len().checked_sub(NAME.len() + 2).ok_or(NOT_HTTP1)?;
            if line[before] != b' ' || !line[before + 1..].starts_with(NAME) {
                return Err(NOT_HTTP1);
            }
            from + line.len() - 1
        }
    };
    if !matches!(input[minor], b'2'..=b'9') {
        return Err(NOT_HTTP1);
    }
    input[minor] = b'1';
    Ok(())
}

const NOT_HTTP1: HeadError = HeadError::Malformed("not an HTTP/1.1 message");

/// Whether `bytes` have the end of a head.
pub(super) fn may_end(bytes: &[u8]) -> bool {
    let mut rests = memchr_iter(b'\n', bytes).map(|at| &bytes[at + 1..]);
    rests.any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

/// Whether a line of `head` ends in a line feed without a carriage return, at `from` or later. Some parsers take that for
/// the end of a line, and others do not (section 2.2).
pub(super) fn has_bare_line_feed(head: &[u8], from: usize) -> bool {
    let mut feeds = memchr_iter(b'\n', &head[from..]);
    feeds.any(|at| (from + at).checked_sub(1).is_none_or(|before| head[before] != b'\r'))
}

/// See [`has_bare_line_feed`].
pub(super) const BARE_LINE_FEED: HeadError =
    HeadError::Malformed("a line ends in a bare line feed");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<RequestHead>, HeadError> {
        RequestHead::take(&mut BytesMut::from(head))
    }

    fn is_malformed<T>(taken: Result<T, HeadError>) -> bool {
        matches!(taken, Err(HeadError::Malformed(_)))
    }

    /// The head of a POST with `lines`.
    fn post(version: &str, lines: &str) -> Option<RequestHead> {
        read(&format!("POST / HTTP/1.{version}\r\n{lines}\r\n")).ok()?
    }

    #[test]
    fn a_request_with_ambiguous_framing_is_refused() {
        let framing = |lines| post("1", lines).map(|head| head.framing);
        assert_eq!(framing(""), Some(Framing::Length(0)));
        assert_eq!(framing("content-length: 5\r\n"), Some(Framing::Length(5)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Some(Framing::Chunks));
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
    fn the_client_decides_on_keep_alive() {
        let keep_alive = |version, lines| post(version, lines).unwrap().keep_alive;
        assert!(keep_alive("1", ""));
        assert!(!keep_alive("1", "connection: x, Close\r\n"));
        assert!(!keep_alive("0", ""));
        assert!(keep_alive("0", "connection: Keep-Alive\r\n"));
        assert!(post("1", "expect: 100-continue\r\n").unwrap().expects_continue);
        assert!(!post("0", "expect: 100-continue\r\n").unwrap().expects_continue);
    }

    #[test]
    fn a_head_is_complete_incomplete_or_an_error() {
        let mut input = BytesMut::from("\r\nGET /a?b HTTP/1.1\r\nx: 1\r\nempty:\r\n\r\nmore");
        let head = RequestHead::take(&mut input).unwrap().unwrap();
        assert_eq!(head.request.uri(), "/a?b");
        assert_eq!(head.request.head().headers.get("empty").unwrap(), "");
        assert_eq!(input, "more");
        assert!(read("GET / HTTP/1.1\r\nx: 1\r\n").unwrap().is_none());
        let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(count));
        assert!(read(&lines(MAX_LINES)).is_ok());
        assert_eq!(read(&lines(MAX_LINES + 1)).err(), Some(HeadError::TooLarge));
        let long = "x".repeat(MAX_REQUEST);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nx: {long}")).err(), Some(HeadError::TooLarge));
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", &long[..70_000]);
        assert_eq!(read(&target).err(), Some(HeadError::TargetTooLong));
    }

    #[test]
    fn a_higher_minor_version_is_read_as_1_1() {
        for version in ["1.2", "1.9"] {
            let head = read(&format!("\r\nGET /HTTP/1.3 HTTP/{version}\r\nhost: a\r\n\r\n"));
            let head = head.unwrap().unwrap();
            assert_eq!(head.request.version(), Version::HTTP_11);
            assert_eq!(head.request.uri(), "/HTTP/1.3");
            assert!(head.keep_alive);
        }
        for bad in ["2.0", "1.10", "1.", "1.a", "0.9", "11.1"] {
            assert!(is_malformed(read(&format!("GET / HTTP/{bad}\r\n\r\n"))), "{bad}");
        }
    }

    #[test]
    fn a_line_ends_in_cr_and_lf() {
        for bad in ["GET / HTTP/1.1\n", "\nGET /", "GET / HTTP/1.1\r\nhost: a\n", "\r\n\n"] {
            assert!(has_bare_line_feed(bad.as_bytes(), 0), "{bad:?}");
        }
        assert!(!has_bare_line_feed(b"\r\nGET / HTTP/1.1\r\n\r\n", 0));
        assert!(!has_bare_line_feed(b"x\r\n", 2), "the carriage return is before `from`");
        assert_eq!(read("GET / HTTP/1.1\nhost: a\n\n").err(), Some(BARE_LINE_FEED));
        assert!(read("GET / HTTP/1.1\r\nhost: a\r\n\r\nbody\n").unwrap().is_some());
    }

    #[test]
    fn an_unknown_transfer_coding_is_not_implemented() {
        let error = |value: &str| {
            read(&format!("POST / HTTP/1.1\r\ntransfer-encoding: {value}\r\n\r\n")).err()
        };
        for unknown in ["gzip", "gzip, chunked", "identity", "xchunked", "x, y"] {
            assert_eq!(error(unknown), Some(HeadError::UnknownCoding), "{unknown}");
        }
        for bad in ["chunked, chunked", "chunked, gzip", "", ",chunked", "chunked;q=1", "\"x\""] {
            assert!(matches!(error(bad), Some(HeadError::Malformed(_))), "{bad}");
        }
        assert_eq!(error("Chunked"), None);
    }

    #[test]
    fn the_end_of_a_head_is_found() {
        for end in ["x\r\n\r\n", "x\n\ny", "\n\r\n"] {
            assert!(may_end(end.as_bytes()), "{end:?}");
        }
        for more in ["", "\r\n", "x\r\ny\r\n", "\n\r"] {
            assert!(!may_end(more.as_bytes()), "{more:?}");
        }
    }

    fn answer(head: &str) -> Result<Option<ResponseHead>, HeadError> {
        ResponseHead::take(&mut BytesMut::from(head), false)
    }

    fn framing_of(lines: &str) -> Option<(Framing, bool)> {
        let head = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).ok()??;
        Some((head.framing, head.keep_alive))
    }

    #[test]
    fn a_response_with_ambiguous_framing_is_an_error() {
        assert_eq!(framing_of("content-length: 5\r\n"), Some((Framing::Length(5), true)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Some((Framing::Chunks, true)));
        assert_eq!(framing_of(""), Some((Framing::Close, false)));
        let close = "content-length: 5\r\nconnection: x, Close\r\n";
        assert_eq!(framing_of(close), Some((Framing::Length(5), false)));
        for bad in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding:\r\n",
            "content-length:\r\n",
            "content-length: +5\r\n",
            "content-length: 5, 5\r\n",
            "content-length: 18446744073709551616\r\n",
            "content-length : 5\r\n",
        ] {
            assert_eq!(framing_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_after_the_head_of_a_response_stay_in_the_input() {
        let mut input = BytesMut::from("HTTP/1.1 204 No Content\r\nx: 1\r\nempty:\r\n\r\nmore");
        let head = ResponseHead::take(&mut input, false).unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(0), true));
        assert_eq!(head.headers.get(HeaderName::from_static("x")).unwrap(), "1");
        assert_eq!(head.headers.get(HeaderName::from_static("empty")).unwrap(), "");
        assert_eq!(input, "more");
        assert!(answer("HTTP/1.1 200 OK\r\nx: 1\r\n").unwrap().is_none());
        assert!(answer("HTTP/1.2 204 No Content\r\nx: 1\r\n\r\n").unwrap().unwrap().keep_alive);
        assert!(answer("HTTP/2.0 200 OK\r\nx: 1\r\n\r\n").is_err());
    }
}
