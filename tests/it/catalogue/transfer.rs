//! Import and export: what is imported, what is refused, and that both together change nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use awc::http::Method;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Kind, Process, Server, Shop, Storage, Topology, blocking, until,
};

const IMPORT: &str = "/products/import";
const EXPORT: &str = "/products/export";
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const CSV: (&str, &str) = ("content-type", "text/csv; charset=UTF-8; header=present");

fn shop(storage: Storage) -> Shop {
    Shop::start_on(Topology::OneProcess, storage.servers(), &[])
}

async fn import(client: &Client, format: (&str, &str), file: impl Into<Vec<u8>>) -> Answer {
    client.send(Method::POST, IMPORT, &[format], file).await
}

async fn export(client: &Client, accept: &str) -> String {
    let answer = client.send(Method::GET, EXPORT, &[("accept", accept)], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

fn report(created: u64, updated: u64, errors: &[(u64, &str)]) -> Value {
    let errors = errors.iter().map(|(line, detail)| json!({ "line": line, "detail": detail }));
    let errors = errors.collect::<Vec<_>>();
    json!({ "created": created, "updated": updated, "failed": errors.len(), "errors": errors })
}

each_storage!(lines_add_and_by_their_skus_replace_products);
async fn lines_add_and_by_their_skus_replace_products(storage: Storage) {
    let shop = shop(storage);
    let client = shop.gateway();
    assert_eq!(client.get("/products").await.json(), json!([]));
    let file = "{\"name\":\"Lamp\",\"price\":5,\"sku\":\"L-1\",\"stock\":3,\"category\":\"Home\"}\n\
        {\"name\":\"Lamp\",\"price\":-5,\"sku\":\"L-2\"}\n\
        {\"name\":\"Rug\",\"price\":7}\n\n\
        {\"name\":\"Lamp 2\",\"price\":6,\"sku\":\"l-1\",\"tags\":[\"new\"]}\n";
    let answer = import(&client, NDJSON, file).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), report(2, 1, &[(2, "price: must not be negative")]));
    let list = client.get("/products").await;
    assert_eq!((list.header("x-cache"), list.json().as_array().unwrap().len()), ("MISS", 2));
    let found = client.get("/products?q=lamp&tag=new").await.json();
    let lamp = &found[0];
    assert_eq!((&lamp["name"], &lamp["sku"]), (&json!("Lamp 2"), &json!("l-1")));
    assert!(lamp.get("category").is_none(), "a replacement leaves nothing: {lamp}");
    assert!(lamp["updatedAt"].as_str() > lamp["createdAt"].as_str());
    let path = format!("/products/{}", lamp["id"].as_str().unwrap());
    let tag = client.get(&path).await.header("etag").to_owned();
    let stock = async || client.get(&format!("{path}/stock")).await.json()["onHand"].clone();
    assert_eq!(stock().await, 3, "what a line does not say of the stock stays");
    assert_eq!(client.get("/categories").await.json(), json!([]));

    // A second time, in the other format, beside the same without a SKU.
    let table = "stock,sku,price,name\r\n0,L-1,6,Lamp 2\r\n,,7,Rug\r\n";
    assert_eq!(import(&client, CSV, table).await.json(), report(1, 1, &[]));
    assert_ne!(client.get(&path).await.header("etag"), tag);
    assert_eq!(
        (stock().await, client.get(&path).await.json()["inStock"].clone()),
        (json!(0), json!(false))
    );
    assert_eq!(client.get("/products?q=rug").await.ids().len(), 2);
    assert_eq!(client.get("/products?tag=new").await.json(), json!([]));

    // The SKU of what was removed is free.
    let admin = shop.admin().await;
    assert_eq!(admin.write(Method::DELETE, &path, "").await.status, 204);
    assert_eq!(
        import(&client, CSV, "name,price,sku\nLamp 3,1,L-1").await.json(),
        report(1, 0, &[])
    );
    assert_eq!(import(&client, NDJSON, "\n").await.json(), report(0, 0, &[]));
}

each_storage!(an_export_is_the_same_behind_an_import_but_for_ids_and_times);
async fn an_export_is_the_same_behind_an_import_but_for_ids_and_times(storage: Storage) {
    let lines = (0..600).map(|n| {
        let sku = if n % 3 == 0 { json!(format!("S-{n}")) } else { json!("") };
        let mut line = json!({
            "name": format!("Thing, \"{n}\" 🦊; é"),
            "price": n as f64 / 4.0,
            "description": format!("one\r\ntwo\n{n}"),
            "category": format!("C{}", n % 7),
            "tags": ["a,b", "[c]"],
            "images": ["https://images.example/1?a=b,c"],
            "attributes": { "n": n, "deep": [{ "x": "\"" }, 0.5] },
            "stock": n % 4,
        });
        match sku.as_str() {
            Some("") => {}
            _ => line["sku"] = sku,
        }
        format!("{line}\n")
    });
    let file = lines.collect::<String>();
    let (first, second) = (shop(storage), shop(storage));
    assert_eq!(import(&first.gateway(), NDJSON, file).await.json(), report(600, 0, &[]));
    let anonymous = |text: &str| {
        let ids = regex::Regex::new("[0-9a-f]{24}|20[0-9-]{8}T[0-9:.]{15}Z").unwrap();
        ids.replace_all(text, "-").into_owned()
    };
    let ndjson = export(&first.gateway(), "*/*").await;
    let csv = export(&first.gateway(), "text/csv").await;
    assert_eq!(ndjson.lines().count(), 600);
    assert!(
        csv.starts_with("id,name,price,description,category,tags,sku,images,attributes,stock,")
    );
    let answer = first.gateway().get(EXPORT).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"products.ndjson\"");
    // From either file into an empty shop.
    assert_eq!(import(&second.gateway(), CSV, csv.clone()).await.json(), report(600, 0, &[]));
    let (again, table) =
        (export(&second.gateway(), "*/*").await, export(&second.gateway(), "text/csv").await);
    assert!(anonymous(&again) == anonymous(&ndjson), "{}", &again[..1000]);
    assert!(anonymous(&table) == anonymous(&csv), "{}", &table[..1000]);
    let third = shop(storage);
    assert_eq!(import(&third.gateway(), NDJSON, ndjson.clone()).await.json(), report(600, 0, &[]));
    assert!(anonymous(&export(&third.gateway(), "*/*").await) == anonymous(&ndjson));
    // And some into the same one: what has a SKU is replaced, and the rest is there twice.
    let some = ndjson.split_inclusive('\n').take(60).collect::<String>();
    let answer = import(&first.gateway(), NDJSON, some).await;
    assert_eq!(answer.json(), report(40, 20, &[]));
}

each_storage!(the_first_hundred_errors_are_named_and_all_are_counted);
async fn the_first_hundred_errors_are_named_and_all_are_counted(storage: Storage) {
    let shop = shop(storage);
    let bad = "{\"name\":\"\",\"price\":1}\n".repeat(2500);
    let file = format!("{bad}{{\"name\":\"Lamp\",\"price\":1}}\n");
    let answer = import(&shop.gateway(), NDJSON, file).await.json();
    assert_eq!((&answer["created"], &answer["failed"]), (&json!(1), &json!(2500)));
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(
        (errors.len(), &errors[99]),
        (100, &json!({ "line": 100, "detail": "name: must not be empty" }))
    );
}

each_topology!(what_is_no_file_of_products_is_refused);
async fn what_is_no_file_of_products_is_refused(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    for (kind, file, status, words) in [
        ("application/json", "{}", 415, "application/x-ndjson or text/csv"),
        ("text/csv; charset=iso-8859-1", "name,price\n", 415, "UTF-8"),
        ("text/csv", "name;price\nLamp;1\n", 422, "not by semicolons"),
        ("text/csv", "name,price,colour\nLamp,1,red\n", 422, "\"colour\" is unknown"),
        ("text/csv", "name,name,price\nLamp,L,1\n", 422, "\"name\" is there twice"),
        ("text/csv", "name\nLamp\n", 422, "\"price\" is missing"),
        ("text/csv", "\n", 422, "the file is empty"),
    ] {
        let answer = import(&client, ("content-type", kind), file).await;
        assert_eq!(answer.status, status, "{kind} {file:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{detail}");
    }
    let coded = [NDJSON, ("content-encoding", "gzip")];
    assert_eq!(client.send(Method::POST, IMPORT, &coded, "{}").await.status, 415);
    assert_eq!(
        client.send(Method::POST, "/products/import?dry=1", &[NDJSON], "{}").await.problem().1,
        ["dry"]
    );
    assert_eq!(client.get("/products/export?format=csv").await.problem().1, ["format"]);
    assert_eq!(client.get("/products").await.json(), json!([]));
}

/// Sends `pieces` of NDJSON in chunks with a `pause` before each, and gives the whole answer. Without the last chunk, the
/// connection is closed in its place.
fn upload(address: String, pieces: Vec<String>, pause: Duration, is_whole: bool) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /products/import HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
        content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for piece in pieces {
        std::thread::sleep(pause);
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).unwrap();
    }
    if !is_whole {
        return String::new();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn lines(count: usize) -> String {
    "{\"name\":\"Lamp\",\"price\":1}\n".repeat(count)
}

each_topology!(an_import_is_larger_than_other_bodies_and_longer_than_other_requests);
async fn an_import_is_larger_than_other_bodies_and_longer_than_other_requests(topology: Topology) {
    let settings = [("APP__SERVER__REQUEST_TIMEOUT", "1s"), ("APP__SERVER__BODY_LIMIT", "1000")];
    let shop = Shop::start_with(topology, &settings);
    let address = shop.gateway().base.trim_start_matches("http://").to_owned();
    let pieces = (0..5).map(|_| lines(100)).collect();
    let begun = Instant::now();
    let pause = Duration::from_millis(400);
    let answer = blocking(move || upload(address, pieces, pause, true)).await;
    assert!(begun.elapsed() > Duration::from_secs(2));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"created\":500,"), "{answer}");
}

each_topology!(an_import_whose_client_pauses_for_long_ends);
async fn an_import_whose_client_pauses_for_long_ends(topology: Topology) {
    let shop = Shop::start_with(topology, &[("APP__SERVER__BODY_TIMEOUT", "300ms")]);
    let address = shop.gateway().base.trim_start_matches("http://").to_owned();
    let pieces = [lines(1), lines(1)];
    let answer = blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /products/import HTTP/1.1\r\nhost: shop\r\ncontent-length: 9999\r\n\
            content-type: application/x-ndjson\r\n\r\n";
        stream.write_all([head, &pieces.concat()].concat().as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

each_storage!(what_was_written_before_an_import_breaks_off_stays);
async fn what_was_written_before_an_import_breaks_off_stays(storage: Storage) {
    let shop = shop(storage);
    let client = shop.gateway();
    let address = client.base.trim_start_matches("http://").to_owned();
    blocking(move || upload(address, vec![lines(3000)], Duration::ZERO, false)).await;
    until("whole batches are there", async || {
        let count = export(&client, "*/*").await.lines().count();
        assert!(count <= 3000);
        count >= 500
    })
    .await;
}

/// The file of the products of `shop`, opened beside it.
fn database(shop: &Shop) -> SqliteConnection {
    let path = shop.folder.path().join("data/product.db");
    SqliteConnection::establish(path.to_str().unwrap()).unwrap()
}

/// Up to which line a `text` says that all is imported.
fn last_line(text: &str) -> usize {
    let found = regex::Regex::new("lines up to ([0-9]+) are imported").unwrap();
    found.captures(text).unwrap_or_else(|| panic!("{text}"))[1].parse().unwrap()
}

#[actix_rt::test]
async fn an_import_that_the_store_ends_says_how_far_it_came() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    // What the store says of a file that another process has locked.
    let fail = "CREATE TRIGGER fail BEFORE INSERT ON products WHEN NEW.name = 'Bad' \
        BEGIN SELECT RAISE(ABORT, 'database is locked'); END";
    database(&shop).batch_execute(fail).unwrap();
    let file = format!("{}{{\"name\":\"Bad\",\"price\":1}}\n{}", lines(2500), lines(2000));
    let answer = import(&client, NDJSON, file.clone()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let imported = last_line(&detail);
    assert!((500..=2500).contains(&imported), "{detail}");
    assert_eq!(export(&client, "*/*").await.lines().count(), imported);

    fs::write(shop.folder.path().join("in.ndjson"), file).unwrap();
    for args in [&["import", "in.ndjson"][..], &["import", "in.ndjson", "--url", &client.base]] {
        let before = export(&client, "*/*").await.lines().count();
        let output = shop.run(args);
        assert!(!output.status.success());
        let imported = last_line(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(export(&client, "*/*").await.lines().count() - before, imported);
    }
    let bad = "{\"name\":\"Bad\",\"price\":1}\n";
    let detail = import(&client, NDJSON, bad).await.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("; no line is known to be imported"), "{detail}");
}

#[actix_rt::test]
async fn an_import_waits_for_a_store_that_is_busy() {
    let settings =
        [("APP__PRODUCT__ACQUIRE_TIMEOUT", "300ms"), ("APP__PRODUCT__STATEMENT_TIMEOUT", "20s")];
    let shop = Shop::start_with(Topology::OneProcess, &settings);
    let client = shop.gateway();
    let mut file = database(&shop);
    file.batch_execute("BEGIN IMMEDIATE").unwrap();
    // The writer waits for the lock with this one, and has no time for another.
    let (first, second) = (client.clone(), client.clone());
    let first = actix_rt::spawn(async move {
        first.post("/products", json!({ "name": "A", "price": 1 })).await
    });
    let second = actix_rt::spawn(async move {
        actix_rt::time::sleep(Duration::from_millis(100)).await;
        import(&second, NDJSON, lines(3)).await
    });
    actix_rt::time::sleep(Duration::from_secs(1)).await;
    file.batch_execute("ROLLBACK").unwrap();
    assert_eq!(first.await.unwrap().status, 201);
    assert_eq!(second.await.unwrap().json(), report(3, 0, &[]));
}

#[actix_rt::test]
async fn an_import_that_changes_nothing_leaves_what_is_cached() {
    let shop = Shop::start(Topology::OneProcessARole);
    let (client, product) = (shop.gateway(), shop.client("product"));
    let lamp = json!({ "name": "Lamp", "price": 1, "sku": "L", "stock": 5 });
    let answer = client.post("/products", lamp).await.json();
    let lines = json!([{ "productId": answer["id"], "quantity": 5 }]);
    let id = "/internal/reservations/0199aaaa-0000-7000-8000-000000000001";
    let held = json!({ "lines": lines, "seconds": 60 });
    assert_eq!(product.write(Method::PUT, id, held).await.status, 200);
    client.get("/products").await;
    assert_eq!(client.get("/products").await.header("x-cache"), "HIT");
    let table = "name,price,sku,stock\nLamp,2,L,1\nRug,x,,\n";
    let answer = import(&client, CSV, table).await.json();
    assert_eq!((&answer["failed"], &answer["errors"][0]["line"]), (&json!(2), &json!(2)));
    assert_eq!(client.get("/products").await.header("x-cache"), "HIT");
    // One that is imported is enough.
    import(&client, CSV, format!("{table}Vase,2,,\n")).await;
    assert_eq!(client.get("/products").await.ids().len(), 2);
}

#[actix_rt::test]
async fn an_export_that_fails_in_the_middle_does_not_end_as_if_it_were_whole() {
    let shop = Shop::start(Topology::OneProcess);
    let client = shop.gateway();
    assert_eq!(import(&client, NDJSON, lines(1200)).await.json(), report(1200, 0, &[]));
    let spoil = "UPDATE products SET details = 'x' WHERE id = (SELECT max(id) FROM products)";
    database(&shop).batch_execute(spoil).unwrap();
    let address = client.base.trim_start_matches("http://").to_owned();
    let answer = blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /products/export HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The connection may be reset.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"Lamp\""), "{answer}");
    assert!(!answer.contains("\r\n0\r\n"), "there is no last chunk");

    // Nor does the command leave a file.
    let target = shop.folder.path().join("all.csv");
    for args in [vec!["export", "all.csv"], vec!["export", "all.csv", "--url", &client.base]] {
        fs::write(&target, "before").unwrap();
        let output = shop.run(&args);
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "before");
    }
}

#[actix_rt::test]
async fn who_may_import_and_export() {
    let enforced = [("APP__AUTH__MODE", "enforced")];
    let shop = Shop::start_with(Topology::OneProcessARole, &enforced);
    let admin = shop.admin().await;
    let customer = shop.gateway().customer("neo").await;
    for base in [shop.client("product").base, shop.gateway().base] {
        let nobody = Client::new(base);
        for (client, status) in [
            (nobody.clone(), 401),
            (nobody.with_token("x"), 401),
            (nobody.with_token(customer.token()), 403),
            (nobody.with_token(admin.token()), 200),
        ] {
            assert_eq!(import(&client, NDJSON, lines(1)).await.status, status);
            let exported = client.get(EXPORT).await;
            assert_eq!((exported.status, exported.header("cache-control")), (status, "no-store"));
        }
    }
    assert_eq!(admin.get("/products").await.ids().len(), 2);
}

each_case!(the_commands_import_and_export_with_and_without_a_running_shop:
    embedded(Vec::new()),
    mongo(vec![Server::start(Kind::Mongo)]),
);
async fn the_commands_import_and_export_with_and_without_a_running_shop(servers: Vec<Server>) {
    let enforced = [("APP__AUTH__MODE", "enforced")];
    let shop = Shop::start_on(Topology::OneProcess, servers, &enforced);
    let (admin, folder) = (shop.admin().await, shop.folder.path());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let table = "name,price,sku\nLamp,1,L\nRug,x,R\nVase,2,V\n";
    fs::write(folder.join("in.csv"), table).unwrap();
    fs::write(folder.join("token"), format!("{}\n", admin.token())).unwrap();

    let output = shop.run(&["import", "in.csv"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stdout), "created 2, updated 0, failed 1\n");
    let errors = text(&output.stderr);
    assert!(
        errors.contains("line 3: price: invalid type: string \"x\", expected f64\n"),
        "{errors}"
    );
    assert!(errors.ends_with("app: a line was not imported\n"), "{errors}");

    let url = admin.base.clone();
    let output = shop.run(&["import", "in.csv", "--url", &url]);
    assert!(text(&output.stderr).contains(": sign in, and send the token"), "{output:?}");
    let asked = ["--url", &url, "--token-file", "token"];
    let output = shop.run(&[&["import", "in.csv"], &asked[..]].concat());
    assert_eq!(text(&output.stdout), "created 0, updated 2, failed 1\n", "{output:?}");
    let mut command = Process::command(folder);
    command.args(["import", "-", "--format", "csv", "--url", &url]).env("APP_TOKEN", admin.token());
    command.stdin(fs::File::open(folder.join("in.csv")).unwrap());
    let output = command.output().unwrap();
    assert_eq!(text(&output.stdout), "created 0, updated 2, failed 1\n", "{output:?}");

    let exported = export(&admin, "text/csv").await;
    assert!(shop.run(&["export", "out.csv"]).status.success());
    assert_eq!(fs::read_to_string(folder.join("out.csv")).unwrap(), exported);
    assert!(shop.run(&[&["export", "out.csv"], &asked[..]].concat()).status.success());
    assert_eq!(fs::read_to_string(folder.join("out.csv")).unwrap(), exported);
    let output = shop.run(&["export", "-"]);
    assert_eq!(text(&output.stdout), export(&admin, "*/*").await);
    assert_eq!(
        fs::read_dir(folder)
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".tmp")
            })
            .count(),
        0
    );
}

#[actix_rt::test]
async fn an_export_replaces_the_content_of_a_file_and_nothing_else() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    let shop = Shop::start(Topology::OneProcess);
    let (client, folder) = (shop.gateway(), shop.folder.path());
    import(&client, NDJSON, lines(3)).await;
    let exported = export(&client, "*/*").await;
    let run = |name: &str| {
        let output = shop.run(&["export", name]);
        assert!(output.status.success(), "{output:?}");
    };
    run("new");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("new"), "before").unwrap();
    symlink("new", folder.join("link")).unwrap();
    run("link");
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    assert_eq!(
        (fs::read_to_string(folder.join("new")).unwrap(), mode("new")),
        (exported.clone(), 0o600)
    );

    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    run("pipe");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let mut found = vec![0; exported.len()];
    reader.read_exact(&mut found).unwrap();
    assert_eq!(String::from_utf8(found).unwrap(), exported);
    let output = shop.run(&["export", "/dev/stdout"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), exported);
}

#[actix_rt::test]
async fn an_import_of_standard_input_hears_the_shop_while_it_waits_for_input() {
    let shop = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", shop.local_addr().unwrap());
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["import", "-", "--url", &url]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = child.stdin.take();
    let answer = blocking(move || {
        let (mut connection, _) = shop.accept().unwrap();
        connection.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
        connection
    });
    let _connection = answer.await;
    until("the command has ended", async || child.try_wait().unwrap().is_some()).await;
    drop(input);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains(&url), "{errors}");
}
