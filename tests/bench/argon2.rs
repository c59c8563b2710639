//! How many passwords a second so many threads verify, with the parameters of the user role and nothing else
//! to do: `argon2 THREADS SECONDS` prints the number.

#![expect(clippy::unwrap_used, reason = "a program that measures ends where it cannot")]
#![expect(clippy::print_stdout, reason = "the number is what it is for")]

use std::thread;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

const PASSWORD: &[u8] = b"follow the white rabbit";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().unwrap().parse::<u64>().unwrap();
    let (threads, seconds) = (number(), Duration::from_secs(number()));
    let hash = Argon2::default().hash_password(PASSWORD).unwrap().to_string();
    let start = Instant::now();
    let work = || {
        let hash = PasswordHash::new(&hash).unwrap();
        let mut done = 0_u32;
        while start.elapsed() < seconds {
            Argon2::default().verify_password(PASSWORD, &hash).unwrap();
            done += 1;
        }
        done
    };
    let done = thread::scope(|scope| {
        let workers = (0..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
    });
    println!("{:.2}", f64::from(done) / start.elapsed().as_secs_f64());
}
