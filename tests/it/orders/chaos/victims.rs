//! The processes and servers that die and hang, and the payment provider.

use std::fs;
use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::stripe::{Answer, Call, STRIPE_KEY, Stripe};
use crate::support::{
    Balancer, Client, Kind as ServerKind, Process, Server, free_port, password_in,
};

/// Between two mishaps, of one process and of many, and how long something hangs, in milliseconds.
const REST: Range<u64> = 100..800;
const LONG_REST: Range<u64> = 400..2_500;
const PAUSE: Range<u64> = 50..1_000;
const ROLES: [&str; 4] = ["product", "user", "order", "gateway"];
const SERVERS: [ServerKind; 4] =
    [ServerKind::Postgres, ServerKind::Mongo, ServerKind::Redis, ServerKind::Rabbit];

/// What the shop is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One process, and its own sandbox for payments.
    Sandbox,
    /// One process, and a payment provider.
    Provider,
    /// Two processes of each role behind balancers, servers, and a payment provider.
    Cluster,
}

impl Kind {
    /// The payment methods; many payments just succeed.
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Sandbox => &["ok", "ok", "ok", "declined", "slow", "lost-answer", "twice"],
            _ => &["pm_ok", "pm_ok", "pm_ok", "pm_declined", "pm_asked"],
        }
    }
}

/// A process at fixed addresses.
struct Member {
    process: Process,
    /// What it is started with, and started again.
    args: Vec<String>,
    environment: Vec<(String, String)>,
}

/// The shop.
pub(super) struct Victims {
    members: Vec<Member>,
    pub(super) servers: Vec<Server>,
    pub(super) provider: Option<Stripe>,
    pub(super) folder: TempDir,
    entrance: String,
}

impl Victims {
    pub(super) async fn start(kind: Kind) -> Self {
        let servers = match kind {
            Kind::Cluster => SERVERS.map(Server::start_own).into(),
            _ => Vec::new(),
        };
        let provider = (kind != Kind::Sandbox).then(Stripe::start);
        let folder = TempDir::new().unwrap();
        let mut victims =
            Self { members: Vec::new(), servers, provider, folder, entrance: String::new() };
        match kind {
            Kind::Cluster => victims.start_cluster().await,
            _ => {
                let member = victims.member(None, &[]);
                victims.entrance = member.process.urls["gateway"].clone();
                victims.members.push(member);
            }
        }
        victims
    }

    async fn start_cluster(&mut self) {
        let mut balancers = Vec::new();
        for role in ROLES {
            balancers.push((role, Balancer::start().await));
        }
        let urls = balancers.iter().filter(|(role, _)| *role != "gateway");
        let urls = urls
            .map(|(role, balancer)| (format!("{}_URL", role.to_uppercase()), balancer.url.clone()));
        let urls = urls.collect::<Vec<_>>();
        for (role, balancer) in &balancers {
            for _ in 0..2 {
                let member = self.member(Some(role), &urls);
                balancer.add(role, &member.process).await;
                self.members.push(member);
            }
            self.entrance = balancer.url.clone();
        }
    }

    /// Starts a process of one role or of all.
    fn member(&self, role: Option<&str>, urls: &[(String, String)]) -> Member {
        let mut environment = urls.to_vec();
        let mut set = |name: &str, value: &str| environment.push((name.into(), value.into()));
        for key in ["LISTEN", "MANAGEMENT"] {
            let role = role.unwrap_or("gateway").to_uppercase();
            set(&format!("APP__{role}__{key}"), &format!("127.0.0.1:{}", free_port()));
        }
        for server in &self.servers {
            set(server.variable(), &server.url());
        }
        if let Some(provider) = &self.provider {
            set("PAYMENTS_URL", &provider.url);
            set("APP__ORDER__PAYMENTS_KEY", STRIPE_KEY);
            set("APP__ORDER__PAYMENTS_TIMEOUT", "1s");
        }
        set("RUST_LOG", "warn,access=off");
        set("APP__ORDER__WEBHOOKS_ALLOW_PRIVATE", "true");
        set("APP__ORDER__WEBHOOKS_TIMEOUT", "1s");
        // Soon after this, what a request has left is finished.
        set("APP__SERVER__REQUEST_TIMEOUT", "3s");
        set("APP__ORDER__PAYMENT_WINDOW", "8s");
        // With breakers that are open for most of the time, nobody would buy anything.
        set("APP__RESILIENCE__BREAKER_PAUSE", "300ms");
        let args = role.map(|role| vec!["--role".to_owned(), role.to_owned()]).unwrap_or_default();
        let process = start(&self.folder, &args, &environment);
        Member { process, args, environment }
    }

    /// A client of the gateway.
    pub(super) fn client(&self) -> Client {
        Client::impatient(self.entrance.clone())
    }

    /// A client of the gateway who may do everything.
    pub(super) async fn admin(&self) -> Client {
        let mut command = Process::command(self.folder.path());
        command.envs(self.servers.iter().map(|server| (server.variable(), server.url())));
        let email = "admin@example.com";
        command.args(["user", "create", "--admin", "--username", "Admin", "--email", email]);
        self.client().signed_in(email, &password_in(&Process::run(command))).await
    }

    /// Checks that no process has met what must not happen, nor refused an event.
    pub(super) fn check_logs(&self) {
        for file in fs::read_dir(self.folder.path()).unwrap() {
            let path = file.unwrap().path();
            let log = if path.is_file() { fs::read_to_string(&path).unwrap() } else { continue };
            let is_bad = |line: &&str| line.contains("panicked") || line.contains("dead letter");
            assert_eq!(log.lines().find(is_bad), None, "{path:?}");
        }
    }

    /// Kills or stops one after the other until `is_over`.
    pub(super) fn suffer(mut self, seed: u64, is_over: &AtomicBool) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let rest = if self.members.len() > 1 { LONG_REST } else { REST };
        while !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(dice.u64(rest.clone())));
            let pause = Duration::from_millis(dice.u64(PAUSE));
            match dice.u8(0..4) {
                0 if !self.servers.is_empty() => self.hurt_server(&mut dice, pause),
                1 if self.provider.is_some() => self.hurt_provider(&mut dice, pause),
                _ => self.hurt_member(&mut dice, pause),
            }
        }
        self
    }

    fn hurt_member(&mut self, dice: &mut fastrand::Rng, pause: Duration) {
        let n = dice.usize(0..self.members.len());
        let member = &mut self.members[n];
        if dice.bool() {
            member.process.signal(Signal::SIGSTOP);
            std::thread::sleep(pause);
            member.process.signal(Signal::SIGCONT);
        } else {
            member.process.signal(Signal::SIGKILL);
            member.process.wait();
            member.process = start(&self.folder, &member.args, &member.environment);
        }
    }

    fn hurt_server(&mut self, dice: &mut fastrand::Rng, pause: Duration) {
        let n = dice.usize(0..self.servers.len());
        let server = &mut self.servers[n];
        if dice.bool() {
            server.signal(Signal::SIGSTOP);
            std::thread::sleep(pause);
            server.signal(Signal::SIGCONT);
        } else {
            server.signal(Signal::SIGKILL);
            server.resume();
        }
    }

    /// It hangs, or does not answer some of the requests to come.
    fn hurt_provider(&self, dice: &mut fastrand::Rng, pause: Duration) {
        let Some(provider) = &self.provider else { return };
        if dice.bool() {
            return provider.hang(pause);
        }
        let calls =
            [Call::Open, Call::Confirm, Call::Confirm, Call::Find, Call::Cancel, Call::Refund];
        let answers = [Answer::Never, Answer::Reset, Answer::Cut, Answer::Failure, Answer::Twice];
        for _ in 0..dice.usize(1..4) {
            let (call, answer) = (*dice.choice(&calls).unwrap(), *dice.choice(&answers).unwrap());
            provider.fail(call, dice.bool(), answer);
        }
    }
}

fn start(folder: &TempDir, args: &[String], environment: &[(String, String)]) -> Process {
    let mut command: Command = Process::command(folder.path());
    command.args(args).envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(folder.path(), command)
}
