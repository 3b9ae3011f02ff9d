//! What a child does. It says a line when it is where the test wants it.

use std::fs::File;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::exit;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The argument before the role.
pub(crate) const FLAG: &str = "--play-a-role";
/// What `allocate` touches.
pub(crate) const ALLOCATED: usize = 64 << 20;
/// What `open` opens.
pub(crate) const OPENED: usize = 50;
/// What `threads` starts.
pub(crate) const THREADS: usize = 80;

/// Plays a role for this parent, and never returns to the tests.
pub(crate) fn play(role: &str, parent: &str) -> ! {
    // Nobody stays when the test binary is killed, be it before this line.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if getppid().is_none_or(|now| now.as_raw_pid().to_string() != parent) {
        exit(1);
    }
    match role {
        "wait" => {
            say("ready");
            hear();
        }
        "spin" => {
            say("ready");
            loop {
                std::hint::spin_loop();
            }
        }
        "allocate" => {
            say("ready");
            hear();
            // One for each page, at least.
            let memory = vec![1_u8; ALLOCATED];
            say("done");
            hear();
            std::hint::black_box(memory);
        }
        "open" => {
            say("ready");
            hear();
            let files: Vec<_> = (0..OPENED).map(|_| File::open("/dev/null").unwrap()).collect();
            say("done");
            hear();
            drop(files);
        }
        "deadlock" => deadlock(),
        "threads" => {
            let barrier = Arc::new(Barrier::new(THREADS + 1));
            for _ in 0..THREADS {
                let barrier = Arc::clone(&barrier);
                thread::spawn(move || {
                    barrier.wait();
                    loop {
                        thread::park();
                    }
                });
            }
            barrier.wait();
            say("ready");
            hear();
        }
        "name" => {
            let named = thread::Builder::new().name("\x1b[31m\"\n)".to_owned());
            named
                .spawn(|| {
                    loop {
                        thread::park()
                    }
                })
                .unwrap();
            say("ready");
            hear();
        }
        "exit" => exit(3),
        unknown => {
            eprintln!("there is no role {unknown}");
            exit(2);
        }
    }
    exit(0);
}

/// Two threads, each with the lock that the other wants, and a third that waits for them.
fn deadlock() {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let barrier = Arc::new(Barrier::new(3));
    let other = {
        let (locks, barrier) = (Arc::clone(&locks), Arc::clone(&barrier));
        thread::spawn(move || {
            let _one = locks.1.lock();
            barrier.wait();
            let _other = locks.0.lock();
        })
    };
    let one = {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            let _one = locks.0.lock();
            barrier.wait();
            let _other = locks.1.lock();
        })
    };
    barrier.wait();
    say("ready");
    one.join().unwrap();
    other.join().unwrap();
}

fn say(word: &str) {
    let mut stdout = stdout();
    writeln!(stdout, "{word}").unwrap();
    stdout.flush().unwrap();
}

fn hear() {
    stdin().lock().read_line(&mut String::new()).unwrap();
}
