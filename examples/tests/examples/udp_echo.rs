//! Datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::program::Program;
use crate::support::eventually;

pub(crate) fn datagrams_come_back() {
    let program = Program::start("udp_echo", &["0"]);
    let address =
        |line: &str| line.split_once(" receives on ").map(|(_, it)| it.parse::<SocketAddr>().unwrap());
    let address = program.wait_for(4, address)[0];
    for text in 0..20 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut echo = [0; 64];
        // As clients of UDP do, in case one is lost.
        let length = eventually("an echo", || {
            socket.send_to(format!("datagram {text}").as_bytes(), address).unwrap();
            socket.recv(&mut echo).ok()
        });
        let echo = String::from_utf8_lossy(&echo[..length]);
        let (worker, text_back) = echo.split_once(": ").unwrap();
        assert!((0..4).any(|slot| worker == format!("worker {slot}")), "{worker}");
        assert_eq!(text_back, format!("datagram {text}"));
    }
    program.stop();
}
