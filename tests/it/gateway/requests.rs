//! What requests may consist of: nothing in them is left out in silence.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Shop, Topology};

const ENFORCED: [(&str, &str); 1] = [("APP__AUTH__MODE", "enforced")];
const JSON: (&str, &str) = ("content-type", "application/json");

each_topology!(a_parameter_that_nobody_knows_is_named);
async fn a_parameter_that_nobody_knows_is_named(topology: Topology) {
    let shop = Shop::start(topology);
    let admin = shop.admin().await;
    let product = format!("/products/{}", admin.add_product("Lamp", 1.0).await);
    let lamp = json!({ "name": "Lamp", "price": 1 }).to_string();
    for (method, path, body) in [
        (Method::GET, "/products", ""),
        (Method::HEAD, "/products", ""),
        (Method::GET, product.as_str(), ""),
        (Method::POST, "/products", lamp.as_str()),
        (Method::PUT, product.as_str(), lamp.as_str()),
        (Method::DELETE, product.as_str(), ""),
        (Method::GET, "/auth/me", ""),
        (Method::PATCH, "/auth/me", "{}"),
        (Method::GET, "/auth/users", ""),
        (Method::POST, "/auth/register", "{}"),
        (Method::POST, "/auth/login", "{}"),
        (Method::POST, "/auth/logout-all", ""),
        (Method::POST, "/auth/session", "{}"),
        (Method::POST, "/auth/session/renew", ""),
        (Method::DELETE, "/auth/session", ""),
        (Method::DELETE, "/auth/users/01890000-0000-7000-8000-000000000000/sessions", ""),
        (Method::GET, "/auth/.well-known/jwks.json", ""),
        (Method::GET, "/health", ""),
        (Method::GET, "/openapi.json", ""),
    ] {
        let answer = admin.write(method.clone(), &format!("{path}?after=x"), body).await;
        assert_eq!(answer.status, 422, "{topology:?} {method} {path}: {answer:?}");
        if method != Method::HEAD {
            assert_eq!(answer.problem().1, ["after"], "{method} {path}");
        }
    }
    let answer = admin.get("/products?limit=0&after=x&b&after=y&=z").await;
    assert_eq!(answer.problem().1, ["limit", "after", "b", ""]);
    assert_eq!(admin.get(&product).await.status, 200, "nothing has happened to it");
    for path in ["/?utm_source=mail", "/docs?a=b", "/docs/page.js?v=2", "/products?", "/products?&"]
    {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
    assert_eq!(shop.gateway().get("/auth/me?after=x").await.status, 401, "first who asks");
}

each_topology!(a_field_that_nobody_knows_is_named);
async fn a_field_that_nobody_knows_is_named(topology: Topology) {
    let shop = Shop::start(topology);
    let admin = shop.admin().await;
    let neo = shop.gateway().customer("neo").await;
    let me = neo.get("/auth/me").await.json();
    let rights = format!("/auth/users/{}", me["id"].as_str().unwrap());
    let product = format!("/products/{}", admin.add_product("Lamp", 1.0).await);
    let lamp = json!({ "name": "Lamp", "price": 1, "prize": 2, "id": "x" });
    let new = json!({ "username": "x", "email": "x@y.de", "roles": ["admin"] });
    let login = json!({ "email": "neo@example.com", "password": PASSWORD, "otp": 1 });
    for (who, method, path, body, fields) in [
        (&admin, Method::POST, "/products", lamp.clone(), vec!["prize", "id"]),
        (&admin, Method::PUT, product.as_str(), lamp, vec!["prize", "id"]),
        (&admin, Method::DELETE, product.as_str(), json!({ "force": true }), vec!["force"]),
        (&admin, Method::PATCH, rights.as_str(), json!({ "role": "admin" }), vec!["role"]),
        (&neo, Method::POST, "/auth/register", new, vec!["roles"]),
        (&neo, Method::POST, "/auth/login", login, vec!["otp"]),
        (&neo, Method::POST, "/auth/refresh", json!({ "x": 1 }), vec!["refreshToken", "x"]),
        (&neo, Method::POST, "/auth/logout-all", json!({ "except": 1 }), vec!["except"]),
        (
            &neo,
            Method::POST,
            "/auth/session",
            json!({ "otp": 1 }),
            vec!["email", "password", "otp"],
        ),
        (&neo, Method::POST, "/auth/session/renew", json!({ "x": 1 }), vec!["x"]),
        (&neo, Method::DELETE, "/auth/session", json!({ "x": 1 }), vec!["x"]),
        (&neo, Method::PATCH, "/auth/me", json!({ "roles": ["admin"] }), vec!["roles"]),
        (&neo, Method::DELETE, "/auth/me", json!({ "password": PASSWORD }), vec!["password"]),
    ] {
        let answer = who.write(method.clone(), path, &body).await;
        assert_eq!(answer.status, 422, "{topology:?} {method} {path}: {answer:?}");
        assert_eq!(answer.problem().1, fields, "{method} {path}");
    }
    let twice = r#"{"name":"Lamp","price":1,"price":2}"#;
    assert_eq!(admin.post("/products", twice).await.problem().1, ["price"]);
    assert_eq!(neo.get("/auth/me").await.json(), me, "nothing has happened");
    assert_eq!(admin.get("/products").await.ids().len(), 1);
    assert_eq!(neo.post("/auth/logout-all", "{}").await.status, 204, "nothing is nothing");
}

each_topology!(a_coded_body_is_refused_as_such);
async fn a_coded_body_is_refused_as_such(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let lamp = json!({ "name": "Lamp", "price": 1 }).to_string();
    for codings in [
        vec!["gzip"],
        vec!["GZIP"],
        vec!["br"],
        vec!["identity, gzip"],
        vec!["identity", "zstd"],
        vec!["gzip", "identity"],
        vec!["aes128gcm"],
    ] {
        for path in ["/products", "/auth/register", "/auth/login"] {
            let lines = codings.iter().map(|coding| ("content-encoding", *coding));
            let headers = lines.chain([JSON]).collect::<Vec<_>>();
            let answer = client.send(Method::POST, path, &headers, lamp.clone()).await;
            let said = (answer.status, answer.header("accept-encoding"));
            assert_eq!(said, (415, "identity"), "{topology:?} {path} {codings:?}: {answer:?}");
            assert_eq!(answer.problem().0, "/problems/unsupported-media-type");
        }
    }
    for plain in ["identity", "Identity, identity", "", " , "] {
        let headers = [("content-encoding", plain), JSON];
        let answer = client.send(Method::POST, "/products", &headers, lamp.clone()).await;
        assert_eq!(answer.status, 201, "{plain:?}: {answer:?}");
    }
    // Another type is told from another coding.
    let text = [("content-type", "text/plain")];
    let answer = client.send(Method::POST, "/products", &text, lamp.clone()).await;
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, ""));
    assert_eq!(answer.header("accept"), "application/json");
    let neo = shop.gateway().customer("neo").await;
    let answer = neo.send(Method::PATCH, "/auth/me", &text, "{}").await;
    let patches = "application/merge-patch+json, application/json";
    assert_eq!((answer.status, answer.header("accept-patch")), (415, patches));
    // Where there is nothing, nothing is coded.
    let none = [("content-encoding", "gzip")];
    assert_eq!(neo.send(Method::GET, "/auth/me", &none, "").await.status, 200);
    assert_eq!(neo.send(Method::POST, "/auth/logout-all", &none, "").await.status, 204);
}

each_topology!(an_answer_that_depends_on_who_asks_is_nobody_elses);
async fn an_answer_that_depends_on_who_asks_is_nobody_elses(topology: Topology) {
    let shop = Shop::start_with(topology, &ENFORCED);
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let neo = shop.gateway().customer("neo").await;
    let id = neo.get("/auth/me").await.json()["id"].clone();
    let dashboard = format!("/auth/dashboard/{}", id.as_str().unwrap());
    let stranger = "/auth/dashboard/01890000-0000-7000-8000-000000000000";
    let product = format!("/products/{}", admin.add_product("Lamp", 1.0).await);
    for (who, method, path, status) in [
        (&neo, Method::GET, "/auth/me", 200),
        (&neo, Method::HEAD, "/auth/me", 200),
        (&neo, Method::PATCH, "/auth/me", 200),
        (&neo, Method::GET, "/auth/me/export", 200),
        (&neo, Method::GET, dashboard.as_str(), 200),
        (&neo, Method::GET, stranger, 404),
        (&neo, Method::GET, "/auth/me?x", 422),
        (&neo, Method::PUT, "/auth/me/password", 422),
        (&neo, Method::GET, "/auth/users", 403),
        (&neo, Method::DELETE, product.as_str(), 403),
        (&admin, Method::GET, "/auth/users", 200),
        (&admin, Method::GET, dashboard.as_str(), 200),
        (&nobody, Method::GET, "/auth/me", 401),
        (&nobody, Method::POST, "/auth/session", 422),
        (&nobody, Method::POST, "/auth/session/renew", 401),
        (&nobody, Method::DELETE, "/auth/session", 204),
        (&nobody, Method::GET, dashboard.as_str(), 401),
        (&nobody, Method::POST, "/products", 401),
        (&nobody.with_token("no.such.token"), Method::GET, "/products", 401),
        (&neo, Method::POST, "/auth/logout-all", 204),
    ] {
        let answer = who.write(method.clone(), path, "{}").await;
        let said = (answer.status, answer.header("cache-control"));
        assert_eq!(said, (status, "no-store"), "{topology:?} {method} {path}");
    }
    let new = json!({ "username": "x", "email": "x@y.de", "password": PASSWORD });
    let registered = nobody.post("/auth/register", new).await;
    assert_eq!((registered.status, registered.header("cache-control")), (201, "no-store"));
    // What is the same for everybody may be kept.
    for path in ["/products", product.as_str(), "/auth/.well-known/jwks.json", "/"] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[actix_rt::test]
async fn a_dashboard_is_nobody_elses_where_everything_is_open() {
    let open = Shop::start(Topology::OneProcess);
    let id = open.gateway().register("neo").await;
    let dashboard = open.gateway().get(&format!("/auth/dashboard/{id}")).await;
    assert_eq!((dashboard.status, dashboard.header("cache-control")), (200, "no-store"));
}

#[actix_rt::test]
async fn the_document_says_that_bodies_have_no_other_fields() {
    let shop = Shop::start(Topology::OneProcess);
    let document = shop.gateway().get("/openapi.json").await.json();
    let mut bodies = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        // The provider of payments adds fields as it likes.
        if path == "/orders/payments/stripe" {
            continue;
        }
        for operation in operations.as_object().unwrap().values() {
            for content in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                // A file is a text, whose lines an import checks.
                if content.1["schema"]["type"] == "string" {
                    continue;
                }
                let reference = content.1["schema"]["$ref"].as_str().unwrap();
                let schema = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
                assert_eq!(schema["additionalProperties"], Value::Bool(false), "{reference}");
                bodies += 1;
            }
        }
    }
    assert!(bodies > 8, "{bodies}");
}

#[actix_rt::test]
async fn json_within_text_is_only_text() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    // Each level would be JSON in a string of the one before, and costs few bytes more.
    let name = r#"{"$serde_json::private::RawValue":""#;
    let mut text = "1".to_owned();
    for level in 0..12 {
        text = format!(r#"{{"$serde_json::private::RawValue":{}}}"#, json!(text));
        let body = format!(r#"{{"name":"Lamp","price":1,"attributes":{text}}}"#);
        let answer = client.post("/products", body).await;
        assert_eq!(answer.status, 422, "{level} {answer:?}");
        assert!(answer.text().contains("must not begin"), "{answer:?}");
    }
    // With its backslashes written as \u005c, a level is not twice as long as the one within it.
    let deep = (0..18_000).fold(String::new(), |text, level| {
        format!("{}{text}", if level == 0 { name.to_owned() } else { name.replace('"', r"\u0022") })
    });
    let body = format!(r#"{{"name":"Lamp","price":1,"attributes":{deep}}}"#);
    let answer = client.post("/products", body).await;
    assert!(matches!(answer.status, 400 | 413 | 422), "{answer:?}");
    assert_eq!(client.get("/products").await.status, 200, "it goes on");
}
