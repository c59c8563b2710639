//! Those who buy pieces, and what each of them knows of those that it has.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::time::sleep;
use awc::http::Method;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::model::Place::{self, Free, Held, Sold};
use super::model::{Model, Purchase, Window};
use crate::support::{Answer, Client};

/// The most seconds of a reservation that may lapse before its buyer goes on, and the seconds of one that hardly does.
const SHORT: u64 = 3;
const LONG: u64 = 10;
/// For how long a buyer waits who goes on when a second is just over, or almost, in milliseconds.
const LATE: Range<u64> = 800..1200;
/// How often somebody tries to get an answer.
const TRIES: usize = 60;
const NEVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// The products of a round, and what is known of them.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) products: Rc<[String]>,
    pub(super) model: Rc<RefCell<Model>>,
}

/// Asks one of several processes, by chance.
pub(super) struct Asker {
    pub(super) clients: Vec<Client>,
    pub(super) dice: fastrand::Rng,
}

impl Asker {
    pub(super) fn fork(&mut self) -> Self {
        Self { clients: self.clients.clone(), dice: self.dice.fork() }
    }

    /// Asks once; `None` if nobody says what came of it.
    pub(super) async fn once(&mut self, method: Method, path: &str, body: &str) -> Option<Answer> {
        let client = self.clients[self.dice.usize(0..self.clients.len())].clone();
        let json = [("content-type", "application/json")];
        let answer = client.try_send(method, path, &json, body).await.ok();
        answer.filter(|answer| answer.status < 500)
    }

    /// Asks until somebody answers, and says how often.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Option<(Answer, usize)> {
        for tries in 1..=TRIES {
            match self.once(method.clone(), path, body).await {
                Some(answer) => return Some((answer, tries)),
                None => sleep(Duration::from_millis(self.dice.u64(10..150))).await,
            }
        }
        None
    }
}

/// Somebody who buys pieces in one reservation, or in one that takes over those of another.
pub(super) struct Buyer {
    asker: Asker,
    round: Round,
    /// The number of its purchase.
    purchase: usize,
    /// Its reservations, the one that has the pieces last.
    ids: Vec<Uuid>,
    /// When that expires.
    expires_at: DateTime<Utc>,
}

impl Buyer {
    /// One who wants some of the products of `round`; and what of them.
    pub(super) fn new(mut asker: Asker, round: Round) -> Self {
        let mut wanted = (0..round.products.len()).collect::<Vec<_>>();
        asker.dice.shuffle(&mut wanted);
        wanted.truncate(asker.dice.usize(1..=round.products.len()));
        let lines = wanted.into_iter().map(|product| (product, asker.dice.i64(1..=2))).collect();
        let purchases = &mut round.model.borrow_mut().purchases;
        purchases.push(Purchase::new(lines));
        let purchase = purchases.len() - 1;
        Self { asker, round: round.clone(), purchase, ids: Vec::new(), expires_at: NEVER }
    }

    /// Buys, or tries to; returns the ids that it used.
    pub(super) async fn buy(mut self) -> Vec<Uuid> {
        let fate = self.asker.dice.u8(0..10);
        let is_late = self.asker.dice.u8(0..8) == 0;
        let seconds = match is_late {
            true => 1,
            false if fate == 9 => self.asker.dice.u64(1..=SHORT),
            false => self.seconds(),
        };
        if self.reserve(seconds).await {
            if is_late {
                sleep(Duration::from_millis(self.asker.dice.u64(LATE))).await;
            }
            match fate {
                0..4 => self.commit().await,
                4..6 => self.release().await,
                6 => {
                    self.commit().await;
                    self.release().await;
                }
                7 => {
                    self.commit().await;
                    self.take_over().await;
                }
                8 => self.take_over().await,
                // It lapses.
                _ => {}
            }
        }
        self.ids
    }

    fn seconds(&mut self) -> u64 {
        if self.asker.dice.bool() { LONG } else { self.asker.dice.u64(1..=SHORT) }
    }

    async fn reserve(&mut self, seconds: u64) -> bool {
        let lines = self.round.model.borrow().purchases[self.purchase].lines().to_vec();
        let line = |(n, quantity): &(usize, i64)| json!({ "productId": self.round.products[*n], "quantity": quantity });
        let body =
            json!({ "lines": lines.iter().map(line).collect::<Vec<_>>(), "seconds": seconds });
        self.learn(&[Free, Held]);
        let window = Window::open();
        let Some((answer, tries)) = self.put(&body).await else { return false };
        let window = window.close();
        let model = self.round.model.clone();
        let presence = |is_there| {
            lines.iter().map(move |(n, _)| model.borrow().check_presence(*n, window, is_there))
        };
        match answer.status {
            422 => assert!(presence(false).any(|checked| checked.is_ok()), "{answer:?}"),
            _ => presence(true).for_each(|checked| checked.unwrap()),
        }
        if answer.status == 200 {
            self.hold(&answer);
            return true;
        }
        assert!(matches!(answer.status, 409 | 422), "{answer:?}");
        // One that was tried before may still be on its way.
        if tries == 1 {
            self.learn(&[Free]);
        }
        false
    }

    async fn commit(&mut self) {
        self.learn(&[Held, Sold]);
        let (path, window) = (format!("{}/commit", self.path()), Window::open());
        let answer = self.asker.ask(Method::POST, &path, "").await;
        let Some((answer, _)) = answer else { return self.learn(&[Free, Held, Sold]) };
        let (window, expires_at) = (window.close(), self.expires_at);
        match answer.status {
            200 => {
                assert!(window.start < expires_at, "sold after {expires_at}: {window:?}");
                self.learn(&[Sold]);
            }
            409 => {
                assert!(window.end >= expires_at, "lapsed before {expires_at}: {window:?}");
                self.learn(&[Free, Held]);
            }
            _ => panic!("{answer:?}"),
        }
    }

    async fn release(&mut self) {
        self.learn(&[self.places(), vec![Free]].concat());
        let path = self.path();
        if let Some((answer, _)) = self.asker.ask(Method::DELETE, &path, "").await {
            assert_eq!(answer.status, 204, "{answer:?}");
            self.learn(&[Free]);
        }
    }

    /// Takes over its pieces by another reservation, and commits that.
    async fn take_over(&mut self) {
        let (from, window, before) = (self.ids.last().copied(), Window::open(), self.places());
        let seconds = self.seconds();
        let first = self.expires_at;
        // On a slow server, the new one may lapse before its answer is sent.
        let second = window.start + TimeDelta::seconds(seconds.cast_signed());
        self.expires_at = first.min(second);
        self.learn(&[&*before, &[Held]].concat());
        let answer = self.put(&json!({ "from": from, "seconds": seconds })).await;
        match answer {
            Some((answer, _)) if answer.status == 200 => {
                self.hold(&answer);
                self.commit().await;
            }
            Some((answer, tries)) => {
                assert_eq!(answer.status, 409, "{answer:?}");
                let (end, is_sold) =
                    (window.close().end, before.iter().all(|place| *place == Sold));
                let has_it = end < second && (is_sold || !before.contains(&Free) && end < first);
                assert!(tries > 1 || !has_it, "{answer:?} to {before:?} until {first}");
                self.learn(&[Free, Held, Sold]);
            }
            None => self.learn(&[Free, Held, Sold]),
        }
    }

    /// Asks for a reservation with a new id.
    async fn put(&mut self, body: &Value) -> Option<(Answer, usize)> {
        self.ids.push(Uuid::from_u128(self.asker.dice.u128(..)));
        let path = self.path();
        self.asker.ask(Method::PUT, &path, &body.to_string()).await
    }

    fn path(&self) -> String {
        format!("/internal/reservations/{}", self.ids.last().copied().unwrap_or_default())
    }

    /// It has the pieces, as `answer` says.
    fn hold(&mut self, answer: &Answer) {
        self.expires_at = answer.json()["expiresAt"].as_str().unwrap().parse().unwrap();
        self.learn(&[Held]);
    }

    fn learn(&self, places: &[Place]) {
        self.round.model.borrow_mut().purchases[self.purchase].learn(places, self.expires_at);
    }

    fn places(&self) -> Vec<Place> {
        self.round.model.borrow().purchases[self.purchase].places(Window::open().close())
    }
}
