//! What is left in the end: by what clients see, by what is in the stores, and by the provider's books.

use std::time::Duration;

use actix_rt::time::sleep;
use awc::http::Method;
use bson::{Document, doc};
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::listener::Listener;
use super::victims::Victims;
use crate::orders::history::{End, FinalOrder, Items, Payment, Stock, Told};
use crate::orders::webhooks::Receiver;
use crate::support::{Answer, Client, Kind, Server};

const LOG: &str = "SELECT event FROM order_outbox ORDER BY log_offset, position";

/// Where all of it is found.
pub(super) struct Books<'a> {
    pub(super) client: Client,
    pub(super) victims: &'a Victims,
    pub(super) listener: &'a Listener,
    pub(super) receiver: &'a Receiver,
    pub(super) users: Vec<String>,
    /// The pieces that there were of each product.
    pub(super) products: Items,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = Text)]
    event: String,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    popularity: i64,
}

#[derive(QueryableByName)]
struct PaymentRow {
    #[diesel(sql_type = Text)]
    intent: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
    #[diesel(sql_type = BigInt)]
    charges: i64,
    #[diesel(sql_type = BigInt)]
    refunds: i64,
    #[diesel(sql_type = BigInt)]
    open: i64,
}

/// An event as it is written down.
pub(super) fn told(event: &Value) -> Told {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    Told {
        id: text("id"),
        order: text("subject"),
        status: text("type").trim_start_matches("shop.order.").to_owned(),
        sequence: event["sequence"].as_i64().unwrap(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Books<'_> {
    pub(super) async fn read(&self) -> End {
        let mut end = End { orders: self.orders().await, ..End::default() };
        for (product, initial) in &self.products {
            let stock = self.get(&format!("/products/{product}/stock")).await.json();
            let number = |name: &str| stock[name].as_i64().unwrap();
            let (on_hand, reserved) = (number("onHand"), number("reserved"));
            end.stocks.insert(product.clone(), Stock { initial: *initial, on_hand, reserved });
        }
        for user in &self.users {
            let dashboard = self.get(&format!("/auth/dashboard/{user}")).await.json();
            let recent = dashboard["recentOrders"].as_array().into_iter().flatten();
            let recent = recent.map(|order| (text(&order["id"]), text(&order["status"])));
            end.dashboards.insert(user.clone(), recent.collect());
        }
        end.payments = self.payments();
        end.log = self.log().await;
        end.heard = self.listener.heard();
        let seen = self.receiver.seen();
        end.deliveries = Some(seen.iter().map(|seen| told(&seen.event())).collect());
        end.popularity = self.popularity().await;
        end
    }

    /// Asks until there is an answer: it may take a moment until breakers are closed again.
    async fn get(&self, path: &str) -> Answer {
        for _ in 0..100 {
            let answer = self.client.try_send(Method::GET, path, &[], "").await;
            if let Some(answer) = answer.ok().filter(|answer| answer.status == 200) {
                return answer;
            }
            sleep(Duration::from_millis(200)).await;
        }
        panic!("no answer to {path}");
    }

    async fn orders(&self) -> Vec<FinalOrder> {
        let (mut orders, mut target) = (Vec::new(), Some("/orders?limit=100".to_owned()));
        while let Some(path) = target {
            let page = self.get(&path).await;
            orders.extend(page.json().as_array().unwrap().iter().map(order));
            target = page.next();
        }
        orders
    }

    fn payments(&self) -> Vec<Payment> {
        if let Some(provider) = &self.victims.provider {
            let payment = |intent: crate::support::stripe::Intent| Payment {
                order: intent.order,
                amount: intent.amount.parse().unwrap(),
                charges: i64::try_from(intent.charges).unwrap(),
                refunds: i64::try_from(intent.refunds).unwrap(),
                is_open: intent.is_tried && !["succeeded", "canceled"].contains(&intent.status),
            };
            return provider.intents().into_iter().map(payment).collect();
        }
        let rows = "SELECT intent, amount, charges, refunds, state = 'open' AND last_key IS NOT NULL AS open \
             FROM order_sandbox";
        let payment = |row: PaymentRow| Payment {
            order: Uuid::parse_str(row.intent.trim_start_matches("sandbox_")).unwrap().to_string(),
            amount: row.amount,
            charges: row.charges,
            refunds: row.refunds,
            is_open: row.open != 0,
        };
        let rows = sql_query(rows).load::<PaymentRow>(&mut self.file("order.db")).unwrap();
        rows.into_iter().map(payment).collect()
    }

    async fn log(&self) -> Vec<Told> {
        let events = match self.server(Kind::Postgres) {
            None => {
                let rows = sql_query(LOG).load::<EventRow>(&mut self.file("order.db")).unwrap();
                rows.into_iter().map(|row| row.event).collect::<Vec<_>>()
            }
            Some(server) => {
                let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
                let (database, connection) = connected.unwrap();
                actix_rt::spawn(connection);
                let rows = database.query(LOG, &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        };
        events.iter().map(|event| told(&serde_json::from_str(event).unwrap())).collect()
    }

    /// The pieces that are counted of each product.
    async fn popularity(&self) -> Items {
        let Some(server) = self.server(Kind::Mongo) else {
            let rows = sql_query("SELECT id, popularity FROM products");
            let rows = rows.load::<CountRow>(&mut self.file("product.db")).unwrap();
            return rows.into_iter().map(|row| (row.id, row.popularity)).collect();
        };
        let mongo = mongodb::Client::with_uri_str(server.url()).await.unwrap();
        let products = mongo.default_database().unwrap().collection::<Document>("products");
        let rows = products.find(doc! {}).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let count = |row: Document| {
            let id = row.get_object_id("_id").unwrap().to_hex();
            (id, row.get_i64("popularity").unwrap_or_default())
        };
        rows.into_iter().map(count).collect()
    }

    fn server(&self, kind: Kind) -> Option<&Server> {
        self.victims.servers.iter().find(|server| server.kind() == kind)
    }

    fn file(&self, name: &str) -> SqliteConnection {
        let path = self.victims.folder.path().join("data").join(name);
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        sql_query("PRAGMA busy_timeout = 5000").execute(&mut file).unwrap();
        file
    }
}

/// An order as a client sees it.
fn order(order: &Value) -> FinalOrder {
    let items = order["items"].as_array().unwrap().iter();
    let items = items.map(|item| (text(&item["productId"]), item["quantity"].as_i64().unwrap()));
    FinalOrder {
        id: text(&order["id"]),
        user: text(&order["userId"]),
        key: text(&order["contact"]),
        status: text(&order["status"]),
        items: items.collect(),
        total: (order["total"].as_f64().unwrap() * 100.0).round() as i64,
    }
}
