//! The collector, as the exporter of OpenTelemetry asks it: its HTTP client over awc, which belongs to one thread and is
//! asked from others over a channel.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HttpDate, RETRY_AFTER, USER_AGENT,
};
use async_trait::async_trait;
use awc::{Client, Connector};
use flate2::write::GzEncoder;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::config::{Compression, Endpoint, Otlp};

/// The media type of a batch.
const PROTOBUF: &str = "application/x-protobuf";
/// The name and the version that the collector is told.
const AGENT: &str = concat!("shop/", env!("CARGO_PKG_VERSION"));
/// The largest answer, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;
/// How often a batch is sent again.
const RETRIES: u32 = 3;
/// The pause before it is first sent again, doubled before each further time; the actual pause is random.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A batch on its way to the collector, and where its answer goes.
struct Call {
    body: Bytes,
    reply: oneshot::Sender<Result<Bytes, Failure>>,
}

/// What the exporter of OpenTelemetry sends batches with.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    calls: mpsc::Sender<Call>,
    /// What became of the last batch.
    outcome: Arc<Mutex<Result<u64, Failure>>>,
}

/// Sends batches over HTTP, on one thread.
pub(super) struct Sender {
    calls: mpsc::Receiver<Call>,
    options: Otlp,
    url: String,
    tls: Option<Arc<ClientConfig>>,
    /// How long one batch may take.
    limit: Duration,
    /// Nothing is sent again from then on.
    stopping: CancellationToken,
}

/// Makes what sends batches by `options` to its endpoint, each within `limit`, and a handle to it.
pub(super) fn open(
    options: &Otlp,
    limit: Duration,
    tls: Option<Arc<ClientConfig>>,
    stopping: CancellationToken,
) -> (Handle, Sender) {
    let url = options.endpoint.as_ref().map_or("", Endpoint::as_str).to_owned();
    let (sender, calls) = mpsc::channel(1);
    let handle = Handle { calls: sender, outcome: Arc::new(Mutex::new(Err(Failure::Encoding))) };
    (handle, Sender { calls, options: options.clone(), url, tls, limit, stopping })
}

impl Handle {
    /// What became of the last batch: how many of its spans the collector has rejected. Forgets it.
    pub(super) fn take_outcome(&self) -> Result<u64, Failure> {
        std::mem::replace(&mut *self.lock(), Err(Failure::Encoding))
    }

    async fn ask(&self, body: Bytes) -> Result<Bytes, Failure> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { body, reply }).await.map_err(|_| Failure::Lost)?;
        answer.await.unwrap_or(Err(Failure::Lost))
    }

    fn lock(&self) -> MutexGuard<'_, Result<u64, Failure>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HttpClient for Handle {
    /// Sends the batch in the body of `request`. What else the request says follows from variables of the environment that
    /// the exporter reads by itself, and the settings may say otherwise.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.ask(request.into_body()).await;
        *self.lock() = answer.as_ref().map(|answer| rejected(answer)).map_err(|why| *why);
        Ok(Response::new(answer?))
    }
}

/// How many spans of a batch were rejected, by the `answer` to it. One that cannot be read rejects none.
fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let spans = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    spans.try_into().unwrap_or(0)
}

impl Sender {
    /// Sends what comes, one batch at a time, until its handle is gone.
    pub(super) async fn run(&mut self) {
        let http = self.client();
        while let Some(Call { body, reply }) = self.calls.recv().await {
            let outcome = self.send(&http, body).await;
            // Nobody may wait for it any more.
            let _ = reply.send(outcome);
        }
    }

    /// A client, for this thread.
    fn client(&self) -> Client {
        let mut connector = Connector::new();
        if let Some(tls) = &self.tls {
            connector = connector.rustls_0_23(tls.clone());
        }
        let builder = Client::builder().connector(connector).disable_redirects();
        builder.disable_timeout().no_default_headers().finish()
    }

    /// Sends `body`, again if that may help.
    async fn send(&self, http: &Client, body: Bytes) -> Result<Bytes, Failure> {
        let end = Instant::now() + self.limit;
        let body = self.compress(body)?;
        let mut retries = 0;
        loop {
            let attempt = timeout_at(end, self.attempt(http, body.clone())).await;
            let (failure, asked) = match attempt.unwrap_or(Err((Failure::Timeout, None))) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let pause = pause(retries, asked);
            let is_last = retries == RETRIES || Instant::now() + pause >= end;
            if is_last || !failure.is_transient() {
                return Err(failure);
            }
            retries += 1;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stopping.cancelled() => return Err(failure),
            }
        }
    }

    /// Sends `body` once. A failure comes with the pause that the collector asks for.
    async fn attempt(
        &self,
        http: &Client,
        body: Bytes,
    ) -> Result<Bytes, (Failure, Option<Duration>)> {
        let mut request = http.post(&self.url);
        for (name, value) in self.options.headers.iter() {
            request = request.insert_header((name.clone(), value.clone()));
        }
        request =
            request.insert_header((CONTENT_TYPE, PROTOBUF)).insert_header((USER_AGENT, AGENT));
        if self.options.compression == Compression::Gzip {
            request = request.insert_header((CONTENT_ENCODING, "gzip"));
        }
        let answer = request.no_decompress().send_body(body).await;
        let mut answer = answer.map_err(|error| (Failure::from(&error), None))?;
        if !answer.status().is_success() {
            let asked = asked(answer.headers());
            return Err((Failure::Status(answer.status().as_u16()), asked));
        }
        let body = answer.body().limit(ANSWER_LIMIT).await;
        // The spans were taken, whatever became of the rest of the answer.
        Ok(body.unwrap_or_default())
    }

    fn compress(&self, body: Bytes) -> Result<Bytes, Failure> {
        if self.options.compression == Compression::None {
            return Ok(body);
        }
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let written = encoder.write_all(&body).and_then(|()| encoder.finish());
        written.map(Bytes::from).map_err(|_| Failure::Encoding)
    }
}

/// The pause that `headers` ask for, in seconds or until a date (RFC 9110, section 10.2.3).
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let until = || {
        let date = SystemTime::from(value.parse::<HttpDate>().ok()?);
        date.duration_since(SystemTime::now()).ok()
    };
    let asked = value.parse().ok().map(Duration::from_secs).or_else(until)?;
    Some(asked.min(LONGEST_PAUSE))
}

/// The pause after so many `retries`: what the collector has `asked` for at least, and a random part more.
fn pause(retries: u32, asked: Option<Duration>) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.pow(retries.min(RETRIES));
    let random = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
    asked.map_or(random, |asked| asked + FIRST_PAUSE.mul_f64(fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_random_grows_and_is_what_the_collector_asks_for() {
        let random = std::iter::repeat_with(|| pause(0, None)).take(100).collect::<Vec<_>>();
        assert!(random.iter().all(|pause| (FIRST_PAUSE / 2..=FIRST_PAUSE).contains(pause)));
        assert!(random.iter().any(|pause| pause != &random[0]));
        assert!((0..100).all(|_| pause(2, None) >= FIRST_PAUSE * 2));
        let asked = Duration::from_secs(7);
        assert!((0..100).all(|_| (asked..asked + FIRST_PAUSE).contains(&pause(0, Some(asked)))));
    }

    #[test]
    fn a_collector_asks_for_a_pause_in_bounds() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            asked(&headers)
        };
        assert_eq!(of("3"), Some(Duration::from_secs(3)));
        assert_eq!(of("86400"), Some(LONGEST_PAUSE));
        assert_eq!((of("-1"), of("soon"), asked(&HeaderMap::new())), (None, None, None));
        let soon = HttpDate::from(SystemTime::now() + Duration::from_secs(9)).to_string();
        let pause = of(&soon).unwrap();
        assert!((Duration::from_secs(5)..=Duration::from_secs(9)).contains(&pause), "{pause:?}");
        assert_eq!(of("Fri, 31 Dec 2100 23:59:59 GMT"), Some(LONGEST_PAUSE));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), None);
    }
}
