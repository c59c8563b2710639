//! A proxy before a MongoDB server that holds commands, loses replies and answers in the server's place, by the name
//! of the command (MongoDB, "Wire Protocol", OP_MSG).

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bson::{Bson, Document};

use super::Server;

/// The code of the messages that commands and their replies travel in.
const OP_MSG: i32 = 2013;
/// Length, request id, the id that is replied to, and the code.
const HEADER: usize = 16;

/// What becomes of a command.
#[derive(Clone, Debug)]
enum Fate {
    /// It waits for [`MongoProxy::release`], and is passed on then, whether or not its client has gone meanwhile:
    /// what was sent is on its way.
    Hold,
    /// The server carries it out; its reply waits for [`MongoProxy::release`].
    HoldReply,
    /// The server carries it out; its connection breaks off in place of the reply.
    LoseReply,
    /// The server never sees it; this is the reply.
    Refuse(Document),
    /// The server carries it out; this is the reply.
    Replace(Document),
}

/// What becomes of the next `left` commands that are called `command`.
#[derive(Debug)]
struct Rule {
    command: String,
    fate: Fate,
    left: usize,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// The commands that came, in their order.
    seen: Vec<Document>,
    /// How many commands and replies wait.
    held: usize,
    /// How often was released.
    round: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

/// Listens until the test ends.
pub(crate) struct MongoProxy {
    url: String,
    shared: Arc<Shared>,
}

impl MongoProxy {
    /// A proxy before `server` that lets everything pass.
    pub(crate) fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (url, upstream) = redirected(&server.url(), &place);
        let shared = Arc::new(Shared::default());
        let proxy = Self { url, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // One that finds no server is closed, as a port that nobody listens at.
                if let Ok(server) = TcpStream::connect(&upstream) {
                    join(client.unwrap(), server, &shared);
                }
            }
        });
        proxy
    }

    /// How the program is told of it.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Holds every `command` from now on until [`MongoProxy::release`].
    pub(crate) fn hold(&self, command: &str) {
        self.add(command, Fate::Hold, usize::MAX);
    }

    /// Lets the server carry out every `command` from now on, and holds the replies until [`MongoProxy::release`].
    pub(crate) fn hold_replies(&self, command: &str) {
        self.add(command, Fate::HoldReply, usize::MAX);
    }

    /// Lets the server carry out the next `count` of `command`, and closes the connection in place of each reply.
    pub(crate) fn lose_replies(&self, command: &str, count: usize) {
        self.add(command, Fate::LoseReply, count);
    }

    /// Answers every `command` with `reply` from now on until [`MongoProxy::release`]; the server never sees it.
    pub(crate) fn refuse(&self, command: &str, reply: Document) {
        self.add(command, Fate::Refuse(reply), usize::MAX);
    }

    /// Lets the server carry out the next `count` of `command`, and answers `reply` in its place.
    pub(crate) fn replace_replies(&self, command: &str, reply: Document, count: usize) {
        self.add(command, Fate::Replace(reply), count);
    }

    /// Lets everything pass again, and passes on what is held.
    pub(crate) fn release(&self) {
        let mut state = self.shared.lock();
        state.rules.clear();
        state.round += 1;
        self.shared.released.notify_all();
    }

    /// Lets everything pass again that comes from now on; what is held stays so.
    pub(crate) fn stop_holding(&self) {
        self.shared.lock().rules.clear();
    }

    /// How many commands and replies are held now.
    pub(crate) fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// The commands that are called `command` and came so far, without the documents that travel beside them.
    pub(crate) fn seen(&self, command: &str) -> Vec<Document> {
        let state = self.shared.lock();
        state.seen.iter().filter(|document| name(document) == Some(command)).cloned().collect()
    }

    fn add(&self, command: &str, fate: Fate, left: usize) {
        self.shared.lock().rules.push(Rule { command: command.to_owned(), fate, left });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of `command`, which has come; nothing where it passes.
    fn judge(&self, command: Document) -> Option<Fate> {
        let mut state = self.lock();
        let name = name(&command).unwrap_or_default().to_owned();
        state.seen.push(command);
        let rule = state.rules.iter_mut().find(|rule| rule.command == name && rule.left > 0)?;
        rule.left -= 1;
        Some(rule.fate.clone())
    }

    fn wait_for_release(&self) {
        let mut state = self.lock();
        let round = state.round;
        state.held += 1;
        while state.round == round {
            state = self.released.wait(state).unwrap();
        }
        state.held -= 1;
    }
}

/// What becomes of replies that are still to come, by the ids of their requests.
type Pending = Arc<Mutex<HashMap<i32, Fate>>>;

/// Passes messages both ways, in a thread each, until a side has ended.
fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let pending = Pending::default();
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    let (mut from, mut to) = (copy(&client), copy(&server));
    let (kept, expected) = (shared.clone(), pending.clone());
    std::thread::spawn(move || {
        let _ = pass_commands(&mut from, &mut to, &kept, &expected);
        end(&from, &to);
    });
    let (mut from, mut to, kept) = (server, client, shared.clone());
    std::thread::spawn(move || {
        let _ = pass_replies(&mut from, &mut to, &kept, &pending);
        end(&from, &to);
    });
}

fn end(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn pass_commands(
    client: &mut TcpStream,
    server: &mut TcpStream,
    shared: &Shared,
    pending: &Pending,
) -> io::Result<()> {
    loop {
        let message = read(client)?;
        let id = number(&message, 4);
        match command(&message).and_then(|command| shared.judge(command)) {
            None => {}
            Some(Fate::Hold) => shared.wait_for_release(),
            Some(Fate::Refuse(answer)) => {
                client.write_all(&reply(id, &answer))?;
                continue;
            }
            Some(fate) => drop(pending.lock().unwrap().insert(id, fate)),
        }
        server.write_all(&message)?;
    }
}

fn pass_replies(
    server: &mut TcpStream,
    client: &mut TcpStream,
    shared: &Shared,
    pending: &Pending,
) -> io::Result<()> {
    loop {
        let message = read(server)?;
        let id = number(&message, 8);
        let fate = pending.lock().unwrap().remove(&id);
        match fate {
            Some(Fate::LoseReply) => return Ok(()),
            Some(Fate::Replace(answer)) => {
                client.write_all(&reply(id, &answer))?;
                continue;
            }
            Some(Fate::HoldReply) => shared.wait_for_release(),
            _ => {}
        }
        client.write_all(&message)?;
    }
}

/// A whole message.
fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    stream.read_exact(&mut message)?;
    message.resize(usize::try_from(number(&message, 0)).unwrap().max(HEADER), 0);
    stream.read_exact(&mut message[HEADER..])?;
    Ok(message)
}

fn number(message: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}

/// The command in `message`, without the documents beside it; nothing for a handshake in the old way.
fn command(message: &[u8]) -> Option<Document> {
    if number(message, 12) != OP_MSG {
        return None;
    }
    // Behind the flags are sections: kind 0 is the command, kind 1 a list of documents.
    let mut rest = &message[HEADER + 4..];
    loop {
        let (kind, section) = rest.split_first()?;
        if *kind == 0 {
            return Document::from_reader(section).ok();
        }
        rest = section.get(usize::try_from(number(section, 0)).ok()?..)?;
    }
}

/// What a command is called: its first key.
fn name(command: &Document) -> Option<&str> {
    command.keys().next().map(String::as_str)
}

/// `answer` to the request `id`.
fn reply(id: i32, answer: &Document) -> Vec<u8> {
    let mut answer = answer.clone();
    answer.entry("ok".to_owned()).or_insert(Bson::Double(1.0));
    let body = answer.to_vec().unwrap();
    let length = i32::try_from(HEADER + 5 + body.len()).unwrap();
    let words = [length, 0, id, OP_MSG, 0].map(i32::to_le_bytes).concat();
    [words, vec![0], body].concat()
}

/// `url` with its only server at `place`, asked directly, and where that server is.
fn redirected(url: &str, place: &str) -> (String, String) {
    let rest = url.strip_prefix("mongodb://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, upstream) = authority
        .rsplit_once('@')
        .map_or((String::new(), authority), |(user, host)| (format!("{user}@"), host));
    let join = if path.contains('?') { '&' } else { '?' };
    (format!("mongodb://{user}{place}/{path}{join}directConnection=true"), upstream.to_owned())
}
