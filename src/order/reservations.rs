//! The reservations of an order at the product role, numbered from 0.

use ring::digest::{SHA256, digest};
use uuid::{Builder, Uuid};

/// For how many seconds the pieces of an order are kept when it can no longer be paid.
pub(super) const RESERVED_LONGER: u64 = 60;

/// The id of reservation `number` of the `order`, a UUID of version 8. Every process derives the same, so that a step
/// that is done twice moves pieces once.
pub(super) fn reservation(order: Uuid, number: i64) -> Uuid {
    let digest = digest(&SHA256, &[&order.into_bytes()[..], &number.to_be_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_an_id_of_its_own() {
        let [one, other] = [Uuid::now_v7(), Uuid::now_v7()];
        assert_eq!(reservation(one, 0), reservation(one, 0));
        assert_ne!(reservation(one, 0), reservation(one, 1));
        assert_ne!(reservation(one, 0), reservation(other, 0));
        assert_eq!(reservation(one, 0).get_version_num(), 8);
    }
}
