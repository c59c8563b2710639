//! Relays that end or hang, and shops whose roles have no broker.

use nix::sys::signal::Signal;
use serde_json::json;

use super::broker::Customer;
use super::exchange::Exchange;
use crate::support::{Kind, Process, Server, until};

impl Customer {
    /// Kills the order role, and starts it again where it was.
    fn restart_orders(&mut self) {
        let address = self.shop.process("order").urls["order"].replace("http://", "");
        self.shop.kill("order");
        let broker = self.shop.server(Kind::Rabbit).url();
        let environment = [("APP__ORDER__LISTEN", address.as_str()), ("AMQP_URL", &broker)];
        self.shop.add(&["--role", "order"], &environment);
    }
}

#[actix_rt::test]
async fn what_was_published_and_not_noted_at_a_crash_arrives_once_in_effect() {
    let mut customer = Customer::start().await;
    let mut orders = vec![customer.buy().await];
    customer.sees(&orders).await;
    let mut exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    // The broker gets the events, and does not confirm them.
    customer.shop.server(Kind::Rabbit).signal(Signal::SIGSTOP);
    orders.push(customer.buy().await);
    actix_rt::time::sleep(std::time::Duration::from_millis(500)).await;
    customer.restart_orders();
    customer.shop.server(Kind::Rabbit).signal(Signal::SIGCONT);
    customer.sees(&orders).await;
    // The first relay may have told of the payment, too.
    until("both relays have told of it", async || {
        let seen = exchange.events_of(&orders[1]);
        let numbers = seen.iter().map(|(_, number)| *number).collect::<Vec<_>>();
        matches!(*numbers, [1, 1, 2] | [1, 2, 1, 2])
    })
    .await;
    customer.sees(&orders).await;
}

#[actix_rt::test]
async fn a_relay_that_hangs_is_replaced() {
    let servers = [Kind::Postgres, Kind::Rabbit].map(Server::start).into();
    let mut customer = Customer::start_on(servers).await;
    let mut orders = vec![customer.buy().await];
    customer.sees(&orders).await;
    let mut exchange = Exchange::listen(customer.shop.server(Kind::Rabbit)).await;
    // It has published, and waits for the broker when it hangs itself.
    customer.shop.server(Kind::Rabbit).signal(Signal::SIGSTOP);
    orders.push(customer.buy().await);
    actix_rt::time::sleep(std::time::Duration::from_millis(500)).await;
    customer.shop.process("order").signal(Signal::SIGSTOP);
    customer.shop.server(Kind::Rabbit).signal(Signal::SIGCONT);

    let mut command = Process::command(customer.shop.folder.path());
    command
        .args(["--role", "order"])
        .env("PRODUCT_URL", &customer.shop.process("product").urls["product"]);
    for server in &customer.shop.servers {
        command.env(server.variable(), server.url());
    }
    let second = Process::start(customer.shop.folder.path(), command);
    let begun = std::time::Instant::now();
    let client = std::mem::replace(&mut customer.client, second.client("order"));
    orders.push(customer.buy().await);
    let order = orders[2].clone();
    until("the other one publishes", async || exchange.events_of(&order).len() == 2).await;
    assert!(begun.elapsed().as_secs() < 6, "{:?}", begun.elapsed());
    customer.shop.process("order").signal(Signal::SIGCONT);
    customer.client = client;
    customer.sees(&orders).await;
    orders.push(customer.buy().await);
    customer.sees(&orders).await;
    for order in &orders[1..] {
        let mut numbers = exchange.events_of(order).into_iter().map(|(_, number)| number);
        assert_eq!(numbers.next(), Some(1), "nothing is told before what was before it");
        assert!(numbers.any(|number| number == 2));
    }
}

#[actix_rt::test]
async fn without_a_broker_events_wait_until_there_is_one() {
    let mut customer = Customer::start_on(Vec::new()).await;
    let orders = [customer.buy().await];
    for role in ["order", "user"] {
        let process = customer.shop.process(role);
        until("it is named", async || process.missing().await == json!(["events"])).await;
        assert_eq!(process.log().matches("events.url is memory://").count(), 1);
    }
    for role in ["product", "gateway"] {
        let process = customer.shop.process(role);
        until("it misses nothing", async || process.missing().await == json!([])).await;
    }
    assert_eq!(customer.recent().await, []);

    customer.shop.servers.push(Server::start(Kind::Rabbit));
    let address = customer.shop.process("user").urls["user"].replace("http://", "");
    let broker = customer.shop.server(Kind::Rabbit).url();
    customer.restart_orders();
    customer.shop.kill("user");
    let environment = [("APP__USER__LISTEN", address.as_str()), ("AMQP_URL", &broker)];
    customer.shop.add(&["--role", "user"], &environment);
    customer.sees(&orders).await;
}
