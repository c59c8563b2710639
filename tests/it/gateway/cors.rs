//! What the gateway lets scripts of other origins do.

use awc::http::Method;
use serde_json::json;

use crate::support::{Answer, Client, Process, Shop, Topology};

const SHOP: &str = "https://shop.example";
const ORIGINS: (&str, &str) =
    ("APP__GATEWAY__CORS_ORIGINS", "https://shop.example, http://localhost:5173");

async fn preflight(client: &Client, origin: &str, path: &str, id: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization,content-type"),
        ("x-request-id", id),
    ];
    client.send(Method::OPTIONS, path, &headers, "").await
}

fn allowed(answer: &Answer) -> &str {
    answer.header("access-control-allow-origin")
}

each_topology!(a_preflight_needs_no_token_and_reaches_nobody);
async fn a_preflight_needs_no_token_and_reaches_nobody(topology: Topology) {
    let shop = Shop::start_with(topology, &[ORIGINS, ("APP__AUTH__MODE", "enforced")]);
    for path in ["/products/6b03bc06a8104e0a5ab179df", "/auth/register", "/nowhere"] {
        let answer = preflight(&shop.gateway(), SHOP, path, "may-i").await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{topology:?} {path}");
        assert_eq!(allowed(&answer), SHOP);
        assert!(answer.header("access-control-allow-methods").contains("PUT"));
        assert!(answer.header("access-control-allow-headers").contains("authorization"));
        assert_eq!(answer.header("access-control-max-age"), "600");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        assert_eq!(answer.header("vary"), "origin");
        assert_eq!(answer.header("x-request-id"), "may-i");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    for role in ["gateway", "user", "product"] {
        let process = if topology == Topology::OneProcess { "gateway" } else { role };
        let log = shop.process(process).log();
        let lines =
            log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let of_it = lines.filter(|line| line["requestId"] == "may-i" && line["role"] == role);
        assert_eq!(of_it.count(), if role == "gateway" { 3 } else { 0 }, "{topology:?} {role}");
    }
}

#[actix_rt::test]
async fn another_origin_is_refused() {
    let shop = Shop::start_with(Topology::OneProcess, &[ORIGINS]);
    for origin in
        ["https://evil.example", "http://shop.example", "null", "https://shop.example.evil"]
    {
        let answer = preflight(&shop.gateway(), origin, "/products", "may-i").await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str(), allowed(&answer)),
            (403, "/problems/forbidden", "")
        );
        let answer = shop.gateway().send(Method::GET, "/products", &[("origin", origin)], "").await;
        assert_eq!((answer.status, allowed(&answer)), (200, ""), "browsers keep it to themselves");
        assert_eq!(answer.header("vary"), "origin");
    }
}

#[actix_rt::test]
async fn a_wildcard_is_for_every_name_below_a_host() {
    let origins = ("APP__GATEWAY__CORS_ORIGINS", "https://*.Shop.example:443");
    let credentials = ("APP__GATEWAY__CORS_CREDENTIALS", "true");
    let shop = Shop::start_with(Topology::OneProcess, &[origins, credentials]);
    for (origin, allows) in [
        ("https://www.shop.example", true),
        ("https://a.b.shop.example", true),
        ("https://shop.example", false),
        ("http://www.shop.example", false),
        ("https://www.shop.example.evil", false),
        ("https://evilshop.example", false),
    ] {
        let expected = if allows { (204, origin) } else { (403, "") };
        let answer = preflight(&shop.gateway(), origin, "/products", "may-i").await;
        assert_eq!((answer.status, allowed(&answer)), expected);
        let answer = shop.gateway().send(Method::GET, "/products", &[("origin", origin)], "").await;
        assert_eq!((allowed(&answer), answer.header("vary")), (expected.1, "origin"));
    }
}

#[actix_rt::test]
async fn an_origin_that_can_match_nothing_stops_the_start() {
    let folder = tempfile::TempDir::new().unwrap();
    for bad in ["shop.example", "https://shop.example/path", "https://a.*.example", "https://*"] {
        let mut command = Process::command(folder.path());
        command.env("APP__GATEWAY__CORS_ORIGINS", format!("https://shop.example, {bad}"));
        let output = Process::run(command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.lines().count() == 1, "{bad}: {text}");
        assert!(text.contains("gateway.cors_origins") && text.contains(bad), "{bad}: {text}");
    }
}

each_topology!(scripts_of_an_allowed_origin_may_read_answers_and_errors);
async fn scripts_of_an_allowed_origin_may_read_answers_and_errors(topology: Topology) {
    let environment = [ORIGINS, ("APP__GATEWAY__CORS_CREDENTIALS", "true")];
    let mut shop = Shop::start_with(topology, &environment);
    let origin = ("origin", "http://localhost:5173");
    let late = ("x-request-timeout-ms", "0");
    let bad_token = ("authorization", "Bearer nonsense");
    for (path, headers, status) in [
        ("/", vec![origin], 200),
        ("/products", vec![origin], 200),
        ("/nowhere", vec![origin], 404),
        ("/products/1", vec![origin], 404),
        ("/products", vec![origin, bad_token], 401),
        ("/products", vec![origin, late], 504),
    ] {
        let answer = shop.gateway().send(Method::GET, path, &headers, "").await;
        assert_eq!((answer.status, allowed(&answer)), (status, origin.1), "{topology:?} {path}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert!(answer.header("access-control-expose-headers").contains("etag"));
        assert!(answer.headers.get_all("vary").any(|name| name == "origin"), "{path}");
    }
    if topology == Topology::OneProcessARole {
        shop.kill("product");
        let answer = shop.gateway().send(Method::GET, "/products", &[origin], "").await;
        assert_eq!((answer.status, allowed(&answer)), (503, origin.1));
    }
}

#[actix_rt::test]
async fn a_star_is_for_everybody_and_says_so_to_caches() {
    let shop = Shop::start_with(Topology::OneProcess, &[("APP__GATEWAY__CORS_ORIGINS", "*")]);
    for origin in ["https://any.example", "null"] {
        let answer = preflight(&shop.gateway(), origin, "/products", "may-i").await;
        assert_eq!((answer.status, allowed(&answer)), (204, "*"));
        let answer = shop.gateway().send(Method::GET, "/products", &[("origin", origin)], "").await;
        assert_eq!((allowed(&answer), answer.header("vary")), ("*", ""));
    }
}

each_topology!(without_a_setting_nothing_is_said);
async fn without_a_setting_nothing_is_said(topology: Topology) {
    let shop = Shop::start(topology);
    let answer = preflight(&shop.gateway(), SHOP, "/products", "may-i").await;
    assert_eq!((answer.status, allowed(&answer), answer.header("vary")), (405, "", ""));
    let answer = shop.gateway().send(Method::GET, "/products", &[("origin", SHOP)], "").await;
    assert_eq!((answer.json(), allowed(&answer)), (json!([]), ""));
}
