//! A client as simple as curl.

use std::pin::Pin;
use std::time::Duration;

use actix_rt::time::timeout;
use awc::http::Method;
use awc::http::header::HeaderMap;
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{PASSWORD, PATIENCE};

/// Asks one address; cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: awc::Client,
    pub(crate) base: String,
    /// Of whoever is signed in.
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The ids of a page of products.
    pub(crate) fn ids(&self) -> Vec<String> {
        let page = self.json();
        let ids = page
            .as_array()
            .unwrap()
            .iter()
            .map(|product| product["id"].as_str().unwrap().to_owned());
        ids.collect()
    }

    /// The target of the next page.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.header("link").strip_suffix(">; rel=\"next\"")?;
        Some(link.strip_prefix('<').unwrap().to_owned())
    }

    /// The problem's `type`, `status` and the fields of its errors: what a client's code looks at.
    pub(crate) fn problem(&self) -> (String, Vec<String>) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["requestId"], self.header("x-request-id"));
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let fields = errors.iter().map(|error| error["field"].as_str().unwrap().to_owned());
        (problem["type"].as_str().unwrap().to_owned(), fields.collect())
    }
}

impl Client {
    pub(crate) fn new(base: impl Into<String>) -> Self {
        // awc's own.
        Self::keeping(base, Duration::from_secs(15))
    }

    /// One that gives up a connection which it has not used for a moment, as the roles do among themselves.
    pub(crate) fn impatient(base: impl Into<String>) -> Self {
        Self::keeping(base, Duration::from_millis(750))
    }

    fn keeping(base: impl Into<String>, idle: Duration) -> Self {
        let connector = awc::Connector::new().conn_keep_alive(idle);
        let builder = awc::Client::builder().connector(connector).timeout(PATIENCE);
        Self { http: builder.disable_redirects().finish(), base: base.into(), token: None }
    }

    /// The same, signed in with `token`.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// That of whoever is signed in.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// Logs in, and gives what came back.
    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Answer {
        self.post("/auth/login", json!({ "email": email, "password": password })).await
    }

    /// Logs in, and gives the one who has.
    pub(crate) async fn signed_in(&self, email: &str, password: &str) -> Self {
        let answer = self.log_in(email, password).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.with_token(answer.json()["accessToken"].as_str().unwrap())
    }

    /// Sends what is given and reads the whole answer.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).no_decompress();
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let body = body.into();
        let sending = if body.is_empty() { request.send() } else { request.send_body(body) };
        let mut response = sending.await.map_err(|error| error.to_string())?;
        let body =
            response.body().limit(64 << 20).await.map_err(|error| error.to_string())?.to_vec();
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let outcome = self.try_send(method.clone(), path, headers, body).await;
        outcome.unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Follows the links from `path` to the end, and gives the ids.
    pub(crate) async fn walk(&self, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut target = Some(path.to_owned());
        while let Some(path) = target {
            assert!(all.len() < 100_000, "a page leads on for ever: {path}");
            let page = self.get(&path).await;
            assert_eq!(page.status, 200, "{path}");
            all.extend(page.ids());
            target = page.next();
        }
        all
    }

    /// POSTs `json`, which may be malformed.
    pub(crate) async fn post(&self, path: &str, json: impl ToString) -> Answer {
        self.write(Method::POST, path, json).await
    }

    /// PUTs, PATCHes or whatever, `json`.
    pub(crate) async fn write(&self, method: Method, path: &str, json: impl ToString) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], json.to_string()).await
    }

    /// Registers an account with [`PASSWORD`], and gives what came back.
    pub(crate) async fn sign_up(&self, name: &str) -> Value {
        let email = format!("{name}@example.com");
        let new = json!({ "username": name, "email": email, "password": PASSWORD });
        let answer = self.post("/auth/register", new).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Registers an account with [`PASSWORD`], and gives the one who has signed in to it.
    pub(crate) async fn customer(&self, name: &str) -> Self {
        self.sign_up(name).await;
        self.signed_in(&format!("{name}@example.com"), PASSWORD).await
    }

    /// Uses the refresh `token`.
    pub(crate) async fn refresh(&self, token: &Value) -> Answer {
        self.post("/auth/refresh", json!({ "refreshToken": token })).await
    }

    /// Registers an account and gives its id.
    pub(crate) async fn register(&self, name: &str) -> String {
        let email = format!("{name}@example.com");
        let answer = self.post("/auth/register", json!({ "username": name, "email": email })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Adds a product and gives its id.
    pub(crate) async fn add_product(&self, name: &str, price: f64) -> String {
        let answer = self.post("/products", json!({ "name": name, "price": price })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Listens to `path`, from behind the event with the id `last`.
    pub(crate) async fn listen(&self, path: &str, last: Option<&str>) -> Listening {
        self.try_listen(path, last).await.unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// The same, unless nobody is there.
    pub(crate) async fn try_listen(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> Result<Listening, String> {
        let mut request = self.http.get(format!("{}{path}", self.base)).no_decompress();
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(last) = last {
            request = request.append_header(("last-event-id", last));
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(response.status().to_string());
        }
        let content_type = response.headers().get("content-type").unwrap();
        assert_eq!(content_type, "text/event-stream");
        Ok(Listening {
            chunks: Box::pin(response.map(|chunk| chunk.ok().map(|chunk| chunk.to_vec()))),
            heard: String::new(),
        })
    }

    /// Adds a product with a price of 12.5 and so many pieces, and gives its id.
    pub(crate) async fn add_stocked(&self, name: &str, stock: i64) -> String {
        let new = json!({ "name": name, "price": 12.5, "stock": stock });
        let answer = self.post("/products", new).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The pieces of a product on hand, reserved and available.
    pub(crate) async fn stock(&self, product: &str) -> [Value; 3] {
        let answer = self.get(&format!("/products/{product}/stock")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let stock = answer.json();
        ["onHand", "reserved", "available"].map(|name| stock[name].clone())
    }

    /// Orders pieces of products in an open shop, for `user`.
    pub(crate) async fn order(&self, user: Uuid, items: &[(&str, i64)]) -> Answer {
        self.post("/orders", json!({ "items": order_items(items), "userId": user })).await
    }

    /// Does something with an order, such as `cancel`.
    pub(crate) async fn act(&self, order: &Value, action: &str, body: Value) -> Answer {
        let id = order["id"].as_str().unwrap();
        let path = format!("/orders/{id}/{action}");
        match body {
            Value::Null => self.send(Method::POST, &path, &[], "").await,
            body => self.post(&path, body).await,
        }
    }

    /// Pays an order.
    pub(crate) async fn pay(&self, order: &Value, method: &str) -> Answer {
        self.act(order, "pay", json!({ "paymentMethod": method })).await
    }

    /// The order as it is now.
    pub(crate) async fn reread(&self, order: &Value) -> Value {
        let answer = self.get(&format!("/orders/{}", order["id"].as_str().unwrap())).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// A stream of server-sent events.
pub(crate) struct Listening {
    chunks: Pin<Box<dyn Stream<Item = Option<Vec<u8>>>>>,
    heard: String,
}

impl Listening {
    /// The next event: its id, and its data. `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.heard.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = event.lines();
                    lines.filter_map(|line| line.strip_prefix(name)).next().map(str::to_owned)
                };
                let found = field("id: ").zip(field("data: "));
                self.heard = rest.to_owned();
                match found {
                    Some((id, data)) => return Some((id, serde_json::from_str(&data).unwrap())),
                    None => continue,
                }
            }
            let chunk = timeout(PATIENCE, self.chunks.next()).await.unwrap();
            self.heard.push_str(str::from_utf8(&chunk.flatten()?).unwrap());
        }
    }
}

/// Products and pieces, as an order has them.
pub(crate) fn order_items(items: &[(&str, i64)]) -> Value {
    let item = |(id, quantity): &(&str, i64)| json!({ "productId": id, "quantity": quantity });
    items.iter().map(item).collect()
}
