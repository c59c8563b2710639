//! Why spans are lost that were given to the exporter.

use awc::error::{ConnectError, SendRequestError};

/// Why the collector has not taken spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached")]
    Unreachable,
    #[error("its answer is late")]
    Timeout,
    #[error("its answer was lost")]
    Lost,
    #[error("it answered {0}")]
    Status(u16),
    #[error("it has rejected them")]
    Rejected,
    #[error("they cannot be encoded")]
    Encoding,
}

impl Failure {
    /// What metrics call it; there are few.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Rejected => "rejected",
            Self::Encoding => "encoding",
            Self::Status(status) => match status {
                400 => "400",
                401 => "401",
                403 => "403",
                404 => "404",
                413 => "413",
                415 => "415",
                429 => "429",
                500 => "500",
                502 => "502",
                503 => "503",
                504 => "504",
                _ => "_OTHER",
            },
        }
    }

    /// Whether the same batch may be taken later (OTLP, "Failures").
    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Lost | Self::Status(429 | 502 | 503 | 504))
    }
}

impl From<&SendRequestError> for Failure {
    fn from(error: &SendRequestError) -> Self {
        match error {
            SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
                Self::Timeout
            }
            SendRequestError::Connect(_) => Self::Unreachable,
            _ => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metrics_have_few_names_for_failures() {
        let all = (0..=u16::MAX).map(|status| Failure::Status(status).label());
        let labels = all.collect::<BTreeSet<_>>();
        assert!(labels.len() < 20, "{labels:?}");
        assert_eq!(Failure::Status(429).label(), "429");
        assert_eq!(Failure::Status(418).label(), "_OTHER");
    }
}
