//! The life of an order, from its pieces to its money and back.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Client, Kind, Process, Server, Shop, Statistics, Storage, Topology, order_items, until,
};

/// A shop with 5 lamps, and a client who may do everything.
async fn shop_with_lamps(topology: Topology, storage: Storage) -> (Shop, Client, String) {
    let shop = Shop::start_on(topology, storage.servers(), &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    (shop, client, lamp)
}

each_case!(an_order_is_placed_paid_sent_and_given_back:
    one_process(Topology::OneProcess, Storage::Embedded),
    one_process_a_role(Topology::OneProcessARole, Storage::Embedded),
    servers(Topology::OneProcessARole, Storage::Polyglot),
    pooled(Topology::OneProcess, Storage::Pooled),
);
async fn an_order_is_placed_paid_sent_and_given_back(topology: Topology, storage: Storage) {
    let (_shop, client, lamp) = shop_with_lamps(topology, storage).await;
    let chair = client.add_product("Chair", 0.1).await;
    let user = Uuid::now_v7();
    let to = json!({ "name": "Trinity", "street": "1 Main Street", "city": "Zion" });
    let items = order_items(&[(&lamp, 1), (&chair, 3), (&lamp, 1)]);
    let body = json!({ "items": items, "userId": user, "shipTo": to, "contact": "t@example.com" });
    let placed = client.post("/orders", body).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let order = placed.json();
    assert_eq!(placed.header("location"), format!("/orders/{}", order["id"].as_str().unwrap()));
    assert_eq!(
        (&order["status"], &order["userId"], &order["total"], &order["currency"]),
        (&json!("placed"), &json!(user), &json!(25.3), &json!("EUR"))
    );
    assert_eq!((&order["shipTo"], &order["contact"]), (&to, &json!("t@example.com")));
    assert_eq!(
        order["items"],
        json!([
            { "productId": lamp, "name": "Lamp", "unitPrice": 12.5, "quantity": 2, "lineTotal": 25 },
            { "productId": chair, "name": "Chair", "unitPrice": 0.1, "quantity": 3, "lineTotal": 0.3 },
        ])
    );
    assert_eq!(client.stock(&lamp).await, [5, 2, 3].map(Value::from));
    assert_eq!(client.reread(&order).await, order);

    // What the order has copied does not change with the product.
    client.write(awc::http::Method::PATCH, &format!("/products/{lamp}"), r#"{"price":99}"#).await;
    let paid = client.pay(&order, "ok").await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!((&paid.json()["status"], &paid.json()["total"]), (&json!("paid"), &json!(25.3)));
    assert!(paid.json()["paidAt"].is_string());
    assert_eq!(client.stock(&lamp).await, [3, 0, 3].map(Value::from));

    let sent = client.act(&order, "fulfil", Value::Null).await;
    assert_eq!((sent.status, &sent.json()["status"]), (200, &json!("fulfilled")), "{sent:?}");
    let back = client.act(&order, "refund", json!({ "restock": true })).await;
    assert_eq!((back.status, &back.json()["status"]), (200, &json!("refunded")), "{back:?}");
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
    for (action, body) in [
        ("pay", json!({ "paymentMethod": "ok" })),
        ("cancel", Value::Null),
        ("fulfil", Value::Null),
        ("refund", json!({ "restock": true })),
    ] {
        let answer = client.act(&order, action, body).await;
        assert_eq!(answer.status, 409, "{action}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("refunded"), "{answer:?}");
    }
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
}

each_storage!(an_order_is_called_off_and_its_pieces_come_back);
async fn an_order_is_called_off_and_its_pieces_come_back(storage: Storage) {
    let (_shop, client, lamp) = shop_with_lamps(Topology::OneProcess, storage).await;
    let order = client.order(Uuid::now_v7(), &[(&lamp, 5)]).await.json();
    let other = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await;
    assert_eq!((other.status, other.problem().0), (409, "/problems/out-of-stock".into()));
    let short = json!([{ "productId": lamp, "quantity": 1, "available": 0 }]);
    assert_eq!(other.json()["items"], short);
    // Also after somebody tried to pay it.
    assert_eq!(client.pay(&order, "declined").await.status, 402);
    assert_eq!(client.stock(&lamp).await, [5, 5, 0].map(Value::from));
    let cancelled = client.act(&order, "cancel", Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
    let late = client.pay(&order, "ok").await;
    assert_eq!((late.status, late.problem().0), (409, "/problems/conflict".into()));
}

each_storage!(an_order_that_nobody_pays_expires);
async fn an_order_that_nobody_pays_expires(storage: Storage) {
    let window = [("APP__ORDER__PAYMENT_WINDOW", "1s")];
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &window);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let untouched = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let declined = client.order(Uuid::now_v7(), &[(&lamp, 2)]).await.json();
    assert_eq!(client.pay(&declined, "declined").await.status, 402);
    for order in [&untouched, &declined] {
        until("it has expired", async || client.reread(order).await["status"] == "expired").await;
        assert_eq!(client.pay(order, "ok").await.status, 409);
    }
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
}

each_storage!(a_payment_is_made_once_whatever_its_answer);
async fn a_payment_is_made_once_whatever_its_answer(storage: Storage) {
    let (_shop, client, lamp) = shop_with_lamps(Topology::OneProcess, storage).await;
    for method in ["ok", "lost-answer", "twice", "slow"] {
        let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
        let paid = client.pay(&order, method).await;
        assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")), "{method}");
    }
    assert_eq!(client.stock(&lamp).await, [1, 0, 1].map(Value::from));
    let order = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.json();
    let unknown = client.pay(&order, "shells").await;
    assert_eq!((unknown.status, unknown.problem().1), (422, vec!["paymentMethod".into()]));
    // Many at once.
    let tries = (0..8).map(|_| client.pay(&order, "ok"));
    let statuses = futures_util::future::join_all(tries).await;
    let statuses = statuses.iter().map(|answer| answer.status).collect::<Vec<_>>();
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    until("it is paid", async || client.reread(&order).await["status"] == "paid").await;
    assert_eq!(client.stock(&lamp).await, [0, 0, 0].map(Value::from));
}

/// On PostgreSQL, with two connections to it: what is told of one holds for all calls that write.
fn shop_on_postgresql() -> Shop {
    let few = [("APP__SERVER__WORKERS", "1"), ("APP__ORDER__POOL_SIZE", "2")];
    Shop::start_on(Topology::OneProcess, vec![Server::start(Kind::Postgres)], &few)
}

/// Does everything that can be done to an order.
async fn live_through_orders(client: &Client, lamp: &str) {
    let order = client.order(Uuid::now_v7(), &[(lamp, 1)]).await.json();
    assert_eq!(client.pay(&order, "declined").await.status, 402);
    assert_eq!(client.pay(&order, "ok").await.status, 200);
    assert_eq!(client.act(&order, "fulfil", Value::Null).await.status, 200);
    let back = client.act(&order, "refund", json!({ "restock": true })).await;
    assert_eq!(back.status, 200, "{back:?}");
    let order = client.order(Uuid::now_v7(), &[(lamp, 1)]).await.json();
    assert_eq!(client.act(&order, "cancel", Value::Null).await.status, 200);
}

each_statistics!(what_is_done_to_an_order_costs_no_look_at_others_on_postgresql);
async fn what_is_done_to_an_order_costs_no_look_at_others_on_postgresql(statistics: Statistics) {
    let shop = shop_on_postgresql();
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 9).await;
    // A plan that a connection has made for a small table must not stay.
    for _ in 0..8 {
        live_through_orders(&client, &lamp).await;
    }
    shop.take(statistics);
    shop.query(
        "order",
        "INSERT INTO order_orders (id, user_id, status, items, total, currency, created_at, day, expires_at, version, \
             reservation, attempts, pending, pending_at) \
         SELECT gen_random_uuid(), gen_random_uuid(), 'placed', '[]', 100, 'EUR', now(), '2026-01-01', '2100-01-01', \
             1, 0, 0, pending, pending_at \
         FROM generate_series(1, 20000), (VALUES (NULL, NULL), ('charge', TIMESTAMP '2100-01-01')) \
             AS steps (pending, pending_at)",
    );
    shop.forget_reads();
    for _ in 0..3 {
        live_through_orders(&client, &lamp).await;
    }
    assert_eq!(shop.reads_above(300), "");
}

#[actix_rt::test]
async fn what_an_order_takes_is_prepared_once_on_postgresql() {
    let shop = shop_on_postgresql();
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 100).await;
    shop.query("order", "ALTER SYSTEM SET log_min_duration_statement = 0");
    shop.query("order", "SELECT pg_reload_conf()");
    let of_order = |word: &str| {
        let log = shop.servers[0].log();
        let lines = log.lines().filter(|line| line.contains(word) && line.contains("order_"));
        lines.count()
    };
    until("each statement is in its log", async || {
        live_through_orders(&client, &lamp).await;
        of_order(" execute ") > 0
    })
    .await;
    for _ in 0..8 {
        live_through_orders(&client, &lamp).await;
    }
    let parsed = of_order(" parse ");
    let executed = of_order(" execute ");
    for _ in 0..8 {
        live_through_orders(&client, &lamp).await;
    }
    let (parsed, executed) = (of_order(" parse ") - parsed, of_order(" execute ") - executed);
    assert!(executed > 100 && parsed < executed / 10, "{parsed} of {executed}");
}

each_storage!(what_is_free_is_paid_without_the_provider);
async fn what_is_free_is_paid_without_the_provider(storage: Storage) {
    let (_shop, client, _) = shop_with_lamps(Topology::OneProcess, storage).await;
    let gift = client.add_product("Sticker", 0.0).await;
    let order = client.order(Uuid::now_v7(), &[(&gift, 1)]).await.json();
    let paid = client.pay(&order, "declined").await;
    assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")), "{paid:?}");
}

each_storage!(a_dashboard_shows_the_last_orders_by_their_events);
async fn a_dashboard_shows_the_last_orders_by_their_events(storage: Storage) {
    let (_shop, client, lamp) = shop_with_lamps(Topology::OneProcess, storage).await;
    let user = client.register("trinity").await;
    let dashboard = format!("/auth/dashboard/{user}");
    assert_eq!(client.get(&dashboard).await.json()["recentOrders"], Value::Null);
    let id = user.parse::<Uuid>().unwrap();
    let first = client.order(id, &[(&lamp, 1)]).await.json();
    let second = client.order(id, &[(&lamp, 2)]).await.json();
    // Of somebody who has no account.
    assert_eq!(client.order(Uuid::now_v7(), &[(&lamp, 1)]).await.status, 201);
    assert_eq!(client.pay(&first, "ok").await.status, 200);
    assert_eq!(client.act(&second, "cancel", Value::Null).await.status, 200);
    let shown = |order: &Value, status: &str| {
        json!({
            "id": order["id"],
            "status": status,
            "total": order["total"],
            "currency": "EUR",
            "createdAt": order["createdAt"],
        })
    };
    let expected = json!([shown(&second, "cancelled"), shown(&first, "paid")]);
    let is_shown = async || client.get(&dashboard).await.json()["recentOrders"] == expected;
    until("the dashboard shows both", is_shown).await;
}

each_storage!(orders_are_listed_and_summed_up);
async fn orders_are_listed_and_summed_up(storage: Storage) {
    let (_shop, client, _) = shop_with_lamps(Topology::OneProcess, storage).await;
    let chair = client.add_product("Chair", 2.5).await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let order = client.order(Uuid::now_v7(), &[(&chair, 1)]).await.json();
        ids.insert(0, order["id"].as_str().unwrap().to_owned());
        if n % 2 == 0 {
            assert_eq!(client.pay(&order, "ok").await.status, 200);
        }
    }
    assert_eq!(client.walk("/orders?limit=3").await, ids);
    let placed = client.walk("/orders?limit=1&status=placed").await;
    let odd = ids.iter().skip(1).step_by(2).cloned().collect::<Vec<_>>();
    assert_eq!(placed, odd);
    let summary = client.get("/orders/summary?days=2").await.json();
    let row = |status: &str| {
        let rows = summary.as_array().unwrap().iter();
        rows.filter(|row| row["status"] == status)
            .map(|row| (row["orders"].as_i64().unwrap(), row["total"].as_f64().unwrap()))
            .fold((0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
    };
    assert_eq!((row("placed"), row("paid")), ((3, 7.5), (4, 10.0)), "{summary}");
    for bad in ["status=lost", "limit=0", "cursor=x", "user=1"] {
        assert_eq!(client.get(&format!("/orders?{bad}")).await.status, 422, "{bad}");
    }
}

#[actix_rt::test]
async fn what_no_order_can_be_is_refused_and_changes_nothing() {
    let (_shop, client, lamp) = shop_with_lamps(Topology::OneProcess, Storage::Embedded).await;
    let (user, nothing) = (Uuid::now_v7(), "0".repeat(24));
    let item = |quantity: Value| json!([{ "productId": lamp, "quantity": quantity }]);
    for (body, field) in [
        (json!({ "userId": user }), "items"),
        (json!({ "userId": user, "items": [] }), "items"),
        (json!({ "userId": user, "items": item(json!(0)) }), "items"),
        (json!({ "userId": user, "items": item(json!(1000)) }), "items"),
        (json!({ "userId": user, "items": item(json!(1.5)) }), "items"),
        (json!({ "userId": user, "items": item(json!("1")) }), "items"),
        (json!({ "userId": user, "items": order_items(&[(&nothing, 1)]) }), "items"),
        (json!({ "userId": user, "items": order_items(&[("lamp", 1)]) }), "items"),
        (json!({ "userId": user, "items": order_items(&[(&lamp, 999), (&lamp, 1)]) }), "items"),
        (json!({ "items": item(json!(1)) }), "userId"),
        (json!({ "items": item(json!(1)), "userId": "me" }), "userId"),
        (json!({ "items": item(json!(1)), "userId": user, "total": 1 }), "total"),
        (json!({ "items": item(json!(1)), "userId": user, "shipTo": 7 }), "shipTo"),
        (json!({ "items": item(json!(1)), "userId": user, "contact": {} }), "contact"),
    ] {
        let answer = client.post("/orders", &body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert_eq!(answer.problem().1, [field], "{body}");
    }
    let dear = client.post("/products", json!({ "name": "Moon", "price": 1e12 })).await.json();
    let id = dear["id"].as_str().unwrap();
    let answer = client.order(user, &[(id, 1), (&lamp, 1)]).await;
    assert_eq!((answer.status, answer.problem().1), (422, vec!["items".into()]));
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
    assert_eq!(client.get("/orders").await.json(), json!([]));
}

#[actix_rt::test]
async fn a_price_from_before_the_currency_had_no_decimals_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut process = Process::start(folder.path(), Process::command(folder.path()));
    let lamp = process.client("gateway").add_stocked("Lamp", 5).await;
    process.signal(Signal::SIGTERM);
    process.wait();
    let mut command = Process::command(folder.path());
    command.env("APP__SHOP__CURRENCY", "JPY");
    let process = Process::start(folder.path(), command);
    let client = process.client("gateway");
    let refused = client.order(Uuid::now_v7(), &[(&lamp, 1)]).await;
    assert_eq!((refused.status, refused.problem().1), (422, vec!["items".into()]), "{refused:?}");
    let detail = refused.json()["errors"][0]["detail"].clone();
    assert_eq!(detail, "cost fractions of a JPY: Lamp");
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
}
