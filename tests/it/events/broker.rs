//! Events over RabbitMQ, with a process for each role.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::exchange::Exchange;
use crate::support::{Client, Kind, Server, Shop, Topology, until};

const QUEUE: &str = "shop.user.recent_orders";
const DEAD: &str = "shop.user.recent_orders.dead";

/// A shop whose roles run by themselves, with what a customer needs.
pub(super) struct Customer {
    pub(super) shop: Shop,
    pub(super) client: Client,
    pub(super) id: String,
    pub(super) lamp: String,
}

impl Customer {
    pub(super) async fn start() -> Self {
        Self::start_on(vec![Server::start(Kind::Rabbit)]).await
    }

    pub(super) async fn start_on(servers: Vec<Server>) -> Self {
        Self::start_with(servers, &[]).await
    }

    async fn start_with(servers: Vec<Server>, environment: &[(&str, &str)]) -> Self {
        let shop = Shop::start_on(Topology::OneProcessARole, servers, environment);
        let client = shop.gateway();
        let lamp = client.add_stocked("Lamp", 100).await;
        let id = client.register("buyer").await;
        Self { shop, client, id, lamp }
    }

    pub(super) async fn place(&self) -> Value {
        let placed = self.client.order(self.id.parse().unwrap(), &[(&self.lamp, 1)]).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        placed.json()
    }

    /// An order that is placed and paid.
    pub(super) async fn buy(&self) -> Value {
        let order = self.place().await;
        assert_eq!(self.client.pay(&order, "ok").await.status, 200);
        order
    }

    /// The orders on the dashboard and their states, the newest first.
    pub(super) async fn recent(&self) -> Vec<(Value, Value)> {
        let dashboard = self.client.get(&format!("/auth/dashboard/{}", self.id)).await;
        let recent = dashboard.json()["recentOrders"].as_array().cloned().unwrap_or_default();
        recent.iter().map(|order| (order["id"].clone(), order["status"].clone())).collect()
    }

    /// Waits until the dashboard shows these orders as paid, each once.
    pub(super) async fn sees(&self, orders: &[Value]) {
        let newest_first = orders.iter().rev();
        let paid = newest_first.map(|order| (order["id"].clone(), json!("paid")));
        let paid = paid.collect::<Vec<_>>();
        until("the dashboard shows what is paid", async || self.recent().await == paid).await;
    }

    pub(super) async fn misses_broker(&self, role: &str) -> bool {
        self.shop.process(role).missing().await == json!(["events.url"])
    }

    fn broker(&mut self) -> &mut Server {
        self.shop.server(Kind::Rabbit)
    }
}

#[actix_rt::test]
async fn an_order_is_shown_on_the_dashboard_and_told_to_everybody() {
    let mut customer = Customer::start().await;
    for role in ["order", "user"] {
        until("it has the broker", async || !customer.misses_broker(role).await).await;
    }
    let mut exchange = Exchange::listen(customer.broker()).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(customer.buy().await);
    }
    customer.sees(&orders).await;
    let told = ["shop.order.placed", "shop.order.paid"].map(str::to_owned).into_iter().zip(1..);
    let told = told.collect::<Vec<_>>();
    for order in &orders {
        until("all is told", async || exchange.events_of(order) == told).await;
    }
    let first = &exchange.seen[0];
    assert_eq!(first.routing_key.as_str(), "order.placed");
    let kind = first.properties.content_type().as_ref().unwrap();
    assert_eq!(kind.as_str(), "application/cloudevents+json");
    assert_eq!(*first.properties.delivery_mode(), Some(2), "it survives a restart");
    let event = serde_json::from_slice::<Value>(&first.data).unwrap();
    assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("order")));
    assert_eq!(exchange.depth(DEAD).await, 0);
}

#[actix_rt::test]
async fn orders_are_placed_and_paid_without_the_broker_and_their_events_follow() {
    let mut customer = Customer::start().await;
    let mut orders = vec![customer.buy().await];
    customer.sees(&orders).await;
    // RabbitMQ 3.10 has the name of a new quorum queue on disk three seconds later. Killed before, it comes back with a queue
    // that has no leader, and never gets one.
    actix_rt::time::sleep(Duration::from_secs(4)).await;
    customer.broker().signal(Signal::SIGKILL);
    for _ in 0..3 {
        orders.push(customer.buy().await);
    }
    for role in ["order", "user"] {
        until("it is named", async || customer.misses_broker(role).await).await;
    }
    assert_eq!(customer.recent().await.len(), 1, "the others are not known yet");
    customer.broker().resume();
    customer.sees(&orders).await;
    orders.push(customer.buy().await);
    customer.sees(&orders).await;
    for role in ["order", "user"] {
        until("it is named no more", async || !customer.misses_broker(role).await).await;
    }
}

#[actix_rt::test]
async fn orders_go_on_while_the_broker_has_no_room() {
    let mut customer = Customer::start().await;
    let mut orders = vec![customer.buy().await];
    customer.sees(&orders).await;
    customer.broker().rabbit(&["set_disk_free_limit", "900000GB"]);
    orders.push(customer.buy().await);
    until("it is named", async || customer.misses_broker("order").await).await;
    orders.push(customer.buy().await);
    assert_eq!(customer.recent().await.len(), 1);
    customer.broker().rabbit(&["set_disk_free_limit", "1MB"]);
    customer.sees(&orders).await;
}

#[actix_rt::test]
async fn a_queue_that_somebody_deletes_is_made_anew_and_filled_again() {
    let mut customer = Customer::start().await;
    let mut orders = vec![customer.buy().await];
    customer.sees(&orders).await;
    let exchange = Exchange::listen(customer.broker()).await;
    exchange.delete(QUEUE).await;
    orders.push(customer.buy().await);
    customer.sees(&orders).await;

    // Also what was in it, while nobody took it.
    let address = customer.shop.process("user").urls["user"].replace("http://", "");
    customer.shop.kill("user");
    orders.push(customer.buy().await);
    until("it waits in the queue", async || exchange.depth(QUEUE).await == 2).await;
    exchange.delete(QUEUE).await;
    let broker = customer.broker().url();
    let environment = [("APP__USER__LISTEN", address.as_str()), ("AMQP_URL", &broker)];
    customer.shop.add(&["--role", "user"], &environment);
    customer.sees(&orders).await;
    assert_eq!(exchange.depth(DEAD).await, 0);
}

#[actix_rt::test]
async fn what_a_consumer_cannot_take_is_a_dead_letter_and_the_rest_goes_on() {
    let mut customer = Customer::start().await;
    let first = customer.buy().await;
    customer.sees(std::slice::from_ref(&first)).await;
    let exchange = Exchange::listen(customer.broker()).await;
    let event = json!({
        "specversion": "1.0", "id": uuid::Uuid::now_v7(), "source": "order", "type": "shop.order.paid",
        "subject": "x", "sequence": 1, "time": "2026-11-01T00:00:00Z", "datacontenttype": "application/json",
        "data": { "no": "order" },
    });
    for bad in ["no event".to_owned(), event.to_string()] {
        exchange.put(QUEUE, &bad).await;
        let letter = async || exchange.depth(DEAD).await == 1;
        until("it is a dead letter", letter).await;
        let letter = exchange.take(DEAD).await.unwrap();
        assert_eq!(letter.data, bad.as_bytes());
        let headers = letter.properties.headers().as_ref().unwrap().inner();
        let text = |name: &str| headers[name].as_long_string().unwrap().to_string();
        assert_eq!(text("x-consumer"), "user.recent_orders");
        assert!(!text("x-reason").is_empty());
    }
    let second = customer.buy().await;
    customer.sees(&[first, second]).await;
}

#[actix_rt::test]
async fn events_go_over_tls_to_a_broker_whose_authority_is_believed() {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (authority.cert.pem(), authority.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.crt");
    std::fs::write(&trusted, &certificate).unwrap();
    let broker = Server::start_rabbit_with_tls(&certificate, &key);
    let stranger = Shop::start_on(Topology::OneProcess, Vec::new(), &[("AMQP_URL", &broker.url())]);
    until("the broker is not believed", async || {
        stranger.process("gateway").missing().await == json!(["events.url"])
    })
    .await;
    let environment = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let mut customer = Customer::start_with(vec![broker], &environment).await;
    let order = customer.buy().await;
    customer.sees(&[order]).await;
    let connections = customer.broker().rabbit(&["list_connections", "ssl"]);
    assert!(connections.contains("true") && !connections.contains("false"), "{connections}");
}
