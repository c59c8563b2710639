//! Stores that take commands and do not answer them.

use awc::http::Method;
use serde_json::json;

use crate::support::{Kind, MongoProxy, Server, Shop, Topology, until};

/// A shop whose catalogue is behind a proxy.
fn behind_proxy(environment: &[(&str, &str)]) -> (Shop, MongoProxy, Server) {
    let server = Server::start(Kind::Mongo);
    let proxy = MongoProxy::start(&server);
    let url = proxy.url();
    let environment = [&[("MONGODB_URL", url.as_str())], environment].concat();
    (Shop::start_with(Topology::OneProcess, &environment), proxy, server)
}

#[actix_rt::test]
async fn mongodb_through_a_proxy_that_loses_a_reply_is_asked_again() {
    let (shop, proxy, _server) = behind_proxy(&[]);
    let client = shop.admin().await;
    let id = client.add_product("Lamp", 1.0).await;
    proxy.lose_replies("findAndModify", 1);
    let path = format!("/products/{id}");
    let answer = client.write(Method::PUT, &path, json!({ "name": "Lamp", "price": 2 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(proxy.seen("findAndModify").len(), 2);
    proxy.hold_replies("insert");
    let added = actix_rt::spawn({
        let client = client.clone();
        async move { client.add_product("Chair", 1.0).await }
    });
    until("the reply is held", async || proxy.held() == 1).await;
    proxy.release();
    let added = added.await.unwrap();
    assert_eq!(client.get("/products").await.ids()[0], added);
    proxy.hold("insert");
    let added = actix_rt::spawn({
        let client = client.clone();
        async move { client.add_product("Table", 1.0).await }
    });
    until("the command is held", async || proxy.held() == 1).await;
    proxy.release();
    let added = added.await.unwrap();
    assert_eq!(client.get("/products").await.ids()[0], added);
    proxy.replace_replies("findAndModify", bson::doc! { "value": null }, 1);
    let answer = client.write(Method::PUT, &path, json!({ "name": "Lamp", "price": 3 })).await;
    assert_eq!(answer.status, 412, "what is there, and was not met, has changed: {answer:?}");
    proxy.refuse("insert", bson::doc! { "ok": 0.0, "code": 1, "errmsg": "no" });
    assert_eq!(client.post("/products", json!({ "name": "x", "price": 1 })).await.status, 500);
}
