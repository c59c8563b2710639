//! The real program, in one process or in four, on ports that are free.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::servers::free_port;
use super::{Client, Kind, Server, block_until, password_in, postgres};

/// A running program; killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    /// `gateway`, `user`, `product`, `order`, `management` and their base URLs, as the program printed them.
    pub(crate) urls: HashMap<String, String>,
    log: PathBuf,
    /// Kept open, so that the program can go on writing.
    out: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// The program in `folder`, where it keeps its data and its log, with every port left to the system.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
        command.current_dir(folder).env_clear().env("LOG_FORMAT", "json");
        // As roles run by themselves would not be, nor with listeners that are not on loopback, nor for other hosts.
        command.env("APP__AUTH__MODE", "open").env("APP__AUTH__OPEN_BEYOND_LOOPBACK", "true");
        for role in ["GATEWAY", "USER", "PRODUCT", "ORDER"] {
            command.env(format!("APP__{role}__LISTEN"), "127.0.0.1:0");
            command.env(format!("APP__{role}__MANAGEMENT"), "127.0.0.1:0");
        }
        command
    }

    /// Starts `command` and waits until it says that it is ready.
    pub(crate) fn start(folder: &Path, command: Command) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = folder.join(format!("log-{number}.json"));
        let stderr = File::create(&log).unwrap();
        Self::logging(command, stderr, log)
    }

    /// The same, whose log goes into a pipe that nobody reads but the test, when it likes.
    pub(crate) fn start_unread(command: Command) -> (Self, PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Self::logging(command, writer, PathBuf::new()), reader)
    }

    fn logging(mut command: Command, stderr: impl Into<Stdio>, log: PathBuf) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(stderr);
        let mut process =
            Self { child: command.spawn().unwrap(), urls: HashMap::new(), log, out: None };
        process.read_addresses();
        process
    }

    fn read_addresses(&mut self) {
        let mut out = BufReader::new(self.child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "ended before it was ready: {}", self.log());
            let words = line.split_whitespace().collect::<Vec<_>>();
            let ready = words[0] == "ready";
            let name = if ready { "management" } else { words[0] };
            if let Some(url) = words.iter().find(|word| word.contains("://")) {
                self.urls.insert(name.to_owned(), (*url).to_owned());
            }
            if ready {
                self.out = Some(out);
                return;
            }
        }
    }

    /// Runs `command` to its end.
    pub(crate) fn run(mut command: Command) -> Output {
        command.stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        Client::new(self.urls[name].clone())
    }

    /// What it says at `/readyz` that it lacks.
    pub(crate) async fn missing(&self) -> Value {
        self.client("management").get("/readyz").await.json()["missing"].clone()
    }

    /// What it says at `/readyz` of `name`, one of its `upstreams` or `peers`.
    pub(crate) async fn callee(&self, kind: &str, name: &str) -> Value {
        let ready = self.client("management").get("/readyz").await.json();
        let callee = ready[kind].as_array().unwrap().iter().find(|callee| callee["name"] == name);
        callee.unwrap_or_else(|| panic!("no {name}: {ready}")).clone()
    }

    /// What it says at `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        self.client("management").get("/metrics").await.text().to_owned()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let (child, log) = (&mut self.child, &self.log);
        let why = || format!("did not end: {}", fs::read_to_string(log).unwrap_or_default());
        block_until(why, || child.try_wait().unwrap().is_some());
        child.wait().unwrap()
    }

    /// The memory that it has, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Lets none of its files grow beyond `bytes` from now on, as a full disk does.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid, &format!("--fsize={soft}:unlimited")]);
        assert!(command.status().unwrap().success(), "{command:?}");
    }

    /// What it has written to standard error so far. A thread of its own writes the log, behind the answers: what grows
    /// is not all there.
    pub(crate) fn log(&self) -> String {
        let start = Instant::now();
        let mut log = fs::read_to_string(&self.log).unwrap();
        loop {
            std::thread::sleep(Duration::from_millis(30));
            let more = fs::read_to_string(&self.log).unwrap();
            if more.len() == log.len() || start.elapsed() > Duration::from_secs(1) {
                return more;
            }
            log = more;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the roles are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    OneProcess,
    OneProcessARole,
}

/// What PostgreSQL knows of tables before a rush fills them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Statistics {
    /// Nothing.
    Unknown,
    /// That they had a few rows.
    NearlyEmpty,
}

/// What the roles keep their data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Files and memory.
    Embedded,
    /// PostgreSQL, MongoDB and Redis.
    Polyglot,
    /// PostgreSQL behind PgBouncer, which gives each transaction another session.
    Pooled,
}

impl Storage {
    /// The servers that it takes; those of a test that stops them must be its own.
    pub(crate) fn servers(self) -> Vec<Server> {
        match self {
            Self::Embedded => Vec::new(),
            Self::Pooled => vec![Server::start_pooled()],
            Self::Polyglot => [Kind::Postgres, Kind::Mongo, Kind::Redis].map(Server::start).into(),
        }
    }
}

/// A shop with data of its own.
pub(crate) struct Shop {
    processes: Vec<Process>,
    pub(crate) folder: TempDir,
    pub(crate) topology: Topology,
    /// Its servers; they end after its processes.
    pub(crate) servers: Vec<Server>,
}

impl Shop {
    /// An empty shop on embedded storage.
    pub(crate) fn start(topology: Topology) -> Self {
        Self::start_with(topology, &[])
    }

    /// An empty shop on embedded storage with `environment` set for each process.
    pub(crate) fn start_with(topology: Topology, environment: &[(&str, &str)]) -> Self {
        Self::start_on(topology, Vec::new(), environment)
    }

    /// An empty shop on `servers`, and embedded where there is none for the purpose.
    pub(crate) fn start_on(
        topology: Topology,
        servers: Vec<Server>,
        environment: &[(&str, &str)],
    ) -> Self {
        let urls =
            servers.iter().map(|server| (server.variable(), server.url())).collect::<Vec<_>>();
        let urls = urls.iter().map(|(name, url)| (*name, url.as_str()));
        let environment = urls.chain(environment.iter().copied()).collect::<Vec<_>>();
        let folder = TempDir::new().unwrap();
        let mut shop = Self { processes: Vec::new(), folder, topology, servers };
        match topology {
            Topology::OneProcess => shop.add(&[], &environment),
            Topology::OneProcessARole => {
                // Each asks one that starts later: it is told where that will be.
                let user = format!("127.0.0.1:{}", free_port());
                let url = format!("http://{user}");
                let known = [("APP__USER__LISTEN", user.as_str()), ("USER_URL", url.as_str())];
                let environment = known.into_iter().chain(environment).collect::<Vec<_>>();
                for role in ["product", "order", "user", "gateway"] {
                    shop.add(&["--role", role], &environment);
                }
            }
        }
        shop
    }

    /// The server of `kind`.
    pub(crate) fn server(&mut self, kind: Kind) -> &mut Server {
        let found = self.servers.iter_mut().find(|server| server.kind() == kind);
        found.unwrap_or_else(|| panic!("no {kind:?}"))
    }

    /// Starts another process of the shop, which finds those before.
    pub(crate) fn add(&mut self, args: &[&str], environment: &[(&str, &str)]) {
        let mut command = Process::command(self.folder.path());
        command.args(args).envs(environment.iter().copied());
        for process in &self.processes {
            let names = [("user", "USER_URL"), ("product", "PRODUCT_URL"), ("order", "ORDER_URL")];
            for (role, name) in names {
                if let Some(url) = process.urls.get(role) {
                    command.env(name, url);
                }
            }
        }
        self.processes.push(Process::start(self.folder.path(), command));
    }

    /// A client of `role` itself.
    pub(crate) fn client(&self, role: &str) -> Client {
        self.process(role).client(role)
    }

    /// The process that answers for `role` under an address of its own.
    pub(crate) fn process(&self, role: &str) -> &Process {
        let found = self.processes.iter().find(|process| process.urls.contains_key(role));
        found.unwrap_or_else(|| panic!("{role} has no address"))
    }

    /// A client of the gateway, as everybody has.
    pub(crate) fn gateway(&self) -> Client {
        self.client("gateway")
    }

    /// Runs a command of the program on the shop's stores.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Process::command(self.folder.path());
        for server in &self.servers {
            command.env(server.variable(), server.url());
        }
        command.args(args);
        Process::run(command)
    }

    /// What the store of `role`, a file or PostgreSQL, prints for a statement.
    pub(crate) fn query(&self, role: &str, sql: &str) -> String {
        let server = self.servers.iter().find(|server| server.kind() == Kind::Postgres);
        let mut command = match server {
            Some(server) => {
                let mut command = Command::new(postgres("psql"));
                command.args(["-qAt", "-d", &server.plain_url(), "-c"]);
                command
            }
            None => {
                let mut command = Command::new("sqlite3");
                let file = self.folder.path().join(format!("data/{role}.db"));
                command.args(["-cmd", ".timeout 5000"]).arg(file);
                command
            }
        };
        let output = command.arg(sql).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Lets PostgreSQL learn what it is to know of its tables.
    pub(crate) fn take(&self, statistics: Statistics) {
        if let Statistics::NearlyEmpty = statistics {
            self.query("order", "ANALYZE");
        }
    }

    /// Forgets what statements on PostgreSQL have read so far.
    pub(crate) fn forget_reads(&self) {
        self.query("order", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
        self.query("order", "SELECT pg_stat_statements_reset()");
    }

    /// The statements on PostgreSQL that have read more than `most` pages each, on average, since it was told to forget:
    /// their pages and text.
    pub(crate) fn reads_above(&self, most: usize) -> String {
        let pages = "(shared_blks_hit + shared_blks_read) / calls";
        let of_shop = "query !~ 'pg_stat_statements|generate_series' AND calls > 0";
        self.query(
            "order",
            &format!(
                "SELECT {pages}, query FROM pg_stat_statements WHERE {of_shop} AND {pages} > {most}"
            ),
        )
    }

    /// A client of the gateway who may do everything.
    pub(crate) async fn admin(&self) -> Client {
        let (email, password) = self.admin_account();
        self.gateway().signed_in(&email, &password).await
    }

    /// The e-mail address and the password of a new admin.
    pub(crate) fn admin_account(&self) -> (String, String) {
        let email = format!("{}@example.com", uuid::Uuid::now_v7().simple());
        let output =
            self.run(&["user", "create", "--admin", "--username", "Root", "--email", &email]);
        (email, password_in(&output))
    }

    /// Ends the process that answers for `role` at once.
    pub(crate) fn kill(&mut self, role: &str) {
        self.processes.retain(|process| !process.urls.contains_key(role));
    }
}
