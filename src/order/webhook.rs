//! Stripe's webhook: events that say that a payment has ended. They finish what a lost answer has left open, and what the
//! bank has asked of the customer.
//!
//! An event only says where to look: the provider is asked how far the payment is. So an event that comes twice, late or
//! out of order has no effect of its own.

use actix_web::http::header::HeaderMap;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, Responder};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::OrderState;
use crate::auth::Audit;
use crate::contract::now;
use crate::error::{Error, Kind};
use crate::middleware::RawBody;
use crate::peer::Context;

/// How old a signature may be, in seconds, or how far ahead its clock.
const TOLERANCE: u64 = 300;
/// The most signatures that are verified.
const SIGNATURES: usize = 10;
/// The types of events that matter here.
const TYPES: [&str; 3] =
    ["payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled"];

/// The secrets by which events are signed: several while one is replaced.
#[derive(Clone, Debug)]
pub(super) struct Secrets(Vec<hmac::Key>);

/// Why the signature of an event is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum SignatureError {
    #[error("Stripe-Signature is missing or malformed")]
    Malformed,
    #[error("the signature is too old, or from the future")]
    Time,
    #[error("no signature is by the secret that the shop knows")]
    Unknown,
}

impl From<&SecretString> for Secrets {
    /// The secrets of a setting, separated by commas.
    fn from(secrets: &SecretString) -> Self {
        let secrets = secrets.expose_secret().split(',').map(str::trim);
        let secrets = secrets.filter(|secret| !secret.is_empty());
        Self(secrets.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())).collect())
    }
}

impl Secrets {
    /// Verifies the signature of `body` in `header`, at the Unix time `now`
    /// (<https://docs.stripe.com/webhooks#verify-manually>).
    fn verify(&self, header: &str, body: &[u8], now: i64) -> Result<(), SignatureError> {
        let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
        let time = parts().find(|(name, _)| *name == "t").map(|(_, time)| time);
        let time = time.ok_or(SignatureError::Malformed)?;
        let seconds = time.parse::<i64>().map_err(|_| SignatureError::Malformed)?;
        if seconds.abs_diff(now) > TOLERANCE {
            return Err(SignatureError::Time);
        }
        let signed = [time.as_bytes(), b".", body].concat();
        let signatures = parts().filter(|(name, _)| *name == "v1").take(SIGNATURES);
        let mut signatures = signatures.filter_map(|(_, hex)| hex::decode(hex).ok());
        let is_by_one = |signature: Vec<u8>| {
            self.0.iter().any(|secret| hmac::verify(secret, &signed, &signature).is_ok())
        };
        if signatures.any(is_by_one) { Ok(()) } else { Err(SignatureError::Unknown) }
    }
}

/// An event. What else Stripe says in it is ignored.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    data: EventData,
}

#[derive(Debug, Deserialize)]
struct EventData {
    object: Object,
}

/// What it is about: a payment, or something else.
#[derive(Debug, Deserialize)]
struct Object {
    id: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    order: Option<String>,
}

impl Event {
    /// The order that it is about, and the payment.
    fn payment(self) -> Option<(Uuid, String)> {
        let Object { id, metadata } = self.data.object;
        let order = Uuid::try_parse(&metadata?.order?).ok();
        order.zip(id).filter(|_| TYPES.contains(&self.kind.as_str()))
    }
}

/// Receives an event of the payment provider, which is Stripe.
///
/// Events about other things than the shop's payments are ignored.
#[utoipa::path(
    post,
    path = "/orders/payments/stripe",
    operation_id = "receivePaymentEvent",
    tag = "orders",
    params(("Stripe-Signature" = String, Header, description = "When it was signed, and the signatures", example = "t=1492774577,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd")),
    request_body(content = Object, description = "The event, with whatever fields Stripe adds"),
    responses(
        (status = 200, description = "The order is as the provider says, or the event is ignored"),
        (status = 400, description = "The signature is missing, wrong or too old"),
        (status = 404, description = "`order.payments_webhook_secret` is empty"),
    )
)]
pub(super) async fn receive(
    state: Data<OrderState>,
    request: HttpRequest,
    RawBody(body): RawBody,
    context: Context,
    audit: Audit,
) -> Result<impl Responder, Error> {
    // Not 503: the shop lacks nothing, and requests of anybody must not count as its failures.
    if state.webhook.0.is_empty() {
        return Err(Error::not_found("webhook"));
    }
    let signature = signature(request.headers());
    if let Err(why) = state.webhook.verify(signature, &body, now().timestamp()) {
        audit.note("payment_event_refused", None, &why.to_string());
        return Err(Error::new(Kind::Malformed, why.to_string()));
    }
    let event = serde_json::from_slice::<Event>(&body);
    let event = event.map_err(|_| Error::new(Kind::Malformed, "the body is no event"))?;
    if let Some((order, intent)) = event.payment()
        && let Some(record) = state.orders.find(order).await?
        && record.intent.as_ref() == Some(&intent)
        && let Some(record) = state.settle_payment(record, &context).await?
    {
        let order = record.order;
        let detail = format!("order {}, {} {}, by webhook", order.id, order.total, order.currency);
        audit.note("order_paid", Some(order.user_id), &detail);
    }
    Ok(HttpResponse::Ok().finish())
}

fn signature(headers: &HeaderMap) -> &str {
    let header = headers.get("stripe-signature").and_then(|header| header.to_str().ok());
    header.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{}";
    const NOW: i64 = 1_700_000_000;

    fn secrets(text: &str) -> Secrets {
        Secrets::from(&SecretString::from(text))
    }

    fn sign(secret: &str, time: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hex::encode(hmac::sign(&key, &[format!("{time}.").as_bytes(), BODY].concat()))
    }

    #[test]
    fn a_signature_is_of_the_time_and_the_body_by_a_known_secret() {
        let header = |time: i64, secret| format!("t={time},v1={}", sign(secret, time));
        let verify = |header: &str, body| secrets("old, new").verify(header, body, NOW);
        for secret in ["old", "new"] {
            assert_eq!(verify(&header(NOW, secret), BODY), Ok(()));
        }
        assert_eq!(verify(&header(NOW, "other"), BODY), Err(SignatureError::Unknown));
        assert_eq!(verify(&header(NOW, "new"), b"{} "), Err(SignatureError::Unknown));
        let moved = header(NOW, "new").replace(&format!("t={NOW}"), &format!("t={}", NOW + 1));
        assert_eq!(verify(&moved, BODY), Err(SignatureError::Unknown));
        // Several, of which one counts.
        let several = format!("t={NOW},v1={},v0=x,v1={}", "00".repeat(32), sign("new", NOW));
        assert_eq!(verify(&several, BODY), Ok(()));
    }

    #[test]
    fn a_signature_holds_for_five_minutes() {
        let verify = |time: i64| {
            let header = format!("t={time},v1={}", sign("new", time));
            secrets("new").verify(&header, BODY, NOW)
        };
        assert_eq!((verify(NOW - 300), verify(NOW + 300)), (Ok(()), Ok(())));
        assert_eq!(verify(NOW - 301), Err(SignatureError::Time));
        assert_eq!(verify(NOW + 301), Err(SignatureError::Time));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        for (header, expected) in [
            ("", SignatureError::Malformed),
            ("v1=00", SignatureError::Malformed),
            ("t=x,v1=00", SignatureError::Malformed),
            ("t=9223372036854775808", SignatureError::Malformed),
            ("t=-9223372036854775808", SignatureError::Time),
            ("t=1700000000", SignatureError::Unknown),
            ("t=1700000000,v1=,v1=zz", SignatureError::Unknown),
        ] {
            assert_eq!(secrets("new").verify(header, BODY, NOW), Err(expected), "{header}");
        }
        // Nothing is signed by no secret.
        let header = format!("t={NOW},v1={}", sign("", NOW));
        assert_eq!(secrets(" , ").verify(&header, BODY, NOW), Err(SignatureError::Unknown));
    }

    #[test]
    fn an_event_names_the_order_and_the_payment() {
        let payment = |text: &str| serde_json::from_str::<Event>(text).unwrap().payment();
        let id = Uuid::now_v7();
        let event = |kind: &str| {
            format!(
                r#"{{"type":"{kind}","more":1,"data":{{"object":{{"id":"pi_1","metadata":{{"order":"{id}"}}}}}}}}"#
            )
        };
        assert_eq!(payment(&event("payment_intent.succeeded")), Some((id, "pi_1".to_owned())));
        assert_eq!(payment(&event("payment_intent.created")), None);
        assert_eq!(payment(r#"{"type":"payment_intent.succeeded","data":{"object":{}}}"#), None);
    }
}
