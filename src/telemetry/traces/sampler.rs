//! Which traces are sampled, decided when they begin.

use crate::config::{SamplerKind, Traces};

/// Says for each trace whether it is sampled, as OpenTelemetry's samplers do.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    follows_parent: bool,
    /// How many of the 2⁶³ values of an id's lower half, without its last bit, are sampled.
    bound: u64,
}

/// The number of those values.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// The sampler that `options` name.
    pub fn new(options: &Traces) -> Self {
        use SamplerKind::*;
        let share = match options.sampler {
            AlwaysOn | ParentOrOn => 1.0,
            AlwaysOff | ParentOrOff => 0.0,
            Ratio | ParentOrRatio => options.sampler_arg,
        };
        let follows_parent = matches!(options.sampler, ParentOrOn | ParentOrOff | ParentOrRatio);
        Self { follows_parent, bound: bound(share) }
    }

    /// Whether the trace `trace_id` is sampled; `parent` is whether a caller that is trusted has sampled it, and `None` for a
    /// trace that begins here.
    pub fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        // Other SDKs look at the same bits, so that they sample the same traces.
        let value = trace_id as u64 >> 1;
        let decided = parent.filter(|_| self.follows_parent);
        decided.unwrap_or(value < self.bound)
    }
}

fn bound(share: f64) -> u64 {
    // The product is a whole number of at most 2⁶³ as far as a float can tell.
    (share.clamp(0.0, 1.0) * ALL as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources, load};
    use opentelemetry::trace::{SpanKind, TraceId};
    use opentelemetry_sdk::trace::{
        Sampler as Reference, SamplingDecision, SamplingResult, ShouldSample as _,
    };
    use proptest::prelude::*;

    fn sampler(name: &str, share: f64) -> Sampler {
        let share = share.to_string();
        let set = [("traces.sampler", name), ("traces.sampler_arg", &share)];
        let overrides = set.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let loaded = load(&Sources { overrides, ..Sources::default() });
        let (Settings { traces, .. }, _) = loaded.unwrap();
        Sampler::new(&traces)
    }

    #[test]
    fn each_sampler_does_what_its_name_says() {
        // The name, and what becomes of a trace that begins here, that a caller has sampled, and that one has not.
        for (name, share, expected) in [
            ("always_on", 0.0, [true, true, true]),
            ("always_off", 1.0, [false, false, false]),
            ("traceidratio", 1.0, [true, true, true]),
            ("traceidratio", 0.0, [false, false, false]),
            ("parentbased_always_on", 0.0, [true, true, false]),
            ("parentbased_always_off", 1.0, [false, true, false]),
            ("parentbased_traceidratio", 1.0, [true, true, false]),
            ("parentbased_traceidratio", 0.0, [false, true, false]),
        ] {
            let sampler = sampler(name, share);
            for id in [1, u128::MAX] {
                let found = [None, Some(true), Some(false)].map(|from| sampler.samples(id, from));
                assert_eq!(found, expected, "{name} {share}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_has_all_traces_of_a_smaller_one(id: u128, a in 0.0..=1.0, b in 0.0..=1.0) {
            let [less, more] = if a <= b { [a, b] } else { [b, a] };
            let samples = |share| Sampler { follows_parent: false, bound: bound(share) }.samples(id, None);
            prop_assert!(!samples(less) || samples(more));
        }

        #[test]
        fn a_share_is_that_of_the_sdk(id in 1..=u128::MAX, share in 0.0..=1.0) {
            let reference = Reference::TraceIdRatioBased(share);
            let SamplingResult { decision, .. } = reference.should_sample(
                None, TraceId::from(id), "", &SpanKind::Server, &[], &[],
            );
            let sampler = Sampler { follows_parent: false, bound: bound(share) };
            prop_assert_eq!(sampler.samples(id, None), decision == SamplingDecision::RecordAndSample);
        }
    }

    #[test]
    fn a_share_of_random_ids_is_near_it() {
        let sampler = sampler("traceidratio", 0.25);
        let mut random = fastrand::Rng::with_seed(7);
        let sampled = (0..10_000).filter(|_| sampler.samples(random.u128(..), None)).count();
        assert!((2300..2700).contains(&sampled), "{sampled}");
    }
}
