//! `app import` and `app export`.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use actix_web::web::Bytes;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use tempfile::NamedTempFile;

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
    let (input, length): (Box<dyn Read>, _) = match is_standard(file) {
        true => (Box::new(io::stdin()), None),
        false => {
            let opened = File::open(file).map_err(|error| of_file(file, &error))?;
            let length = opened.metadata().ok().map(|about| about.len());
            (Box::new(opened), length)
        }
    };
    let bar = progress_bar(length);
    let pieces = pieces(input, bar.clone());
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
/// See [`node::export`]; also when the file cannot be written. It is there as a whole, or as it was before.
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
    if is_standard(file) {
        return system.block_on(exporting(&mut io::stdout()));
    }
    let of_file = |error: io::Error| of_file(file, &error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut draft = tempfile::Builder::new();
    // As any new file: less what the umask takes away.
    let draft = draft.permissions(Permissions::from_mode(0o666));
    let mut draft: NamedTempFile =
        draft.tempfile_in(folder.unwrap_or(Path::new("."))).map_err(of_file)?;
    system.block_on(exporting(&mut draft))?;
    draft.as_file().sync_all().map_err(of_file)?;
    draft.persist(file).map_err(|error| of_file(error.error))?;
    bar.finish_and_clear();
    Ok(())
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

/// The bytes of `input`, as far as they are needed.
fn pieces(mut input: Box<dyn Read>, bar: ProgressBar) -> Pieces {
    let mut is_over = false;
    let next = move || {
        let mut piece = vec![0; PIECE];
        let read = (!is_over).then(|| input.read(&mut piece))?;
        is_over = !matches!(read, Ok(1..));
        match read {
            Ok(0) => None,
            Ok(length) => {
                bar.inc(length as u64);
                piece.truncate(length);
                Some(Ok(Bytes::from(piece)))
            }
            Err(error) => Some(Err(error)),
        }
    };
    stream::iter(std::iter::from_fn(next)).boxed_local()
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
