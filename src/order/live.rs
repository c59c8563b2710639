//! The live stream of events (server-sent events, WHATWG HTML, section 9.2).
//!
//! Each thread has one task that reads the log on, while somebody listens, and gives what is new to all who do. Who has
//! missed something reads it from the log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder};
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{sleep, timeout};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::auth::Caller;
use crate::contract::Event;
use crate::error::{Error, Kind};
use crate::events::Log;
use crate::middleware::{Draining, Input};
use crate::storage::StoreError;
use crate::tasks;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a listener hears something, if nothing happens; and how often it looks whether the process drains.
const HEARTBEAT: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_secs(1);
/// The pause after an error of the store.
const PAUSE: Duration = Duration::from_millis(500);
/// How many events are read at once, and how many a slow listener may be behind.
const BATCH: i64 = 100;
const BEHIND: usize = 256;
/// The first piece of a stream: how soon to come back, in milliseconds.
const WELCOME: &[u8] = b"retry: 1000\n\n";
const COMMENT: &[u8] = b":\n\n";

/// An event as listeners get it.
#[derive(Debug)]
struct Told {
    /// Its place in the log.
    offset: i64,
    /// Whose order it is about.
    user: Option<Uuid>,
    text: Bytes,
}

impl Told {
    fn new((offset, event): (i64, Event)) -> Rc<Self> {
        // Values are valid JSON, on one line.
        let data = serde_json::to_string(&event).unwrap_or_default();
        let text = format!("id: {offset}\nevent: {}\ndata: {data}\n\n", event.kind);
        let user = event.order().ok().map(|order| order.user_id);
        Rc::new(Self { offset, user, text: text.into() })
    }
}

/// How many streams may be open in the process.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    taken: Arc<AtomicUsize>,
    all: usize,
}

/// One of them, which is free again when this is dropped.
struct Seat(Arc<AtomicUsize>);

impl Seats {
    /// Of `all` seats, those that threads have `taken`.
    pub(super) fn new(taken: Arc<AtomicUsize>, all: usize) -> Self {
        Self { taken, all }
    }

    fn take(&self) -> Option<Seat> {
        let seat = Seat(self.taken.clone());
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Dropping the seat gives it back.
        (before < self.all).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The events of one thread.
pub(super) struct Live {
    log: Log,
    seats: Seats,
    draining: Draining,
    /// Gives what is new; `None` while nobody listens.
    tail: RefCell<Option<broadcast::Sender<Rc<Told>>>>,
}

impl Live {
    /// The events of `log`, until the process is `draining`.
    pub(super) fn new(log: Log, seats: Seats, draining: Draining) -> Self {
        Self { log, seats, draining, tail: RefCell::default() }
    }

    /// Hears what is new from now on.
    async fn subscribe(self: &Arc<Self>) -> Result<broadcast::Receiver<Rc<Told>>, StoreError> {
        if let Some(tail) = &*self.tail.borrow() {
            return Ok(tail.subscribe());
        }
        let end = self.log.end().await?;
        let mut tail = self.tail.borrow_mut();
        if let Some(tail) = &*tail {
            return Ok(tail.subscribe());
        }
        let (sender, receiver) = broadcast::channel(BEHIND);
        *tail = Some(sender.clone());
        tasks::spawn("live_events", self.clone().follow(sender, end));
        Ok(receiver)
    }

    /// Gives what is behind place `end` of the log to all who listen, as long as somebody does.
    async fn follow(self: Arc<Self>, sender: broadcast::Sender<Rc<Told>>, mut end: i64) {
        while sender.receiver_count() > 0 {
            let news = self.log.news();
            match self.log.after(end, BATCH).await {
                Ok(events) => {
                    let is_full = events.len() as i64 == BATCH;
                    for told in events.into_iter().map(Told::new) {
                        end = told.offset;
                        // Nobody may listen any more.
                        let _ = sender.send(told);
                    }
                    if !is_full {
                        news.await;
                    }
                }
                Err(error) => {
                    log::log!(error.level(), role = "order"; "the live stream waits: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
        *self.tail.borrow_mut() = None;
    }
}

/// The place in the log that a listener has heard last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastEventId(Option<i64>);

impl FromRequest for LastEventId {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(value) = request.headers().get(LAST_EVENT_ID) else {
            return ready(Ok(Self(None)));
        };
        let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let number = number.filter(|number| *number >= 0);
        let detail = "Last-Event-ID must be the id of an event of this stream";
        let number = number.ok_or_else(|| Error::new(Kind::Malformed, detail));
        ready(number.map(|number| Self(Some(number))))
    }
}

impl Input for LastEventId {}

/// Last-Event-ID, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header for the OpenAPI document")]
pub(super) struct LastEventIdHeader {
    /// The id of the last event that was heard: the stream goes on behind it, as far as a day back.
    #[param(rename = "Last-Event-ID", value_type = String, required = false, pattern = "^[0-9]{1,18}$")]
    last: Option<String>,
}

/// One who listens.
struct Listener {
    live: Arc<Live>,
    news: broadcast::Receiver<Rc<Told>>,
    _seat: Seat,
    /// Whose events it hears; `None` hears all.
    user: Option<Uuid>,
    /// The place of the last event that it has heard.
    last: i64,
    /// Whether it has heard all up to those of the thread's task.
    is_current: bool,
    backlog: VecDeque<Rc<Told>>,
    spoken: Instant,
}

impl Listener {
    /// The next piece of the stream; `None` at its end, after which a client comes back.
    async fn next(mut self) -> Option<(Result<Bytes, Error>, Self)> {
        loop {
            if self.live.draining.has_begun() {
                return None;
            }
            while let Some(told) = self.backlog.pop_front() {
                if told.offset <= self.last {
                    continue;
                }
                self.last = told.offset;
                if self.user.is_none_or(|user| told.user == Some(user)) {
                    self.spoken = Instant::now();
                    return Some((Ok(told.text.clone()), self));
                }
            }
            if !self.is_current {
                let missed = self.live.log.after(self.last, BATCH).await.ok()?;
                self.is_current = missed.is_empty();
                self.backlog.extend(missed.into_iter().map(Told::new));
                continue;
            }
            match timeout(TICK, self.news.recv()).await {
                Ok(Ok(told)) => self.backlog.push_back(told),
                Ok(Err(RecvError::Lagged(_))) => self.is_current = false,
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) if self.spoken.elapsed() >= HEARTBEAT => {
                    self.spoken = Instant::now();
                    return Some((Ok(Bytes::from_static(COMMENT)), self));
                }
                Err(_) => {}
            }
        }
    }
}

/// Streams the events of the caller's orders as they happen.
///
/// An admin hears everybody's. A comment comes every 15 seconds in which nothing happens. A client that comes back with `Last-Event-ID` misses nothing.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listenToEvents",
    tag = "orders",
    params(LastEventIdHeader),
    responses(
        (status = 200, description = "CloudEvents, as server-sent events", body = String, content_type = "text/event-stream"),
    )
)]
pub(super) async fn listen(
    live: Data<Live>,
    caller: Caller,
    LastEventId(last): LastEventId,
) -> Result<impl Responder, Error> {
    let user = caller.sees_only()?;
    let live = live.into_inner();
    let seat = live.seats.take().ok_or_else(|| {
        Error::unavailable("too many streams are open; try again later", "order.listeners")
    })?;
    let news = live.subscribe().await?;
    let end = live.log.end().await?;
    let listener = Listener {
        news,
        _seat: seat,
        user,
        // Beyond the end: of a log that was restored from a backup.
        last: last.map_or(end, |last| last.min(end)),
        is_current: false,
        backlog: VecDeque::new(),
        spoken: Instant::now(),
        live,
    };
    let welcome = stream::once(async { Ok::<_, Error>(Bytes::from_static(WELCOME)) });
    let events = stream::unfold(listener, Listener::next);
    let response = HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(Box::pin(futures_util::StreamExt::chain(welcome, events)));
    Ok(response)
}
