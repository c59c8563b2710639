//! Certificates: who shows which, who gets in, and what happens when they change. All of them are what `app certs dev`
//! writes, or are signed by its authority.

use std::fs;
use std::io;
use std::path::PathBuf;

use awc::http::Method;
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::tls::{Certificates, Http2, open};
use crate::support::{Collector, Process, Shop, Topology, free_port, until};

/// A shop of three processes that know each other; all of its names are localhost.
struct Secure {
    folder: TempDir,
    certificates: Certificates,
    processes: Vec<Process>,
}

const ROLES: [&str; 3] = ["product", "user", "gateway"];

impl Secure {
    fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    /// `more` is told each role and what it is going to be started with.
    fn start_with(more: impl Fn(&str, &mut Vec<(String, String)>)) -> Self {
        let folder = TempDir::new().unwrap();
        let certificates = Certificates::make(folder.path().join("certs"));
        let ports = ROLES.map(|role| (role, free_port()));
        let processes = ports.map(|(role, port)| {
            let mut command = Process::command(folder.path());
            let mut environment = certificates.environment(role);
            more(role, &mut environment);
            command.args(["--role", role]).envs(environment);
            command
                .env(format!("APP__{}__LISTEN", role.to_uppercase()), format!("127.0.0.1:{port}"));
            for (role, port) in ports {
                let name = format!("{}_URL", role.to_uppercase());
                command.env(name, format!("https://localhost:{port}"));
            }
            Process::start(folder.path(), command)
        });
        Self { folder, certificates, processes: processes.into() }
    }

    fn process(&self, role: &str) -> &Process {
        self.processes.iter().find(|process| process.urls.contains_key(role)).unwrap()
    }

    fn url(&self, role: &str) -> &str {
        &self.process(role).urls[role]
    }

    async fn gateway(&self) -> Http2 {
        Http2::open(self.url("gateway"), self.certificates.client(None)).await
    }
}

/// What comes back for a request in HTTP/1.1, as text.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream
        .write_all(b"GET /products HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What comes back over TLS to a client that is so configured; an error where nothing does.
async fn ask_with(url: &str, config: ClientConfig) -> io::Result<String> {
    ask(open(url, config).await?).await
}

#[actix_rt::test]
async fn three_processes_that_know_each_other_serve_the_tour() {
    let shop = Secure::start();
    let client = shop.gateway().await;
    assert_eq!(client.get("/").await.body, br#"{"message":"API Gateway is Running"}"#);
    let neo = json!({ "username": "Neo", "email": "neo@matrix.com" });
    let neo = client.post("/auth/register", neo).await;
    assert_eq!((neo.status, neo.header("location").is_empty()), (201, false), "{neo:?}");
    let product = json!({ "name": "Docker Super Computer", "price": 5000 });
    assert_eq!(client.post("/products", product).await.status, 201);
    let list = client.get("/products").await;
    assert_eq!((list.status, list.json()[0]["price"].as_f64()), (200, Some(5000.0)));
    let dashboard = client.get(neo.header("location")).await.json();
    assert_eq!(dashboard["recommendedProducts"][0]["name"], "Docker Super Computer");
    for role in ROLES {
        let process = shop.process(role);
        // Events reach no other process without a broker.
        let misses_none = async || {
            let missing = process.missing().await;
            missing.as_array().unwrap().iter().all(|name| name == "events" || name == "peers.order")
        };
        until("it misses no other role", misses_none).await;
        let log = shop.process(role).log();
        assert!(!log.contains("no handshake"), "{role}: {log}");
    }
}

#[actix_rt::test]
async fn the_gateway_says_in_http_2_what_it_says_in_http_1() {
    let shop = Secure::start();
    let client = shop.gateway().await;
    let http1 = ask_with(shop.url("gateway"), shop.certificates.client(None)).await.unwrap();
    assert!(http1.starts_with("HTTP/1.1 200 OK\r\n") && http1.ends_with("\r\n\r\n[]"), "{http1}");
    let headers = [("content-type", "application/json")];
    let name = "x".repeat((1 << 20) - 100);
    let large = json!({ "name": name, "price": 1 }).to_string();
    assert_eq!(client.post("/products", &large).await.status, 422, "just within the limit");
    let answer = client.send(Method::POST, "/products", &headers, vec![b'x'; 1 << 21]).await;
    assert_eq!((answer.status, answer.problem().0.as_str()), (413, "/problems/too-large"));
    for n in 0..100 {
        let product = json!({ "name": format!("{n:0200}"), "price": n });
        assert_eq!(client.post("/products", product).await.status, 201);
    }
    let page = client.get("/products?limit=100").await;
    assert_eq!((page.status, page.ids().len()), (200, 100));
    let head = client.send(Method::HEAD, "/products?limit=100", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.body.len().to_string());
    let known = [("if-none-match", page.header("etag"))];
    assert_eq!(client.send(Method::GET, "/products?limit=100", &known, "").await.status, 304);
    assert_eq!(client.send(Method::DELETE, "/products", &[], "").await.status, 405);
    assert_eq!(client.get("/nowhere").await.problem().0, "/problems/not-found");
}

#[actix_rt::test]
async fn an_upload_that_does_not_say_its_length_arrives_over_http_2() {
    let shop = Secure::start();
    let product = json!({ "name": "Lamp", "price": 5 }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = shop.gateway().await.send(Method::POST, "/products", &headers, product).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// A certificate that the authority of `certificates` has signed, and its key, both PEM.
fn signed(
    certificates: &Certificates,
    change: impl Fn(&mut CertificateParams),
) -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "shop development authority");
    authority.distinguished_name.remove(DnType::OrganizationName);
    let key = fs::read_to_string(certificates.path("ca.key")).unwrap();
    let issuer = Issuer::new(authority, KeyPair::from_pem(&key).unwrap());
    let mut params = CertificateParams::new(["user".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[actix_rt::test]
async fn a_role_lets_nobody_in_without_the_right_certificate() {
    let shop = Secure::start();
    let own = &shop.certificates;
    let other = Certificates::make(shop.folder.path().join("other"));
    let itself = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        signed(own, move |params| {
            let named = CertificateParams::new(names.clone()).unwrap();
            params.subject_alt_names = named.subject_alt_names;
        })
    };
    let wrong = [
        ("none", None),
        ("one of another authority", Some(other.of("gateway"))),
        ("one of its own", Some((itself.cert.pem(), itself.signing_key.serialize_pem()))),
        ("one with another name", Some(named(&["gateways", "127.0.0.1"]))),
        (
            "one whose name is only its subject's",
            Some(signed(own, |params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "gateway");
            })),
        ),
        (
            "one that has expired",
            Some(signed(own, |params| params.not_after = date_time_ymd(2020, 1, 1))),
        ),
        (
            "one that is not good yet",
            Some(signed(own, |params| params.not_before = date_time_ymd(4000, 1, 1))),
        ),
        (
            "one for servers alone",
            Some(signed(own, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
    ];
    for role in ["user", "product"] {
        let url = shop.url(role);
        assert!(url.starts_with("https://"));
        for (what, shown) in &wrong {
            let answer = ask_with(url, own.client(shown.clone())).await;
            assert!(answer.as_ref().is_err(), "{role}, {what}: {answer:?}");
        }
        let plain = TcpStream::connect(url.trim_start_matches("https://")).await.unwrap();
        let answer = ask(plain).await.unwrap_or_default();
        assert!(!answer.contains("HTTP"), "{role} in the clear: {answer}");
        for (what, right) in [
            ("its own kind", named(&["user"])),
            ("one name of several", named(&["elsewhere", "gateway"])),
            ("the gateway's", own.of("gateway")),
        ] {
            let answer = ask_with(url, own.client(Some(right))).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{role}, {what}: {answer}");
        }
        let log = shop.process(role).log();
        assert!(log.matches("no handshake").count() > wrong.len(), "{log}");
    }
}

#[actix_rt::test]
async fn clients_speak_tls_1_2_or_1_3_and_roles_1_3_alone() {
    let shop = Secure::start();
    for (version, gateway, role) in
        [(&rustls::version::TLS13, true, true), (&rustls::version::TLS12, true, false)]
    {
        let config = shop.certificates.client_of(&[version], None);
        let answer = ask_with(shop.url("gateway"), config).await;
        assert_eq!(answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")), gateway);
        for name in ["user", "product"] {
            let known = Some(shop.certificates.of("gateway"));
            let config = shop.certificates.client_of(&[version], known);
            let answer = ask_with(shop.url(name), config).await;
            assert_eq!(
                answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 ")),
                role,
                "{name} by {version:?}"
            );
        }
    }
}

/// The first bytes of a client that speaks TLS up to the version 3.`minor`, where 1.1 is 3.2.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; ECDHE with AES in the suite of 1.0, and in that of 1.2; no compression.
    body.extend([0, 0, 4, 0xc0, 0x09, 0xc0, 0x2b, 1, 0]);
    // P-256 and X25519; ECDSA with SHA-256.
    let extensions = [0, 10, 0, 6, 0, 4, 0, 23, 0, 29, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[actix_rt::test]
async fn nobody_speaks_an_older_tls() {
    let shop = Secure::start();
    for (role, minor, kind) in [
        // What it is compared with: a ServerHello is a handshake's record.
        ("gateway", 3, 22),
        ("gateway", 2, 21),
        ("gateway", 1, 21),
        ("user", 3, 21),
        ("product", 2, 21),
    ] {
        let address = shop.url(role).trim_start_matches("https://");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello(minor)).await.unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[0], kind, "{role} 3.{minor}: {answer:?}");
        // A fatal alert: the version, or that nothing in common was offered.
        let is_refused = answer[5] == 2 && [70, 40, 109, 116].contains(&answer[6]);
        assert!(kind == 22 || is_refused, "{role} 3.{minor}: {answer:?}");
    }
}

#[actix_rt::test]
async fn a_role_may_be_told_to_believe_fewer() {
    let shop = Secure::start_with(|role, environment| {
        if role == "product" {
            environment.push(("APP__MTLS__NAMES".to_owned(), "user".to_owned()));
        }
    });
    assert_eq!(shop.gateway().await.get("/products").await.status / 100, 5);
    let shown = Some(shop.certificates.of("user"));
    let answer = ask_with(shop.url("product"), shop.certificates.client(shown)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[actix_rt::test]
async fn traces_say_that_requests_came_by_https() {
    let collector = Collector::start();
    let shop = Secure::start_with(|_, environment| {
        let traces = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ];
        environment.extend(traces.map(|(name, value)| (name.to_owned(), value)));
    });
    assert_eq!(shop.gateway().await.get("/products").await.status, 200);
    let find = |name: &str| collector.spans().into_iter().find(|span| span.name == name);
    let names = ["GET products", "GET product", "GET /products"];
    until("all have arrived", async || names.iter().all(|name| find(name).is_some())).await;
    let [gateway, call, product] = names.map(|name| find(name).unwrap().attributes);
    assert_eq!((&*gateway["url.scheme"], &*product["url.scheme"]), ("https", "https"));
    let there = shop.url("product").replace("127.0.0.1", "localhost");
    assert_eq!(call["url.full"], format!("{there}/products"));
}

#[actix_rt::test]
async fn a_role_that_shows_the_wrong_certificate_is_not_asked() {
    for wrong in ["another authority", "another name"] {
        let folder = TempDir::new().unwrap();
        let other = Certificates::make(folder.path().join("other"));
        let shop = Secure::start_with(|role, environment| {
            if role != "product" {
                return;
            }
            if wrong == "another authority" {
                *environment = other.environment(role);
                return;
            }
            let own = Certificates(PathBuf::from(&environment[0].1).parent().unwrap().join(".."));
            let (certificate, key) = signed(&own, |params| {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            });
            for ((_, path), text) in environment.iter().zip([certificate, key]) {
                fs::write(path, text).unwrap();
            }
        });
        let answer = shop.gateway().await.get("/products").await;
        assert_eq!(answer.status, 503, "{wrong}");
        let gateway = shop.process("gateway");
        let is_missed =
            async || gateway.missing().await.as_array().unwrap().contains(&json!("peers.product"));
        until("it is missed", is_missed).await;
        let log = shop.process("gateway").log();
        assert!(log.contains("invalid peer certificate"), "{log}");
    }
}

/// The certificate that is shown at `url`.
async fn shown(url: &str, certificates: &Certificates) -> CertificateDer<'static> {
    let stream = open(url, certificates.client(None)).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[actix_rt::test]
async fn a_certificate_that_is_replaced_is_shown_without_a_restart() {
    let shop = Secure::start();
    let url = shop.url("gateway");
    let first = shown(url, &shop.certificates).await;
    let connection = shop.gateway().await;
    Certificates::make(shop.certificates.0.clone());
    until("the new one is shown", async || shown(url, &shop.certificates).await != first).await;
    assert_eq!(connection.get("/").await.status, 200, "a connection of before goes on");
    // Those of the other roles are new as well, and known by the same authority.
    until("all are asked", async || shop.gateway().await.get("/products").await.status == 200)
        .await;
}

#[actix_rt::test]
async fn a_bad_new_certificate_is_refused_and_the_old_one_stays() {
    let shop = Secure::start();
    let (url, process) = (shop.url("gateway"), shop.process("gateway"));
    let first = shown(url, &shop.certificates).await;
    let other = Certificates::make(shop.folder.path().join("other"));
    let (certificate, key) = shop.certificates.of("gateway");
    let at = |name: &str| shop.certificates.path("gateway").join(name);
    for (name, text, complaint) in [
        ("tls.crt", String::new(), "tls.crt: it has no certificate"),
        ("tls.key", other.of("gateway").1, "tls.key is not the key of"),
        ("tls.key", "nonsense".to_owned(), "tls.key: it has no private key"),
    ] {
        fs::write(at(name), text).unwrap();
        until("it is refused", async || {
            assert_eq!(shown(url, &shop.certificates).await, first, "{complaint}");
            let log = process.log();
            log.lines().any(|line| line.contains("\"level\":\"error\"") && line.contains(complaint))
        })
        .await;
        fs::write(at("tls.crt"), &certificate).unwrap();
        fs::write(at("tls.key"), &key).unwrap();
    }
}

#[actix_rt::test]
async fn another_authority_takes_effect_without_a_restart() {
    let shop = Secure::start();
    let (own, url) = (&shop.certificates, shop.url("product"));
    let other = Certificates::make(shop.folder.path().join("other"));
    let asks = async |believing: &Certificates, showing: &Certificates| {
        ask_with(url, believing.client(Some(showing.of("user")))).await.is_ok()
    };
    assert!(asks(own, own).await);
    assert!(!asks(own, &other).await);
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        fs::copy(other.path("product").join(name), own.path("product").join(name)).unwrap();
    }
    until("the new one is believed", async || asks(&other, &other).await).await;
    assert!(!asks(&other, own).await, "and the old one no more");
}

#[actix_rt::test]
async fn what_is_wrong_with_certificates_is_one_line_that_begins_with_the_key() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let other = Certificates::make(folder.path().join("other"));
    let expired = signed(&certificates, |params| params.not_after = date_time_ymd(2020, 1, 1));
    fs::write(folder.path().join("expired.crt"), expired.0).unwrap();
    fs::write(folder.path().join("expired.key"), expired.1).unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let own = |name: &str| at(&format!("certs/product/{name}"));
    let files = |certificate: String, key: String, authority: String| {
        [("CERTIFICATE", certificate), ("KEY", key), ("AUTHORITY", authority)]
            .map(|(name, path)| (format!("APP__MTLS__{name}"), path))
    };
    let gateway = |certificate: String, key: String| {
        let none = (String::from("APP__MTLS__KEY"), String::new());
        let name = |name: &str| format!("APP__GATEWAY__TLS_{name}");
        [(name("CERTIFICATE"), certificate), (name("KEY"), key), none]
    };
    let good = || files(own("tls.crt"), own("tls.key"), own("ca.crt"));
    let foreign = other.path("product/ca.crt").to_str().unwrap().to_owned();
    for (environment, peer, line) in [
        (
            files(own("tls.crt"), own("tls.key"), String::new()),
            "https",
            "mtls.authority: mtls.certificate is set",
        ),
        (
            files(String::new(), own("tls.key"), String::new()),
            "https",
            "mtls.certificate: mtls.key is set",
        ),
        (
            files(at("none"), own("tls.key"), own("ca.crt")),
            "https",
            "mtls.certificate: cannot read ",
        ),
        (files(own("tls.crt"), own("ca.crt"), own("ca.crt")), "https", "mtls.key: cannot use "),
        (
            files(own("tls.crt"), own("tls.key"), own("tls.key")),
            "https",
            "mtls.authority: cannot use ",
        ),
        (
            files(own("tls.crt"), own("tls.key"), foreign),
            "https",
            "mtls.certificate: mtls.authority does not accept ",
        ),
        (
            files(at("expired.crt"), at("expired.key"), own("ca.crt")),
            "https",
            "mtls.certificate: mtls.authority does not accept ",
        ),
        (good(), "http", "peers.product: http://localhost:1/ is asked in the clear"),
        (
            gateway(own("tls.crt"), String::new()),
            "https",
            "gateway.tls_key: gateway.tls_certificate is set",
        ),
        (gateway(own("tls.key"), own("tls.key")), "https", "gateway.tls_certificate: cannot use "),
    ] {
        let mut command = Process::command(folder.path());
        command.args(["--role", "gateway"]).envs(environment);
        for name in ["USER_URL", "PRODUCT_URL"] {
            command.env(name, format!("{peer}://localhost:1"));
        }
        let output = Process::run(command);
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.lines().last().unwrap_or_default();
        assert!(
            !output.status.success() && said.starts_with(&format!("app: {line}")),
            "{line}: {said}"
        );
    }
}

#[actix_rt::test]
async fn all_in_one_speaks_tls_to_clients_alone() {
    let folder = TempDir::new().unwrap();
    let certificates = Certificates::make(folder.path().join("certs"));
    let environment = certificates.environment("gateway");
    let environment = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let environment = environment.collect::<Vec<_>>();
    let shop = Shop::start_with(Topology::OneProcess, &environment);
    let client = Http2::open(&shop.process("gateway").urls["gateway"], certificates.client(None));
    let client = client.await;
    let id =
        client.post("/auth/register", json!({ "username": "x", "email": "x@example.com" })).await;
    assert_eq!(client.get(id.header("location")).await.status, 200);
}

#[actix_rt::test]
async fn a_process_that_is_told_to_stop_waits_for_no_idle_client() {
    let mut shop = Secure::start();
    let (client, url) = (shop.gateway().await, shop.url("gateway").to_owned());
    assert_eq!(client.get("/products").await.status, 200);
    let idle = open(&url, shop.certificates.client(None)).await.unwrap();
    for mut process in shop.processes.drain(..) {
        let start = std::time::Instant::now();
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(0));
        assert!(start.elapsed().as_secs() < 10, "not the whole of server.drain_timeout");
    }
    drop(idle);
}
