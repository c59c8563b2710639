//! Runs a page: its `console` and `sh` blocks, in order, in one shell in a folder of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use regex::{Captures, Regex};
use tempfile::TempDir;

use super::page::{Block, Page};
use crate::support::{Kind, Server, free_port};

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The ports that pages name; each gets a free one in its place.
const PORTS: [&str; 9] = ["8000", "9000", "3001", "9001", "3002", "9002", "3003", "9003", "4000"];
/// The settings that say where roles listen, beside the ports above.
const LISTEN: [&str; 8] = [
    "APP__GATEWAY__LISTEN",
    "APP__GATEWAY__MANAGEMENT",
    "APP__USER__LISTEN",
    "APP__USER__MANAGEMENT",
    "APP__PRODUCT__LISTEN",
    "APP__PRODUCT__MANAGEMENT",
    "APP__ORDER__LISTEN",
    "APP__ORDER__MANAGEMENT",
];
/// The URLs of servers that pages name; each leads to a server of its own in their place.
const SERVERS: [(&str, Kind); 3] = [
    ("postgres://shop:secret@db/shop", Kind::Postgres),
    ("mongodb://docs/shop", Kind::Mongo),
    ("redis://cache", Kind::Redis),
];
/// The pages that are typed beside a shop that runs already, as `make run` leaves one.
const BESIDE_A_SHOP: [&str; 2] = ["README.md", "deploy/README.md"];
const START: &str =
    "app >shop.log 2>&1 &\nuntil app healthcheck >/dev/null 2>&1; do sleep 0.1; done\n";
/// What no two runs have in common.
const CHANGING: [&str; 9] = [
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
    r"(?m)^\d\d:\d\d:\d\d\.\d{3}",
    r"\b[0-9a-f]{24,32}\b",
    r"\d+ ms",
    r"content-length: \d+",
    r"retry-after: \d+",
    r"\bt=\d+",
];

/// What is typed, and what should come of it.
struct Step {
    line: usize,
    input: String,
    /// Nothing where only the exit status counts.
    output: Option<String>,
}

/// Runs `page`; what went another way than it says.
pub(super) fn run(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    let steps = blocks.iter().flat_map(steps).collect::<Vec<_>>();
    if steps.is_empty() {
        return Vec::new();
    }
    let folder = TempDir::new().unwrap();
    let ports = PORTS.map(|port| (port, free_port().to_string()));
    let named = |(url, _): &&(&str, Kind)| steps.iter().any(|step| step.input.contains(url));
    let servers = SERVERS.iter().filter(named).map(|(url, kind)| (*url, Server::start(*kind)));
    let servers = servers.collect::<Vec<_>>();
    let mut script = "exec 2>&1\n".to_owned();
    if BESIDE_A_SHOP.contains(&page.path.as_str()) {
        script += START;
    }
    for step in &steps {
        // Behind what a block says, a line that no program prints.
        let input = match step.output {
            Some(_) => step.input.clone(),
            None => format!("set -e\n{}set +e\n", step.input),
        };
        script += &format!("printf '\\1'\n{input}");
    }
    for (url, server) in &servers {
        script = script.replace(url, &server.url());
    }
    for (port, free) in &ports {
        let port = Regex::new(&format!(r"\b{port}\b")).unwrap();
        script = port.replace_all(&script, free).into_owned();
    }
    script += "printf '\\1'\n";
    let mut printed = execute(folder.path(), &script, &ports);
    for (port, free) in &ports {
        printed = printed.replace(free, port);
    }
    judge(page, &steps, &printed)
}

fn judge(page: &Page, steps: &[Step], printed: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut parts = printed.split('\u{1}').skip(1).peekable();
    for step in steps {
        let part = parts.next().unwrap_or_default();
        let what = format!("{}, line {}: {}", page.path, step.line, step.input.trim_end());
        if parts.peek().is_none() {
            problems.push(format!(
                "{what}\nthe shell ended, or took too long; it had printed:\n{part}"
            ));
            break;
        }
        if let Some(output) = step.output.as_ref().filter(|output| !matches(output, part)) {
            problems.push(format!("{what}\nprinted:\n{part}\nand not:\n{output}"));
        }
    }
    problems
}

/// The steps of a block; none where it is not for the shell of this machine.
fn steps(block: &Block) -> Vec<Step> {
    match block.kind.as_str() {
        "console" => transcript(block),
        "sh" => vec![Step { line: block.line, input: block.text.clone(), output: None }],
        _ => Vec::new(),
    }
}

/// What stands behind `$ `, with what continues it, and what follows.
fn transcript(block: &Block) -> Vec<Step> {
    let heredoc = Regex::new(r"<<'(\w+)'").unwrap();
    let mut steps = Vec::<Step>::new();
    // Whether the command goes on, and the line that ends what it reads.
    let (mut open, mut end) = (false, None::<String>);
    for (at, text) in block.text.lines().enumerate() {
        let command = text.strip_prefix("$ ").filter(|_| !open);
        if command.is_some() {
            let (line, output) = (block.line + 1 + at, Some(String::new()));
            steps.push(Step { line, input: String::new(), output });
        }
        let step = steps.last_mut().unwrap_or_else(|| panic!("line {}: no command", block.line));
        if !open && command.is_none() {
            step.output.iter_mut().for_each(|output| *output += &format!("{text}\n"));
            continue;
        }
        step.input += &format!("{}\n", command.unwrap_or(text));
        if end.as_deref() == Some(text) {
            (open, end) = (false, None);
        } else if end.is_none() {
            end = heredoc.captures(text).map(|found| found[1].to_owned());
            open = end.is_some() || text.ends_with('\\');
        }
    }
    steps
}

/// Whether `printed` is what `expected` says, but for what changes; `…` is anything, and on a line of its own any lines.
fn matches(expected: &str, printed: &str) -> bool {
    let [expected, printed] = [expected, printed].map(unchanging);
    let pattern = regex::escape(&format!("\n{expected}"));
    let pattern = pattern.replace("\n…", "(?s:.*)").replace('…', ".*");
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(&format!("\n{printed}"))
}

/// `text` without what no two runs have in common; headers have no order.
fn unchanging(text: &str) -> String {
    let text = text.trim_end().replace('\r', "") + "\n";
    let headers = Regex::new(r"(?m)(^[a-z-]+: .*\n)+").unwrap();
    let sorted = |found: &Captures<'_>| {
        let mut lines = found[0].lines().collect::<Vec<_>>();
        lines.sort_unstable();
        lines.join("\n") + "\n"
    };
    let text = headers.replace_all(&text, sorted);
    let text = CHANGING.iter().fold(text.into_owned(), |text, pattern| {
        Regex::new(pattern).unwrap().replace_all(&text, "~").into_owned()
    });
    text.trim_end().to_owned()
}

/// What `script` prints. All that it has started ends with it.
fn execute(folder: &Path, script: &str, ports: &[(&str, String)]) -> String {
    let app = Path::new(env!("CARGO_BIN_EXE_app")).parent().unwrap().to_str().unwrap();
    let inherited = |name: &str| std::env::var(name).unwrap_or_default();
    let (path, output) = (format!("{app}:{}", inherited("PATH")), folder.join(".output"));
    fs::write(folder.join(".script"), script).unwrap();
    let out = File::create(&output).unwrap();
    let mut command = Command::new("bash");
    command.args(["--norc", ".script"]).current_dir(folder).env_clear();
    command.env("PATH", path).env("HOME", inherited("HOME")).env("LC_ALL", "C.UTF-8");
    for (name, (_, port)) in LISTEN.iter().zip(ports) {
        command.env(name, format!("127.0.0.1:{port}"));
    }
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(out).process_group(0);
    let mut shell = command.spawn().unwrap();
    let started = Instant::now();
    while shell.try_wait().unwrap().is_none() && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    // The group is there as long as something of it runs.
    let _ = killpg(Pid::from_raw(shell.id().cast_signed()), Signal::SIGKILL);
    shell.wait().unwrap();
    String::from_utf8_lossy(&fs::read(output).unwrap()).into_owned()
}
