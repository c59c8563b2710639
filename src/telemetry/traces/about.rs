//! What spans are about, by the semantic conventions of OpenTelemetry for HTTP, databases and messaging.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::{Method, Uri};

use super::super::Statement;
use super::super::meter::standard;

/// How many bytes of a path or a query a span has at most.
const LONGEST: usize = 1024;

/// The part that a span has in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl SpanKind {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// A request that a role answers.
#[derive(Clone, Debug)]
pub struct Served {
    /// The request's id.
    pub request_id: String,
    /// Its method.
    pub method: Method,
    /// The route's name, which is the same for all of its paths; `-` where no route has been found.
    pub route: Rc<str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The path and the query.
    pub target: Uri,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
}

/// What is done with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// They are made.
    Create,
    /// They are sent with the context in which they were made.
    Send,
    /// One is sent with the context of the attempt.
    Deliver,
    /// A consumer takes them.
    Process,
}

impl Operation {
    /// Its type, by the conventions.
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Send | Self::Deliver => "send",
            Self::Process => "process",
        }
    }

    /// Who has given messages their context is their producer.
    fn kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Deliver => SpanKind::Producer,
            Self::Send => SpanKind::Client,
            Self::Process => SpanKind::Consumer,
        }
    }
}

/// A batch of events that is created, sent or processed.
#[derive(Clone, Debug)]
pub struct Messages {
    /// What is done with them.
    pub operation: Operation,
    /// What carries them, as in `rabbitmq`.
    pub system: &'static str,
    /// Where they go, or where they come from.
    pub destination: Cow<'static, str>,
    /// How many there are.
    pub count: usize,
}

/// What a span is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    Served(Box<Served>),
    /// An attempt at a call of another role or an upstream, and the status of its answer.
    Call {
        callee: Arc<str>,
        method: Method,
        resend: u32,
        /// Where it goes, if that is to another process.
        url: Option<Uri>,
        status: u16,
    },
    /// A call to a store.
    Statement {
        kind: &'static str,
        system: &'static str,
    },
    /// A read of a cache, and what came of it.
    CacheRead {
        what: &'static str,
        outcome: &'static str,
    },
    Messages(Messages),
    /// Something else that is named.
    Work {
        name: &'static str,
        kind: SpanKind,
        system: &'static str,
    },
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl About {
    pub(super) fn kind(&self) -> SpanKind {
        match self {
            Self::Served(_) => SpanKind::Server,
            Self::Call { .. } | Self::Statement { .. } => SpanKind::Client,
            Self::CacheRead { .. } => SpanKind::Internal,
            Self::Messages(messages) => messages.operation.kind(),
            Self::Work { kind, .. } => *kind,
        }
    }

    /// The span's name, one of few.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Served(served) => match (verb(&served.method), &*served.route) {
                (verb, "-") => verb.to_owned(),
                (verb, route) => format!("{verb} {route}"),
            },
            Self::Call { callee, method, .. } => format!("{} {callee}", verb(method)),
            Self::Statement { kind, .. } => Statement(kind).to_string(),
            Self::CacheRead { what, .. } => format!("cache {what}"),
            Self::Messages(Messages { operation, destination, .. }) => {
                format!("{} {destination}", operation.name())
            }
            Self::Work { name, .. } => (*name).to_owned(),
        }
    }

    /// The span's attributes.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Served(served) => of_request(served),
            Self::Call { callee, method, resend, url, status } => {
                let mut attributes = of_method(method);
                attributes.push(("service.peer.name", callee.to_string().into()));
                attributes.extend(url.iter().flat_map(of_url));
                if *resend > 0 {
                    attributes.push(("http.request.resend_count", Value::Number((*resend).into())));
                }
                attributes.extend(status_code(*status));
                attributes
            }
            Self::Statement { kind, system } => vec![
                ("db.system.name", (*system).into()),
                ("db.operation.name", Statement(kind).to_string().into()),
            ],
            Self::CacheRead { what, outcome } => {
                vec![("cache.kind", (*what).into()), ("cache.result", (*outcome).into())]
            }
            Self::Messages(Messages { operation, system, destination, count }) => {
                let mut attributes = vec![
                    ("messaging.system", (*system).into()),
                    ("messaging.operation.type", operation.name().into()),
                    ("messaging.operation.name", operation.name().into()),
                    ("messaging.destination.name", Value::Text(destination.clone())),
                ];
                if matches!(operation, Operation::Send | Operation::Process) {
                    attributes
                        .push(("messaging.batch.message_count", Value::Number(*count as i64)));
                }
                attributes
            }
            Self::Work { system, .. } => vec![("service.peer.name", (*system).into())],
        }
    }
}

fn of_request(served: &Served) -> Vec<(&'static str, Value)> {
    let mut attributes = of_method(&served.method);
    attributes.extend([
        ("url.scheme", served.scheme.into()),
        ("url.path", short(served.target.path()).to_owned().into()),
        ("shop.request_id", served.request_id.clone().into()),
    ]);
    attributes.extend(served.target.query().map(|query| ("url.query", redacted(query).into())));
    if &*served.route != "-" {
        attributes.push(("http.route", served.route.to_string().into()));
    }
    attributes.extend(status_code(served.status));
    attributes
}

/// The status of an answer, unless there was none.
fn status_code(status: u16) -> Option<(&'static str, Value)> {
    (status > 0).then(|| ("http.response.status_code", Value::Number(status.into())))
}

/// What a span's name says of a method, as clients can make others up.
fn verb(method: &Method) -> &'static str {
    match standard(method.as_str()) {
        "_OTHER" => "HTTP",
        known => known,
    }
}

/// A method, and how it is written if clients can make it up.
fn of_method(method: &Method) -> Vec<(&'static str, Value)> {
    let mut attributes = vec![("http.request.method", standard(method.as_str()).into())];
    if standard(method.as_str()) != method.as_str() {
        attributes.push(("http.request.method_original", method.to_string().into()));
    }
    attributes
}

/// Where a call goes.
fn of_url(url: &Uri) -> [(&'static str, Value); 3] {
    let scheme = url.scheme_str().unwrap_or("http");
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    // Without a user and a password.
    let (host, path) = (url.host().unwrap_or_default(), short(url.path()));
    let query = url.query().map_or_else(String::new, |query| format!("?{}", redacted(query)));
    [
        ("server.address", host.to_owned().into()),
        ("server.port", Value::Number(port.into())),
        ("url.full", format!("{scheme}://{host}:{port}{path}{query}").into()),
    ]
}

/// A query without its values, which are nobody's business.
fn redacted(query: &str) -> String {
    let redact = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=REDACTED"),
        None if pair.is_empty() => String::new(),
        None => "REDACTED".to_owned(),
    };
    short(query).split('&').map(redact).collect::<Vec<_>>().join("&")
}

/// As much of `text`, which clients make as long as they like, as a span says.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_nothing_that_is_secret() {
        for (url, host, port, full) in [
            (
                "http://shop/products?q=lamp&sort",
                "shop",
                80,
                "http://shop:80/products?q=REDACTED&REDACTED",
            ),
            ("https://a:b@[::1]/v1", "[::1]", 443, "https://[::1]:443/v1"),
            ("http://a?", "a", 80, "http://a:80/?"),
            ("http://a/?&a=1&", "a", 80, "http://a:80/?&a=REDACTED&"),
            ("https://shop:8443", "shop", 8443, "https://shop:8443/"),
        ] {
            let expected = [
                ("server.address", host.into()),
                ("server.port", Value::Number(port)),
                ("url.full", full.into()),
            ];
            assert_eq!(of_url(&url.parse().unwrap()), expected);
        }
        let long = format!("http://a/{0}?{0}", "a=&".repeat(10_000));
        let [_, _, (_, Value::Text(full))] = of_url(&long.parse().unwrap()) else {
            panic!("{long}")
        };
        assert!(full.len() < 16 * LONGEST, "{}", full.len());
    }
}
