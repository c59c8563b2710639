//! How the gateway serves the storefront and the administration.

use awc::http::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Answer, Client, Shop, Topology, check};

/// What browsers say when they open an address.
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

async fn fetch(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(Method::GET, path, headers, "").await
}

/// The paths of the files that a document names: in itself and in its Link header.
fn files(document: &Answer) -> Vec<String> {
    let links = document.header("link").split(['<', '>']);
    let named = document.text().split('"').chain(links).filter(|text| text.contains("/assets/"));
    named.map(str::to_owned).collect()
}

each_topology!(a_document_leads_to_all_that_its_first_view_loads);
async fn a_document_leads_to_all_that_its_first_view_loads(topology: Topology) {
    let shop = Shop::start(topology);
    let gateway = shop.gateway();
    for (path, name) in
        [("/shop", "shop"), ("/admin", "admin"), ("/shop/products/x?utm_source=a", "shop")]
    {
        let document = gateway.get(path).await;
        assert_eq!(document.status, 200, "{path}");
        assert_eq!(document.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert!(!document.text().contains("{{"), "{path}: {}", document.text());
        let files = files(&document);
        for end in ["common/style.css", &format!("{name}/main.js"), "common/icon.svg"] {
            assert!(files.iter().any(|file| file.ends_with(end)), "{path}: {end} of {files:?}");
        }
        assert!(document.header("link").contains("rel=modulepreload"), "{path}");
        for file in files {
            let answer = gateway.get(&file).await;
            assert_eq!(answer.status, 200, "{file}");
            assert_eq!(
                answer.header("cache-control"),
                "public, max-age=31536000, immutable",
                "{file}"
            );
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{file}");
        }
    }
}

#[actix_rt::test]
async fn files_come_compressed_and_are_not_sent_twice() {
    let shop = Shop::start(Topology::OneProcess);
    let gateway = shop.gateway();
    let files = files(&gateway.get("/shop").await);
    let style = files.iter().find(|file| file.ends_with("style.css")).unwrap();
    for path in ["/admin", style] {
        let mut tags = Vec::new();
        let codings = if path == style { &["", "gzip", "br"][..] } else { &["", "gzip"] };
        for coding in codings {
            let wants = ("accept-encoding", *coding);
            let answer = fetch(&gateway, path, &[wants]).await;
            assert_eq!(answer.header("content-encoding"), *coding, "{path}");
            assert_eq!(answer.header("vary"), "accept-encoding", "{path}");
            let tag = answer.header("etag").to_owned();
            let known = fetch(&gateway, path, &[wants, ("if-none-match", &tag)]).await;
            assert_eq!((known.status, known.header("etag")), (304, &*tag), "{path} {coding}");
            assert_eq!(known.header("cache-control"), answer.header("cache-control"));
            let other = fetch(&gateway, path, &[wants, ("if-none-match", "\"other\"")]).await;
            assert_eq!(other.status, 200, "{path} {coding}");
            assert!(!tags.contains(&tag), "{path}: {tag} names two codings");
            tags.push(tag);
            let head = gateway.send(Method::HEAD, path, &[wants], "").await;
            assert_eq!(head.header("content-length"), answer.header("content-length"), "{path}");
            assert_eq!(head.text(), "");
        }
    }
    let all = ("accept-encoding", "gzip, deflate, br, zstd");
    assert_eq!(fetch(&gateway, style, &[all]).await.header("content-encoding"), "br");
}

#[actix_rt::test]
async fn a_page_of_another_release_gets_files_that_no_cache_keeps() {
    let shop = Shop::start(Topology::OneProcess);
    let answer = shop.gateway().get("/shop/assets/0123456789abcdef/common/dom.js").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    for path in ["/shop/assets/", "/shop/assets/1/common/none.js", "/shop/assets/1/shop/shop.html"]
    {
        let answer = shop.gateway().get(path).await;
        assert_eq!(
            (answer.status, answer.problem().0.as_str()),
            (404, "/problems/not-found"),
            "{path}"
        );
    }
}

#[actix_rt::test]
async fn a_picture_is_drawn_for_every_name() {
    let shop = Shop::start(Topology::OneProcess);
    let gateway = shop.gateway();
    for path in ["/shop/pictures/Kitchen/Mug.svg", "/shop/pictures/a%20b/%3Cscript%3E%C3%A9%25.svg"]
    {
        let picture = gateway.get(path).await;
        assert_eq!((picture.status, picture.header("content-type")), (200, "image/svg+xml"));
        assert!(picture.text().starts_with("<svg ") && !picture.text().contains("<script"));
        let known = fetch(&gateway, path, &[("if-none-match", picture.header("etag"))]).await;
        assert_eq!(known.status, 304, "{path}");
        let packed = fetch(&gateway, path, &[("accept-encoding", "br, gzip")]).await;
        let coding = (packed.header("content-encoding"), packed.header("vary"));
        assert_eq!(coding, ("gzip", "accept-encoding"), "{path}");
        assert!(packed.body.len() < picture.body.len(), "{path}");
        assert_ne!(packed.header("etag"), picture.header("etag"), "{path}");
    }
    for path in ["/shop/pictures/Mug.svg", "/shop/pictures/a/b/c.svg", "/shop/pictures/a/b.png"] {
        assert_eq!(gateway.get(path).await.status, 404, "{path}");
    }
}

each_topology!(the_first_address_is_a_page_for_those_who_ask_for_one);
async fn the_first_address_is_a_page_for_those_who_ask_for_one(topology: Topology) {
    let shop = Shop::start(topology);
    let gateway = shop.gateway();
    let led = fetch(&gateway, "/?utm_source=mail", &[BROWSER]).await;
    let expected = (303, "/shop?utm_source=mail", "accept");
    assert_eq!((led.status, led.header("location"), led.header("vary")), expected);
    assert_eq!(fetch(&gateway, "/", &[("accept", "text/html")]).await.header("location"), "/shop");
    for accept in [
        "*/*",
        "application/json",
        "application/json, text/html",
        "text/html;q=0.5, application/json",
        "text/html;q=0",
        "text/*",
        "",
        "nonsense",
    ] {
        let answer = fetch(&gateway, "/", &[("accept", accept)]).await;
        assert_eq!(answer.json(), json!({ "message": "API Gateway is Running" }), "{accept}");
    }
    assert_eq!(gateway.get("/").await.json(), json!({ "message": "API Gateway is Running" }));
}

#[actix_rt::test]
async fn pages_are_read_alone() {
    let shop = Shop::start(Topology::OneProcess);
    for path in ["/shop", "/shop/cart", "/admin/products", "/shop/assets/1/common/dom.js"] {
        let answer = shop.gateway().post(path, "{}").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, OPTIONS"), "{path}");
    }
    assert_eq!(shop.gateway().get("/shopping").await.status, 404);
    assert_eq!(shop.gateway().get("/administration").await.status, 404);
}

#[actix_rt::test]
async fn a_document_says_what_may_be_loaded() {
    let bare = Shop::start(Topology::OneProcess);
    for path in ["/shop", "/admin"] {
        let policy = bare.gateway().get(path).await.header("content-security-policy").to_owned();
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
    }
    let shop = Shop::start_with(
        Topology::OneProcess,
        &[
            ("APP__GATEWAY__IMAGE_ORIGINS", "https://images.example, https://*.shop.example"),
            ("STRIPE_PUBLISHABLE_KEY", "pk_test_1"),
            ("APP__SHOP__CURRENCY", "JPY"),
        ],
    );
    let document = shop.gateway().get("/shop").await;
    let policy = document.header("content-security-policy");
    assert!(
        policy.contains("img-src 'self' https://images.example https://*.shop.example;"),
        "{policy}"
    );
    assert!(
        policy.contains("script-src 'self' https://js.stripe.com https://*.js.stripe.com;"),
        "{policy}"
    );
    for attribute in ["data-stripe=\"pk_test_1\"", "data-currency=\"JPY\"", "data-mode=\"open\""] {
        assert!(document.text().contains(attribute), "{attribute}");
    }
    let admin = shop.gateway().get("/admin").await;
    assert!(!admin.header("content-security-policy").contains("stripe"), "it takes no payments");
}

#[actix_rt::test]
async fn pages_go_below_the_path_of_a_proxy() {
    let trusts = [("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1"), ("APP__AUTH__MODE", "enforced")];
    let shop = Shop::start_with(Topology::OneProcess, &trusts);
    let below = ("x-forwarded-prefix", "/below");
    let led = fetch(&shop.gateway(), "/", &[BROWSER, below]).await;
    assert_eq!(led.header("location"), "/below/shop");
    let document = fetch(&shop.gateway(), "/shop/cart", &[below]).await;
    assert!(document.text().contains("data-base=\"/below/shop\""), "{}", document.text());
    let files = files(&document);
    assert!(files.iter().all(|file| file.starts_with("/below/shop/assets/")), "{files:?}");
}

#[actix_rt::test]
async fn a_proxy_that_is_not_trusted_changes_no_page() {
    let shop = Shop::start(Topology::OneProcess);
    let below = ("x-forwarded-prefix", "/below");
    let document = fetch(&shop.gateway(), "/shop", &[below]).await;
    assert!(document.text().contains("data-base=\"/shop\""), "{}", document.text());
    assert_eq!(fetch(&shop.gateway(), "/", &[BROWSER, below]).await.header("location"), "/shop");
}

#[actix_rt::test]
async fn a_route_where_pages_are_stops_the_start() {
    let folder = TempDir::new().unwrap();
    for (key, path) in [("path", "/admin/own"), ("prefix", "/shop")] {
        let route = format!("gateway.routes.own.{key}={path}");
        let to = "gateway.routes.own.upstream=product";
        let said = check(&folder, &["--set", &route, "--set", to]).unwrap_err();
        let line = format!("gateway.routes.own.{key}: the gateway has pages there");
        assert!(said.contains(&line), "{said}");
        check(&folder, &["--set", &route, "--set", to, "--set", "gateway.pages=false"]).unwrap();
    }
}

#[actix_rt::test]
async fn without_pages_their_paths_are_free() {
    let shop = Shop::start_with(
        Topology::OneProcess,
        &[
            ("APP__GATEWAY__PAGES", "false"),
            ("APP__GATEWAY__ROUTES__OWN__PATH", "/admin"),
            ("APP__GATEWAY__ROUTES__OWN__UPSTREAM", "product"),
            ("APP__GATEWAY__ROUTES__OWN__REWRITE", "/products"),
        ],
    );
    let gateway = shop.gateway();
    assert_eq!(gateway.get("/shop").await.status, 404);
    assert_eq!(gateway.get("/shop/assets/1/common/dom.js").await.status, 404);
    assert_eq!(gateway.get("/admin").await.json(), json!([]));
    let welcome = fetch(&gateway, "/", &[BROWSER]).await;
    assert_eq!(welcome.json(), json!({ "message": "API Gateway is Running" }));
}

#[actix_rt::test]
async fn a_shop_that_takes_stripe_alone_and_has_no_key_for_its_pages_says_so() {
    let stripe = [
        ("PAYMENTS_URL", "https://stripe.invalid"),
        ("APP__ORDER__PAYMENTS_KEY", "sk_test_1"),
        ("STRIPE_PUBLISHABLE_KEY", "pk_test_1"),
    ];
    let warns = |settings: &[_]| {
        let shop = Shop::start_with(Topology::OneProcess, settings);
        shop.process("gateway").log().contains("shop.stripe_publishable_key is empty")
    };
    assert!(warns(&stripe[..2]));
    assert!(!warns(&stripe));
}
