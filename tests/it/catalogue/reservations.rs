//! Pieces that are reserved, sold and given back, over two processes of the product role on one store.

use awc::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, Client, Kind, Process, Server, Shop, Storage, Topology, until};

/// Two processes of the product role.
struct Twins {
    processes: [Process; 2],
    _servers: Vec<Server>,
    _folder: tempfile::TempDir,
}

impl Twins {
    fn start(storage: Storage) -> Self {
        let servers = match storage {
            // Two processes have one cache: what either gives back, both show.
            Storage::Embedded => vec![Server::start(Kind::Redis)],
            _ => [Kind::Mongo, Kind::Redis].map(Server::start).into(),
        };
        let folder = tempfile::TempDir::new().unwrap();
        let start = || {
            let mut command = Process::command(folder.path());
            command.args(["--role", "product"]);
            command.envs(servers.iter().map(|server| (server.variable(), server.url())));
            Process::start(folder.path(), command)
        };
        Self { processes: [start(), start()], _servers: servers, _folder: folder }
    }

    fn clients(&self) -> [Client; 2] {
        self.processes.each_ref().map(|process| process.client("product"))
    }
}

/// Adds a product with `stock` pieces and gives its id.
async fn product(client: &Client, name: &str, stock: Option<i64>) -> String {
    let mut new = json!({ "name": name, "price": 4.5 });
    if let Some(stock) = stock {
        new["stock"] = stock.into();
    }
    let answer = client.post("/products", new).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn path(id: Uuid) -> String {
    format!("/internal/reservations/{id}")
}

async fn reserve(client: &Client, id: Uuid, lines: &[(&str, i64)], seconds: i64) -> Answer {
    let line = |(id, quantity): &(&str, i64)| json!({ "productId": id, "quantity": quantity });
    let lines = lines.iter().map(line).collect::<Vec<_>>();
    client.write(Method::PUT, &path(id), json!({ "lines": lines, "seconds": seconds })).await
}

async fn take_over(client: &Client, id: Uuid, from: Uuid) -> Answer {
    client.write(Method::PUT, &path(id), json!({ "from": from, "seconds": 60 })).await
}

async fn commit(client: &Client, id: Uuid) -> u16 {
    client.send(Method::POST, &format!("{}/commit", path(id)), &[], "").await.status
}

async fn release(client: &Client, id: Uuid) -> u16 {
    client.send(Method::DELETE, &path(id), &[], "").await.status
}

/// The pieces on hand, reserved and available.
async fn stock(client: &Client, product: &str) -> [Value; 3] {
    let stock = client.get(&format!("/products/{product}/stock")).await.json();
    ["onHand", "reserved", "available"].map(|name| stock[name].clone())
}

each_storage!(pieces_are_held_then_sold_then_given_back_once);
async fn pieces_are_held_then_sold_then_given_back_once(storage: Storage) {
    let twins = Twins::start(storage);
    let [a, b] = twins.clients();
    let (lamp, chair) = (product(&a, "Lamp", Some(10)).await, product(&a, "Chair", Some(3)).await);
    let id = Uuid::new_v4();
    let lines = [(lamp.as_str(), 4), (chair.as_str(), 3)];
    let held = reserve(&a, id, &lines, 60).await;
    assert_eq!(held.status, 200, "{held:?}");
    let told = held.json();
    assert_eq!((&told["id"], &told["state"]), (&json!(id), &json!("held")));
    assert_eq!(
        told["lines"],
        json!([
            { "productId": lamp, "quantity": 4, "name": "Lamp", "price": 4.5 },
            { "productId": chair, "quantity": 3, "name": "Chair", "price": 4.5 },
        ])
    );
    assert_eq!(stock(&b, &lamp).await, [10, 4, 6]);
    assert_eq!(stock(&b, &chair).await, [3, 3, 0]);
    assert_eq!(b.get(&format!("/products/{chair}")).await.json()["inStock"], false);
    // The same again, and others under the same id.
    assert_eq!(reserve(&b, id, &lines, 90).await.text(), held.text());
    for other in [&lines[..1], &[(lamp.as_str(), 5), lines[1]], &[lines[1], lines[0]]] {
        assert_eq!(reserve(&b, id, other, 60).await.status, 409, "{other:?}");
    }
    assert_eq!(stock(&a, &lamp).await, [10, 4, 6]);

    for client in [&a, &b, &a] {
        assert_eq!(commit(client, id).await, 200);
        assert_eq!(stock(client, &lamp).await, [6, 0, 6]);
        assert_eq!(stock(client, &chair).await, [0, 0, 0]);
    }
    assert_eq!(reserve(&b, id, &lines, 60).await.json()["state"], "committed");

    for client in [&b, &a, &b] {
        assert_eq!(release(client, id).await, 204);
        assert_eq!(stock(client, &lamp).await, [10, 0, 10]);
        assert_eq!(stock(client, &chair).await, [3, 0, 3]);
    }
    assert_eq!(a.get(&format!("/products/{chair}")).await.json()["inStock"], true);
    assert_eq!(commit(&a, id).await, 409);
    assert_eq!(reserve(&a, id, &lines, 60).await.status, 409);

    // What is held is given back, too, and an id that nobody has used is used up by its release.
    let (held, unknown) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(reserve(&a, held, &lines, 60).await.status, 200);
    assert_eq!((release(&b, held).await, release(&b, unknown).await), (204, 204));
    assert_eq!(stock(&a, &lamp).await, [10, 0, 10]);
    assert_eq!(reserve(&a, unknown, &lines, 60).await.status, 409);
    assert_eq!((commit(&a, unknown).await, commit(&a, Uuid::new_v4()).await), (409, 404));
}

each_storage!(lines_are_reserved_all_or_none);
async fn lines_are_reserved_all_or_none(storage: Storage) {
    let twins = Twins::start(storage);
    let [a, b] = twins.clients();
    let (lamp, chair) = (product(&a, "Lamp", Some(10)).await, product(&a, "Chair", Some(3)).await);
    let id = Uuid::new_v4();
    let short = reserve(&a, id, &[(&lamp, 11), (&chair, 4)], 60).await;
    assert_eq!((short.status, short.problem().0.as_str()), (409, "/problems/out-of-stock"));
    assert_eq!(
        short.json()["lines"],
        json!([
            { "productId": lamp, "quantity": 11, "available": 10 },
            { "productId": chair, "quantity": 4, "available": 3 },
        ])
    );
    let short = reserve(&a, id, &[(&lamp, 1), (&chair, 4)], 60).await;
    assert_eq!(short.json()["lines"].as_array().unwrap().len(), 1);
    let nobody = "0123456789abcdef01234567";
    let unknown = reserve(&a, id, &[(&lamp, 1), (nobody, 1)], 60).await;
    assert_eq!((unknown.status, unknown.text().contains(nobody)), (422, true), "{unknown:?}");
    let gone = product(&a, "Gone", Some(1)).await;
    a.send(Method::DELETE, &format!("/products/{gone}"), &[], "").await;
    assert_eq!(reserve(&a, id, &[(&lamp, 1), (&gone, 1)], 60).await.status, 422);
    assert_eq!(stock(&b, &lamp).await, [10, 0, 10]);

    for body in [
        json!({}),
        json!({ "seconds": 60 }),
        json!({ "lines": [], "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 0 }], "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1.5 }], "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp }], "seconds": 60 }),
        json!({ "lines": [{ "productId": "lamp", "quantity": 1 }], "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1, "price": 1 }], "seconds": 60 }),
        json!({ "lines": vec![json!({ "productId": lamp, "quantity": 1 }); 2], "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1 }], "seconds": 0 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1 }], "seconds": 86401 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1 }] }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1 }], "from": nobody, "seconds": 1 }),
        json!({ "from": id, "seconds": 60 }),
        json!({ "lines": [{ "productId": lamp, "quantity": 1 }], "seconds": 60, "user": 1 }),
    ] {
        let answer = a.write(Method::PUT, &path(id), &body).await;
        assert_eq!(answer.status, 422, "{body} {answer:?}");
    }
    // After all of these the id is still free.
    assert_eq!(reserve(&b, id, &[(&lamp, 10), (&chair, 3)], 60).await.status, 200);
    // What is reserved stays: fewer pieces there cannot be.
    let fewer = json!({ "onHand": 9 });
    let merge = [("content-type", "application/merge-patch+json")];
    let path = format!("/products/{lamp}/stock");
    let refused = a.send(Method::PATCH, &path, &merge, fewer.to_string()).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let stock_of = |stock: i64| json!({ "name": "Lamp", "price": 1, "stock": stock });
    let product = format!("/products/{lamp}");
    assert_eq!(a.write(Method::PUT, &product, stock_of(9)).await.status, 409);
    assert_eq!(a.write(Method::PUT, &product, stock_of(10)).await.json()["inStock"], false);
    assert_eq!(a.write(Method::PUT, &product, stock_of(11)).await.json()["inStock"], true);
    assert_eq!(stock(&b, &lamp).await, [11, 10, 1]);
}

each_storage!(what_nobody_commits_lapses_by_itself);
async fn what_nobody_commits_lapses_by_itself(storage: Storage) {
    let twins = Twins::start(storage);
    let [a, b] = twins.clients();
    let lamp = product(&a, "Lamp", Some(2)).await;
    let (late, sold) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(reserve(&a, late, &[(&lamp, 1)], 1).await.status, 200);
    assert_eq!(reserve(&a, sold, &[(&lamp, 1)], 1).await.status, 200);
    assert_eq!(commit(&b, sold).await, 200);
    assert_eq!(stock(&b, &lamp).await, [1, 1, 0]);
    assert_eq!(a.get("/products?inStock=true").await.ids(), [""; 0]);
    until("it has lapsed", async || stock(&b, &lamp).await == [1, 0, 1]).await;
    // The sweep tells the cache once the store has it.
    let shown = async || a.get("/products?inStock=true").await.ids() == [lamp.clone()];
    until("it shows", shown).await;
    assert_eq!((commit(&a, late).await, commit(&a, sold).await), (409, 200));
    assert_eq!(reserve(&a, late, &[(&lamp, 1)], 60).await.status, 409);
    assert_eq!(take_over(&a, Uuid::new_v4(), late).await.status, 409);
    assert_eq!(release(&a, late).await, 204);
    assert_eq!(stock(&b, &lamp).await, [1, 0, 1]);
}

each_storage!(a_reservation_takes_over_the_pieces_of_another);
async fn a_reservation_takes_over_the_pieces_of_another(storage: Storage) {
    let twins = Twins::start(storage);
    let [a, b] = twins.clients();
    let (lamp, song) = (product(&a, "Lamp", Some(5)).await, product(&a, "Song", None).await);
    let [first, second, third, fourth] = std::array::from_fn(|_| Uuid::new_v4());
    let lines = [(lamp.as_str(), 5), (song.as_str(), 2)];
    assert_eq!(reserve(&a, first, &lines, 60).await.status, 200);
    // Held.
    let taken = take_over(&b, second, first).await;
    assert_eq!((taken.status, &taken.json()["state"]), (200, &json!("held")), "{taken:?}");
    assert_eq!(taken.json()["lines"].as_array().unwrap().len(), 2);
    assert_eq!(take_over(&a, second, first).await.text(), taken.text(), "the same again");
    assert_eq!(stock(&a, &lamp).await, [5, 5, 0]);
    assert_eq!((commit(&a, first).await, release(&a, first).await), (409, 204));
    assert_eq!(reserve(&a, first, &lines, 60).await.status, 409);
    assert_eq!(stock(&a, &lamp).await, [5, 5, 0]);
    // Committed.
    assert_eq!(commit(&b, second).await, 200);
    assert_eq!(stock(&a, &lamp).await, [0, 0, 0]);
    assert_eq!(take_over(&a, third, second).await.status, 200);
    assert_eq!(stock(&b, &lamp).await, [5, 5, 0]);
    assert_eq!((commit(&a, second).await, release(&b, second).await), (409, 204));
    assert_eq!(stock(&b, &lamp).await, [5, 5, 0]);
    // Nothing is there to take.
    for source in [first, second, Uuid::new_v4()] {
        assert_eq!(take_over(&a, fourth, source).await.status, 409);
    }
    assert_eq!(take_over(&a, third, first).await.status, 409, "it has taken another's");
    assert_eq!((commit(&a, third).await, release(&a, third).await), (200, 204));
    assert_eq!(take_over(&b, fourth, third).await.status, 409);
    assert_eq!(stock(&b, &lamp).await, [5, 0, 5]);
}

each_storage!(one_reservation_that_many_ask_for_at_once_is_made_for_all);
async fn one_reservation_that_many_ask_for_at_once_is_made_for_all(storage: Storage) {
    let twins = Twins::start(storage);
    let clients = twins.clients();
    // Over connections of their own.
    let callers = (0..24).map(|n| Client::new(clients[n % 2].base.clone())).collect::<Vec<_>>();
    let lamp = product(&clients[0], "Lamp", Some(1)).await;
    let (mut held, mut last) = (Uuid::now_v7(), None);
    for round in 0..60 {
        let from = last.replace(held);
        let answers = join_all(callers.iter().map(async |client| match from {
            None => reserve(client, held, &[(&lamp, 1)], 60).await,
            Some(from) => take_over(client, held, from).await,
        }))
        .await;
        for answer in answers {
            assert_eq!(answer.status, 200, "{round}: {answer:?}");
        }
        held = Uuid::now_v7();
    }
    assert_eq!(stock(&clients[0], &lamp).await, [json!(1), json!(1), json!(0)]);
}

each_storage!(what_is_not_counted_can_always_be_reserved);
async fn what_is_not_counted_can_always_be_reserved(storage: Storage) {
    let twins = Twins::start(storage);
    let [a, b] = twins.clients();
    let song = product(&a, "Song", None).await;
    let null = Value::Null;
    let id = Uuid::new_v4();
    assert_eq!(reserve(&a, id, &[(&song, 1_000_000)], 60).await.status, 200);
    assert_eq!(stock(&b, &song).await, [null.clone(), json!(1_000_000), null.clone()]);
    assert_eq!(commit(&b, id).await, 200);
    assert_eq!(stock(&b, &song).await, [null.clone(), json!(0), null]);
    // Sold without being counted: that it is counted since makes it no more.
    let merge = [("content-type", "application/merge-patch+json")];
    let count = json!({ "onHand": 3 }).to_string();
    a.send(Method::PATCH, &format!("/products/{song}/stock"), &merge, count).await;
    assert_eq!(release(&a, id).await, 204);
    assert_eq!(stock(&b, &song).await, [3, 0, 3]);
    // A product that was removed since can be sold and given back.
    let id = Uuid::new_v4();
    assert_eq!(reserve(&a, id, &[(&song, 1)], 60).await.status, 200);
    a.send(Method::DELETE, &format!("/products/{song}"), &[], "").await;
    assert_eq!((commit(&b, id).await, release(&a, id).await), (200, 204));
}

each_storage!(cached_answers_are_kept_while_pieces_are_left);
async fn cached_answers_are_kept_while_pieces_are_left(storage: Storage) {
    let twins = Twins::start(storage);
    let clients = twins.clients();
    let lamp = product(&clients[0], "Lamp", Some(2)).await;
    let cached = async |client: &Client, in_stock: bool| {
        until("it is cached", async || {
            let page = client.get("/products").await;
            assert_eq!(page.json()[0]["inStock"], in_stock);
            page.header("x-cache") == "HIT"
        })
        .await;
    };
    let [a, b] = &clients;
    let (first, last) = (Uuid::new_v4(), Uuid::new_v4());
    cached(a, true).await;
    assert_eq!(reserve(a, first, &[(&lamp, 1)], 60).await.status, 200);
    assert_eq!(a.get("/products").await.header("x-cache"), "HIT");
    assert_eq!(reserve(a, last, &[(&lamp, 1)], 60).await.status, 200);
    // Redis tells the other process at once; between files it is the time that an answer is fresh.
    let seen = if storage == Storage::Embedded { [a, a] } else { [a, b] };
    for client in seen {
        cached(client, false).await;
    }
    assert_eq!(commit(a, last).await, 200);
    assert_eq!(a.get("/products").await.header("x-cache"), "HIT");
    assert_eq!(release(a, first).await, 204);
    for client in seen {
        cached(client, true).await;
    }
}

#[actix_rt::test]
async fn reservations_move_with_their_products() {
    let mongo = Server::start(Kind::Mongo);
    let folder = tempfile::TempDir::new().unwrap();
    let start = |url: &str| {
        let mut command = Process::command(folder.path());
        command.args(["--role", "product"]).env("MONGODB_URL", url);
        Process::start(folder.path(), command)
    };
    let copy = |from: &str, to: &str| {
        let mut command = Process::command(folder.path());
        command.args(["copy", "--from", from, "--to", to]);
        let output = Process::run(command);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [held, sold, gone, taken, over] = std::array::from_fn(|_| Uuid::new_v4());
    let (file, back) = ("sqlite://data/product.db", "sqlite://data/back.db");
    let shop = start(file);
    let client = shop.client("product");
    let lamp = product(&client, "Lamp", Some(10)).await;
    for (id, pieces) in [(held, 1), (sold, 2), (gone, 3), (taken, 4)] {
        assert_eq!(reserve(&client, id, &[(&lamp, pieces)], 3600).await.status, 200);
    }
    assert_eq!((commit(&client, sold).await, release(&client, gone).await), (200, 204));
    assert_eq!(take_over(&client, over, taken).await.status, 200);
    drop(shop);

    assert!(copy(file, &mongo.url()).contains("wrote 5 reservations"));
    let shop = start(&mongo.url());
    let client = shop.client("product");
    assert_eq!(stock(&client, &lamp).await, [8, 5, 3]);
    for ended in [gone, taken] {
        assert_eq!(commit(&client, ended).await, 409);
    }
    assert_eq!((commit(&client, held).await, release(&client, sold).await), (200, 204));
    assert_eq!(stock(&client, &lamp).await, [9, 4, 5]);
    drop(shop);

    assert!(copy(&mongo.url(), back).contains("wrote 5 reservations"));
    assert!(copy(&mongo.url(), back).contains("wrote 0 reservations"));
    let shop = start(back);
    let client = shop.client("product");
    assert_eq!((release(&client, held).await, commit(&client, over).await), (204, 200));
    assert_eq!(
        (commit(&client, sold).await, stock(&client, &lamp).await),
        (409, [6, 0, 6].map(Value::from))
    );
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

async fn with_secret(client: &Client, path: &str, secret: &str) -> u16 {
    client.send(Method::GET, path, &[("x-internal-secret", secret)], "").await.status
}

#[actix_rt::test]
async fn internal_routes_answer_other_roles_alone() {
    let both = format!("{SECRET},{OTHER}");
    let enforced = ("APP__AUTH__MODE", "enforced");
    let shop = Shop::start_with(Topology::OneProcessARole, &[enforced, ("INTERNAL_SECRET", &both)]);
    let admin = shop.admin().await;
    let customer = shop.gateway().customer("neo").await;
    let users = shop.client("user");
    for path in ["/internal/jwks.json", "/internal/revocations", "/internal/health"] {
        for (secret, status) in [(SECRET, 200), (OTHER, 200), ("", 403), (&*both, 403), ("x", 403)]
        {
            assert_eq!(with_secret(&users, path, secret).await, status, "{path} {secret}");
        }
        for token in ["", customer.token(), admin.token()] {
            let stranger = if token.is_empty() { users.clone() } else { users.with_token(token) };
            let refused = stranger.get(path).await;
            assert_eq!(refused.status, 403, "{path}");
            refused.problem();
        }
    }
    let products = shop.client("product").with_token(admin.token());
    let id = Uuid::new_v4();
    for (method, path) in [
        (Method::PUT, path(id)),
        (Method::POST, format!("{}/commit", path(id))),
        (Method::DELETE, path(id)),
    ] {
        let refused = products.write(method.clone(), &path, "{}").await;
        assert_eq!(refused.status, 403, "{method} {path}");
        // Not by way of the gateway either.
        let lost = admin.write(method.clone(), &path, "{}").await;
        assert_eq!(lost.status, 404, "{method} {path}");
    }
}

#[actix_rt::test]
async fn one_secret_follows_another_without_a_pause() {
    let mut shop = Shop::start(Topology::OneProcess);
    let enforced = ("APP__AUTH__MODE", "enforced");
    let nowhere = ("PRODUCT_URL", "http://127.0.0.1:1");
    let both = format!("{OTHER},{SECRET}");
    shop.add(&["--role", "user"], &[enforced, nowhere, ("INTERNAL_SECRET", &both)]);
    let user = shop.client("user").base.clone();
    // One that shows the second, one that shows the first, and one that shows neither.
    let unknown = "00000000000000000000000000000000";
    for (secret, is_known) in [(SECRET, true), (OTHER, true), (unknown, false)] {
        let mut command = Process::command(shop.folder.path());
        command.args(["--role", "product"]).env("USER_URL", &user).env("INTERNAL_SECRET", secret);
        command.env("APP__AUTH__MODE", "enforced").env("APP__AUTH__REFRESH_INTERVAL", "100ms");
        let product = Process::start(shop.folder.path(), command);
        let missing = if is_known { json!([]) } else { json!(["auth.keys"]) };
        until("it knows", async || product.missing().await == missing).await;
        assert_eq!(product.log().contains("only other roles may do this"), !is_known);
    }
}

#[actix_rt::test]
async fn a_role_that_could_be_anybodys_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let run = |environment: &[(&str, &str)]| {
        let mut command = Process::command(folder.path());
        command.args(["--role", "product", "check-config"]);
        command.env("USER_URL", "http://127.0.0.1:3001").env("APP__AUTH__MODE", "enforced");
        command.envs(environment.iter().copied());
        let output = Process::run(command);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let beyond = ("APP__PRODUCT__LISTEN", "0.0.0.0:0");
    let (code, said) = run(&[beyond]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("auth.internal_secret") && said.contains("0.0.0.0"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for fine in
        [&[][..], &[beyond, ("INTERNAL_SECRET", SECRET)], &[beyond, ("APP__AUTH__MODE", "open")]]
    {
        assert_eq!(run(fine).0, Some(0), "{fine:?}");
    }
    for bad in ["short", "0123456789abcdef0123456789abcde ", &format!("{SECRET},x"), ","] {
        let (code, said) = run(&[("INTERNAL_SECRET", bad)]);
        assert_eq!(code, Some(1), "{bad:?}");
        assert!(said.contains("auth.internal_secret") && !said.contains(SECRET), "{said}");
    }
    let mut command = Process::command(folder.path());
    command.args(["check-config"]).env("INTERNAL_SECRET", SECRET);
    let shown = String::from_utf8(Process::run(command).stdout).unwrap();
    assert!(shown.contains("auth.internal_secret = ***") && !shown.contains(SECRET), "{shown}");
}
