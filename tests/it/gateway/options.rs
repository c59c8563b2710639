//! What a path allows, for whoever asks by OPTIONS: load balancers do, to see whether somebody is there.

use awc::http::Method;

use crate::support::{Shop, Topology, Upstream, ask, blocking};

each_topology!(every_path_that_is_there_says_what_it_allows);
async fn every_path_that_is_there_says_what_it_allows(topology: Topology) {
    for mode in ["open", "enforced"] {
        let shop = Shop::start_with(topology, &[("APP__AUTH__MODE", mode)]);
        for (path, allow) in [
            ("/", "GET, HEAD, OPTIONS"),
            ("/health", "GET, HEAD, OPTIONS"),
            ("/docs", "GET, HEAD, OPTIONS"),
            ("/products", "GET, HEAD, POST, OPTIONS"),
            ("/products/6b03bc06a8104e0a5ab179df", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("/products/6b03bc06a8104e0a5ab179df/stock", "GET, HEAD, PATCH, OPTIONS"),
            ("/products/import", "POST, OPTIONS"),
            ("/products/export", "GET, HEAD, OPTIONS"),
            ("/categories", "GET, HEAD, OPTIONS"),
            ("/auth/register", "POST, OPTIONS"),
            ("/auth/session", "POST, DELETE, OPTIONS"),
            ("/auth/session/renew", "POST, OPTIONS"),
            ("/auth/me", "GET, HEAD, PATCH, DELETE, OPTIONS"),
            ("/auth/users/01890000-0000-7000-8000-000000000000/sessions", "DELETE, OPTIONS"),
        ] {
            let answer = shop.gateway().send(Method::OPTIONS, path, &[], "").await;
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{topology:?} {path}");
            assert_eq!(answer.header("allow"), allow, "{topology:?} {path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        for path in ["/nowhere", "/auth/nowhere", "/products/1/2"] {
            let answer = shop.gateway().send(Method::OPTIONS, path, &[], "").await;
            assert_eq!((answer.status, answer.header("allow")), (404, ""), "{path}");
        }
        let answer = shop.gateway().send(Method::POST, "/", &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, OPTIONS"));
        let management = shop.process("gateway").client("management");
        assert_eq!(management.send(Method::OPTIONS, "/readyz", &[], "").await.status, 204);
    }
}

#[actix_rt::test]
async fn a_load_balancer_of_http_1_0_and_the_server_as_a_whole_are_answered() {
    let shop = Shop::start(Topology::OneProcess);
    let close = "host: shop\r\nconnection: close\r\n\r\n";
    for request in [
        "OPTIONS / HTTP/1.0\r\n\r\n".to_owned(),
        format!("OPTIONS * HTTP/1.1\r\n{close}"),
        "OPTIONS * HTTP/1.0\r\n\r\n".to_owned(),
        format!("OPTIONS * HTTP/1.1\r\nmax-forwards: 0\r\n{close}"),
        format!("OPTIONS http://shop HTTP/1.1\r\n{close}"),
    ] {
        let answer = ask(shop.process("gateway"), &request);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{request:?}: {answer:?}");
        let allow = if request.contains(" * ") {
            "\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        } else {
            "\r\nallow: GET, HEAD, OPTIONS\r\n"
        };
        assert!(answer.contains(allow), "{request:?}: {answer:?}");
    }
    for request in [format!("GET * HTTP/1.1\r\n{close}"), format!("OPTIONS *x HTTP/1.1\r\n{close}")]
    {
        let answer = ask(shop.process("gateway"), &request);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
    }
}

#[actix_rt::test]
async fn a_request_is_passed_on_as_often_as_it_may_be() {
    blocking(|| {
        let upstream = Upstream::obliging();
        let routes = [
            ("APP__GATEWAY__ROUTES__FEW__PATH", "/few"),
            ("APP__GATEWAY__ROUTES__FEW__METHODS", "GET, TRACE"),
            ("APP__GATEWAY__ROUTES__FEW__UPSTREAM", "product"),
        ];
        let (gateway, _folder) = upstream.gateway(&routes);
        for (method, path, said, passed_on) in [
            ("OPTIONS", "/products", "max-forwards: 3", Some("max-forwards: 2")),
            ("TRACE", "/products", "Max-Forwards: 1", Some("max-forwards: 0")),
            ("OPTIONS", "/products", "max-forwards: some", Some("max-forwards: some")),
            ("GET", "/products", "max-forwards: 0", Some("max-forwards: 0")),
            ("OPTIONS", "/products", "x: y", Some("x: y")),
            ("OPTIONS", "/products", "max-forwards: 0", None),
            ("TRACE", "/products", "max-forwards: 0", None),
            ("TRACE", "/few", "max-forwards: 00", None),
            ("OPTIONS", "/few", "max-forwards: 5", None),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\n{said}\r\n");
            let answer =
                ask(&gateway, &format!("{request}host: shop\r\nconnection: close\r\n\r\n"));
            let received = upstream.take().0;
            match passed_on {
                Some(line) => {
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{request}: {answer}");
                    assert!(received[0].head.contains(&format!("\r\n{line}\r\n")), "{received:?}");
                }
                None => {
                    assert!(received.is_empty(), "{request}: {received:?}");
                    let status = if method == "OPTIONS" { 204 } else { 405 };
                    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
                    assert!(answer.contains("\r\nallow: GET, "), "{answer}");
                }
            }
        }
    })
    .await;
}
