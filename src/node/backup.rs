//! A backup of all that a shop on embedded storage keeps: the files of its roles and its keys, in one archive.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};

use super::Failure;
use crate::config::Settings;
use crate::contract::{Timestamp, now};
use crate::files::resolve;
use crate::storage::backup::{expect_unused, snapshot, verify};

/// The entry that lists the others.
const MANIFEST: &str = "manifest.json";
/// The entry of the keys.
const KEYS: &str = "signing-keys";
/// The mode of what has secrets.
const PRIVATE: u32 = 0o600;

/// What an archive has.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: String,
    created: Timestamp,
    files: Vec<Entry>,
}

/// A file of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    /// Its digest in hexadecimal digits.
    sha256: String,
}

/// The files of a shop and the names of their entries. Orders come first, then what they refer to: an order of the archive
/// has its pieces there, and pieces without an order are given back by and by.
fn files(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    const NAMES: [(&str, &str); 4] = [
        ("order.database_url", "order.db"),
        ("product.database_url", "product.db"),
        ("user.database_url", "user.db"),
        ("user.signing_keys_path", KEYS),
    ];
    let own = settings.own_files().collect::<Vec<_>>();
    let found = NAMES.iter().filter_map(|(key, name)| {
        let (_, path) = own.iter().find(|(known, _)| known == key)?;
        Some((*name, resolve(path)))
    });
    found.collect()
}

/// Writes a backup of the shop to `archive`, also while the shop runs, and reads it back. Returns the names of its entries.
///
/// # Errors
/// When a file cannot be read or the archive not be written; an older archive is kept then.
pub fn backup(settings: &Settings, archive: &Path) -> Result<Vec<String>, Failure> {
    let there = files(settings).into_iter().filter(|(_, path)| path.exists()).collect::<Vec<_>>();
    if !there.iter().any(|(name, _)| *name != KEYS) {
        let why = "there is no file to back up: the stores are servers, or empty";
        return Err(Failure::Other(why.into()));
    }
    let archive = resolve(archive);
    let folder = archive.parent().unwrap_or(Path::new("/"));
    let copies = TempDir::new_in(folder).map_err(of(folder))?;
    let mut manifest =
        Manifest { version: env!("CARGO_PKG_VERSION").into(), created: now(), files: Vec::new() };
    for (name, path) in there {
        let copy = copies.path().join(name);
        match name {
            KEYS => fs::copy(&path, &copy).map(drop).map_err(of(&path))?,
            _ => snapshot(&path, &copy)?,
        }
        manifest.files.push(entry(name, &copy)?);
    }
    let mut target = NamedTempFile::new_in(folder).map_err(of(folder))?;
    write(&manifest, copies.path(), target.as_file_mut()).map_err(of(&archive))?;
    // What cannot be read back is no backup.
    let again = TempDir::new_in(folder).map_err(of(folder))?;
    unpack(target.path(), again.path())?;
    target.persist(&archive).map_err(|error| of(&archive)(error.error))?;
    Ok(manifest.files.into_iter().map(|entry| entry.name).collect())
}

/// Puts the files of `archive` where the settings have them. Files that are there are replaced only with `overwrite`.
/// Returns the names of the entries.
///
/// # Errors
/// When the archive is damaged, a file is there or in use, or one cannot be written; nothing has changed then, unless the
/// last step fails.
pub fn restore(
    settings: &Settings,
    archive: &Path,
    overwrite: bool,
) -> Result<Vec<String>, Failure> {
    let targets = files(settings);
    let folder = targets.first().and_then(|(_, path)| path.parent()).map(Path::to_owned);
    let folder = folder.unwrap_or_else(|| PathBuf::from("."));
    fs::create_dir_all(&folder).map_err(of(&folder))?;
    let unpacked = TempDir::new_in(&folder).map_err(of(&folder))?;
    let manifest = unpack(archive, unpacked.path())?;
    let mut moves = Vec::new();
    for Entry { name, .. } in &manifest.files {
        let Some((_, path)) = targets.iter().find(|(known, _)| known == name) else {
            let why = format!("the settings have no place for {name} of the archive");
            return Err(Failure::Other(why));
        };
        if path.exists() && !overwrite {
            let why = format!("{} is there; --overwrite replaces it", path.display());
            return Err(Failure::Other(why));
        }
        if name != KEYS {
            expect_unused(path)?;
        }
        moves.push((unpacked.path().join(name), path));
    }
    for (from, path) in moves {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(of(folder))?;
        for log in ["-wal", "-shm"] {
            let mut beside = path.clone().into_os_string();
            beside.push(log);
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(of(Path::new(&beside))(error));
                }
                _ => {}
            }
        }
        // Another file system takes a copy.
        let moved = fs::rename(&from, path).or_else(|_| fs::copy(&from, path).map(drop));
        moved.map_err(of(path))?;
    }
    Ok(manifest.files.into_iter().map(|entry| entry.name).collect())
}

fn write(manifest: &Manifest, folder: &Path, target: &mut File) -> io::Result<()> {
    let mut archive = tar::Builder::new(target);
    let text = serde_json::to_vec_pretty(manifest)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(PRIVATE);
    header.set_mtime(u64::try_from(manifest.created.timestamp()).unwrap_or_default());
    archive.append_data(&mut header, MANIFEST, text.as_slice())?;
    for Entry { name, .. } in &manifest.files {
        archive.append_path_with_name(folder.join(name), name)?;
    }
    archive.into_inner()?.sync_all()
}

/// Unpacks `archive` into `folder`, and checks each file against the manifest and, if it is a store, by SQLite.
fn unpack(archive: &Path, folder: &Path) -> Result<Manifest, Failure> {
    let damaged = |why: String| {
        Failure::Other(format!("{} is no backup, or damaged: {why}", archive.display()))
    };
    let file = File::open(archive).map_err(of(archive))?;
    let mut tar = tar::Archive::new(file);
    let broken = |error: io::Error| damaged(error.to_string());
    let mut manifest = None::<Manifest>;
    let mut left = Vec::new();
    for part in tar.entries().map_err(broken)? {
        let mut part = part.map_err(broken)?;
        let name = part.path().map_err(broken)?.to_string_lossy().into_owned();
        match &manifest {
            None if name == MANIFEST => {
                let found = serde_json::from_reader::<_, Manifest>(&mut part);
                let found = found.map_err(|error| damaged(error.to_string()))?;
                left = found.files.iter().map(|entry| entry.name.clone()).collect();
                manifest = Some(found);
            }
            // Names are those of the manifest alone, so that nothing is written elsewhere.
            Some(_) if left.contains(&name) && !name.contains(['/', '\\']) => {
                let path = folder.join(&name);
                let mut file = File::create_new(&path).map_err(of(&path))?;
                file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(of(&path))?;
                io::copy(&mut part, &mut file).map_err(broken)?;
                file.sync_all().map_err(of(&path))?;
                left.retain(|other| *other != name);
            }
            _ => return Err(damaged(format!("{name} does not belong there"))),
        }
    }
    let manifest = manifest.ok_or_else(|| damaged("it has no manifest".into()))?;
    if let Some(name) = left.first() {
        return Err(damaged(format!("{name} is missing")));
    }
    for known in &manifest.files {
        let path = folder.join(&known.name);
        if entry(&known.name, &path)?.sha256 != known.sha256 {
            return Err(damaged(format!("{} is not as it was", known.name)));
        }
        if known.name != KEYS {
            verify(&path)?;
        }
    }
    Ok(manifest)
}

/// The entry of the file at `path`.
fn entry(name: &str, path: &Path) -> Result<Entry, Failure> {
    let mut file = File::open(path).map_err(of(path))?;
    let (mut digest, mut bytes) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(of(path))? {
            0 => break,
            read => {
                digest.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    let sha256 = hex::encode(digest.finish());
    Ok(Entry { name: name.to_owned(), bytes, sha256 })
}

/// The failure of a system call on `path`.
fn of(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Other(format!("{}: {error}", path.display()))
}
