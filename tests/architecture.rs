//! Holds the arrows of the layout: who may name whom.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use proc_macro2::{Spacing, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ItemExternCrate, ItemMod, ItemUse, UseName, UseRename, UseTree, VisRestricted,
};

/// A module of the crate, and the modules that its code may name. `node` may name every one.
const ARROWS: [(&str, &[&str]); 28] = [
    ("main", &["cli", "commands"]),
    ("commands", &["node", "cli", "config", "contract", "telemetry", "tls"]),
    // The roles that can be named are those of the table.
    ("cli", &["config", "node"]),
    ("gateway", ROLE),
    ("user", ROLE),
    ("product", ROLE),
    ("order", ROLE),
    (
        "events",
        &["config", "contract", "error", "metrics", "readiness", "storage", "tasks", "telemetry"],
    ),
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
            "metrics",
            "readiness",
            "tasks",
            "telemetry",
            "peer",
        ],
    ),
    ("contract", &["error", "peer"]),
    ("middleware", &["auth", "deadline", "error", "http1", "tasks", "telemetry", "peer"]),
    ("auth", &["config", "contract", "error", "peer"]),
    ("peer", &["config", "error", "http1", "metrics", "tasks", "telemetry"]),
    // The wire names nothing of the shop; nor does `tasks`, which names no module at all.
    ("http1", &["tasks"]),
    ("http2", &["http1"]),
    ("storage", &["config", "deadline", "error", "files", "metrics", "tasks", "telemetry"]),
    ("limits", &["config", "error", "metrics", "peer", "readiness", "storage"]),
    ("telemetry", &["config", "metrics", "tasks"]),
    ("role", &["auth", "config", "events", "middleware", "peer", "readiness"]),
    ("readiness", &["error"]),
    ("deadline", &[]),
    ("single_flight", &[]),
    ("tasks", &[]),
    ("metrics", &[]),
    ("tls", &["files", "watched"]),
    ("watched", &[]),
    ("config", &["files"]),
    ("files", &[]),
];
const ROLE: &[&str] = &[
    "auth",
    "config",
    "contract",
    "deadline",
    "limits",
    "metrics",
    "middleware",
    "error",
    "events",
    "files",
    "http1",
    "readiness",
    "role",
    "single_flight",
    "storage",
    "tasks",
    "peer",
    "telemetry",
    "watched",
    "tls",
];

/// How what stands for the whole crate is called: a glob or an alias of it would hide what is named.
const ALL: &str = "the whole crate";
/// How the code of a file is called that stands elsewhere than its module.
const ELSEWHERE: &str = "another module's file";

/// Collects the modules at the crate's top that a file names, however it writes them.
struct Names {
    /// The module that is looked at, from the crate on.
    here: Vec<String>,
    found: BTreeSet<String>,
}

impl Names {
    /// The modules that `code`, the module at `here`, names.
    fn of(here: &[&str], code: &str) -> BTreeSet<String> {
        let here = here.iter().map(|&name| name.to_owned()).collect();
        let mut names = Self { here, found: BTreeSet::new() };
        names.visit_file(&syn::parse_file(code).unwrap());
        names.found
    }

    /// Takes note of what `path` names, unless it does not begin at the crate.
    fn note(&mut self, path: &[String]) {
        // The binary calls the library by its name.
        let is_main = self.here == ["main"];
        let begins =
            |name: &str| matches!(name, "crate" | "self" | "super") || (is_main && name == "app");
        if !path.first().is_some_and(|first| begins(first)) {
            return;
        }
        let mut absolute = self.here.clone();
        for name in path {
            match name.as_str() {
                "self" => {}
                "super" => _ = absolute.pop(),
                name if name == "crate" || (is_main && name == "app") => absolute.clear(),
                name => absolute.push(name.to_owned()),
            }
        }
        self.found.insert(absolute.into_iter().next().unwrap_or_else(|| ALL.to_owned()));
    }

    /// Takes note of each path of `tree`, whose beginning is `path`.
    fn note_tree(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.note_tree(&part.tree, path);
                path.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(tree, path));
            }
            UseTree::Glob(_) => self.note(path),
            UseTree::Name(UseName { ident, .. }) | UseTree::Rename(UseRename { ident, .. }) => {
                path.push(ident.to_string());
                self.note(path);
                path.pop();
            }
        }
    }

    /// Takes note of the paths in `tokens`, of which nobody but a macro knows what they are.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                // The path of a function in an attribute.
                TokenTree::Literal(text) => {
                    let text = syn::parse_str::<syn::LitStr>(&text.to_string());
                    if let Some(path) = text.ok().and_then(|text| text.parse::<syn::Path>().ok()) {
                        self.visit_path(&path);
                    }
                }
                TokenTree::Ident(first) => self.note_path_in(&first.to_string(), &mut tokens),
                TokenTree::Punct(_) => {}
            }
        }
    }

    /// Takes note of the path that begins with `first` and goes on in `tokens`.
    fn note_path_in(
        &mut self,
        first: &str,
        tokens: &mut Peekable<impl Iterator<Item = TokenTree>>,
    ) {
        let mut path = vec![first.to_owned()];
        while matches!(tokens.peek(), Some(TokenTree::Punct(mark)) if mark.spacing() == Spacing::Joint && mark.as_char() == ':')
        {
            // The two of them.
            _ = (tokens.next(), tokens.next());
            match tokens.peek() {
                Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                Some(TokenTree::Group(group)) => {
                    if let Ok(tree) = syn::parse2::<UseTree>(group.to_token_stream()) {
                        self.note_tree(&tree, &mut path);
                    }
                }
                Some(TokenTree::Punct(mark)) if mark.as_char() == '*' => self.note(&path),
                _ => break,
            }
            tokens.next();
        }
        let is_renamed = matches!(tokens.peek(), Some(TokenTree::Ident(name)) if name == "as");
        if path.len() > 1 || is_renamed {
            self.note(&path);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.here.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.here.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree(&item.tree, &mut Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        if item.ident == "self" {
            self.found.insert(ALL.to_owned());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string()).collect::<Vec<_>>();
        if names != ["self"] {
            self.note(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // What the build script has written is no module of ours.
        let is_built = item.tokens.to_string().contains("OUT_DIR");
        if item.path.segments.last().is_some_and(|name| name.ident == "include") && !is_built {
            self.found.insert(ELSEWHERE.to_owned());
        }
        self.note_tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("path") {
            self.found.insert(ELSEWHERE.to_owned());
        }
        if !attribute.path().is_ident("doc") {
            self.note_tokens(attribute.to_token_stream());
        }
    }

    /// Who may see it is a module above it.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

/// What is wrong with `code` as the module at `path`, in words.
fn violations(path: &[&str], code: &str) -> Vec<String> {
    let module = path[0];
    if matches!(module, "node" | "lib") {
        return Vec::new();
    }
    let may = ARROWS.iter().find(|(name, _)| *name == module).map(|(_, may)| *may);
    let Some(may) = may.or((module == "error").then_some(&[])) else {
        return vec![format!("{module} is no part of the layout; give it its arrows in this file")];
    };
    let wrong = Names::of(path, code)
        .into_iter()
        .filter(|name| name != module && !may.contains(&name.as_str()));
    wrong.map(|name| format!("{module} names {name}")).collect()
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
        let path = inside.with_extension("");
        let names = path.iter().map(|name| name.to_str().unwrap());
        let path = names.filter(|&name| name != "mod").collect::<Vec<_>>();
        let wrong = violations(&path, &fs::read_to_string(&file).unwrap()).into_iter();
        found.extend(wrong.map(|what| format!("{}: {what}", inside.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A store may name the values of its role's model, and not the reverse.
#[test]
fn no_model_names_its_store() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for role in ["user", "product"] {
        let code = fs::read_to_string(root.join(role).join("model.rs")).unwrap();
        // As if the role were the whole crate.
        let names = Names::of(&["model"], &code);
        assert!(!names.contains("store") && !names.contains(role), "{role}: {names:?}");
    }
    assert!(Names::of(&["model"], "use super::store::Filter;").contains("store"));
}

#[test]
fn a_role_that_names_another_is_found_however_it_writes_it() {
    for code in [
        "use crate::product::Role;",
        "use crate::product as other;",
        "use crate::{error::Error, product};",
        "use crate::{\n    contract::{Product, User},\n    product::{self, Role},\n};",
        "use super::super::product;",
        "use super::{super::{product::Role}};",
        "macro_rules! m { () => { crate::product::seed::<u8>(x) } }",
        "use super::super::{contract, product as p};",
        "fn f() { crate::product::seed() }",
        "fn f(x: Option<super::super::product::Role>) {}",
        "fn f() { let _: Vec<u8> = iter.map(crate::product::seed).collect::<Vec<_>>(); }",
        "fn f() { log::info!(\"{}\", crate::product::NAME) }",
        "fn f() { vec![Some(super::super::product::NAME)] }",
        "macro_rules! m { () => { $crate::product::seed() } }",
        "macro_rules! m { () => { use crate::{contract, product}; } }",
        "#[serde(default = \"crate::product::name\")] struct S;",
        "mod tests { use super::super::super::product; }",
        "mod tests { use crate::product; }",
    ] {
        assert_eq!(violations(&["user", "store"], code), ["user names product"], "{code}");
    }
    for code in [
        "use super::Role;",
        "use self::sqlite::Store;",
        "use crate::contract::{Product, User};",
        "use product::Product;",
        "mod tests { use super::*; use super::super::Role; }",
        "pub(crate) fn f() {}",
        "impl S { fn f(&self) { self.g(); println!(\"crate::product {}\", self.g) } }",
        "// crate::product is elsewhere",
        "/// See [`crate::product`].\nfn f() {}",
    ] {
        assert_eq!(violations(&["user", "store"], code), [""; 0], "{code}");
    }
}

#[test]
fn what_hides_what_is_named_is_found() {
    for code in [
        "use crate::*;",
        "use crate as shop;",
        "use crate::{self as shop};",
        "use super::super::*;",
        "use super::super as shop;",
        "extern crate self as shop;",
        "macro_rules! m { () => { use crate::*; } }",
        "macro_rules! m { () => { use crate as shop; } }",
    ] {
        assert_eq!(violations(&["user", "store"], code), ["user names the whole crate"], "{code}");
    }
    for code in
        ["#[path = \"../product/model.rs\"] mod model;", "include!(\"../product/model.rs\");"]
    {
        assert_eq!(violations(&["user", "store"], code), ["user names another module's file"]);
    }
    assert_eq!(violations(&["main"], "use app::*;"), ["main names the whole crate"]);
    assert_eq!(violations(&["main"], "use app::node;"), ["main names node"]);
}

#[test]
fn an_arrow_that_runs_back_is_found() {
    for (module, code, wrong) in [
        ("contract", "use crate::user::Role;", "contract names user"),
        ("peer", "use crate::contract::Product;", "peer names contract"),
        ("peer", "use crate::node;", "peer names node"),
        ("config", "use crate::peer::Peer;", "config names peer"),
        ("http1", "use crate::config::PeerUrl;", "http1 names config"),
        ("http1", "use crate::error::Error;", "http1 names error"),
        ("http2", "use crate::{config, http1::Body};", "http2 names config"),
        ("http2", "use crate::server::Threads;", "http2 names server"),
        ("tasks", "use crate::config;", "tasks names config"),
        ("gateway", "use crate::node::run;", "gateway names node"),
        ("error", "use crate::config;", "error names config"),
        ("extra", "", "extra is no part of the layout; give it its arrows in this file"),
    ] {
        assert_eq!(violations(&[module], code), [wrong]);
    }
}

/// What starts a task or a thread.
const SPAWNS: [&str; 3] = ["spawn", "spawn_local", "spawn_blocking"];

/// Where else than in `tasks` something is started that no set of tasks knows of, and why.
const SPAWNERS: [(&str, &str); 11] = [
    ("tasks.rs", "it is what starts tasks"),
    ("commands/transfer.rs", "reading blocks; the end of the process does not wait for it"),
    ("node/watchdog.rs", "the thread ends a process whose tasks hang"),
    ("telemetry/profile/mod.rs", "looking up names blocks; the request that asks waits"),
    ("telemetry/traces/export/pipeline.rs", "the thread sends spans; the drain ends and awaits it"),
    ("telemetry/writer.rs", "the thread writes the log until the process is gone"),
    ("storage/writer.rs", "the thread belongs to a file's queue, which ends and joins it"),
    ("storage/connection_thread.rs", "the thread belongs to a connection, and ends with it"),
    ("storage/sqlite.rs", "reading blocks; one of the calls that read waits"),
    ("storage/postgres.rs", "migrating blocks; the task that asks for it waits"),
    ("user/hashing.rs", "hashing blocks; the request that asks for it waits"),
];

/// Collects what starts a task or a thread by another way than `tasks`.
#[derive(Default)]
struct Spawns(Vec<String>);

impl Spawns {
    fn of(code: &str) -> Vec<String> {
        let mut spawns = Self::default();
        spawns.visit_file(&syn::parse_file(code).unwrap());
        spawns.0
    }

    /// Takes note of `name`, which follows `before` in a path.
    fn note(&mut self, before: &str, name: &str) {
        if SPAWNS.contains(&name) && before != "tasks" {
            self.0.push(format!("{before}::{name}"));
        }
    }

    fn note_tree(&mut self, before: &str, tree: &UseTree) {
        match tree {
            UseTree::Path(part) => self.note_tree(&part.ident.to_string(), &part.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(before, tree));
            }
            // Whatever is called so hides what it is.
            UseTree::Rename(UseRename { ident, rename, .. }) => {
                self.note(if rename == "tasks" { "" } else { before }, &ident.to_string());
                if rename == "tasks" {
                    self.0.push(format!("{ident} as tasks"));
                }
            }
            UseTree::Name(UseName { ident, .. }) => self.note(before, &ident.to_string()),
            UseTree::Glob(_) => {}
        }
    }

    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut before = String::new();
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.note_tokens(group.stream());
                    before.clear();
                }
                TokenTree::Ident(name) => {
                    self.note(&before, &name.to_string());
                    before = name.to_string();
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {}
                TokenTree::Punct(_) | TokenTree::Literal(_) => before.clear(),
            }
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let of_tests = |attribute: &Attribute| {
        attribute.path().is_ident("cfg") && attribute.to_token_stream().to_string().contains("test")
    };
    attributes.iter().any(of_tests)
}

impl<'ast> Visit<'ast> for Spawns {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.note_tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut names = path.segments.iter().rev().map(|part| part.ident.to_string());
        let (last, before) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        self.note(&before, &last);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.note("", &call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.note_tokens(item.tokens.clone());
    }
}

#[test]
fn nothing_runs_in_the_background_that_is_not_supervised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut spawners = BTreeSet::new();
    for file in sources(&root) {
        let inside = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        // A module of tests that has a file of its own.
        if file.file_stem().unwrap() == "tests" {
            continue;
        }
        let spawns = Spawns::of(&fs::read_to_string(&file).unwrap());
        match SPAWNERS.iter().find(|(name, _)| *name == inside) {
            Some(_) if spawns.is_empty() => {}
            Some((name, _)) => _ = spawners.insert(*name),
            None => found.extend(spawns.iter().map(|what| format!("{inside}: {what}"))),
        }
    }
    assert!(found.is_empty(), "not by crate::tasks:\n{}", found.join("\n"));
    assert_eq!(spawners.len(), SPAWNERS.len(), "only these do: {spawners:?}");
}

#[test]
fn a_bare_spawn_is_found_however_it_is_written() {
    for code in [
        "fn f() { actix_rt::spawn(async {}); }",
        "fn f() { tokio::spawn(async {}); }",
        "fn f() { tokio::task::spawn_local(async {}); }",
        "fn f() { std::thread::spawn(|| ()); }",
        "fn f() { thread::Builder::new().spawn(|| ()); }",
        "fn f(set: LocalSet) { set.spawn_local(async {}); }",
        "fn f() { actix_rt::task::spawn_blocking(|| ()); }",
        "fn f() { futures.map(actix_rt::spawn); }",
        "fn f() { futures.map(spawn); }",
        "use tokio::task::spawn_local;",
        "use tokio::{sync::mpsc, task::{self, spawn_local as start}};",
        "use actix_rt as tasks;",
        "fn f() { tokio::select! { () = actix_rt::spawn(a) => {} } }",
        "macro_rules! start { ($task:expr) => { actix_rt::spawn($task) } }",
        "fn f() { vec![set.spawn_local(a)] }",
    ] {
        assert_eq!(Spawns::of(code).len(), 1, "{code}: {:?}", Spawns::of(code));
    }
    for code in [
        "use crate::tasks;\nfn f() { tasks::spawn(\"name\", async {}); }",
        "fn f() { crate::tasks::supervise(\"name\", || async {}); futures.map(crate::tasks::spawn); }",
        "fn f() { tokio::select! { _ = tasks::spawn(\"name\", a) => {} } }",
        "fn f() { log::info!(\"tokio::spawn\"); }",
        "// actix_rt::spawn\n/// See [`tokio::spawn`].\nfn spawn() {}",
        "#[cfg(test)]\nmod tests { fn f() { actix_rt::spawn(async {}); } }",
    ] {
        assert_eq!(Spawns::of(code), [""; 0], "{code}");
    }
}
