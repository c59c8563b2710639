//! Holds the arrows of the layout: who may name whom.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate, and the modules that its code may name. `node` may name every one.
const ARROWS: [(&str, &[&str]); 20] = [
    ("main", &["cli", "commands"]),
    ("commands", &["node", "cli", "config", "contract", "telemetry", "tls"]),
    // The roles that can be named are those of the table.
    ("cli", &["node"]),
    ("gateway", ROLE),
    ("user", ROLE),
    ("product", ROLE),
    (
        "server",
        &[
            "auth",
            "config",
            "contract",
            "middleware",
            "error",
            "http1",
            "http2",
            "readiness",
            "telemetry",
            "peer",
        ],
    ),
    ("contract", &["error", "peer"]),
    ("middleware", &["auth", "deadline", "error", "http1", "telemetry", "peer"]),
    ("auth", &["config", "contract", "error", "peer"]),
    ("peer", &["config", "error", "http1"]),
    ("http1", &["config"]),
    ("http2", &["http1"]),
    ("storage", &["config", "deadline", "error"]),
    ("telemetry", &["config"]),
    ("role", &["auth", "config", "middleware", "peer", "readiness"]),
    ("readiness", &[]),
    ("deadline", &[]),
    ("tls", &[]),
    ("config", &[]),
];
const ROLE: &[&str] = &[
    "auth",
    "config",
    "contract",
    "deadline",
    "middleware",
    "error",
    "http1",
    "readiness",
    "role",
    "storage",
    "peer",
];

/// The modules that `code` names behind `crate::`, one by one or in braces.
fn named(code: &str) -> BTreeSet<String> {
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(head(behind)),
        }
    }
    names
}

fn head(path: &str) -> Option<String> {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The first names of `a::b, c::{d, e}}`, up to the brace that closes the group.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.extend(head(group[start..at].trim()));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

/// What is wrong with `code` as a part of `module`, in words.
fn violations(module: &str, code: &str) -> Vec<String> {
    if matches!(module, "node" | "lib") {
        return Vec::new();
    }
    let may = ARROWS.iter().find(|(name, _)| *name == module).map(|(_, may)| *may);
    let Some(may) = may.or((module == "error").then_some(&[])) else {
        return vec![format!("{module} is no part of the layout; give it its arrows in this file")];
    };
    let wrong =
        named(code).into_iter().filter(|name| name != module && !may.contains(&name.as_str()));
    wrong.map(|name| format!("{module} names {name}")).collect()
}

/// `code` of a file `depth` modules below the crate, with the chain of `super` that leads to the crate
/// written as what it is.
fn absolute(code: &str, depth: usize) -> String {
    code.replace(&"super::".repeat(depth), "crate::")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_arrow_of_the_layout_runs_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let files = sources(&root);
    assert!(files.len() > 20, "the sources are where they were");
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let folders = inside.components().count() - 1;
        let depth = if inside.ends_with("mod.rs") { folders } else { folders + 1 };
        let code = absolute(&fs::read_to_string(&file).unwrap(), depth);
        let code = if module == "main" { code.replace("app::", "crate::") } else { code };
        let wrong = violations(module, &code).into_iter();
        found.extend(wrong.map(|what| format!("{}: {what}", inside.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_role_that_names_another_is_found() {
    for code in [
        "use crate::product::Role;",
        "use crate::{error::Error, product};",
        "use crate::{\n    contract::{Product, User},\n    product::{self, Role},\n};",
        "fn f() { crate::product::seed() }",
    ] {
        assert_eq!(violations("user", code), ["user names product"], "{code}");
    }
    assert_eq!(
        violations("user", &absolute("use super::product::Role;", 1)),
        ["user names product"]
    );
    assert_eq!(
        violations("user", &absolute("use super::super::product;", 2)),
        ["user names product"]
    );
    assert_eq!(violations("user", &absolute("use super::store;", 2)), [""; 0]);
    assert_eq!(violations("user", "use crate::contract::{Product, User};"), [""; 0]);
    assert_eq!(violations("user", "// crate::product is elsewhere"), [""; 0]);
}

#[test]
fn an_arrow_that_runs_back_is_found() {
    for (module, code, wrong) in [
        ("contract", "use crate::user::Role;", "contract names user"),
        ("peer", "use crate::contract::Product;", "peer names contract"),
        ("peer", "use crate::node;", "peer names node"),
        ("config", "use crate::peer::Peer;", "config names peer"),
        ("gateway", "use crate::node::run;", "gateway names node"),
        ("error", "use crate::config;", "error names config"),
        ("extra", "", "extra is no part of the layout; give it its arrows in this file"),
    ] {
        assert_eq!(violations(module, code), [wrong]);
    }
}
