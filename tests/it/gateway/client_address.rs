//! Whose address a request counts for, however proxies write it and however the gateway listens.

use awc::http::Method;
use serde_json::json;

use crate::support::{Answer, Client, Raw, SIGNING_KEY, Shop, Topology, Upstream, blocking};

async fn log_in(client: &Client, header: &str, said: &str) -> Answer {
    let headers = [("content-type", "application/json"), (header, said)];
    let body = json!({ "email": format!("{}@example.com", uuid::Uuid::now_v7().simple()), "password": "wrong" });
    client.send(Method::POST, "/auth/login", &headers, body.to_string()).await
}

each_topology!(a_client_is_itself_in_every_form_that_proxies_write);
async fn a_client_is_itself_in_every_form_that_proxies_write(topology: Topology) {
    let environment = [
        ("APP__AUTH__MODE", "enforced"),
        ("APP__USER__LOGINS_PER_ADDRESS", "3"),
        ("APP__GATEWAY__TRUSTED_PROXIES", "::ffff:127.0.0.1, 2001:db8:1::/48"),
        ("APP__USER__SIGNING_KEYS", SIGNING_KEY),
    ];
    let shop = Shop::start_on(topology, Vec::new(), &environment);
    let client = shop.gateway();
    // Three clients, each by four ways: the fourth try of one is one too many, whatever it is written like.
    for (address, forms) in [
        (
            "203.0.113.7",
            [
                ("x-forwarded-for", "203.0.113.7:4711"),
                ("x-forwarded-for", "6.6.6.6, 203.0.113.7:4712, [2001:db8:1::1]:80"),
                ("forwarded", "for=6.6.6.6, for=\"203.0.113.7:4713\";proto=https"),
                ("x-forwarded-for", "::ffff:203.0.113.7, unknown"),
            ],
        ),
        (
            "2001:db8::7",
            [
                ("x-forwarded-for", "[2001:db8::7]"),
                ("x-forwarded-for", "[2001:db8::7]:4711"),
                ("forwarded", "proto=http; For=\"[2001:DB8::7]:_port\", for=_hidden;by=x"),
                ("x-forwarded-for", "2001:db8::7"),
            ],
        ),
    ] {
        for (n, (header, said)) in forms.into_iter().enumerate() {
            let answer = log_in(&client, header, said).await;
            let status = if n < 3 { 401 } else { 429 };
            assert_eq!(answer.status, status, "{topology:?} {said}: {answer:?}");
        }
        let log = shop.process("gateway").log();
        let log =
            if topology == Topology::OneProcess { log } else { log + &shop.process("user").log() };
        assert!(log.contains(&format!("\"address\":\"{address}\"")), "{log}");
        assert!(!log.contains("\"address\":\"127.0.0.1\""), "{log}");
    }
    let log = shop.process("gateway").log();
    assert_eq!(log.matches("which is no address").count(), 1, "{log}");
}

#[actix_rt::test]
async fn a_client_by_ipv4_is_one_on_a_listener_for_both() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let environment =
            [("APP__GATEWAY__LISTEN", "[::]:0"), ("APP__GATEWAY__MANAGEMENT", "[::]:0")];
        for trusted in ["", "127.0.0.1", "::ffff:127.0.0.0/104"] {
            let trusts = ("APP__GATEWAY__TRUSTED_PROXIES", trusted);
            let open = ("APP__AUTH__OPEN_BEYOND_LOOPBACK", "true");
            let (gateway, _folder) =
                upstream.gateway(&[environment[0], environment[1], trusts, open]);
            let port = gateway.urls["gateway"].rsplit(':').next().unwrap();
            let stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
            let mut client = Raw::from(stream);
            client.send(
                "GET /products HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
                 x-forwarded-for: ::ffff:192.0.2.7\r\nforwarded: for=\"[::ffff:192.0.2.7]\"\r\n\r\n",
            );
            assert!(client.rest().starts_with("HTTP/1.1 200 "));
            let head = upstream.take().0.remove(0).head;
            let (addresses, forwarded) = match trusted {
                "" => ("127.0.0.1", "for=127.0.0.1;proto=http;host=\"shop\""),
                _ => (
                    "192.0.2.7, 127.0.0.1",
                    "for=192.0.2.7, for=127.0.0.1;proto=http;host=\"shop\"",
                ),
            };
            assert!(head.contains(&format!("\r\nx-forwarded-for: {addresses}\r\n")), "{head}");
            assert!(head.contains(&format!("\r\nforwarded: {forwarded}\r\n")), "{head}");
            assert!(!head.contains("::ffff:") && !gateway.log().contains("::ffff:"));
        }
    })
    .await;
}
