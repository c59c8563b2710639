//! The heads of requests and of responses (RFC 9112, sections 2 to 6): one parser for both.

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

/// The largest head of a request and of a response, in bytes. The middleware takes less of a request, and says so under
/// the request's own id.
const MAX_REQUEST: usize = 128 * 1024;
const MAX_RESPONSE: usize = 64 * 1024;
/// The most header lines in a head.
const MAX_LINES: usize = 128;

/// Why bytes are not the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// HTTP/1.1 does not allow it, or two readers could take it for two things.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has too many bytes or lines.
    #[error("the head is too large")]
    TooLarge,
    /// A request's target is longer than any URI here.
    #[error("the target is too long")]
    TargetTooLong,
    /// The content is in a transfer coding that is not understood here (section 6.1).
    #[error("the transfer coding is unknown")]
    UnknownCoding,
    /// It did not come in time.
    #[error("the request came too slowly")]
    Slow,
}

/// A request without its content.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method, target, version and headers.
    pub request: Request,
    /// Where its content ends.
    pub framing: Framing,
    /// Whether another may come over this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends content.
    pub expects_continue: bool,
}

impl RequestHead {
    /// Takes the head of a request from `input`; nothing while it is not all there.
    ///
    /// # Errors
    /// When it is not one. Nobody can tell what comes behind it.
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
        // A client of HTTP/1.0 does not wait.
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
    /// Its status.
    pub status: StatusCode,
    /// Those that are end to end, without Content-Length.
    pub headers: Headers,
    /// Content-Length, which of a response without content is that of what is not sent.
    pub declared: Option<u64>,
    /// What the peer goes on with, if it does.
    pub protocol: Option<Box<HeaderValue>>,
    /// Where its content ends.
    pub framing: Framing,
    /// Whether the connection may be used again when the content is over.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Takes the head of a response, to a HEAD if `is_head`, from `input`; nothing while it is not all there.
    ///
    /// # Errors
    /// When it is not one, or says in two ways where its content ends.
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

/// The `lines` that are end to end, without Content-Length.
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
    let mut headers = Headers::with_capacity(lines.count());
    for line in lines.into_headers(bytes, stays) {
        let (name, value) = line?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The length of the head that httparse has found in `input`, at most `limit`; nothing while it is not all there.
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

/// Whether the connection may go on behind a message with these `lines` (section 9.3).
fn keep_alive(lines: &Lines, bytes: &[u8], is_http10: bool) -> bool {
    let says = |word| says(lines.get_all(CONNECTION, bytes), word);
    (!is_http10 || says("keep-alive")) && !says("close")
}

/// What `lines` in `bytes` say of where content ends, in a message of HTTP/1.0 if that `is_http10`.
///
/// Refuses what section 6.3 lets be an error: what two could read in two ways.
fn framing(lines: &Lines, bytes: &[u8], is_http10: bool) -> Result<Option<Framing>, HeadError> {
    let mut codings = lines.get_all(TRANSFER_ENCODING, bytes);
    let mut lengths = lines.get_all(CONTENT_LENGTH, bytes);
    let (coding, length) = (codings.next(), lengths.next());
    if codings.next().is_some() || lengths.next().is_some() {
        return Err(AMBIGUOUS_LENGTH);
    }
    match (coding, length) {
        (Some(_), Some(_)) => Err(AMBIGUOUS_LENGTH),
        (Some(_), None) if is_http10 => Err(HeadError::Malformed("HTTP/1.0 knows no codings")),
        (Some(coding), None) => check_codings(coding).map(|()| Some(Framing::Chunks)),
        (None, Some(length)) => match digits(length) {
            Some(length) => Ok(Some(Framing::Length(length))),
            None => Err(HeadError::Malformed("invalid Content-Length")),
        },
        (None, None) => Ok(None),
    }
}

const AMBIGUOUS_LENGTH: HeadError = HeadError::Malformed("the length is said in two ways");

/// Whether `value` of Transfer-Encoding is what alone is understood here.
fn check_codings(value: &[u8]) -> Result<(), HeadError> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(());
    }
    let codings = words(value).collect::<Vec<_>>();
    if !codings.iter().all(|coding| is_token(coding)) {
        return Err(HeadError::Malformed("invalid Transfer-Encoding"));
    }
    // Chunks end the content, so they are the last, once (section 7.1).
    let (_, before) = codings.split_last().unwrap_or((&value, &[]));
    if before.iter().any(|coding| is_chunked(coding)) {
        return Err(HeadError::Malformed("chunks within another transfer coding"));
    }
    Err(HeadError::UnknownCoding)
}

/// Reads the version of the message that begins in `input` as HTTP/1.1 where its minor number is higher (RFC 9110,
/// section 2.5). The parser calls it for a version that it does not know; any other is an error.
fn lower_version(input: &mut [u8]) -> Result<(), HeadError> {
    const NAME: &[u8] = b"HTTP/1.";
    let from = input.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    let line = &input[from..];
    let line = line[..memchr(b'\n', line).unwrap_or(line.len())].trim_ascii_end();
    let minor = match line.strip_prefix(NAME) {
        // A response says its version first, and a request last.
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

const NOT_HTTP1: HeadError = HeadError::Malformed("not a message of HTTP/1.1");

/// Whether a head may end in `bytes`.
pub(super) fn may_end(bytes: &[u8]) -> bool {
    let mut behind = memchr_iter(b'\n', bytes).map(|at| &bytes[at + 1..]);
    behind.any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

/// Whether a line of `head` ends without a carriage return, at `from` or behind it. Some take it for the end of a line,
/// and others do not (section 2.2).
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

    /// The head of a POST with these lines.
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
        assert!(!has_bare_line_feed(b"x\r\n", 2), "it began before");
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
