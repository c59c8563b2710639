//! Real servers for a test of its own, on free loopback ports, gone with it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use super::{PATIENCE, block_until, block_within};

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mongo,
    Redis,
    /// localstripe.
    Stripe,
    Rabbit,
    /// Rotel, a collector of traces.
    Rotel,
}

/// Names a MongoDB server that is there already, for tests that need not stop it.
const MONGODB: &str = "APP_TEST_MONGODB_URL";

/// A running server. It can be stopped, killed and started again, and keeps port and data.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    data: TempDir,
    child: Option<Child>,
    /// PgBouncer in front of it, or the port mapper that RabbitMQ asks, and its port.
    helper: Option<(Child, u16)>,
    /// The port at which a RabbitMQ listens for other nodes, and its commands, or a Rotel for gRPC.
    nodes_port: u16,
    /// Whether it is a Redis Cluster.
    clustered: bool,
    /// Whether it is a Redis or a RabbitMQ that speaks TLS alone, with the files `tls.crt` and `tls.key` of its folder.
    secured: bool,
    /// The URL of a database on a server that is not this test's.
    lent: Option<String>,
}

impl Server {
    /// Starts a server and waits until it takes connections; or borrows a database of its own on the one
    /// that the environment names.
    pub(crate) fn start(kind: Kind) -> Self {
        let mut server = Self::absent(kind);
        match std::env::var(MONGODB).ok().filter(|_| kind == Kind::Mongo) {
            Some(url) => server.lent = Some(database_of_its_own(&url, server.port)),
            None => server.resume(),
        }
        server
    }

    /// Starts a server that the test may stop.
    pub(crate) fn start_own(kind: Kind) -> Self {
        let mut server = Self::absent(kind);
        server.resume();
        server
    }

    /// Starts PostgreSQL behind PgBouncer in transaction mode, with two sessions for all.
    pub(crate) fn start_pooled() -> Self {
        let (mut server, port) = (Self::start_own(Kind::Postgres), free_port());
        let settings = server.data.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=shop\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 200\n",
            server.port
        );
        fs::write(&settings, text).unwrap();
        server.own_by_postgres();
        let program = ["/usr/sbin/pgbouncer", "pgbouncer"].map(Path::new);
        let program = program.into_iter().find(|path| path.exists()).unwrap_or(program[1]);
        let mut command = unprivileged(program, "postgres");
        let log = File::create(server.data.path().join("pgbouncer.log")).unwrap();
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        server.helper = Some((child, port));
        let log = server.data.path().join("pgbouncer.log");
        let why = || format!("PgBouncer did not start: {:?}", fs::read_to_string(&log));
        block_until(why, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// Starts a Redis Cluster of one server, which has all slots or, as after a failure, none.
    pub(crate) fn start_cluster(has_slots: bool) -> Self {
        let mut server = Self::absent(Kind::Redis);
        server.clustered = true;
        server.resume();
        if has_slots {
            assert_eq!(server.redis(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).trim(), "OK");
            let info = || server.redis(&["CLUSTER", "INFO"]);
            block_until(info, || info().contains("cluster_state:ok"));
        }
        server
    }

    /// Starts PostgreSQL with a certificate and its key, both PEM.
    pub(crate) fn start_postgres_with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::absent(Kind::Postgres);
        let folder = server.data.path().join("pg");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            fs::write(folder.join(name), text).unwrap();
            run(Command::new("chmod").arg("600").arg(folder.join(name)));
        }
        let settings = folder.join("postgresql.conf");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, format!("{text}\nssl = on\n")).unwrap();
        server.own_by_postgres();
        server.resume();
        server
    }

    /// Starts a Redis that speaks TLS alone, with a certificate and its key, both PEM.
    pub(crate) fn start_redis_with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::with_certificate(Kind::Redis, certificate, key);
        server.resume();
        server
    }

    /// Starts a RabbitMQ that speaks TLS alone, with a certificate and its key, both PEM.
    pub(crate) fn start_rabbit_with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::with_certificate(Kind::Rabbit, certificate, key);
        let data = server.data.path();
        let settings = format!(
            "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{}\nssl_options.cacertfile = {data}/tls.crt\n\
             ssl_options.certfile = {data}/tls.crt\nssl_options.keyfile = {data}/tls.key\n",
            server.port,
            data = data.display()
        );
        fs::write(data.join("config_file.conf"), settings).unwrap();
        server.own_by("rabbitmq");
        server.resume();
        server
    }

    fn with_certificate(kind: Kind, certificate: &str, key: &str) -> Self {
        let mut server = Self::absent(kind);
        server.secured = true;
        for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
            fs::write(server.data.path().join(name), text).unwrap();
        }
        server
    }

    /// One that is not there yet: [`Server::resume`] starts it.
    pub(crate) fn absent(kind: Kind) -> Self {
        let data = tempfile::Builder::new().prefix("shop-test-").tempdir().unwrap();
        let child = None;
        let (helper, clustered, secured) = (None, false, false);
        let port = free_port();
        let mut server = Self {
            kind,
            port,
            data,
            child,
            helper,
            nodes_port: free_port(),
            clustered,
            secured,
            lent: None,
        };
        server.prepare();
        server
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// How PostgreSQL's own programs are told of it, which do not know all that the shop may be told.
    pub(crate) fn plain_url(&self) -> String {
        self.url().replace("&prepared_statements=false", "")
    }

    /// How the program is told of it.
    pub(crate) fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            _ if self.lent.is_some() => self.lent.clone().unwrap_or_default(),
            Kind::Postgres if self.helper.is_some() => {
                let port = self.helper.as_ref().map_or(0, |(_, port)| *port);
                let options = "sslmode=disable&prepared_statements=false";
                format!("postgres://shop@127.0.0.1:{port}/postgres?{options}")
            }
            Kind::Postgres => format!("postgres://shop@127.0.0.1:{port}/postgres?sslmode=disable"),
            Kind::Mongo => format!("mongodb://127.0.0.1:{port}/shop"),
            Kind::Redis if self.secured => format!("rediss://localhost:{port}"),
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
            Kind::Stripe | Kind::Rotel => format!("http://127.0.0.1:{port}"),
            Kind::Rabbit if self.secured => format!("amqps://localhost:{port}"),
            Kind::Rabbit => format!("amqp://127.0.0.1:{port}"),
        }
    }

    /// The environment name of its URL.
    pub(crate) fn variable(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "DATABASE_URL",
            Kind::Mongo => "MONGODB_URL",
            Kind::Redis => "REDIS_URL",
            Kind::Stripe => "PAYMENTS_URL",
            Kind::Rabbit => "AMQP_URL",
            Kind::Rotel => "OTEL_EXPORTER_OTLP_ENDPOINT",
        }
    }

    /// Lets it hang without an answer (SIGSTOP), go on (SIGCONT), or ends it at once (SIGKILL).
    pub(crate) fn signal(&mut self, signal: Signal) {
        let child = self.child.as_mut().unwrap();
        let pid = child.id().cast_signed();
        // PostgreSQL has a process for each connection, and each of them is a group of its own.
        let children = children(pid);
        kill(Pid::from_raw(pid), signal).unwrap();
        for child in children {
            // One that has ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(child), signal);
        }
        if signal == Signal::SIGKILL {
            child.wait().unwrap();
            self.child = None;
        }
    }

    /// Sends `signal` to the processes of PostgreSQL that serve the connections which are open now.
    pub(crate) fn signal_backends(&self, signal: Signal) {
        assert_eq!(self.kind, Kind::Postgres);
        let pid = self.child.as_ref().unwrap().id().cast_signed();
        let serves = |child: &i32| {
            fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap().contains("127.0.0.1")
        };
        for child in children(pid).into_iter().filter(serves) {
            kill(Pid::from_raw(child), signal).unwrap();
        }
    }

    /// Starts it again on its port and data.
    pub(crate) fn resume(&mut self) {
        let mut command = self.command();
        let log = File::create(self.data.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        // Erlang is slow to start on a machine that has other work.
        let limit = if self.kind == Kind::Rabbit { 3 * PATIENCE } else { PATIENCE };
        let why = || format!("{:?} did not start: {}", self.kind, self.log());
        block_within(limit, why, || self.answers());
    }

    /// What it has written to its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.path().join("log")).unwrap()
    }

    /// Runs a command of Redis and gives what redis-cli prints.
    pub(crate) fn redis(&self, command: &[&str]) -> String {
        assert_eq!(self.kind, Kind::Redis);
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many connections a Redis has taken so far, this question's own among them.
    pub(crate) fn connections(&self) -> usize {
        let stats = self.redis(&["INFO", "stats"]);
        let taken = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        taken.unwrap().trim().parse().unwrap()
    }

    /// Runs a command of RabbitMQ and gives what rabbitmqctl prints.
    pub(crate) fn rabbit(&self, command: &[&str]) -> String {
        assert_eq!(self.kind, Kind::Rabbit);
        let output = self.of_rabbit("rabbitmqctl").arg("-q").args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A program of RabbitMQ, told of this server's node.
    fn of_rabbit(&self, program: &str) -> Command {
        let (data, port) = (self.data.path(), self.port.to_string());
        let mapper = self.helper.as_ref().map_or(0, |(_, port)| *port).to_string();
        let mut command =
            unprivileged(&Path::new("/usr/lib/rabbitmq/bin").join(program), "rabbitmq");
        command.current_dir(data).env("HOME", data);
        for name in ["MNESIA_BASE", "LOG_BASE", "ENABLED_PLUGINS_FILE", "CONFIG_FILE"] {
            command.env(format!("RABBITMQ_{name}"), data.join(name.to_lowercase()));
        }
        command.env("RABBITMQ_NODENAME", format!("shop-test-{port}@localhost"));
        command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null").env("RABBITMQ_LOGS", "-");
        if !self.secured {
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1").env("RABBITMQ_NODE_PORT", &port);
        }
        command.env("RABBITMQ_DIST_PORT", self.nodes_port.to_string());
        command.env("ERL_EPMD_PORT", &mapper).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        // Its shell script becomes the server.
        command.env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }

    fn answers(&self) -> bool {
        let open = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        match self.kind {
            Kind::Postgres if open => {
                let port = self.port.to_string();
                let ready = postgres("pg_isready");
                Command::new(ready)
                    .args(["-q", "-h", "127.0.0.1", "-p", &port])
                    .status()
                    .unwrap()
                    .success()
            }
            _ => open,
        }
    }

    fn prepare(&mut self) {
        if self.kind == Kind::Rabbit {
            fs::write(self.data.path().join("enabled_plugins_file"), "[].").unwrap();
            let port = free_port();
            let mut command = guarded("epmd");
            command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.helper = Some((command.spawn().unwrap(), port));
            block_until(
                || "epmd did not start".into(),
                || TcpStream::connect(("127.0.0.1", port)).is_ok(),
            );
            self.own_by("rabbitmq");
        }
        if self.kind == Kind::Postgres {
            let template = template();
            let data = self.data.path();
            let copy = format!(
                "cp -r {}/. {}/pg && chmod 700 {}/pg",
                template.display(),
                data.display(),
                data.display()
            );
            run(Command::new("sh").args(["-c", &copy]));
            self.own_by_postgres();
        }
    }

    fn own_by_postgres(&self) {
        self.own_by("postgres");
    }

    fn own_by(&self, user: &str) {
        if geteuid().is_root() {
            run(Command::new("chown").args(["-R", user]).arg(self.data.path()));
        }
    }

    fn command(&self) -> Command {
        let (port, data) = (self.port.to_string(), self.data.path());
        match self.kind {
            Kind::Postgres => {
                let mut command = unprivileged(&postgres("postgres"), "postgres");
                command.arg("-D").arg(data.join("pg")).args([
                    "-p",
                    &port,
                    "-h",
                    "127.0.0.1",
                    "-k",
                    "",
                ]);
                // A process that is killed loses nothing without fsync either, and the disk is spared.
                command.args(["-c", "fsync=off"]);
                // Counts what statements read.
                command.args(["-c", "shared_preload_libraries=pg_stat_statements"]);
                command
            }
            Kind::Rabbit => self.of_rabbit("rabbitmq-server"),
            Kind::Redis => {
                let mut command = guarded("redis-server");
                let plain = if self.secured { "0" } else { &port };
                command.args(["--port", plain]);
                if self.secured {
                    command.args(["--tls-port", &port]);
                }
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                command.arg("--dir").arg(data);
                if self.clustered {
                    command.args(["--cluster-enabled", "yes"]);
                }
                if self.secured {
                    let files = ["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"];
                    command.args(files).args(["--tls-ca-cert-file", "tls.crt"]);
                    command.args(["--tls-auth-clients", "no"]).current_dir(data);
                }
                command
            }
            Kind::Mongo if mongod().is_some() => {
                let mut command = guarded("mongod");
                command.args(["--bind_ip", "127.0.0.1", "--port", &port, "--dbpath"]).arg(data);
                command
            }
            Kind::Stripe => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let python = root.join("target/localstripe/bin/python");
                assert!(python.exists(), "no localstripe: run make test, which installs it");
                let mut command = guarded(python.to_str().unwrap());
                command.arg("-B").arg(root.join("tests/it/support/stripe.py")).arg(&port);
                command
            }
            Kind::Rotel => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let program = root.join("target/rotel/bin/rotel-agent");
                assert!(program.exists(), "no collector: run make test, which installs one");
                let mut command = guarded(program.to_str().unwrap());
                // What it gets goes to its log.
                command.args([
                    "start",
                    "--debug-log",
                    "traces",
                    "--debug-log-verbosity",
                    "detailed",
                ]);
                command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")]);
                command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", self.nodes_port)]);
                // It passes nothing on.
                command.args(["--exporter", "blackhole"]);
                command.arg("--pid-file").arg(data.join("pid")).env_clear();
                command
            }
            Kind::Mongo => {
                let program =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/secantus/bin/secantusd-py");
                assert!(program.exists(), "no MongoDB server: run make test, which installs one");
                let mut command = guarded(program.to_str().unwrap());
                command
                    .args(["--host", "127.0.0.1", "--port", &port, "--storage-path"])
                    .arg(data.join("db"));
                command
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal(Signal::SIGKILL);
        }
        if let Some((mut helper, _)) = self.helper.take() {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        if let Some(url) = self.lent.take() {
            let dropping =
                std::thread::spawn(|| actix_rt::System::new().block_on(drop_database(url)));
            let _ = dropping.join();
        }
    }
}

/// The processes that `pid` has started.
fn children(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.unwrap_or_default().split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// `url` with a database that no other test has.
fn database_of_its_own(url: &str, port: u16) -> String {
    let name = format!("shop_test_{}_{port}", std::process::id());
    let (scheme, rest) = url.split_once("://").unwrap();
    let (place, options) = rest
        .split_once('?')
        .map_or((rest, String::new()), |(place, rest)| (place, format!("?{rest}")));
    let hosts = place.split('/').next().unwrap();
    format!("{scheme}://{hosts}/{name}{options}")
}

async fn drop_database(url: String) {
    if let Ok(client) = mongodb::Client::with_uri_str(url).await
        && let Some(database) = client.default_database()
    {
        let _ = database.drop().await;
    }
}

/// A port that nobody listens at, that the system gives to nobody who asks for any, and that no other test is given until
/// this one's process has ended.
pub(crate) fn free_port() -> u16 {
    loop {
        let [high, low, ..] = uuid::Uuid::new_v4().into_bytes();
        let port = 12_000 + u16::from_be_bytes([high, low]) % 20_000;
        // What is not listened at yet, or for a while, is still taken: this name is the process's, and has no file.
        let name = SocketAddr::from_abstract_name(format!("port {port} of a test of the shop"));
        let taken = match UnixListener::bind_addr(&name.unwrap()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            taken => taken.unwrap(),
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            std::mem::forget(taken);
            return port;
        }
    }
}

/// Runs `command`, which must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A command that ends with this test, whatever ends the test.
fn guarded(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// The same, as a user who is not root, if this one is: PostgreSQL insists.
fn unprivileged(program: &Path, user: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if geteuid().is_root() {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg(program);
    command
}

fn mongod() -> Option<()> {
    Command::new("mongod").arg("--version").output().is_ok().then_some(())
}

/// A program of PostgreSQL, which Debian keeps out of PATH.
pub(crate) fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found =
        versions.map(|version| version.path().join("bin").join(program)).collect::<Vec<_>>();
    found.sort();
    found.into_iter().rfind(|path| path.exists()).unwrap_or_else(|| program.into())
}

/// An empty cluster, made once and copied from then on.
fn template() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("shop-test-postgres-{}", geteuid()));
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.join("PG_VERSION").exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        if geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let mut initdb = unprivileged(&postgres("initdb"), "postgres");
        run(initdb.arg("-D").arg(&folder).args([
            "-U",
            "shop",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]));
    }
    folder
}
