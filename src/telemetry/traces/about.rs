//! What spans are about, by the semantic conventions of OpenTelemetry for HTTP, databases and messaging.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::Method;

use super::super::Statement;

/// The part that a span has in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl Kind {
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

/// A request that a role has answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// The request's id.
    pub request_id: String,
    /// Its method.
    pub method: Method,
    /// The route's name, which is the same for all of its paths.
    pub route: Rc<str>,
    /// The path, without the query.
    pub path: String,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
}

/// Events on their way.
#[derive(Clone, Debug)]
pub struct Messages {
    /// `create`, `send` or `process`.
    pub operation: &'static str,
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
        kind: Kind,
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
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Served(_) => Kind::Server,
            Self::Call { .. } | Self::Statement { .. } => Kind::Client,
            Self::CacheRead { .. } => Kind::Internal,
            Self::Messages(messages) if messages.operation == "process" => Kind::Consumer,
            Self::Messages(_) => Kind::Producer,
            Self::Work { kind, .. } => *kind,
        }
    }

    /// The span's name, one of few.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Served(served) => format!("{} {}", served.method, served.route),
            Self::Call { callee, method, .. } => format!("{method} {callee}"),
            Self::Statement { kind, .. } => Statement(kind).to_string(),
            Self::CacheRead { what, .. } => format!("cache {what}"),
            Self::Messages(Messages { operation, destination, .. }) => {
                format!("{operation} {destination}")
            }
            Self::Work { name, .. } => (*name).to_owned(),
        }
    }

    /// The span's attributes.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Served(served) => vec![
                ("http.request.method", served.method.to_string().into()),
                ("http.route", served.route.to_string().into()),
                ("url.path", served.path.clone().into()),
                ("url.scheme", "http".into()),
                ("http.response.status_code", Value::Number(served.status.into())),
                ("shop.request_id", served.request_id.clone().into()),
            ],
            Self::Call { callee, method, resend, status } => {
                let mut attributes = vec![
                    ("http.request.method", method.to_string().into()),
                    ("peer.service", callee.to_string().into()),
                ];
                if *resend > 0 {
                    attributes.push(("http.request.resend_count", Value::Number((*resend).into())));
                }
                if *status > 0 {
                    attributes.push(("http.response.status_code", Value::Number((*status).into())));
                }
                attributes
            }
            Self::Statement { kind, system } => vec![
                ("db.system.name", (*system).into()),
                ("db.operation.name", Statement(kind).to_string().into()),
            ],
            Self::CacheRead { what, outcome } => {
                vec![("cache.kind", (*what).into()), ("cache.result", (*outcome).into())]
            }
            Self::Messages(Messages { operation, system, destination, count }) => vec![
                ("messaging.system", (*system).into()),
                ("messaging.operation.type", (*operation).into()),
                ("messaging.operation.name", (*operation).into()),
                ("messaging.destination.name", Value::Text(destination.clone())),
                ("messaging.batch.message_count", Value::Number(*count as i64)),
            ],
            Self::Work { system, .. } => vec![("peer.service", (*system).into())],
        }
    }
}
