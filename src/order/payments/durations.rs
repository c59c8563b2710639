//! How long requests to the payment provider take, for `/metrics`.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::HistogramVec;
use prometheus::core::Collector;

use super::PaymentError;
use crate::metrics::{DURATIONS, histograms};

static ALL: LazyLock<HistogramVec> = LazyLock::new(|| {
    let about = "How long requests to the payment provider took, in seconds.";
    let labels = ["payment_provider", "payment_operation", "error_type"];
    histograms("payment_request_duration_seconds", about, &labels, &DURATIONS)
});

/// For the registry, with nothing counted yet of `provider`.
pub(in crate::order) fn collector(provider: &str) -> Box<dyn Collector> {
    ALL.with_label_values(&[provider, "confirm", ""]);
    Box::new(ALL.clone())
}

/// Counts a request, named as in `payments.confirm`, to `provider`. That a bank declines is an answer like others.
pub(super) fn count<T>(
    provider: &str,
    name: &str,
    outcome: &Result<T, PaymentError>,
    duration: Duration,
) {
    let operation = name.rsplit('.').next().unwrap_or(name);
    let error = match outcome {
        Ok(_) | Err(PaymentError::Declined(_) | PaymentError::Method(_)) => "",
        Err(PaymentError::Refused(_)) => "refused",
        Err(PaymentError::Away(_)) => "away",
    };
    ALL.with_label_values(&[provider, operation, error]).observe(duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bank_declines_is_an_answer_and_no_answer_is_an_error() {
        let count = |outcome: Result<(), PaymentError>| {
            super::count("test", "payments.confirm", &outcome, Duration::from_millis(3));
        };
        count(Ok(()));
        count(Err(PaymentError::Declined("no money".to_owned())));
        count(Err(PaymentError::Away("timeout".to_owned())));
        let counted = |error| ALL.with_label_values(&["test", "confirm", error]).get_sample_count();
        assert_eq!((counted(""), counted("away"), counted("refused")), (2, 1, 0));
    }
}
