//! The shop's webhooks, at receivers of the test's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use awc::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Client, Kind, Line, PASSWORD, Server, Shop, Statistics, Storage, Topology, Upstream, until,
};

/// Receivers of tests are on this machine.
const NEAR: [(&str, &str); 2] =
    [("APP__ORDER__WEBHOOKS_ALLOW_PRIVATE", "true"), ("APP__ORDER__WEBHOOKS_TIMEOUT", "1s")];

/// What a receiver does with an event.
#[derive(Clone, Debug)]
enum Reply {
    Status(u16),
    Redirect(String),
    Hang,
    Reset,
}

const OK: Reply = Reply::Status(204);

/// Takes events, and answers as the test says.
pub(super) struct Receiver {
    pub(super) upstream: Upstream,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// An event as a receiver got it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().unwrap_or_else(|| panic!("no {name}: {}", self.head)).1;
        assert!(values.next().is_none(), "{}", self.head);
        value
    }

    pub(super) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The subject and the type of the event.
    fn what(&self) -> (String, String) {
        let event = self.event();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("subject"), text("type").replace("shop.order.", ""))
    }

    /// Whether one of its signatures is by `secret`: the HMAC of what Standard Webhooks says.
    fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let (id, time) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let signed = format!("{id}.{time}.{}", self.body);
        self.header("webhook-signature").split(' ').any(|signature| {
            let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
        })
    }
}

impl Receiver {
    /// One that answers event number n, from 0 on, as `reply` says.
    fn start(reply: impl Fn(usize) -> Reply + Clone + Send + 'static) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let all = seen.clone();
        let upstream = Upstream::start(move |line| {
            let Some(event) = receive(line) else { return };
            let number = {
                let mut all = all.lock().unwrap();
                all.push(event);
                all.len() - 1
            };
            match reply(number) {
                Reply::Status(status) => {
                    line.send(format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n"));
                }
                Reply::Redirect(to) => line.send(format!(
                    "HTTP/1.1 307 There\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
                )),
                Reply::Hang => line.wait_for_end(),
                Reply::Reset => line.reset(),
            }
        });
        Self { upstream, seen }
    }

    /// One that takes all.
    pub(super) fn obliging() -> Self {
        Self::start(|_| OK)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has got `count` events.
    async fn wait_for(&self, count: usize) -> Vec<Seen> {
        until("the events are sent", async || self.seen().len() >= count).await;
        self.seen()
    }

    /// What it got about each subject, each type once, as it came first.
    fn firsts(&self) -> HashMap<String, Vec<String>> {
        let mut firsts = HashMap::<_, Vec<_>>::new();
        for (subject, kind) in self.seen().iter().map(Seen::what) {
            let kinds = firsts.entry(subject).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        firsts
    }
}

fn receive(line: &mut Line) -> Option<Seen> {
    let head = line.head()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.unwrap().parse::<usize>().unwrap();
    let mut body = Vec::new();
    while body.len() < length {
        body.extend(line.bytes()?);
    }
    Some(Seen { head, body: String::from_utf8(body).unwrap() })
}

/// Registers a webhook, and gives what came back.
async fn register(admin: &Client, new: Value) -> Value {
    let answer = admin.post("/webhooks", new).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let webhook = answer.json();
    assert_eq!(answer.header("location"), path(&webhook));
    webhook
}

fn path(webhook: &Value) -> String {
    format!("/webhooks/{}", webhook["id"].as_str().unwrap())
}

/// Does something with a webhook, such as `rotate`, and gives what came back.
async fn act(admin: &Client, webhook: &Value, action: &str) -> Value {
    let path = format!("{}/{action}", path(webhook));
    let answer = admin.send(Method::POST, &path, &[], "").await;
    assert_eq!(answer.status, 200, "{action}: {answer:?}");
    answer.json()
}

async fn deliveries(admin: &Client, webhook: &Value) -> Vec<Value> {
    let answer = admin.get(&format!("{}/deliveries", path(webhook))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_array().unwrap().clone()
}

/// Waits until what is listed of the webhook's deliveries is all delivered, and there are `count`.
async fn all_delivered(admin: &Client, webhook: &Value, count: usize) -> Vec<Value> {
    until("all is delivered", async || {
        let all = deliveries(admin, webhook).await;
        all.len() == count && all.iter().all(|one| one["status"] == "delivered")
    })
    .await;
    deliveries(admin, webhook).await
}

/// A shop with an admin and a product with many pieces.
async fn shop_on(topology: Topology, servers: Vec<Server>) -> (Shop, Client, String) {
    let shop = Shop::start_on(topology, servers, &NEAR);
    let admin = shop.admin().await;
    let lamp = admin.add_stocked("Lamp", 500).await;
    (shop, admin, lamp)
}

/// Places an order and pays it; gives its id.
async fn buy(client: &Client, lamp: &str) -> String {
    let order = client.order(Uuid::now_v7(), &[(lamp, 1)]).await.json();
    assert_eq!(client.pay(&order, "ok").await.status, 200);
    order["id"].as_str().unwrap().to_owned()
}

each_case!(events_are_sent_with_a_signature_and_in_order_for_an_order:
    embedded(Topology::OneProcess, Storage::Embedded.servers()),
    servers(Topology::OneProcess, Storage::Polyglot.servers()),
    pooled(Topology::OneProcess, Storage::Pooled.servers()),
    rabbit(Topology::OneProcessARole, vec![Server::start_own(Kind::Rabbit)]),
);
async fn events_are_sent_with_a_signature_and_in_order_for_an_order(
    topology: Topology,
    servers: Vec<Server>,
) {
    let (_shop, admin, lamp) = shop_on(topology, servers).await;
    let (all, paid) = (Receiver::obliging(), Receiver::obliging());
    let webhook = register(&admin, json!({ "url": all.upstream.url, "description": "all" })).await;
    let wanted = json!({ "url": paid.upstream.url, "events": ["shop.order.paid"] });
    let other = register(&admin, wanted).await;
    assert_eq!((&webhook["enabled"], &webhook["description"]), (&json!(true), &json!("all")));
    assert_eq!(webhook["events"], Value::Null);
    assert_eq!(other["events"], json!(["shop.order.paid"]));
    let mut expected = HashMap::new();
    for _ in 0..3 {
        let id = buy(&admin, &lamp).await;
        assert_eq!(admin.act(&json!({ "id": id }), "fulfil", Value::Null).await.status, 200);
        expected.insert(id, ["placed", "paid", "fulfilled"].map(str::to_owned).to_vec());
    }
    let seen = all.wait_for(9).await;
    assert_eq!(all.firsts(), expected);
    let secret = webhook["secret"].as_str().unwrap();
    for one in &seen {
        assert!(one.is_signed_by(secret), "{one:?}");
        assert!(!one.is_signed_by(other["secret"].as_str().unwrap()));
        assert!(one.head.starts_with("POST / HTTP/1.1\r\n"), "{}", one.head);
        assert_eq!(one.header("content-type"), "application/cloudevents+json");
        let event = one.event();
        assert_eq!(one.header("webhook-id"), event["id"]);
        assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("order")));
        assert_eq!(event["data"]["id"], event["subject"]);
    }
    let listed = all_delivered(&admin, &webhook, 9).await;
    for one in &listed {
        assert_eq!((&one["attempts"], &one["httpStatus"]), (&json!(1), &json!(204)), "{one}");
        assert!(one["finishedAt"].is_string() && one["nextAttemptAt"].is_null(), "{one}");
    }
    paid.wait_for(3).await;
    all_delivered(&admin, &other, 3).await;
    assert!(paid.firsts().values().all(|kinds| kinds == &["paid"]), "{:?}", paid.firsts());
    assert_eq!((all.seen().len(), paid.seen().len()), (9, 3), "each once");
    // The secret was shown once.
    assert_eq!(admin.get(&path(&webhook)).await.json()["secret"], Value::Null);
    assert_eq!(admin.get("/webhooks").await.json()[0]["secret"], Value::Null);
    // What is gone is sent nothing.
    assert_eq!(admin.send(Method::DELETE, &path(&webhook), &[], "").await.status, 204);
    assert_eq!(admin.get(&path(&webhook)).await.status, 404);
    buy(&admin, &lamp).await;
    paid.wait_for(4).await;
    assert_eq!(all.seen().len(), 9);
}

each_case!(an_event_that_fails_is_sent_again_and_those_behind_it_wait:
    embedded_failure(Storage::Embedded, Reply::Status(500)),
    server_failure(Storage::Polyglot, Reply::Status(500)),
    silence(Storage::Embedded, Reply::Hang),
    reset(Storage::Embedded, Reply::Reset),
    redirect(Storage::Embedded, Reply::Redirect(String::new())),
);
async fn an_event_that_fails_is_sent_again_and_those_behind_it_wait(storage: Storage, how: Reply) {
    let (_shop, admin, lamp) = shop_on(Topology::OneProcess, storage.servers()).await;
    let elsewhere = Receiver::obliging();
    let how = match how {
        Reply::Redirect(_) => Reply::Redirect(elsewhere.upstream.url.clone()),
        how => how,
    };
    let (failing, well) = (
        Receiver::start(move |number| if number == 0 { how.clone() } else { OK }),
        Receiver::obliging(),
    );
    let webhook = register(&admin, json!({ "url": failing.upstream.url })).await;
    register(&admin, json!({ "url": well.upstream.url })).await;
    let order = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    failing.wait_for(1).await;
    assert_eq!(admin.pay(&order, "ok").await.status, 200);
    // The other one has all of it before the first is tried again.
    well.wait_for(2).await;
    until("it has failed", async || {
        deliveries(&admin, &webhook).await.last().unwrap()["error"].is_string()
    })
    .await;
    assert_eq!(failing.seen().len(), 1);
    // An order that has nothing to do with it is not held up.
    let other = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let seen = failing.wait_for(2).await;
    assert_eq!(seen[1].what(), (other["id"].as_str().unwrap().to_owned(), "placed".into()));
    let seen = failing.wait_for(4).await;
    let of_order = seen.iter().map(Seen::what).filter(|(subject, _)| order["id"] == *subject);
    let kinds = of_order.map(|(_, kind)| kind).collect::<Vec<_>>();
    assert_eq!(kinds, ["placed", "placed", "paid"]);
    assert_eq!(seen[0].header("webhook-id"), seen[2].header("webhook-id"));
    let listed = all_delivered(&admin, &webhook, 3).await;
    let mut attempts = listed.iter().map(|one| one["attempts"].clone()).collect::<Vec<_>>();
    attempts.sort_by_key(Value::as_i64);
    assert_eq!(attempts, [1, 1, 2].map(Value::from));
    assert_eq!(elsewhere.seen().len(), 0, "no redirect is followed");
}

each_storage!(a_webhook_that_is_gone_is_disabled_until_an_admin_enables_it);
async fn a_webhook_that_is_gone_is_disabled_until_an_admin_enables_it(storage: Storage) {
    let (shop, admin, lamp) = shop_on(Topology::OneProcess, storage.servers()).await;
    let gone = Receiver::start(|number| if number == 0 { Reply::Status(410) } else { OK });
    let well = Receiver::obliging();
    let webhook = register(&admin, json!({ "url": gone.upstream.url })).await;
    register(&admin, json!({ "url": well.upstream.url })).await;
    let order = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let is_enabled = async || admin.get(&path(&webhook)).await.json()["enabled"] == true;
    until("it is disabled", async || !is_enabled().await).await;
    let [failed] = &deliveries(&admin, &webhook).await[..] else { panic!("one delivery") };
    assert_eq!((&failed["status"], &failed["httpStatus"]), (&json!("failed"), &json!(410)));
    let id = webhook["id"].as_str().unwrap();
    let noted = format!("webhook_disabled: webhook {id}: answered 410, 1 attempts");
    assert!(shop.process("gateway").log().contains(&noted));
    // What happens now is not for it, but it can be tried.
    assert_eq!(admin.pay(&order, "ok").await.status, 200);
    well.wait_for(2).await;
    assert_eq!(deliveries(&admin, &webhook).await.len(), 1);
    assert_eq!(act(&admin, &webhook, "test").await["delivered"], true);
    assert_eq!(gone.wait_for(2).await[1].what().1, "shop.webhook.test");
    assert_eq!(act(&admin, &webhook, "enable").await["enabled"], true);
    // It gets what it has missed until it was disabled.
    let seen = gone.wait_for(3).await;
    assert_eq!(seen[2].header("webhook-id"), seen[0].header("webhook-id"));
    all_delivered(&admin, &webhook, 1).await;
    buy(&admin, &lamp).await;
    gone.wait_for(5).await;
    let log = shop.process("gateway").log();
    for event in ["webhook_registered", "webhook_enabled"] {
        assert!(log.contains(&format!("{event}: webhook {id}")), "{event}");
    }
    assert!(!log.contains("whsec_"), "secrets are not logged");
}

#[actix_rt::test]
async fn a_new_secret_signs_beside_the_one_before() {
    let (_shop, admin, _) = shop_on(Topology::OneProcess, Vec::new()).await;
    let receiver = Receiver::obliging();
    let webhook = register(&admin, json!({ "url": receiver.upstream.url })).await;
    let tried = act(&admin, &webhook, "test").await;
    assert_eq!(tried, json!({ "delivered": true, "httpStatus": 204 }));
    let rotated = act(&admin, &webhook, "rotate").await;
    let [old, new] = [&webhook, &rotated].map(|webhook| webhook["secret"].as_str().unwrap());
    assert_ne!(old, new);
    act(&admin, &webhook, "test").await;
    let newest = act(&admin, &webhook, "rotate").await;
    act(&admin, &webhook, "test").await;
    let seen = receiver.seen();
    let signers = [old, new, newest["secret"].as_str().unwrap()];
    let signed = |n: usize| signers.map(|secret| seen[n].is_signed_by(secret));
    assert_eq!(signed(0), [true, false, false]);
    assert_eq!(signed(1), [true, true, false]);
    assert_eq!(signed(2), [false, true, true]);
}

#[actix_rt::test]
async fn a_receiver_that_does_not_answer_is_what_a_test_says() {
    let (_shop, admin, _) = shop_on(Topology::OneProcess, Vec::new()).await;
    for (reply, status) in [
        (Reply::Status(500), json!(500)),
        (Reply::Status(302), json!(302)),
        (Reply::Hang, Value::Null),
        (Reply::Reset, Value::Null),
    ] {
        let answer = reply.clone();
        let receiver = Receiver::start(move |_| answer.clone());
        let webhook = register(&admin, json!({ "url": receiver.upstream.url })).await;
        let tried = act(&admin, &webhook, "test").await;
        assert_eq!(
            (&tried["delivered"], &tried["httpStatus"]),
            (&json!(false), &status),
            "{reply:?}"
        );
        assert!(tried["error"].is_string(), "{tried}");
    }
}

#[actix_rt::test]
async fn nothing_is_sent_to_an_address_that_is_not_public() {
    let shop = Shop::start(Topology::OneProcess);
    let admin = shop.admin().await;
    let near = Receiver::obliging();
    let port = near.upstream.url.rsplit(':').next().unwrap().to_owned();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "224.0.0.1",
    ] {
        let url = format!("https://{host}:{port}/");
        let answer = admin.post("/webhooks", json!({ "url": url })).await;
        assert_eq!(answer.status, 422, "{url}: {answer:?}");
        assert_eq!(answer.problem().1, ["url"], "{url}");
    }
    // A name is looked up when something is sent to it.
    let named = register(&admin, json!({ "url": format!("https://localhost:{port}/") })).await;
    let tried = act(&admin, &named, "test").await;
    let why = "leads to an address that is not public";
    assert_eq!(tried, json!({ "delivered": false, "error": why }));
    let lamp = admin.add_stocked("Lamp", 1).await;
    assert_eq!(admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.status, 201);
    until("an event was tried", async || {
        deliveries(&admin, &named).await.iter().any(|one| one["error"] == why)
    })
    .await;
    assert_eq!(near.upstream.take().1, 0, "not a byte");
}

each_case!(webhooks_are_the_admins:
    open(Topology::OneProcess, "open"),
    enforced(Topology::OneProcess, "enforced"),
    open_apart(Topology::OneProcessARole, "open"),
);
async fn webhooks_are_the_admins(topology: Topology, mode: &str) {
    let mut settings = NEAR.to_vec();
    settings.push(("APP__AUTH__MODE", mode));
    let shop = Shop::start_with(topology, &settings);
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let customer = match mode {
        "open" => {
            nobody.sign_up("guest").await;
            nobody.signed_in("guest@example.com", PASSWORD).await
        }
        _ => nobody.customer("guest").await,
    };
    let receiver = Receiver::obliging();
    let webhook = register(&admin, json!({ "url": receiver.upstream.url })).await;
    let (here, nowhere) = (path(&webhook), format!("/webhooks/{}", Uuid::now_v7()));
    let requests = |path: &str| {
        let of = |method: Method, end: &str| (method, format!("{path}{end}"));
        [
            of(Method::GET, ""),
            of(Method::POST, "/rotate"),
            of(Method::POST, "/enable"),
            of(Method::POST, "/test"),
            of(Method::GET, "/deliveries"),
            of(Method::DELETE, ""),
        ]
    };
    let all = [(Method::GET, "/webhooks".to_owned()), (Method::POST, "/webhooks".to_owned())];
    for (method, path) in all.into_iter().chain(requests(&here)) {
        let status =
            async |client: &Client| client.send(method.clone(), &path, &[], "").await.status;
        assert_eq!((status(&nobody).await, status(&customer).await), (401, 403), "{method} {path}");
    }
    for (method, path) in requests(&nowhere).into_iter().chain(requests("/webhooks/none")) {
        assert_eq!(admin.send(method.clone(), &path, &[], "").await.status, 404, "{method} {path}");
    }
    assert_eq!(receiver.seen().len(), 0);
    assert_eq!(act(&admin, &webhook, "test").await["delivered"], true);
    let listed = admin.get("/webhooks").await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &webhook["id"]));
    assert_eq!(deliveries(&admin, &webhook).await, Vec::<Value>::new());
}

#[actix_rt::test]
async fn what_no_webhook_can_be_is_refused() {
    let (_shop, admin, _) = shop_on(Topology::OneProcess, Vec::new()).await;
    let url = "http://127.0.0.1:1/events";
    for (new, field) in [
        (json!({}), "url"),
        (json!({ "url": 7 }), "url"),
        (json!({ "url": "" }), "url"),
        (json!({ "url": "ftp://127.0.0.1" }), "url"),
        (json!({ "url": "http://neo@127.0.0.1" }), "url"),
        (json!({ "url": format!("{url}#top") }), "url"),
        (json!({ "url": format!("{url}/{}", "a".repeat(2048)) }), "url"),
        (json!({ "url": url, "events": [] }), "events"),
        (json!({ "url": url, "events": ["shop.order.lost"] }), "events"),
        (json!({ "url": url, "events": "shop.order.paid" }), "events"),
        (json!({ "url": url, "events": ["shop.order.paid", "shop.order.paid"] }), "events"),
        (json!({ "url": url, "description": "" }), "description"),
        (json!({ "url": url, "secret": "whsec_mine" }), "secret"),
    ] {
        let answer = admin.post("/webhooks", &new).await;
        assert_eq!(answer.status, 422, "{new}: {answer:?}");
        assert_eq!(answer.problem().1, [field], "{new}");
    }
}

each_case!(there_are_at_most_50_webhooks_however_many_are_registered_at_once:
    embedded(Storage::Embedded),
    postgresql(Storage::Polyglot),
);
async fn there_are_at_most_50_webhooks_however_many_are_registered_at_once(storage: Storage) {
    let (_shop, admin, _) = shop_on(Topology::OneProcess, storage.servers()).await;
    let new = json!({ "url": "http://127.0.0.1:1/events" });
    for _ in 0..44 {
        register(&admin, new.clone()).await;
    }
    let tries = (0..20).map(|_| admin.post("/webhooks", &new));
    let answers = futures_util::future::join_all(tries).await;
    let (made, refused) = answers.into_iter().partition::<Vec<_>, _>(|answer| answer.status == 201);
    assert_eq!((made.len(), refused.len()), (6, 14), "{refused:?}");
    for one_more in refused {
        assert_eq!((one_more.status, one_more.problem().0), (409, "/problems/conflict".into()));
    }
    assert_eq!(admin.get("/webhooks").await.json().as_array().unwrap().len(), 50);
}

#[actix_rt::test]
async fn two_processes_send_each_event_once() {
    let (mut shop, admin, lamp) = shop_on(Topology::OneProcess, Storage::Polyglot.servers()).await;
    let urls = shop.servers.iter().map(|server| (server.variable(), server.url()));
    let urls = urls.collect::<Vec<_>>();
    let urls = urls.iter().map(|(name, url)| (*name, url.as_str()));
    shop.add(&[], &urls.chain(NEAR).collect::<Vec<_>>());
    let receiver = Receiver::obliging();
    let webhook = register(&admin, json!({ "url": receiver.upstream.url })).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(buy(&admin, &lamp).await);
    }
    receiver.wait_for(40).await;
    all_delivered(&admin, &webhook, 40).await;
    assert_eq!(receiver.seen().len(), 40, "each once");
    let firsts = receiver.firsts();
    assert!(ids.iter().all(|id| firsts[id] == ["placed", "paid"]), "{firsts:?}");
}

each_storage!(what_a_killed_process_was_sending_is_sent_again_in_order);
async fn what_a_killed_process_was_sending_is_sent_again_in_order(storage: Storage) {
    let (mut shop, admin, lamp) = shop_on(Topology::OneProcess, storage.servers()).await;
    // The second event is under way when the process ends.
    let receiver = Receiver::start(|number| if number == 1 { Reply::Hang } else { OK });
    register(&admin, json!({ "url": receiver.upstream.url })).await;
    let order = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    receiver.wait_for(1).await;
    let mut ids = vec![order["id"].as_str().unwrap().to_owned()];
    assert_eq!(admin.pay(&order, "ok").await.status, 200);
    for _ in 0..2 {
        ids.push(buy(&admin, &lamp).await);
    }
    receiver.wait_for(2).await;
    shop.process("gateway").signal(Signal::SIGKILL);
    let urls = shop.servers.iter().map(|server| (server.variable(), server.url()));
    let urls = urls.collect::<Vec<_>>();
    let urls = urls.iter().map(|(name, url)| (*name, url.as_str()));
    shop.add(&[], &urls.chain(NEAR).collect::<Vec<_>>());
    until("all is sent", async || {
        let firsts = receiver.firsts();
        ids.iter().all(|id| firsts.get(id).is_some_and(|kinds| kinds == &["placed", "paid"]))
    })
    .await;
    let under_way = receiver.seen()[1].header("webhook-id").to_owned();
    until("what was under way is sent again", async || {
        let seen = receiver.seen();
        seen.iter().filter(|one| one.header("webhook-id") == under_way).count() > 1
    })
    .await;
}

#[actix_rt::test]
async fn webhooks_are_copied_to_another_store() {
    let postgres = Server::start(Kind::Postgres);
    let url = postgres.url();
    let (mut shop, admin, _) = shop_on(Topology::OneProcess, Vec::new()).await;
    let webhook = register(&admin, json!({ "url": "http://127.0.0.1:1" })).await;
    let copy = ["copy", "--from", "sqlite://data/order.db", "--to", &url];
    for count in [1, 0] {
        let output = shop.run(&copy);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains(&format!("wrote {count} webhooks; ")),
            "{text}"
        );
    }
    // What the other one was to be sent stays when the webhook changes.
    shop.servers.push(postgres);
    add_pending(&shop, &webhook, 2);
    act(&admin, &webhook, "rotate").await;
    let output = shop.run(&[&copy[..], &["--overwrite"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(count(&shop, "webhook_id IS NOT NULL"), 2);
    let secret = shop.query("order", "SELECT secret FROM order_webhooks");
    assert_ne!(secret.trim(), webhook["secret"].as_str().unwrap());
}

/// Adds as many events to what `webhook` is to be sent, in an hour.
fn add_pending(shop: &Shop, webhook: &Value, count: usize) {
    let id = webhook["id"].as_str().unwrap();
    shop.query(
        "order",
        &format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
             INSERT INTO order_deliveries (webhook_id, event_id, kind, subject, sequence, event, status, attempts, \
             due_at, created_at) SELECT '{id}', 'old-' || n, 'shop.order.paid', 'subject-' || (n / 2), n, '{{}}', \
             'pending', 0, '2100-01-01 00:00:00', '2026-01-01 00:00:00' FROM numbers"
        ),
    );
}

/// How many deliveries there are that `condition` holds for.
fn count(shop: &Shop, condition: &str) -> usize {
    let query = format!("SELECT COUNT(*) FROM order_deliveries WHERE {condition}");
    shop.query("order", &query).trim().parse().unwrap()
}

each_statistics!(a_delivery_costs_no_look_at_a_backlog_on_postgresql);
async fn a_delivery_costs_no_look_at_a_backlog_on_postgresql(statistics: Statistics) {
    const FIRST: usize = 10;
    let postgres = vec![Server::start(Kind::Postgres)];
    let (shop, admin, lamp) = shop_on(Topology::OneProcess, postgres).await;
    // An attempt fails, and what waits behind it waits longer.
    let receiver =
        Receiver::start(|number| if number == 2 * FIRST { Reply::Status(500) } else { OK });
    let webhook = register(&admin, json!({ "url": receiver.upstream.url })).await;
    let buy = async |times| {
        for _ in 0..times {
            let order = admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
            assert_eq!(admin.pay(&order, "ok").await.status, 200);
        }
    };
    // A plan that a connection has made for a small table must not stay.
    buy(FIRST).await;
    until("all is sent", async || count(&shop, "status = 'delivered'") == 2 * FIRST).await;
    shop.take(statistics);
    add_pending(&shop, &webhook, 20_000);
    shop.forget_reads();
    buy(3).await;
    until("all is sent", async || count(&shop, "status = 'delivered'") == 2 * FIRST + 6).await;
    let own = "SELECT COUNT(*) FROM order_deliveries";
    let reads = shop.reads_above(300);
    let reads = reads.lines().filter(|line| !line.contains(own)).collect::<Vec<_>>();
    assert_eq!(reads, Vec::<&str>::new());
}

each_storage!(a_long_backlog_fails_comes_back_and_is_forgotten);
async fn a_long_backlog_fails_comes_back_and_is_forgotten(storage: Storage) {
    const MANY: usize = 1_200;
    let (shop, admin, lamp) = shop_on(Topology::OneProcess, storage.servers()).await;
    let gone = Receiver::start(|number| if number == 0 { Reply::Status(410) } else { OK });
    let webhook = register(&admin, json!({ "url": gone.upstream.url })).await;
    add_pending(&shop, &webhook, MANY);
    admin.order(Uuid::now_v7(), &[(&lamp, 1)]).await;
    until("all has failed", async || count(&shop, "status = 'failed'") == MANY + 1).await;
    assert_eq!(act(&admin, &webhook, "enable").await["enabled"], true);
    until("all is sent", async || count(&shop, "status = 'delivered'") == MANY + 1).await;
    let seen = gone.seen();
    let place = |n: usize| {
        let id = format!("old-{n}");
        seen.iter().position(|one| one.header("webhook-id") == id).unwrap()
    };
    // Two are about one subject each.
    assert!((1..MANY / 2).all(|n| place(2 * n) < place(2 * n + 1)));
    let removed = admin.send(Method::DELETE, &path(&webhook), &[], "").await;
    assert_eq!(removed.status, 204, "{removed:?}");
    assert_eq!(count(&shop, "webhook_id IS NOT NULL"), 0);
}
