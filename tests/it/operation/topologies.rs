//! The same requests get the same answers: through the gateway and from the role itself, in one process
//! and in three.

use awc::http::Method;
use regex::Regex;
use serde_json::json;

use crate::support::{Answer, Client, Shop, Storage, Topology};

/// Headers that name a time or the connection, and those that the gateway adds for browsers.
const PASSING: [&str; 5] =
    ["date", "connection", "x-content-type-options", "referrer-policy", "content-security-policy"];

/// Status, headers and body.
type Essence = (u16, Vec<(String, String)>, String);

/// All of the answer that may not differ.
fn essence(answer: &Answer) -> Essence {
    let headers = answer.headers.iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
    let text = |value: &awc::http::header::HeaderValue| value.to_str().unwrap().to_owned();
    let mut headers =
        headers.map(|(name, value)| (name.to_string(), text(value))).collect::<Vec<_>>();
    headers.sort();
    (answer.status, headers, String::from_utf8(answer.body.clone()).unwrap())
}

/// Requests that change nothing, good and bad, by the role that answers them.
fn requests(user: &str, product: &str) -> Vec<(&'static str, Method, String, &'static str)> {
    let mut requests = vec![
        ("user", Method::GET, format!("/auth/dashboard/{user}"), ""),
        ("user", Method::GET, "/auth/dashboard/1".into(), ""),
        ("user", Method::GET, "/auth/none".into(), ""),
        ("user", Method::POST, "/auth/register".into(), "{\"username\":"),
        ("user", Method::POST, "/auth/register".into(), "{}"),
        (
            "user",
            Method::POST,
            "/auth/register".into(),
            r#"{"username":"x","email":"NEO@example.com"}"#,
        ),
        ("user", Method::DELETE, "/auth/register".into(), ""),
        ("product", Method::GET, format!("/products/{product}"), ""),
        ("product", Method::GET, "/products/1".into(), ""),
        ("product", Method::POST, "/products".into(), r#"{"name":5}"#),
        ("product", Method::POST, "/products".into(), "nonsense"),
        ("product", Method::PATCH, "/products".into(), ""),
    ];
    for query in ["", "?limit=2", "?limit=0", "?cursor=x", "?unknown=1"] {
        requests.push(("product", Method::GET, format!("/products{query}"), ""));
        requests.push(("product", Method::HEAD, format!("/products{query}"), ""));
    }
    requests
}

async fn ask(client: &Client, method: &Method, path: &str, body: &str) -> Essence {
    let headers = [("content-type", "application/json"), ("x-request-id", "same")];
    essence(&client.send(method.clone(), path, &headers, body).await)
}

#[actix_rt::test]
async fn the_gateway_changes_nothing_of_what_a_role_says() {
    let shop = Shop::start(Topology::OneProcessARole);
    let gateway = shop.gateway();
    let user = gateway.register("neo").await;
    let product = gateway.add_product("Lamp", 49.99).await;
    gateway.add_product("Kettle", 39.9).await;
    gateway.add_product("Chair", 349.0).await;
    for (role, method, path, body) in requests(&user, &product) {
        // The first answer may be the one that fills the cache.
        ask(&gateway, &method, &path, body).await;
        let through = ask(&gateway, &method, &path, body).await;
        let itself = ask(&shop.client(role), &method, &path, body).await;
        assert_eq!(through, itself, "{method} {path}");
    }
}

each_case!(what_is_answered_is_the_same_as_by_one_process_on_files:
    embedded_one_process_a_role(Storage::Embedded, Topology::OneProcessARole),
    polyglot_one_process(Storage::Polyglot, Topology::OneProcess),
    polyglot_one_process_a_role(Storage::Polyglot, Topology::OneProcessARole),
);
async fn what_is_answered_is_the_same_as_by_one_process_on_files(
    storage: Storage,
    topology: Topology,
) {
    let plain = Shop::start(Topology::OneProcess);
    let expected = converse(&plain.admin().await).await;
    let shop = Shop::start_on(topology, storage.servers(), &[]);
    let given = converse(&shop.admin().await).await;
    assert_eq!(expected.len(), given.len());
    for (expected, given) in expected.iter().zip(&given) {
        assert_eq!(expected, given);
    }
}

/// Fills a shop and asks everything; gives the answers without what differs from run to run.
async fn converse(client: &Client) -> Vec<(String, u16, String, String)> {
    let user = client.register("neo").await;
    let mut products = vec![];
    for (name, price) in [("Lamp", 49.99), ("Kettle", 39.9), ("Chair", 349.0)] {
        products.push(client.add_product(name, price).await);
    }
    let mut requests = requests(&user, &products[0]);
    let one = format!("/products/{}", products[2]);
    for (method, body) in [
        (Method::PUT, r#"{"name":"Armchair","price":399}"#),
        (Method::PUT, r#"{"name":"","price":399}"#),
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::PUT, r#"{"name":"Armchair","price":399}"#),
    ] {
        requests.push(("product", method, one.clone(), body));
    }
    let (mut given, mut etags) = (Vec::new(), Vec::new());
    for (_, method, path, body) in requests {
        let (status, mut headers, body) = ask(client, &method, &path, body).await;
        number_etags(&mut headers, &mut etags);
        let headers = blind(&format!("{headers:?}"), &user, &products);
        let request = format!("{method} {}", blind(&path, &user, &products));
        given.push((request, status, headers, blind(&body, &user, &products)));
    }
    given
}

/// Puts numbers in the place of ETags, which are drawn: those that are equal in one run are so in every other.
fn number_etags(headers: &mut [(String, String)], known: &mut Vec<String>) {
    for (_, etag) in headers.iter_mut().filter(|(name, _)| name == "etag") {
        let number = known.iter().position(|known| known == etag).unwrap_or_else(|| {
            known.push(etag.clone());
            known.len() - 1
        });
        let drawn = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap();
        let is_hex = drawn.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
        assert!(drawn.len() == 32 && is_hex, "{etag}");
        *etag = format!("ETAG{number}");
    }
}

/// `text` without what differs from run to run: ids, times, and the cursors made of them.
fn blind(text: &str, user: &str, products: &[String]) -> String {
    let mut text = text.replace(user, "USER");
    for (n, id) in products.iter().enumerate() {
        text = text.replace(id, &format!("PRODUCT{n}"));
    }
    for (passing, name) in [
        (r#""(?:created|updated)At":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z""#, "TIME"),
        ("cursor=[0-9A-Za-z_-]{27}", "CURSOR"),
    ] {
        text = Regex::new(passing).unwrap().replace_all(&text, name).into_owned();
    }
    text
}

#[actix_rt::test]
async fn any_subset_of_roles_finds_its_peers() {
    let answer = {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = crate::support::Process::command(folder.path());
        command.args(["--role", "user,product"]);
        let both = crate::support::Process::start(folder.path(), command);
        let id = both.client("user").register("neo").await;
        both.client("product").add_product("Lamp", 5.0).await;
        both.client("user").get(&format!("/auth/dashboard/{id}")).await.json()
    };
    assert_eq!(answer["recommendedProducts"][0]["name"], json!("Lamp"));
}
