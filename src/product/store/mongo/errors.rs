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

/// Why an attempt to insert failed.
pub(super) enum Attempt {
    /// It may have been done or not.
    Unknown(StoreError),
    Failed(StoreError),
}

/// The errors of rows that were not inserted, from the reply to the command.
pub(super) fn inserted(reply: Result<Document, DriverError>) -> Result<Vec<StoreError>, Attempt> {
    let reply = reply.map_err(|error| {
        let again =
            matches!(*error.kind, ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. })
                || error.contains_label(RETRYABLE_WRITE_ERROR);
        let kind = if again { Attempt::Unknown } else { Attempt::Failed };
        kind(error.into())
    })?;
    let failures = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let failures = failures.iter().filter_map(Bson::as_document).map(failure).collect();
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
    let code = match error.get("code") {
        Some(Bson::Int32(code)) => *code,
        Some(Bson::Int64(code)) => i32::try_from(*code).unwrap_or_default(),
        Some(Bson::Double(code)) => *code as i32,
        _ => 0,
    };
    by_code(code, error.get_str("errmsg").unwrap_or("no message"))
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
