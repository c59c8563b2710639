//! What goes wrong in MongoDB, by the driver's errors and the server's codes.

use bson::{Bson, Document};
use mongodb::error::{Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use crate::storage::StoreError;

/// The server's code for a second document with the same unique value.
const DUPLICATE_KEY: i32 = 11000;

/// Codes of a server that stops, steps down or recovers, of timeouts, also of replication, and of busy locks.
const RETRYABLE: [i32; 12] = [24, 50, 64, 91, 100, 189, 202, 262, 11600, 11601, 11602, 13436];
/// Codes of a server that takes no writes, because another is the primary.
const READ_ONLY: [i32; 3] = [10058, 10107, 13435];
/// Codes of a full disk or quota. Atlas has one code for many errors, told apart by their text.
const FULL: [i32; 2] = [12501, 14031];
const ATLAS: i32 = 8000;
const QUOTA: &str = "quota";

/// Why an attempt to write failed.
pub(super) enum Attempt {
    /// It may have been done or not.
    Unknown(StoreError),
    Failed(StoreError),
}

impl From<Attempt> for StoreError {
    fn from(attempt: Attempt) -> Self {
        let (Attempt::Unknown(error) | Attempt::Failed(error)) = attempt;
        error
    }
}

/// A row of a command that was not written.
pub(super) struct Refused {
    /// Which of the command's rows.
    pub(super) index: usize,
    /// Whether that is because there is one with its id.
    pub(super) is_there: bool,
    pub(super) error: StoreError,
}

impl From<&Document> for Refused {
    fn from(error: &Document) -> Self {
        let (index, error_text) = (number(error, "index"), error.get_str("errmsg"));
        let of_id = match error.get_document("keyPattern") {
            Ok(keys) => keys.contains_key("_id"),
            // Servers before 4.2 have the text alone.
            Err(_) => error_text.is_ok_and(|text| text.contains("index: _id_")),
        };
        let error = failure(error);
        let is_there = of_id && matches!(error, StoreError::Duplicate);
        Self { index: usize::try_from(index).unwrap_or_default(), is_there, error }
    }
}

/// The rows that were not written, from the reply to the command.
pub(super) fn refused(reply: Result<Document, DriverError>) -> Result<Vec<Refused>, Attempt> {
    let reply = reply.map_err(|error| {
        let again =
            matches!(*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
                || error.contains_label(RETRYABLE_WRITE_ERROR);
        let kind = if again { Attempt::Unknown } else { Attempt::Failed };
        kind(error.into())
    })?;
    let failures = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let failures = failures.iter().filter_map(Bson::as_document).map(Refused::from).collect();
    match reply.get_document("writeConcernError") {
        Ok(error) => Err(Attempt::Failed(of_concern(failure(error)))),
        Err(_) => Ok(failures),
    }
}

/// An error of replication after the write was done: the write may be lost or not.
fn of_concern(error: StoreError) -> StoreError {
    match error {
        StoreError::Full(why) | StoreError::ReadOnly(why) => StoreError::Connection(why),
        error => error,
    }
}

fn failure(error: &Document) -> StoreError {
    by_code(number(error, "code"), error.get_str("errmsg").unwrap_or("no message"))
}

/// The number of a reply's field `name`, of whatever type the server chose.
fn number(reply: &Document, name: &str) -> i32 {
    match reply.get(name) {
        Some(Bson::Int32(number)) => *number,
        Some(Bson::Int64(number)) => i32::try_from(*number).unwrap_or_default(),
        Some(Bson::Double(number)) => *number as i32,
        _ => 0,
    }
}

/// The error for the server's `code` and `text`.
fn by_code(code: i32, text: &str) -> StoreError {
    let why = format!("{text} (code {code})");
    match code {
        DUPLICATE_KEY => StoreError::Duplicate,
        ATLAS if text.contains(QUOTA) => StoreError::Full(why),
        _ if FULL.contains(&code) => StoreError::Full(why),
        _ if READ_ONLY.contains(&code) => StoreError::ReadOnly(why),
        _ if RETRYABLE.contains(&code) => StoreError::Connection(why),
        _ => StoreError::Failed(why),
    }
}

impl From<DriverError> for StoreError {
    fn from(error: DriverError) -> Self {
        let known = match *error.kind {
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                Self::Unreachable(error.to_string())
            }
            // The driver also clears the pool under running calls.
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => {
                Self::Connection(error.to_string())
            }
            ErrorKind::Command(ref error) => by_code(error.code, &error.message),
            ErrorKind::Write(WriteFailure::WriteError(ref error)) => {
                by_code(error.code, &error.message)
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(ref error)) => {
                of_concern(by_code(error.code, &error.message))
            }
            _ => Self::Failed(error.to_string()),
        };
        match known {
            Self::Failed(why) if error.contains_label(RETRYABLE_WRITE_ERROR) => {
                Self::Connection(why)
            }
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use bson::doc;

    #[test]
    fn an_id_that_is_there_is_told_from_a_sku_that_is_taken() {
        let refused = |error: Document| {
            let refused = Refused::from(&error);
            assert!(matches!(refused.error, StoreError::Duplicate));
            (refused.index, refused.is_there)
        };
        let text = |index: &str| {
            format!("E11000 duplicate key error collection: x index: {index} dup key")
        };
        let id = doc! { "index": 2, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "x" };
        assert_eq!(refused(id), (2, true));
        let sku =
            doc! { "index": 1_i64, "code": 11000, "keyPattern": { "sku_key": 1 }, "errmsg": "x" };
        assert_eq!(refused(sku), (1, false));
        assert_eq!(refused(doc! { "code": 11000, "errmsg": text("_id_") }), (0, true));
        assert_eq!(refused(doc! { "code": 11000, "errmsg": text("products_by_sku") }), (0, false));
    }

    #[test]
    fn each_way_of_the_server_to_say_that_it_cannot_write_has_its_answer() {
        for (code, text, answer) in [
            (14031, "no space left", 507),
            (12501, "quota exceeded", 507),
            (8000, "you are over your space quota, using 512 MB of 512 MB", 507),
            (8000, "an error of another kind", 500),
            (10107, "not primary", 503),
            (13436, "node is recovering", 503),
            (50, "operation exceeded time limit", 503),
            (64, "waiting for replication timed out", 503),
            (11000, "duplicate key", 409),
            (2, "bad value", 500),
        ] {
            let error = Error::from(by_code(code, text));
            assert_eq!(error.kind().status().as_u16(), answer, "{code}");
        }
    }
}
