//! What the outcome of an attempt means for an address, and whether a retry is allowed.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::super::{PeerError, Reply};

/// The outcome of an attempt, as seen by the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Good,
    /// It works, but is overloaded or lacks something; another address may not be.
    Declined,
    /// It failed without getting any of the request.
    Unreachable,
    /// It failed, and may have processed the request.
    Failed,
    /// Unknown: the failure is on this side, or the attempt had too little time.
    Unknown,
}

impl Verdict {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 5] =
        [Self::Good, Self::Declined, Self::Unreachable, Self::Failed, Self::Unknown];

    /// What metrics call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Declined => "declined",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The verdict on `outcome` of an attempt, which had a `fair` time or less.
    pub(super) fn from_outcome(outcome: &Result<Reply, PeerError>, fair: bool) -> Self {
        match outcome {
            Ok(reply) => match reply.status {
                StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => Self::Failed,
                StatusCode::GATEWAY_TIMEOUT if fair => Self::Failed,
                // It knew the remaining time and kept to it.
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

    /// Whether a request can be repeated safely, if its body is complete.
    pub(super) fn allows_retry(self, idempotent: bool) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Failed | Self::Declined => idempotent,
            Self::Good | Self::Unknown => false,
        }
    }
}

/// The pause before the retry with this `number`, from 0: random, up to `base` doubled each time. Full jitter spreads
/// clients that failed together; backon's jitter only adds to the pause ("Exponential Backoff And Jitter", AWS Architecture
/// Blog, 2015).
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
