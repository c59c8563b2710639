//! `app import` and `app export`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use actix_web::web::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::{load, say};
use crate::cli::{Global, TransferOptions};
use crate::node::{self, Failure, Format, ImportReport, Pieces, Place};

/// The variable with the access token for a shop.
const TOKEN: &str = "APP_TOKEN";
/// How many bytes of a file are read at once.
const PIECE: usize = 64 * 1024;

/// `app import`
///
/// # Errors
/// See [`node::import`]; also when a line was not imported.
pub fn import(global: &Global, file: &Path, options: &TransferOptions) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let place = place(options)?;
    let (input, length): (Box<dyn Read + Send>, _) = match is_standard(file) {
        true => (Box::new(io::stdin()), None),
        false => {
            let opened = File::open(file).map_err(|error| of_file(file, &error))?;
            let length = opened.metadata().ok().map(|about| about.len());
            (Box::new(opened), length)
        }
    };
    let bar = progress_bar(length);
    let pieces = pieces(input, bar.clone())?;
    let format = format(file, options);
    let importing = node::import((&settings, &effective), &place, format, pieces);
    let report = actix_rt::System::new().block_on(importing);
    bar.finish_and_clear();
    conclude(&report?)
}

/// Prints what came of an import.
fn conclude(report: &ImportReport) -> Result<(), Failure> {
    let ImportReport { created, updated, failed, errors } = report;
    let mut wrong = String::new();
    for error in errors {
        wrong += &format!("line {}: {}\n", error.line, error.detail);
    }
    // Standard error may be closed.
    let _ = io::stderr().write_all(wrong.as_bytes());
    say(&format!("created {created}, updated {updated}, failed {failed}\n"))?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::Other("a line was not imported".into())),
        failed => Err(Failure::Other(format!("{failed} lines were not imported"))),
    }
}

/// `app export`
///
/// # Errors
/// See [`node::export`]; also when the file cannot be written. A regular file is there as a whole, or as it was before.
pub fn export(global: &Global, file: &Path, options: &TransferOptions) -> Result<(), Failure> {
    let (settings, effective) = load(global)?;
    let (place, format) = (place(options)?, format(file, options));
    let bar = progress_bar(None);
    let exporting = async |out: &mut dyn Write| {
        let mut pieces = node::export((&settings, &effective), &place, format).await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            out.write_all(&piece)?;
            bar.inc(piece.len() as u64);
        }
        out.flush()?;
        Ok::<_, Failure>(())
    };
    let system = actix_rt::System::new();
    let of_file = |error: io::Error| of_file(file, &error);
    match Target::open(file).map_err(of_file)? {
        Target::Direct(mut out) => system.block_on(exporting(&mut out))?,
        Target::Draft(mut draft, path) => {
            system.block_on(exporting(&mut draft))?;
            draft.as_file().sync_all().map_err(of_file)?;
            draft.persist(path).map_err(|error| of_file(error.error))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Where an export goes.
enum Target {
    /// Standard output, a device or a pipe.
    Direct(Box<dyn Write>),
    /// A file that takes the place of the one at a path.
    Draft(NamedTempFile, PathBuf),
}

impl Target {
    fn open(file: &Path) -> io::Result<Self> {
        if is_standard(file) || file == Path::new("/dev/stdout") {
            return Ok(Self::Direct(Box::new(io::stdout())));
        }
        let (mut path, mut permissions) = (file.to_owned(), None);
        match fs::metadata(file) {
            Ok(about) if about.is_file() => {
                // Links to it stay.
                path = fs::canonicalize(file)?;
                permissions = Some(about.permissions());
            }
            Ok(_) => {
                return Ok(Self::Direct(Box::new(OpenOptions::new().write(true).open(file)?)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut draft = tempfile::Builder::new();
        // As any new file: less what the umask takes away.
        let draft = draft.permissions(Permissions::from_mode(0o666));
        let draft = draft.tempfile_in(folder.unwrap_or(Path::new(".")))?;
        if let Some(permissions) = permissions {
            draft.as_file().set_permissions(permissions)?;
        }
        Ok(Self::Draft(draft, path))
    }
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

fn of_file(file: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("{}: {error}", file.display()))
}

fn format(file: &Path, options: &TransferOptions) -> Format {
    let named = options.format.as_deref().map(|name| match name {
        "csv" => Format::Csv,
        _ => Format::Ndjson,
    });
    named.or_else(|| Format::from_path(file)).unwrap_or(Format::Ndjson)
}

/// Where the products are, and the token for it.
fn place(options: &TransferOptions) -> Result<Place, Failure> {
    let Some(url) = &options.url else { return Ok(Place::Store) };
    let token = match &options.token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| of_file(path, &error))?),
        None => std::env::var(TOKEN).ok(),
    };
    let token = token.map(|token| SecretString::from(token.trim()));
    Ok(Place::Shop(url.clone(), token))
}

/// The bytes of `input`, as far as they are needed. A thread reads them, so that nothing else waits for a terminal or a
/// pipe, the end of the process included.
fn pieces(mut input: Box<dyn Read + Send>, bar: ProgressBar) -> io::Result<Pieces> {
    let (sender, mut receiver) = mpsc::channel(1);
    let read = move || {
        while let Some(piece) = next(&mut input) {
            let is_broken = piece.is_err();
            // The import may have ended.
            if sender.blocking_send(piece).is_err() || is_broken {
                return;
            }
        }
    };
    thread::Builder::new().name("input".into()).spawn(read)?;
    let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
    Ok(pieces.inspect_ok(move |piece: &Bytes| bar.inc(piece.len() as u64)).boxed_local())
}

/// The next bytes of `input`; `None` at its end.
fn next(input: &mut impl Read) -> Option<io::Result<Bytes>> {
    let mut piece = vec![0; PIECE];
    match input.read(&mut piece) {
        Ok(0) => None,
        Ok(length) => {
            piece.truncate(length);
            Some(Ok(piece.into()))
        }
        Err(error) => Some(Err(error)),
    }
}

/// A bar on a terminal, and nothing elsewhere; of bytes, `length` of them if that is known.
fn progress_bar(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
