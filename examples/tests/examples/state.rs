//! The examples of the shared state.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::program::{Program, ask, get};
use crate::support::{client, eventually};

/// Starts one, and returns where it listens.
fn start(name: &str) -> (Program, SocketAddr) {
    let program = Program::start(name, &["0"]);
    let address = program.wait_for(1, |line| {
        let rest = line.strip_prefix("listening on ")?;
        Some(rest.split_whitespace().next().unwrap().parse().unwrap())
    });
    (program, address[0])
}

pub(crate) fn counter() {
    let (server, address) = start("counter");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let hit = || get(address, "/").trim().parse::<u32>().unwrap();
                (0..50).map(|_| hit()).collect::<Vec<_>>()
            })
        })
        .collect();
    let hits: BTreeSet<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(hits, (1..=200).collect(), "each number once, over all workers");
    server.stop();
}

pub(crate) fn sessions() {
    let (server, address) = start("sessions");
    assert_eq!(client::get(address, "/").unwrap().status, 401);
    let login = ask(address, "GET", "/login?name=anna", "");
    let (_, cookie) = login.split_once("set-cookie: ").unwrap();
    let (cookie, _) = cookie.split_once(';').unwrap();
    for visit in 1..=20 {
        let answer = ask(address, "GET", "/", &format!("cookie: {cookie}\r\n"));
        assert!(answer.contains(&format!("hello anna, visit {visit} of")), "{visit}: {answer}");
    }
    assert!(ask(address, "GET", "/", "cookie: session=ff\r\n").contains("401"));
    server.stop();
}

pub(crate) fn rate_limiter() {
    let (server, address) = start("rate_limiter");
    // Windows end by the clock, so one may end in between: then there are more.
    let answers: Vec<u16> = (0..40).map(|_| client::get(address, "/").unwrap().status).collect();
    let allowed = answers.iter().filter(|status| **status == 200).count();
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert!((10..=20).contains(&allowed) && allowed + refused == 40, "{answers:?}");
    server.stop();
}

pub(crate) fn configuration() {
    let (server, address) = start("configuration");
    assert_eq!(get(address, "/"), "hello\n");
    assert!(ask(address, "POST", "/greeting?value=moin", "content-length: 0\r\n").contains("200 OK"));
    eventually("all workers to have it", || (0..12).all(|_| get(address, "/") == "moin\n").then_some(()));
    let told = server.wait_for(4, |line| {
        let (worker, told) = line.split_once(": ")?;
        (told == r#"greeting was None, is Some("moin")"#).then(|| worker.to_owned())
    });
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>().len(), 4, "each of them");
    server.stop();
}
