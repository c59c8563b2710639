//! One attempt to send an event.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{StatusCode, Uri};
use awc::{Client, Connector};
use tokio::time::timeout;

use super::Webhook;
use super::address::Reach;
use crate::config;
use crate::contract::now;
use crate::telemetry::Span;
use crate::tls;

/// The media type of an event (CloudEvents, JSON format, section 3).
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The longest error that is kept, in characters.
const TEXT: usize = 300;

/// How an attempt has ended.
#[derive(Clone, Debug)]
pub(in crate::order) struct Attempt {
    /// The status of the answer, if there was one.
    pub(in crate::order) status: Option<u16>,
    /// Why the event has not arrived; `None` if it has.
    pub(in crate::order) error: Option<String>,
}

impl Attempt {
    /// Whether the event has arrived.
    pub(super) fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the receiver wants no more events.
    pub(super) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }

    fn failed(error: impl ToString) -> Self {
        Self { status: None, error: Some(error.to_string().chars().take(TEXT).collect()) }
    }

    fn answered(status: StatusCode) -> Self {
        let error = (!status.is_success()).then(|| format!("answered {}", status.as_u16()));
        Self { status: Some(status.as_u16()), error }
    }
}

/// Sends events to webhooks, for one thread.
#[derive(Clone)]
pub(in crate::order) struct Receivers {
    pub(super) reach: Reach,
    patience: Duration,
    /// Made when it is first used: it reads the machine's certificates.
    http: Rc<OnceCell<Client>>,
}

impl Receivers {
    /// Those that `options` allow.
    pub(in crate::order) fn new(options: &config::Order) -> Self {
        let reach = Reach { allow_private: options.webhooks_allow_private };
        Self { reach, patience: options.webhooks_timeout, http: Rc::default() }
    }

    /// Sends `webhook` the event with this `id`, whose JSON is `body`. It is attempt number `attempt`, and takes at most
    /// `limit`. `traceparent` names the span of the attempt.
    pub(super) async fn send(
        &self,
        webhook: &Webhook,
        (id, body): (&str, &str),
        traceparent: Option<HeaderValue>,
        attempt: usize,
        limit: Duration,
    ) -> Attempt {
        let limit = limit.min(self.patience);
        let sending = self.send_in_time(webhook, (id, body), traceparent, attempt);
        let late = |_| Attempt::failed(format!("no answer within {limit:?}"));
        timeout(limit, sending).await.unwrap_or_else(late)
    }

    async fn send_in_time(
        &self,
        webhook: &Webhook,
        (id, body): (&str, &str),
        traceparent: Option<HeaderValue>,
        attempt: usize,
    ) -> Attempt {
        // Also of a webhook that is from before a change of the settings.
        let url = match self.reach.parse(&webhook.url) {
            Ok(url) => url,
            Err(why) => return Attempt::failed(why),
        };
        let address = match self.reach.resolve(&url, attempt).await {
            Ok(address) => address,
            Err(why) => return Attempt::failed(why),
        };
        let time = now();
        let mut signatures = webhook.secret.sign(id, time.timestamp(), body);
        if let Some((old, _)) = webhook.old_secret.as_ref().filter(|(_, until)| *until > time) {
            signatures = format!("{signatures} {}", old.sign(id, time.timestamp(), body));
        }
        // A connection of its own: one from before may have ended, and its address is another one's by now.
        let request = self.client().post(url.as_str()).address(address).force_close();
        let mut request = request
            .insert_header((CONTENT_TYPE, CLOUD_EVENT))
            .insert_header((USER_AGENT, "shop-webhooks"))
            .insert_header(("webhook-id", id))
            .insert_header(("webhook-timestamp", time.timestamp()))
            .insert_header(("webhook-signature", signatures));
        if let Some(parent) = traceparent {
            request = request.insert_header(("traceparent", parent));
        }
        let mut span = Span::request("webhook", request.get_method(), &origin(request.get_uri()));
        match request.send_body(body.to_owned()).await {
            // Its body is nobody's business, and not read.
            Ok(answer) => {
                span.answered(answer.status().as_u16());
                Attempt::answered(answer.status())
            }
            Err(error) => {
                span.fail("no_answer", true);
                Attempt::failed(error)
            }
        }
    }

    fn client(&self) -> &Client {
        self.http.get_or_init(|| {
            let mut connector = Connector::new().limit(0);
            match tls::platform_client() {
                Ok(tls) => connector = connector.rustls_0_23(tls),
                Err(why) => {
                    log::warn!(role = "order"; "webhooks get nothing by https: {why}; set SSL_CERT_FILE");
                }
            }
            let builder = Client::builder().connector(connector).disable_redirects();
            builder.disable_timeout().finish()
        })
    }
}

/// Where `url` leads; what stands behind the host is often a secret.
fn origin(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/REDACTED"));
    Uri::from_parts(parts).unwrap_or_default()
}
