use std::cell::Cell;
use std::rc::Rc;

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl as _;
use futures_util::future::{join, join_all};
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use super::*;
use crate::deadline;
use crate::storage::sqlite::Pool;
use crate::storage::{Limits, StoreName, StoreState, run_to_completion};

const SECOND: Duration = Duration::from_secs(1);
const BIG: usize = 1_000_000;

/// A file with one table, and a way to it.
struct Shelf {
    folder: TempDir,
    pool: Pool,
    limits: Limits,
}

/// What a write does after it has inserted its row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Commits,
    Fails,
    Panics,
    FillsTheDisk,
}

impl Shelf {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shelf.db");
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let table = "CREATE TABLE books (title TEXT NOT NULL UNIQUE, pages TEXT)";
        connection.batch_execute(&format!("PRAGMA journal_mode = WAL; {table}")).unwrap();
        let state = StoreState::already_prepared();
        let name = StoreName { setting: "test", system: "sqlite" };
        let limits =
            Limits { name, size: 4, acquire: SECOND, statement: SECOND, ends_calls: false, state };
        Self { pool: Pool::new(&path, &limits), limits, folder }
    }

    /// Inserts a book, and gives how many there are in the transaction and for everybody else.
    async fn add(&self, title: &str, then: Then) -> Result<(i64, i64), StoreError> {
        let (pool, path, title) = (self.pool.clone(), self.path(), title.to_owned());
        let write = async move |connection: &mut WriteConnection| {
            insert(connection, &title, 10).await?;
            match then {
                Then::Commits => {}
                Then::Fails => return Err(StoreError::Failed("on purpose".into())),
                Then::Panics => panic!("on purpose"),
                Then::FillsTheDisk => {
                    connection.batch_execute("PRAGMA max_page_count = 8").await?;
                    insert(connection, "big", BIG).await?;
                }
            }
            let all = diesel::sql_query("SELECT count(*) AS count FROM books");
            let own = all.get_result::<Count>(connection).await?.count;
            Ok((own, titles(&path).len() as i64))
        };
        run_to_completion(&self.limits, async move { pool.write(write).await }).await
    }

    fn path(&self) -> String {
        self.folder.path().join("shelf.db").to_str().unwrap().to_owned()
    }

    /// Locks the file, as another process does, until what it gives is dropped.
    fn lock(&self) -> SqliteConnection {
        let mut other = SqliteConnection::establish(&self.path()).unwrap();
        other.batch_execute("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").unwrap();
        other
    }

    /// Does `writes` as one group, and gives what has become of each.
    async fn together(&self, writes: &[(&str, Then)]) -> Vec<Result<(i64, i64), StoreError>> {
        let lock = self.lock();
        let all = join_all(writes.iter().map(|(title, then)| self.add(title, *then)));
        // All are in the queue by then.
        let unlock = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(lock);
        };
        join(all, unlock).await.0
    }
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn insert(connection: &mut WriteConnection, title: &str, size: usize) -> QueryResult<()> {
    let insert = diesel::sql_query("INSERT INTO books VALUES (?, ?)");
    let insert = insert.bind::<Text, _>(title.to_owned()).bind::<Text, _>("x".repeat(size));
    insert.execute(connection).await.map(drop)
}

/// What is committed, in the order in which it was inserted.
fn titles(path: &str) -> Vec<String> {
    let mut connection = SqliteConnection::establish(path).unwrap();
    let titles = diesel::dsl::sql::<Text>("SELECT title FROM books ORDER BY rowid");
    diesel::RunQueryDsl::load(titles, &mut connection).unwrap()
}

#[actix_rt::test]
async fn writes_that_wait_are_committed_together_and_in_their_order() {
    let shelf = Shelf::new();
    let names = (0..100).map(|n| format!("{n}")).collect::<Vec<_>>();
    let writes = names.iter().map(|name| (name.as_str(), Then::Commits)).collect::<Vec<_>>();
    let seen = shelf.together(&writes).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert!(seen.iter().map(|(own, _)| *own).eq(1..=100), "{seen:?}");
    // Nobody else sees a group before its end.
    let mut commits = seen.into_iter().map(|(_, others)| others).collect::<Vec<_>>();
    commits.dedup();
    assert!(commits[0] == 0 && commits.is_sorted() && commits.len() <= 20, "{commits:?}");
    assert_eq!(titles(&shelf.path()), names);
}

#[actix_rt::test]
async fn a_write_that_fails_takes_back_nothing_of_its_group() {
    let shelf = Shelf::new();
    let writes = [
        ("a", Then::Commits),
        ("b", Then::Fails),
        ("a", Then::Commits),
        ("b", Then::Commits),
        ("c", Then::Fails),
        ("d", Then::Commits),
    ];
    let outcomes = shelf.together(&writes).await;
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, false, true, false, true]
    );
    assert!(matches!(outcomes[1], Err(StoreError::Failed(_))));
    assert!(matches!(outcomes[2], Err(StoreError::Duplicate)));
    assert_eq!(titles(&shelf.path()), ["a", "b", "d"]);
}

#[actix_rt::test]
async fn a_full_disk_fails_the_whole_group_and_no_other() {
    let shelf = Shelf::new();
    let writes =
        [("a", Then::Commits), ("b", Then::FillsTheDisk), ("c", Then::Commits), ("a", Then::Fails)];
    let mut outcomes = shelf.together(&writes).await;
    // What came behind it is in a group of its own.
    let behind = outcomes.split_off(2);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Full(_)))));
    assert!(behind[0].is_ok() && behind[1].is_err(), "{behind:?}");
    shelf.add("d", Then::Commits).await.unwrap();
    assert_eq!(titles(&shelf.path()), ["c", "d"]);
}

#[actix_rt::test]
async fn a_write_that_panics_fails_its_group_and_not_the_writer() {
    let shelf = Shelf::new();
    let outcomes = shelf.together(&[("a", Then::Commits), ("b", Then::Panics)]).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Failed(_)))));
    shelf.add("c", Then::Commits).await.unwrap();
    assert_eq!(titles(&shelf.path()), ["c"]);
}

#[actix_rt::test]
async fn no_caller_waits_longer_than_the_others() {
    let shelf = Rc::new(Shelf::new());
    let (callers, writes) = (32, 1600);
    let done = Rc::new(Cell::new(0));
    let counts = join_all((0..callers).map(|caller| {
        let (shelf, done) = (shelf.clone(), done.clone());
        async move {
            let mut own = 0;
            while done.get() < writes {
                shelf.add(&format!("{caller}-{own}"), Then::Commits).await.unwrap();
                done.set(done.get() + 1);
                own += 1;
            }
            own
        }
    }))
    .await;
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2, "{counts:?}");
}

#[actix_rt::test]
async fn a_write_that_waits_in_vain_is_not_done_later() {
    let shelf = Shelf::new();
    let lock = shelf.lock();
    let soon = std::time::Instant::now() + Duration::from_millis(80);
    let (first, second) =
        join(shelf.add("a", Then::Commits), deadline::until(soon, shelf.add("b", Then::Commits)))
            .await;
    assert!(matches!(first, Err(StoreError::Connection(_))), "it waits for the lock: {first:?}");
    assert!(matches!(second, Err(StoreError::Unreachable(_))), "it waits in the queue: {second:?}");
    drop(lock);
    shelf.add("c", Then::Commits).await.unwrap();
    assert_eq!(titles(&shelf.path()), ["c"]);
}

#[actix_rt::test]
async fn the_end_of_a_writer_empties_the_write_ahead_log_although_others_have_the_file_open() {
    let shelf = Shelf::new();
    let path = shelf.path();
    let mut other = SqliteConnection::establish(&path).unwrap();
    other.batch_execute("SELECT * FROM books").unwrap();
    shelf.add("a", Then::Commits).await.unwrap();
    let log = format!("{path}-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    assert!(length() > 0);
    let Shelf { folder: _folder, pool, limits } = shelf;
    drop((pool, limits));
    assert_eq!(length(), 0);
    drop(other);
    assert_eq!(titles(&path), ["a"]);
}

/// What many callers do, each at its time: a title, of few, so that some are there already; what is done then; and how
/// many milliseconds the caller has.
fn history() -> impl proptest::strategy::Strategy<Value = Vec<(u8, Then, u64)>> {
    use proptest::prelude::{Just, prop_oneof};
    let then = prop_oneof![8 => Just(Then::Commits), 2 => Just(Then::Fails), 1 => Just(Then::FillsTheDisk)];
    proptest::collection::vec((0..60_u8, then, prop_oneof![3 => Just(1000), 1 => 1..30_u64]), 1..80)
}

#[test]
fn what_is_acknowledged_is_there_once_and_what_is_refused_is_not() {
    let system = actix_rt::System::new();
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let checked = runner.run(&history(), |history| {
        system.block_on(check(history));
        Ok(())
    });
    checked.unwrap();
}

/// Does what `history` says, while another process locks the file again and again, and compares what is there in the
/// end with what callers were told.
async fn check(history: Vec<(u8, Then, u64)>) {
    let shelf = Rc::new(Shelf::new());
    let writes = history.into_iter().enumerate().map(|(n, (title, then, millis))| {
        let shelf = shelf.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n as u64 % 40)).await;
            let end = Instant::now() + Duration::from_millis(millis);
            let title = format!("{title}");
            let outcome = deadline::until(end, shelf.add(&title, then)).await;
            (title, outcome)
        })
    });
    let writes = join_all(writes.collect::<Vec<_>>());
    let locking = async {
        for millis in [5, 20, 10] {
            let lock = shelf.lock();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            drop(lock);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcomes = join(writes, locking).await.0.into_iter().map(Result::unwrap);
    let mut acknowledged = Vec::new();
    let mut in_doubt = Vec::new();
    for (title, outcome) in outcomes {
        match outcome {
            Ok(_) => acknowledged.push(title),
            Err(StoreError::Connection(_)) => in_doubt.push(title),
            Err(_) => {}
        }
    }
    let mut there = titles(&shelf.path());
    there.retain(|title| !in_doubt.contains(title));
    acknowledged.retain(|title| !in_doubt.contains(title));
    there.sort();
    acknowledged.sort();
    assert_eq!(there, acknowledged);
}
