//! What holds for any bytes. Each function takes the input of one fuzz target, and panics where something does not hold;
//! `make test` calls them with what is in `regressions/`.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use std::{io, pin::Pin, task};

use actix_service::{IntoServiceFactory as _, ServiceFactory as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::test::TestRequest;
use actix_web::web::{self, BytesMut, Payload};
use actix_web::{App, FromRequest as _, HttpResponse};
use app::config::Currency;
use app::gateway::path::{canonical, canonical_with_encoded, with_slashes, without_parameters};
use app::http1::chunks::{self, ChunkedDecoder, Piece};
use app::http1::content::{Decoder, Framing};
use app::http1::head::{RequestHead, ResponseHead};
use app::http1::server::{ConnectionContext, Options, serve};
use app::http1::socket::Socket;
use app::middleware::{BodyLimit, Fields, Query};
use app::peer::forwarded;
use app::product::{Cursor, Format, PageRequest, Parsed, Parser, Words, words};
use app::user::{ProfilePatch, RightsPatch};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};

/// The name of a target, and what it checks.
type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 11] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunked", chunked),
    ("connection", connection),
    ("paths", paths),
    ("cursors", cursors),
    ("page_requests", page_requests),
    ("search_words", search_words),
    ("forwarded_headers", forwarded_headers),
    ("imports", imports),
    ("merge_patches", merge_patches),
];

/// Longer input is not fed byte by byte: that takes quadratic time.
const SHORT: usize = 1024;

/// A request that is read whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    pub headers: usize,
    pub body: Vec<u8>,
    pub is_old: bool,
}

/// The requests that our parser reads whole in `bytes`, up to one behind which it wants no other; a request of HTTP/1.1
/// has one Host, as the middleware asks of each.
pub fn requests(bytes: &[u8]) -> Vec<Message> {
    let (mut input, mut messages) = (BytesMut::from(bytes), Vec::new());
    while let Ok(Some(head)) = RequestHead::take(&mut input) {
        let Some(body) = content(head.framing, &mut input) else { break };
        let request = &head.request;
        let is_old = request.version() == actix_web::http::Version::HTTP_10;
        let headers = request.head().headers();
        messages.push(Message {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            headers: headers.len(),
            body,
            is_old,
        });
        if !is_old && headers.get_all(HOST).count() != 1 {
            messages.pop();
            break;
        }
        if !head.keep_alive {
            break;
        }
    }
    messages
}

/// The status and the content of the response that our parser reads in `bytes`, behind interim ones.
pub fn response(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut input = BytesMut::from(bytes);
    loop {
        let head = ResponseHead::take(&mut input, false).ok()??;
        let status = head.status.as_u16();
        if head.status.is_informational() && status != 101 {
            continue;
        }
        return Some((status, content(head.framing, &mut input)?));
    }
}

/// The content at the beginning of `input`, if it is all there.
fn content(framing: Framing, input: &mut BytesMut) -> Option<Vec<u8>> {
    let (mut decoder, mut content) = (Decoder::new(framing), Vec::new());
    loop {
        match decoder.take(input).ok()? {
            Piece::Data(data) => content.extend_from_slice(&data),
            Piece::End => return Some(content),
            Piece::Incomplete => return (framing == Framing::Close).then_some(content),
        }
    }
}

/// The head of a request: what we take, httparse takes too and finds the same in it, however it comes.
pub fn request_head(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    let taken = RequestHead::take(&mut input);
    if let Ok(Some(head)) = &taken {
        let length = bytes.len() - input.len();
        let mut known = bytes[..length].to_vec();
        lower(&mut known);
        let mut lines = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Request::new(&mut lines);
        assert_eq!(theirs.parse(&known), Ok(httparse::Status::Complete(length)));
        assert_eq!(theirs.method, Some(head.request.method().as_str()));
        let target = theirs.path.unwrap_or_default();
        let target = target.split('#').next().unwrap_or_default();
        if target.starts_with('/') {
            assert_eq!(head.request.uri().to_string(), target);
        }
        let ours = head.request.head().headers();
        assert_eq!(ours.len(), theirs.headers.len());
        one_framing(theirs.headers, head.framing);
    }
    in_pieces(bytes, |input| {
        let head = RequestHead::take(input).map_err(drop)?;
        Ok(head.map(|head| (head.request.uri().clone(), head.framing, head.keep_alive)))
    });
}

/// The head of a response: the same.
pub fn response_head(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    if let Ok(Some(head)) = ResponseHead::take(&mut input, false) {
        let length = bytes.len() - input.len();
        let mut known = bytes[..length].to_vec();
        lower(&mut known);
        let mut lines = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Response::new(&mut lines);
        assert_eq!(theirs.parse(&known), Ok(httparse::Status::Complete(length)));
        assert_eq!(theirs.code, Some(head.status.as_u16()));
        assert!(head.headers.len() <= theirs.headers.len());
        one_framing(theirs.headers, head.framing);
    }
    in_pieces(bytes, |input| {
        let head = ResponseHead::take(input, false).map_err(drop)?;
        Ok(head.map(|head| (head.status, head.framing, head.keep_alive)))
    });
}

/// A minor version beyond ours is read as ours (RFC 9110, section 2.5), of which httparse knows nothing.
fn lower(head: &mut [u8]) {
    const NAME: &[u8] = b"HTTP/1.";
    let from = head.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    let end = head[from..].iter().position(|byte| b"\r\n".contains(byte)).unwrap_or_default();
    let line = &mut head[from..from + end];
    for at in [0, line.len().saturating_sub(NAME.len() + 1)] {
        let version = &mut line[at..];
        if version.starts_with(NAME) && version.get(NAME.len()).is_some_and(|minor| *minor > b'1') {
            version[NAME.len()] = b'1';
        }
    }
}

/// `target` as a URI is printed.
pub fn with_root(target: &str) -> String {
    let target = target.to_lowercase();
    match target.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => match target.split_once('?') {
            Some((before, query)) => format!("{before}/?{query}"),
            None => format!("{target}/"),
        },
        _ => target,
    }
}

/// Where content ends is said once, or not at all.
fn one_framing(headers: &[httparse::Header<'_>], framing: Framing) {
    let count = |name| headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name)).count();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    assert!(lengths + codings <= 1);
    assert!(framing != Framing::Chunks || codings == 1);
}

/// What `take` makes of `bytes` is the same when they come one by one.
fn in_pieces<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    take: impl Fn(&mut BytesMut) -> Result<Option<T>, ()>,
) {
    let mut whole = BytesMut::from(bytes);
    let taken = take(&mut whole);
    if bytes.len() > SHORT {
        return;
    }
    let mut input = BytesMut::new();
    for (at, byte) in bytes.iter().enumerate() {
        input.extend_from_slice(&[*byte]);
        match take(&mut input) {
            Ok(None) => {}
            Ok(some) => {
                assert_eq!(Ok(some), taken, "after {} bytes", at + 1);
                assert_eq!(whole.len(), bytes.len() - at - 1);
                return;
            }
            Err(()) => {
                assert_eq!(taken, Err(()), "after {} bytes", at + 1);
                return;
            }
        }
    }
    assert_eq!(taken, Ok(None));
}

/// Content in chunks: httparse finds the same sizes, and it is the same however it comes and when it is written anew.
pub fn chunked(bytes: &[u8]) {
    let whole = unchunk(bytes, bytes.len().max(1));
    for step in [1, 3] {
        assert_eq!(unchunk(bytes, step), whole);
    }
    let Some(content) = whole else { return };
    assert_eq!(Some(&content), unchunk_with_httparse(bytes).as_ref());
    let mut again = BytesMut::new();
    content.chunks(5).for_each(|chunk| chunks::put(&mut again, chunk));
    again.extend_from_slice(chunks::LAST);
    assert_eq!(unchunk(&again, 2), Some(content));
}

fn unchunk(bytes: &[u8], step: usize) -> Option<Vec<u8>> {
    let (mut decoder, mut input, mut content) =
        (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
    let mut steps = bytes.chunks(step);
    loop {
        match decoder.take(&mut input).ok()? {
            Piece::Data(data) => content.extend_from_slice(&data),
            Piece::End => return Some(content),
            Piece::Incomplete => input.extend_from_slice(steps.next()?),
        }
    }
}

fn unchunk_with_httparse(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes)
        else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(content);
        }
        let data = bytes.get(start..start.checked_add(size)?)?;
        content.extend_from_slice(data);
        bytes = bytes[start + size..].strip_prefix(b"\r\n")?;
    }
}

/// A whole connection: every request that is read whole is answered once, however its bytes come, and nothing but
/// responses is sent.
pub fn connection(bytes: &[u8]) {
    let requests = all_requests(bytes);
    let steps = if bytes.len() <= SHORT { &[usize::MAX, 3][..] } else { &[usize::MAX] };
    for step in steps {
        let answers = exchange(bytes, (*step).min(bytes.len()).max(1));
        let answered = answers.iter().filter(|status| **status == 200).count();
        assert_eq!(answered, requests, "{answers:?} to pieces of {step} bytes");
    }
}

/// How many requests are in `bytes`, whatever their Host.
fn all_requests(bytes: &[u8]) -> usize {
    let (mut input, mut count) = (BytesMut::from(bytes), 0);
    loop {
        let empty_lines = input.chunks(2).take_while(|line| line == b"\r\n").count();
        let Ok(Some(head)) = RequestHead::take(&mut input) else { break };
        // So many are a flood to the server.
        if empty_lines > 64 {
            break;
        }
        if content(head.framing, &mut input).is_none() {
            break;
        }
        count += 1;
        if !head.keep_alive {
            break;
        }
    }
    count
}

/// The statuses of the answers to what comes in pieces of `step` bytes; 400 is a refusal, behind which nothing comes.
fn exchange(bytes: &[u8], step: usize) -> Vec<u16> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { panic!("no runtime") };
    let received = tokio::task::LocalSet::new().block_on(&runtime, async {
        let app = App::new().default_service(web::to(async |mut payload: Payload| {
            while let Some(chunk) = payload.next().await {
                if chunk.is_err() {
                    return HttpResponse::BadRequest().finish();
                }
            }
            HttpResponse::Ok().finish()
        }));
        let app = map_config(app.into_factory(), |()| AppConfig::default());
        let Ok(app) = app.new_service(()).await else { panic!("no service") };
        let options = Options {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            refuse: |_, _| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned(),
        };
        let (mut client, server) = duplex(1024 * 1024);
        let context =
            Rc::new(ConnectionContext { app, options: Rc::new(options), shutdown: Rc::default() });
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        let client = async {
            let mut received = Vec::new();
            for piece in bytes.chunks(step) {
                if client.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            // The server may have gone.
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut received).await;
            received
        };
        tokio::join!(client, serve(Pipe(server), peer, context)).0
    });
    let (mut input, mut statuses) = (BytesMut::from(&received[..]), Vec::new());
    while !input.is_empty() {
        // No answer here has content.
        match ResponseHead::take(&mut input, true) {
            Ok(Some(head)) if head.status.as_u16() == 100 => {}
            Ok(Some(head)) => statuses.push(head.status.as_u16()),
            other => panic!("not a response: {other:?}"),
        }
    }
    statuses
}

/// A connection in memory.
struct Pipe(DuplexStream);

impl Socket for Pipe {
    fn limit_writes(&self, _: Duration) -> bool {
        false
    }

    fn reset_at_end(&self) {}
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A path has one spelling, in which no reader finds another path.
pub fn paths(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    if let Some(spelling) = canonical(path) {
        assert_eq!(canonical(&spelling).as_deref(), Some(&*spelling), "{path:?}");
        stays_below(&spelling);
        stays_below(&without_parameters(&spelling));
        stays_below(&decoded(&spelling));
    }
    if let Some(spelling) = canonical_with_encoded(path) {
        assert_eq!(canonical_with_encoded(&spelling).as_deref(), Some(&*spelling), "{path:?}");
        stays_below(&with_slashes(&spelling));
        stays_below(&decoded(&with_slashes(&spelling)));
    }
}

fn stays_below(path: &str) {
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(!path.contains('\\') && !path.contains("//"), "{path:?}");
}

/// `path` without what is by percent.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A cursor that is taken is one that was given.
pub fn cursors(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.encode(), text);
    }
}

/// A query of the catalogue that is taken is written in a link that is read as the same.
pub fn page_requests(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let Ok(uri) = format!("/products?{query}").parse::<Uri>() else { return };
    let read = |uri: Uri| {
        let request = TestRequest::default().uri(&uri.to_string()).to_http_request();
        PageRequest::read(Query::parse(&request)).ok()
    };
    let Some(page) = read(uri) else { return };
    let link = page.target();
    assert_eq!(link.parse().ok().and_then(read), Some(page), "{link}");
}

/// A text that is searched for finds a product of that name, and its words are read as the same.
pub fn search_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let there = words(text);
    assert!(there.iter().all(|word| !word.is_empty() && !word.contains(' ')), "{there:?}");
    let Ok(wanted) = text.parse::<Words>() else { return };
    for word in &wanted.words {
        let is_there = there.iter().any(|known| known.starts_with(word.as_str()));
        assert!(is_there, "{word:?} of {text:?} is not in {there:?}");
    }
}

/// A file of products, behind a byte that chooses the format and one with the length of pieces: it is read as the same,
/// whichever pieces it arrives in.
pub fn imports(bytes: &[u8]) {
    let Ok(currency) = Currency::try_from("EUR".to_owned()) else { return };
    let &[format, length, ref file @ ..] = bytes else { return };
    let format = if format % 2 == 0 { Format::Ndjson } else { Format::Csv };
    let read = |length: usize| {
        let (mut parser, mut parsed) = (Parser::new(format, currency), Parsed::default());
        for piece in file.chunks(length) {
            parser.feed(piece, &mut parsed)?;
        }
        parser.finish(&mut parsed).map(|()| parsed.lines())
    };
    let whole = read(file.len().max(1));
    assert_eq!(read(usize::from(length).max(1)), whole);
    if let Ok((products, errors)) = whole {
        let numbers = products.iter().chain(errors.iter().map(|error| &error.line));
        // In a table a CR ends a line, too, and one with an LF behind it ends one line.
        let is_break = |(before, byte): &(&u8, &u8)| match format {
            Format::Ndjson => **byte == b'\n',
            Format::Csv => **byte == b'\r' || **byte == b'\n' && **before != b'\r',
        };
        let lines = std::iter::once(&0).chain(file).zip(file).filter(is_break).count() as u64 + 1;
        assert!(numbers.clone().all(|number| (1..=lines).contains(number)));
        assert!(products.is_sorted() && errors.is_sorted_by_key(|error| error.line));
    }
}

/// Forwarded headers, a line each: X-Forwarded-For up to the first empty line, then Forwarded. What is passed on names
/// the same addresses.
pub fn forwarded_headers(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let values = |lines: &mut dyn Iterator<Item = &[u8]>| {
        lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).collect::<Vec<_>>()
    };
    let addresses = values(&mut lines.by_ref().take_while(|line| !line.is_empty()));
    let elements = values(&mut lines);
    for node in forwarded::nodes(addresses.iter(), elements.iter()) {
        if let Some(address) = forwarded::address(node) {
            assert_eq!(forwarded::address(address.to_string().as_bytes()), Some(address));
            assert_eq!(address, address.to_canonical());
        }
    }
    for element in elements.iter().filter_map(|element| element.to_str().ok()) {
        let plain = forwarded::plain(element.to_owned());
        let found = |elements: &str| {
            let value = HeaderValue::from_str(elements).ok()?;
            let nodes = forwarded::nodes(std::iter::empty(), [&value].into_iter());
            Some(nodes.into_iter().map(forwarded::address).collect::<Vec<_>>())
        };
        assert_eq!(found(&plain), found(element), "{element:?} became {plain:?}");
    }
}

/// A merge patch that is taken is a JSON object of what may be changed, and of no nulls.
pub fn merge_patches(bytes: &[u8]) {
    let fields = || {
        let request = TestRequest::default()
            .method(Method::PATCH)
            .insert_header((CONTENT_TYPE, "application/merge-patch+json"))
            .app_data(BodyLimit(64 * 1024))
            .set_payload(bytes.to_vec());
        let (request, mut payload) = request.to_http_parts();
        let fields = Fields::from_request(&request, &mut payload).now_or_never();
        fields.unwrap_or_else(|| panic!("all of the body is here")).ok()
    };
    let profile = fields().and_then(|fields| ProfilePatch::read(fields).ok());
    let rights = fields().and_then(|fields| RightsPatch::read(fields).ok());
    let known: [(bool, &[&str]); 2] = [
        (profile.is_some(), &["username", "email", "currentPassword"]),
        (rights.is_some(), &["roles", "disabled"]),
    ];
    for (_, names) in known.into_iter().filter(|(taken, _)| *taken) {
        let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else {
            panic!("not an object");
        };
        for (name, value) in object {
            assert!(names.contains(&name.as_str()) && !value.is_null(), "{name}: {value}");
        }
    }
}
