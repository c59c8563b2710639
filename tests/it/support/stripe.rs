//! A payment provider of the test's own: it speaks as much of Stripe's API as the shop does, honours idempotency keys, counts
//! what it charges, and fails where the test says.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use ring::hmac;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::block_until;

/// The key that it knows.
pub(crate) const STRIPE_KEY: &str = "sk_test_of_the_shop";

/// A request that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Confirm,
    Find,
    Cancel,
    Refund,
}

/// What becomes of a request, whether it has an effect or not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// None, and the connection stays open.
    Never,
    /// None, and the connection is reset.
    Reset,
    /// It is cut off.
    Cut,
    /// 500.
    Failure,
    /// The request arrives twice, and is answered twice.
    Twice,
    /// It waits until the test releases it.
    Held,
}

/// What goes wrong with the next request of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) has_effect: bool,
    pub(crate) answer: Answer,
}

/// A payment as the provider has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intent {
    pub(crate) id: String,
    pub(crate) order: String,
    pub(crate) amount: String,
    pub(crate) currency: String,
    pub(crate) status: &'static str,
    /// Whether somebody has tried to charge it.
    pub(crate) is_tried: bool,
    pub(crate) charges: usize,
    pub(crate) refunds: usize,
}

#[derive(Default)]
struct Ledger {
    intents: Vec<Intent>,
    /// The first request of each idempotency key, and its answer.
    answered: HashMap<String, (String, (u16, Value))>,
    faults: Vec<Fault>,
    /// Whether answers that are held may go.
    is_released: bool,
    calls: Vec<Call>,
}

/// A request as it was sent.
struct Request {
    target: String,
    headers: HashMap<String, String>,
    body: String,
}

/// The provider; it listens until the test ends.
#[derive(Clone)]
pub(crate) struct Stripe {
    pub(crate) url: String,
    ledger: Arc<Mutex<Ledger>>,
}

impl Stripe {
    pub(crate) fn start() -> Self {
        Self::listen(None)
    }

    /// One that speaks TLS, and goes by the name of localhost.
    pub(crate) fn start_with_tls(config: ServerConfig) -> Self {
        Self::listen(Some(Arc::new(config)))
    }

    fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let provider = Self { url, ledger: Arc::default() };
        let served = provider.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, served, tls) = (stream.unwrap(), served.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => served.serve(&stream, &stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        let copy = stream.try_clone().unwrap();
                        served.serve(StreamOwned::new(connection, copy), &stream);
                    }
                });
            }
        });
        provider
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Lets the next request of its kind fail.
    pub(crate) fn fail(&self, call: Call, has_effect: bool, answer: Answer) {
        self.ledger().faults.push(Fault { call, has_effect, answer });
    }

    /// Lets answers go that are held.
    pub(crate) fn release(&self) {
        self.ledger().is_released = true;
    }

    /// How many requests of a kind have come.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.ledger().calls.iter().filter(|known| **known == call).count()
    }

    /// The payment of `order`, of which there is one.
    pub(crate) fn intent(&self, order: &Value) -> Intent {
        let all = self.ledger().intents.clone();
        let mut of_order = all.into_iter().filter(|intent| intent.order == order["id"]);
        let found = of_order.next().unwrap_or_else(|| panic!("no payment of {order}"));
        assert!(of_order.next().is_none(), "two payments of {order}");
        found
    }

    /// All payments.
    pub(crate) fn intents(&self) -> Vec<Intent> {
        self.ledger().intents.clone()
    }

    /// Answers nobody for a while, and blocks.
    pub(crate) fn hang(&self, pause: Duration) {
        let ledger = self.ledger();
        std::thread::sleep(pause);
        drop(ledger);
    }

    /// Charges the payment of `order` unless it has ended: the customer has answered the bank, or a request arrives late.
    pub(crate) fn charge(&self, order: &Value) {
        let id = self.intent(order).id;
        let mut ledger = self.ledger();
        let intent = ledger.intents.iter_mut().find(|intent| intent.id == id).unwrap();
        assert!(!["succeeded", "canceled"].contains(&intent.status), "{intent:?}");
        intent.status = "succeeded";
        intent.charges += 1;
    }

    /// An event about the payment of `order`, with more fields than the shop knows.
    pub(crate) fn event(&self, kind: &str, order: &Value) -> Value {
        let object = self.intent(order).json();
        json!({ "id": "evt_1", "object": "event", "type": kind, "livemode": false, "data": { "object": object } })
    }

    fn serve(&self, mut stream: impl Read + Write, tcp: &TcpStream) {
        // A client that does not trust the certificate sends none.
        let Some(request) = Request::read(&mut stream) else { return };
        let Some((call, id)) = call(&request.target) else { panic!("{}", request.target) };
        let fault = {
            let mut ledger = self.ledger();
            ledger.calls.push(call);
            let next = ledger.faults.iter().position(|fault| fault.call == call);
            next.map(|next| ledger.faults.remove(next))
        };
        let take = || self.ledger().answer(call, &id, &request);
        let Some(fault) = fault else {
            let _ = stream.write_all(&render(take()));
            return;
        };
        let answer = if fault.has_effect { take() } else { (500, json!({})) };
        let bytes = render(answer);
        // The shop may be gone.
        let _ = match fault.answer {
            Answer::Never => stream.read(&mut [0]).map(drop),
            Answer::Reset => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(tcp, sockopt::Linger, &linger).unwrap();
                Ok(())
            }
            Answer::Cut => stream.write_all(&bytes[..bytes.len() - 20]),
            Answer::Held => {
                block_until(|| "nobody has released it".into(), || self.ledger().is_released);
                stream.write_all(&bytes)
            }
            Answer::Failure => stream.write_all(&render((500, json!({})))),
            Answer::Twice => {
                let again = render(take());
                stream.write_all(&[bytes, again].concat())
            }
        };
    }
}

impl Intent {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "payment_intent", "status": self.status, "amount": self.amount,
            "client_secret": format!("{}_secret", self.id), "metadata": { "order": self.order },
            "latest_charge": null,
        })
    }
}

impl Ledger {
    /// The answer to a request, which has an effect unless its key has had one.
    fn answer(&mut self, call: Call, id: &str, request: &Request) -> (u16, Value) {
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
        assert!(!header("stripe-version").is_empty());
        if header("authorization") != format!("Bearer {STRIPE_KEY}") {
            return problem(401, "", "", "Invalid API Key provided");
        }
        let key = header("idempotency-key").to_owned();
        let takes_key = matches!(call, Call::Open | Call::Confirm | Call::Refund);
        assert_eq!(key.is_empty(), !takes_key, "{call:?} with the key {key:?}");
        let sent = format!("{} {}", request.target, request.body);
        if let Some((first, answer)) = self.answered.get(&key).filter(|_| takes_key) {
            assert_eq!(*first, sent, "another request with the key {key}");
            return answer.clone();
        }
        let form = url::form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
        let answer = self.act(call, id, &form);
        self.answered.insert(key, (sent, answer.clone()));
        answer
    }

    fn act(&mut self, call: Call, id: &str, form: &HashMap<String, String>) -> (u16, Value) {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        if call == Call::Open {
            let intent = Intent {
                id: format!("pi_{}", self.intents.len()),
                order: field("metadata[order]"),
                amount: field("amount"),
                currency: field("currency"),
                status: "requires_payment_method",
                ..Intent::default()
            };
            self.intents.push(intent.clone());
            return (200, intent.json());
        }
        let id = if call == Call::Refund { field("payment_intent") } else { id.to_owned() };
        let Some(intent) = self.intents.iter_mut().find(|intent| intent.id == id) else {
            return problem(404, "resource_missing", "intent", "No such payment_intent");
        };
        let unexpected = |intent: &Intent| {
            let why = format!("This PaymentIntent is {}", intent.status);
            problem(400, "payment_intent_unexpected_state", "", &why)
        };
        intent.is_tried |= call == Call::Confirm;
        let has_ended = ["succeeded", "canceled", "processing"].contains(&intent.status);
        match call {
            Call::Confirm | Call::Cancel if has_ended => return unexpected(intent),
            Call::Confirm => match field("payment_method").as_str() {
                "pm_ok" => {
                    intent.status = "succeeded";
                    intent.charges += 1;
                }
                "pm_asked" => intent.status = "requires_action",
                "pm_declined" => {
                    intent.status = "requires_payment_method";
                    return problem(402, "card_declined", "", "Your card was declined.");
                }
                _ => {
                    return problem(
                        400,
                        "resource_missing",
                        "payment_method",
                        "No such PaymentMethod",
                    );
                }
            },
            Call::Cancel => intent.status = "canceled",
            Call::Refund if intent.refunds > 0 => {
                return problem(400, "charge_already_refunded", "", "already refunded");
            }
            Call::Refund => {
                assert_eq!(intent.charges, 1);
                intent.refunds += 1;
                return (200, json!({ "id": "re_1", "object": "refund", "status": "succeeded" }));
            }
            Call::Find | Call::Open => {}
        }
        (200, intent.json())
    }
}

fn problem(status: u16, code: &str, param: &str, message: &str) -> (u16, Value) {
    let kind = if status == 402 { "card_error" } else { "invalid_request_error" };
    (status, json!({ "error": { "type": kind, "code": code, "param": param, "message": message } }))
}

/// Which request the first line is, and of which payment.
fn call(target: &str) -> Option<(Call, String)> {
    let rest = target.split_once(" /v1/")?.1;
    let parts = rest.split('/').collect::<Vec<_>>();
    let id = parts.get(1).map_or(String::new(), |id| (*id).to_owned());
    let call = match (target.split(' ').next()?, &parts[..]) {
        ("POST", ["payment_intents"]) => Call::Open,
        ("GET", ["payment_intents", _]) => Call::Find,
        ("POST", ["payment_intents", _, "confirm"]) => Call::Confirm,
        ("POST", ["payment_intents", _, "cancel"]) => Call::Cancel,
        ("POST", ["refunds"]) => Call::Refund,
        _ => return None,
    };
    Some((call, id))
}

fn render((status, body): (u16, Value)) -> Vec<u8> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: ");
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Request {
    fn read(stream: &mut impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            let length = reader.read_line(&mut line).unwrap_or(0);
            (length > 0).then(|| line.trim_end().to_owned())
        };
        let target = line()?.rsplit_once(' ')?.0.to_owned();
        let mut headers = HashMap::new();
        while let Some((name, value)) = line()?.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { target, headers, body: String::from_utf8(body).unwrap() })
    }
}

/// The `Stripe-Signature` of `body` by `secret`, made `age` seconds ago.
pub(crate) fn signature(secret: &str, body: &str, age: i64) -> String {
    let time = chrono::Utc::now().timestamp() - age;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{time}.{body}").as_bytes());
    format!("t={time},v1={}", hex::encode(signature))
}
