//! What came of an import.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many errors are named.
const NAMED: usize = 100;

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// How many products were added.
    #[schema(minimum = 0)]
    pub created: u64,
    /// How many products were replaced.
    #[schema(minimum = 0)]
    pub updated: u64,
    /// How many lines were not imported.
    #[schema(minimum = 0)]
    pub failed: u64,
    /// The first 100 of them.
    #[schema(max_items = 100)]
    pub errors: Vec<LineError>,
}

/// Why a line was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineError {
    /// Its number in the file, from 1 on; of a row with several lines, that of the first.
    #[schema(minimum = 1)]
    pub line: u64,
    /// What is wrong, by field.
    #[schema(example = "price: must not be negative")]
    pub detail: String,
}

/// Errors, of which the first by line are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    count: u64,
    first: BTreeMap<u64, String>,
}

impl Errors {
    pub(super) fn add(&mut self, LineError { line, detail }: LineError) {
        self.count += 1;
        self.keep(line, detail);
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.count += other.count;
        other.first.into_iter().for_each(|(line, detail)| self.keep(line, detail));
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn into_list(self) -> Vec<LineError> {
        self.first.into_iter().map(|(line, detail)| LineError { line, detail }).collect()
    }

    fn keep(&mut self, line: u64, detail: String) {
        self.first.insert(line, detail);
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }
}
