//! Who asks, and what they may: passwords, tokens, profiles, roles.

use std::time::{Duration, Instant};

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Client, Kind, PASSWORD, Process, SIGNING_KEY, Server, Shop, Statistics, Storage, Topology,
    order_items, token, token_part, until,
};

/// Another good one.
const ANOTHER: &str = "there is no spoon, Neo";
/// What every process of these shops is told: to ask everybody, and to learn quickly.
const ENFORCED: [(&str, &str); 4] = [
    ("APP__AUTH__MODE", "enforced"),
    ("APP__AUTH__REFRESH_INTERVAL", "100ms"),
    ("APP__USER__SIGNING_KEYS", SIGNING_KEY),
    ("APP__USER__LOGINS_PER_ADDRESS", "0"),
];

fn enforced(topology: Topology, storage: Storage) -> Shop {
    Shop::start_on(topology, storage.servers(), &ENFORCED)
}

/// A shop where a refresh token is good once, and not a moment longer.
fn strict(storage: Storage) -> Shop {
    let leeway = ("APP__USER__REFRESH_LEEWAY", "0s");
    let environment = ENFORCED.into_iter().chain([leeway]).collect::<Vec<_>>();
    Shop::start_on(Topology::OneProcess, storage.servers(), &environment)
}

each_case!(four_topologies_let_the_same_people_do_the_same:
    embedded_one_process(Storage::Embedded, Topology::OneProcess),
    embedded_one_process_a_role(Storage::Embedded, Topology::OneProcessARole),
    polyglot_one_process(Storage::Polyglot, Topology::OneProcess),
    polyglot_one_process_a_role(Storage::Polyglot, Topology::OneProcessARole),
    pooled_one_process(Storage::Pooled, Topology::OneProcess),
    pooled_one_process_a_role(Storage::Pooled, Topology::OneProcessARole),
);
/// Every kind of request by everybody, in all four topologies.
async fn four_topologies_let_the_same_people_do_the_same(storage: Storage, topology: Topology) {
    let shop = enforced(topology, storage);
    let (nobody, admin) = (shop.gateway(), shop.admin().await);
    let neo = shop.gateway().customer("neo").await;
    let smith = shop.gateway().customer("smith").await;
    let me = neo.get("/auth/me").await.json();
    let dashboard = format!("/auth/dashboard/{}", me["id"].as_str().unwrap());
    let rights = format!("/auth/users/{}", me["id"].as_str().unwrap());
    let lamp = json!({ "name": "Lamp", "price": 5 }).to_string();
    let product = admin.add_product("Chair", 1.0).await;
    let product = format!("/products/{product}");
    let patch = json!({ "username": "Neo" }).to_string();
    // Nobody, another customer, the customer, an admin.
    for (method, path, body, statuses) in [
        (Method::GET, "/", "", [200, 200, 200, 200]),
        (Method::GET, "/products", "", [200, 200, 200, 200]),
        (Method::GET, product.as_str(), "", [200, 200, 200, 200]),
        (Method::POST, "/products", lamp.as_str(), [401, 403, 403, 201]),
        (Method::PUT, product.as_str(), lamp.as_str(), [401, 403, 403, 200]),
        (Method::DELETE, product.as_str(), "", [401, 403, 403, 204]),
        (Method::GET, dashboard.as_str(), "", [401, 404, 200, 200]),
        (Method::GET, "/auth/me", "", [401, 200, 200, 200]),
        (Method::PATCH, "/auth/me", patch.as_str(), [401, 200, 200, 200]),
        (Method::GET, "/auth/me/export", "", [401, 200, 200, 200]),
        (Method::PUT, "/auth/me/password", "{}", [401, 422, 422, 422]),
        (Method::GET, "/auth/users", "", [401, 403, 403, 200]),
        (Method::PATCH, rights.as_str(), "{}", [401, 403, 403, 200]),
        (Method::GET, "/auth/.well-known/jwks.json", "", [200, 200, 200, 200]),
        (Method::GET, "/internal/revocations", "", [404, 404, 404, 404]),
        (Method::POST, "/auth/session/renew", "", [401, 401, 401, 401]),
        (Method::DELETE, "/auth/session", "", [204, 204, 204, 204]),
        (Method::POST, "/auth/logout-all", "", [401, 204, 204, 204]),
    ] {
        for (who, expected) in [&nobody, &smith, &neo, &admin].iter().zip(statuses) {
            let answer = who.write(method.clone(), path, body).await;
            let case = format!("{storage:?} {topology:?} {method} {path}");
            assert_eq!(answer.status, expected, "{case}: {answer:?}");
            if expected >= 400 {
                answer.problem();
            }
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, if expected == 401 { "Bearer" } else { "" }, "{case}");
        }
    }
}

each_topology!(an_open_shop_leaves_the_catalogue_free_and_no_accounts);
async fn an_open_shop_leaves_the_catalogue_free_and_no_accounts(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    assert_eq!(client.get("/").await.status, 200);
    let id = client.register("neo").await;
    assert_eq!(client.get(&format!("/auth/dashboard/{id}")).await.status, 200);
    let product = client.add_product("Lamp", 5.0).await;
    assert_eq!(client.get("/products").await.status, 200);
    let one = format!("/products/{product}");
    let lamp = json!({ "name": "Lamp", "price": 5 });
    assert_eq!(client.write(Method::PUT, &one, &lamp).await.status, 200);
    assert_eq!(client.write(Method::PATCH, &one, json!({ "price": 6 })).await.status, 200);
    assert_eq!(client.write(Method::DELETE, &one, "").await.status, 204);
    for (method, path) in [
        (Method::GET, "/auth/me"),
        (Method::GET, "/auth/users"),
        (Method::POST, "/auth/logout-all"),
    ] {
        let answer = client.write(method, path, "{}").await;
        assert_eq!(answer.status, 401, "{path}");
    }
    // A password is welcome all the same, and nobody logs in without one.
    let trinity = shop.gateway().customer("trinity").await;
    assert_eq!(trinity.get("/auth/me").await.json()["username"], "trinity");
    assert_eq!(client.log_in("neo@example.com", PASSWORD).await.status, 401);
    let log = shop.process("gateway").log();
    assert!(log.contains("auth.mode is open"), "{log}");
}

#[actix_rt::test]
async fn a_password_must_be_there_long_enough_and_hard_to_guess() {
    let shop = enforced(Topology::OneProcess, Storage::Embedded);
    let client = shop.gateway();
    let try_one = async |password: Value| {
        let new = json!({ "username": "Neo", "email": "neo@example.com", "password": password });
        client.post("/auth/register", new).await
    };
    let long = "Qz7-".repeat(33);
    for bad in [
        json!(null),
        json!("short"),
        json!("eleven char"),
        json!(long),
        json!("aaaaaaaaaaaaaaaa"),
        json!("password1234"),
        json!("neo@example.com"),
        json!(["follow the white rabbit"]),
        json!({ "$ne": "" }),
    ] {
        let answer = try_one(bad.clone()).await;
        assert_eq!(answer.status, 422, "{bad}: {answer:?}");
        assert_eq!(answer.problem().1, ["password"], "{bad}");
    }
    assert_eq!(try_one(json!("zwölf Füchse fliegen 🦊")).await.status, 201);
    // Written with combining letters it is the same.
    let signed_in =
        client.signed_in("NEO@example.com", "zwo\u{308}lf Fu\u{308}chse fliegen 🦊").await;
    assert_eq!(signed_in.get("/auth/me").await.status, 200);
}

each_account_store!(logging_in_gives_tokens_and_each_refresh_token_is_good_once);
async fn logging_in_gives_tokens_and_each_refresh_token_is_good_once(storage: Storage) {
    let shop = strict(storage);
    let client = shop.gateway();
    let id = client.sign_up("neo").await["id"].clone();
    let answer = client.log_in(" Neo@Example.com ", PASSWORD).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let first = answer.json();
    assert_eq!((&first["tokenType"], &first["expiresIn"]), (&json!("Bearer"), &json!(900)));
    let says = token_part(first["accessToken"].as_str().unwrap(), 1);
    assert_eq!((&says["iss"], &says["aud"], &says["sub"]), (&json!("shop"), &json!("shop"), &id));
    assert_eq!(says["roles"], json!(["customer"]));
    assert_eq!(says["exp"].as_i64().unwrap() - says["iat"].as_i64().unwrap(), 900);
    assert!(says["jti"].is_string());

    let second = client.refresh(&first["refreshToken"]).await;
    assert_eq!((second.status, second.header("cache-control")), (200, "no-store"));
    let second = second.json();
    assert_ne!(second["refreshToken"], first["refreshToken"]);
    let renewed = client.with_token(second["accessToken"].as_str().unwrap());
    assert_eq!(renewed.get("/auth/me").await.status, 200);
    assert_ne!(token_part(second["accessToken"].as_str().unwrap(), 1)["jti"], says["jti"]);

    // A thief who uses the first one ends what came of it.
    let stolen = client.refresh(&first["refreshToken"]).await;
    assert_eq!((stolen.status, stolen.problem().0.as_str()), (401, "/problems/unauthorized"));
    assert_eq!(client.refresh(&second["refreshToken"]).await.status, 401, "{storage:?}");
    assert_eq!(renewed.get("/auth/me").await.status, 401, "its access tokens too");

    // Other sessions go on, and one that is logged out does not.
    let third = client.log_in("neo@example.com", PASSWORD).await.json();
    let fourth = client.log_in("neo@example.com", PASSWORD).await.json();
    let token = json!({ "refreshToken": third["refreshToken"] });
    assert_eq!(client.post("/auth/logout", &token).await.status, 204);
    assert_eq!(client.post("/auth/logout", &token).await.status, 204, "again");
    assert_eq!(client.refresh(&third["refreshToken"]).await.status, 401);
    assert_eq!(client.refresh(&fourth["refreshToken"]).await.status, 200);
    // Logging out with one that was used before ends what the thief has.
    let victim = client.log_in("neo@example.com", PASSWORD).await.json();
    let thief = client.refresh(&victim["refreshToken"]).await.json();
    let token = json!({ "refreshToken": victim["refreshToken"] });
    assert_eq!(client.post("/auth/logout", &token).await.status, 204);
    assert_eq!(client.refresh(&thief["refreshToken"]).await.status, 401);
    let thief = client.with_token(thief["accessToken"].as_str().unwrap());
    assert_eq!(thief.get("/auth/me").await.status, 401);

    // What an access token tells of its session is no use.
    let tokens = client.log_in("neo@example.com", PASSWORD).await.json();
    let session = token_part(tokens["accessToken"].as_str().unwrap(), 1)["sid"].clone();
    let made_up = json!(format!("{}.x", session.as_str().unwrap()));
    assert_eq!(client.refresh(&made_up).await.status, 401);
    assert_eq!(client.refresh(&tokens["refreshToken"]).await.status, 200);
    for bad in [json!("x"), json!(""), json!("."), json!("a.b"), json!("0.0")] {
        assert_eq!(client.refresh(&bad).await.status, 401, "{bad}");
    }
    assert_eq!(client.refresh(&json!(7)).await.status, 422);
}

each_account_store!(of_twenty_who_use_one_refresh_token_at_most_one_is_served);
async fn of_twenty_who_use_one_refresh_token_at_most_one_is_served(storage: Storage) {
    let shop = strict(storage);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let tokens = client.log_in("neo@example.com", PASSWORD).await.json();
    let tries = (0..20).map(|_| client.refresh(&tokens["refreshToken"]));
    let answers = futures_util::future::join_all(tries).await;
    let served = answers.iter().filter(|answer| answer.status == 200).collect::<Vec<_>>();
    assert_eq!(served.len(), 1, "{storage:?}");
    assert!(answers.iter().all(|answer| [200, 401].contains(&answer.status)), "{answers:?}");
    assert_eq!(client.refresh(&served[0].json()["refreshToken"]).await.status, 401);
}

each_topology!(signing_out_everywhere_takes_effect_everywhere);
async fn signing_out_everywhere_takes_effect_everywhere(topology: Topology) {
    let shop = enforced(topology, Storage::Embedded);
    let neo = shop.gateway().customer("neo").await;
    let session = shop.gateway().log_in("neo@example.com", PASSWORD).await.json();
    assert_eq!(neo.write(Method::POST, "/products", "{}").await.status, 403);
    assert_eq!(neo.post("/auth/logout-all", "").await.status, 204);
    assert_eq!(neo.get("/auth/me").await.status, 401);
    assert_eq!(neo.refresh(&session["refreshToken"]).await.status, 401);
    // The product role is another process, which asks from time to time.
    until("the token is no good for the catalogue", async || {
        neo.get("/products").await.status == 401
    })
    .await;
    // Whoever logs in in the same second gets in.
    let again = shop.gateway().signed_in("neo@example.com", PASSWORD).await;
    assert_eq!(again.get("/auth/me").await.status, 200);
    assert_eq!(again.get("/products").await.status, 200);
}

each_account_store!(an_admin_finds_accounts_and_gives_and_takes_rights);
async fn an_admin_finds_accounts_and_gives_and_takes_rights(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage);
    let admin = shop.admin().await;
    let mut ids = Vec::new();
    for name in ["ann", "bob", "cleo", "dan", "eve"] {
        ids.push(shop.gateway().sign_up(name).await["id"].as_str().unwrap().to_owned());
    }
    let all = admin.walk("/auth/users?limit=2").await;
    assert_eq!(all[1..], ids, "{storage:?}: in the order of registration");
    let one = admin.get("/auth/users?email=CLEO@example.com").await;
    assert_eq!(one.ids(), [ids[2].clone()]);
    assert_eq!(admin.get("/auth/users?role=admin").await.ids().len(), 1);
    for bad in ["limit=0", "cursor=x", "role=root", "disabled=maybe", "limit=1&limit=2"] {
        assert_eq!(admin.get(&format!("/auth/users?{bad}")).await.status, 422, "{bad}");
    }

    let bob = format!("/auth/users/{}", ids[1]);
    let session = shop.gateway().log_in("bob@example.com", PASSWORD).await.json();
    let as_bob = shop.gateway().with_token(session["accessToken"].as_str().unwrap());
    let both = json!({ "roles": ["customer", "admin", "admin"] });
    let promoted = admin.write(Method::PATCH, &bob, both).await;
    assert_eq!(promoted.json()["roles"], json!(["admin", "customer"]), "{promoted:?}");
    assert_eq!(as_bob.get("/auth/users").await.status, 401, "with the old rights");
    let session = shop.gateway().refresh(&session["refreshToken"]).await.json();
    let as_bob = shop.gateway().with_token(session["accessToken"].as_str().unwrap());
    assert_eq!(as_bob.get("/auth/users").await.status, 200, "with the new ones");

    let disabled = admin.write(Method::PATCH, &bob, json!({ "disabled": true })).await;
    assert_eq!(disabled.json()["disabled"], true);
    assert_eq!(as_bob.get("/auth/me").await.status, 401);
    assert_eq!(shop.gateway().refresh(&session["refreshToken"]).await.status, 401);
    let login = shop.gateway().log_in("bob@example.com", PASSWORD).await;
    assert_eq!((login.status, login.problem().0.as_str()), (403, "/problems/forbidden"));
    assert_eq!(shop.gateway().log_in("bob@example.com", ANOTHER).await.status, 401);
    assert_eq!(admin.get("/auth/users?disabled=true").await.ids(), [ids[1].clone()]);
    admin.write(Method::PATCH, &bob, json!({ "disabled": false, "roles": ["customer"] })).await;
    let as_bob = shop.gateway().signed_in("bob@example.com", PASSWORD).await;
    assert_eq!(as_bob.get("/auth/users").await.status, 403);

    for (body, field) in [
        (json!({ "roles": [] }), "roles"),
        (json!({ "roles": ["root"] }), "roles"),
        (json!({ "roles": null }), "roles"),
        (json!({ "disabled": "yes" }), "disabled"),
    ] {
        let answer = admin.write(Method::PATCH, &bob, &body).await;
        assert_eq!((answer.status, answer.problem().1), (422, vec![field.to_owned()]), "{body}");
    }
    let nobody = "/auth/users/01a20696-7a87-7338-917a-c39188f7cc7c";
    assert_eq!(admin.write(Method::PATCH, nobody, "{}").await.status, 404);
    assert_eq!(admin.write(Method::PATCH, "/auth/users/1", "{}").await.status, 404);
}

each_account_store!(a_profile_can_be_changed_exported_and_erased);
async fn a_profile_can_be_changed_exported_and_erased(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage);
    let neo = shop.gateway().customer("neo").await;
    shop.gateway().sign_up("smith").await;
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({ "username": "Thomas", "email": "thomas@example.com",
        "currentPassword": PASSWORD });
    let changed = neo.send(Method::PATCH, "/auth/me", &merge, patch.to_string()).await;
    assert_eq!(changed.json()["username"], "Thomas");
    assert_eq!(neo.get("/auth/me").await.json(), changed.json());
    assert_eq!(neo.write(Method::PATCH, "/auth/me", "{}").await.json(), changed.json());
    for (body, status) in [
        (json!({ "email": "SMITH@example.com", "currentPassword": PASSWORD }), 409),
        (json!({ "email": "nonsense" }), 422),
        (json!({ "username": null }), 422),
        (json!([]), 422),
    ] {
        assert_eq!(neo.write(Method::PATCH, "/auth/me", &body).await.status, status, "{body}");
    }
    assert_eq!(neo.get("/auth/me").await.json(), changed.json());

    let export = neo.get("/auth/me/export").await;
    let text = String::from_utf8(export.body.clone()).unwrap();
    assert_eq!(export.json()["account"], changed.json());
    assert_eq!(export.json()["sessions"].as_array().unwrap().len(), 1);
    assert!(!text.contains("argon2"), "{text}");

    let proof = json!({ "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::DELETE, "/auth/me", proof).await.status, 204);
    assert_eq!(neo.get("/auth/me").await.status, 401, "{storage:?}: nobody is signed in as nobody");
    assert_eq!(shop.gateway().log_in("thomas@example.com", PASSWORD).await.status, 401);
    let admin = shop.admin().await;
    let left = admin.get("/auth/users?email=thomas@example.com").await;
    assert_eq!(left.json(), json!([]));
    shop.gateway().sign_up("thomas").await;
}

each_topology!(a_token_alone_neither_changes_the_address_nor_erases_the_account);
async fn a_token_alone_neither_changes_the_address_nor_erases_the_account(topology: Topology) {
    let shop = enforced(topology, Storage::Embedded);
    let neo = shop.gateway().customer("neo").await;
    let before = neo.get("/auth/me").await.json();
    let email = "thief@example.com";
    for (method, body) in [
        (Method::PATCH, json!({ "email": email })),
        (Method::PATCH, json!({ "username": "Thief", "email": email })),
        (Method::PATCH, json!({ "email": "NEO@example.com" })),
        (Method::PATCH, json!({ "email": email, "currentPassword": ANOTHER })),
        (Method::PATCH, json!({ "email": email, "currentPassword": null })),
        (Method::PATCH, json!({ "email": email, "currentPassword": 7 })),
        (Method::PATCH, json!({ "username": "Thief", "currentPassword": ANOTHER })),
        (Method::DELETE, json!({})),
        (Method::DELETE, json!({ "currentPassword": ANOTHER })),
        (Method::DELETE, json!({ "currentPassword": [PASSWORD] })),
    ] {
        let answer = neo.write(method.clone(), "/auth/me", &body).await;
        assert_eq!(answer.status, 422, "{topology:?} {method} {body}: {answer:?}");
        assert_eq!(answer.problem().1, ["currentPassword"], "{method} {body}");
    }
    let bare = neo.send(Method::DELETE, "/auth/me", &[], "").await;
    assert_eq!((bare.status, bare.problem().1), (422, vec!["currentPassword".to_owned()]));
    let text = neo.send(Method::DELETE, "/auth/me", &[("content-type", "text/plain")], "x");
    assert_eq!(text.await.status, 415);
    assert_eq!(neo.get("/auth/me").await.json(), before);

    // The name alone takes none, nor does the address that the account has.
    let same = json!({ "username": "Thomas", "email": "neo@example.com" });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", same).await.status, 200);
    let moved = json!({ "email": "thomas@example.com", "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", moved).await.status, 200);
    assert_eq!(shop.gateway().log_in("thomas@example.com", PASSWORD).await.status, 200);
    let user = if topology == Topology::OneProcess { "gateway" } else { "user" };
    let log = shop.process(user).log();
    // Of neo@example.com.
    let digest = "90dc61518489cc40b902b7be290b7d0321246fcdf1d9ab2f7cfaf3afaf1bcce1";
    let told = log.lines().filter(|line| line.contains(r#""event":"profile_changed""#));
    let told = told.collect::<Vec<_>>();
    assert!(told[0].contains("profile_changed: username\""), "{}", told[0]);
    assert!(
        told[1].contains(&format!("profile_changed: email, before sha256:{digest}")),
        "{}",
        told[1]
    );
    assert_eq!((told.len(), log.contains("neo@example.com")), (2, false));
    let proof = json!({ "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::DELETE, "/auth/me", proof).await.status, 204);
}

#[actix_rt::test]
async fn tries_are_counted_by_the_account_whatever_its_address_is() {
    let limits = [ENFORCED[0], ENFORCED[3], ("APP__USER__LOGINS_PER_ACCOUNT", "6")];
    let shop = Shop::start_on(Topology::OneProcess, Vec::new(), &limits);
    let client = shop.gateway();
    // The first try.
    let neo = shop.gateway().customer("neo").await;
    let (email, wrong) = ("thomas@example.com", json!({ "currentPassword": ANOTHER }));
    let moved = json!({ "email": email, "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", &moved).await.status, 200);
    assert_eq!(client.log_in(email, ANOTHER).await.status, 401);
    assert_eq!(neo.write(Method::DELETE, "/auth/me", &wrong).await.status, 422);
    let back = json!({ "email": "neo@example.com", "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", &back).await.status, 200);
    assert_eq!(client.log_in("NEO@example.com", ANOTHER).await.status, 401);
    for answer in [
        client.log_in("neo@example.com", PASSWORD).await,
        neo.write(Method::PATCH, "/auth/me", &moved).await,
        neo.write(Method::DELETE, "/auth/me", &wrong).await,
    ] {
        assert_eq!(answer.status, 429, "{answer:?}");
    }
    // An address that nobody has is counted by itself.
    assert_eq!(client.log_in(email, PASSWORD).await.status, 401);
}

#[actix_rt::test]
async fn two_processes_count_tries_together_on_redis_and_each_goes_on_without() {
    let (mut redis, folder) = (Server::start_own(Kind::Redis), tempfile::TempDir::new().unwrap());
    let start = || {
        let mut command = Process::command(folder.path());
        command.args(["--role", "user"]).envs(ENFORCED).env("REDIS_URL", redis.url());
        command.env("APP__USER__LOGINS_PER_ACCOUNT", "6").env("PRODUCT_URL", "http://127.0.0.1:1");
        Process::start(folder.path(), command)
    };
    let processes = [start(), start()];
    let clients = processes.each_ref().map(|process| process.client("user"));
    clients[0].sign_up("neo").await;
    for n in 0..6 {
        assert_eq!(clients[n % 2].log_in("neo@example.com", ANOTHER).await.status, 401, "{n}");
    }
    let refused = async |client: &Client| {
        let answer = client.log_in("neo@example.com", PASSWORD).await;
        assert_eq!(answer.status, 429, "{answer:?}");
        let wait = answer.header("retry-after").parse::<u32>().unwrap();
        assert!((1..=10).contains(&wait), "{wait}");
    };
    for client in &clients {
        refused(client).await;
    }
    redis.signal(nix::sys::signal::Signal::SIGKILL);
    for client in &clients {
        // By what each has been told, and then by itself.
        refused(client).await;
        for _ in 0..6 {
            assert_eq!(client.log_in("nobody@example.com", ANOTHER).await.status, 401);
        }
        assert_eq!(client.log_in("nobody@example.com", ANOTHER).await.status, 429);
    }
    for process in &processes {
        until("/readyz names it", async || {
            let missing = process.client("management").get("/readyz").await.json();
            missing["missing"].as_array().unwrap().contains(&json!("user.limits"))
        })
        .await;
    }
}

#[actix_rt::test]
async fn an_account_without_a_password_has_none_to_ask_for() {
    let key = ("APP__USER__SIGNING_KEYS", SIGNING_KEY);
    let shop = Shop::start_with(Topology::OneProcess, &[key]);
    let client = shop.gateway();
    let id = client.register("neo").await;
    let kid = client.get("/auth/.well-known/jwks.json").await.json()["keys"][0]["kid"].clone();
    let neo = client.with_token(&forged(&kid, &id));
    let wrong = json!({ "currentPassword": PASSWORD });
    assert_eq!(neo.write(Method::DELETE, "/auth/me", wrong).await.status, 422);
    let moved = json!({ "email": "thomas@example.com" });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", moved).await.status, 200);
    assert_eq!(neo.send(Method::DELETE, "/auth/me", &[], "").await.status, 204);
}

/// A token of the user `id`, who cannot get one by logging in.
fn forged(kid: &Value, id: &str) -> String {
    let now = chrono::Utc::now().timestamp();
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid });
    let claims = json!({ "iss": "shop", "aud": "shop", "sub": id, "jti": id, "sid": id, "gen": 0,
        "iat": now, "exp": now + 600, "roles": ["customer"] });
    token(&header, &claims, SIGNING_KEY)
}

each_account_store!(a_new_password_ends_other_sessions);
async fn a_new_password_ends_other_sessions(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let here = client.log_in("neo@example.com", PASSWORD).await.json();
    let there = client.log_in("neo@example.com", PASSWORD).await.json();
    let neo = client.with_token(here["accessToken"].as_str().unwrap());
    let change = async |current: &str, new: &str| {
        let body = json!({ "currentPassword": current, "newPassword": new });
        neo.write(Method::PUT, "/auth/me/password", body).await
    };
    assert_eq!(change(ANOTHER, ANOTHER).await.problem().1, ["currentPassword"]);
    assert_eq!(change(PASSWORD, "short").await.problem().1, ["newPassword"]);
    assert_eq!(change(PASSWORD, "aaaaaaaaaaaa").await.problem().1, ["newPassword"]);
    let changed = change(PASSWORD, ANOTHER).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let new = client.with_token(changed.json()["accessToken"].as_str().unwrap());
    assert_eq!(new.get("/auth/me").await.status, 200);
    assert_eq!(neo.get("/auth/me").await.status, 401, "the token of before");
    assert_eq!(client.refresh(&here["refreshToken"]).await.status, 200, "this session goes on");
    assert_eq!(client.refresh(&there["refreshToken"]).await.status, 401);
    assert_eq!(client.log_in("neo@example.com", PASSWORD).await.status, 401);
    assert_eq!(client.log_in("neo@example.com", ANOTHER).await.status, 200);
}

each_account_store!(the_program_makes_the_first_admin);
async fn the_program_makes_the_first_admin(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage);
    let neo = shop.gateway().customer("neo").await;
    assert_eq!(neo.get("/auth/users").await.status, 403);
    let said = |args: &[&str]| {
        let output = shop.run(args);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let promoted = said(&["user", "promote", "NEO@example.com"]);
    assert!(promoted.contains("NEO@example.com is an admin now\n"), "{promoted}");
    assert!(promoted.contains("rights_changed"), "{promoted}");
    assert!(said(&["user", "promote", "neo@example.com"]).contains("was an admin already"));
    assert!(said(&["user", "promote", "nobody@example.com"]).contains("no account has"));
    let neo = shop.gateway().signed_in("neo@example.com", PASSWORD).await;
    assert_eq!(neo.get("/auth/users").await.status, 200);
    let again = ["user", "create", "--username", "x", "--email", "neo@example.com"];
    assert!(said(&again).contains("an account with this e-mail address exists"));
    let bad = ["user", "create", "--username", "x", "--email", "nonsense"];
    assert!(said(&bad).contains("the e-mail address must be"));
    // Also for those who registered without a password.
    let text = said(&["user", "password", "neo@example.com"]);
    let password = text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    assert_eq!(shop.gateway().log_in("neo@example.com", PASSWORD).await.status, 401);
    assert_eq!(shop.gateway().log_in("neo@example.com", password).await.status, 200);
}

each_account_store!(the_program_lets_an_account_in_again);
async fn the_program_lets_an_account_in_again(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage);
    let admin = shop.admin().await;
    let id = shop.gateway().sign_up("neo").await["id"].as_str().unwrap().to_owned();
    let rights = format!("/auth/users/{id}");
    let disabled = admin.write(Method::PATCH, &rights, json!({ "disabled": true })).await;
    assert_eq!(disabled.json()["disabled"], true);
    assert_eq!(shop.gateway().log_in("neo@example.com", PASSWORD).await.status, 403);
    let said = |args: &[&str]| {
        let output = shop.run(args);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    let (well, text) = said(&["user", "enable", "NEO@example.com"]);
    assert!(well && text.contains("NEO@example.com is enabled now\n"), "{text}");
    assert!(text.contains("rights_changed: customer; enabled"), "{text}");
    assert_eq!(shop.gateway().log_in("neo@example.com", PASSWORD).await.status, 200);
    let (well, text) = said(&["user", "enable", "neo@example.com"]);
    assert!(well && text.contains("was enabled already"), "{text}");
    let (well, text) = said(&["user", "enable", "nobody@example.com"]);
    assert!(!well && text.contains("no account has"), "{text}");
}

each_account_store!(an_account_has_so_many_sessions_and_the_oldest_ends);
async fn an_account_has_so_many_sessions_and_the_oldest_ends(storage: Storage) {
    let most = ("APP__USER__SESSIONS_PER_ACCOUNT", "3");
    let tries = ("APP__USER__LOGINS_PER_ACCOUNT", "0");
    let environment = [ENFORCED[0], ENFORCED[2], ENFORCED[3], tries, most];
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &environment);
    let client = shop.gateway();
    for name in ["neo", "smith"] {
        client.sign_up(name).await;
    }
    let other = client.log_in("smith@example.com", PASSWORD).await.json();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(client.log_in("neo@example.com", PASSWORD).await.json());
    }
    let neo = client.with_token(sessions[4]["accessToken"].as_str().unwrap());
    let held = neo.get("/auth/me/export").await.json()["sessions"].clone();
    assert_eq!(held.as_array().unwrap().len(), 3, "{storage:?}: {held}");
    for (n, session) in sessions.iter().enumerate() {
        let answer = client.refresh(&session["refreshToken"]).await;
        assert_eq!(answer.status, if n < 2 { 401 } else { 200 }, "{storage:?} {n}");
    }
    assert_eq!(client.refresh(&other["refreshToken"]).await.status, 200, "another account");
    // However many log in at once.
    let flood = (0..12).map(|_| client.log_in("neo@example.com", PASSWORD));
    for answer in futures_util::future::join_all(flood).await {
        assert_eq!(answer.status, 200);
    }
    let held = neo.get("/auth/me/export").await.json()["sessions"].clone();
    assert_eq!(held.as_array().unwrap().len(), 3, "{storage:?}: {held}");
}

each_topology!(a_new_key_takes_over_and_the_old_one_verifies_on);
async fn a_new_key_takes_over_and_the_old_one_verifies_on(topology: Topology) {
    // No key is given: the file is made, and may change.
    let environment = [ENFORCED[0], ENFORCED[1], ENFORCED[3]];
    let shop = Shop::start_on(topology, Vec::new(), &environment);
    let before = shop.gateway().customer("neo").await;
    let names = async || {
        let keys = shop.gateway().get("/auth/.well-known/jwks.json").await.json();
        let keys = keys["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    let old = names().await;
    assert_eq!(old.len(), 1);
    assert!(shop.run(&["keys", "rotate"]).status.success());
    until("the new key is known before it signs", async || names().await.len() == 2).await;
    let kid = async || {
        let token = shop.gateway().log_in("neo@example.com", PASSWORD).await.json();
        let token = token["accessToken"].as_str().unwrap().to_owned();
        (token_part(&token, 0)["kid"].clone(), shop.gateway().with_token(&token))
    };
    assert_eq!(kid().await.0, old[0]);
    assert!(shop.run(&["keys", "rotate", "--delay", "0s"]).status.success());
    until("the newest key is known", async || names().await.len() == 3).await;
    let (new, after) = kid().await;
    assert_eq!(new, names().await[0], "{topology:?}");
    assert_ne!(new, old[0]);
    for client in [&before, &after] {
        assert_eq!(client.get("/auth/me").await.status, 200, "{topology:?}");
        assert_eq!(client.get("/products").await.status, 200, "{topology:?}");
    }
    // A file that makes no sense changes nothing.
    std::fs::write(shop.folder.path().join("data/signing-keys"), "nonsense").unwrap();
    until("the log says so", async || {
        names().await;
        let user = if topology == Topology::OneProcess { "gateway" } else { "user" };
        shop.process(user).log().contains("the keys stay as they are")
    })
    .await;
    assert_eq!(names().await.len(), 3);
    assert_eq!(kid().await.0, new);
}

each_topology!(a_key_that_signs_no_more_leaves_when_its_tokens_have_ended);
async fn a_key_that_signs_no_more_leaves_when_its_tokens_have_ended(topology: Topology) {
    const NEXT: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let environment = [ENFORCED[0], ENFORCED[1], ENFORCED[3]];
    let shop = Shop::start_on(topology, Vec::new(), &environment);
    let client = shop.gateway();
    let before = client.customer("neo").await;
    assert_eq!(before.get("/products").await.status, 200);
    let names = async || {
        let keys = client.get("/auth/.well-known/jwks.json").await.json();
        let keys = keys["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].clone()).collect::<Vec<_>>()
    };
    let old = names().await;
    // The next key signs since so many minutes: its tokens of 15 minutes may be good still, and then no more.
    let path = shop.folder.path().join("data/signing-keys");
    let line = std::fs::read_to_string(&path).unwrap();
    for (minutes, left) in [(10, 2), (20, 1)] {
        let since = chrono::Utc::now() - chrono::TimeDelta::minutes(minutes);
        let since = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        std::fs::write(&path, format!("{NEXT} {since}\n{line}")).unwrap();
        until("the keys are read", async || {
            let names = names().await;
            names.len() == left && names[0] != old[0]
        })
        .await;
        if left == 2 {
            assert_eq!(before.get("/products").await.status, 200, "{topology:?}");
        }
    }
    assert_eq!(
        before.get("/auth/me").await.status,
        401,
        "{topology:?}: who tells the keys knows them"
    );
    until("its tokens are refused", async || before.get("/products").await.status == 401).await;
    let after = client.signed_in("neo@example.com", PASSWORD).await;
    for path in ["/products", "/auth/me"] {
        assert_eq!(before.get(path).await.status, 401, "{topology:?} {path}");
        assert_eq!(after.get(path).await.status, 200, "{topology:?} {path}");
    }
    assert!(shop.run(&["keys", "rotate"]).status.success());
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(file.contains(NEXT) && !file.contains(line.trim()), "{file}");
}

#[actix_rt::test]
async fn a_token_ends_by_itself_everywhere_and_another_is_had_for_it() {
    let short = [("APP__AUTH__ACCESS_TTL", "10s"), ("APP__AUTH__LEEWAY", "0s")];
    let environment = [&ENFORCED[..], &short].concat();
    let shop = Shop::start_on(Topology::OneProcessARole, Vec::new(), &environment);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let begun = Instant::now();
    let tokens = client.log_in("neo@example.com", PASSWORD).await.json();
    assert_eq!(tokens["expiresIn"], 10);
    let token = tokens["accessToken"].as_str().unwrap().to_owned();
    // Each role looks for itself.
    let clients = ["gateway", "user", "product"].map(|role| shop.client(role).with_token(&token));
    let paths = ["/products", "/auth/me", "/products"];
    for (client, path) in clients.iter().zip(paths) {
        assert_eq!(client.get(path).await.status, 200, "{}{path}", client.base);
    }
    for (client, path) in clients.iter().zip(paths) {
        until("it ends", async || client.get(path).await.status == 401).await;
        let (end, name) = (begun.elapsed().as_secs_f64(), &client.base);
        // Times in tokens are whole seconds.
        assert!((9.0..14.0).contains(&end), "{name}{path}: {end} s");
    }
    let tokens = client.refresh(&tokens["refreshToken"]).await.json();
    let again = client.with_token(tokens["accessToken"].as_str().unwrap());
    assert_eq!(again.get("/auth/me").await.status, 200);
}

#[actix_rt::test]
async fn tokens_verify_on_while_the_user_role_or_its_store_is_away() {
    let mut shop = enforced(Topology::OneProcessARole, Storage::Polyglot);
    let admin = shop.admin().await;
    // Not seen by anybody before the role is gone.
    let neo = shop.gateway().customer("neo").await;
    admin.add_product("Lamp", 1.0).await;
    shop.server(Kind::Postgres).signal(nix::sys::signal::Signal::SIGKILL);
    admin.add_product("Chair", 1.0).await;
    assert_eq!(admin.get("/auth/me").await.status, 503);
    shop.kill("user");
    admin.add_product("Table", 1.0).await;
    assert_eq!(admin.get("/products").await.json().as_array().unwrap().len(), 3);
    assert_eq!(neo.post("/products", "{}").await.status, 403);
    let stranger = shop.gateway().with_token("nonsense");
    assert_eq!(stranger.get("/products").await.status, 401);
}

#[actix_rt::test]
async fn a_role_that_has_learnt_no_key_yet_serves_what_needs_none() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "product"]).env("APP__AUTH__MODE", "enforced");
    command.env("USER_URL", "http://127.0.0.1:9");
    let product = Process::start(folder.path(), command);
    let client = product.client("product");
    assert_eq!(client.get("/products").await.status, 200);
    assert_eq!(client.post("/products", "{}").await.status, 401);
    let signed_in = client.with_token("some.good.token");
    assert_eq!(signed_in.get("/products").await.status, 200);
    let answer = signed_in.post("/products", "{}").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    until("/readyz says so", async || {
        product.missing().await.as_array().unwrap().contains(&json!("auth.keys"))
    })
    .await;
}

#[actix_rt::test]
async fn what_would_be_open_to_the_world_does_not_start() {
    let complaint = |environment: &[(&str, &str)], args: &[&str]| {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Process::command(folder.path());
        for name in ["APP__AUTH__MODE", "APP__AUTH__OPEN_BEYOND_LOOPBACK"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).args(args);
        let output = Process::run(command);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let open = ("APP__AUTH__MODE", "open");
    let everywhere = ("APP__GATEWAY__LISTEN", "0.0.0.0:0");
    let line = complaint(&[open, everywhere], &[]);
    assert!(
        line.starts_with("app: auth.mode: open lets in anyone who reaches 0.0.0.0:0"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    let line = complaint(&[open, ("APP__PRODUCT__LISTEN", "0.0.0.0:0")], &["--role", "product"]);
    assert!(line.contains("(product.listen)"), "{line}");
    // By itself a role asks everybody, and so needs to know whom to ask.
    let line = complaint(&[], &["--role", "product"]);
    assert!(line.starts_with("app: peers.user: the product role asks the user role"), "{line}");
    let unsafe_keys = complaint(&[("APP__USER__SIGNING_KEYS", "abc")], &[]);
    assert!(unsafe_keys.starts_with("app: user.signing_keys: a key has 64 hex"), "{unsafe_keys}");
    let nowhere =
        [("DATABASE_URL", "postgres://127.0.0.1:9/x"), ("PRODUCT_URL", "http://127.0.0.1:9")];
    let no_keys = complaint(&nowhere, &["--role", "user"]);
    assert!(no_keys.starts_with("app: user.signing_keys_path: cannot read"), "{no_keys}");

    // All in one it is open on loopback only, behind no proxy; anywhere else it asks.
    let proxy = ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1");
    for (environment, status) in [
        (vec![], 201),
        (vec![everywhere], 401),
        (vec![proxy], 401),
        (vec![("APP__GATEWAY__TRUSTED_PROXIES", "10.0.0.0/8, ::1")], 401),
        (vec![("APP__GATEWAY__TRUSTED_PROXIES", " ")], 201),
        (vec![proxy, open], 201),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Process::command(folder.path());
        for name in ["APP__AUTH__MODE", "APP__AUTH__OPEN_BEYOND_LOOPBACK"] {
            command.env_remove(name);
        }
        command.envs(environment);
        let shop = Process::start(folder.path(), command);
        let client = Client::new(shop.urls["gateway"].replace("0.0.0.0", "127.0.0.1"));
        let answer = client.post("/products", json!({ "name": "Lamp", "price": 1 })).await;
        assert_eq!(answer.status, status);
    }
}

each_topology!(what_is_open_for_this_machine_alone_answers_to_its_names_alone);
async fn what_is_open_for_this_machine_alone_answers_to_its_names_alone(topology: Topology) {
    let alone = ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "false");
    let shop = Shop::start_with(topology, &[alone]);
    let lamp = json!({ "name": "Lamp", "price": 5 }).to_string();
    let roles: &[&str] = match topology {
        Topology::OneProcess => &["gateway"],
        Topology::OneProcessARole => &["gateway", "user", "product"],
    };
    for role in roles {
        let client = shop.client(role);
        for host in ["evil.example:8000", "shop", "127.0.0.1.evil.example", "10.0.0.1"] {
            for path in ["/", "/products", "/auth/register", "/auth/me", "/nowhere"] {
                let headers = [("host", host), ("content-type", "application/json")];
                for method in [Method::GET, Method::POST] {
                    let answer = client.send(method, path, &headers, lamp.clone()).await;
                    assert_eq!(answer.status, 403, "{topology:?} {role} {host} {path}");
                    assert_eq!(answer.problem().0, "/problems/forbidden");
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains("auth.open_beyond_loopback=true"), "{detail}");
                }
            }
        }
    }
    let client = shop.gateway();
    for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.9.9.9", "[::1]:8000"] {
        let headers = [("host", host), ("content-type", "application/json")];
        let answer = client.send(Method::POST, "/products", &headers, lamp.clone()).await;
        assert_eq!(answer.status, 201, "{topology:?} {host}: {answer:?}");
    }
}

#[actix_rt::test]
async fn what_is_open_for_this_machine_alone_hears_from_proxies_whom_they_were_asked_for() {
    let alone = ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "false");
    let proxy = ("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1");
    let shop = Shop::start_with(Topology::OneProcess, &[alone, proxy]);
    for (name, value, status) in [
        ("x-forwarded-host", "evil.example", 403),
        ("x-forwarded-host", "localhost:8000", 200),
        ("forwarded", "for=192.0.2.7;host=evil.example", 403),
    ] {
        let answer = shop.gateway().send(Method::GET, "/products", &[(name, value)], "").await;
        assert_eq!(answer.status, status, "{name}: {value}");
    }
}

#[actix_rt::test]
async fn what_asks_everybody_or_is_open_to_all_answers_any_host() {
    let alone = ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "false");
    // Whoever asks everybody who they are, or says that it is open to all, answers any host.
    for environment in [[ENFORCED[0], alone], [("APP__AUTH__MODE", "open"), ENFORCED[2]]] {
        let shop = Shop::start_with(Topology::OneProcess, &environment);
        let answer = shop.gateway().send(Method::GET, "/products", &[("host", "shop")], "").await;
        assert_eq!(answer.status, 200);
    }
}

#[actix_rt::test]
async fn a_flood_of_logins_starves_nobody() {
    let limits = [
        ENFORCED[0],
        ENFORCED[3],
        ("APP__USER__LOGINS_PER_ACCOUNT", "0"),
        ("APP__USER__HASHING_THREADS", "1"),
        ("APP__USER__HASHING_QUEUE", "4"),
    ];
    let shop = Shop::start_on(Topology::OneProcess, Vec::new(), &limits);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let flood = (0..40).map(|_| {
        let client = client.clone();
        actix_rt::spawn(async move { client.log_in("neo@example.com", PASSWORD).await })
    });
    let flood = flood.collect::<Vec<_>>();
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        assert_eq!(client.get("/products").await.status, 200);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    // A machine that runs many tests may hold up any one of them.
    assert!(times[25] < Duration::from_millis(200), "{times:?}");
    let (mut served, mut refused) = (0, 0);
    for login in flood {
        let answer = login.await.unwrap();
        match answer.status {
            200 => served += 1,
            503 if answer.header("retry-after") == "1" => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert!(served >= 5 && refused > 0, "{served} {refused}");
}

#[actix_rt::test]
async fn what_is_erased_is_not_in_the_file_any_more() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut shop = crate::support::Process::start(
        folder.path(),
        crate::support::Process::command(folder.path()),
    );
    let client = shop.client("gateway");
    for name in ["first", "gone", "stay", "last"] {
        client.sign_up(name).await;
    }
    let token = client.log_in("gone@example.com", PASSWORD).await.json();
    let gone = client.with_token(token["accessToken"].as_str().unwrap());
    let proof = json!({ "currentPassword": PASSWORD });
    assert_eq!(gone.write(Method::DELETE, "/auth/me", proof).await.status, 204);
    shop.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(shop.wait().code(), Some(0));
    let file = std::fs::read(folder.path().join("data/user.db")).unwrap();
    let holds = |text: &str| file.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(holds("stay@example.com") && !holds("gone@example.com"));
}

each_statistics!(what_an_account_does_costs_no_look_at_others_on_postgresql);
async fn what_an_account_does_costs_no_look_at_others_on_postgresql(statistics: Statistics) {
    let postgres = vec![Server::start(Kind::Postgres)];
    let few = [("APP__SERVER__WORKERS", "1"), ("APP__USER__POOL_SIZE", "2")];
    let environment = ENFORCED.into_iter().chain(few).collect::<Vec<_>>();
    let shop = Shop::start_on(Topology::OneProcess, postgres, &environment);
    let admin = shop.admin().await;
    let lamp = admin.add_stocked("Lamp", 99).await;
    // A plan that a connection has made for a small table must not stay.
    for n in 0..8 {
        live_through_an_account(&shop, &admin, &lamp, &format!("neo-{n}")).await;
    }
    let password = json!({ "currentPassword": PASSWORD });
    shop.take(statistics);
    for table in [
        "users (id, username, email, email_key, created_at) \
             SELECT n, 'Neo', n || '@example.com', n || '@example.com', now()",
        "sessions (id, user_id, family, token_hash, created_at, used_at, expires_at) \
             SELECT n, n, n, n, now(), now(), '2100-01-01'",
        "recent_orders (order_id, user_id, sequence, status, total, currency, created_at) \
             SELECT n, n, 1, 'placed', 1, 'EUR', now()",
    ] {
        let ids = "(SELECT md5(n :: TEXT) :: UUID :: TEXT AS n FROM generate_series(1, 40000) AS n) AS ids";
        shop.query("user", &format!("INSERT INTO {table} FROM {ids}"));
    }
    shop.forget_reads();
    for name in ["trinity", "morpheus"] {
        let client = live_through_an_account(&shop, &admin, &lamp, name).await;
        let erased = client.write(Method::DELETE, "/auth/me", &password).await;
        assert_eq!(erased.status, 204, "{erased:?}");
    }
    assert_eq!(shop.reads_above(300), "");
}

/// Does what an account does; returns the one who is signed in then.
async fn live_through_an_account(shop: &Shop, admin: &Client, lamp: &str, name: &str) -> Client {
    let (client, email) = (shop.gateway(), format!("{name}@example.com"));
    let id = client.sign_up(name).await["id"].as_str().unwrap().to_owned();
    let session = client.log_in(&email, PASSWORD).await.json();
    let session = client.refresh(&session["refreshToken"]).await.json();
    let neo = client.with_token(session["accessToken"].as_str().unwrap());
    let items = json!({ "items": order_items(&[(lamp, 1)]) });
    let key = [("content-type", "application/json"), ("idempotency-key", "one")];
    let order = neo.send(Method::POST, "/orders", &key, items.to_string()).await;
    assert_eq!(order.status, 201, "{order:?}");
    let dashboard = format!("/auth/dashboard/{id}");
    until("the dashboard has the order", async || {
        neo.get(&dashboard).await.json()["recentOrders"].is_array()
    })
    .await;
    let renamed = neo.write(Method::PATCH, "/auth/me", json!({ "username": "Thomas" })).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let found = admin.get(&format!("/auth/users?email={email}")).await;
    assert_eq!(found.json()[0]["id"], json!(id));
    assert!(!admin.get("/auth/users?limit=5").await.ids().is_empty());
    let out = client.post("/auth/logout", json!({ "refreshToken": session["refreshToken"] })).await;
    assert_eq!(out.status, 204, "{out:?}");
    let again = client.log_in(&email, PASSWORD).await.json();
    client.with_token(again["accessToken"].as_str().unwrap())
}

#[actix_rt::test]
async fn an_address_that_is_taken_costs_no_connection_behind_a_pooler() {
    let workers = ("APP__SERVER__WORKERS", "1");
    let shop = Shop::start_on(Topology::OneProcess, Storage::Pooled.servers(), &[workers]);
    let client = shop.gateway();
    client.register("neo").await;
    let connections = || {
        let opened = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
        shop.query("user", opened).parse::<u64>().unwrap()
    };
    let before = connections();
    let again = json!({ "username": "Neo", "email": "neo@example.com" });
    for _ in 0..40 {
        assert_eq!(client.post("/auth/register", &again).await.status, 409);
    }
    assert!(connections() < before + 10, "{before} and {}", connections());
}
