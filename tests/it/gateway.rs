//! The gateway's own answers, and what holds for every answer.

use awc::http::Method;
use serde_json::json;

use crate::support::{Shop, Topology};

#[actix_rt::test]
async fn the_gateway_says_that_it_runs() {
    for topology in Topology::ALL {
        let answer = Shop::start(topology).gateway().get("/").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, br#"{"message":"API Gateway is Running"}"#);
    }
}

#[actix_rt::test]
async fn what_is_not_there_says_so() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        for path in
            ["/nowhere", "/auth", "/authentic", "/auth/nowhere", "/products/", "/products/1/2"]
        {
            let answer = shop.gateway().get(path).await;
            assert_eq!(
                (answer.status, answer.problem().0.as_str()),
                (404, "/problems/not-found"),
                "{path}"
            );
        }
    }
}

#[actix_rt::test]
async fn a_wrong_method_is_told_the_right_ones() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        for (method, path, allow) in [
            (Method::POST, "/", "GET, HEAD"),
            (Method::DELETE, "/products", "GET, HEAD, POST"),
            (Method::PUT, "/products/6b03bc06a8104e0a5ab179df", "GET, HEAD"),
            (Method::GET, "/auth/register", "POST"),
        ] {
            let answer = shop.gateway().send(method, path, &[], "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, allow), "{path}");
            assert_eq!(answer.problem().0, "/problems/method-not-allowed");
        }
    }
}

#[actix_rt::test]
async fn a_body_must_be_json_and_not_too_large() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        let client = shop.gateway();
        for bad in ["", "{", "{\"name\":}", "\u{0}", "nul", "{\"a\":1}x"] {
            let headers =
                [("content-type", "application/json"), ("content-length", &bad.len().to_string())];
            let answer = client.send(Method::POST, "/products", &headers, bad).await;
            assert_eq!(
                (answer.status, answer.problem().0.as_str()),
                (400, "/problems/malformed"),
                "{bad:?}"
            );
        }
        let deep = "[".repeat(100_000);
        assert_eq!(client.post("/products", format!("{{\"name\":{deep}")).await.status, 400);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer = client.send(Method::POST, "/products", &form, "name=Lamp").await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (415, "/problems/unsupported-media-type")
        );
        let name = "x".repeat((1 << 20) - 100);
        let answer = client.post("/products", json!({ "name": name, "price": 1 })).await;
        assert_eq!(answer.status, 422, "just within the limit");
    }
}

#[actix_rt::test]
async fn a_request_id_is_taken_if_sane_and_comes_back_on_every_answer() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        let client = shop.gateway();
        for path in ["/", "/products", "/auth/dashboard/1", "/nowhere"] {
            let answer =
                client.send(Method::GET, path, &[("x-request-id", "mine-7.b_C")], "").await;
            assert_eq!(answer.header("x-request-id"), "mine-7.b_C", "{path}");
            let answer =
                client.send(Method::GET, path, &[("x-request-id", "not {sane}")], "").await;
            assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
        }
        let ids = answer_ids(&shop, "product", "mine-7.b_C");
        assert!(!ids.is_empty(), "the id is in the log of the role behind the gateway");
    }
}

/// The lines that `role` has logged of the request `id`.
fn answer_ids(shop: &Shop, role: &str, id: &str) -> Vec<serde_json::Value> {
    let process = if shop.topology == Topology::OneProcess { "gateway" } else { role };
    let log = shop.process(process).log();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["role"] == role && line["requestId"] == id).collect()
}

#[actix_rt::test]
async fn the_log_is_one_object_a_line_with_everything_an_operator_asks_for() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        let path = "/products/6b03bc06a8104e0a5ab179df";
        shop.gateway().send(Method::GET, path, &[("x-request-id", "look-for-me")], "").await;
        let lines = answer_ids(&shop, "product", "look-for-me");
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["level"], &line["method"]), (&json!("info"), &json!("GET")));
        assert_eq!((&line["route"], &line["status"]), (&json!("/products/{id}"), &json!(404)));
        assert!(line["durationMs"].as_f64().unwrap() > 0.0);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(answer_ids(&shop, "gateway", "look-for-me").len(), 1);
    }
}

#[actix_rt::test]
async fn a_caller_may_ask_for_a_shorter_deadline() {
    for topology in Topology::ALL {
        let shop = Shop::start(topology);
        let headers = [("x-request-timeout-ms", "0")];
        let answer = shop.gateway().send(Method::GET, "/products", &headers, "").await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (504, "/problems/deadline-exceeded")
        );
    }
}
