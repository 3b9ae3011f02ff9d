//! Records in a file, written by a process that may be killed at any moment.
//!
//! A line is its length (four bytes, little endian) and then its bytes, in one write. A command is two lines:
//! one before it is sent, so that it is known if its process never hears of it, and one when it came back.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::record::{Came, Record, What, Who};
use crate::Command;
use crate::protocol;

/// Appends what one process does to its file.
///
/// ```
/// use cluster_shared_state::witness::{Came, Journal, What, Who, read_journal};
/// use cluster_shared_state::{ClientId, Command};
///
/// let mut file = Vec::new();
/// let mut journal = Journal::new(&mut file);
/// let who = Who { client: ClientId::new(0, 1), thread: 0 };
/// let ticket = journal.invoked(who, 1_000, &Command::put("key", "value").into())?;
/// // Send it. If it comes back: journal.returned(ticket, now, came)?
/// # let _ = ticket;
/// # drop(journal);
/// file.extend_from_slice(&[7, 0, 0, 0, 1]); // Killed while it wrote.
///
/// let records = read_journal(&file);
/// assert_eq!(records.len(), 1);
/// assert!(matches!(&records[0].what, What::Command { came: Came::InDoubt, .. }));
/// assert_eq!(records[0].returned, None);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Journal<W> {
    to: W,
    issued: u64,
}

/// A command that was noted before it is sent.
#[derive(Debug)]
#[must_use = "note what came of it"]
pub struct Ticket(u64);

#[derive(Serialize, Deserialize)]
enum Line {
    Whole(Record),
    Invoked { number: u64, who: Who, at: u64, command: Command },
    Returned { number: u64, at: u64, came: Came },
}

impl<W: Write> Journal<W> {
    /// Appends to that: a file that this process alone writes, without a buffer (what is in a buffer dies with
    /// the process).
    pub const fn new(to: W) -> Self {
        Self { to, issued: 0 }
    }

    /// Notes something that is over.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, record: Record) -> io::Result<()> {
        self.write(&Line::Whole(record))
    }

    /// Notes a command that is about to be sent.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn invoked(&mut self, who: Who, at: u64, command: &Command) -> io::Result<Ticket> {
        self.issued += 1;
        let number = self.issued;
        self.write(&Line::Invoked { number, who, at, command: command.clone() })?;
        Ok(Ticket(number))
    }

    /// Notes what came of a command.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn returned(&mut self, ticket: Ticket, at: u64, came: Came) -> io::Result<()> {
        self.write(&Line::Returned { number: ticket.0, at, came })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let line = protocol::encode(line);
        let length = u32::try_from(line.len()).map_err(io::Error::other)?;
        let mut framed = length.to_le_bytes().to_vec();
        framed.extend_from_slice(&line);
        self.to.write_all(&framed)
    }
}

/// All records of one process's file, in the order in which they were begun. What is torn off at its end is
/// left out.
pub fn read_journal(mut bytes: &[u8]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut open = HashMap::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((line, rest)) = rest.split_at_checked(length) else { break };
        let Some(line) = protocol::decode(line) else { break };
        bytes = rest;
        match line {
            Line::Whole(record) => records.push(record),
            Line::Invoked { number, who, at, command } => {
                open.insert(number, records.len());
                let what = What::Command { command, came: Came::InDoubt };
                records.push(Record { who, invoked: at, returned: None, what });
            }
            Line::Returned { number, at, came: result } => {
                let Some(record) = open.remove(&number).and_then(|place| records.get_mut(place)) else {
                    continue;
                };
                record.returned = Some(at);
                if let What::Command { came, .. } = &mut record.what {
                    *came = result;
                }
            }
        }
    }
    records
}
