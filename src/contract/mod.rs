//! What roles say to each other and to the world: values and typed clients, no logic.

mod money;
mod product;
mod user;

pub use money::Money;
pub use product::{Product, ProductClient};
pub use user::{Dashboard, User};

use chrono::{DateTime, SubsecRound as _, Utc};

/// A point in time to the microsecond, which is what every store keeps; RFC 3339 in UTC outside.
pub type Timestamp = DateTime<Utc>;

/// The present, to the microsecond.
pub fn now() -> Timestamp {
    Utc::now().trunc_subsecs(6)
}
