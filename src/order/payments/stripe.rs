//! [Stripe's API](https://docs.stripe.com/api/payment_intents): typed calls over awc.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{StatusCode, Uri};
use awc::{Client, ClientRequest, Connector};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::{PaymentError, Progress};
use crate::config::{self, Currency, SettingError};
use crate::contract::{Money, Order};
use crate::telemetry::{Part, Span, Wait};
use crate::tls;

/// The version of the API that this file was written for. Without it, the account's own would answer.
const VERSION: &str = "2025-03-31.basil";
/// The largest answer, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// The longest text of an answer that goes into an error, in characters.
const TEXT: usize = 300;
/// The currencies whose amounts Stripe takes in whole units. It has ISK and UGX in hundredths, although they have none, and
/// MGA without (<https://docs.stripe.com/currencies#zero-decimal>).
const WHOLE: [&str; 15] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];

/// A client of the API, for one worker thread.
#[derive(Clone)]
pub(in crate::order) struct Stripe {
    http: Client,
    base: String,
    key: SecretString,
    patience: Duration,
}

/// A PaymentIntent, as far as it matters here.
#[derive(Deserialize)]
struct Intent {
    id: String,
    status: String,
    client_secret: Option<String>,
}

impl TryFrom<Intent> for Progress {
    type Error = PaymentError;

    fn try_from(intent: Intent) -> Result<Self, PaymentError> {
        match (intent.status.as_str(), intent.client_secret) {
            ("succeeded", _) => Ok(Self::Succeeded),
            ("requires_payment_method" | "requires_confirmation", _) => Ok(Self::Open),
            ("requires_action", Some(secret)) => Ok(Self::ActionRequired(secret)),
            ("processing", _) => Ok(Self::Processing),
            ("canceled", _) => Ok(Self::Cancelled),
            (status, _) => Err(PaymentError::Away(format!("the payment is {}", shorten(status)))),
        }
    }
}

#[derive(Deserialize)]
struct Refund {
    status: Option<String>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: Problem,
}

/// What an answer says of a request that failed.
#[derive(Default, Deserialize)]
struct Problem {
    code: Option<String>,
    message: Option<String>,
    param: Option<String>,
}

/// Why a request has no result, and the code that Stripe has for it.
struct Refusal {
    error: PaymentError,
    code: Option<String>,
}

impl From<Refusal> for PaymentError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

/// The TLS configuration of clients of the API at `base`, if it is `https`.
///
/// # Errors
/// The setting that does not work.
pub(super) fn client_tls(
    options: &config::Order,
    base: &str,
) -> Result<Option<Arc<ClientConfig>>, SettingError> {
    let is_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
    match options.payments_key.expose_secret() {
        "" => {
            let problem = format!("is empty, and order.payments_url is {base}, which takes a key");
            return Err(("order.payments_key", problem).into());
        }
        key if !is_key(key) => {
            return Err(("order.payments_key", "must have visible ASCII characters alone").into());
        }
        _ => {}
    }
    if base.starts_with("https:") {
        let tls = tls::platform_client();
        let blame = |why| (URL, format!("{why}; set SSL_CERT_FILE")).into();
        return tls.map(Some).map_err(blame);
    }
    match is_loopback(base) {
        true => Ok(None),
        false => Err((URL, "would send order.payments_key in the clear; say https://").into()),
    }
}

const URL: &str = "order.payments_url";

/// Whether the host of `url` is this machine.
fn is_loopback(url: &str) -> bool {
    let url = url.parse::<Uri>().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Stripe {
    /// A client of the API at `base`.
    pub(super) fn new(options: &config::Order, base: &str, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut connector = Connector::new();
        if let Some(tls) = tls {
            connector = connector.rustls_0_23(tls);
        }
        let builder = Client::builder().connector(connector).disable_redirects();
        Self {
            http: builder.disable_timeout().finish(),
            base: base.to_owned(),
            key: options.payments_key.clone(),
            patience: options.payments_timeout,
        }
    }

    pub(super) async fn open(&self, order: &Order) -> Result<String, PaymentError> {
        let form = [
            ("amount", amount(order.total, &order.currency)?.to_string()),
            ("currency", order.currency.to_ascii_lowercase()),
            ("metadata[order]", order.id.to_string()),
            // Others lead the customer away from the shop, and would take an address to come back to.
            ("payment_method_types[]", "card".to_owned()),
        ];
        let request = self.post("payment_intents").insert_header(key(order.id, ""));
        Ok(self.send::<Intent>(request, &form).await?.id)
    }

    pub(super) async fn confirm(
        &self,
        intent: &str,
        key: String,
        method: &str,
    ) -> Result<Progress, PaymentError> {
        let request = self.post(&format!("payment_intents/{intent}/confirm"));
        let request = request.insert_header((IDEMPOTENCY_KEY, key));
        let form = [("payment_method", method.to_owned())];
        match self.progress(intent, request, &form).await {
            // It may be refused because an attempt before has not failed after all.
            Err(PaymentError::Refused(why)) => match self.find(intent).await? {
                found @ (Progress::Succeeded | Progress::Processing) => Ok(found),
                _ => Err(PaymentError::Refused(why)),
            },
            outcome => outcome,
        }
    }

    pub(super) async fn find(&self, intent: &str) -> Result<Progress, PaymentError> {
        let request = self.http.get(format!("{}/v1/payment_intents/{intent}", self.base));
        self.progress(intent, request, &[]).await
    }

    pub(super) async fn cancel(&self, intent: &str) -> Result<Progress, PaymentError> {
        let request = self.post(&format!("payment_intents/{intent}/cancel"));
        match self.progress(intent, request, &[]).await {
            Ok(Progress::Cancelled) => Ok(Progress::Cancelled),
            Ok(_) => Err(PaymentError::Away("the payment is not cancelled".into())),
            // It may be refused because it has ended, one way or the other.
            Err(PaymentError::Refused(why)) => match self.find(intent).await? {
                found @ (Progress::Succeeded | Progress::Cancelled) => Ok(found),
                Progress::Processing => Err(PaymentError::Away("the bank has not decided".into())),
                _ => Err(PaymentError::Refused(why)),
            },
            Err(error) => Err(error),
        }
    }

    pub(super) async fn refund(&self, intent: &str, order: Uuid) -> Result<(), PaymentError> {
        let request = self.post("refunds").insert_header(key(order, "-refund"));
        let form = [("payment_intent", intent.to_owned())];
        match self.send::<Refund>(request, &form).await {
            Ok(Refund { status: Some(status) }) if status == "failed" || status == "canceled" => {
                Err(PaymentError::Refused(format!("the refund is {status}")))
            }
            Ok(_) => Ok(()),
            Err(refusal) if refusal.code.as_deref() == Some("charge_already_refunded") => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn post(&self, path: &str) -> ClientRequest {
        self.http.post(format!("{}/v1/{path}", self.base))
    }

    /// How far the payment `intent` is, by the answer to `request`.
    async fn progress(
        &self,
        intent: &str,
        request: ClientRequest,
        form: &[(&str, String)],
    ) -> Result<Progress, PaymentError> {
        let answered = self.send::<Intent>(request, form).await?;
        match answered.id == intent {
            true => answered.try_into(),
            false => Err(PaymentError::Away("the answer is about another payment".into())),
        }
    }

    /// Sends `request` and reads the answer.
    async fn send<T: DeserializeOwned>(
        &self,
        request: ClientRequest,
        form: &[(&str, String)],
    ) -> Result<T, Refusal> {
        // A connection for each request: a connection that was kept may be stale, and an answer that came twice would be
        // taken for that to the next request.
        let request = request.force_close().bearer_auth(self.key.expose_secret());
        let request = request.insert_header(("Stripe-Version", VERSION));
        let _wait = Wait::begin(Part::Peers);
        let mut span = Span::request("stripe", request.get_method(), request.get_uri());
        let exchange = async {
            let mut answer = request.send_form(&form).await.map_err(|error| error.to_string())?;
            let body =
                answer.body().limit(ANSWER_LIMIT).await.map_err(|error| error.to_string())?;
            Ok((answer.status(), body))
        };
        let answer = timeout(self.patience, exchange).await.unwrap_or(Err("late".to_owned()));
        match &answer {
            Ok((status, _)) => span.answered(status.as_u16()),
            Err(_) => span.fail("no_answer", true),
        }
        let (status, body) = answer.map_err(away)?;
        match status.is_success() {
            true => serde_json::from_slice(&body).map_err(|_| away("it is not readable")),
            false => Err(refusal(status, &body)),
        }
    }
}

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The header that makes a request of `order` one, however often it is sent.
fn key(order: Uuid, what: &str) -> (&'static str, String) {
    (IDEMPOTENCY_KEY, format!("order-{order}{what}"))
}

fn away(why: impl Into<String>) -> Refusal {
    Refusal { error: PaymentError::Away(why.into()), code: None }
}

/// What an answer with `status`, which is no success, means (<https://docs.stripe.com/api/errors>).
fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let Failure { error } = serde_json::from_slice(body).unwrap_or_default();
    let Problem { code, message, param } = error;
    let message = message.map(|message| shorten(&message));
    let said = || {
        let code = code.as_deref().map(shorten).unwrap_or_default();
        format!("{} {code}: {}", status.as_u16(), message.as_deref().unwrap_or_default())
    };
    let error = match status.as_u16() {
        402 => PaymentError::Declined(message.unwrap_or_else(|| "the card was declined".into())),
        // Another request has the same key or the same payment, or there are too many.
        408 | 409 | 429 => PaymentError::Away(said()),
        400..500 if param.as_deref() == Some("payment_method") => {
            PaymentError::Method("is not one that the payment provider takes".into())
        }
        400..500 => PaymentError::Refused(said()),
        _ => PaymentError::Away(said()),
    };
    Refusal { error, code }
}

/// `total` in the units in which Stripe counts `currency`.
fn amount(total: Money, currency: &str) -> Result<i64, PaymentError> {
    let (minor, is_whole) = (total.minor(), total.minor() % 100 == 0);
    let decimals = Currency::try_from(currency.to_owned()).map(Currency::decimals);
    let counts_whole = WHOLE.contains(&currency);
    match (counts_whole, decimals) {
        (true, _) | (_, Ok(0)) if !is_whole => {
            let why = format!("{total} {currency} is no whole amount, and must be one");
            Err(PaymentError::Refused(why))
        }
        (true, _) => Ok(minor / 100),
        (false, _) => Ok(minor),
    }
}

/// The beginning of `text`.
fn shorten(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(status: &str, secret: Option<&str>) -> Option<Progress> {
        let client_secret = secret.map(str::to_owned);
        Intent { id: "pi_1".into(), status: status.into(), client_secret }.try_into().ok()
    }

    #[test]
    fn a_payment_is_as_far_as_stripe_says() {
        for (status, expected) in [
            ("succeeded", Some(Progress::Succeeded)),
            ("requires_payment_method", Some(Progress::Open)),
            ("requires_confirmation", Some(Progress::Open)),
            ("requires_action", Some(Progress::ActionRequired("s".into()))),
            ("processing", Some(Progress::Processing)),
            ("canceled", Some(Progress::Cancelled)),
            // Nobody knows whether these were charged.
            ("requires_capture", None),
            ("", None),
        ] {
            assert_eq!(progress(status, Some("s")), expected, "{status}");
        }
        assert_eq!(progress("requires_action", None), None);
    }

    #[test]
    fn an_error_says_whether_the_request_may_have_had_an_effect() {
        let error = |status: u16, body: &str| {
            let refusal = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            format!("{:?}", refusal.error).split('(').next().unwrap().to_owned()
        };
        let declined = r#"{"error":{"type":"card_error","code":"card_declined","message":"No."}}"#;
        let unknown = r#"{"error":{"code":"resource_missing","param":"payment_method"}}"#;
        let foreign = r#"{"error":{"code":"resource_missing","param":"intent"}}"#;
        for (status, body, expected) in [
            (402, declined, "Declined"),
            (402, "", "Declined"),
            (400, unknown, "Method"),
            (404, unknown, "Method"),
            (404, foreign, "Refused"),
            (400, "no JSON", "Refused"),
            (401, "{}", "Refused"),
            (408, unknown, "Away"),
            (409, unknown, "Away"),
            (429, unknown, "Away"),
            (301, "", "Away"),
            (500, declined, "Away"),
            (503, "", "Away"),
        ] {
            assert_eq!(error(status, body), expected, "{status} {body}");
        }
        let refusal = refusal(StatusCode::PAYMENT_REQUIRED, declined.as_bytes());
        assert_eq!(refusal.code.as_deref(), Some("card_declined"));
        assert_eq!(refusal.error.to_string(), "declined: No.");
    }

    #[test]
    fn amounts_are_in_the_units_of_the_currency() {
        let amount = |minor, currency| amount(Money::from_minor(minor).unwrap(), currency).ok();
        assert_eq!(amount(1050, "EUR"), Some(1050));
        assert_eq!(amount(105_000, "JPY"), Some(1050));
        assert_eq!(amount(1050, "JPY"), None);
        // As Stripe has them.
        assert_eq!((amount(105_000, "ISK"), amount(1050, "ISK")), (Some(105_000), None));
        assert_eq!((amount(105_000, "MGA"), amount(1050, "MGA")), (Some(1050), None));
    }

    #[test]
    fn the_key_goes_to_this_machine_alone_in_the_clear() {
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example.com", "http://example.com", "x"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
