//! Requests with an Idempotency-Key.

use awc::http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Client, Shop, Storage, Topology, order_items};

async fn order(client: &Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send(Method::POST, "/orders", &headers, body.to_string()).await
}

each_storage!(the_same_request_gets_the_first_answer_again);
async fn the_same_request_gets_the_first_answer_again(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let user = Uuid::now_v7();
    let body = json!({ "items": order_items(&[(&lamp, 2)]), "userId": user });
    let first = order(&client, "one", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(client.pay(&first.json(), "ok").await.status, 200);
    // Also quoted, and written in another way.
    let again = order(&client, "\"one\"", &body).await;
    let spelt = json!({ "userId": user, "items": order_items(&[(&lamp, 1), (&lamp, 1)]) });
    let other = order(&client, "one", &spelt).await;
    for answer in [again, other] {
        assert_eq!((answer.status, answer.text()), (201, first.text()));
        assert_eq!(answer.header("location"), first.header("location"));
    }
    assert_eq!(client.stock(&lamp).await, [3, 0, 3].map(Value::from));

    let different = json!({ "items": order_items(&[(&lamp, 1)]), "userId": user });
    let refused = order(&client, "one", &different).await;
    assert_eq!((refused.status, refused.problem().0), (422, "/problems/invalid".into()));
    // Of another user, it is another key.
    let stranger = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    assert_eq!(order(&client, "one", &stranger).await.status, 201);
}

each_storage!(a_refusal_is_repeated_and_a_shortage_is_not);
async fn a_refusal_is_repeated_and_a_shortage_is_not(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 1).await;
    let user = Uuid::now_v7();
    let body = json!({ "items": order_items(&[(&lamp, 2)]), "userId": user });
    assert_eq!(order(&client, "few", &body).await.status, 409);
    let path = format!("/products/{lamp}/stock");
    client.write(Method::PATCH, &path, json!({ "onHand": 2 })).await;
    assert_eq!(order(&client, "few", &body).await.status, 201);

    let gone = client.add_product("Gone", 1.0).await;
    client.send(Method::DELETE, &format!("/products/{gone}"), &[], "").await;
    let body = json!({ "items": order_items(&[(&gone, 1)]), "userId": user });
    let refused = order(&client, "gone", &body).await;
    assert_eq!((refused.status, refused.problem().1), (422, vec!["items".into()]));
    let again = order(&client, "gone", &body).await;
    assert_eq!((again.status, &again.json()["errors"]), (422, &refused.json()["errors"]));
}

each_storage!(many_with_one_key_are_one_order);
async fn many_with_one_key_are_one_order(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 50).await;
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    let tries = (0..20).map(|_| order(&client, "all", &body));
    let answers = futures_util::future::join_all(tries).await;
    let mut ids = Vec::new();
    for answer in &answers {
        match answer.status {
            201 => ids.push(answer.json()["id"].clone()),
            status => assert_eq!(status, 409, "{answer:?}"),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(client.stock(&lamp).await, [50, 1, 49].map(Value::from));
    assert_eq!(order(&client, "all", &body).await.json()["id"], ids[0]);
}

#[actix_rt::test]
async fn what_is_no_key_is_refused() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    let lamp = client.add_stocked("Lamp", 5).await;
    let body = json!({ "items": order_items(&[(&lamp, 1)]), "userId": Uuid::now_v7() });
    for bad in ["\"", "\"\"", "\"a\"b", &"x".repeat(256), "\u{e9}"] {
        let answer = order(&client, bad, &body).await;
        assert_eq!(
            (answer.status, answer.problem().0),
            (400, "/problems/malformed".into()),
            "{bad}"
        );
    }
    let headers =
        [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")];
    let twice = client.send(Method::POST, "/orders", &headers, body.to_string()).await;
    assert_eq!(twice.status, 400);
    assert_eq!(client.stock(&lamp).await, [5, 0, 5].map(Value::from));
}
