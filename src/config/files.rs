//! The files of the configuration folder. An unreadable one prevents the start.

use std::fs;
use std::io;
use std::path::Path;

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::BUILT_IN;
use super::layers::{Error, leaves, similarity};
use super::redact;

/// Files of other programs in the same folder.
const OTHERS: [&str; 1] = ["diesel.toml"];
/// The folder that is read if it exists and no other is given.
const DEFAULT: &str = "config";

/// The settings of one file.
#[derive(Clone, Debug)]
pub(super) struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Whether `./config` exists. A broken link does: it was meant to be read.
pub(super) fn is_default_there() -> bool {
    Path::new(DEFAULT).symlink_metadata().is_ok()
}

/// Reads the files of `directory`, or of `./config` where it exists, or has to because it did before.
///
/// # Errors
/// When the folder or a file cannot be read, a file has an unknown name, or `directory` has no file to read.
pub(super) fn read(directory: Option<&Path>, must_exist: bool) -> Result<Vec<Layer>, Error> {
    let name = if directory.is_some() { "--config" } else { "./config" };
    let directory = directory.unwrap_or(Path::new(DEFAULT));
    let wrong =
        |problem: &str| Error::new(name, problem, redact::hide(&directory.display().to_string()));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if name == "--config" || must_exist || is_default_there() {
                return Err(wrong("no such directory"));
            }
            return Ok(Vec::new());
        }
        Err(error) => return Err(wrong(&format!("cannot read it: {error}"))),
    };
    for entry in entries {
        let entry = entry.map_err(|error| wrong(&format!("cannot read it: {error}")))?;
        known(&entry.path())?;
    }
    let paths = BUILT_IN.iter().map(|(name, _)| directory.join(name));
    let paths = paths.filter(|path| path.symlink_metadata().is_ok()).collect::<Vec<_>>();
    if name == "--config" && paths.is_empty() {
        return Err(wrong(&format!(
            "no file of the configuration is in it; there are {}",
            names()
        )));
    }
    paths.iter().map(|path| read_file(path)).collect()
}

/// Refuses a file that looks like configuration but would not be read.
fn known(path: &Path) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') || BUILT_IN.iter().any(|(known, _)| *known == name) {
        return Ok(());
    }
    let close =
        BUILT_IN.iter().map(|(known, _)| *known).max_by_key(|known| similarity(known, &name));
    let close = close.unwrap_or_default();
    // Backup copies begin with the name of the file.
    let is_copy = BUILT_IN.iter().any(|(known, _)| name.starts_with(known));
    let lower = name.to_lowercase();
    let is_close = similarity(close, &lower) + 2 >= close.len().max(lower.len());
    let is_meant = lower.ends_with(".toml") || is_close;
    if is_copy || !is_meant || OTHERS.contains(&&*name) {
        return Ok(());
    }
    let hint =
        if is_close { format!("did you mean {close}?") } else { format!("there are {}", names()) };
    let file = path.display().to_string();
    Err(Error::new(file, format!("no such file of the configuration; {hint}"), "--config"))
}

/// The names of the files that are read.
fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn read_file(path: &Path) -> Result<Layer, Error> {
    let name = path.display().to_string();
    let wrong = |problem: String| Error::new(&*name, problem, "a file of the configuration");
    let cannot = |error: io::Error| wrong(format!("cannot read it: {error}"));
    let bytes = crate::files::read(path).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("line {line}: it is not UTF-8"))
    })?;
    parse(text.trim_start_matches('\u{feff}'), &name)
}

/// Parses `text`, the content of the file `name`.
pub(super) fn parse(text: &str, name: &str) -> Result<Layer, Error> {
    let read = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
    let table = read.and_then(|read| read.collect());
    let mut table = table.map_err(|error| {
        let (line, reason) = explain(&error, text);
        let at = line.map_or_else(|| name.to_owned(), |line| format!("{name}, line {line}"));
        Error::new(at, reason, "a file of the configuration")
    })?;
    table.values_mut().for_each(|value| stamp(value, name));
    match leaves(&table).keys().find(|key| !key.chars().all(redact::is_of_key)) {
        Some(key) => Err(Error::new(redact::key(key), "no such setting", name)),
        None => Ok(Layer(table)),
    }
}

/// Sets the origin of `value` and of everything in it.
fn stamp(value: &mut Value, origin: &str) {
    let mut kind = std::mem::replace(&mut value.kind, ValueKind::Nil);
    match &mut kind {
        ValueKind::Table(table) => table.values_mut().for_each(|inner| stamp(inner, origin)),
        ValueKind::Array(list) => list.iter_mut().for_each(|inner| stamp(inner, origin)),
        _ => {}
    }
    *value = Value::new(Some(&origin.to_owned()), kind);
}

/// The line and the reason of a parser's error. The parser's own text has the whole line, and any password on it.
fn explain(error: &ConfigError, text: &str) -> (Option<usize>, String) {
    let ConfigError::FileParse { cause, .. } = error else {
        return (None, "it cannot be used".into());
    };
    let told = cause.to_string();
    let head = told.lines().next().unwrap_or_default();
    let position =
        head.strip_prefix("TOML parse error at line ").and_then(|rest| rest.split_once(','));
    let Some(line) = position.and_then(|(line, _)| line.parse().ok()) else {
        // For a number that does not fit, the parser does not give the line.
        return (text.lines().position(has_huge_number).map(|line| line + 1), told);
    };
    // The head is followed by a gutter, the line itself, and a mark below it.
    let reason = told.lines().skip(4).collect::<Vec<_>>().join(", ");
    (Some(line), reason)
}

/// Whether the value on `line` is a whole number beyond 64 bits.
fn has_huge_number(line: &str) -> bool {
    let value = line.split_once('=').map_or("", |(_, value)| value);
    let value = value.split('#').next().unwrap_or_default().trim().replace('_', "");
    let digits = value.trim_start_matches(['+', '-']);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number && value.parse::<i64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn problem(folder: &tempfile::TempDir) -> String {
        read(Some(folder.path()), false).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_does_not_parse_tells_the_line_and_the_reason_and_no_value() {
        for line in [
            "database_url = \"postgres://shop:s3cret@db/shop",
            "database_url = postgres://shop:s3cret@db/shop\"",
            "database_url = 'postgres://shop:s3cret@db/shop\"",
            "database_url = postgres://shop:s3cret@db/shop",
            "database_url \"postgres://shop:s3cret@db/shop\"",
            "database_url = \"postgres://shop:s3cret@db/shop\\q\"",
            "database_url = \"postgres://shop:s3cret@db/shop\" s3cret",
            "database_url = [\"postgres://shop:s3cret@db/shop\"",
            "database_url = { s3cret",
            "database_url = \"\"\"postgres://shop:s3cret@db/shop",
            "database_url = 99999999999999999999 # s3cret",
            "signing_keys = s3cret",
            "s3cret s3cret = 1",
            "listen = \"a\"\nlisten = \"s3cret\"",
        ] {
            let folder = folder(&[("user.toml", &format!("# accounts\n[user]\n{line}\n"))]);
            let line = problem(&folder);
            assert!(
                line.contains("user.toml, line 3") || line.contains("user.toml, line 4"),
                "{line}"
            );
            assert!(!line.contains("s3cret"), "{line}");
            assert!(line.split_once(": ").unwrap().1.len() > 30, "no reason: {line}");
        }
    }

    #[test]
    fn a_value_in_the_place_of_a_key_is_not_told() {
        for text in [
            "[user]\n\"postgres://u:s3cret@h/d\" = 1",
            "[\"s3cret/d\"]\nlisten = 1",
            "[user.\"s3cret=\"]\na = 1",
            "\"s3cret/\" = 1\n\"s3cret/\" = 2",
            "[\"s3cret/\"]\na = 1\n[\"s3cret/\"]\na = 2",
        ] {
            let folder = folder(&[("user.toml", text)]);
            let line = problem(&folder);
            assert!(line.contains("user.toml") && !line.contains("s3cret"), "{line}");
        }
    }

    #[test]
    fn what_is_no_text_names_the_line() {
        let folder = folder(&[]);
        fs::write(folder.path().join("user.toml"), b"[user]\nlisten = \"\xff\"\n").unwrap();
        assert!(problem(&folder).contains("user.toml: line 2: it is not UTF-8"));
    }

    #[test]
    fn a_byte_order_mark_is_no_fault() {
        let folder = folder(&[("user.toml", "\u{feff}[user]\npool_size = 3\n")]);
        assert_eq!(read(Some(folder.path()), false).unwrap().len(), 1);
    }

    #[test]
    fn a_misspelt_file_is_refused_and_what_belongs_to_others_is_not() {
        for (name, hint) in [
            ("gatway.toml", "did you mean gateway.toml?"),
            ("gateway.tml", "did you mean gateway.toml?"),
            ("Gateway.toml", "did you mean gateway.toml?"),
            ("defualt.toml", "did you mean default.toml?"),
            ("users.toml", "did you mean user.toml?"),
            (
                "shop.toml",
                "there are default.toml, gateway.toml, user.toml, product.toml, order.toml",
            ),
        ] {
            let line = problem(&folder(&[(name, "")]));
            assert!(line.contains(name) && line.contains(hint), "{line}");
        }
        for name in ["diesel.toml", "README.md", ".user.toml.swp", "user.toml~", "gateway.toml.bak"]
        {
            let folder = folder(&[(name, "="), ("user.toml", "")]);
            assert!(read(Some(folder.path()), false).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_named_has_a_file() {
        for name in ["README.md", "diesel.toml", ".user.toml.swp"] {
            let folder = folder(&[(name, "")]);
            let line = problem(&folder);
            assert!(line.starts_with("--config: no file of the configuration is in it"), "{line}");
            assert!(line.contains(&folder.path().display().to_string()), "{line}");
        }
    }

    #[test]
    fn what_has_the_name_of_a_file_and_cannot_be_read_is_refused() {
        let folder = folder(&[]);
        fs::create_dir(folder.path().join("gateway.toml")).unwrap();
        assert!(problem(&folder).contains("gateway.toml: cannot read it: it is not a file"));
        fs::remove_dir(folder.path().join("gateway.toml")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("gateway.toml")).unwrap();
        assert!(problem(&folder).contains("gateway.toml: cannot read it: No such file"));
        let line = read(Some(&folder.path().join("gateway.toml")), false).unwrap_err().to_string();
        assert!(line.starts_with("--config: no such directory"), "{line}");
        fs::write(folder.path().join("file"), "").unwrap();
        let line = read(Some(&folder.path().join("file")), false).unwrap_err().to_string();
        assert!(line.starts_with("--config: cannot read it: Not a directory"), "{line}");
    }
}
