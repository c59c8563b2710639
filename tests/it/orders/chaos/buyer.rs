//! Those who buy, and the diary of all that they asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::time::{sleep, timeout};
use awc::http::Method;
use serde_json::json;
use uuid::Uuid;

use super::victims::Kind;
use crate::orders::history::{Action, Answer, Items, Operation};
use crate::support::Client;

/// How many orders a buyer wants in a round.
const ORDERS: usize = 2;
/// How often somebody asks for the same.
const TRIES: usize = 12;
/// The pauses between requests, and how long somebody waits who gives up, in milliseconds.
const PAUSE: Range<u64> = 10..250;
const HASTE: Range<u64> = 1..300;

/// All operations of all buyers.
pub(super) struct Diary {
    begun: Instant,
    operations: RefCell<Vec<Operation>>,
}

impl Diary {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), operations: RefCell::default() }
    }

    pub(super) fn operations(&self) -> Vec<Operation> {
        self.operations.borrow().clone()
    }

    /// How many requests there were, and how many have no answer.
    pub(super) fn summary(&self) -> String {
        let operations = self.operations.borrow();
        let unknown = operations.iter().filter(|operation| operation.answer == Answer::Unknown);
        format!("{} requests, {} without an answer", operations.len(), unknown.count())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Asks, waits at most `patience` for the answer, and notes both.
    async fn ask(&self, client: &Client, action: &Action, patience: Duration) -> Answer {
        let start = self.now();
        let number = self.operations.borrow().len();
        let (action, answer, end) = (action.clone(), Answer::Unknown, u64::MAX);
        // Also what is dropped in the middle was asked for.
        self.operations.borrow_mut().push(Operation { start, end, action: action.clone(), answer });
        let answer = timeout(patience, send(client, &action)).await.unwrap_or(Answer::Unknown);
        let operation = &mut self.operations.borrow_mut()[number];
        if answer != Answer::Unknown {
            (operation.end, operation.answer) = (self.now(), answer.clone());
        }
        answer
    }

    /// Places what nobody knows of once more, until there is an answer.
    pub(super) async fn repeat_unanswered(&self, client: &Client) {
        let mut unanswered = BTreeMap::new();
        for Operation { action, answer, .. } in self.operations.borrow().iter() {
            let Action::Place { key, .. } = action else { continue };
            let is_known = matches!(answer, Answer::Order { .. });
            let entry = unanswered.entry(key.clone()).or_insert(Some(action.clone()));
            *entry = entry.take().filter(|_| !is_known);
        }
        for place in unanswered.into_values().flatten() {
            for _ in 0..TRIES {
                match self.ask(client, &place, Duration::from_secs(20)).await {
                    Answer::Order { .. } => break,
                    Answer::Refused(_, kind) if kind.ends_with("out-of-stock") => break,
                    _ => sleep(Duration::from_millis(500)).await,
                }
            }
        }
    }
}

/// Sends what is asked for.
async fn send(client: &Client, action: &Action) -> Answer {
    let post = |path: String, body: String| (Method::POST, path, body);
    let key = if let Action::Place { key, .. } = action { key } else { "" };
    let (method, path, body) = match action {
        Action::Place { user, key, items } => {
            let item = |(id, pieces)| json!({ "productId": id, "quantity": pieces });
            let items = items.iter().map(item).collect::<Vec<_>>();
            // Its key is found in the order again.
            let body = json!({ "items": items, "userId": user, "contact": key });
            post("/orders".to_owned(), body.to_string())
        }
        Action::Pay { order, method } => {
            post(format!("/orders/{order}/pay"), json!({ "paymentMethod": method }).to_string())
        }
        Action::Cancel { order } => post(format!("/orders/{order}/cancel"), String::new()),
        Action::Refund { order } => {
            post(format!("/orders/{order}/refund"), json!({ "restock": true }).to_string())
        }
        Action::Read { order } => (Method::GET, format!("/orders/{order}"), String::new()),
    };
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let from = usize::from(body.is_empty());
    let to = if key.is_empty() { 1 } else { 2 };
    let Ok(answer) = client.try_send(method, &path, &headers[from..to], body).await else {
        return Answer::Unknown;
    };
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    match answer.status {
        200 | 201 => Answer::Order { id: text("id"), status: text("status") },
        // The bank asks the customer; or nobody knows yet.
        202 | 502..=504 => Answer::Unknown,
        status => Answer::Refused(status, text("type")),
    }
}

/// Somebody who wants some orders.
pub(super) struct Buyer {
    user: String,
    client: Client,
    diary: Rc<Diary>,
    products: Rc<[String]>,
    dice: fastrand::Rng,
    /// By what it pays.
    methods: &'static [&'static str],
}

impl Buyer {
    pub(super) fn new(
        user: String,
        client: Client,
        diary: Rc<Diary>,
        products: Rc<[String]>,
        dice: fastrand::Rng,
        kind: Kind,
    ) -> Self {
        Self { user, client, diary, products, dice, methods: kind.methods() }
    }

    pub(super) async fn buy(mut self) {
        for _ in 0..ORDERS {
            self.pause().await;
            if let Some(order) = self.place().await {
                self.go_on(&order).await;
            }
        }
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.dice.u64(PAUSE))).await;
    }

    /// Asks once; some give up before there is an answer, and drop the connection.
    async fn ask(&mut self, action: &Action) -> Answer {
        let patience = self.patience();
        self.diary.ask(&self.client, action, patience).await
    }

    /// Asks for two things at once, or for the same twice.
    async fn ask_both(&mut self, [one, other]: [&Action; 2]) -> [Answer; 2] {
        let patience = [self.patience(), self.patience()];
        let one = self.diary.ask(&self.client, one, patience[0]);
        let other = self.diary.ask(&self.client, other, patience[1]);
        futures_util::join!(one, other).into()
    }

    fn patience(&mut self) -> Duration {
        match self.dice.u8(0..8) {
            0 => Duration::from_millis(self.dice.u64(HASTE)),
            _ => Duration::from_secs(20),
        }
    }

    /// Places an order until its id is known.
    async fn place(&mut self) -> Option<String> {
        let mut wanted = self.products.to_vec();
        self.dice.shuffle(&mut wanted);
        wanted.truncate(self.dice.usize(1..=wanted.len()));
        let items = wanted.into_iter().map(|id| (id, self.dice.i64(1..=2))).collect::<Items>();
        let key = Uuid::from_u128(self.dice.u128(..)).to_string();
        let place = Action::Place { user: self.user.clone(), key, items };
        for _ in 0..TRIES {
            let answers = match self.dice.u8(0..5) {
                0 => self.ask_both([&place, &place]).await,
                _ => [self.ask(&place).await, Answer::Unknown],
            };
            for answer in answers {
                match answer {
                    Answer::Order { id, .. } => {
                        if self.dice.u8(0..4) == 0 {
                            self.ask(&place).await;
                        }
                        return Some(id);
                    }
                    Answer::Refused(_, kind) if kind.ends_with("out-of-stock") => return None,
                    // Some never learn what came of it.
                    Answer::Unknown if self.dice.u8(0..20) == 0 => return None,
                    // It is under way, or was until a process died.
                    Answer::Refused(..) => sleep(Duration::from_millis(500)).await,
                    Answer::Unknown => {}
                }
            }
            self.pause().await;
        }
        None
    }

    /// Does something with an order.
    async fn go_on(&mut self, order: &str) {
        let order = order.to_owned();
        let pay = Action::Pay { order: order.clone(), method: self.method() };
        let cancel = Action::Cancel { order: order.clone() };
        self.read(&order).await;
        match self.dice.u8(0..12) {
            0..5 => self.insist(&pay).await,
            5 => {
                self.ask_both([&pay, &pay]).await;
            }
            6 => {
                self.ask_both([&pay, &cancel]).await;
                self.insist(&cancel).await;
            }
            7..9 => self.insist(&cancel).await,
            9 => {
                self.insist(&pay).await;
                self.insist(&Action::Refund { order: order.clone() }).await;
            }
            10 => {
                self.ask(&pay).await;
            }
            // It expires.
            _ => {}
        }
        self.read(&order).await;
    }

    fn method(&mut self) -> &'static str {
        self.dice.choice(self.methods.iter()).copied().unwrap()
    }

    /// Asks until there is an answer that lasts; who pays takes another card now and then.
    async fn insist(&mut self, action: &Action) {
        let mut action = action.clone();
        for _ in 0..TRIES {
            match self.ask(&action).await {
                Answer::Order { .. } => return,
                Answer::Refused(409, _) if self.dice.u8(0..3) == 0 => return,
                _ => {}
            }
            self.pause().await;
            let card = self.method();
            match &mut action {
                Action::Pay { method, .. } if self.dice.bool() => *method = card,
                _ => {}
            }
            if let (0, Some(order)) = (self.dice.u8(0..3), action.order().map(str::to_owned)) {
                self.read(&order).await;
            }
        }
    }

    async fn read(&mut self, order: &str) {
        self.ask(&Action::Read { order: order.to_owned() }).await;
    }
}
