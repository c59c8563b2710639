//! What an attempt says of an address, and whether another may follow.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::super::{PeerError, Reply};

/// What the outcome of an attempt says of where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Good,
    /// It works, and says that it has too much to do or lacks something: another address may not.
    Declined,
    /// It fails, and has got nothing of the request.
    Unreachable,
    /// It fails, and may have done what was asked.
    Failed,
    /// Nothing: the fault is on this side, or it was given less time than is fair.
    Unknown,
}

impl Verdict {
    /// The verdict on `outcome` of an attempt that had its `fair` time, or less.
    pub(super) fn from_outcome(outcome: &Result<Reply, PeerError>, fair: bool) -> Self {
        match outcome {
            Ok(reply) => match reply.status {
                StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => Self::Failed,
                StatusCode::GATEWAY_TIMEOUT if fair => Self::Failed,
                // It was told the time that is left, and kept to it.
                StatusCode::GATEWAY_TIMEOUT => Self::Unknown,
                StatusCode::SERVICE_UNAVAILABLE => Self::Declined,
                _ => Self::Good,
            },
            Err(PeerError::Unreachable(_)) => Self::Unreachable,
            Err(PeerError::Broken(_)) => Self::Failed,
            Err(PeerError::DeadlineExceeded) if fair => Self::Failed,
            Err(_) => Self::Unknown,
        }
    }

    /// Whether a request can be sent again without being done twice, where none of its content is gone.
    pub(super) fn allows_retry(self, idempotent: bool) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Failed | Self::Declined => idempotent,
            Self::Good | Self::Unknown => false,
        }
    }
}

/// How long to wait before the retry with this `number`, the first being 0: anything up to `base`, doubled
/// each time. All of it is left to chance, so that those who failed together do not come back together;
/// backon's jitter, which only adds, would leave them half of that ("Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015).
pub(super) fn backoff(base: Duration, number: u32) -> Duration {
    base.saturating_mul(1 << number.min(16)).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use super::*;

    #[test]
    fn the_backoff_is_anything_up_to_a_bound_that_doubles() {
        for number in 0..3 {
            let bound = Duration::from_millis(25 << number);
            let waits = [(); 1_000].map(|()| backoff(Duration::from_millis(25), number));
            assert!(waits.iter().all(|wait| *wait <= bound));
            assert!(waits.iter().any(|wait| *wait < bound / 10), "some come back at once");
            assert!(waits.iter().any(|wait| *wait > bound * 9 / 10), "some take their time");
        }
    }

    #[test]
    fn what_may_be_done_twice_and_what_not() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(method.parse::<Method>().unwrap().is_idempotent(), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "LINK"] {
            assert!(!method.parse::<Method>().unwrap().is_idempotent(), "{method}");
        }
        for (verdict, idempotent, any) in [
            (Verdict::Good, false, false),
            (Verdict::Unknown, false, false),
            (Verdict::Declined, true, false),
            (Verdict::Failed, true, false),
            (Verdict::Unreachable, true, true),
        ] {
            assert_eq!(verdict.allows_retry(true), idempotent, "{verdict:?}");
            assert_eq!(verdict.allows_retry(false), any, "{verdict:?}");
        }
    }

    #[test]
    fn too_little_time_is_nobodys_failure() {
        let late = Err(PeerError::DeadlineExceeded);
        assert_eq!(Verdict::from_outcome(&late, true), Verdict::Failed);
        assert_eq!(Verdict::from_outcome(&late, false), Verdict::Unknown);
    }
}
