//! A README file: prose, and fenced blocks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The repository.
pub(super) static ROOT: LazyLock<&Path> = LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")));

/// A README file.
pub(super) struct Page {
    /// Where it is in the repository.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line of its fence.
    pub(super) line: usize,
    /// What stands behind the fence, such as `sh make`.
    pub(super) kind: String,
    pub(super) text: String,
}

impl Page {
    pub(super) fn read(path: &str) -> Self {
        let text =
            fs::read_to_string(ROOT.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// The folder that links start from.
    pub(super) fn folder(&self) -> std::path::PathBuf {
        ROOT.join(&self.path).parent().unwrap().to_owned()
    }

    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else { continue };
            let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = body.map(|line| format!("{line}\n")).collect();
            blocks.push(Block { line: at + 1, kind: kind.to_owned(), text });
        }
        blocks
    }

    /// What is in no block.
    pub(super) fn prose(&self) -> String {
        let text = format!("\n{}", self.text);
        text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n").trim().to_owned()
    }
}

/// Every README file of the repository.
pub(super) fn find() -> BTreeSet<String> {
    let mut pages = BTreeSet::new();
    let mut folders = vec![ROOT.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let is_ours = !["target", ".git", "data"].iter().any(|other| name == *other);
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if name == "README.md" {
                pages.insert(path.strip_prefix(*ROOT).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    pages
}
