//! Tokens that have ended, where a process does not know it yet: nothing that lasts comes of them.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Client, Kind, PASSWORD, Process, SIGNING_KEY, Server, Shop, Storage, Topology, token,
};

const ENFORCED: [(&str, &str); 4] = [
    ("APP__AUTH__MODE", "enforced"),
    ("APP__USER__SIGNING_KEYS", SIGNING_KEY),
    ("APP__USER__LOGINS_PER_ADDRESS", "0"),
    ("APP__USER__LOGINS_PER_ACCOUNT", "0"),
];

/// Two processes of the user role on one store. The second asks for whose tokens have ended only every 30 seconds.
struct Pair {
    shop: Shop,
    second: Client,
}

impl Pair {
    fn start(storage: Storage) -> Self {
        let mut shop = Shop::start_on(Topology::OneProcess, storage.servers(), &ENFORCED);
        let urls = shop.servers.iter().map(|server| (server.variable(), server.url()));
        let urls = urls.collect::<Vec<_>>();
        let mut environment = ENFORCED.to_vec();
        environment.extend(urls.iter().map(|(name, url)| (*name, url.as_str())));
        let slow = [("APP__AUTH__REFRESH_INTERVAL", "30s"), ("PRODUCT_URL", "http://127.0.0.1:9")];
        environment.extend(slow);
        shop.add(&["--role", "user"], &environment);
        let second = shop.client("user");
        Self { shop, second }
    }

    async fn register(&self, name: &str) -> Account {
        let account = self.shop.gateway().sign_up(name).await;
        let field = |name: &str| account[name].as_str().unwrap().to_owned();
        Account { id: field("id"), email: field("email") }
    }

    /// The token of an account, to use with either process.
    async fn token(&self, account: &Account) -> String {
        let answer = self.shop.gateway().log_in(&account.email, PASSWORD).await;
        answer.json()["accessToken"].as_str().unwrap().to_owned()
    }

    fn first(&self, token: &str) -> Client {
        self.shop.gateway().with_token(token)
    }

    fn second(&self, token: &str) -> Client {
        self.second.with_token(token)
    }
}

struct Account {
    id: String,
    email: String,
}

impl Account {
    fn rights(&self) -> String {
        format!("/auth/users/{}", self.id)
    }
}

async fn patch(client: &Client, path: &str, body: Value) -> u16 {
    client.write(Method::PATCH, path, body).await.status
}

/// Tries with `token`, which has ended, all that a user may write at the second process.
async fn writes_nothing(pair: &Pair, token: &str, case: &str) {
    let thief = pair.second(token);
    let proof = json!({ "currentPassword": PASSWORD });
    let password = json!({ "currentPassword": PASSWORD, "newPassword": "there is no spoon, Neo" });
    let email = json!({ "email": "thief@example.com", "currentPassword": PASSWORD });
    let mut refused = Vec::new();
    for (method, path, body) in [
        (Method::PATCH, "/auth/me", json!({ "username": "Thief" })),
        (Method::PATCH, "/auth/me", json!({})),
        (Method::PATCH, "/auth/me", email),
        (Method::PUT, "/auth/me/password", password),
        (Method::POST, "/auth/logout-all", json!({})),
        (Method::DELETE, "/auth/me", proof),
        (Method::GET, "/auth/me", json!({})),
        (Method::GET, "/auth/me/export", json!({})),
    ] {
        let answer = thief.write(method.clone(), path, &body).await;
        assert_eq!(answer.status, 401, "{case}: {method} {path} {body}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), r#"Bearer error="invalid_token""#);
        refused.push(answer.header("x-request-id").to_owned());
    }
    let log = pair.shop.process("user").log();
    for id in refused {
        let told = log.lines().filter(|line| line.contains(&id) && line.contains("access_denied"));
        assert_eq!(told.count(), 1, "{case}: {id} in the audit log");
    }
}

each_storage!(a_demoted_admin_gives_no_rights_at_a_second_process);
async fn a_demoted_admin_gives_no_rights_at_a_second_process(storage: Storage) {
    let pair = Pair::start(storage);
    let admin = pair.shop.admin().await;
    let (trinity, smith) = (pair.register("trinity").await, pair.register("smith").await);
    let both = json!({ "roles": ["admin", "customer"] });
    for taken in [
        json!({ "disabled": true, "roles": ["customer"] }),
        json!({ "disabled": true }),
        json!({ "roles": ["customer"] }),
    ] {
        let given = json!({ "disabled": false, "roles": ["admin", "customer"] });
        assert_eq!(patch(&admin, &trinity.rights(), given.clone()).await, 200);
        let token = pair.token(&trinity).await;
        // The second process knows the token, and knows it for good.
        assert_eq!(pair.second(&token).get("/auth/users").await.status, 200);
        assert_eq!(patch(&admin, &trinity.rights(), taken.clone()).await, 200);
        assert_eq!(pair.second(&token).get("/auth/users").await.status, 200, "not yet");
        for (path, body) in [
            (trinity.rights(), given),
            (trinity.rights(), json!({ "disabled": false })),
            (smith.rights(), both.clone()),
            (smith.rights(), json!({ "disabled": true })),
            (smith.rights(), json!({})),
            ("/auth/users/01a20696-7a87-7338-917a-c39188f7cc7c".to_owned(), json!({})),
        ] {
            let status = patch(&pair.second(&token), &path, body.clone()).await;
            assert_eq!(status, 401, "{taken}: {body}");
        }
        writes_nothing(&pair, &token, &taken.to_string()).await;
        let accounts = admin.get("/auth/users").await.json();
        let of = |account: &Account| {
            let all = accounts.as_array().unwrap().iter();
            all.clone().find(|one| one["id"] == account.id).unwrap().clone()
        };
        assert_eq!(of(&trinity)["disabled"], taken.get("disabled").is_some());
        assert_eq!(of(&trinity)["username"], "trinity");
        assert_eq!(of(&smith)["roles"], json!(["customer"]));
        assert_eq!(of(&smith)["disabled"], false);
    }
}

each_storage!(a_token_that_has_ended_changes_nothing_at_a_second_process);
async fn a_token_that_has_ended_changes_nothing_at_a_second_process(storage: Storage) {
    let pair = Pair::start(storage);
    let neo = pair.register("neo").await;
    let token = pair.token(&neo).await;
    assert_eq!(pair.second(&token).get("/auth/me").await.status, 200);
    assert_eq!(pair.first(&token).post("/auth/logout-all", "").await.status, 204);
    writes_nothing(&pair, &token, "signed out everywhere").await;

    let token = pair.token(&neo).await;
    assert_eq!(pair.second(&token).get("/auth/me").await.status, 200, "a new one is good");
    let changed = json!({ "currentPassword": PASSWORD, "newPassword": "there is no spoon, Neo" });
    let answer = pair.first(&token).write(Method::PUT, "/auth/me/password", changed).await;
    assert_eq!(answer.status, 200);
    writes_nothing(&pair, &token, "another password").await;
    // The token that came with the new password is good at both.
    let new = answer.json()["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(patch(&pair.second(&new), "/auth/me", json!({ "username": "Neo" })).await, 200);

    let gone = pair.register("gone").await;
    let token = pair.token(&gone).await;
    assert_eq!(pair.second(&token).get("/auth/me").await.status, 200);
    let erased = json!({ "currentPassword": PASSWORD });
    assert_eq!(pair.first(&token).write(Method::DELETE, "/auth/me", erased).await.status, 204);
    writes_nothing(&pair, &token, "erased").await;
}

each_storage!(there_is_an_admin_left_whoever_takes_rights);
async fn there_is_an_admin_left_whoever_takes_rights(storage: Storage) {
    let pair = Pair::start(storage);
    let (ann, bob) = (pair.register("ann").await, pair.register("bob").await);
    let make_admin = |account: &Account| {
        assert!(pair.shop.run(&["user", "promote", &account.email]).status.success());
        assert!(pair.shop.run(&["user", "enable", &account.email]).status.success());
    };
    make_admin(&ann);
    let token = pair.token(&ann).await;
    let (demoted, disabled) = (json!({ "roles": ["customer"] }), json!({ "disabled": true }));
    for client in [pair.first(&token), pair.second(&token)] {
        for body in [
            demoted.clone(),
            disabled.clone(),
            json!({ "roles": ["customer"], "disabled": false }),
            json!({ "roles": ["admin"], "disabled": true }),
        ] {
            let answer = client.write(Method::PATCH, &ann.rights(), &body).await;
            assert_eq!(answer.status, 409, "{body}: {answer:?}");
            assert_eq!(answer.problem().0, "/problems/conflict");
        }
        let proof = json!({ "currentPassword": PASSWORD });
        assert_eq!(client.write(Method::DELETE, "/auth/me", proof).await.status, 409);
        // Nothing of it has happened, and what takes nothing away goes.
        assert_eq!(client.get("/auth/me").await.json()["roles"], json!(["admin", "customer"]));
        assert_eq!(patch(&client, &ann.rights(), json!({ "disabled": false })).await, 200);
    }
    // One that is disabled does not count.
    make_admin(&bob);
    assert_eq!(patch(&pair.first(&token), &bob.rights(), disabled.clone()).await, 200);
    assert_eq!(patch(&pair.first(&token), &ann.rights(), demoted.clone()).await, 409);

    for round in 0..8 {
        make_admin(&ann);
        make_admin(&bob);
        let (ann_token, bob_token) = (pair.token(&ann).await, pair.token(&bob).await);
        let (as_ann, as_bob) = (pair.first(&ann_token), pair.second(&bob_token));
        let body = if round % 4 < 2 { demoted.clone() } else { disabled.clone() };
        // Each takes its own rights, or the other's.
        let (anns, bobs) = if round % 2 == 0 { (&ann, &bob) } else { (&bob, &ann) };
        let (anns, bobs) = (anns.rights(), bobs.rights());
        let one = patch(&as_ann, &anns, body.clone());
        let other = patch(&as_bob, &bobs, body);
        let mut statuses = <[u16; 2]>::from(futures_util::future::join(one, other).await);
        statuses.sort_unstable();
        let refused = if round % 2 == 0 { 409 } else { 401 };
        assert_eq!(statuses, [200, refused], "round {round}");
    }
    // Nor do two who erase themselves at once.
    make_admin(&ann);
    make_admin(&bob);
    let (ann_token, bob_token) = (pair.token(&ann).await, pair.token(&bob).await);
    let proof = json!({ "currentPassword": PASSWORD });
    let (as_ann, as_bob) = (pair.first(&ann_token), pair.second(&bob_token));
    let one = as_ann.write(Method::DELETE, "/auth/me", &proof);
    let other = as_bob.write(Method::DELETE, "/auth/me", &proof);
    let (one, other) = futures_util::future::join(one, other).await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
}

/// Copies the accounts of `from`, and gives whether that went well.
fn copy(shop: &Shop, from: &str, to: &str) -> bool {
    shop.run(&["copy", "--from", from, "--to", to]).status.success()
}

/// The shop with its accounts at `url`, and the keys of all others here.
fn shop_on(shop: &Shop, url: &str) -> Process {
    let mut command = Process::command(shop.folder.path());
    command.envs(ENFORCED).env("DATABASE_URL", url);
    Process::start(shop.folder.path(), command)
}

#[actix_rt::test]
async fn a_token_that_has_ended_has_ended_in_a_copy_on_either_store() {
    let postgres = Server::start(Kind::Postgres);
    let shop = Shop::start_on(Topology::OneProcess, Vec::new(), &ENFORCED);
    let pair = async |name: &str| {
        let email = format!("{name}@example.com");
        shop.gateway().sign_up(name).await;
        let tokens = shop.gateway().log_in(&email, PASSWORD).await.json();
        tokens["accessToken"].as_str().unwrap().to_owned()
    };
    let (out, gone, stays) = (pair("out").await, pair("gone").await, pair("stays").await);
    let as_out = shop.gateway().with_token(&out);
    assert_eq!(as_out.post("/auth/logout-all", "").await.status, 204);
    let proof = json!({ "currentPassword": PASSWORD });
    let gone_now = shop.gateway().with_token(&gone);
    assert_eq!(gone_now.write(Method::DELETE, "/auth/me", proof).await.status, 204);

    let here = "sqlite://data/user.db";
    assert!(copy(&shop, here, &postgres.url()));
    assert!(copy(&shop, &postgres.url(), "sqlite://back/user.db"));
    for url in [postgres.url().as_str(), "sqlite://back/user.db"] {
        let copied = shop_on(&shop, url);
        // What needs no account, so that the token alone decides.
        for (token, status) in [(&out, 401), (&gone, 401), (&stays, 200)] {
            let client = copied.client("gateway").with_token(token);
            assert_eq!(client.get("/products").await.status, status, "{url}");
        }
        // What has ended in the copy has not begun again when it is copied anew.
        let stays = copied.client("gateway").with_token(&stays);
        assert_eq!(stays.post("/auth/logout-all", "").await.status, 204);
    }
    assert!(!copy(&shop, here, "sqlite://back/user.db"), "what is there stays, and is told of");
    let copied = shop_on(&shop, "sqlite://back/user.db");
    let client = copied.client("gateway").with_token(&stays);
    assert_eq!(client.get("/products").await.status, 401);
}

each_topology!(a_shorter_life_of_tokens_is_that_of_those_that_are_out);
async fn a_shorter_life_of_tokens_is_that_of_those_that_are_out(topology: Topology) {
    const ID: &str = "01a20696-7a87-7338-917a-c39188f7cc7c";
    for (ttl, status) in [("1h", 200), ("15m", 401)] {
        let more = [("APP__AUTH__ACCESS_TTL", ttl)];
        let environment = [&ENFORCED[..], &more].concat();
        let shop = Shop::start_on(topology, Vec::new(), &environment);
        let keys = shop.gateway().get("/auth/.well-known/jwks.json").await.json();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": keys["keys"][0]["kid"] });
        let now = chrono::Utc::now().timestamp();
        let claims = json!({ "iss": "shop", "aud": "shop", "sub": ID, "jti": ID, "sid": ID,
            "gen": 0, "iat": now - 1800, "exp": now + 1800, "roles": ["admin"] });
        let client = shop.gateway().with_token(&token(&header, &claims, SIGNING_KEY));
        for path in ["/products", "/auth/users"] {
            assert_eq!(client.get(path).await.status, status, "{topology:?} {ttl} {path}");
        }
    }
}
