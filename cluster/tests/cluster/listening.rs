//! Several listeners, shared by number; and a worker that closes its own.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use crate::support::{DEADLINE, eventually};
use crate::{Running, builder};

fn word(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).unwrap();
    word
}

pub(crate) fn listeners_on_any_port_are_shared_by_number() {
    let mut running = Running::start(builder("two-ports").workers(2));
    let addresses = running.wait_serving();
    assert_eq!(addresses.len(), 2, "two workers, but two ports in all: {addresses:?}");
    for _ in 0..10 {
        assert_eq!((word(addresses[0]), word(addresses[1])), ("first".to_owned(), "second".to_owned()));
    }
    running.stop();
}

pub(crate) fn a_worker_that_stops_listening_gets_no_connections() {
    let mut running = Running::start(builder("fickle").workers(2));
    let address = running.wait_serving()[0];
    // Slot 0 answers exactly once; whatever is on its way to it then goes to slot 1.
    let words: Vec<String> = (0..50).map(|_| word(address)).collect();
    assert_eq!(words.iter().filter(|word| *word == "0").count(), 1, "{words:?}");
    eventually("the primary to know", || (running.status().workers.len() == 2).then_some(()));
    running.stop();
}
