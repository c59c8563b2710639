//! A place for the tasks that awc spawns beside a call and that nobody waits for.
//!
//! For every call awc starts a task that would keep a clock for the `Date` header, which a client does not
//! send, and stops it when the call ends. On the worker's own task set that costs a timer, a wake-up and a
//! system call for each request: 3 µs of 26 in a profile of the gateway. Here such a task is looked at only
//! now and then, and most are over by then.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::sleep;

/// How often the tasks get their turn. What is among them beside the clocks, such as the closing of an old
/// connection, can wait that long.
const TURN: Duration = Duration::from_millis(100);

/// How often a set is polled in one turn.
const MOST: usize = 10_000;

/// The tasks beside one worker's calls; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Tasks(Rc<RefCell<LocalSet>>);

impl Tasks {
    /// None yet. Gives the tasks their turns until the last clone is gone.
    pub(super) fn start() -> Self {
        let tasks = Rc::new(RefCell::new(LocalSet::new()));
        actix_rt::spawn(take_turns(Rc::downgrade(&tasks)));
        Self(tasks)
    }

    /// Waits for `call`; what it spawns comes here.
    pub(super) async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|cx| {
            let _here = self.0.borrow().enter();
            call.as_mut().poll(cx)
        })
        .await
    }
}

async fn take_turns(tasks: Weak<RefCell<LocalSet>>) {
    let more = Arc::new(More::default());
    let waker = Waker::from(more.clone());
    loop {
        sleep(TURN).await;
        let Some(tasks) = tasks.upgrade() else { return };
        // A set stops after some dozens of tasks, and wakes whoever polls it when there are more.
        for _ in 0..MOST {
            more.0.store(false, Ordering::Relaxed);
            let _ = Pin::new(&mut *tasks.borrow_mut()).poll(&mut Context::from_waker(&waker));
            if !more.0.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Notes that it was woken. What wakes a task outside its turn is of no interest: the next turn comes.
#[derive(Default)]
struct More(AtomicBool);

impl Wake for More {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
