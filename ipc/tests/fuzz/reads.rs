//! A stream of bytes and descriptors, cut into what single reads return, as bytes: for each read its length (u16), how
//! many descriptors came with it (u8), and the bytes.

use std::cell::Cell;
use std::rc::Rc;

/// What one read returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: u8,
}

/// Any bytes are some reads.
pub(crate) fn parse(mut input: &[u8]) -> Vec<Read> {
    let mut reads = Vec::new();
    while let Some(([l0, l1, descriptors], rest)) = input.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*l0, *l1])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        reads.push(Read { bytes: bytes.to_vec(), descriptors: *descriptors });
        input = rest;
    }
    reads
}

pub(crate) fn write(reads: &[Read]) -> Vec<u8> {
    let mut output = Vec::new();
    for read in reads {
        output.extend((read.bytes.len() as u16).to_le_bytes());
        output.push(read.descriptors);
        output.extend(&read.bytes);
    }
    output
}

/// A descriptor of which it is known whether it was dropped, and which it is.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub(crate) number: u32,
    open: Rc<Cell<usize>>,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

/// Hands out descriptors.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    open: Rc<Cell<usize>>,
    next: u32,
}

impl Kernel {
    pub(crate) fn descriptors(&mut self, count: u8) -> Vec<Descriptor> {
        self.open.set(self.open.get() + usize::from(count));
        let first = self.next;
        self.next += u32::from(count);
        (first..self.next).map(|number| Descriptor { number, open: Rc::clone(&self.open) }).collect()
    }

    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }
}
