//! The classic BPF program that keeps new connections out.
//!
//! ```text
//!      ldb  [13]               A = the flags; a program of a TCP socket sees packets from the TCP header on
//!      and  #0x12              SYN and ACK
//!      jeq  #0x02, 0, 1        SYN alone: a new connection?
//!      ret  #0                     dropped, without a word
//!      ret  #-1                otherwise: goes on
//! ```

use std::io;
use std::os::fd::AsFd;

use nix::libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
use socket2::{SockFilter, SockRef};

const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Drops the first packet of each new connection to this TCP socket, whoever has a copy of it.
pub(super) fn drop_new(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(&program())
}

fn program() -> [SockFilter; 5] {
    // All codes are below 256.
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    [
        statement(BPF_LD | BPF_B | BPF_ABS, FLAGS),
        statement(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 0, 1, SYN),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_RET | BPF_K, u32::MAX),
    ]
}
