//! The gateway's routes, as an operator writes them.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::time::sleep;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::tls::{Certificates, Http2};
use crate::support::{Client, Kind, PASSWORD, Process, Server, Shop, Topology, until};

/// A service that is not the shop's own: tells what it was asked, as `name`. Gives its URL.
fn service(name: &'static str) -> String {
    let echo = move |request: HttpRequest, body: web::Bytes| async move {
        if request.path().ends_with("/slow") {
            sleep(Duration::from_secs(2)).await;
        }
        let headers = request.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>();
        HttpResponse::Ok().json(json!({
            "service": name,
            "target": request.uri().to_string(),
            "headers": headers,
            "length": body.len(),
        }))
    };
    let server = HttpServer::new(move || App::new().default_service(web::to(echo)));
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_rt::spawn(server.run());
    url
}

fn gateway(folder: &TempDir, environment: &[(&str, &str)]) -> Process {
    let mut command = Process::command(folder.path());
    command.envs(environment.iter().copied());
    Process::start(folder.path(), command)
}

#[actix_rt::test]
async fn a_service_is_added_without_code() {
    let url = service("reviews");
    let folder = TempDir::new().unwrap();
    let shop = gateway(
        &folder,
        &[
            ("APP__GATEWAY__UPSTREAMS__REVIEWS__URLS", url.as_str()),
            ("APP__GATEWAY__ROUTES__REVIEWS__UPSTREAM", "reviews"),
            ("APP__GATEWAY__ROUTES__REVIEWS__PREFIX", "/reviews"),
            ("APP__GATEWAY__ROUTES__REVIEWS__METHODS", "GET, POST"),
            ("APP__GATEWAY__ROUTES__REVIEWS__BODY_LIMIT", "100"),
            ("APP__GATEWAY__ROUTES__REVIEWS__TIMEOUT", "500ms"),
        ],
    );
    let client = shop.client("gateway");
    let said = [
        ("x-user-id", "admin"),
        ("x-forwarded-for", "6.6.6.6"),
        ("cf-connecting-ip", "6.6.6.6"),
        ("x-cluster-client-ip", "6.6.6.6"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-mine", "kept"),
    ];
    let seen = client.send(Method::GET, "/reviews/7?stars=5", &said, "").await;
    assert_eq!(seen.status, 200, "{seen:?}");
    let request_id = seen.header("x-request-id").to_owned();
    let seen = seen.json();
    assert_eq!(seen["target"], "/reviews/7?stars=5");
    let host = client.base.trim_start_matches("http://");
    for (name, value) in [
        ("x-mine", json!("kept")),
        ("x-user-id", json!(null)),
        ("cf-connecting-ip", json!(null)),
        ("x-cluster-client-ip", json!(null)),
        ("x-http-method", json!(null)),
        ("x-method-override", json!(null)),
        ("host", json!(host)),
        ("x-forwarded-for", json!("127.0.0.1")),
        ("x-forwarded-proto", json!("http")),
        ("x-forwarded-host", json!(host)),
        ("forwarded", json!(format!("for=127.0.0.1;proto=http;host=\"{host}\""))),
        ("via", json!("1.1 shop")),
        ("x-request-id", json!(request_id)),
    ] {
        assert_eq!(seen["headers"][name], value, "{name}: {seen}");
    }
    assert_eq!(client.post("/reviews", "{}").await.json()["length"], 2);

    for (method, path, body, status) in [
        (Method::DELETE, "/reviews/7", "", 405),
        (Method::POST, "/reviews", &*"x".repeat(101), 413),
        (Method::GET, "/reviews/slow", "", 504),
        (Method::GET, "/reviewsx", "", 404),
        (Method::GET, "/elsewhere", "", 404),
    ] {
        let answer = client.send(method, path, &[], body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        answer.problem();
        let allow = if status == 405 { "GET, POST, HEAD, OPTIONS" } else { "" };
        assert_eq!(answer.header("allow"), allow);
    }
    assert_eq!(client.with_token("no.such.token").get("/reviews").await.status, 401);
    let text = shop.metrics().await;
    for route in ["reviews", "-"] {
        assert!(text.contains(&format!(r#"http_route="{route}""#)), "{text}");
    }
}

each_topology!(a_route_asks_for_tokens_as_it_is_told);
async fn a_route_asks_for_tokens_as_it_is_told(topology: Topology) {
    let url = service("reports");
    let shop = Shop::start_with(
        topology,
        &[
            ("APP__GATEWAY__UPSTREAMS__REPORTS__URLS", url.as_str()),
            ("APP__GATEWAY__ROUTES__MINE__UPSTREAM", "reports"),
            ("APP__GATEWAY__ROUTES__MINE__PREFIX", "/mine"),
            ("APP__GATEWAY__ROUTES__MINE__TOKENS", "required"),
            ("APP__GATEWAY__ROUTES__REPORTS__UPSTREAM", "reports"),
            ("APP__GATEWAY__ROUTES__REPORTS__PATH", "/reports"),
            ("APP__GATEWAY__ROUTES__REPORTS__TOKENS", "admin"),
        ],
    );
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let neo = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    nobody.post("/auth/register", neo).await;
    let neo = nobody.signed_in("neo@example.com", PASSWORD).await;
    for (path, statuses) in
        [("/mine", [401, 200, 200]), ("/reports", [401, 403, 200]), ("/reports/x", [404; 3])]
    {
        for (who, status) in [&nobody, &neo, &admin].into_iter().zip(statuses) {
            assert_eq!(who.get(path).await.status, status, "{topology:?} {path}");
        }
    }
}

#[actix_rt::test]
async fn a_method_that_a_route_does_not_take_is_nobody_elses() {
    let url = service("up");
    let folder = TempDir::new().unwrap();
    let environment = [
        ("APP__GATEWAY__UPSTREAMS__UP__URLS", url.as_str()),
        ("APP__GATEWAY__ROUTES__UP__UPSTREAM", "up"),
        ("APP__GATEWAY__ROUTES__UP__PREFIX", "/up"),
        ("APP__GATEWAY__ROUTES__ADMIN__UPSTREAM", "up"),
        ("APP__GATEWAY__ROUTES__ADMIN__PREFIX", "/up/admin"),
        ("APP__GATEWAY__ROUTES__ADMIN__METHODS", "GET"),
        ("APP__GATEWAY__ROUTES__ADMIN__TOKENS", "admin"),
        ("APP__GATEWAY__ROUTES__PUT__UPSTREAM", "up"),
        ("APP__GATEWAY__ROUTES__PUT__PREFIX", "/up/admin"),
        ("APP__GATEWAY__ROUTES__PUT__METHODS", "PUT"),
        ("APP__GATEWAY__ROUTES__PUT__TOKENS", "required"),
    ];
    let shop = gateway(&folder, &environment);
    let client = shop.client("gateway");
    for path in ["/up/admin", "/up/admin/x", "/up/%61dmin", "//up//admin/", "/up/admin;x/y"] {
        for method in [Method::POST, Method::DELETE, Method::PATCH] {
            let answer = client.send(method.clone(), path, &[], "").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let mut allowed = answer.header("allow").split(", ").collect::<Vec<_>>();
            allowed.sort_unstable();
            assert_eq!(allowed, ["GET", "HEAD", "OPTIONS", "PUT"]);
        }
        // The gateway itself says what there is.
        assert_eq!(client.send(Method::OPTIONS, path, &[], "").await.status, 204, "{path}");
        assert_eq!(client.get(path).await.status, 401, "{path}");
        assert_eq!(client.send(Method::PUT, path, &[], "").await.status, 401, "{path}");
    }
    assert_eq!(client.post("/up/other", "{}").await.json()["service"], "up");
}

#[actix_rt::test]
async fn a_route_for_everything_leaves_the_gateway_its_own_paths() {
    let url = service("all");
    let folder = TempDir::new().unwrap();
    let environment = [
        ("APP__GATEWAY__UPSTREAMS__ALL__URLS", url.as_str()),
        ("APP__GATEWAY__ROUTES__ALL__UPSTREAM", "all"),
        ("APP__GATEWAY__ROUTES__ALL__PREFIX", "/"),
    ];
    let shop = gateway(&folder, &environment);
    let client = shop.client("gateway");
    assert_eq!(client.get("/any/thing").await.json()["service"], "all");
    for (path, status) in [("/health", 200), ("/%68ealth", 200), ("//health", 404), ("/", 200)] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["service"].is_null(), "{path}");
    }
    assert_eq!(client.post("/health", "{}").await.status, 405);
    let counted = shop.metrics().await;
    assert!(counted.contains("http_route=\"/health\"") && counted.contains("http_route=\"all\""));
}

#[actix_rt::test]
async fn hanging_up_changes_routes_and_loses_no_request() {
    let (one, two) = (service("one"), service("two"));
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    let write = |text: &str| {
        fs::write(folder.path().join("config/gateway.toml"), text).unwrap();
    };
    let leading_to = |url: &str| {
        format!(
            "[gateway.routes.new]\nprefix = \"/new\"\nupstream = \"new\"\n\
             [gateway.upstreams.new]\nurls = \"{url}\"\n"
        )
    };
    write(&leading_to(&one));
    let shop = gateway(&folder, &[]);
    let client = shop.client("gateway");
    let served = async || client.get("/new").await.json()["service"].clone();
    assert_eq!(served().await, "one");

    // Many clients on connections that they keep.
    let (stop, count) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let load = (0..8).map(|_| {
        let (client, stop, count) = (client.clone(), stop.clone(), count.clone());
        actix_rt::spawn(async move {
            while !stop.get() {
                assert_eq!(client.get("/new").await.status, 200);
                assert_eq!(client.get("/products").await.status, 200);
                count.set(count.get() + 1);
            }
        })
    });
    let load = load.collect::<Vec<_>>();
    write(&leading_to(&two));
    shop.signal(Signal::SIGHUP);
    until("the other service answers", async || served().await == "two").await;

    for (bad, named) in [
        (leading_to("nowhere"), "gateway.upstreams.new.urls"),
        (leading_to(&one).replace("/new", "new"), "gateway.routes.new.prefix"),
        (leading_to(&one).replace("prefix", "prefiks"), "gateway.routes.new.prefiks"),
        ("[gateway.routes.new".to_owned(), "config/gateway.toml, line 1"),
    ] {
        write(&bad);
        shop.signal(Signal::SIGHUP);
        let line = format!("the configuration stays as it is: {named}");
        until(&line, async || shop.log().contains(&line)).await;
        assert_eq!(served().await, "two", "{bad}");
    }
    let tuned = "[gateway.resilience]\nretries = 1\n[server]\nworkers = 1\n";
    write(&format!("{}{tuned}", leading_to(&one)));
    shop.signal(Signal::SIGHUP);
    until("the first service answers", async || served().await == "one").await;
    let warned = "server.workers has changed: restart required";
    until(warned, async || shop.log().contains(warned)).await;
    assert!(!shop.log().contains("gateway.resilience.retries has changed"), "it holds at once");
    let so_far = count.get();
    until("the load goes on", async || count.get() > so_far + 8).await;
    stop.set(true);
    for client in load {
        client.await.unwrap();
    }
}

#[actix_rt::test]
async fn hanging_up_adds_the_first_service_that_speaks_tls() {
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let certificates = Certificates::make(folders[0].path().join("certs"));
    let file = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("gateway/tls.crt"), file("gateway/tls.key"));
    let own = [("APP__GATEWAY__TLS_CERTIFICATE", &*certificate), ("APP__GATEWAY__TLS_KEY", &*key)];
    let far = gateway(&folders[0], &own);
    let url = &far.urls["gateway"];
    let there = Http2::open(url, certificates.client(None)).await;
    let json = [("content-type", "application/json")];
    let made = there.send(Method::POST, "/products", &json, r#"{"name":"Lamp","price":5}"#).await;
    let path = format!("/products/{}", made.json()["id"].as_str().unwrap());

    fs::create_dir(folders[1].path().join("config")).unwrap();
    let shop = gateway(&folders[1], &[("SSL_CERT_FILE", &file("ca.crt"))]);
    let client = shop.client("gateway");
    assert_eq!(client.get(&path).await.status, 404);
    let url = url.replace("127.0.0.1", "localhost");
    let routes = format!(
        "[gateway.routes.far]\npath = \"{path}\"\nupstream = \"far\"\n\
         [gateway.upstreams.far]\nurls = \"{url}\"\n"
    );
    fs::write(folders[1].path().join("config/gateway.toml"), routes).unwrap();
    shop.signal(Signal::SIGHUP);
    until("it is reached", async || client.get(&path).await.status == 200).await;
}

each_topology!(health_sums_the_roles_up);
async fn health_sums_the_roles_up(topology: Topology) {
    let mut shop = Shop::start(topology);
    let client = shop.gateway();
    let health = async || {
        let answer = client.get("/health").await;
        (answer.status, answer.json())
    };
    let ready = json!({ "status": "ready", "missing": [] });
    // Events reach no other process without a broker.
    let waiting = json!({ "status": "degraded", "missing": ["events"] });
    let (status, told) = match topology {
        Topology::OneProcess => ("ok", &ready),
        Topology::OneProcessARole => ("degraded", &waiting),
    };
    let roles = json!({ "user": told, "product": ready, "order": told });
    let all = json!({ "status": status, "roles": roles });
    until("all is well", async || health().await == (200, all.clone())).await;
    if topology == Topology::OneProcess {
        return;
    }
    shop.kill("product");
    until("the product role is away", async || {
        let (status, said) = health().await;
        let away = said["roles"]["product"]["status"] == "away";
        (status, &said["status"], away) == (200, &json!("degraded"), true)
    })
    .await;
    shop.kill("user");
    shop.kill("order");
    until("nobody is there", async || health().await.0 == 503).await;
    assert_eq!(health().await.1["status"], "down");
}

/// The statuses of `count` requests for `path`.
async fn statuses(client: &Client, path: &str, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get(path).await.status);
    }
    statuses
}

each_topology!(limits_hold_for_addresses_and_for_users);
async fn limits_hold_for_addresses_and_for_users(topology: Topology) {
    let limits = ("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "3/1h by address, 5/1h by user");
    let shop = Shop::start_with(topology, &[limits]);
    let client = shop.gateway();
    let answer = client.get("/products").await;
    let policy = r#""address";q=3;w=3600, "user";q=5;w=3600"#;
    assert_eq!(answer.header("ratelimit-policy"), policy, "{topology:?}");
    assert!(answer.header("ratelimit").starts_with(r#""address";r=2;"#), "{answer:?}");
    let forged = client.with_token("no.such.token");
    assert_eq!(statuses(&forged, "/products", 2).await, [401, 401], "count as well");
    let refused = client.get("/products").await;
    assert_eq!(refused.problem().0, "/problems/too-many-requests");
    let wait: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    assert_eq!(client.get("/").await.status, 200, "other routes are not limited");
}

each_topology!(a_limit_by_user_is_each_users_own_wherever_they_are);
async fn a_limit_by_user_is_each_users_own_wherever_they_are(topology: Topology) {
    let environment = [
        ("APP__AUTH__MODE", "enforced"),
        ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1"),
        ("APP__GATEWAY__ROUTES__PRODUCTS__LIMITS", "3/1h by user"),
    ];
    let shop = Shop::start_with(topology, &environment);
    let client = shop.gateway();
    let (neo, trinity) = (client.customer("neo").await, client.customer("trinity").await);
    // A user has one quota at all addresses, and does not share it with others of the same address.
    let from = async |client: &Client, address: &str| {
        let headers = [("x-forwarded-for", address)];
        client.send(Method::GET, "/products", &headers, "").await.status
    };
    for (number, status) in [(1, 200), (2, 200), (3, 200), (4, 429)] {
        assert_eq!(from(&neo, &format!("192.0.2.{number}")).await, status, "{topology:?} {number}");
    }
    // Nobody is counted by address: three of these, and then of those.
    for (who, address) in [(&trinity, "192.0.2.1"), (&client, "192.0.2.1"), (&client, "192.0.2.9")]
    {
        for status in [200, 200, 200, 429] {
            assert_eq!(from(who, address).await, status, "{topology:?} {address}");
        }
    }
    let other = client.signed_in("neo@example.com", PASSWORD).await;
    assert_eq!(from(&other, "192.0.2.77").await, 429, "another session is the same user");
}

#[actix_rt::test]
async fn two_gateways_share_their_limits_on_redis_and_count_on_without_it() {
    let mut redis = Server::start_own(Kind::Redis);
    let upstream = service("one");
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let gateways = folders.each_ref().map(|folder| {
        gateway(
            folder,
            &[
                ("REDIS_URL", redis.url().as_str()),
                ("APP__GATEWAY__LIMITS_TIMEOUT", "1s"),
                ("APP__GATEWAY__UPSTREAMS__ONE__URLS", upstream.as_str()),
                ("APP__GATEWAY__ROUTES__ONE__UPSTREAM", "one"),
                ("APP__GATEWAY__ROUTES__ONE__PREFIX", "/one"),
                ("APP__GATEWAY__ROUTES__ONE__LIMITS", "6/1h by address"),
            ],
        )
    });
    let clients = gateways.each_ref().map(|gateway| gateway.client("gateway"));
    until("both reach Redis", async || {
        let mut ready = true;
        for gateway in &gateways {
            ready &= gateway.missing().await == json!([]);
        }
        ready
    })
    .await;
    assert_eq!(statuses(&clients[0], "/one", 4).await, [200; 4]);
    assert_eq!(statuses(&clients[1], "/one", 4).await, [200, 200, 429, 429]);
    redis.signal(Signal::SIGKILL);
    assert_eq!(statuses(&clients[1], "/one", 1).await, [429], "what was told stays known");
    let alone = statuses(&clients[0], "/one", 8).await;
    assert!(alone.iter().all(|status| [200, 429].contains(status)), "{alone:?}");
    assert_eq!(alone[7], 429, "{alone:?}");
}
