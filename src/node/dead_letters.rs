//! The commands on dead letters.

use std::collections::BTreeSet;

use super::{Failure, Role, composition, tls};
use crate::auth::Audit;
use crate::config::{Effective, EventsUrl, Settings};
use crate::events::{DeadLetters, Decision};

/// Some dead letters.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// All of them.
    All,
    /// Those with these ids.
    Ids(&'a [String]),
}

/// The dead letters of `roles`, wherever the settings have them.
///
/// # Errors
/// When the broker does not answer, or a store cannot be used.
pub async fn find(
    (settings, effective): (&Settings, &Effective),
    roles: &[Role],
) -> Result<DeadLetters, Failure> {
    if let EventsUrl::Amqp(url) = &settings.events.url {
        let tls = tls::broker(settings, effective)?;
        let broker = composition::broker(url, tls, roles).connected().await?;
        return Ok(DeadLetters::Broker(broker));
    }
    let mut logs = Vec::new();
    for role in roles {
        let log = role.find_log(settings).await;
        logs.extend(log.map_err(|error| effective.explain(error))?);
    }
    Ok(DeadLetters::Logs(logs))
}

/// Carries out `decision` on those of `letters` that are selected. Returns on how many.
///
/// # Errors
/// When a store or the broker fails, and for ids that are not there; the others are done.
pub async fn decide(
    letters: &DeadLetters,
    decision: Decision,
    selection: Selection<'_>,
) -> Result<u64, Failure> {
    let audit = Audit::for_command();
    let event = decision.audit_event();
    let ids = match selection {
        Selection::Ids(ids) => ids,
        Selection::All => {
            let count = letters.decide_on_all(decision).await?;
            audit.note(event, None, &format!("all, which were {count}"));
            return Ok(count);
        }
    };
    let mut done = BTreeSet::new();
    let decided = letters.decide(decision, ids, &mut done).await;
    done.iter().for_each(|id| audit.note(event, None, id));
    decided?;
    let missing = ids.iter().filter(|id| !done.contains(*id)).map(String::as_str);
    let missing = missing.collect::<Vec<_>>();
    match missing.is_empty() {
        true => Ok(ids.len() as u64),
        false => Err(Failure::Other(format!("there is no dead letter {}", missing.join(", ")))),
    }
}
