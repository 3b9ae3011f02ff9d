//! A handler that blocks.

use std::io::Write;
use std::net::TcpStream;

use crate::program::{Program, get};

/// Has a worker block for a time, and returns the connection and the worker once it does.
fn block(program: &Program, address: std::net::SocketAddr, ms: u32) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /block?ms={ms} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let blocked = program.wait_for(1, |line| line.split_once(" blocks for ").map(|(who, _)| who.to_owned()));
    (stream, format!("{}\n", blocked[0]))
}

/// Whether something has come that was not read.
fn has_answer(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            false
        }
    }
}

pub(crate) fn others_answer_while_one_is_blocked() {
    let program = Program::start("blocking", &["0"]);
    let address = program.wait_listening(4);
    // For longer than it is left alone, so that it is blocked when the others have answered.
    let (blocked, who) = block(&program, address, 60_000);
    for _ in 0..20 {
        assert_ne!(get(address, "/"), who);
    }
    assert!(!has_answer(&blocked), "the others have answered first");
}

pub(crate) fn a_single_process_answers_nobody_while_it_is_blocked() {
    let program = Program::start("blocking", &["0", "--single"]);
    let address = program.wait_listening(1);
    let (blocked, who) = block(&program, address, 500);
    assert_eq!(get(address, "/"), who, "there is nobody else");
    assert!(has_answer(&blocked), "it came first");
    program.stop();
}
