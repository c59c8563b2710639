//! What somebody tries who should not get in, and what then happens: nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use awc::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use serde_json::{Value, json};

use crate::support::{
    Client, PASSWORD, Process, SIGNING_KEY as KEY, Shop, Storage, Topology, pair, token, until,
};

/// Of the user whom everybody wants to be.
const ADMIN: &str = "01a20696-7a87-7338-917a-c39188f7cc7c";

fn enforced(topology: Topology, more: &[(&str, &str)]) -> Shop {
    enforced_on(topology, Storage::Embedded, more)
}

fn enforced_on(topology: Topology, storage: Storage, more: &[(&str, &str)]) -> Shop {
    let mut environment = vec![
        ("APP__AUTH__MODE", "enforced"),
        ("APP__USER__SIGNING_KEYS", KEY),
        ("APP__USER__LOGINS_PER_ADDRESS", "0"),
        ("APP__USER__LOGINS_PER_ACCOUNT", "0"),
    ];
    environment.extend(more);
    Shop::start_on(topology, storage.servers(), &environment)
}

/// What the user role would say of an admin.
fn claims() -> Value {
    let now = Utc::now().timestamp();
    json!({ "iss": "shop", "aud": "shop", "sub": ADMIN, "jti": ADMIN, "sid": ADMIN, "gen": 0,
            "iat": now, "exp": now + 600, "roles": ["admin"] })
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(claim),
        value => claims.as_object_mut().unwrap().insert(claim.to_owned(), value),
    };
    claims
}

each_topology!(no_forged_token_is_believed);
async fn no_forged_token_is_believed(topology: Topology) {
    let shop = enforced(topology, &[]);
    let client = shop.gateway();
    let keys = client.get("/auth/.well-known/jwks.json").await.json();
    let jwk = &keys["keys"][0];
    let good = json!({ "alg": "EdDSA", "typ": "JWT", "kid": jwk["kid"] });
    let can = async |token: &str| {
        let somebody = client.with_token(token);
        let (users, products) =
            (somebody.get("/auth/users").await, somebody.get("/products").await);
        let written = somebody.post("/products", json!({ "name": "x", "price": 1 })).await;
        [users.status, products.status, written.status]
    };
    // The key is ours: what makes the others fail is what is wrong with them.
    assert_eq!(can(&token(&good, &claims(), KEY)).await, [200, 200, 201]);

    let other = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let stranger = URL_SAFE_NO_PAD.encode(ring::signature::KeyPair::public_key(&pair(other)));
    let own_jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": stranger });
    let now = Utc::now().timestamp();
    let header = |pairs: Value| {
        let mut header = good.clone();
        header.as_object_mut().unwrap().extend(pairs.as_object().unwrap().clone());
        header
    };
    let whole = token(&good, &claims(), KEY);
    let (message, signature) = whole.rsplit_once('.').unwrap();
    let unsigned = |algorithm: &str| {
        let parts = [header(json!({ "alg": algorithm })), claims()];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
    };
    let hmac = |secret: &[u8]| {
        let message = unsigned("HS256");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let signature = ring::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let x = jwk["x"].as_str().unwrap();
    let promoted = URL_SAFE_NO_PAD.encode(with("roles", json!(["admin", "customer"])).to_string());
    let swapped = format!("{}.{promoted}.{signature}", message.split('.').next().unwrap());
    for (what, token) in [
        ("alg none", format!("{}.", unsigned("none"))),
        ("alg None", format!("{}.", unsigned("None"))),
        ("alg none, signed", format!("{}.{signature}", unsigned("none"))),
        ("HS256 with the public key", hmac(&URL_SAFE_NO_PAD.decode(x).unwrap())),
        ("HS256 with the public key as text", hmac(x.as_bytes())),
        ("HS256 with the JWK", hmac(jwk.to_string().as_bytes())),
        ("HS256 with nothing", hmac(b"")),
        ("another key", token(&good, &claims(), other)),
        ("another key, embedded", token(&header(json!({ "jwk": own_jwk })), &claims(), other)),
        (
            "another key, elsewhere",
            token(&header(json!({ "jku": "http://127.0.0.1:9/" })), &claims(), other),
        ),
        ("an unknown kid", token(&header(json!({ "kid": "x" })), &claims(), KEY)),
        (
            "a kid that is a path",
            token(&header(json!({ "kid": "../../data/signing-keys" })), &claims(), KEY),
        ),
        ("a kid that is a query", token(&header(json!({ "kid": "' OR 1=1 --" })), &claims(), KEY)),
        ("no kid", token(&json!({ "alg": "EdDSA" }), &claims(), KEY)),
        ("a kid that is a number", token(&header(json!({ "kid": 1 })), &claims(), KEY)),
        ("another audience", token(&good, &with("aud", json!("bank")), KEY)),
        ("no audience", token(&good, &with("aud", Value::Null), KEY)),
        ("another issuer", token(&good, &with("iss", json!("bank")), KEY)),
        ("no issuer", token(&good, &with("iss", Value::Null), KEY)),
        ("expired", token(&good, &with("exp", json!(now - 10)), KEY)),
        ("without an end", token(&good, &with("exp", Value::Null), KEY)),
        ("not valid yet", token(&good, &with("nbf", json!(now + 60)), KEY)),
        ("of the future", token(&good, &with("iat", json!(now + 60)), KEY)),
        ("of nobody", token(&good, &with("sub", Value::Null), KEY)),
        ("of no UUID", token(&good, &with("sub", json!("1 OR 1=1")), KEY)),
        ("an unknown role", token(&good, &with("roles", json!(["root"])), KEY)),
        ("roles as text", token(&good, &with("roles", json!("admin")), KEY)),
        ("without a signature", message.to_owned()),
        ("an empty signature", format!("{message}.")),
        ("half a signature", format!("{message}.{}", &signature[..40])),
        ("other claims", swapped),
        ("no token", "nonsense".to_owned()),
        ("dots", "..".to_owned()),
        ("too long", format!("{message}.{}", "A".repeat(5000))),
    ] {
        assert_eq!(can(&token).await, [401, 401, 401], "{topology:?}: {what}");
    }
    for (what, headers) in [
        ("two headers", vec![("authorization", format!("Bearer {whole}")); 2]),
        ("Basic", vec![("authorization", "Basic YWRtaW46YWRtaW4=".to_owned())]),
        ("no scheme", vec![("authorization", whole.clone())]),
        ("a list", vec![("authorization", format!("Bearer {whole}, Bearer x"))]),
    ] {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.collect::<Vec<_>>();
        let answer = client.send(Method::GET, "/auth/users", &headers, "").await;
        assert_eq!(answer.status, 401, "{what}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, r#"Bearer error="invalid_token""#, "{what}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("signature"));
    }
    let lower = [("authorization", format!("bearer {whole}"))];
    let lower = [(lower[0].0, lower[0].1.as_str())];
    assert_eq!(client.send(Method::GET, "/auth/users", &lower, "").await.status, 200);
}

#[actix_rt::test]
async fn a_flood_of_unknown_keys_asks_for_them_once() {
    let more = [("APP__AUTH__REFRESH_INTERVAL", "30s"), ("RUST_LOG", "info,access=debug")];
    let shop = enforced(Topology::OneProcessARole, &more);
    let header = |kid: usize| json!({ "alg": "EdDSA", "kid": format!("k{kid}") });
    let asked = || shop.process("user").log().matches("GET /internal/jwks.json").count();
    let product = shop.client("product");
    let unknown = product.with_token(&token(&header(0), &claims(), KEY));
    until("the product role has keys", async || unknown.get("/products").await.status == 401).await;
    let before = asked();
    let start = Instant::now();
    let flood = (0..400).map(|n| {
        let client = product.with_token(&token(&header(n), &claims(), KEY));
        async move { client.get("/products").await.status }
    });
    let statuses = futures_util::future::join_all(flood).await;
    assert_eq!(statuses, [401; 400]);
    // Once for every five seconds, and one that may have been on its way.
    let allowed = 1 + start.elapsed().as_secs() / 5;
    let more = asked() - before;
    assert!(more as u64 <= allowed, "{more} of {allowed}");
    // In the meantime a good one is served.
    let good = shop.gateway().get("/auth/.well-known/jwks.json").await.json();
    let header = json!({ "alg": "EdDSA", "kid": good["keys"][0]["kid"] });
    let admin = product.with_token(&token(&header, &claims(), KEY));
    assert_eq!(admin.get("/products").await.status, 200);
}

each_storage!(nobody_gives_themselves_rights);
async fn nobody_gives_themselves_rights(storage: Storage) {
    let shop = enforced_on(Topology::OneProcess, storage, &[]);
    let client = shop.gateway();
    let more = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD,
        "roles": ["admin"], "role": "admin", "isAdmin": true, "disabled": false, "id": ADMIN,
        "generation": 99, "password_hash": "x", "account": { "roles": ["admin"] } });
    let refused = client.post("/auth/register", more.clone()).await;
    let unknown = ["roles", "role", "isAdmin", "disabled", "id", "generation", "password_hash"];
    assert_eq!((refused.status, &refused.problem().1[..7]), (422, &unknown.map(String::from)[..]));
    let new = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    let registered = client.post("/auth/register", new).await;
    assert_eq!(registered.status, 201);
    assert_ne!(registered.json()["id"], ADMIN);
    let neo = client.signed_in("neo@example.com", PASSWORD).await;
    for (method, status) in [(Method::PATCH, 422), (Method::GET, 200)] {
        assert_eq!(neo.write(method, "/auth/me", &more).await.status, status);
        let me = neo.get("/auth/me").await.json();
        assert_eq!((&me["roles"], &me["id"]), (&json!(["customer"]), &registered.json()["id"]));
    }
    assert_eq!(neo.get("/auth/users").await.status, 403);
    let own = format!("/auth/users/{}", registered.json()["id"].as_str().unwrap());
    let rights = json!({ "roles": ["admin"] });
    assert_eq!(neo.write(Method::PATCH, &own, &rights).await.status, 403);
    let again = client.signed_in("neo@example.com", PASSWORD).await;
    assert_eq!(again.get("/auth/users").await.status, 403);
}

/// What means something else to SQL, to MongoDB, to a shell, to a file system.
const INJECTIONS: [&str; 12] = [
    "' OR '1'='1",
    "' OR 1=1 --",
    "\" OR \"\"=\"",
    "'; DROP TABLE users; --",
    "admin@example.com'--",
    "\\'; SELECT pg_sleep(9); --",
    "%",
    "_@example.com",
    "{\"$gt\":\"\"}",
    "$where: 'sleep(9000)'",
    "../../../../etc/passwd",
    "$(touch /tmp/owned)",
];

each_storage!(what_is_sent_stays_text);
async fn what_is_sent_stays_text(storage: Storage) {
    let operators =
        [json!({ "$gt": "" }), json!({ "$ne": null }), json!({ "$regex": ".*" }), json!(["x"])];
    let shop = enforced_on(Topology::OneProcess, storage, &[]);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let neo = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    assert_eq!(client.post("/auth/register", neo.clone()).await.status, 201);
    let product = admin.add_product("Lamp", 1.0).await;
    let all = admin.get("/auth/users").await.json();
    for text in ["\0", "a\0@example.com", "\u{202e}"] {
        assert_eq!(client.log_in(text, PASSWORD).await.status, 401, "{storage:?} {text:?}");
        let new = json!({ "username": text, "email": text, "password": PASSWORD });
        assert_eq!(client.post("/auth/register", new).await.status, 422, "{storage:?} {text:?}");
    }
    assert_eq!(admin.get("/auth/users?email=%00").await.status, 422);
    for text in INJECTIONS {
        let quick = Instant::now();
        assert_eq!(client.log_in(text, PASSWORD).await.status, 401, "{text}");
        assert!(quick.elapsed() < Duration::from_secs(5), "nothing sleeps: {text}");
        assert_eq!(client.log_in("neo@example.com", text).await.status, 401, "{text}");
        let token = json!({ "refreshToken": text });
        assert_eq!(client.post("/auth/refresh", &token).await.status, 401, "{text}");
        let token = json!({ "refreshToken": format!("{ADMIN}.{text}") });
        assert_eq!(client.post("/auth/refresh", &token).await.status, 401, "{text}");
        assert_eq!(client.post("/auth/logout", &token).await.status, 204, "{text}");
        let encoded = url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let encoded = encoded.replace('+', "%20");
        let found = admin.get(&format!("/auth/users?email={encoded}")).await;
        let none = found.status == 422 || found.json() == json!([]);
        assert!(none, "{text}: {found:?}");
        for parameter in ["cursor", "limit", "role", "disabled"] {
            let answer = admin.get(&format!("/auth/users?{parameter}={encoded}")).await;
            assert_eq!(answer.status, 422, "{parameter} {text}");
        }
        for parameter in ["cursor", "limit"] {
            let answer = client.get(&format!("/products?{parameter}={encoded}")).await;
            assert_eq!(answer.status, 422, "{parameter} {text}");
        }
        for path in ["/auth/dashboard/", "/products/", "/auth/users/"] {
            let path = format!("{path}{encoded}");
            let method = if path.starts_with("/auth/users") { Method::PATCH } else { Method::GET };
            assert_eq!(admin.write(method, &path, "{}").await.status, 404, "{path}");
        }
        let named = json!({ "name": text, "price": 1 });
        assert_eq!(admin.post("/products", &named).await.json()["name"], text);
    }
    for operator in &operators {
        for (path, body) in [
            ("/auth/login", json!({ "email": operator, "password": operator })),
            ("/auth/login", json!({ "email": "neo@example.com", "password": operator })),
            (
                "/auth/register",
                json!({ "username": operator, "email": operator, "password": operator }),
            ),
            ("/auth/refresh", json!({ "refreshToken": operator })),
            ("/auth/logout", json!({ "refreshToken": operator })),
            ("/products", json!({ "name": operator, "price": operator })),
        ] {
            assert_eq!(admin.post(path, &body).await.status, 422, "{path} {body}");
        }
        for (path, body) in [
            ("/auth/me", json!({ "email": operator })),
            ("/auth/me", json!({ "username": operator })),
            (format!("/products/{product}").as_str(), json!({ "name": operator, "price": 1 })),
        ] {
            let method = if path == "/auth/me" { Method::PATCH } else { Method::PUT };
            assert_eq!(admin.write(method, path, &body).await.status, 422, "{path} {body}");
        }
    }
    assert_eq!(admin.get("/auth/users").await.json(), all, "{storage:?}");
    assert_eq!(client.log_in("neo@example.com", PASSWORD).await.status, 200);
}

#[actix_rt::test]
async fn the_clock_does_not_tell_whether_there_is_an_account() {
    let shop = enforced(Topology::OneProcess, &[]);
    let client = shop.gateway();
    let neo = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    assert_eq!(client.post("/auth/register", neo).await.status, 201);
    let mut times = [Vec::new(), Vec::new()];
    let mut answers = BTreeSet::new();
    // In turn, so that whatever else the machine does is the same for both.
    for n in 0..60 {
        for (kind, email) in
            ["neo@example.com".to_owned(), format!("u{n}@example.com")].iter().enumerate()
        {
            let start = Instant::now();
            let answer = client.log_in(email, "a wrong password").await;
            times[kind].push(start.elapsed());
            let mut problem = answer.json();
            problem.as_object_mut().unwrap().remove("requestId");
            answers.insert((answer.status, problem.to_string()));
        }
    }
    assert_eq!(answers.len(), 1, "one answer: {answers:?}");
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    let ratio = unknown / known;
    println!("median: known {known:.4} s, unknown {unknown:.4} s, ratio {ratio:.3}");
    assert!((0.8..1.25).contains(&ratio), "known {known} s, unknown {unknown} s");
}

each_topology!(tries_are_counted_for_each_account_and_each_address);
async fn tries_are_counted_for_each_account_and_each_address(topology: Topology) {
    let environment = [
        ("APP__AUTH__MODE", "enforced"),
        ("APP__USER__LOGINS_PER_ACCOUNT", "5"),
        ("APP__USER__LOGINS_PER_ADDRESS", "8"),
        // So that a test can be several clients.
        ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("APP__USER__SIGNING_KEYS", KEY),
    ];
    let shop = Shop::start_on(topology, Vec::new(), &environment);
    let client = shop.gateway();
    let from = async |address: &str, email: &str| {
        let headers = [("content-type", "application/json"), ("x-forwarded-for", address)];
        let body = json!({ "email": email, "password": "a wrong password" }).to_string();
        client.send(Method::POST, "/auth/login", &headers, body).await
    };
    for n in 0..5 {
        let address = format!("192.0.2.{n}");
        assert_eq!(from(&address, "neo@example.com").await.status, 401);
    }
    let refused = from("192.0.2.9", "NEO@example.com ").await;
    assert_eq!(
        (refused.status, refused.problem().0.as_str()),
        (429, "/problems/too-many-requests")
    );
    let wait = refused.header("retry-after").parse::<u32>().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(from("192.0.2.9", "smith@example.com").await.status, 401, "another account");

    for n in 0..8 {
        assert_eq!(from("198.51.100.7", &format!("u{n}@example.com")).await.status, 401, "{n}");
    }
    assert_eq!(from("198.51.100.7", "u8@example.com").await.status, 429, "{topology:?}");
    assert_eq!(from("198.51.100.8", "u8@example.com").await.status, 401, "another address");
    // What a client says of its address before a proxy that is trusted says it is not believed.
    assert_eq!(from("203.0.113.1, 198.51.100.7", "u8@example.com").await.status, 429);
}

/// Sends `head` as it is, and gives the status of the answer.
fn raw(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

each_topology!(no_path_leads_around_the_gateway);
async fn no_path_leads_around_the_gateway(topology: Topology) {
    let shop = enforced(topology, &[]);
    let address = shop.gateway().base.trim_start_matches("http://").to_owned();
    let statuses = spawn_blocking(move || {
        [
            "/internal/revocations",
            "//internal/revocations",
            "/auth/../internal/revocations",
            "/auth/%2e%2e/internal/revocations",
            "/auth/..%2finternal/revocations",
            "/auth//internal/revocations",
            "/auth/./../internal/revocations",
            "/auth/dashboard/..%2f..%2finternal%2frevocations",
            "/auth/dashboard/../../internal/revocations",
            "/auth/dashboard/../me",
            "/auth/users/..%2fme",
            "/products/..%2f..%2fetc%2fpasswd",
            "/products/%2e%2e/internal/jwks.json",
            "/AUTH/../internal/revocations",
            "/auth;/../internal/revocations",
            "/auth/%00/me",
            "/auth/me%2f..%2f..%2finternal",
        ]
        .map(|path| {
            let head = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
            (path, raw(&address, &head))
        })
    });
    for (path, status) in statuses.await.unwrap() {
        assert_eq!(status, "404", "{topology:?} {path}");
    }
}

#[actix_rt::test]
async fn what_a_client_says_of_its_identity_ends_at_the_gateway() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let heads = std::thread::spawn(move || {
        let mut heads = Vec::new();
        while heads.len() < 2 {
            let (mut stream, _) = upstream.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty());
            let head = head.map(|line| line.to_lowercase()).collect::<Vec<_>>();
            // The gateway also looks from time to time whether anybody is there.
            if !head.is_empty() {
                heads.push(head);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        heads
    });
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "gateway"]).env("PRODUCT_URL", &url);
    command.env("USER_URL", "http://127.0.0.1:9");
    let gateway = Process::start(folder.path(), command);
    let claimed = [
        ("x-user-id", ADMIN),
        ("X-User-Roles", "admin"),
        ("x-user", "admin"),
        ("x-remote-user", "admin"),
        ("remote-user", "admin"),
        ("x-forwarded-user", "admin"),
        ("x-forwarded-email", "admin@example.com"),
        ("x-forwarded-groups", "admin"),
        ("x-forwarded-for", "127.0.0.1, 10.0.0.1"),
        ("x-harmless", "kept"),
    ];
    let client = gateway.client("gateway");
    assert_eq!(client.send(Method::GET, "/products", &claimed, "").await.status, 200);
    // Nor does naming a header of the gateway's in Connection take it away.
    let connection = [("connection", "close, x-forwarded-for"), ("x-forwarded-for", "1.2.3.4")];
    assert_eq!(client.send(Method::GET, "/products", &connection, "").await.status, 200);
    for (n, head) in heads.join().unwrap().iter().enumerate() {
        assert!(head.contains(&"x-forwarded-for: 127.0.0.1".to_owned()), "{head:?}");
        let names = head.iter().skip(1).map(|line| line.split_once(':').unwrap().0);
        let names = names.collect::<BTreeSet<_>>();
        assert_eq!(names.contains("x-harmless"), n == 0, "{head:?}");
        let identity =
            names.iter().filter(|name| name.contains("user") || name.contains("forwarded"));
        let identity = identity.filter(|name| **name != "user-agent").copied();
        let gateways = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(identity.collect::<Vec<_>>(), gateways, "{head:?}");
    }
}

/// What the audit log has of `user`.
fn audited(shop: &Shop, user: &str) -> Vec<String> {
    let log = shop.process("gateway").log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["target"] == "audit" && line["user"] == user);
    lines.map(|line| line["event"].as_str().unwrap().to_owned()).collect()
}

each_storage!(the_audit_log_tells_what_happened_and_no_log_tells_a_secret);
async fn the_audit_log_tells_what_happened_and_no_log_tells_a_secret(storage: Storage) {
    const NEW: &str = "there is no spoon, Neo";
    let told = [("RUST_LOG", "trace"), ("APP__USER__REFRESH_LEEWAY", "0s")];
    let shop = enforced_on(Topology::OneProcess, storage, &told);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let neo = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    let id = client.post("/auth/register", neo).await.json()["id"].as_str().unwrap().to_owned();
    let mut secrets = vec![PASSWORD.to_owned(), NEW.to_owned(), KEY.to_owned(), "$argon2id".into()];
    let mut keep = |tokens: &Value| {
        for name in ["accessToken", "refreshToken"] {
            if let Some(token) = tokens[name].as_str() {
                // What only its owner has.
                secrets.push(token.rsplit('.').next().unwrap().to_owned());
            }
        }
        tokens.clone()
    };
    client.log_in("neo@example.com", "swordfish swordfish").await;
    let first = keep(&client.log_in("neo@example.com", PASSWORD).await.json());
    let used = json!({ "refreshToken": first["refreshToken"] });
    keep(&client.post("/auth/refresh", &used).await.json());
    client.post("/auth/refresh", &used).await;
    let tokens = keep(&client.log_in("neo@example.com", PASSWORD).await.json());
    let signed_in = client.with_token(tokens["accessToken"].as_str().unwrap());
    signed_in.write(Method::PATCH, "/auth/me", json!({ "username": "Neo" })).await;
    signed_in.get("/auth/me/export").await;
    let wrong = json!({ "currentPassword": "swordfish swordfish", "newPassword": NEW });
    signed_in.write(Method::PUT, "/auth/me/password", wrong).await;
    let right = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let tokens = keep(&signed_in.write(Method::PUT, "/auth/me/password", right).await.json());
    let signed_in = client.with_token(tokens["accessToken"].as_str().unwrap());
    let rights = json!({ "roles": ["admin"] });
    admin.write(Method::PATCH, &format!("/auth/users/{id}"), rights).await;
    signed_in.post("/products", "{}").await;
    let forged = client.with_token("not.a.token");
    let elsewhere = [("x-forwarded-for", "203.0.113.7")];
    assert_eq!(forged.send(Method::GET, "/products", &elsewhere, "").await.status, 401);
    let login = json!({ "email": "neo@example.com", "password": NEW });
    let mut page = client.post("/auth/session", login).await;
    for _ in 0..2 {
        let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
        keep(&json!({ "accessToken": page.json()["accessToken"], "refreshToken": cookie }));
        let sent = [("cookie", cookie.as_str())];
        page = client.send(Method::POST, "/auth/session/renew", &sent, "").await;
    }
    admin.write(Method::DELETE, &format!("/auth/users/{id}/sessions"), "").await;
    let tokens = keep(&client.log_in("neo@example.com", NEW).await.json());
    client.post("/auth/logout", json!({ "refreshToken": tokens["refreshToken"] })).await;
    let last = client.with_token(tokens["accessToken"].as_str().unwrap());
    last.post("/auth/logout-all", "").await;
    let tokens = keep(&client.log_in("neo@example.com", NEW).await.json());
    let last = client.with_token(tokens["accessToken"].as_str().unwrap());
    let proof = json!({ "currentPassword": NEW });
    last.write(Method::DELETE, "/auth/me", proof).await;

    until("the last line is written", async || {
        audited(&shop, &id).last().is_some_and(|event| event == "account_erased")
    })
    .await;
    let expected = [
        "registered",
        "login_failed",
        "login",
        "refreshed",
        "refresh_reused",
        "login",
        "profile_changed",
        "exported",
        "password_change_failed",
        "password_changed",
        "rights_changed",
        "login",
        "refreshed",
        "refreshed",
        "sessions_ended",
        "login",
        "logout",
        "logout_all",
        "login",
        "account_erased",
    ];
    assert_eq!(audited(&shop, &id), expected, "{storage:?}");
    let strangers = audited(&shop, "-");
    assert!(strangers.contains(&"access_denied".to_owned()), "{strangers:?}");
    let log = shop.process("gateway").log();
    // Nobody says for themselves where they are.
    assert!(!log.contains(r#""address":"203.0.113.7""#), "{storage:?}");
    secrets.push("swordfish".to_owned());
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{storage:?}: {secret} in {line:?}");
    }
}

#[actix_rt::test]
async fn each_event_of_the_audit_log_says_who_from_where_and_by_which_request() {
    let limits = [("APP__USER__LOGINS_PER_ACCOUNT", "6")];
    let shop = enforced(Topology::OneProcess, &limits);
    let client = shop.gateway();
    let email = "neo@example.com";
    let id = |account: Value| account["id"].as_str().unwrap().to_owned();
    let user = id(client.sign_up("neo").await);
    let barred = id(client.sign_up("smith").await);
    let disabled = json!({ "disabled": true });
    let rights = format!("/auth/users/{barred}");
    let answer = shop.admin().await.write(Method::PATCH, &rights, disabled).await;
    assert_eq!(answer.status, 200);
    is_told(&shop, "rights_changed", &barred, answer.header("x-request-id"));
    let tokens = client.log_in(email, PASSWORD).await.json();
    let neo = client.with_token(tokens["accessToken"].as_str().unwrap());
    let wrong = json!({ "currentPassword": "swordfish swordfish" });
    let another = json!({ "email": "n@example.com", "currentPassword": "swordfish swordfish" });
    let login = json!({ "email": email, "password": "swordfish swordfish" });
    let unknown = json!({ "email": "nobody@example.com", "password": "swordfish swordfish" });
    let right = json!({ "email": "smith@example.com", "password": PASSWORD });
    let used = json!({ "refreshToken": tokens["refreshToken"] });
    let (user, barred) = (user.as_str(), barred.as_str());
    for (who, method, path, body, status, event, about) in [
        (&neo, Method::GET, "/auth/users", json!({}), 403, "access_denied", user),
        (&client, Method::GET, "/auth/me", json!({}), 401, "access_denied", "-"),
        (&client, Method::POST, "/auth/login", login.clone(), 401, "login_failed", user),
        (&client, Method::POST, "/auth/login", unknown, 401, "login_failed", "-"),
        (&client, Method::POST, "/auth/login", right, 403, "login_failed", barred),
        (&client, Method::POST, "/auth/refresh", used.clone(), 200, "refreshed", user),
        // Whose answer got lost asks again.
        (&client, Method::POST, "/auth/refresh", used, 200, "refreshed", user),
        (
            &client,
            Method::POST,
            "/auth/refresh",
            json!({ "refreshToken": "x".repeat(43) }),
            401,
            "refresh_failed",
            "-",
        ),
        (&neo, Method::PATCH, "/auth/me", another, 422, "profile_change_failed", user),
        (&neo, Method::DELETE, "/auth/me", wrong, 422, "erasure_failed", user),
    ] {
        let answer = who.write(method.clone(), path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        is_told(&shop, event, about, answer.header("x-request-id"));
    }
    let mut answer = client.write(Method::POST, "/auth/login", login.clone()).await;
    for _ in 0..6 {
        if answer.status != 429 {
            answer = client.write(Method::POST, "/auth/login", login.clone()).await;
        }
    }
    assert_eq!(answer.status, 429);
    is_told(&shop, "throttled", user, answer.header("x-request-id"));
}

/// Asserts that the audit log says `event` of `user` for the request once.
fn is_told(shop: &Shop, event: &str, user: &str, request_id: &str) {
    let log = shop.process("gateway").log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["target"] == "audit" && line["requestId"] == request_id);
    let lines = lines.collect::<Vec<_>>();
    assert_eq!(lines.len(), 1, "{event}: {lines:?}");
    let line = &lines[0];
    assert_eq!(
        (&line["event"], &line["user"], &line["address"]),
        (&json!(event), &json!(user), &json!("127.0.0.1")),
        "{line}"
    );
}

#[actix_rt::test]
async fn commands_and_new_keys_are_in_the_audit_log() {
    // No key is given: the file is made, and may change.
    let environment = [("APP__AUTH__MODE", "enforced"), ("APP__AUTH__REFRESH_INTERVAL", "100ms")];
    let shop = Shop::start_with(Topology::OneProcess, &environment);
    for (args, event) in [
        (&["user", "create", "--username", "T", "--email", "t@example.com"][..], "created"),
        (&["user", "promote", "t@example.com"], "rights_changed"),
        (&["user", "password", "t@example.com"], "password_changed"),
        (&["keys", "rotate"], "keys_rotated"),
    ] {
        let output = shop.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = lines.filter(|line| line["target"] == "audit").collect::<Vec<_>>();
        assert_eq!(lines.len(), 1, "{said}");
        assert_eq!(lines[0]["event"], event);
    }
    until("the process has read the keys", async || {
        shop.gateway().get("/auth/.well-known/jwks.json").await;
        shop.process("gateway").log().contains(r#""event":"keys_changed""#)
    })
    .await;
}

/// A client that is not ours could not do without.
#[actix_rt::test]
async fn a_token_that_has_ended_does_not_keep_its_user_from_a_new_one() {
    let shop = enforced(Topology::OneProcessARole, &[]);
    let client: Client = shop.gateway();
    let neo = json!({ "username": "neo", "email": "neo@example.com", "password": PASSWORD });
    let stale = client.with_token("a.stale.token");
    assert_eq!(stale.post("/auth/register", neo).await.status, 201);
    let tokens = stale.log_in("neo@example.com", PASSWORD).await;
    assert_eq!(tokens.status, 200);
    let token = json!({ "refreshToken": tokens.json()["refreshToken"] });
    let refreshed = stale.post("/auth/refresh", token).await;
    assert_eq!(refreshed.status, 200);
    let token = json!({ "refreshToken": refreshed.json()["refreshToken"] });
    assert_eq!(stale.post("/auth/logout", token).await.status, 204);
}

#[actix_rt::test]
async fn a_stolen_token_does_not_try_passwords_without_end() {
    let environment = [
        ("APP__AUTH__MODE", "enforced"),
        ("APP__USER__LOGINS_PER_ACCOUNT", "5"),
        ("APP__USER__LOGINS_PER_ADDRESS", "0"),
    ];
    let shop = Shop::start_on(Topology::OneProcess, Vec::new(), &environment);
    let client = shop.gateway();
    let account = json!({ "username": "Neo", "email": "neo@example.com", "password": PASSWORD });
    assert_eq!(client.post("/auth/register", account).await.status, 201);
    let token = client.log_in("neo@example.com", PASSWORD).await.json();
    let neo = client.with_token(token["accessToken"].as_str().unwrap());
    let mut statuses = Vec::new();
    // The login was the first try. Who is counted is the account, whichever way its password is tried.
    for n in 0..3 {
        let wrong = "a wrong password";
        let body = json!({ "currentPassword": wrong, "newPassword": PASSWORD });
        statuses.push(neo.write(Method::PUT, "/auth/me/password", body).await.status);
        let body = json!({ "currentPassword": wrong, "email": format!("neo{n}@example.com") });
        statuses.push(neo.write(Method::PATCH, "/auth/me", body).await.status);
        let body = json!({ "currentPassword": wrong });
        statuses.push(neo.write(Method::DELETE, "/auth/me", body).await.status);
    }
    assert_eq!(statuses, [422, 422, 422, 422, 429, 429, 429, 429, 429]);
    // Without a password nothing is tried, and nothing comes of it.
    let merge = json!({ "email": "thief@example.com" });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", merge).await.status, 422);
}
