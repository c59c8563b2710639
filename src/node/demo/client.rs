//! A client of the shop with an account, for the load of a demo.

use std::time::Duration;

use awc::error::{JsonPayloadError, SendRequestError};
use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long the shop may take to answer, and how large an answer may be, in bytes.
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: usize = 1024 * 1024;

/// Why a visit ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Send(#[from] SendRequestError),
    #[error("{0}")]
    Answer(#[from] JsonPayloadError),
    /// The password was changed, or the account is gone or disabled.
    #[error("{email} cannot log in: {status}")]
    Login { email: String, status: u16 },
    #[error("{0} has left")]
    Left(String),
}

/// What the shop answers: the status, and the body, which is JSON.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// A client who logs in when that is necessary.
pub(super) struct Client {
    http: awc::Client,
    base: String,
    email: String,
    password: String,
    token: Option<String>,
    /// Somebody tries in vain only once: the account's owner would be locked out.
    has_left: bool,
}

impl Client {
    pub(super) fn new(base: &str, email: &str, password: &str) -> Self {
        let http = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
        let [base, email, password] = [base, email, password].map(str::to_owned);
        Self { http, base, email, password, token: None, has_left: false }
    }

    /// Makes the account.
    pub(super) async fn register(&mut self, username: &str) -> Result<Answer, LoadError> {
        let new = json!({ "username": username, "email": self.email, "password": self.password });
        self.send(Method::POST, "/auth/register", new).await
    }

    /// Reads what everybody may.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, LoadError> {
        self.send(Method::GET, path, Value::Null).await
    }

    /// Reads what the account may.
    pub(super) async fn get_as_user(&mut self, path: &str) -> Result<Answer, LoadError> {
        self.ask(Method::GET, path, Value::Null).await
    }

    pub(super) async fn post(&mut self, path: &str, body: Value) -> Result<Answer, LoadError> {
        self.ask(Method::POST, path, body).await
    }

    pub(super) async fn patch(&mut self, path: &str, body: Value) -> Result<Answer, LoadError> {
        self.ask(Method::PATCH, path, body).await
    }

    /// Does something with an order, such as `cancel`.
    pub(super) async fn act(
        &mut self,
        order: &Value,
        action: &str,
        body: Value,
    ) -> Result<Answer, LoadError> {
        let id = order["id"].as_str().unwrap_or_default();
        self.post(&format!("/orders/{id}/{action}"), body).await
    }

    /// Sends a request with the account's token, and with a new one when that has expired.
    async fn ask(&mut self, method: Method, path: &str, body: Value) -> Result<Answer, LoadError> {
        if self.token.is_none() {
            self.log_in().await?;
        }
        let answer = self.send(method.clone(), path, body.clone()).await?;
        if answer.status != StatusCode::UNAUTHORIZED.as_u16() {
            return Ok(answer);
        }
        self.log_in().await?;
        self.send(method, path, body).await
    }

    async fn log_in(&mut self) -> Result<(), LoadError> {
        if self.has_left {
            return Err(LoadError::Left(self.email.clone()));
        }
        self.token = None;
        let login = json!({ "email": self.email, "password": self.password });
        let answer = self.send(Method::POST, "/auth/login", login).await?;
        self.token = answer.body["accessToken"].as_str().map(str::to_owned);
        match self.token {
            Some(_) => Ok(()),
            None => {
                self.has_left = true;
                Err(LoadError::Login { email: self.email.clone(), status: answer.status })
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Answer, LoadError> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if method == Method::POST {
            request = request.insert_header(("idempotency-key", Uuid::new_v4().to_string()));
        }
        let sending = if body.is_null() { request.send() } else { request.send_json(&body) };
        let mut response = sending.await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.json().limit(ANSWER).await? })
    }
}
