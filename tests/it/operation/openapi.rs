//! The document of the API, and the page that shows it. What the shop does is held against it by `make contract`.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Client, Shop, Topology};

const ENFORCED: [(&str, &str); 1] = [("APP__AUTH__MODE", "enforced")];

/// Every operation of `document`: its method, a path that it stands for, and what is said of it.
fn operations(document: &Value) -> Vec<(Method, String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "6b03bc06a8104e0a5ab179df").replace("{file}", "page.js");
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            found.push((method, path.clone(), operation));
        }
    }
    assert!(found.len() > 15, "the document has the whole API: {found:?}");
    found
}

async fn document(client: &Client) -> Value {
    let answer = client.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    answer.json()
}

#[actix_rt::test]
async fn the_document_is_the_same_wherever_the_roles_run() {
    let mut documents = Vec::new();
    for topology in [Topology::OneProcess, Topology::OneProcessARole] {
        let shop = Shop::start_with(topology, &ENFORCED);
        let answer = shop.gateway().get("/openapi.json").await;
        assert_eq!(answer.json()["openapi"], "3.1.0");
        let tag = answer.header("etag").to_owned();
        let known = [("if-none-match", tag.as_str())];
        let again = shop.gateway().send(Method::GET, "/openapi.json", &known, "").await;
        assert_eq!((again.status, again.header("etag"), again.body.len()), (304, tag.as_str(), 0));
        documents.push(answer.body);
    }
    assert_eq!(documents[0], documents[1]);
}

each_topology!(every_path_takes_the_methods_that_the_document_says_and_no_other);
async fn every_path_takes_the_methods_that_the_document_says_and_no_other(topology: Topology) {
    let shop = Shop::start_with(topology, &ENFORCED);
    let (gateway, purge) = (shop.gateway(), Method::from_bytes(b"PURGE").unwrap());
    let document = document(&gateway).await;
    for (method, path, _) in operations(&document) {
        let answer = gateway.send(purge.clone(), &path, &[], "").await;
        let allowed = answer.header("allow").split(", ").collect::<Vec<_>>();
        let documented = operations(&document).into_iter().filter(|(_, other, _)| *other == path);
        let mut methods = documented.map(|(method, ..)| method.to_string()).collect::<Vec<_>>();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        methods.push("OPTIONS".to_owned());
        methods.sort_unstable();
        let mut allowed = allowed.into_iter().map(str::to_owned).collect::<Vec<_>>();
        allowed.sort_unstable();
        assert_eq!((answer.status, allowed), (405, methods), "{topology:?} {method} {path}");
    }
}

#[actix_rt::test]
async fn a_token_is_asked_for_where_the_document_says_so_and_nowhere_else() {
    for mode in ["open", "enforced"] {
        let shop = Shop::start_with(Topology::OneProcess, &[("APP__AUTH__MODE", mode)]);
        let gateway = shop.gateway();
        let document = document(&gateway).await;
        for (method, path, operation) in operations(&document) {
            let security = operation["security"].as_array().unwrap();
            let free = security.is_empty() || security.iter().any(|one| one == &json!({}));
            if free && path == "/events" {
                // It has no end.
                gateway.listen(&path, None).await;
                continue;
            }
            let answer = gateway.send(method.clone(), &path, &[], "").await;
            assert_eq!(answer.status == 401, !free, "{mode} {method} {path}: {answer:?}");
        }
    }
}

#[actix_rt::test]
async fn only_an_open_shop_registers_without_a_password() {
    for (mode, fields) in
        [("open", vec!["username", "email"]), ("enforced", vec!["username", "email", "password"])]
    {
        let shop = Shop::start_with(Topology::OneProcess, &[("APP__AUTH__MODE", mode)]);
        let document = document(&shop.gateway()).await;
        assert_eq!(document["components"]["schemas"]["NewUser"]["required"], json!(fields));
    }
}

#[actix_rt::test]
async fn every_reference_of_the_document_leads_somewhere_and_every_name_is_one() {
    let shop = Shop::start_with(Topology::OneProcess, &ENFORCED);
    let document = document(&shop.gateway()).await;
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(object) => waiting.extend(object.values()),
            Value::Array(array) => waiting.extend(array),
            _ => {}
        }
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let target = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(target.is_some(), "{reference}");
        }
    }
    let mut names = operations(&document)
        .into_iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
        .collect::<Vec<_>>();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

each_topology!(the_page_needs_nothing_from_outside);
async fn the_page_needs_nothing_from_outside(topology: Topology) {
    let shop = Shop::start(topology);
    let gateway = shop.gateway();
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
    ] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        for outside in ["http://", "https://", "\"//", "'//", "(//", "@import"] {
            assert!(!text.contains(outside), "{path} has {outside}");
        }
        if path == "/docs" {
            // The policy would keep such a thing from running.
            assert!(!text.contains("<style") && !text.contains("<script>"), "{text}");
            // Beside the page, wherever a proxy shows it.
            let parts = text.split(['"', '\'']).filter(|part| part.contains("page."));
            let parts = parts.collect::<Vec<_>>();
            assert_eq!(parts, ["docs/page.css", "docs/page.js"]);
            for part in parts {
                assert_eq!(gateway.get(&format!("/{part}")).await.status, 200, "{part}");
            }
            assert!(!text.contains("=\"/"), "{text}");
        }
    }
    assert_eq!(gateway.get("/docs/other.js").await.status, 404);
}

#[actix_rt::test]
async fn the_document_says_what_clients_are_made_of() {
    for mode in ["open", "enforced"] {
        let shop = Shop::start_with(Topology::OneProcess, &[("APP__AUTH__MODE", mode)]);
        let document = document(&shop.gateway()).await;
        let schemas = &document["components"]["schemas"];
        let required = |name: &str| schemas[name]["required"].as_array().unwrap().clone();
        assert!(required("Tokens").contains(&"refreshToken".into()));
        assert!(schemas["AccessToken"]["properties"]["refreshToken"].is_null());
        assert_eq!(document["info"]["license"]["identifier"], "MIT OR Apache-2.0");
        for (method, path, operation) in operations(&document) {
            let case = format!("{mode} {method} {path}");
            let words = operation["description"].as_str().unwrap_or_default();
            assert!(!words.is_empty(), "{case}");
            let content = operation["requestBody"]["content"].as_object();
            let types = content.map(|content| content.keys().collect::<Vec<_>>());
            if let Some(types) = types {
                let wanted = match (&method, path.as_str()) {
                    (_, "/products/import") => vec!["application/x-ndjson", "text/csv"],
                    (&Method::PATCH, _) => vec!["application/merge-patch+json"],
                    _ => vec!["application/json"],
                };
                assert_eq!(types, wanted, "{case}");
            }
        }
        let reads = &document["paths"]["/products"]["get"]["security"];
        assert_eq!(*reads, json!([]), "a client of the document needs no token");
        let cookie = &document["components"]["securitySchemes"]["session"];
        assert_eq!(
            (&cookie["in"], &cookie["name"]),
            (&json!("cookie"), &json!("__Secure-session"))
        );
        let text = document.to_string();
        for kind in ["schemas", "responses", "headers", "securitySchemes"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let reference = format!("\"#/components/{kind}/{name}\"");
                let scheme = kind == "securitySchemes" && text.contains(&format!("{{\"{name}\":["));
                assert!(scheme || text.contains(&reference), "{reference} is of use to nobody");
            }
        }
    }
}
