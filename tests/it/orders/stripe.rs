//! Payments by Stripe: a provider that fails, whose answers are lost, and whose webhook tells the shop.

use std::path::Path;

use awc::http::Method;
use nix::sys::signal::Signal;
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::{Builder, Uuid};

use crate::support::stripe::{Answer, Call, STRIPE_KEY, Stripe, signature};
use crate::support::tls::{Certificates, provider};
use crate::support::{
    Answer as Reply, Client, Kind, Process, Server, Shop, Topology, check, start as start_with,
    until,
};

const SECRET: &str = "whsec_of_the_shop";
const WEBHOOK: &str = "/orders/payments/stripe";

/// Whether a request has its effect before something goes wrong.
const HEARD: bool = true;
const UNHEARD: bool = false;

/// What tells the shop of a provider at `url`.
fn environment(url: &str) -> [(&'static str, &str); 5] {
    [
        ("PAYMENTS_URL", url),
        ("APP__ORDER__PAYMENTS_KEY", STRIPE_KEY),
        ("APP__ORDER__PAYMENTS_WEBHOOK_SECRET", "whsec_before, whsec_of_the_shop"),
        ("APP__ORDER__PAYMENTS_TIMEOUT", "1s"),
        // Soon after this, what a request has left is finished.
        ("APP__SERVER__REQUEST_TIMEOUT", "3s"),
    ]
}

/// A shop with 5 lamps and `provider`, a client of it, and an order of two of the lamps.
async fn shop(topology: Topology, provider: &Stripe) -> (Shop, Client, String, Value) {
    let shop = Shop::start_with(topology, &environment(&provider.url));
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    (shop, client, lamp, order)
}

/// Sends the shop an event, signed by `secret`.
async fn deliver(client: &Client, event: &Value, secret: &str) -> Reply {
    let body = event.to_string();
    let signature = signature(secret, &body, 0);
    client.send(Method::POST, WEBHOOK, &[("stripe-signature", &signature)], body).await
}

/// Pays until the order is paid, or an answer says that it never will be.
async fn pay_at_last(client: &Client, order: &Value) {
    until("it is paid", async || {
        let answer = client.pay(order, "pm_ok").await;
        assert!([200, 409, 502, 503].contains(&answer.status), "{answer:?}");
        answer.status == 200
    })
    .await;
}

fn stock(numbers: [i64; 3]) -> [Value; 3] {
    numbers.map(Value::from)
}

#[actix_rt::test]
async fn an_order_is_paid_and_given_back_in_the_units_of_the_currency() {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    let declined = client.pay(&order, "pm_declined").await;
    assert_eq!((declined.status, declined.problem().0), (402, "/problems/payment-declined".into()));
    assert_eq!(declined.json()["detail"], "Your card was declined.");
    let unknown = client.pay(&order, "pm_nobody_knows").await;
    assert_eq!((unknown.status, unknown.problem().1), (422, vec!["paymentMethod".to_owned()]));
    // Tries that fail cost nobody the pieces.
    assert_eq!(client.stock(&lamp).await, stock([5, 2, 3]));
    let paid = client.pay(&order, "pm_ok").await;
    assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")), "{paid:?}");
    let intent = provider.intent(&order);
    assert_eq!((intent.amount.as_str(), intent.currency.as_str()), ("2500", "eur"));
    let back = client.act(&order, "refund", json!({ "restock": true })).await;
    assert_eq!((back.status, &back.json()["status"]), (200, &json!("refunded")), "{back:?}");
    let intent = provider.intent(&order);
    assert_eq!((intent.charges, intent.refunds), (1, 1));
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

#[actix_rt::test]
async fn an_order_of_a_currency_without_decimals_is_charged_in_whole_units() {
    let provider = Stripe::start();
    let mut environment = environment(&provider.url).to_vec();
    environment.push(("APP__SHOP__CURRENCY", "JPY"));
    let shop = Shop::start_with(Topology::OneProcess, &environment);
    let client = shop.gateway();
    let lamp = client.post("/products", json!({ "name": "Lamp", "price": 12 })).await.json();
    let lamp = lamp["id"].as_str().unwrap();
    let order = client.order(Uuid::now_v7(), &[(lamp, 2)]).await.json();
    assert_eq!(client.pay(&order, "pm_ok").await.status, 200);
    let intent = provider.intent(&order);
    assert_eq!((intent.amount.as_str(), intent.currency.as_str()), ("24", "jpy"));
}

each_case!(an_order_is_charged_once_whatever_becomes_of_a_request:
    opening_is_not_heard(Call::Open, UNHEARD, Answer::Never),
    opening_fails(Call::Open, UNHEARD, Answer::Failure),
    opening_hangs(Call::Open, HEARD, Answer::Never),
    opening_is_reset(Call::Open, HEARD, Answer::Reset),
    opening_is_answered_twice(Call::Open, HEARD, Answer::Twice),
    opening_is_cut_off(Call::Open, HEARD, Answer::Cut),
    charging_is_not_heard(Call::Confirm, UNHEARD, Answer::Never),
    charging_fails(Call::Confirm, UNHEARD, Answer::Failure),
    charging_is_reset_before(Call::Confirm, UNHEARD, Answer::Reset),
    charging_hangs(Call::Confirm, HEARD, Answer::Never),
    charging_is_reset(Call::Confirm, HEARD, Answer::Reset),
    charging_fails_afterwards(Call::Confirm, HEARD, Answer::Failure),
    charging_is_answered_twice(Call::Confirm, HEARD, Answer::Twice),
    charging_is_cut_off(Call::Confirm, HEARD, Answer::Cut),
);
async fn an_order_is_charged_once_whatever_becomes_of_a_request(
    call: Call,
    is_heard: bool,
    answer: Answer,
) {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    provider.fail(call, is_heard, answer);
    pay_at_last(&client, &order).await;
    assert!(provider.count(call) >= 1);
    assert_eq!(provider.intent(&order).charges, 1);
    assert_eq!(client.reread(&order).await["status"], "paid");
    assert_eq!(client.stock(&lamp).await, stock([3, 0, 3]));
}

each_case!(a_payment_is_cancelled_before_its_pieces_are_given_back:
    cancelling_is_not_heard(UNHEARD, Answer::Never),
    cancelling_hangs(HEARD, Answer::Never),
    cancelling_is_reset(HEARD, Answer::Reset),
    cancelling_fails(UNHEARD, Answer::Failure),
);
async fn a_payment_is_cancelled_before_its_pieces_are_given_back(is_heard: bool, answer: Answer) {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    // A request to charge that may still arrive.
    provider.fail(Call::Confirm, UNHEARD, Answer::Never);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    provider.fail(Call::Cancel, is_heard, answer);
    assert_eq!(client.act(&order, "cancel", Value::Null).await.status, 503);
    assert_eq!(client.stock(&lamp).await[2], 3, "pieces were given back");
    until("it is cancelled", async || client.reread(&order).await["status"] == "cancelled").await;
    let intent = provider.intent(&order);
    assert_eq!((intent.status, intent.charges), ("canceled", 0));
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

#[actix_rt::test]
async fn an_order_that_was_charged_after_all_is_not_called_off() {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    provider.fail(Call::Confirm, UNHEARD, Answer::Never);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    assert_eq!(client.pay(&order, "pm_declined").await.status, 402);
    provider.charge(&order);
    assert_eq!(client.act(&order, "cancel", Value::Null).await.status, 409);
    assert_eq!(client.reread(&order).await["status"], "paid");
    assert_eq!(client.stock(&lamp).await, stock([3, 0, 3]));
}

#[actix_rt::test]
async fn an_order_that_is_called_off_while_its_payment_is_opened_is_not_charged() {
    let provider = Stripe::start();
    let mut environment = environment(&provider.url).to_vec();
    environment.push(("APP__ORDER__PAYMENTS_TIMEOUT", "20s"));
    environment.push(("APP__SERVER__REQUEST_TIMEOUT", "20s"));
    let shop = Shop::start_with(Topology::OneProcess, &environment);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    provider.fail(Call::Open, HEARD, Answer::Held);
    let paying = actix_rt::spawn({
        let (client, order) = (client.clone(), order.clone());
        async move { client.pay(&order, "pm_ok").await }
    });
    until("the payment is opened", async || provider.count(Call::Open) == 1).await;
    assert_eq!(client.act(&order, "cancel", Value::Null).await.status, 200);
    provider.release();
    let late = paying.await.unwrap();
    assert_eq!((late.status, late.problem().0), (409, "/problems/conflict".into()));
    assert_eq!(provider.intent(&order).charges, 0);
    assert_eq!(client.reread(&order).await["status"], "cancelled");
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

/// The id of the first reservation of `order`.
fn first_reservation(order: &Value) -> Uuid {
    let id = Uuid::try_parse(order["id"].as_str().unwrap()).unwrap();
    let digest = digest(&SHA256, &[&id.into_bytes()[..], &0_i64.to_be_bytes()].concat());
    Builder::from_custom_bytes(digest.as_ref()[..16].try_into().unwrap()).into_uuid()
}

#[actix_rt::test]
async fn a_charge_for_pieces_that_are_gone_is_given_back() {
    let provider = Stripe::start();
    let (shop, client, lamp, order) = shop(Topology::OneProcessARole, &provider).await;
    provider.fail(Call::Confirm, UNHEARD, Answer::Never);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    let path = format!("/internal/reservations/{}", first_reservation(&order));
    let released = shop.client("product").send(Method::DELETE, &path, &[], "").await;
    assert_eq!(released.status, 204, "{released:?}");
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
    provider.charge(&order);
    let event = provider.event("payment_intent.succeeded", &order);
    assert_eq!(deliver(&client, &event, SECRET).await.status, 200);
    assert_eq!(client.reread(&order).await["status"], "expired");
    let intent = provider.intent(&order);
    assert_eq!((intent.charges, intent.refunds), (1, 1));
    assert_eq!(client.pay(&order, "pm_ok").await.status, 409);
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

/// A shop of one process on files, in `folder`.
fn start(folder: &Path, provider: &Stripe) -> Process {
    let mut command = Process::command(folder);
    // A request waits until the process is killed.
    command.envs(environment(&provider.url)).env("APP__ORDER__PAYMENTS_TIMEOUT", "20s");
    Process::start(folder, command)
}

/// Does `action` with an order of two lamps until the provider has heard `call`, kills the shop, and starts it again.
/// Before, somebody has paid the order by a method, with this answer.
async fn killed_while(
    (call, is_heard): (Call, bool),
    (action, body): (&'static str, Value),
    before: Option<(&str, u16)>,
) -> (Stripe, Process, TempDir, String, Value) {
    let (folder, provider) = (TempDir::new().unwrap(), Stripe::start());
    let mut process = start(folder.path(), &provider);
    let client = process.client("gateway");
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    if let Some((method, status)) = before {
        assert_eq!(client.pay(&order, method).await.status, status);
    }
    let known = provider.count(call);
    provider.fail(call, is_heard, Answer::Never);
    let acting = actix_rt::spawn({
        let path = format!("/orders/{}/{action}", order["id"].as_str().unwrap());
        let headers = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        async move { client.try_send(Method::POST, &path, &headers, body).await }
    });
    until("the provider is asked", async || provider.count(call) > known).await;
    process.signal(Signal::SIGKILL);
    process.wait();
    assert!(acting.await.unwrap().is_err());
    let process = start(folder.path(), &provider);
    (provider, process, folder, lamp, order)
}

each_case!(an_attempt_to_pay_that_a_crash_has_cut_short_is_settled:
    before_opening(Call::Open, UNHEARD),
    after_opening(Call::Open, HEARD),
    before_charging(Call::Confirm, UNHEARD),
    after_charging(Call::Confirm, HEARD),
);
async fn an_attempt_to_pay_that_a_crash_has_cut_short_is_settled(call: Call, is_heard: bool) {
    let paying = ("pay", json!({ "paymentMethod": "pm_ok" }));
    let before = if call == Call::Open { None } else { Some(("pm_declined", 402)) };
    let (provider, process, _folder, lamp, order) =
        killed_while((call, is_heard), paying, before).await;
    let client = process.client("gateway");
    if (call, is_heard) != (Call::Confirm, HEARD) {
        // Nothing was charged: the pieces are held again, for the same order.
        until("it is settled", async || client.stock(&lamp).await == stock([5, 2, 3])).await;
        assert_eq!(client.reread(&order).await["status"], "placed");
        pay_at_last(&client, &order).await;
    }
    until("it is paid", async || client.reread(&order).await["status"] == "paid").await;
    assert_eq!(provider.intent(&order).charges, 1);
    assert_eq!(client.stock(&lamp).await, stock([3, 0, 3]));
}

each_case!(a_cancellation_that_a_crash_has_cut_short_is_finished:
    before_it(UNHEARD),
    after_it(HEARD),
);
async fn a_cancellation_that_a_crash_has_cut_short_is_finished(is_heard: bool) {
    let cut = (Call::Cancel, is_heard);
    let (provider, process, _folder, lamp, order) =
        killed_while(cut, ("cancel", Value::Null), Some(("pm_declined", 402))).await;
    let client = process.client("gateway");
    until("it is cancelled", async || client.reread(&order).await["status"] == "cancelled").await;
    let intent = provider.intent(&order);
    assert_eq!((intent.status, intent.charges), ("canceled", 0));
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

each_case!(a_refund_that_a_crash_has_cut_short_is_finished:
    before_it(UNHEARD),
    after_it(HEARD),
);
async fn a_refund_that_a_crash_has_cut_short_is_finished(is_heard: bool) {
    let cut = (Call::Refund, is_heard);
    let refunding = ("refund", json!({ "restock": true }));
    let (provider, process, _folder, lamp, order) =
        killed_while(cut, refunding, Some(("pm_ok", 200))).await;
    let client = process.client("gateway");
    until("it is refunded", async || client.reread(&order).await["status"] == "refunded").await;
    let intent = provider.intent(&order);
    assert_eq!((intent.charges, intent.refunds), (1, 1));
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

each_topology!(a_webhook_finishes_what_a_lost_answer_has_left);
async fn a_webhook_finishes_what_a_lost_answer_has_left(topology: Topology) {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(topology, &provider).await;
    provider.fail(Call::Confirm, HEARD, Answer::Reset);
    provider.fail(Call::Find, HEARD, Answer::Reset);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    assert_eq!(client.reread(&order).await["status"], "placed");
    let event = provider.event("payment_intent.succeeded", &order);
    let told = deliver(&client, &event, SECRET).await;
    assert_eq!((told.status, told.text()), (200, ""), "{told:?}");
    let paid = client.reread(&order).await;
    assert_eq!(paid["status"], "paid");
    // Once more, by the secret before, and when the order has gone on.
    assert_eq!(deliver(&client, &event, "whsec_before").await.status, 200);
    assert_eq!(client.reread(&order).await, paid);
    assert_eq!(client.act(&order, "refund", json!({ "restock": true })).await.status, 200);
    assert_eq!(deliver(&client, &event, SECRET).await.status, 200);
    assert_eq!(client.reread(&order).await["status"], "refunded");
    let intent = provider.intent(&order);
    assert_eq!((intent.charges, intent.refunds), (1, 1));
    assert_eq!(client.stock(&lamp).await, stock([5, 0, 5]));
}

#[actix_rt::test]
async fn a_webhook_pays_an_order_whose_charge_was_taken_for_failed() {
    let provider = Stripe::start();
    let (shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    provider.fail(Call::Confirm, UNHEARD, Answer::Never);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    assert_eq!(client.pay(&order, "pm_declined").await.status, 402);
    assert_eq!(client.stock(&lamp).await, stock([5, 2, 3]));
    provider.charge(&order);
    let event = provider.event("payment_intent.succeeded", &order);
    let events = (0..4).map(|_| deliver(&client, &event, SECRET));
    for told in futures_util::future::join_all(events).await {
        assert_eq!(told.status, 200, "{told:?}");
    }
    until("it is paid", async || client.reread(&order).await["status"] == "paid").await;
    assert_eq!(client.stock(&lamp).await, stock([3, 0, 3]));
    assert_eq!(provider.intent(&order).charges, 1);
    let log = shop.process("gateway").log();
    assert!(log.contains("by webhook"), "{log}");
    assert!(!log.contains(STRIPE_KEY) && !log.contains(SECRET) && !log.contains("pi_0_secret"));
}

#[actix_rt::test]
async fn a_payment_that_the_bank_asks_about_is_finished_by_a_webhook() {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    let asked = client.pay(&order, "pm_asked").await;
    assert_eq!((asked.status, asked.json()), (202, json!({ "clientSecret": "pi_0_secret" })));
    // What it says of itself does not count.
    let event = provider.event("payment_intent.succeeded", &order);
    assert_eq!(deliver(&client, &event, SECRET).await.status, 200);
    assert_eq!(client.reread(&order).await["status"], "placed");
    provider.charge(&order);
    assert_eq!(deliver(&client, &event, SECRET).await.status, 200);
    assert_eq!(client.reread(&order).await["status"], "paid");
    assert_eq!(client.stock(&lamp).await, stock([3, 0, 3]));
    // Or by the customer, who pays again.
    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    assert_eq!(client.pay(&order, "pm_asked").await.status, 202);
    provider.charge(&order);
    let paid = client.pay(&order, "pm_asked").await;
    assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")), "{paid:?}");
}

#[actix_rt::test]
async fn a_webhook_that_is_not_signed_or_about_something_else_changes_nothing() {
    let provider = Stripe::start();
    let (_shop, client, lamp, order) = shop(Topology::OneProcess, &provider).await;
    provider.fail(Call::Confirm, HEARD, Answer::Never);
    provider.fail(Call::Find, HEARD, Answer::Reset);
    assert_eq!(client.pay(&order, "pm_ok").await.status, 503);
    let event = provider.event("payment_intent.succeeded", &order);
    let body = event.to_string();
    let asked = provider.count(Call::Find);
    for header in [
        String::new(),
        "t=1,v1=00".to_owned(),
        signature("whsec_of_others", &body, 0),
        signature(SECRET, &body, 600),
        signature(SECRET, &format!("{body} "), 0),
    ] {
        let headers = [("stripe-signature", header.as_str())];
        let answer = client.send(Method::POST, WEBHOOK, &headers, body.clone()).await;
        assert_eq!((answer.status, answer.problem().0), (400, "/problems/malformed".into()));
    }
    assert_eq!(deliver(&client, &json!([]), SECRET).await.status, 400);
    let changed = |pointer: &str, value: &str| {
        let mut event = event.clone();
        *event.pointer_mut(pointer).unwrap() = value.into();
        event
    };
    for event in [
        changed("/type", "payment_intent.created"),
        changed("/type", "charge.refunded"),
        changed("/data/object/id", "pi_of_others"),
        changed("/data/object/metadata/order", &Uuid::now_v7().to_string()),
        changed("/data/object/metadata/order", "1"),
    ] {
        let answer = deliver(&client, &event, SECRET).await;
        assert_eq!(answer.status, 200, "{event}: {answer:?}");
    }
    assert_eq!(provider.count(Call::Find), asked, "the provider was asked");
    assert_eq!(client.reread(&order).await["status"], "placed");
    let large = "x".repeat(3 << 20);
    assert_eq!(client.send(Method::POST, WEBHOOK, &[], large).await.status, 413);
    let next = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await;
    assert_eq!(next.status, 201, "{next:?}");
}

#[actix_rt::test]
async fn without_a_secret_no_webhook_is_taken() {
    let shop = Shop::start(Topology::OneProcess);
    let answer = deliver(&shop.gateway(), &json!({}), "").await;
    assert_eq!((answer.status, answer.problem().0), (404, "/problems/not-found".into()));
}

#[actix_rt::test]
async fn a_provider_without_a_key_or_in_the_clear_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let key = format!("order.payments_key={STRIPE_KEY}");
    let refusal = |settings: &[&str]| {
        let args = settings.iter().flat_map(|setting| ["--set", *setting]).collect::<Vec<_>>();
        let line = start_with(&folder, &args).unwrap_err();
        assert_eq!(line.lines().count(), 1, "{line}");
        let checked = check(&folder, &args).unwrap_err();
        assert!(checked.contains(line.trim_start_matches("app: ").trim()), "{checked}");
        line
    };
    let line = refusal(&["order.payments_url=https://api.stripe.com"]);
    assert!(line.contains("order.payments_key"), "{line}");
    let odd = "order.payments_key=sk_live_s3cret\u{e9}";
    let line = refusal(&["order.payments_url=https://api.stripe.com", odd]);
    assert!(line.contains("order.payments_key") && !line.contains("s3cret"), "{line}");
    let line = refusal(&["order.payments_url=http://payments.example.com", &key]);
    assert!(line.contains("order.payments_url") && line.contains("https"), "{line}");
}

#[actix_rt::test]
async fn a_provider_is_asked_by_tls_if_the_machine_trusts_it() {
    let folder = TempDir::new().unwrap();
    let [trusted, other] =
        ["trusted", "other"].map(|name| Certificates::make(folder.path().join(name)));
    let (certificate, key) = trusted.of("gateway");
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(chain.collect(), key).unwrap();
    let provider = Stripe::start_with_tls(config);
    for (authority, status) in [(&trusted, 200), (&other, 503)] {
        let authority = authority.path("ca.crt").to_str().unwrap().to_owned();
        let mut environment = environment(&provider.url).to_vec();
        environment.push(("SSL_CERT_FILE", &authority));
        let shop = Shop::start_with(Topology::OneProcess, &environment);
        let client = shop.gateway();
        let lamp = client.add_stocked("Lamp", 5).await;
        let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
        let paid = client.pay(&order, "pm_ok").await;
        assert_eq!(paid.status, status, "{paid:?}");
    }
    assert_eq!((provider.count(Call::Open), provider.count(Call::Confirm)), (1, 1));
}

/// A card of localstripe.
async fn card(stripe: &Client, number: &str) -> String {
    let card = json!({ "number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123" });
    let answer = stripe.post("/v1/payment_methods", json!({ "type": "card", "card": card })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The payment of `order`, as localstripe has it.
async fn intent(stripe: &Client, order: &Value) -> Value {
    let all = stripe.get("/v1/payment_intents?limit=100").await.json();
    let all = all["data"].as_array().unwrap();
    let of_order = |intent: &&Value| intent["metadata"]["order"] == order["id"];
    all.iter().find(of_order).unwrap_or_else(|| panic!("no payment of {order}")).clone()
}

#[actix_rt::test]
async fn localstripe_takes_payments_and_sends_webhooks() {
    let server = Server::start(Kind::Stripe);
    let stripe = Client::new(server.url()).with_token(STRIPE_KEY);
    let url = server.url();
    let shop = Shop::start_with(Topology::OneProcess, &environment(&url));
    let client = shop.gateway();
    let hook = json!({ "url": format!("{}{WEBHOOK}", client.base), "secret": SECRET });
    assert_eq!(stripe.post("/_config/webhooks/shop", hook).await.status, 200);
    let lamp = client.add_stocked("Lamp", 5).await;
    let [good, declined, asked] = ["4242424242424242", "4000000000000341", "4000002500003155"]
        .map(|number| card(&stripe, number));
    let (good, declined, asked) = (good.await, declined.await, asked.await);

    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    let refused = client.pay(&order, &declined).await;
    assert_eq!((refused.status, refused.problem().0), (402, "/problems/payment-declined".into()));
    let unknown = client.pay(&order, "pm_nobody_knows").await;
    assert_eq!((unknown.status, unknown.problem().1), (422, vec!["paymentMethod".to_owned()]));
    let paid = client.pay(&order, &good).await;
    assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")), "{paid:?}");
    let found = intent(&stripe, &order).await;
    assert_eq!((&found["status"], &found["amount"]), (&json!("succeeded"), &json!(2500)));
    let back = client.act(&order, "refund", json!({ "restock": false })).await;
    assert_eq!((back.status, &back.json()["status"]), (200, &json!("refunded")), "{back:?}");
    let charge = &intent(&stripe, &order).await["latest_charge"];
    assert_eq!((&charge["refunded"], &charge["amount_refunded"]), (&json!(true), &json!(2500)));

    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    assert_eq!(client.pay(&order, &declined).await.status, 402);
    assert_eq!(client.act(&order, "cancel", Value::Null).await.status, 200);
    assert_eq!(intent(&stripe, &order).await["status"], "canceled");

    // The bank asks; the customer answers; its webhook says so.
    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let answer = client.pay(&order, &asked).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = intent(&stripe, &order).await["id"].as_str().unwrap().to_owned();
    let body = json!({ "client_secret": answer.json()["clientSecret"], "success": true });
    let path = format!("/v1/payment_intents/{id}/_authenticate");
    assert_eq!(stripe.post(&path, body).await.status, 200);
    let log = || shop.process("gateway").log();
    until("the webhook has paid it", async || log().contains("by webhook")).await;
    assert_eq!(client.reread(&order).await["status"], "paid");
    assert_eq!(client.stock(&lamp).await, stock([2, 0, 2]));
}
