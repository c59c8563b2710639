//! Request smuggling: what two parsers could take for one request or for two.
//!
//! Each case is sent as it stands to a gateway in front of an upstream that keeps every byte. Whatever the gateway
//! makes of it, it makes one thing: it refuses the connection, or the upstream sees one request whose framing
//! nobody can read in two ways (`Upstream::take` fails otherwise), and the client gets one answer.

use std::time::Duration;

use actix_rt::task::spawn_blocking;

use crate::support::{Process, Raw, Upstream};

/// What must happen.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// This status and the end of the connection; nothing reaches the upstream.
    Refused(u16),
    /// 404 of the gateway itself, behind which the connection goes on; nothing reaches the upstream.
    NotFound,
    /// 400 for a body whose framing is none, or that the client does not end; for the upstream it breaks off too.
    BrokenOff,
    /// One answer, from the upstream, which was sent one request with this body.
    Passed(&'static str),
    /// 501 of the gateway itself to an upgrade, and one answer to the request behind it, which the upstream gets alone.
    NotUpgraded,
    /// Two requests, and two answers: what came behind the first is a request by every reading.
    Twice,
}

use Then::{BrokenOff, NotFound, NotUpgraded, Passed, Refused, Twice};

struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    then: Then,
}

/// A case whose head is `GET /products` with `lines`, and `rest` behind it.
fn get(what: &'static str, lines: &str, rest: &str, then: Then) -> Case {
    raw(what, format!("GET /products HTTP/1.1\r\nhost: shop\r\n{lines}\r\n{rest}"), then)
}

/// A case whose head is `POST /products` with `lines`, and `rest` behind it.
fn post(what: &'static str, lines: &str, rest: &str, then: Then) -> Case {
    raw(what, format!("POST /products HTTP/1.1\r\nhost: shop\r\n{lines}\r\n{rest}"), then)
}

/// A case that is just these bytes.
fn raw(what: &'static str, bytes: impl Into<Vec<u8>>, then: Then) -> Case {
    Case { what, bytes: bytes.into(), then }
}

/// What an attacker would like to get through.
const HIDDEN: &str = "GET /products/hidden HTTP/1.1\r\nhost: shop\r\n\r\n";

/// A body of no bytes for those who see chunks, and of `5` and more for those who count.
const EMPTY_CHUNKS: &str = "0\r\n\r\nGET /products/hidden HTTP/1.1\r\nhost: shop\r\n\r\n";

fn lengths() -> Vec<Case> {
    let length = |what, value: &str, then| {
        post(what, &format!("content-length: {value}\r\n"), "hello", then)
    };
    vec![
        length("a length", "5", Passed("hello")),
        length("a signed length", "+5", Refused(400)),
        length("a negative length", "-5", Refused(400)),
        length("a list of the same length", "5, 5", Refused(400)),
        length("a list of lengths", "5, 6", Refused(400)),
        length("a hexadecimal length", "0x5", Refused(400)),
        length("a length in letters", "five", Refused(400)),
        length("a length with a point", "5.0", Refused(400)),
        length("a length with an exponent", "5e0", Refused(400)),
        length("an empty length", "", Refused(400)),
        length("a length of blanks", "  ", Refused(400)),
        length("a length with a blank within", "5 5", Refused(400)),
        length("a length with an underscore", "1_0", Refused(400)),
        length("a length in other digits", "\u{665}", Refused(400)),
        length("a length beyond 64 bits", "18446744073709551621", Refused(400)),
        length("a length beyond any", &"9".repeat(400), Refused(400)),
        length("a length of 64 bits", "18446744073709551615", Refused(413)),
        length("zeros before the length", "0005", Passed("hello")),
        length("blanks around the length", "\t 5 \t", Passed("hello")),
        post("two lengths", "content-length: 5\r\ncontent-length: 6\r\n", "hello", Refused(400)),
        post(
            "the same length twice",
            "content-length: 5\r\nContent-Length: 5\r\n",
            "hello",
            Refused(400),
        ),
        post(
            "a length and an empty one",
            "content-length: 5\r\ncontent-length:\r\n",
            "hello",
            Refused(400),
        ),
        get("a GET with a body", "content-length: 5\r\n", "hello", Passed("hello")),
        get(
            "a GET whose body is a request",
            &format!("content-length: {}\r\n", HIDDEN.len()),
            HIDDEN,
            Passed(HIDDEN),
        ),
        get("a GET with no body and a request behind it", "content-length: 0\r\n", HIDDEN, Twice),
        post("a request behind a body", "content-length: 5\r\n", &format!("hello{HIDDEN}"), Twice),
    ]
}

fn encodings() -> Vec<Case> {
    let coded = |what, line: &str, then| post(what, &format!("{line}\r\n"), EMPTY_CHUNKS, then);
    let both = |what, lines: &str| post(what, &format!("{lines}\r\n"), EMPTY_CHUNKS, Refused(400));
    vec![
        post(
            "chunks",
            "transfer-encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            Passed("hello"),
        ),
        post(
            "chunks in capitals",
            "TRANSFER-ENCODING: CHUNKED\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            Passed("hello"),
        ),
        coded("a request behind chunks", "transfer-encoding: chunked", Twice),
        both("CL.TE", "content-length: 5\r\ntransfer-encoding: chunked"),
        both("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 5"),
        both("CL.TE with no length", "content-length: 0\r\ntransfer-encoding: chunked"),
        both("CL.TE with a coding nobody knows", "content-length: 5\r\ntransfer-encoding: x"),
        both("CL.TE with identity", "content-length: 5\r\ntransfer-encoding: identity"),
        both("CL.TE with a coding of nothing", "content-length: 5\r\ntransfer-encoding:"),
        both("TE.TE", "transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        both("TE.TE with identity", "transfer-encoding: chunked\r\ntransfer-encoding: identity"),
        both("TE.TE, the other way", "transfer-encoding: identity\r\ntransfer-encoding: chunked"),
        coded("a blank before the colon", "transfer-encoding : chunked", Refused(400)),
        coded("a tab before the colon", "transfer-encoding\t: chunked", Refused(400)),
        coded("a blank before the name", "x: y\r\n transfer-encoding: chunked", Refused(400)),
        coded("xchunked", "transfer-encoding: xchunked", Refused(501)),
        coded("chunkedx", "transfer-encoding: chunkedx", Refused(501)),
        coded("quoted chunks", "transfer-encoding: \"chunked\"", Refused(400)),
        coded("chunks, then identity", "transfer-encoding: chunked, identity", Refused(400)),
        coded("identity, then chunks", "transfer-encoding: identity, chunked", Refused(501)),
        coded("identity", "transfer-encoding: identity", Refused(501)),
        coded("gzip", "transfer-encoding: gzip", Refused(501)),
        coded("gzip, then chunks", "transfer-encoding: gzip, chunked", Refused(501)),
        coded("chunks twice", "transfer-encoding: chunked, chunked", Refused(400)),
        coded("chunks and nothing", "transfer-encoding: chunked,", Refused(400)),
        coded("nothing and chunks", "transfer-encoding: ,chunked", Refused(400)),
        coded("chunks with a parameter", "transfer-encoding: chunked;q=1", Refused(400)),
        coded("a vertical tab before the coding", "transfer-encoding: \u{b}chunked", Refused(400)),
        coded("a NUL within the coding", "transfer-encoding: chun\0ked", Refused(400)),
        coded("a CR within the coding", "transfer-encoding: chun\rked", Refused(400)),
        coded("a CR behind the coding", "transfer-encoding: chunked\r", Refused(400)),
        coded("a form feed behind the coding", "transfer-encoding: chunked\u{c}", Refused(400)),
        // Blanks around a value are not part of it (RFC 9112, section 5).
        coded("a tab around the coding", "transfer-encoding:\tchunked\t", Twice),
        coded("the coding on the next line", "transfer-encoding:\r\n chunked", Refused(400)),
        coded("a comma on the next line", "transfer-encoding: chunked\r\n , x", Refused(400)),
        // To some it is the same name, so it is not passed on.
        post("an underscore", "transfer_encoding: chunked\r\n", "", Passed("")),
        raw(
            "chunks in HTTP/1.0",
            format!(
                "POST /products HTTP/1.0\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n{EMPTY_CHUNKS}"
            ),
            Refused(400),
        ),
        raw(
            "chunks in HTTP/1.0 that goes on",
            format!(
                "GET /products HTTP/1.0\r\nhost: shop\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n{EMPTY_CHUNKS}"
            ),
            Refused(400),
        ),
        post(
            "the connection claims the length",
            "connection: content-length\r\ncontent-length: 5\r\n",
            "hello",
            Passed("hello"),
        ),
        post(
            "the connection claims the coding",
            "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            Passed("hello"),
        ),
        get("the connection claims the host", "connection: host\r\n", "", Passed("")),
    ]
}

fn chunks() -> Vec<Case> {
    let chunked = |what, body: &str, then| post(what, "transfer-encoding: chunked\r\n", body, then);
    vec![
        chunked("a signed size", "+5\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a negative size", "-5\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("an empty size", "\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a blank before the size", " 5\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("an underscore in the size", "1_0\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a size of 64 bits", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a bare LF behind the size", "5\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a bare CR behind the size", "5\rhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a bare LF behind the data", "5\r\nhello\n0\r\n\r\n", BrokenOff),
        chunked("nothing behind the data", "5\r\nhello0\r\n\r\n", BrokenOff),
        chunked("more data than was said", "5\r\nhello!\r\n0\r\n\r\n", BrokenOff),
        chunked("an extension with a bare LF", "5;x\n\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("an extension with a bare CR", "5;x\ry\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a bare LF at the end", "5\r\nhello\r\n0\n\n", BrokenOff),
        chunked("no end", "5\r\nhello\r\n", BrokenOff),
        chunked("zeros before the size", "0005\r\nhello\r\n000\r\n\r\n", Passed("hello")),
        chunked("blanks behind the size", "5 \t\r\nhello\r\n0\r\n\r\n", Passed("hello")),
        chunked("a form feed behind the size", "5\u{c}\r\nhello\r\n0\r\n\r\n", BrokenOff),
        chunked("a trailer without a colon", "5\r\nhello\r\n0\r\nx\r\n\r\n", BrokenOff),
        chunked("a fold in a trailer", "5\r\nhello\r\n0\r\nx: 1\r\n y\r\n\r\n", BrokenOff),
        chunked("an extension", "5;a=\"b;c\"\r\nhello\r\n0;d\r\n\r\n", Passed("hello")),
        chunked("a trailer", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", Passed("hello")),
        chunked(
            "a length in a trailer",
            "5\r\nhello\r\n0\r\ncontent-length: 100\r\n\r\n",
            Passed("hello"),
        ),
        chunked(
            "a coding in a trailer",
            "5\r\nhello\r\n0\r\ntransfer-encoding: identity\r\nhost: other\r\n\r\n",
            Passed("hello"),
        ),
        chunked(
            "a request in the trailers",
            "5\r\nhello\r\n0\r\nGET /products/hidden HTTP/1.1\r\nhost: shop\r\n\r\n",
            BrokenOff,
        ),
    ]
}

fn heads() -> Vec<Case> {
    let line = |what, line: &str, then| raw(what, format!("{line}\r\nhost: shop\r\n\r\n"), then);
    let header = |what, lines: &str, then| get(what, &format!("{lines}\r\n"), "", then);
    vec![
        // A recipient may take a bare LF for the end of a line (RFC 9112, section 2.2). Ours does not.
        raw("bare LF in the head", "GET /products HTTP/1.1\nhost: shop\n\n", Refused(400)),
        raw(
            "bare LF before a coding",
            format!(
                "POST /products HTTP/1.1\r\nhost: shop\r\nx: y\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{EMPTY_CHUNKS}"
            ),
            Refused(400),
        ),
        raw("bare CR in the head", "GET /products HTTP/1.1\rhost: shop\r\r", Refused(400)),
        header("bare CR in a header", "x: a\rb", Refused(400)),
        header("a bare CR and a coding", "x: a\rtransfer-encoding: chunked", Refused(400)),
        header("NUL in a header", "x: a\0b", Refused(400)),
        header("NUL in a name", "x\0y: a", Refused(400)),
        header("a fold", "x: a\r\n b", Refused(400)),
        header("a fold with a tab", "x: a\r\n\tb", Refused(400)),
        header("a fold on the length", "content-length: 0\r\n 5", Refused(400)),
        header("a line without a colon", "nonsense", Refused(400)),
        header("a header without a name", ": x", Refused(400)),
        header("a name with a blank", "x y: z", Refused(400)),
        header("a name in brackets", "(x): z", Refused(400)),
        header("a name beyond ASCII", "\u{e9}: z", Refused(400)),
        header("a name of every odd letter there is", "!#$%&'*+-.^`|~: z", Passed("")),
        raw(
            "a blank before the first header",
            "GET /products HTTP/1.1\r\n host: shop\r\n\r\n",
            Refused(400),
        ),
        raw("no host", "GET /products HTTP/1.1\r\nx: y\r\n\r\n", Refused(400)),
        raw("an empty host", "GET /products HTTP/1.1\r\nhost:\r\n\r\n", Refused(400)),
        header("two hosts", "host: other", Refused(400)),
        header("the same host twice", "Host: shop", Refused(400)),
        raw("two in one host", "GET /products HTTP/1.1\r\nhost: a, b\r\n\r\n", Refused(400)),
        raw("a path in the host", "GET /products HTTP/1.1\r\nhost: a/b\r\n\r\n", Refused(400)),
        raw("a user in the host", "GET /products HTTP/1.1\r\nhost: a@b\r\n\r\n", Refused(400)),
        raw(
            "the target's host is another",
            "GET http://other/products HTTP/1.1\r\nhost: shop\r\n\r\n",
            Refused(400),
        ),
        raw(
            "the target says its host",
            "GET http://shop/products HTTP/1.1\r\nhost: shop\r\n\r\n",
            Passed(""),
        ),
        raw(
            "a user in the target",
            "GET http://a@shop/products HTTP/1.1\r\nhost: shop\r\n\r\n",
            Refused(400),
        ),
        line("a blank before the method", " GET /products HTTP/1.1", Refused(400)),
        line("a tab behind the method", "GET\t/products HTTP/1.1", Refused(400)),
        line("two blanks", "GET  /products HTTP/1.1", Refused(400)),
        line("a blank in the target", "GET /products /x HTTP/1.1", Refused(400)),
        line("a method with a bracket", "G(T /products HTTP/1.1", Refused(400)),
        // The fragment is gone before anybody could see it, and so it is for the upstream.
        line("a fragment", "GET /products#x HTTP/1.1", Passed("")),
        line("a target without a slash", "GET products HTTP/1.1", Refused(400)),
        line("the target *", "GET * HTTP/1.1", Refused(400)),
        line("CONNECT", "CONNECT shop:80 HTTP/1.1", Refused(400)),
        line("CONNECT to a path", "CONNECT /products HTTP/1.1", Refused(400)),
        line("HTTP/0.9", "GET /products", Refused(400)),
        line("HTTP/0.9 by name", "GET /products HTTP/0.9", Refused(400)),
        line("HTTP/1.2", "GET /products HTTP/1.2", Passed("")),
        line("HTTP/1.10", "GET /products HTTP/1.10", Refused(400)),
        raw(
            "a host in the target alone",
            "GET http://shop/products HTTP/1.1\r\n\r\n",
            Refused(400),
        ),
        raw("a port that is none", "GET /products HTTP/1.1\r\nhost: shop:x\r\n\r\n", Refused(400)),
        raw("half of an address", "GET /products HTTP/1.1\r\nhost: [::1\r\n\r\n", Refused(400)),
        line("HTTP/2.0", "GET /products HTTP/2.0", Refused(400)),
        line("http/1.1", "GET /products http/1.1", Refused(400)),
        line("HTTP/1.1 and more", "GET /products HTTP/1.1x", Refused(400)),
        raw("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(400)),
        raw(
            "empty lines before",
            "\r\n\r\nGET /products HTTP/1.1\r\nhost: shop\r\n\r\n",
            Passed(""),
        ),
        raw("HTTP/1.0", "GET /products HTTP/1.0\r\nhost: shop\r\n\r\n", Passed("")),
        line(
            "a line break in the path, encoded",
            "GET /products/x%0d%0atransfer-encoding:%20chunked HTTP/1.1",
            Passed(""),
        ),
        line("a NUL in the path, encoded", "GET /products/%00 HTTP/1.1", NotFound),
        line("a bare CR in the path", "GET /products/\rx HTTP/1.1", Refused(400)),
        header(
            "an upgrade to h2c",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
            Passed(""),
        ),
        get(
            "an upgrade to h2c with a request behind it",
            "connection: upgrade\r\nupgrade: h2c\r\n",
            HIDDEN,
            Twice,
        ),
        get(
            "an upgrade to websocket with a request behind it",
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
            HIDDEN,
            NotUpgraded,
        ),
        post(
            "an upgrade to websocket and a length",
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 5\r\n",
            &format!("hello{HIDDEN}"),
            NotUpgraded,
        ),
        header("what else a hop says", "te: trailers\r\ntrailer: x\r\nkeep-alive: 1", Passed("")),
        header("an expectation of another kind", "expect: 200-ok", Passed("")),
    ]
}

fn cases() -> impl Iterator<Item = Case> {
    [lengths(), encodings(), chunks(), heads()].into_iter().flatten()
}

/// Every case: what it is, its bytes, and whether it is refused.
pub(super) fn sent() -> impl Iterator<Item = (String, Vec<u8>, bool)> {
    cases().map(|case| (case.what.to_owned(), case.bytes, matches!(case.then, Refused(_))))
}

/// The statuses of the answers in `bytes`, and what stands behind the last.
fn answers(mut bytes: &str) -> (Vec<u16>, &str) {
    let mut statuses = Vec::new();
    while let Some((head, rest)) = bytes.split_once("\r\n\r\n") {
        let Some(status) = head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 ")) else {
            break;
        };
        statuses.push(status[..3].parse().unwrap());
        let lines = head.to_ascii_lowercase();
        let length = lines.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        bytes = &rest[length.map_or(0, |length| length.parse().unwrap())..];
    }
    (statuses, bytes)
}

/// Sends `case` and gives everything that came back before the connection was closed.
fn exchange(gateway: &Process, case: &Case) -> (String, bool) {
    let mut client = Raw::connect(gateway);
    client.patience(Duration::from_secs(3));
    client.send(&case.bytes);
    // Those who are refused see the other side close; the others go first.
    if !matches!(case.then, Refused(_)) {
        client.finish();
    }
    client.everything()
}

fn holds(gateway: &Process, upstream: &Upstream, case: &Case) -> Result<(), String> {
    let (came, closed) = exchange(gateway, case);
    // Nothing of this case is on its way any longer once a request behind it is answered.
    let mut next = Raw::connect(gateway);
    next.send("GET /products/next HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    let after = next.rest();
    if !after.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the next client got {after:?}"));
    }
    let (mut requests, broken) = upstream.take();
    let next = requests.iter().position(|request| request.head.contains("/products/next "));
    requests.remove(next.ok_or("the next client's request is not there")?);
    let (statuses, rest) = answers(&came);
    let seen = format!(
        "{statuses:?} {rest:?} (closed: {closed}), upstream saw {requests:?} and {broken} bytes"
    );
    let ok = closed
        && rest.is_empty()
        && match case.then {
            Refused(status) => {
                let told = came.contains("application/problem+json");
                statuses == [status] && told && requests.is_empty() && broken == 0
            }
            NotFound => statuses == [404] && requests.is_empty() && broken == 0,
            BrokenOff => statuses == [400] && requests.is_empty(),
            Passed(body) => {
                let bodies = requests.iter().map(|request| request.body.as_slice());
                statuses == [200] && bodies.eq([body.as_bytes()]) && broken == 0
            }
            NotUpgraded => statuses == [501, 200] && requests.len() == 1 && broken == 0,
            Twice => statuses == [200, 200] && requests.len() == 2 && broken == 0,
        };
    if ok { Ok(()) } else { Err(format!("wanted {:?}, got {seen}", case.then)) }
}

#[actix_rt::test]
async fn no_request_is_read_in_two_ways() {
    let outcome = spawn_blocking(|| {
        let upstream = Upstream::obliging();
        let (gateway, _folder) = upstream.gateway(&[]);
        let (mut count, mut wrong) = (0, Vec::new());
        for case in cases() {
            count += 1;
            if let Err(problem) = holds(&gateway, &upstream, &case) {
                wrong.push(format!("{}: {problem}", case.what));
            }
        }
        (count, wrong)
    });
    let (count, wrong) = outcome.await.unwrap();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 30);
}
