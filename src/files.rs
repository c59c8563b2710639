//! Files of this machine: which one a path leads to, and how one that settings name is read.

use std::path::{Component, Path, PathBuf};

/// The most links on the way to a file, as on Linux.
const MAX_LINKS: u32 = 40;

/// The place that `path` leads to through links and `..`, also if nothing is there yet.
pub fn resolve(path: &Path) -> PathBuf {
    let mut place = std::env::current_dir().unwrap_or_default();
    walk(path, &mut place, &mut 0);
    place
}

/// Goes from `place` along `path`, over no more than [`MAX_LINKS`], of which `links` are behind.
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
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

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
