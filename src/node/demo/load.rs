//! Light load that looks like people: visitors who look around and order, and an admin who sends orders and fills shelves.
//!
//! One of them acts at a time, and none hurries, so that it stays far below any limit and can go on for hours. It goes
//! through the gateway's address, as everybody does.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::accounts::{Account, Accounts, details};
use super::client::{Answer, Client, LoadError};
use crate::tasks;

/// The pause between two actions, in milliseconds.
const PAUSE: std::ops::Range<u64> = 250..900;
/// The most orders; then people only look around.
const ORDERS: usize = 5000;
/// An admin refills products of which fewer pieces are left, with so many.
const FEW: i64 = 4;
const REFILL: i64 = 12;
/// How many paid orders wait at least until one is sent.
const WAITING: usize = 4;

/// What people search for.
const WORDS: [&str; 10] =
    ["lamp", "oak", "tea", "garden", "book", "cable", "wool", "gift", "café", "speaker"];
/// How they look at the whole catalogue.
const LISTS: [&str; 5] = [
    "/products",
    "/products?sort=popular",
    "/products?sort=price&inStock=true",
    "/products?maxPrice=20",
    "/categories",
];

/// Starts the load on the shop at `gateway`, by these `accounts`.
pub(super) fn start(gateway: String, accounts: Accounts) {
    tasks::supervise("demo_load", move || Load::new(&gateway, &accounts).run());
}

/// The people of a shop.
struct Load {
    admin: Client,
    /// A visitor who has an account for this alone, and the customers.
    customers: Vec<Client>,
    orders: usize,
}

impl Load {
    fn new(gateway: &str, accounts: &Accounts) -> Self {
        let client = |account: &Account| Client::new(gateway, account.email, &account.password);
        let mut all = accounts.all().iter().map(client);
        let admin = all.next().unwrap_or_else(|| Client::new(gateway, "", ""));
        let mut customers = all.collect::<Vec<_>>();
        let password = Uuid::new_v4().to_string();
        let email = format!("visitor-{}@example.com", Uuid::new_v4().simple());
        customers.insert(0, Client::new(gateway, &email, &password));
        Self { admin, customers, orders: 0 }
    }

    async fn run(mut self) {
        let joined = self.customers[0].register("Visitor").await;
        tell(joined.map(drop));
        loop {
            let visited = match fastrand::u8(..100) {
                0..20 => self.work().await,
                // Most visits are the visitor's, so that customers find their orders among not too many.
                _ => self.visit(fastrand::usize(..8).saturating_sub(5)).await,
            };
            tell(visited);
            pause().await;
        }
    }

    /// A visit of a customer, who may order something.
    async fn visit(&mut self, customer: usize) -> Result<(), LoadError> {
        let client = &mut self.customers[customer];
        let mut seen = Vec::new();
        for _ in 0..1 + fastrand::usize(..3) {
            let page = client.get(&path_of_list()).await?;
            pause().await;
            let products = page.body.as_array().into_iter().flatten();
            let ids = products.filter_map(|product| product["id"].as_str().map(str::to_owned));
            let Some(id) = fastrand::choice(ids.collect::<Vec<_>>()) else { continue };
            let product = client.get(&format!("/products/{id}")).await?;
            seen.extend(Some(id).filter(|_| product.body["inStock"] == true));
            pause().await;
        }
        seen.sort_unstable();
        seen.dedup();
        // Somebody who watches soon sees an order.
        let is_first = self.orders == 0;
        let only_looks = fastrand::u8(..10) < 4 || self.orders >= ORDERS;
        if seen.is_empty() || only_looks && !is_first {
            return Ok(());
        }
        self.orders += 1;
        order(&mut self.customers[customer], customer, &seen).await
    }

    /// What an admin does: sends an order that waits, gives money back, or refills what is low.
    async fn work(&mut self) -> Result<(), LoadError> {
        let admin = &mut self.admin;
        let paid = admin.get_as_user("/orders?status=paid&limit=20").await?;
        let waiting = paid.body.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(order) = waiting.last().filter(|_| waiting.len() > WAITING) {
            let action = if fastrand::u8(..12) == 0 { "refund" } else { "fulfil" };
            let body = if action == "refund" { json!({ "restock": true }) } else { Value::Null };
            pause().await;
            admin.act(order, action, body).await?;
        }
        pause().await;
        let low = admin.get_as_user(&format!("/products/stock?below={FEW}")).await?;
        let low = low.body.as_array().cloned().unwrap_or_default();
        if let Some(id) = fastrand::choice(&low).and_then(|product| product["id"].as_str()) {
            pause().await;
            admin.patch(&format!("/products/{id}/stock"), json!({ "change": REFILL })).await?;
        }
        Ok(())
    }
}

/// Orders the `products`; most people pay, some with the wrong card first, some think better of it, and some forget.
async fn order(client: &mut Client, customer: usize, products: &[String]) -> Result<(), LoadError> {
    let item = |id: &String| json!({ "productId": id, "quantity": fastrand::i64(1..3) });
    let items = products.iter().map(item).collect::<Vec<_>>();
    let (ship_to, contact) = details(customer);
    let order = json!({ "items": items, "shipTo": ship_to, "contact": contact });
    let Answer { status: 201, body: order } = client.post("/orders", order).await? else {
        // Somebody else has the last piece.
        return Ok(());
    };
    pause().await;
    let pay = async |client: &mut Client, method: &str| {
        client.act(&order, "pay", json!({ "paymentMethod": method })).await.map(drop)
    };
    match fastrand::u8(..100) {
        0..72 => pay(client, "ok").await,
        72..84 => {
            pay(client, "declined").await?;
            pause().await;
            pay(client, "ok").await
        }
        84..93 => client.act(&order, "cancel", Value::Null).await.map(drop),
        _ => Ok(()),
    }
}

/// A list that somebody looks at.
fn path_of_list() -> String {
    match fastrand::usize(..3) {
        0 => {
            format!("/products?q={}", WORDS[fastrand::usize(..WORDS.len())].replace('é', "%C3%A9"))
        }
        _ => LISTS[fastrand::usize(..LISTS.len())].to_owned(),
    }
}

async fn pause() {
    sleep(Duration::from_millis(fastrand::u64(PAUSE))).await;
}

/// What fails once is nobody's business but of somebody who looks for it. Who cannot log in any more does not come back.
fn tell(outcome: Result<(), LoadError>) {
    match outcome {
        Ok(()) => {}
        Err(error @ LoadError::Login { .. }) => {
            log::warn!("a visitor of the demo leaves for good: {error}")
        }
        Err(error) => log::debug!("a visit of the demo ends early: {error}"),
    }
}
