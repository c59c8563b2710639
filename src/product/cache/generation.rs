//! Names of generations on a server that processes share. A generation is the time between two writes.
//!
//! Generations are ordered: a new one is later than all that its process knows, whatever the clocks say. A server that
//! presents an earlier one has lost data, or is another server, and is not trusted.
//!
//! An *era* ends with an acknowledged write, or with a loss. The generations of one era differ by writes with an unknown
//! outcome: older responses are revalidated, and served while the store is away.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// A generation, laid out as a UUIDv7 (RFC 9562, section 5.7): 60 bits of logical time, the upper 48 of which are
/// milliseconds, then 31 bits for the era and 31 random bits. Older versions use UUIDv4, which has no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GenerationToken(u128);

/// The bits of the logical time below a millisecond, and of the era and of the random part.
const COUNTER: u32 = 12;
const DRAWN: u32 = 31;

impl GenerationToken {
    /// A generation later than `newest`, of `era` or of a new one.
    pub(super) fn after(newest: u64, era: Option<u32>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or_default() << COUNTER;
        let time = u128::from(now.max(newest + 1));
        let (drawn, another) = Uuid::new_v4().as_u64_pair();
        let mask = (1 << DRAWN) - 1;
        let era = u128::from(era.map_or(another & mask, u64::from));
        let (millis, counter) = (time >> COUNTER, time & ((1 << COUNTER) - 1));
        let head = millis << 80 | 7 << 76 | counter << 64 | 0b10 << 62;
        Self(head | era << DRAWN | u128::from(drawn & mask))
    }

    /// The generation with this `number`.
    pub(super) fn from_number(number: u128) -> Self {
        Self(number)
    }

    /// The generation in 16 bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u128::from_be_bytes).map(Self)
    }

    pub(super) fn number(self) -> u128 {
        self.0
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Its logical time; `None` for an unordered one.
    pub(super) fn time(self) -> Option<u64> {
        let time = (self.0 >> 80) << COUNTER | (self.0 >> 64) & ((1 << COUNTER) - 1);
        self.is_ordered().then_some(time as u64)
    }

    /// Its era; `None` for an unordered one.
    pub(super) fn era(self) -> Option<u32> {
        self.is_ordered().then_some(((self.0 >> DRAWN) & ((1 << DRAWN) - 1)) as u32)
    }

    /// Whether all writes between this one and `other` have an unknown outcome.
    pub(super) fn is_of_the_era_of(self, other: Self) -> bool {
        self.era().is_some() && self.era() == other.era()
    }

    fn is_ordered(self) -> bool {
        (self.0 >> 76) & 0xf == 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_begun_is_later_than_any_that_is_known() {
        let first = GenerationToken::after(0, None);
        let now = first.time().unwrap();
        let ahead = now + ((3600 * 1000) << COUNTER);
        for newest in ahead..ahead + 10_000 {
            let next = GenerationToken::after(newest, None);
            assert_eq!(next.time(), Some(newest + 1), "a clock that goes wrong is outrun");
        }
        assert!(
            GenerationToken::after(now - 1, None).time().unwrap() >= now,
            "otherwise it is the time"
        );
    }

    #[test]
    fn it_survives_the_server_and_keeps_its_era() {
        let first = GenerationToken::after(7, None);
        assert_eq!(GenerationToken::read(&first.bytes()), Some(first));
        assert_eq!(Uuid::from_u128(first.number()).get_version_num(), 7);
        assert_eq!(Uuid::from_u128(first.number()).get_variant(), uuid::Variant::RFC4122);
        let doubted = GenerationToken::after(first.time().unwrap(), first.era());
        assert!(doubted != first && doubted.is_of_the_era_of(first));
        assert!(!GenerationToken::after(0, None).is_of_the_era_of(first));
        assert_eq!(GenerationToken::read(b"short"), None);
    }

    #[test]
    fn those_of_before_have_no_order() {
        let old = GenerationToken::from_number(Uuid::new_v4().as_u128());
        assert_eq!((old.time(), old.era()), (None, None));
        assert!(!old.is_of_the_era_of(old));
    }
}
