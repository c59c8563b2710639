//! Orders while processes end and other roles are away.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Process, Shop, Topology, until};

/// A shop of one process on files, in `folder`.
fn start(folder: &std::path::Path) -> Process {
    let mut command = Process::command(folder);
    // Sooner than by default, what a request has left is finished.
    command.env("APP__SERVER__REQUEST_TIMEOUT", "3s");
    Process::start(folder, command)
}

#[actix_rt::test]
async fn a_payment_that_was_under_way_at_a_crash_is_settled() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut process = start(folder.path());
    let client = process.client("gateway");
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    let paying = actix_rt::spawn({
        let (client, order) = (client.clone(), order.clone());
        async move {
            let body = json!({ "paymentMethod": "slow" }).to_string();
            let path = format!("/orders/{}/pay", order["id"].as_str().unwrap());
            let headers = [("content-type", "application/json")];
            client.try_send(awc::http::Method::POST, &path, &headers, body).await
        }
    });
    // Its pieces are sold, and the provider has not answered.
    until("the pieces are committed", async || client.stock(&lamp).await[0] == 3).await;
    process.signal(Signal::SIGKILL);
    process.wait();
    assert!(paying.await.unwrap().is_err());

    let process = start(folder.path());
    let client = process.client("gateway");
    assert_eq!(client.reread(&order).await["status"], "placed");
    // Nothing was charged: the pieces are held again, for the same order.
    until("the attempt is settled", async || client.stock(&lamp).await[0] == 5).await;
    assert_eq!(client.stock(&lamp).await, [5, 2, 3].map(Value::from));
    assert_eq!(client.pay(&order, "ok").await.status, 200);
    assert_eq!(client.stock(&lamp).await, [3, 0, 3].map(Value::from));
}

#[actix_rt::test]
async fn orders_survive_a_crash() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut process = start(folder.path());
    let client = process.client("gateway");
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    let paid = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    assert_eq!(client.pay(&paid, "ok").await.status, 200);
    process.signal(Signal::SIGKILL);
    process.wait();
    let process = start(folder.path());
    let client = process.client("gateway");
    assert_eq!(client.reread(&order).await, order);
    assert_eq!(client.reread(&paid).await["status"], "paid");
    assert_eq!(client.stock(&lamp).await, [4, 2, 2].map(Value::from));
}

#[actix_rt::test]
async fn without_the_product_role_nothing_is_ordered_and_nothing_is_charged() {
    let mut shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    shop.kill("product");
    let refused = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await;
    assert_eq!((refused.status, refused.problem().0), (503, "/problems/unavailable".into()));
    let unpaid = client.pay(&order, "ok").await;
    assert_eq!(unpaid.status, 503, "{unpaid:?}");
    assert_eq!(client.reread(&order).await["status"], "placed");
}

#[actix_rt::test]
async fn a_gateway_without_an_order_role_says_so_and_goes_on() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "gateway,user,product"]);
    let process = Process::start(folder.path(), command);
    let client = process.client("gateway");
    let refused = client.get("/orders").await;
    assert_eq!((refused.status, refused.problem().0), (503, "/problems/unavailable".into()));
    assert_eq!(client.get("/products").await.status, 200);
    let is_named =
        async || process.missing().await.as_array().unwrap().contains(&json!("peers.order"));
    until("it is named", is_named).await;
}
