//! Sessions that stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::program::{Program, ask};

pub(crate) fn sessions_stay_at_one_worker() {
    let program = Program::start("sticky", &["0"]);
    let address = program.wait_listening(4);
    let begin = || {
        let answer = ask(address, "GET", "/", "");
        let (_, cookie) = answer.split_once("set-cookie: ").unwrap();
        format!("cookie: {}\r\n", cookie.split_once(';').unwrap().0)
    };
    let visit = |cookie: &String| {
        let answer = ask(address, "GET", "/", cookie);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let (worker, visit) = body.trim_end().split_once(": ").unwrap();
        (worker.to_owned(), visit.to_owned())
    };
    let cookies: Vec<String> = (0..20).map(|_| begin()).collect();
    let mut homes = BTreeMap::new();
    for number in 1..=5 {
        for cookie in &cookies {
            let (worker, counted) = visit(cookie);
            assert_eq!(counted, format!("visit {number} of this session"));
            assert_eq!(*homes.entry(cookie).or_insert_with(|| worker.clone()), worker);
        }
    }
    let workers: BTreeSet<_> = homes.values().collect();
    assert!(workers.len() > 1, "they are spread: {homes:?}");
    program.stop();
}
