//! What the person who runs the program sees: its start, its end, and its commands.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;
use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Process, Shop, Topology, until};

fn all_in_one(folder: &TempDir, environment: &[(&str, &str)]) -> Process {
    let mut command = Process::command(folder.path());
    command.envs(environment.iter().copied());
    Process::start(folder.path(), command)
}

/// Runs the program with `args`, expects it to fail, and gives the one line it says.
fn complaint(folder: &TempDir, args: &[&str]) -> String {
    let mut command = Process::command(folder.path());
    command.args(args);
    let output = Process::run(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[actix_rt::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let mut shop = all_in_one(&folder, &[]);
    let client = shop.client("gateway");
    let writers = (0..8).map(|writer| {
        let client = client.clone();
        actix_rt::spawn(async move { write_until_it_breaks(&client, writer).await })
    });
    let writers = writers.collect::<Vec<_>>();
    until("there are some products", async || {
        client.get("/products?limit=100").await.json().as_array().unwrap().len() >= 60
    })
    .await;
    shop.signal(Signal::SIGKILL);
    shop.wait();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() >= 60);

    let shop = all_in_one(&folder, &[]);
    let client = shop.client("gateway");
    for path in acknowledged {
        assert_eq!(client.get(&path).await.status, 200, "{path}");
    }
}

/// Adds products and accounts until there is no answer; gives where each acknowledged one is.
async fn write_until_it_breaks(client: &Client, writer: usize) -> Vec<String> {
    let mut locations = Vec::new();
    for n in 0.. {
        let (path, body) = if n % 2 == 0 {
            ("/products", json!({ "name": format!("Product {writer}-{n}"), "price": 1 }))
        } else {
            let email = format!("u{writer}-{n}@example.com");
            ("/auth/register", json!({ "username": "u", "email": email }))
        };
        let headers = [("content-type", "application/json")];
        match client.try_send(Method::POST, path, &headers, body.to_string()).await {
            Ok(answer) if answer.status == 201 => {
                locations.push(answer.header("location").to_owned())
            }
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => break,
        }
    }
    locations
}

#[actix_rt::test]
async fn nobody_else_on_the_machine_reads_the_data() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let shop = all_in_one(&folder, &[]);
    shop.client("gateway").register("neo").await;
    let files = std::fs::read_dir(folder.path().join("data")).unwrap().map(Result::unwrap);
    let modes = files.map(|file| (file.file_name(), file.metadata().unwrap().permissions().mode()));
    let modes = modes.collect::<Vec<_>>();
    assert!(modes.len() >= 5, "{modes:?}");
    for (name, mode) in modes {
        assert_eq!(mode & 0o777, 0o600, "{name:?}");
    }
}

#[actix_rt::test]
async fn errors_are_told_even_where_no_line_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let shop = all_in_one(&folder, &[("RUST_LOG", "")]);
    std::fs::write(folder.path().join("data/signing-keys"), "no key").unwrap();
    until("the broken file is noticed", async || {
        shop.client("gateway").get("/auth/.well-known/jwks.json").await;
        shop.log().contains("the keys stay as they are")
    })
    .await;
}

#[actix_rt::test]
async fn a_refused_body_without_end_is_not_read_to_the_end() {
    let folder = TempDir::new().unwrap();
    let shop = all_in_one(&folder, &[("APP__SERVER__BODY_LIMIT", "1000")]);
    let address = shop.urls["gateway"].trim_start_matches("http://").to_owned();
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /nowhere HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(format!("7d0\r\n{}\r\n", "x".repeat(2000)).as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    });
    let begun = Instant::now();
    assert_eq!(answer.await.unwrap(), "HTTP/1.1 404");
    assert!(begun.elapsed() < Duration::from_secs(5), "before its deadline of 10 s");
}

#[actix_rt::test]
async fn a_request_in_flight_is_finished_before_the_end() {
    let folder = TempDir::new().unwrap();
    let mut shop = all_in_one(&folder, &[("APP__SERVER__DRAIN_TIMEOUT", "20s")]);
    let address = shop.urls["gateway"].trim_start_matches("http://").to_owned();
    let management = shop.client("management");
    // Half a request.
    let body = json!({ "name": "Lamp", "price": 5 }).to_string();
    let (first, second) = body.split_at(10);
    let head = format!(
        "POST /products HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(format!("{head}{first}").as_bytes()).unwrap();
    // An idle connection that must not hold up the end.
    let client = shop.client("gateway");
    client.get("/").await;

    shop.signal(Signal::SIGTERM);
    until("/readyz says so", async || management.get("/readyz").await.status == 503).await;
    assert_eq!(management.get("/readyz").await.json()["status"], "draining");
    until("no connection is accepted", async || TcpStream::connect(&address).is_err()).await;

    slow.write_all(second.as_bytes()).unwrap();
    let answer = spawn_blocking(move || {
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert_eq!(shop.wait().code(), Some(0));
}

each_topology!(under_load_every_client_gets_every_answer_while_the_process_drains);
async fn under_load_every_client_gets_every_answer_while_the_process_drains(topology: Topology) {
    let shop = Shop::start(topology);
    let client = shop.gateway();
    let clients = (0..16).map(|n| {
        let client = Client::new(client.base.clone());
        actix_rt::spawn(async move { ask_until_told_to_go(&client, n).await })
    });
    let clients = clients.collect::<Vec<_>>();
    until("all are at work", async || {
        client.get("/products?limit=100").await.json().as_array().unwrap().len() >= 50
    })
    .await;
    shop.process("gateway").signal(Signal::SIGTERM);
    for client in clients {
        assert!(client.await.unwrap() > 0, "{topology:?}");
    }
}

#[actix_rt::test]
async fn a_role_behind_the_gateway_answers_until_its_delay_is_over() {
    let shop = Shop::start(Topology::OneProcessARole);
    let client = shop.gateway();
    let clients = (0..16).map(|n| {
        let client = Client::new(client.base.clone());
        actix_rt::spawn(async move {
            for product in 0.. {
                let body = json!({ "name": format!("Product {n}-{product}"), "price": 1 });
                let answer = client.post("/products", body).await;
                if answer.status != 201 {
                    // It is gone, and the gateway says so.
                    assert!([502, 503].contains(&answer.status), "{answer:?}");
                    break;
                }
            }
            Instant::now()
        })
    });
    let clients = clients.collect::<Vec<_>>();
    until("all are at work", async || {
        client.get("/products?limit=100").await.json().as_array().unwrap().len() >= 50
    })
    .await;
    let told = Instant::now();
    shop.process("product").signal(Signal::SIGTERM);
    for client in clients {
        let failed = client.await.unwrap() - told;
        assert!(failed >= Duration::from_secs(1), "the delay is one second, but {failed:?}");
    }
}

/// Adds products until an answer asks to close the connection; gives how many there were.
async fn ask_until_told_to_go(client: &Client, number: usize) -> usize {
    for n in 1.. {
        let body = json!({ "name": format!("Product {number}-{n}"), "price": 1 });
        let answer = client.post("/products", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        if answer.header("connection") == "close" {
            return n;
        }
    }
    0
}

#[actix_rt::test]
async fn the_wait_for_what_is_in_flight_has_an_end() {
    let folder = TempDir::new().unwrap();
    let mut shop = all_in_one(&folder, &[("APP__SERVER__DRAIN_TIMEOUT", "200ms")]);
    let mut stuck = TcpStream::connect(shop.urls["gateway"].trim_start_matches("http://")).unwrap();
    let head = "POST /products HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stuck.write_all(head.as_bytes()).unwrap();
    shop.client("gateway").get("/").await;
    shop.signal(Signal::SIGINT);
    assert_eq!(shop.wait().code(), Some(0));
    assert!(shop.log().contains("still in flight"), "{}", shop.log());
}

#[actix_rt::test]
async fn a_bad_setting_stops_the_start_with_a_line_that_names_it() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (args, start) in [
        (vec!["--set", "gateway.lissten=x"], "app: gateway.lissten: no such setting".to_owned()),
        (
            vec!["--set", "user.database_url=mysql://x"],
            "app: user.database_url: mysql:// is no".into(),
        ),
        (
            vec!["--set", "user.database_url=sqlite:///proc/x/y"],
            "app: user.database_url: cannot".into(),
        ),
        (vec!["--set", "log.filter=a=b=c"], "app: log.filter: ".into()),
        (vec!["--role", "user"], "app: peers.product: the user role asks the product role".into()),
        (vec!["--role", "gateway"], "app: peers.user: the gateway role asks the user role".into()),
        (vec!["--config", "/nowhere"], "app: --config: no such directory (/nowhere)".into()),
        // The route is called products, and the role product.
        (
            vec!["--set", "gateway.routes.product.limits=10/1s by address"],
            "app: gateway.routes.product.upstream: there is no such route".into(),
        ),
        (
            vec!["--set", "gateway.routes.products.upstream=goods", "check-config"],
            "app: gateway.routes.products.upstream: \"goods\" is not a role (user, product, order)"
                .into(),
        ),
        (
            vec!["--set", &format!("gateway.listen={taken}")],
            format!(
                "app: gateway.listen: {taken} is in use by another process (--set gateway.listen)"
            ),
        ),
        (
            vec!["--set", &format!("gateway.management={taken}")],
            format!("app: gateway.management: {taken} is in use"),
        ),
    ] {
        let line = complaint(&folder, &args);
        assert!(line.starts_with(&start), "{line}");
    }
}

#[actix_rt::test]
async fn a_file_of_the_configuration_folder_overrides_what_is_built_in() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::write(folder.path().join("config/user.toml"), "[user]\nrecommendations = 1\n")
        .unwrap();
    let mut command = Process::command(folder.path());
    command.env("DATABASE_URL", "postgres://neo:s3cret@db/shop").arg("check-config");
    let output = Process::run(command);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("user.recommendations = 1 ").ends_with("# config/user.toml"), "{text}");
    assert!(line("gateway.listen = ").ends_with("# environment APP__GATEWAY__LISTEN"), "{text}");
    assert!(line("user.pool_size = ").ends_with("# built in"), "{text}");
    assert!(line("user.database_url = ").contains("postgres://neo:***@db/shop"), "{text}");
    assert!(!text.contains("s3cret"));
    std::fs::write(folder.path().join("config/user.toml"), "[user]\nrecomendations = 1\n").unwrap();
    let complaint = complaint(&folder, &["check-config"]);
    assert!(
        complaint.contains("did you mean user.recommendations? (config/user.toml)"),
        "{complaint}"
    );
}

#[actix_rt::test]
async fn the_management_port_tells_how_the_process_is() {
    let shop = Shop::start(Topology::OneProcessARole);
    let gateway = shop.process("gateway").client("management");
    assert_eq!(gateway.get("/livez").await.json(), json!({ "status": "live" }));
    let version = gateway.get("/version").await.json();
    assert_eq!(version["roles"], json!(["gateway"]));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let state = |status: &str, missing: &[&str]| {
        let upstream = |name| json!({ "name": name, "breaker": "closed", "inFlight": 0, "waiting": 0, "ejected": [] });
        let upstreams = ["user", "product", "order"].map(upstream);
        let peers = ["user"].map(upstream);
        json!({ "status": status, "missing": missing, "upstreams": upstreams, "peers": peers })
    };
    assert_eq!(gateway.get("/readyz").await.json(), state("ready", &[]));
    shop.process("product").signal(Signal::SIGKILL);
    until("/readyz names what is missing", async || {
        let answer = gateway.get("/readyz").await;
        answer.status == 200 && answer.json() == state("degraded", &["peers.product"])
    })
    .await;
}

#[actix_rt::test]
async fn a_role_starts_before_its_peers() {
    let folder = TempDir::new().unwrap();
    let mut command = Process::command(folder.path());
    command.args(["--role", "user"]).env("PRODUCT_URL", "http://127.0.0.1:1");
    let user = Process::start(folder.path(), command);
    let id = user.client("user").register("neo").await;
    let dashboard = user.client("user").get(&format!("/auth/dashboard/{id}")).await;
    assert_eq!((dashboard.status, dashboard.json()["degraded"].clone()), (200, json!(["product"])));
}

#[actix_rt::test]
async fn healthcheck_is_for_images_without_a_shell() {
    let folder = TempDir::new().unwrap();
    let shop = all_in_one(&folder, &[]);
    let address = shop.urls["management"].trim_start_matches("http://").to_owned();
    let check = || {
        let mut command = Process::command(folder.path());
        command.args(["healthcheck", "--address", &address]);
        Process::run(command)
    };
    let output = check();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"ready\""));
    drop(shop);
    assert!(
        complaint(&folder, &["healthcheck", "--address", &address]).contains("does not answer")
    );
}

#[actix_rt::test]
async fn healthcheck_of_every_address_finds_a_process_on_ipv4() {
    let folder = TempDir::new().unwrap();
    let shop = all_in_one(&folder, &[("APP__GATEWAY__MANAGEMENT", "127.0.0.1:0")]);
    let (_, port) = shop.urls["management"].rsplit_once(':').unwrap();
    let mut command = Process::command(folder.path());
    command.args(["healthcheck", "--address", &format!("[::]:{port}")]);
    let output = Process::run(command);
    assert!(output.status.success(), "{output:?}");
}

#[actix_rt::test]
async fn a_listener_on_every_address_answers_on_ipv6_and_on_ipv4() {
    let folder = TempDir::new().unwrap();
    let listen = ("APP__GATEWAY__LISTEN", "[::]:0");
    let beyond_loopback = ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "true");
    let shop =
        all_in_one(&folder, &[listen, ("APP__GATEWAY__MANAGEMENT", "[::]:0"), beyond_loopback]);
    for role in ["gateway", "management"] {
        let url = &shop.urls[role];
        assert!(url.starts_with("http://[::]:"), "{url}");
        let path = if role == "gateway" { "/products" } else { "/readyz" };
        for loopback in ["[::1]", "127.0.0.1"] {
            let client = Client::new(url.replace("[::]", loopback));
            assert_eq!(client.get(path).await.status, 200, "{role} at {loopback}");
        }
    }
    let address = shop.urls["management"].trim_start_matches("http://");
    let mut command = Process::command(folder.path());
    command.args(["healthcheck", "--address", address]);
    assert!(Process::run(command).status.success());
}

#[actix_rt::test]
async fn ten_may_migrate_at_once() {
    let folder = TempDir::new().unwrap();
    let migrate = || {
        let mut command = Process::command(folder.path());
        command.arg("migrate");
        command
    };
    let children = (0..10).map(|_| {
        let mut command: Command = migrate();
        spawn_blocking(move || command.output().unwrap())
    });
    let mut applied = 0;
    for child in children.collect::<Vec<_>>() {
        let output = child.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        applied += String::from_utf8(output.stdout).unwrap().matches("applied").count();
    }
    assert_eq!(applied, 24, "each migration once");
    assert_eq!(Process::run(migrate()).stdout, b"nothing to do\n");
}

#[actix_rt::test]
async fn the_command_line_explains_itself() {
    let folder = TempDir::new().unwrap();
    let say = |args: &[&str]| {
        let mut command = Process::command(folder.path());
        command.args(args);
        String::from_utf8(Process::run(command).stdout).unwrap()
    };
    let help = say(&["--help"]);
    for word in ["gateway", "--role", "--set", "check-config", "healthcheck", "Examples:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(say(&["completions", shell]).contains("healthcheck"), "{shell}");
    }
}

#[actix_rt::test]
async fn nothing_panics_when_the_process_is_told_to_stop() {
    let folder = TempDir::new().unwrap();
    let mut shop = all_in_one(&folder, &[]);
    shop.signal(Signal::SIGTERM);
    assert_eq!(shop.wait().code(), Some(0));
    assert!(!shop.log().contains("panicked"), "{}", shop.log());
}

#[actix_rt::test]
async fn a_second_signal_does_not_wait() {
    let folder = TempDir::new().unwrap();
    let mut shop = all_in_one(&folder, &[("APP__SERVER__DRAIN_DELAY", "10m")]);
    let management = shop.client("management");
    shop.signal(Signal::SIGTERM);
    until("it drains", async || management.get("/readyz").await.status == 503).await;
    shop.signal(Signal::SIGINT);
    assert_eq!(shop.wait().code(), Some(0));
    actix_rt::time::sleep(Duration::ZERO).await;
}
