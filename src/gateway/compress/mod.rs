//! Compression of responses (RFC 9110, sections 8.4 and 12.5.3).
//!
//! A complete response of up to [`SMALL`] bytes is compressed at once and has a length. A longer one is compressed as a
//! stream, each chunk on a thread of the blocking pool.

mod negotiate;

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::encoding::Encoder;
use actix_http::{RequestHead, Response};
use actix_web::HttpResponse;
use actix_web::body::{self, BodySize, BoxBody, MessageBody};
use actix_web::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_TYPE, ContentEncoding, ETAG,
    HeaderValue, IF_MATCH, IF_NONE_MATCH, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::FutureExt as _;

use crate::http1::lines::words;
use crate::peer::{Body, Headers, Reply};

pub(super) use negotiate::negotiate;

/// The codings of responses that are compressed on their way, the better one last: gzip is cheaper to start, zstd compresses better in
/// less time. Brotli would make the program 1.4 MB larger and take ten times as long for a short response, to save a few per cent.
const SHORT: [ContentEncoding; 2] = [ContentEncoding::Zstd, ContentEncoding::Gzip];
const LONG: [ContentEncoding; 2] = [ContentEncoding::Gzip, ContentEncoding::Zstd];

/// Shorter responses fit into a packet or two anyway.
const WORTHWHILE: u64 = 1024;
/// Up to this many bytes are compressed at once, which takes less time than a switch of threads.
const SMALL: usize = 16 * 1024;
/// The encoder compresses chunks up to this length in place.
const IN_PLACE: usize = 1023;

/// `reply` as a response, in the content coding that the client of `request` prefers. Compresses only successes that are
/// long enough, of a compressible type, and not encoded yet. The ETag becomes weak, because it no longer identifies the
/// bytes; see [`restore_tags`].
pub(super) fn compress(request: &RequestHead, mut reply: Reply) -> HttpResponse {
    if reply.status == StatusCode::NOT_MODIFIED {
        confirm(request, &mut reply);
        return reply.into_response();
    }
    if !may_shrink(&reply) {
        return reply.into_response();
    }
    vary(&mut reply.headers);
    if !request.headers.contains_key(ACCEPT_ENCODING) {
        return reply.into_response();
    }
    match negotiate(&request.headers, codings(&reply.body)) {
        Some(coding) if request.method == Method::HEAD => {
            // The headers of GET, as far as they are known without the content.
            relabel(&mut reply.headers, coding);
            Reply { body: Body::None, ..reply }.into_response()
        }
        Some(coding) => encode(reply, coding),
        None => reply.into_response(),
    }
}

/// Gives a 304 the headers that its 200 would have: Vary, and a weak tag (RFC 9110, section 15.4.5). Some responses tell
/// the type or the length of their 200; otherwise the client's own tag decides: where its 200 would have been compressed
/// if it could be, a strong tag is of one that could not. A Vary too many is harmless.
fn confirm(request: &RequestHead, reply: &mut Reply) {
    let (headers, length) = (&reply.headers, reply.body.length());
    let is_other = headers.get(CONTENT_TYPE).is_some_and(|value| !is_text(value));
    if is_other || matches!(length, Some(1..WORTHWHILE)) || is_fixed(headers) {
        return;
    }
    let takes_coding = request.headers.contains_key(ACCEPT_ENCODING)
        && negotiate(&request.headers, codings(&reply.body)).is_some();
    let is_long = matches!(length, Some(WORTHWHILE..));
    if (is_long && takes_coding) || knows(request, headers, b"W/") {
        weaken(&mut reply.headers);
    } else if takes_coding && knows(request, headers, b"") {
        return;
    }
    vary(&mut reply.headers);
}

/// Adds Accept-Encoding to Vary, unless it is there.
fn vary(headers: &mut Headers) {
    let names = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding");
    if !headers.get_all(VARY).flat_map(|line| words(line.as_bytes())).any(names) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn codings(body: &Body) -> &'static [ContentEncoding; 2] {
    match body.length() {
        Some(length) if length <= SMALL as u64 => &SHORT,
        _ => &LONG,
    }
}

/// `plain` with gzip, as small as that makes it, for what is compressed once or is short.
pub(super) fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail.
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

/// Whether the client of `request` knows the strong tag in `headers` with this `prefix`: `W/`, or none.
fn knows(request: &RequestHead, headers: &Headers, prefix: &[u8]) -> bool {
    let tag = headers.get(ETAG).map(|tag| tag.as_bytes()).filter(|tag| tag.starts_with(b"\""));
    let lines = request.headers.get_all(IF_NONE_MATCH);
    let mut known = lines.flat_map(|line| words(line.as_bytes()));
    tag.is_some_and(|tag| known.any(|known| known.strip_prefix(prefix) == Some(tag)))
}

/// Makes the tags of If-Match strong, so that a client that got a compressed response can use its tag in a conditional
/// write. A tag that was weak at the upstream still does not match there.
pub(super) fn restore_tags(headers: &mut Headers) {
    let Some(line) = headers.get(IF_MATCH).and_then(|line| line.to_str().ok()) else { return };
    if !line.contains("W/\"") || headers.get_all(IF_MATCH).count() > 1 {
        return;
    }
    let tags = line.split(',').map(str::trim).map(|tag| tag.strip_prefix("W/").unwrap_or(tag));
    let tags = tags.collect::<Vec<_>>().join(", ");
    if let Ok(tags) = HeaderValue::from_str(&tags) {
        headers.insert(IF_MATCH, tags);
    }
}

fn may_shrink(Reply { status, headers, body }: &Reply) -> bool {
    let long = match body {
        Body::None | Body::Upgraded(_) => false,
        body => body.length().is_none_or(|length| length >= WORTHWHILE),
    };
    let whole = status.is_success() && *status != StatusCode::PARTIAL_CONTENT;
    long && whole && headers.get(CONTENT_TYPE).is_some_and(is_text) && !is_fixed(headers)
}

/// Whether content with these `headers` must not be transformed.
fn is_fixed(headers: &Headers) -> bool {
    headers.iter().any(|(name, value)| match name.as_str() {
        "content-encoding" | "content-range" => true,
        // Checksums of the content.
        "content-digest" | "repr-digest" | "digest" | "content-md5" => true,
        "cache-control" => no_transform(value),
        _ => false,
    })
}

fn no_transform(line: &HeaderValue) -> bool {
    const NO_TRANSFORM: &[u8] = b"no-transform";
    let mut parts = line.as_bytes().windows(NO_TRANSFORM.len());
    parts.any(|part| part.eq_ignore_ascii_case(NO_TRANSFORM))
}

/// Whether the media type `value` is text, which compresses well.
fn is_text(value: &HeaderValue) -> bool {
    // The shop's own type first.
    if value == "application/json" {
        return true;
    }
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let starts = |prefix: &str| {
        essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let ends = |suffix: &str| {
        let at = essence.len().checked_sub(suffix.len());
        let end = at.and_then(|at| essence.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    // Events are to arrive one by one.
    let is_events = essence.eq_ignore_ascii_case("text/event-stream");
    (starts("text/") && !is_events)
        || ends("+json")
        || ends("+xml")
        || ["json", "javascript", "xml", "x-ndjson"].iter().any(|subtype| {
            starts("application/") && essence["application/".len()..].eq_ignore_ascii_case(subtype)
        })
}

/// Adjusts `headers` to content in `coding`.
fn relabel(headers: &mut Headers, coding: ContentEncoding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    // Ranges would refer to the original content.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
}

/// Makes the tag in `headers` weak.
fn weaken(headers: &mut Headers) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.map(|tag| [b"W/", tag.as_bytes()].concat());
    if let Some(Ok(weak)) = weak.map(|tag| HeaderValue::from_bytes(&tag)) {
        headers.insert(ETAG, weak);
    }
}

fn encode(mut reply: Reply, coding: ContentEncoding) -> HttpResponse {
    let body = match std::mem::replace(&mut reply.body, Body::None) {
        Body::Full(bytes) if bytes.len() <= SMALL => match encode_now(&bytes, coding) {
            Some(shorter) => BoxBody::new(shorter),
            None => return Reply { body: Body::Full(bytes), ..reply }.into_response(),
        },
        body => encoder(coding, body.into_box_body()),
    };
    relabel(&mut reply.headers, coding);
    reply.into_response().set_body(body)
}

/// `body` in `coding`, chunk by chunk.
fn encoder(coding: ContentEncoding, body: impl MessageBody + 'static) -> BoxBody {
    // The encoder also changes headers, which `relabel` does here.
    let mut aside = Response::new(StatusCode::OK);
    BoxBody::new(Encoder::response(coding, aside.head_mut(), body))
}

/// `bytes` in `coding`, if they become shorter.
fn encode_now(bytes: &Bytes, coding: ContentEncoding) -> Option<Bytes> {
    let encoded = body::to_bytes(encoder(coding, Slices(bytes.clone()))).now_or_never()?.ok()?;
    (encoded.len() < bytes.len()).then_some(encoded)
}

/// Content in slices that the encoder compresses in place.
struct Slices(Bytes);

impl MessageBody for Slices {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let length = self.0.len().min(IN_PLACE);
        Poll::Ready((length > 0).then(|| Ok(self.0.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use actix_http::encoding::Decoder;
    use actix_web::http::header::{CACHE_CONTROL, CONTENT_RANGE, HeaderName};
    use futures_util::{StreamExt as _, stream};

    use super::*;

    const LONG: usize = 40_000;

    fn text(length: usize) -> Bytes {
        "a lamp, a kettle, a chair; ".bytes().cycle().take(length).collect::<Vec<_>>().into()
    }

    fn asking(method: Method, accept: &'static str) -> RequestHead {
        let mut head = RequestHead::default();
        head.method = method;
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accept));
        head
    }

    fn answer(body: impl MessageBody + 'static) -> Reply {
        let mut headers = Headers::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.append(ETAG, HeaderValue::from_static("\"7\""));
        Reply { status: StatusCode::OK, headers, body: Body::from_response(BoxBody::new(body)) }
    }

    fn header(response: &HttpResponse, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    async fn decoded(response: HttpResponse) -> Bytes {
        let coding = header(&response, CONTENT_ENCODING).parse().unwrap();
        let encoded = body::to_bytes(response.into_body()).await.unwrap();
        let chunks = stream::iter([Ok(encoded)]);
        let decoder = Decoder::new(chunks, coding);
        let pieces = decoder.map(|piece| piece.unwrap().to_vec()).collect::<Vec<_>>().await;
        pieces.concat().into()
    }

    #[actix_rt::test]
    async fn what_is_compressed_reads_as_before() {
        let chunks = |length: usize| {
            let chunks = stream::iter(
                text(length).chunks(700).map(Bytes::copy_from_slice).collect::<Vec<_>>(),
            );
            Body::stream(None, chunks.map(Ok::<_, std::io::Error>)).into_box_body()
        };
        for coding in ["gzip", "zstd"] {
            for length in [1024, SMALL, SMALL + 1, LONG] {
                for body in [BoxBody::new(text(length)), chunks(length)] {
                    let response = compress(&asking(Method::GET, coding), answer(body));
                    assert_eq!(header(&response, CONTENT_ENCODING), coding);
                    assert_eq!(header(&response, VARY), "accept-encoding");
                    assert_eq!(header(&response, ETAG), "W/\"7\"");
                    assert_eq!(decoded(response).await, text(length), "{coding} {length}");
                }
            }
        }
    }

    #[actix_rt::test]
    async fn a_short_answer_says_how_long_it_is_and_a_long_one_need_not_be_here() {
        let request = asking(Method::GET, "gzip");
        let short = compress(&request, answer(text(2048)));
        assert!(matches!(short.body().size(), BodySize::Sized(1..1000)));
        assert_eq!(compress(&request, answer(text(LONG))).body().size(), BodySize::Stream);
    }

    #[test]
    fn what_would_not_gain_stays_as_it_is() {
        let with = |name: HeaderName, value: &'static str| {
            let mut reply = answer(text(LONG));
            reply.headers.insert(name, HeaderValue::from_static(value));
            reply
        };
        let partial = Reply { status: StatusCode::PARTIAL_CONTENT, ..answer(text(LONG)) };
        let absent = Reply { status: StatusCode::NOT_FOUND, ..answer(text(LONG)) };
        for reply in [
            answer(text(1023)),
            answer(body::None::new()),
            with(CONTENT_TYPE, "image/png"),
            with(CONTENT_TYPE, "application/octet-stream"),
            with(CONTENT_ENCODING, "br"),
            with(CONTENT_RANGE, "bytes 0-9/10"),
            with(CACHE_CONTROL, "public, No-Transform"),
            with(HeaderName::from_static("content-digest"), "sha-256=:x:"),
            partial,
            absent,
        ] {
            let before = reply.headers.clone();
            let size = reply.body.length().map_or(BodySize::None, BodySize::Sized);
            let after = compress(&asking(Method::GET, "gzip"), reply);
            assert_eq!(after.headers().len(), before.len(), "{before:?}");
            assert!(before.iter().all(|(name, value)| after.headers().get(name) == Some(value)));
            assert_eq!(after.body().size(), size);
        }
        let noise = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
        let noise = noise.map(|byte| byte ^ uuid::Uuid::new_v4().as_bytes()[0]).collect::<Vec<_>>();
        let after = compress(&asking(Method::GET, "gzip"), answer(noise));
        assert_eq!(after.body().size(), BodySize::Sized(4096));
        assert_eq!((header(&after, CONTENT_ENCODING), header(&after, ETAG)), ("", "\"7\""));
    }

    #[test]
    fn types_that_are_text_shrink() {
        for text in [
            "text/plain; charset=utf-8",
            "TEXT/html",
            "application/json",
            "application/problem+json",
            "application/javascript",
            "image/svg+xml",
            "application/xml",
        ] {
            assert!(is_text(&HeaderValue::from_static(text)), "{text}");
        }
        for other in ["", "image/png", "application/zip", "application/jsonx", "json", "é/x"] {
            assert!(!is_text(&HeaderValue::from_bytes(other.as_bytes()).unwrap()), "{other}");
        }
    }

    #[test]
    fn a_304_says_what_its_200_would() {
        // The 200 of this length, of which a 304 tells to a client that has it under this tag.
        for (length, accept, known) in [
            (Some(LONG), "gzip", "W/\"7\""),
            (Some(LONG), "gzip", "\"7\""),
            (Some(LONG), "identity", "\"7\""),
            (Some(LONG), "", "\"7\""),
            (Some(100), "gzip", "\"7\""),
            (None, "gzip", "\"6\", W/\"7\""),
            (None, "", "\"7\""),
        ] {
            let mut request = RequestHead::default();
            if !accept.is_empty() {
                request = asking(Method::GET, accept);
            }
            let full = compress(&request, answer(text(length.unwrap_or(LONG))));
            request.headers.insert(IF_NONE_MATCH, HeaderValue::from_static(known));
            let empty = stream::empty::<std::io::Result<Bytes>>();
            let body = match length {
                Some(length) => Body::stream(Some(length as u64), empty).into_box_body(),
                None => Body::None.into_box_body(),
            };
            let mut told = Reply { status: StatusCode::NOT_MODIFIED, ..answer(body) };
            told.headers.remove(CONTENT_TYPE);
            let told = compress(&request, told);
            for name in [ETAG, VARY] {
                assert_eq!(header(&told, name.clone()), header(&full, name), "{length:?} {known}");
            }
        }
    }

    #[test]
    fn a_304_of_what_is_not_compressed_has_no_vary() {
        let strong = HeaderValue::from_static("\"7\"");
        for (kind, length) in [
            (Some("image/png"), LONG),
            (None, LONG),
            (Some("application/json"), 1023),
            (Some("application/json"), 0),
        ] {
            let of = |status, body, kind: Option<&'static str>| {
                let mut reply = Reply { status, ..answer(body) };
                reply.headers.remove(CONTENT_TYPE);
                kind.into_iter().for_each(|kind| {
                    reply.headers.append(CONTENT_TYPE, HeaderValue::from_static(kind));
                });
                reply
            };
            let mut request = asking(Method::GET, "gzip");
            let full = compress(&request, of(StatusCode::OK, BoxBody::new(text(length)), kind));
            request.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"6\", \"7\""));
            for kind in [None, kind] {
                let told = of(StatusCode::NOT_MODIFIED, BoxBody::new(body::None::new()), kind);
                let told = compress(&request, told);
                for response in [&full, &told] {
                    assert_eq!(response.headers().get(VARY), None, "{kind:?} {length}");
                    assert_eq!(response.headers().get(ETAG), Some(&strong), "{kind:?} {length}");
                }
            }
        }
    }

    #[test]
    fn an_answer_that_could_have_been_compressed_says_so_to_caches() {
        let response = compress(&asking(Method::GET, "identity"), answer(text(LONG)));
        assert_eq!(
            (header(&response, VARY), header(&response, CONTENT_ENCODING)),
            ("accept-encoding", "")
        );
        assert_eq!(header(&response, ETAG), "\"7\"");
    }

    #[test]
    fn head_says_what_get_would() {
        let empty = stream::empty::<std::io::Result<Bytes>>();
        let body = Body::stream(Some(LONG as u64), empty).into_box_body();
        let response = compress(&asking(Method::HEAD, "gzip"), answer(body));
        assert_eq!(response.body().size(), BodySize::None);
        for (name, value) in
            [(CONTENT_ENCODING, "gzip"), (ETAG, "W/\"7\""), (VARY, "accept-encoding")]
        {
            assert_eq!(header(&response, name), value);
        }
    }

    #[test]
    fn a_version_that_was_compressed_can_be_named_in_a_write() {
        let restored = |tags: &'static str| {
            let mut headers = Headers::new();
            headers.insert(IF_MATCH, HeaderValue::from_static(tags));
            restore_tags(&mut headers);
            headers.get(IF_MATCH).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(restored("W/\"7\""), "\"7\"");
        assert_eq!(restored("\"6\", W/\"7\""), "\"6\", \"7\"");
        assert_eq!(restored("*"), "*");
    }
}
