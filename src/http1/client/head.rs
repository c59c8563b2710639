//! The heads of messages as bytes, and how long their content is (RFC 9112, section 6).

use std::fmt::Write as _;
use std::mem::MaybeUninit;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE};
use actix_web::web::BytesMut;

use super::origin_form;
use crate::http1::lines::{Framing, Lines, header, line, lower_version, words};
use crate::http1::{Body, Headers};
use crate::peer::{Request, is_hop_by_hop};

/// The largest head of an answer, in bytes, and the most header lines in it.
const LIMIT: usize = 64 * 1024;
const LINES: usize = 128;

/// A request on its way out.
pub(super) struct Outgoing {
    pub(super) head: BytesMut,
    pub(super) body: Body,
    /// Whether its content goes in chunks, because nobody knows its length.
    pub(super) chunked: bool,
    /// Whether the peer may go on with another protocol.
    pub(super) may_upgrade: bool,
}

impl Outgoing {
    /// `request` with `body`, to whoever answers for `host`.
    pub(super) fn new(request: &Request, host: &str, body: Body) -> Self {
        let mut head = BytesMut::with_capacity(1024);
        let target = origin_form(&request.target);
        let method = request.method.as_str();
        line(&mut head, &[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
        if !request.headers.contains_key(HOST) {
            line(&mut head, &[b"host: ", host.as_bytes()]);
        }
        for (name, value) in &request.headers {
            header(&mut head, name, value);
        }
        if let Some(protocol) = &request.upgrade {
            line(&mut head, &[b"connection: upgrade"]);
            header(&mut head, &UPGRADE, protocol);
        }
        let chunked = match (&body, body.length()) {
            (Body::None, _) => false,
            (_, Some(length)) => {
                // Writing into memory cannot fail.
                let _ = write!(head, "content-length: {length}\r\n");
                false
            }
            (_, None) => {
                line(&mut head, &[b"transfer-encoding: chunked"]);
                true
            }
        };
        head.extend_from_slice(b"\r\n");
        Self { head, body, chunked, may_upgrade: request.upgrade.is_some() }
    }
}

/// Where an answer's content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunks,
    /// With the connection.
    Rest,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Those that are end to end, without Content-Length.
    pub(super) headers: Headers,
    /// Content-Length.
    pub(super) declared: Option<u64>,
    /// What the peer goes on with, if it does.
    pub(super) protocol: Option<Box<HeaderValue>>,
    pub(super) content: Content,
    /// Whether the connection may be used again when the content is over.
    pub(super) keeps: bool,
}

/// Takes the head of an answer, to a HEAD if `is_head`, from `input`; nothing while it is not all there.
///
/// # Errors
/// When it is none, too large, or says in two ways where its content ends.
pub(super) fn take(input: &mut BytesMut, is_head: bool) -> Result<Option<Head>, &'static str> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, input, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= LIMIT => length,
        Ok(httparse::Status::Partial) if input.len() < LIMIT => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err("the head is too large"),
        Err(httparse::Error::Version) if lower_version(input) => return take(input, is_head),
        Err(_) => return Err("the head is none"),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("the status is none")?;
    let old = parsed.version != Some(1);
    let lines = Lines::of(parsed.headers, input)?;
    let bytes = input.split_to(length).freeze();
    let framing = Framing::of(&lines, &bytes, old);
    let Framing { chunked, length } = framing.map_err(|_| "nobody can tell where it ends")?;
    let empty = is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let content = match (empty, chunked, length) {
        (true, _, _) => Content::Length(0),
        (_, true, _) => Content::Chunks,
        (_, _, Some(length)) => Content::Length(length),
        _ => Content::Rest,
    };
    let options = || lines.get_all(CONNECTION, &bytes).flat_map(words);
    let mut keeps = !old && content != Content::Rest;
    let mut named = Vec::new();
    for option in options() {
        if option.eq_ignore_ascii_case(b"close") {
            keeps = false;
        } else if !option.eq_ignore_ascii_case(b"keep-alive") {
            named.extend(HeaderName::from_bytes(option));
        }
    }
    let end_to_end = |name: &HeaderName| {
        *name != CONTENT_LENGTH
            && *name != CONNECTION
            && !is_hop_by_hop(name)
            && !named.contains(name)
    };
    let protocol = match status {
        StatusCode::SWITCHING_PROTOCOLS => lines.get_all(UPGRADE, &bytes).next(),
        _ => None,
    };
    let protocol =
        protocol.and_then(|protocol| HeaderValue::from_bytes(protocol).ok().map(Box::new));
    let mut headers = Headers::with_capacity(lines.count());
    for line in lines.cut(&bytes, end_to_end) {
        let (name, value) = line?;
        headers.append(name, value);
    }
    Ok(Some(Head { status, headers, declared: length, protocol, content, keeps }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<Head>, &'static str> {
        take(&mut BytesMut::from(head), false)
    }

    fn content_of(lines: &str) -> Option<(Content, bool)> {
        let head = read(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).ok()??;
        Some((head.content, head.keeps))
    }

    #[test]
    fn the_content_ends_in_one_way_or_it_is_an_error() {
        assert_eq!(content_of("content-length: 5\r\n"), Some((Content::Length(5), true)));
        assert_eq!(content_of("Transfer-Encoding: Chunked\r\n"), Some((Content::Chunks, true)));
        assert_eq!(content_of(""), Some((Content::Rest, false)));
        let close = "content-length: 5\r\nconnection: x, Close\r\n";
        assert_eq!(content_of(close), Some((Content::Length(5), false)));
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
            assert_eq!(content_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_behind_a_head_stays_there() {
        let mut input = BytesMut::from("HTTP/1.1 204 No Content\r\nx: 1\r\nempty:\r\n\r\nmore");
        let head = take(&mut input, false).unwrap().unwrap();
        assert_eq!((head.content, head.keeps), (Content::Length(0), true));
        assert_eq!(head.headers.get(HeaderName::from_static("x")).unwrap(), "1");
        assert_eq!(head.headers.get(HeaderName::from_static("empty")).unwrap(), "");
        assert_eq!(input, "more");
        assert!(read("HTTP/1.1 200 OK\r\nx: 1\r\n").unwrap().is_none());
        assert!(read("HTTP/1.2 204 No Content\r\nx: 1\r\n\r\n").unwrap().unwrap().keeps);
        assert!(read("HTTP/2.0 200 OK\r\nx: 1\r\n\r\n").is_err());
    }
}
