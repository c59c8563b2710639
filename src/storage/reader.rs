//! Reads that wait for a connection to a SQLite file: the caller that gets one has its thread run the others' reads as well,
//! so that under load no thread is woken for a single read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::{QueryResult, SqliteConnection};
use tokio::sync::oneshot;

/// How long a thread starts reads for others.
const TURN: Duration = Duration::from_millis(1);

type Read = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

/// The waiting reads of one worker thread.
#[derive(Clone, Default)]
pub(super) struct Reads(Arc<Mutex<VecDeque<Read>>>);

impl Reads {
    /// Queues `query`, and returns its future result. It does not run if its caller leaves before.
    pub(super) fn push<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut SqliteConnection) -> QueryResult<T> + Send + 'static,
    ) -> oneshot::Receiver<QueryResult<T>> {
        let (reply, answer) = oneshot::channel();
        self.waiting().push_back(Box::new(move |connection| {
            if !reply.is_closed() {
                // Its caller may have left.
                let _ = reply.send(query(connection));
            }
        }));
        answer
    }

    /// Runs the waiting reads in order, for about [`TURN`]; returns whether none is left. Blocks.
    pub(super) fn work_off(&self, connection: &mut SqliteConnection) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < TURN {
            let next = self.waiting().pop_front();
            let Some(read) = next else { return true };
            read(connection);
        }
        self.waiting().is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("waiting", &self.waiting().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use diesel::dsl::sql;
    use diesel::sql_types::Integer;
    use diesel::{Connection as _, RunQueryDsl as _};

    use super::*;

    fn number(
        number: i32,
    ) -> impl FnOnce(&mut SqliteConnection) -> QueryResult<i32> + Send + 'static {
        move |file| diesel::select(sql::<Integer>(&number.to_string())).get_result(file)
    }

    #[test]
    fn all_that_wait_are_done_but_those_that_nobody_waits_for() {
        let mut file = SqliteConnection::establish(":memory:").unwrap();
        let reads = Reads::default();
        let mut first = reads.push(number(1));
        let done = Arc::new(Mutex::new(false));
        let noted = done.clone();
        drop(reads.push(move |_| {
            *noted.lock().unwrap() = true;
            Ok(())
        }));
        let mut last = reads.push(number(3));
        assert!(first.try_recv().is_err(), "not before there is a connection");
        assert!(reads.work_off(&mut file));
        assert_eq!(first.try_recv().unwrap().unwrap(), 1);
        assert_eq!(last.try_recv().unwrap().unwrap(), 3);
        assert!(!*done.lock().unwrap());
    }

    #[test]
    fn a_turn_ends_while_reads_wait() {
        let mut file = SqliteConnection::establish(":memory:").unwrap();
        let reads = Reads::default();
        let mut slow = reads.push(|_| {
            std::thread::sleep(2 * TURN);
            Ok(())
        });
        let mut next = reads.push(number(2));
        assert!(!reads.work_off(&mut file));
        assert!(slow.try_recv().is_ok() && next.try_recv().is_err());
        assert!(reads.work_off(&mut file));
        assert_eq!(next.try_recv().unwrap().unwrap(), 2);
    }
}
