//! Files on this machine: resolves paths, and reads files that settings name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

/// The most links on the way to a file, as on Linux.
const MAX_LINKS: u32 = 40;

/// The most bytes of a file that settings name: a key, a certificate, a setting.
const LIMIT: u64 = 1024 * 1024;

/// Whether `path` can name a file, and not only a folder.
pub fn is_of_file(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().rsplit(|byte| *byte == b'/').next();
    path.file_name().map(OsStr::as_encoded_bytes) == last
}

/// The content of the file at `path`.
///
/// # Errors
/// As [`expect_plain`], and when it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    expect_plain(path)?;
    let mut bytes = Vec::new();
    // It may have grown since.
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Expects a regular file of at most 1 MiB at `path`: a device may be endless, and a pipe may have no writer.
///
/// # Errors
/// When there is something else, or nothing.
pub fn expect_plain(path: &Path) -> io::Result<()> {
    let found = expect_file(path)?;
    if found.len() > LIMIT {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(())
}

/// Expects a regular file at `path`, of whatever size.
///
/// # Errors
/// When there is something else, or nothing.
pub fn expect_file(path: &Path) -> io::Result<fs::Metadata> {
    let found = fs::metadata(path)?;
    if found.is_file() { Ok(found) } else { Err(io::Error::other("it is not a file")) }
}

/// Where `path` leads to through links and `..`, even if there is no file yet.
pub fn resolve(path: &Path) -> PathBuf {
    let mut place = std::env::current_dir().unwrap_or_default();
    walk(path, &mut place, &mut 0);
    place
}

/// Follows `path` from `place` over at most [`MAX_LINKS`] links, of which `links` were followed before.
fn walk(path: &Path, place: &mut PathBuf, links: &mut u32) {
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = place.pop(),
            part => place.push(part),
        }
        if let Some(link) = place.read_link().ok().filter(|_| *links < MAX_LINKS) {
            *links += 1;
            place.pop();
            walk(&link, place, links);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_no_end_or_no_writer_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let mkfifo = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(mkfifo.success());
        for path in ["/dev/zero", "/dev/full", "/dev/null", "pipe", "."] {
            let problem = read(&at(path)).unwrap_err().to_string();
            assert_eq!(problem, "it is not a file", "{path}");
        }
        fs::write(at("file"), vec![b'a'; 1024 * 1024]).unwrap();
        symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("link")).unwrap().len(), 1024 * 1024);
        fs::write(at("file"), vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert_eq!(read(&at("link")).unwrap_err().to_string(), "it is larger than 1 MiB");
    }

    #[test]
    fn a_path_that_can_only_be_that_of_a_folder_is_none_of_a_file() {
        for path in ["a", "/a", "a/b", "./a", "../a"] {
            assert!(is_of_file(Path::new(path)), "{path}");
        }
        for path in ["", "/", ".", "..", "a/", "a/.", "a/..", "a//"] {
            assert!(!is_of_file(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_file_is_one_by_whatever_path_also_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir(at("data")).unwrap();
        symlink("data", at("link")).unwrap();
        symlink("../data/a.db", at("data/b.db")).unwrap();
        symlink(at("data/a.db"), at("data/c.db")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let file = resolve(&at("data/a.db"));
        for path in [
            "./data/./a.db",
            "data//a.db",
            "data/../data/a.db",
            "none/../data/a.db",
            "link/a.db",
            "link/../data/a.db",
            "data/b.db",
            "link/c.db",
        ] {
            assert_eq!(resolve(&at(path)), file, "{path}");
        }
        for path in ["a.db", "data/d.db", "data/a.db/x", "loop", "loop/a.db"] {
            assert_ne!(resolve(&at(path)), file, "{path}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolve(Path::new("a.db")), here.join("a.db"));
    }
}
