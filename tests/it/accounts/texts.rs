//! What people write: names and e-mail addresses, in any script.

use awc::http::Method;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::{Value, json};

use crate::support::{Client, PASSWORD, Shop, Storage, Topology};

/// Names in which nothing can be seen.
const BLANK: [&str; 9] = [
    "\u{200b}",
    "\u{feff}",
    " \u{2060}\u{200d} ",
    "\u{ad}",
    "\u{3164}",
    "\u{115f}\u{1160}",
    "\u{2800}",
    "\u{e0020}\u{e007f}",
    "\u{202e}\u{2066}",
];
/// What ends a line, controls something, or turns the text behind it.
const WITHIN: [&str; 9] =
    ["\n", "\u{b}", "\u{c}", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\0", "\u{1b}"];
const READABLE: [&str; 6] =
    ["Ärmel Ø 5", "نام\u{200c}ها", "שלום\u{200f}!", "👩\u{200d}🔧", "❤\u{fe0f}", "e\u{301}"];

async fn register(client: &Client, name: &str, email: &str) -> (u16, Value) {
    let new = json!({ "username": name, "email": email, "password": PASSWORD });
    let answer = client.post("/auth/register", new).await;
    let wrong = if answer.status == 422 { json!(answer.problem().1) } else { answer.json() };
    (answer.status, wrong)
}

each_topology!(a_name_is_one_line_that_can_be_read);
async fn a_name_is_one_line_that_can_be_read(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let broken = WITHIN.map(|within| format!("La{within}mp"));
    let bad = BLANK.into_iter().chain(broken.iter().map(String::as_str));
    for name in bad {
        let answer = client.post("/products", json!({ "name": name, "price": 1 })).await;
        assert_eq!(answer.status, 422, "{name:?}: {answer:?}");
        assert_eq!(answer.problem().1, ["name"], "{name:?}");
        let registered = register(&client, name, "neo@example.com").await;
        assert_eq!(registered, (422, json!(["username"])), "{name:?}");
    }
    for (n, name) in READABLE.into_iter().enumerate() {
        let answer = client.post("/products", json!({ "name": name, "price": 1 })).await;
        assert_eq!((answer.status, &answer.json()["name"]), (201, &json!(name)));
        let (status, user) = register(&client, name, &format!("neo{n}@example.com")).await;
        assert_eq!((status, &user["username"]), (201, &json!(name)));
    }
    let neo = client.signed_in("neo0@example.com", PASSWORD).await;
    for name in BLANK {
        let patch = json!({ "username": name });
        let answer = neo.write(Method::PATCH, "/auth/me", patch).await;
        assert_eq!((answer.status, answer.problem().1), (422, vec!["username".to_owned()]));
    }
    let product = client.post("/products", json!({ "name": "Lamp\n", "price": 1 })).await;
    assert_eq!(product.json()["name"], "Lamp", "a line may end in an end of line");
}

#[actix_rt::test]
async fn a_command_makes_no_account_without_a_name() {
    let shop = Shop::start(Topology::OneProcess);
    let made = ["user", "create", "--username", "\u{200b}", "--email", "neo@example.com"];
    let output = shop.run(&made);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the user name must have"), "{said}");
}

each_account_store!(an_address_in_any_script_is_one_account_in_every_spelling);
async fn an_address_in_any_script_is_one_account_in_every_spelling(storage: Storage) {
    let shop = Shop::start_on(Topology::OneProcess, storage.servers(), &[]);
    let client = shop.gateway();
    for (email, same) in [
        ("Dörte@München.de", "dörte@xn--mnchen-3ya.de"),
        ("neo@xn--fsqu00a.xn--4rr70v", "Neo@例子。广告"),
        ("квіточка@пошта.укр", "КВІТОЧКА@xn--80a1acn3a.xn--j1amh"),
        ("jose\u{301}@example.com", "JOSÉ@Example.com"),
        ("neo@[IPv6:2001:db8::1]", "neo@[ipv6:2001:DB8::1]"),
    ] {
        let (status, user) = register(&client, "Neo", email).await;
        assert_eq!((status, &user["email"]), (201, &json!(email)), "as it was written");
        assert_eq!(register(&client, "Smith", same).await.0, 409, "{same}");
        for spelling in [email, same] {
            let me = client.signed_in(spelling, PASSWORD).await.get("/auth/me").await;
            assert_eq!(me.json()["id"], user["id"], "{storage:?} {spelling}");
        }
        let admin = shop.admin().await;
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("email", same)
            .finish();
        let found = admin.get(&format!("/auth/users?{query}")).await.ids();
        assert_eq!(found, [user["id"].as_str().unwrap()], "{same}");
    }
    for bad in
        ["neo@[2001:db8::1]", "ne\u{200b}o@example.com", "neo@mün chen.de", "neo@-ü.de", "ö@"]
    {
        let registered = register(&client, "Neo", bad).await;
        assert_eq!(registered, (422, json!(["email"])), "{bad:?}");
    }
}

#[actix_rt::test]
async fn an_address_that_was_taken_before_still_signs_in() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    assert_eq!(register(&client, "Neo", "neo@example.com").await.0, 201);
    let file = shop.folder.path().join("data/user.db");
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let before = "UPDATE users SET email = 'Neo@[2001:db8::1]', email_key = 'neo@[2001:db8::1]'";
    connection.batch_execute(before).unwrap();
    let neo = client.signed_in("neo@[2001:DB8::1]", PASSWORD).await;
    let me = neo.get("/auth/me").await.json();
    assert_eq!(me["email"], "Neo@[2001:db8::1]");
    let same = json!({ "username": "Thomas" });
    assert_eq!(neo.write(Method::PATCH, "/auth/me", same).await.status, 200);
    let found = shop.admin().await.get("/auth/users?email=neo@[2001:db8::1]").await;
    assert_eq!(found.ids(), [me["id"].as_str().unwrap()]);
}
