//! Requests at random times, as many independent clients would make them, whether or not earlier ones have been
//! answered: a client that waits for its answer asks less often just when the server is slow.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::client::Kept;
use crate::{Result, http, interrupt};

/// How long answers took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) times: Vec<Duration>,
    pub(crate) errors: u64,
}

/// Asks `rate` times a second on average, each time on a connection of its own. The same times for the same seed.
pub(crate) async fn ask(address: SocketAddr, rate: u32, duration: Duration, seed: u64) -> Result<Answers> {
    let mut requests = JoinSet::new();
    let mut due = wake_when_due(rate, duration, seed);
    while due.recv().await.is_some() {
        requests.spawn(async move {
            let begin = Instant::now();
            http::ask(address, "/").await.map(|_| begin.elapsed())
        });
    }
    interrupt::check()?;
    let mut answers = Answers::default();
    while let Some(request) = requests.join_next().await {
        match request? {
            Ok(time) => answers.times.push(time),
            Err(error) => {
                eprintln!("a request failed: {error}");
                answers.errors += 1;
            }
        }
    }
    Ok(answers)
}

/// The same on one connection that stays open. A request that is due before the last answer has come is sent after it,
/// and has waited since it was due. Ends with the first that fails.
pub(crate) fn ask_on(connection: &mut Kept, rate: u32, duration: Duration, seed: u64) -> Answers {
    let mut answers = Answers::default();
    let (begin, mut free) = (Instant::now(), Instant::now());
    for due in random_times(rate, duration, seed).map(|after| begin + after) {
        if interrupt::check().is_err() {
            break;
        }
        // A thread that wakes late is not the server's fault; a connection that is still in use is.
        let asked = if free > due { due } else { sleep_until(due) };
        if let Err(error) = connection.ask("/") {
            eprintln!("a request failed: {error}");
            answers.errors += 1;
            break;
        }
        free = Instant::now();
        answers.times.push(free - asked);
    }
    answers
}

/// Says when to ask.
///
/// On a thread of its own: a timer of tokio is late by up to a millisecond, and would make bursts of requests that are
/// due in the same one.
fn wake_when_due(rate: u32, duration: Duration, seed: u64) -> UnboundedReceiver<()> {
    let (now, due) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let begin = Instant::now();
        for after in random_times(rate, duration, seed) {
            if interrupt::check().is_err() {
                return;
            }
            sleep_until(begin + after);
            if now.send(()).is_err() {
                return;
            }
        }
    });
    due
}

/// Returns when that was.
fn sleep_until(due: Instant) -> Instant {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
    Instant::now()
}

/// The time between two is exponentially distributed.
fn random_times(rate: u32, duration: Duration, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = Duration::ZERO;
    let times = std::iter::repeat_with(move || {
        next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / f64::from(rate));
        next
    });
    times.take_while(move |next| *next < duration)
}
