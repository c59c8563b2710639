//! An upstream that is none of ours: it keeps what it is sent, byte for byte, and answers what the test says.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use tempfile::TempDir;

use super::{PATIENCE, Process};

/// Listens until the test ends.
pub(crate) struct Upstream {
    pub(crate) url: String,
    records: Arc<Mutex<Vec<Record>>>,
}

type Record = Arc<Mutex<Vec<u8>>>;

/// One connection to the upstream.
pub(crate) struct Line {
    stream: TcpStream,
    record: Record,
    buffer: Vec<u8>,
}

/// A request as the upstream was sent it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    /// Plays `script` on each connection, in a thread of its own.
    pub(crate) fn start(script: impl Fn(&mut Line) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let records = Arc::new(Mutex::new(Vec::new()));
        let kept = records.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, record) = (stream.unwrap(), Record::default());
                kept.lock().unwrap().push(record.clone());
                let script = script.clone();
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    script(&mut Line { stream, record, buffer: Vec::new() });
                });
            }
        });
        Self { url, records }
    }

    /// One that answers every request with 200 and `ok`.
    pub(crate) fn obliging() -> Self {
        Self::start(|line| {
            while line.request().is_some() {
                line.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        })
    }

    /// What came since this was last asked: the requests, and the bytes of those that broke off.
    ///
    /// # Panics
    /// When the framing of one could be read in two ways.
    pub(crate) fn take(&self) -> (Vec<Received>, usize) {
        let (mut all, mut broken) = (Vec::new(), 0);
        for record in self.records.lock().unwrap().iter() {
            let bytes = std::mem::take(&mut *record.lock().unwrap());
            let mut rest = &bytes[..];
            while let Some((request, length)) = parse(rest) {
                all.push(request);
                rest = &rest[length..];
            }
            broken += rest.len();
        }
        (all, broken)
    }

    /// What came since this was last asked over the one connection that anything came over, which is no longer HTTP: the
    /// head, and how many bytes came behind it.
    pub(crate) fn bytes(&self) -> (String, usize) {
        let records = self.records.lock().unwrap();
        let taken = records.iter().map(|record| std::mem::take(&mut *record.lock().unwrap()));
        let bytes = taken.flatten().collect::<Vec<_>>();
        let end = find(&bytes, b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes.len() - end)
    }

    /// A gateway by itself, in front of this upstream; `environment` is set for it.
    pub(crate) fn gateway(&self, environment: &[(&str, &str)]) -> (Process, TempDir) {
        let folder = TempDir::new().unwrap();
        let mut command = Process::command(folder.path());
        // One failure after another is what is tried here.
        command.env("APP__GATEWAY__RESILIENCE__BREAKER_FAILURES", "0");
        // Nobody listens at the user role's address: nothing is asked there.
        command.args(["--role", "gateway"]).env("USER_URL", "http://127.0.0.1:1");
        command.env("PRODUCT_URL", &self.url).envs(environment.iter().copied());
        (Process::start(folder.path(), command), folder)
    }
}

impl Upstream {
    /// The same with the route `/up` to it, whose `keys` are set, as is the environment `more`.
    pub(crate) fn gateway_at_up(
        &self,
        keys: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> (Process, TempDir) {
        let name = |key| format!("APP__GATEWAY__ROUTES__UP__{key}");
        let keys = keys.iter().map(|(key, value)| (name(*key), *value)).collect::<Vec<_>>();
        let mut environment = vec![
            ("APP__GATEWAY__ROUTES__UP__PREFIX", "/up"),
            ("APP__GATEWAY__ROUTES__UP__UPSTREAM", "up"),
            ("APP__GATEWAY__UPSTREAMS__UP__URLS", &*self.url),
        ];
        environment.extend(keys.iter().map(|(key, value)| (key.as_str(), *value)));
        environment.extend(more);
        self.gateway(&environment)
    }
}

impl Received {
    /// The last part of its path.
    pub(crate) fn number(&self) -> usize {
        let path = self.head.split(' ').nth(1).unwrap();
        path.rsplit('/').next().unwrap().parse().unwrap()
    }
}

impl Line {
    /// Reads some bytes; nothing at the end.
    fn fill(&mut self) -> Option<()> {
        let mut bytes = [0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => None,
            Ok(length) => {
                self.record.lock().unwrap().extend_from_slice(&bytes[..length]);
                self.buffer.extend_from_slice(&bytes[..length]);
                Some(())
            }
        }
    }

    /// Waits for the head of a request, and takes it.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect::<Vec<_>>();
                return Some(String::from_utf8(head).unwrap());
            }
            self.fill()?;
        }
    }

    /// Takes some bytes, whatever they mean; nothing at the end.
    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Waits for a whole request, and takes it.
    pub(crate) fn request(&mut self) -> Option<Received> {
        loop {
            if let Some((request, length)) = parse(&self.buffer) {
                self.buffer.drain(..length);
                return Some(request);
            }
            self.fill()?;
        }
    }

    /// Resets the connection when the script is over, instead of ending it.
    pub(crate) fn reset(&mut self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &linger).unwrap();
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may be gone.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends `bytes`, if the other side still takes any.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Closes the connection, with what was sent still on its way.
    pub(crate) fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the other side is gone.
    pub(crate) fn wait_for_end(&mut self) {
        while self.fill().is_some() {}
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The first request in `bytes` and its length, by RFC 9112 and nothing laxer.
fn parse(bytes: &[u8]) -> Option<(Received, usize)> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    assert!(head.is_ascii(), "{head:?}");
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for (number, line) in head.split("\r\n").enumerate() {
        assert!(!line.contains(['\r', '\n', '\0']), "{head:?}");
        if number == 0 {
            let words = line.split(' ').collect::<Vec<_>>();
            assert!(words.len() == 3 && words[1].starts_with('/'), "{head:?}");
            assert_eq!(words[2], "HTTP/1.1", "{head:?}");
            continue;
        }
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{head:?}"));
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^`|~".contains(c);
        assert!(!name.is_empty() && name.chars().all(token), "{head:?}");
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                assert!(length.is_none() && value.bytes().all(|c| c.is_ascii_digit()), "{head:?}");
                length = Some(value.parse::<usize>().unwrap());
            }
            "transfer-encoding" => {
                assert!(!chunked && value == "chunked", "{head:?}");
                chunked = true;
            }
            "host" => hosts += 1,
            gone @ ("connection" | "expect" | "te" | "trailer" | "upgrade" | "keep-alive") => {
                panic!("{gone} was passed on: {head:?}")
            }
            _ => {}
        }
    }
    assert!(!(chunked && length.is_some()) && hosts == 1, "{head:?}");
    let rest = &bytes[end + 4..];
    let (body, used) = if chunked { chunks(rest)? } else { sized(rest, length.unwrap_or(0))? };
    Some((Received { head, body }, end + 4 + used))
}

fn sized(bytes: &[u8], length: usize) -> Option<(Vec<u8>, usize)> {
    Some((bytes.get(..length)?.to_vec(), length))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?}"));
        at += line + 2;
        let chunk = bytes.get(at..at + size + 2)?;
        assert_eq!(&chunk[size..], b"\r\n");
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// What the gateway answers to `request`, after which the client wants the connection closed.
pub(crate) fn ask(gateway: &Process, request: &str) -> String {
    let mut client = Raw::connect(gateway);
    client.send(request);
    client.rest()
}

/// A client that sends bytes and looks at those that come back.
pub(crate) struct Raw(TcpStream);

impl From<TcpStream> for Raw {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Raw {
    /// Connects to the process's gateway.
    pub(crate) fn connect(gateway: &Process) -> Self {
        let stream = TcpStream::connect(gateway.urls["gateway"].trim_start_matches("http://"));
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have closed.
        let _ = self.0.write_all(bytes.as_ref());
    }

    /// Says that there is nothing more to come.
    pub(crate) fn finish(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Goes without a word of parting, as a client does that is killed.
    pub(crate) fn reset(self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&self.0, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
    }

    /// Everything until the other side closes.
    pub(crate) fn rest(&mut self) -> String {
        let (bytes, closed) = self.everything();
        assert!(closed, "it stays open after {bytes:?}");
        bytes
    }

    /// Everything until the other side closes, or says nothing for longer than a read waits; and whether it closed.
    pub(crate) fn everything(&mut self) -> (String, bool) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 65536];
        let closed = loop {
            match self.0.read(&mut chunk) {
                Ok(0) => break true,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        };
        (String::from_utf8_lossy(&bytes).into_owned(), closed)
    }

    /// Everything up to and with `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Reads a while, and gives how many bytes came.
    pub(crate) fn some(&mut self, most: usize) -> usize {
        self.0.read(&mut vec![0; most]).unwrap_or(0)
    }

    /// Whether the connection ends in a reset.
    pub(crate) fn is_reset(&mut self) -> bool {
        let end = self.0.read(&mut [0; 64]);
        end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }

    /// How long a read waits.
    pub(crate) fn patience(&mut self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
    }
}
