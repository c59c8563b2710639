//! Refresh tokens that are used by two tabs at once, or whose answer got lost, and clocks that differ.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, PASSWORD, Process, SIGNING_KEY, Shop, Storage, Topology, token};

const ENFORCED: (&str, &str) = ("APP__AUTH__MODE", "enforced");
const KEY: (&str, &str) = ("APP__USER__SIGNING_KEYS", SIGNING_KEY);

async fn session(client: &Client) -> Value {
    let new = json!({ "username": "Neo", "email": "neo@example.com", "password": PASSWORD });
    assert_eq!(client.post("/auth/register", new).await.status, 201);
    client.log_in("neo@example.com", PASSWORD).await.json()
}

async fn signed_in(client: &Client, tokens: &Value) -> bool {
    let client = client.with_token(tokens["accessToken"].as_str().unwrap());
    client.get("/auth/me").await.status == 200
}

each_account_store!(tabs_that_refresh_at_once_get_the_same_token_until_it_is_used);
async fn tabs_that_refresh_at_once_get_the_same_token_until_it_is_used(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[ENFORCED, KEY]);
    let client = shop.gateway();
    let first = session(&client).await["refreshToken"].clone();
    let tabs = (0..8).map(|_| client.refresh(&first));
    let answers = futures_util::future::join_all(tabs).await;
    let second = answers[0].json()["refreshToken"].clone();
    assert_ne!(second, first);
    for answer in &answers {
        assert_eq!((answer.status, &answer.json()["refreshToken"]), (200, &second));
        assert!(signed_in(&client, &answer.json()).await, "{storage:?}");
    }
    let third = client.refresh(&second).await.json();
    assert_ne!(third["refreshToken"], second);
    // Whoever has the first one now knows nothing of what came of it, and is no tab of the same client.
    assert_eq!(client.refresh(&first).await.status, 401, "{storage:?}");
    assert_eq!(client.refresh(&third["refreshToken"]).await.status, 401);
    assert!(!signed_in(&client, &third).await, "its access tokens are over, too");
    let log = shop.process("gateway").log();
    assert!(log.contains("refreshed: with the same token again"), "{log}");
    assert!(log.contains("refresh_reused"), "{log}");
}

#[actix_rt::test]
async fn each_token_of_a_session_may_get_lost() {
    let shop = Shop::start_with(Topology::OneProcessARole, &[ENFORCED]);
    let client = shop.gateway();
    let mut token = session(&client).await["refreshToken"].clone();
    for _ in 0..4 {
        let lost = client.refresh(&token).await.json()["refreshToken"].clone();
        let answer = client.refresh(&token).await.json();
        assert_eq!(answer["refreshToken"], lost);
        token = lost;
    }
}

each_account_store!(a_token_of_long_ago_is_a_sign_of_theft);
async fn a_token_of_long_ago_is_a_sign_of_theft(storage: Storage) {
    let leeway = ("APP__USER__REFRESH_LEEWAY", "1s");
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[ENFORCED, KEY, leeway]);
    let client = shop.gateway();
    let first = session(&client).await;
    let second = client.refresh(&first["refreshToken"]).await.json();
    actix_rt::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.refresh(&first["refreshToken"]).await.status, 401, "{storage:?}");
    assert_eq!(client.refresh(&second["refreshToken"]).await.status, 401, "{storage:?}");
}

#[actix_rt::test]
async fn a_token_is_given_again_after_the_key_has_changed() {
    let shop = Shop::start_with(Topology::OneProcess, &[ENFORCED]);
    let client = shop.gateway();
    let first = session(&client).await["refreshToken"].clone();
    let second = client.refresh(&first).await.json()["refreshToken"].clone();
    assert!(shop.run(&["keys", "rotate", "--delay", "0s"]).status.success());
    crate::support::until("the new key is known", async || {
        let keys = client.get("/auth/.well-known/jwks.json").await.json();
        keys["keys"].as_array().unwrap().len() == 2
    })
    .await;
    assert_eq!(client.refresh(&first).await.json()["refreshToken"], second);
    assert_eq!(client.refresh(&second).await.status, 200);
}

#[actix_rt::test]
async fn whoever_is_disabled_gets_nothing_again() {
    let shop = Shop::start_with(Topology::OneProcess, &[ENFORCED]);
    let client = shop.gateway();
    let tokens = session(&client).await;
    let neo = client.with_token(tokens["accessToken"].as_str().unwrap());
    let id = neo.get("/auth/me").await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(client.refresh(&tokens["refreshToken"]).await.status, 200);
    let disabled = json!({ "disabled": true });
    let path = format!("/auth/users/{id}");
    let answer = shop.admin().await.write(awc::http::Method::PATCH, &path, disabled).await;
    assert_eq!(answer.status, 200);
    assert_eq!(client.refresh(&tokens["refreshToken"]).await.status, 401);
}

#[actix_rt::test]
async fn clocks_may_differ_by_as_much_as_is_set() {
    for (leeway, late, status) in
        [("10s", 7, 200), ("10s", 60, 401), ("0s", 7, 401), ("30s", 20, 200)]
    {
        let shop = Shop::start_with(
            Topology::OneProcessARole,
            &[ENFORCED, KEY, ("APP__AUTH__LEEWAY", leeway)],
        );
        let client = shop.gateway();
        let kid = client.get("/auth/.well-known/jwks.json").await.json()["keys"][0]["kid"].clone();
        let now = chrono::Utc::now().timestamp();
        let id = "01890000-0000-7000-8000-000000000000";
        let token = |iat: i64, exp: i64| {
            let claims = json!({ "iss": "shop", "aud": "shop", "sub": id, "jti": id, "sid": id,
                "gen": 0, "iat": iat, "exp": exp, "roles": ["customer"] });
            token(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }), &claims, SIGNING_KEY)
        };
        for token in [token(now - 100, now - late), token(now + late, now + 600)] {
            let answer = client.with_token(&token).get("/products").await;
            assert_eq!(answer.status, status, "{leeway} {late}: {answer:?}");
        }
    }
}

#[actix_rt::test]
async fn a_leeway_has_its_bounds() {
    for (name, value, key) in [
        ("APP__AUTH__LEEWAY", "31s", "auth.leeway"),
        ("APP__AUTH__LEEWAY", "soon", "auth.leeway"),
        ("APP__USER__REFRESH_LEEWAY", "61s", "user.refresh_leeway"),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = Process::command(folder.path());
        command.env(name, value);
        let output = Process::run(command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(key), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
