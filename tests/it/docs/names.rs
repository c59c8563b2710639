//! What pages name and no test can run here: it must be there all the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use app::cli::Cli;
use clap::Parser as _;
use regex::Regex;
use serde_json::Value;

use super::page::{Block, Page, ROOT};
use super::shell;

/// The kinds of blocks: a picture, what the shell of this machine runs, and what takes more than that.
const KINDS: [&str; 6] = ["", "console", "sh", "sh make", "sh containers", "sh cluster"];
/// What blocks that are not run may call beside what is looked at below.
const PROGRAMS: [&str; 15] = [
    "podman",
    "docker",
    "podman-compose",
    "kind",
    "sed",
    "umask",
    "cd",
    "sqlite3",
    "cp",
    "tar",
    "mkdir",
    "openssl",
    "date",
    "export",
    "kubectl",
];
/// Words that stand for one of the reader's, and one that will do.
const PLACEHOLDERS: [(&str, &str); 4] =
    [("N", "1"), ("SHELL", "bash"), ("ROLE", "user"), ("WHAT", "orders")];

/// What clap says to a command without all of its arguments.
const MISSING: &str = "required arguments were not provided";

static SPAN: LazyLock<Regex> = LazyLock::new(|| Regex::new("`([^`\n]+)`").unwrap());
static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^):#]+)(?:#[^)]*)?\)").unwrap());
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^((src|tests|config|deploy|migrations)/[\w./*-]*|[\w./-]+/[\w-]+\.(rs|py|yaml|toml|lua|js))$").unwrap()
});
static ROUTE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(GET|POST|PUT|PATCH|DELETE) (/[^ ?]*)(\?.*)?$").unwrap());

/// The method and the path of every route of an OpenAPI document, as in `GET /products/{id}`.
pub(super) fn routes(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        methods
            .as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.filter(|route| ROUTE.is_match(route)).collect()
}

/// The routes that have a row in a table of `page`.
pub(super) fn rows(page: &Page) -> BTreeSet<String> {
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.filter_map(route).collect()
}

fn route(span: &str) -> Option<String> {
    ROUTE.captures(span).map(|found| format!("{} {}", &found[1], &found[2]))
}

/// What `page` names that is not there.
pub(super) fn problems(page: &Page, routes: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |place: String, problem: Result<(), String>| {
        found.extend(problem.err().map(|problem| format!("{}, {place}: {problem}", page.path)));
    };
    for block in page.blocks() {
        let place = format!("line {}", block.line);
        if !KINDS.contains(&block.kind.as_str()) {
            note(place, Err(format!("no such kind of block: {}", block.kind)));
        } else if block.kind.starts_with("sh ") {
            note(place, check_block(&block, routes));
        }
    }
    let prose = page.prose();
    for link in LINK.captures_iter(&prose) {
        note("link".to_owned(), there(&page.folder(), &link[1]));
    }
    for span in SPAN.captures_iter(&prose) {
        note(format!("`{}`", &span[1]), check_span(&span[1], page, routes));
    }
    found
}

/// A command in the middle of a sentence, a file of the repository, or a route.
fn check_span(span: &str, page: &Page, routes: &BTreeSet<String>) -> Result<(), String> {
    if span.starts_with("app ") || span.starts_with("make ") {
        let plain = span.replace(['[', ']'], "");
        let commands = shell::commands(&plain);
        return commands.iter().try_for_each(|words| match check(words, &ROOT, routes) {
            // A sentence may name a command without what it takes.
            Err(problem) if problem.contains(MISSING) => Ok(()),
            outcome => outcome,
        });
    }
    if FILE.is_match(span) && span != "deploy/.env" {
        return there(&page.folder(), span).or_else(|_| there(&ROOT, span));
    }
    match route(span).filter(|route| !route.contains('…')) {
        Some(route) if !routes.contains(&route) && !is_management(&route) => {
            Err(format!("no route {route}"))
        }
        _ => Ok(()),
    }
}

fn is_management(route: &str) -> bool {
    const ROUTES: [&str; 12] = [
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "GET /version",
        "GET /log/filter",
        "PUT /log/filter",
        "DELETE /log/filter",
        "GET /debug/profile",
        "GET /debug/heap",
        "GET /ops",
        "GET /ops/state",
        "GET /ops/requests/{id}",
    ];
    ROUTES.contains(&route)
}

/// `path` from `folder`, where a `*` is any text.
fn there(folder: &Path, path: &str) -> Result<(), String> {
    let mut found = vec![folder.to_owned()];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let next = |folder: PathBuf| -> Vec<PathBuf> {
            let Some((before, behind)) = part.split_once('*') else {
                return vec![folder.join(part)];
            };
            let entries =
                fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let fits = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with(before) && name.ends_with(behind)
            };
            entries.filter(fits).collect()
        };
        found = found.into_iter().flat_map(next).collect();
    }
    if found.iter().any(|path| path.exists()) { Ok(()) } else { Err(format!("no {path}")) }
}

fn check_block(block: &Block, routes: &BTreeSet<String>) -> Result<(), String> {
    let parsed = Command::new("bash").args(["-n", "-c", &block.text]).output().unwrap();
    if !parsed.status.success() {
        return Err(String::from_utf8_lossy(&parsed.stderr).into_owned());
    }
    let mut folder = ROOT.to_path_buf();
    for words in shell::commands(&block.text) {
        let in_folder = folder.strip_prefix(*ROOT).unwrap().to_owned();
        check(&words, &folder, routes).map_err(|problem| match problem.strip_prefix("no ") {
            Some(file) if !in_folder.as_os_str().is_empty() => {
                format!("no {}/{file}", in_folder.display())
            }
            _ => problem,
        })?;
        if let [program, to] = &words[..]
            && program == "cd"
        {
            folder.push(to);
        }
    }
    Ok(())
}

/// One command with its words, in `folder`.
fn check(words: &[String], folder: &Path, routes: &BTreeSet<String>) -> Result<(), String> {
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    // What runs in a container or a pod.
    if let Some(inner) = words.iter().skip(1).position(|word| *word == "/app") {
        parse(&words[inner + 1..])?;
    }
    match words[0] {
        "app" | "/app" => return parse(&words),
        "make" => {
            return words[1..].iter().filter(|word| **word != "…").try_for_each(|word| make(word));
        }
        "curl" => return words[1..].iter().try_for_each(|word| url(word, routes)),
        program if !PROGRAMS.contains(&program) => {
            return Err(format!("{program} is no program that pages use"));
        }
        _ => {}
    }
    for (word, next) in words.iter().zip(words.iter().skip(1).chain([&""])) {
        match (words[0], *word) {
            ("kubectl", "-f" | "-k") if *next != "-" => there(folder, next)?,
            ("docker" | "podman-compose", "-f") => there(&ROOT.join("deploy"), next)?,
            ("docker" | "podman-compose", "exec") => service(next)?,
            ("cd", _) => there(folder, next)?,
            _ => {}
        }
        if let Some((kind, name)) = word.split_once('/')
            && words[0] == "kubectl"
        {
            match kind {
                "deployment" => manifest("Deployment", name)?,
                "svc" => manifest("Service", name)?,
                _ => {}
            }
        }
        if FILE.is_match(word) && *word != "deploy/.env" {
            there(&ROOT, word)?;
        }
    }
    Ok(())
}

/// Whether the command line knows `words`.
fn parse(words: &[&str]) -> Result<(), String> {
    let stand_in = |word: &&str| {
        let found = PLACEHOLDERS.iter().find(|(name, _)| name == word);
        found.map_or_else(|| (*word).to_owned(), |(_, value)| (*value).to_owned())
    };
    // What is left out, or goes on elsewhere, is the reader's business.
    let words = words.iter().take_while(|word| **word != "…").map(stand_in);
    let words = words.collect::<Vec<_>>();
    match Cli::try_parse_from(&words) {
        Err(error) if error.use_stderr() => Err(format!("{}: {error}", words.join(" "))),
        _ => Ok(()),
    }
}

/// A target of the Makefile, or a variable that it reads.
fn make(word: &str) -> Result<(), String> {
    let makefile = fs::read_to_string(ROOT.join("Makefile")).unwrap();
    match word.split_once('=') {
        Some((name, _)) if !makefile.contains(&format!("$({name})")) => {
            Err(format!("make knows no {name}"))
        }
        Some(("BENCH_ARGS", options)) => bench(options),
        Some(_) => Ok(()),
        None if makefile.lines().any(|line| line.starts_with(&format!("{word}:"))) => Ok(()),
        None => Err(format!("make has no target {word}")),
    }
}

/// What the benchmark's own command line says of `options`.
fn bench(options: &str) -> Result<(), String> {
    let mut command = Command::new("python3");
    command.args(["-B", "tests/bench/bench.py"]).args(options.split(' ')).arg("--help");
    let output = command.current_dir(*ROOT).output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let unknown = options.split(' ').find(|word| word.starts_with("--") && !help.contains(word));
    match unknown {
        _ if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Some(option) => Err(format!("make bench knows no {option}")),
        None => Ok(()),
    }
}

/// A route of the shop, where `word` is the URL of one.
fn url(word: &str, routes: &BTreeSet<String>) -> Result<(), String> {
    let Some((_, path)) = word.split_once("localhost:8000") else { return Ok(()) };
    let path = path.split('?').next().unwrap_or_default();
    let is_it =
        routes.iter().any(|route| route.split_once(' ').is_some_and(|(_, known)| known == path));
    if is_it { Ok(()) } else { Err(format!("no route {path}")) }
}

/// A service of the compose files.
fn service(name: &str) -> Result<(), String> {
    let files = ["compose.yaml", "compose.all.yaml"]
        .map(|file| fs::read_to_string(ROOT.join("deploy").join(file)).unwrap());
    let line = format!("\n  {name}:\n");
    if files.iter().any(|file| file.contains(&line)) {
        Ok(())
    } else {
        Err(format!("no service {name}"))
    }
}

/// A `kind` of that `name` in the manifests.
fn manifest(kind: &str, name: &str) -> Result<(), String> {
    let folders = [
        "deploy/k8s",
        "deploy/overlays/demo",
        "deploy/overlays/production",
        "deploy/observability/kubernetes",
    ];
    let entries = folders.iter().flat_map(|folder| {
        fs::read_dir(ROOT.join(folder)).unwrap().map(|entry| entry.unwrap().path())
    });
    let texts = entries.map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    let (kind, name) = (format!("kind: {kind}\n"), format!("\n  name: {name}\n"));
    let is_it =
        texts.split("\n---\n").any(|document| document.contains(&kind) && document.contains(&name));
    let is_it = is_it
        || texts
            .split("apiVersion: ")
            .any(|document| document.contains(&kind) && document.contains(&name));
    if is_it { Ok(()) } else { Err(format!("no {} {}", kind[6..].trim(), name[9..].trim())) }
}
