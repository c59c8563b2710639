//! Sessions of browsers: the refresh token is in a cookie, and pages of other origins cannot use it.

use std::time::Duration;

use awc::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, PASSWORD, SIGNING_KEY, Shop, Storage, Topology, token_part, until,
};

const ENFORCED: [(&str, &str); 4] = [
    ("APP__AUTH__MODE", "enforced"),
    ("APP__AUTH__REFRESH_INTERVAL", "100ms"),
    ("APP__USER__SIGNING_KEYS", SIGNING_KEY),
    ("APP__USER__LOGINS_PER_ADDRESS", "0"),
];
const NEO: &str = "neo@example.com";
/// What a browser says of a request by a script of the shop's own page.
const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");
const JSON: (&str, &str) = ("content-type", "application/json");
const NAME: &str = "__Secure-session=";
const REMOVED: &str =
    "__Secure-session=; HttpOnly; SameSite=Strict; Secure; Path=/auth/session; Max-Age=0";

fn enforced(topology: Topology, storage: Storage, settings: &[(&str, &str)]) -> Shop {
    let environment = ENFORCED.iter().chain(settings).copied().collect::<Vec<_>>();
    Shop::start_on(topology, storage.servers(), &environment)
}

async fn sign_in(client: &Client, password: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[JSON], headers].concat();
    let body = json!({ "email": NEO, "password": password }).to_string();
    client.send(Method::POST, "/auth/session", &headers, body).await
}

async fn renew(client: &Client, cookie: &str) -> Answer {
    let headers = [OWN, ("cookie", cookie)];
    client.send(Method::POST, "/auth/session/renew", &headers, "").await
}

async fn sign_out(client: &Client, cookie: &str) -> Answer {
    client.send(Method::DELETE, "/auth/session", &[OWN, ("cookie", cookie)], "").await
}

/// The cookie of a session that begins or goes on, as the browser sends it back. Asserts what else the answer has.
fn granted(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    let mut names = answer.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    names.sort_unstable();
    assert_eq!(names, ["accessToken", "expiresIn", "tokenType"], "no script sees the other token");
    let cookies = answer.headers.get_all("set-cookie").collect::<Vec<_>>();
    assert_eq!(cookies.len(), 1, "{answer:?}");
    let (cookie, attributes) = cookies[0].to_str().unwrap().split_once("; ").unwrap();
    let expected = "HttpOnly; SameSite=Strict; Secure; Path=/auth/session; Max-Age=2592000";
    assert_eq!(attributes, expected);
    assert!(cookie.starts_with(NAME) && cookie.len() > 80, "{cookie}");
    cookie.to_owned()
}

/// Asserts that a session is over, and that the browser forgets its cookie.
fn is_over(answer: &Answer) {
    let said = (answer.status, answer.header("cache-control"), answer.header("set-cookie"));
    assert_eq!(said, (401, "no-store", REMOVED), "{answer:?}");
    assert_eq!(answer.problem().0, "/problems/unauthorized");
}

fn with_token_of(client: &Client, answer: &Answer) -> Client {
    client.with_token(answer.json()["accessToken"].as_str().unwrap())
}

each_case!(a_browser_signs_in_goes_on_and_signs_out:
    embedded_one_process(Storage::Embedded, Topology::OneProcess),
    embedded_one_process_a_role(Storage::Embedded, Topology::OneProcessARole),
    polyglot_one_process(Storage::Polyglot, Topology::OneProcess),
    polyglot_one_process_a_role(Storage::Polyglot, Topology::OneProcessARole),
    pooled_one_process(Storage::Pooled, Topology::OneProcess),
    pooled_one_process_a_role(Storage::Pooled, Topology::OneProcessARole),
);
async fn a_browser_signs_in_goes_on_and_signs_out(storage: Storage, topology: Topology) {
    let shop = enforced(topology, storage, &[]);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let wrong = sign_in(&client, "swordfish swordfish", &[OWN]).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""), "{wrong:?}");
    let answer = sign_in(&client, PASSWORD, &[OWN]).await;
    let first = granted(&answer);
    assert_eq!(answer.json()["tokenType"], "Bearer");
    assert_eq!(answer.json()["expiresIn"], 900);
    assert_eq!(with_token_of(&client, &answer).get("/auth/me").await.status, 200);
    let session = |answer: &Answer| -> Value {
        token_part(answer.json()["accessToken"].as_str().unwrap(), 1)["sid"].clone()
    };

    let renewed = renew(&client, &format!("theme=dark; {first}; x")).await;
    let second = granted(&renewed);
    assert_ne!(second, first);
    assert_eq!(session(&renewed), session(&answer));
    let neo = with_token_of(&client, &renewed);
    assert_eq!(neo.get("/auth/me").await.status, 200);

    // The tokens of a program are another session, and go on as ever.
    let tokens = client.log_in(NEO, PASSWORD).await;
    assert_eq!(tokens.header("set-cookie"), "");
    let out = sign_out(&client, &second).await;
    assert_eq!((out.status, out.header("set-cookie")), (204, REMOVED), "{out:?}");
    assert_eq!(out.header("cache-control"), "no-store");
    is_over(&renew(&client, &second).await);
    is_over(&renew(&client, &first).await);
    assert_eq!(client.refresh(&tokens.json()["refreshToken"]).await.status, 200);
    assert_eq!(sign_out(&client, &second).await.status, 204, "again");
    let out = client.send(Method::DELETE, "/auth/session", &[OWN], "").await;
    assert_eq!((out.status, out.header("set-cookie")), (204, REMOVED));
    is_over(&client.send(Method::POST, "/auth/session/renew", &[OWN], "").await);
}

each_account_store!(tabs_that_renew_at_once_get_the_same_cookie);
async fn tabs_that_renew_at_once_get_the_same_cookie(storage: Storage) {
    let shop = enforced(Topology::OneProcess, storage, &[]);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let first = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let answers = join_all((0..4).map(|_| renew(&client, &first))).await;
    let second = granted(&answers[0]);
    assert_ne!(second, first);
    for answer in &answers {
        assert_eq!(granted(answer), second, "{storage:?}");
        assert_eq!(with_token_of(&client, answer).get("/auth/me").await.status, 200);
    }
    // Later a tab comes with the next one.
    let third = granted(&renew(&client, &second).await);
    assert!(third != second && third != first);
}

each_account_store!(a_cookie_that_was_used_long_before_ends_the_session);
async fn a_cookie_that_was_used_long_before_ends_the_session(storage: Storage) {
    let leeway = [("APP__USER__REFRESH_LEEWAY", "1s")];
    let shop = enforced(Topology::OneProcess, storage, &leeway);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let first = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let answer = renew(&client, &first).await;
    let second = granted(&answer);
    actix_rt::time::sleep(Duration::from_millis(1100)).await;
    is_over(&renew(&client, &first).await);
    is_over(&renew(&client, &second).await);
    let neo = with_token_of(&client, &answer);
    assert_eq!(neo.get("/auth/me").await.status, 401, "{storage:?}: its access tokens, too");
    let log = shop.process("gateway").log();
    assert!(log.contains("refresh_reused"), "{log}");
}

each_topology!(a_page_of_another_origin_is_refused_and_changes_nothing);
async fn a_page_of_another_origin_is_refused_and_changes_nothing(topology: Topology) {
    let shop = enforced(topology, Storage::Embedded, &[]);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let cookie = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let sent = ("cookie", cookie.as_str());
    let host = client.base.strip_prefix("http://").unwrap().to_owned();
    let login = json!({ "email": NEO, "password": PASSWORD }).to_string();
    for stranger in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site"), ("origin", client.base.as_str())],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        // Of strangers, the gateway takes no other host.
        &[("origin", "https://evil.example"), ("x-forwarded-host", "evil.example")],
        &[("origin", "https://evil.example"), ("forwarded", "host=evil.example")],
    ] {
        for (method, path, body) in [
            (Method::POST, "/auth/session", login.as_str()),
            (Method::POST, "/auth/session/renew", ""),
            (Method::DELETE, "/auth/session", ""),
        ] {
            let headers = [stranger, &[sent, JSON]].concat();
            let answer = client.send(method.clone(), path, &headers, body).await;
            let said = (answer.status, answer.header("cache-control"), answer.header("set-cookie"));
            assert_eq!(said, (403, "no-store", ""), "{topology:?} {method} {path} {stranger:?}");
            assert_eq!(answer.problem().0, "/problems/forbidden");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("a page of another origin"), "{detail}");
        }
    }
    // The session is as it was, for its own pages in every browser, and for programs.
    let mut cookie = cookie;
    for own in [
        &[OWN][..],
        &[("sec-fetch-site", "none")],
        &[("origin", client.base.as_str())],
        &[("origin", &format!("https://{host}"))],
        &[],
    ] {
        let headers = [own, &[("cookie", cookie.as_str())]].concat();
        let answer = client.send(Method::POST, "/auth/session/renew", &headers, "").await;
        cookie = granted(&answer);
    }
}

each_topology!(behind_a_proxy_the_origin_is_what_the_browser_asked_for);
async fn behind_a_proxy_the_origin_is_what_the_browser_asked_for(topology: Topology) {
    let trusted = [("APP__GATEWAY__TRUSTED_PROXIES", "127.0.0.1")];
    let shop = enforced(topology, Storage::Embedded, &trusted);
    let client = shop.gateway();
    client.sign_up("neo").await;
    for (origin, host, status) in [
        ("https://shop.example", "shop.example", 200),
        ("https://shop.example", "other.example", 403),
        ("https://evil.example", "shop.example", 403),
    ] {
        let headers = [("origin", origin), ("x-forwarded-host", host)];
        let answer = sign_in(&client, PASSWORD, &headers).await;
        assert_eq!(answer.status, status, "{topology:?} {origin} {host}: {answer:?}");
    }
}

each_topology!(a_cookie_that_is_no_session_is_removed);
async fn a_cookie_that_is_no_session_is_removed(topology: Topology) {
    let shop = enforced(topology, Storage::Embedded, &[]);
    let client = shop.gateway();
    client.sign_up("neo").await;
    let cookie = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let bad = |value: &str| format!("{NAME}{value}");
    let family = cookie.strip_prefix(NAME).unwrap().split_once('.').unwrap().0;
    for bad in [
        "x=y".to_owned(),
        bad(""),
        bad("."),
        bad("a.b"),
        bad("%00.%ff"),
        bad("\"a.b\""),
        bad(&"x".repeat(8000)),
        bad(&format!("{}.{}", "x".repeat(4000), "y".repeat(4000))),
        bad(family),
        format!("{cookie}; {cookie}"),
        format!("{cookie}; {NAME}a.b"),
        ";;=;,".to_owned(),
    ] {
        is_over(&renew(&client, &bad).await);
        assert_eq!(sign_out(&client, &bad).await.status, 204, "{topology:?} {bad}");
    }
    granted(&renew(&client, &cookie).await);
}

each_topology!(another_password_ends_other_sessions_and_an_admin_ends_all);
async fn another_password_ends_other_sessions_and_an_admin_ends_all(topology: Topology) {
    const NEW: &str = "there is no spoon, Neo";
    let shop = enforced(topology, Storage::Embedded, &[]);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let id = client.sign_up("neo").await["id"].as_str().unwrap().to_owned();
    let other = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let answer = sign_in(&client, PASSWORD, &[OWN]).await;
    let here = granted(&answer);
    let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let neo = with_token_of(&client, &answer);
    let changed = neo.write(Method::PUT, "/auth/me/password", change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    is_over(&renew(&client, &other).await);
    let answer = renew(&client, &here).await;
    let here = granted(&answer);
    let neo = with_token_of(&client, &answer);
    let tokens = client.log_in(NEO, NEW).await.json();

    let sessions = format!("/auth/users/{id}/sessions");
    for (who, status) in [(&client, 401), (&neo, 403)] {
        let answer = who.send(Method::DELETE, &sessions, &[], "").await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(neo.get("/auth/me").await.status, 200, "nothing has happened");
    let ended = admin.send(Method::DELETE, &sessions, &[], "").await;
    assert_eq!((ended.status, ended.header("cache-control")), (204, "no-store"), "{ended:?}");
    is_over(&renew(&client, &here).await);
    assert_eq!(client.refresh(&tokens["refreshToken"]).await.status, 401);
    assert_eq!(neo.get("/auth/me").await.status, 401, "{topology:?}");
    until("the catalogue knows", async || neo.get("/products").await.status == 401).await;
    granted(&sign_in(&client, NEW, &[OWN]).await);
    assert_eq!(admin.get("/auth/me").await.status, 200, "the admin's own go on");
    for nobody in ["01a20696-7a87-7338-917a-c39188f7cc7c", "1"] {
        let path = format!("/auth/users/{nobody}/sessions");
        assert_eq!(admin.send(Method::DELETE, &path, &[], "").await.status, 404, "{nobody}");
    }
    let process = if topology == Topology::OneProcess { "gateway" } else { "user" };
    let log = shop.process(process).log();
    let by = token_part(admin.token(), 1)["sub"].as_str().unwrap().to_owned();
    let line = log.lines().find(|line| line.contains(r#""event":"sessions_ended""#)).unwrap();
    assert!(line.contains(&id) && line.contains(&format!("by {by}")), "{line}");
}

each_topology!(tries_at_a_password_count_wherever_it_is_asked_for);
async fn tries_at_a_password_count_wherever_it_is_asked_for(topology: Topology) {
    let limit = [("APP__USER__LOGINS_PER_ACCOUNT", "4")];
    let shop = enforced(topology, Storage::Embedded, &limit);
    let client = shop.gateway();
    client.sign_up("neo").await;
    for _ in 0..2 {
        assert_eq!(client.log_in(NEO, "swordfish swordfish").await.status, 401);
        assert_eq!(sign_in(&client, "swordfish swordfish", &[]).await.status, 401);
    }
    let refused = sign_in(&client, PASSWORD, &[OWN]).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (429, ""), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[actix_rt::test]
async fn a_browser_is_told_what_is_wrong_with_its_request() {
    let shop = enforced(Topology::OneProcess, Storage::Embedded, &[]);
    let (client, admin) = (shop.gateway(), shop.admin().await);
    let id = client.sign_up("neo").await["id"].as_str().unwrap().to_owned();
    let cookie = granted(&sign_in(&client, PASSWORD, &[OWN]).await);
    let sent = [OWN, JSON, ("cookie", cookie.as_str())];
    for (method, path, body, fields) in [
        (Method::POST, "/auth/session", r#"{"email":1,"otp":2}"#, vec!["email", "password", "otp"]),
        (Method::POST, "/auth/session/renew", r#"{"refreshToken":"a.b"}"#, vec!["refreshToken"]),
        (Method::DELETE, "/auth/session", r#"{"all":true}"#, vec!["all"]),
        (Method::DELETE, "/auth/session?all", "", vec!["all"]),
    ] {
        let answer = client.send(method.clone(), path, &sent, body).await;
        assert_eq!(
            (answer.status, answer.problem().1),
            (422, fields.iter().map(|&field| field.to_owned()).collect()),
            "{method} {path}"
        );
    }
    let disabled = json!({ "disabled": true });
    admin.write(Method::PATCH, &format!("/auth/users/{id}"), disabled).await;
    let answer = sign_in(&client, PASSWORD, &[OWN]).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
    is_over(&renew(&client, &cookie).await);
}
