//! What may happen, at random.

use std::time::Duration;

use cluster_ipc::Lane;
use cluster_ipc::session::{Config, Window};
use proptest::prelude::*;

/// What an application sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) len: usize,
    pub(crate) descriptors: usize,
    pub(crate) memory: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Reply(Size),
    Fail(u8),
}

/// `usize`s choose from what is there, modulo its number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Send(Lane, Size),
    Gap(u64),
    Request(Size, Option<Duration>),
    Answer(usize, Answer),
    Cancel(usize),
    /// One message, or two at once.
    Handle(usize, bool),
    /// Whoever waits for room loses patience.
    GiveUp,
    Finish,
    Events,
    Timeout,
    Write(usize),
    /// With descriptors earlier than their bytes, or not.
    Read(usize, bool),
    /// Everything that can, moves: to the other side, and is looked at there.
    Flow,
    Wait(Duration),
    /// Everything moves in both directions, and nobody handles anything.
    Silence,
    /// The process dies. What it wrote arrives.
    Kill,
    /// The application ends it, after writing what is queued or not.
    Close(bool),
    /// The stream breaks. Of what was written, so many bytes arrive.
    Break(usize),
}

pub(crate) const LARGEST: usize = 300 << 10;

fn size() -> impl Strategy<Value = Size> {
    let len = prop_oneof![
        6 => 0usize..60,
        3 => 0usize..3000,
        2 => (16usize << 10) - 2..(16 << 10) + 3,
        1 => (32usize << 10) - 2..(32 << 10) + 3,
        1 => 0..LARGEST,
    ];
    let descriptors = prop_oneof![12 => Just(0usize), 4 => 1usize..4, 1 => 4usize..20, 1 => 250usize..256];
    (len, descriptors, prop::bool::weighted(0.1)).prop_map(|(len, descriptors, memory)| Size {
        len,
        descriptors,
        memory,
    })
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 1usize..3, 3 => 1usize..100, 3 => 1usize..40_000, 2 => Just(usize::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    let millis = |most: u64| (0..most).prop_map(Duration::from_millis);
    let answer = prop_oneof![3 => size().prop_map(Answer::Reply), 2 => any::<u8>().prop_map(Answer::Fail)];
    prop_oneof![
        16 => size().prop_map(|size| Op::Send(Lane::Data, size)),
        4 => size().prop_map(|size| Op::Send(Lane::Control, size)),
        3 => (1u64..10).prop_map(Op::Gap),
        10 => (size(), prop::option::of(millis(50))).prop_map(|(size, timeout)| Op::Request(size, timeout)),
        10 => (any::<usize>(), answer).prop_map(|(which, answer)| Op::Answer(which, answer)),
        4 => any::<usize>().prop_map(Op::Cancel),
        14 => any::<(usize, bool)>().prop_map(|(which, two)| Op::Handle(which, two)),
        1 => Just(Op::GiveUp),
        1 => prop::bool::weighted(0.2).prop_map(|finish| if finish { Op::Finish } else { Op::Events }),
        8 => Just(Op::Events),
        4 => Just(Op::Timeout),
        14 => bytes().prop_map(Op::Write),
        14 => (bytes(), any::<bool>()).prop_map(|(most, early)| Op::Read(most, early)),
        8 => Just(Op::Flow),
        3 => millis(30).prop_map(Op::Wait),
        2 => Just(Op::Silence),
        1 => any::<(u8, usize)>().prop_map(|(dice, kept)| match dice {
            0..20 => Op::Kill,
            20..40 => Op::Close(kept % 2 == 0),
            40..60 => Op::Break(kept % 3000),
            _ => Op::Flow,
        }),
    ]
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    prop::collection::vec((0usize..2, op()), 0..250)
}

/// What one side takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) window: Window,
    pub(crate) max_message: usize,
    pub(crate) max_requests: u32,
    pub(crate) outbox: usize,
}

impl Limits {
    pub(crate) fn config(&self) -> Config {
        Config::new()
            .window(self.window)
            .max_message(self.max_message)
            .max_requests(self.max_requests)
            .outbox(self.outbox)
            .handshake_timeout(Duration::from_secs(1 << 20))
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let window = (
        prop_oneof![Just(0u64), Just(1), Just(100), Just(5000), Just(20_000), Just(1 << 20)],
        prop_oneof![Just(1u64), Just(2), Just(10), Just(1000)],
        prop_oneof![Just(0u64), Just(2), Just(5), Just(256)],
    );
    let window = window.prop_map(|(bytes, messages, descriptors)| Window { bytes, messages, descriptors });
    let max_message = prop_oneof![Just(50usize), Just(17_000), Just(LARGEST)];
    let outbox = prop_oneof![Just(0usize), Just(500), Just(40_000), Just(1 << 20)];
    (window, max_message, prop_oneof![Just(1u32), Just(2), Just(50)], outbox).prop_map(
        |(window, max_message, max_requests, outbox)| Limits { window, max_message, max_requests, outbox },
    )
}

/// The stream between them. Through a narrow one nothing large is sent, for the sake of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) capacity: usize,
    pub(crate) buffer_len: usize,
    pub(crate) largest: usize,
}

fn course() -> impl Strategy<Value = Course> {
    prop_oneof![
        (1usize..40, 1usize..40).prop_map(|(capacity, buffer_len)| Course {
            capacity,
            buffer_len,
            largest: 200
        }),
        (500usize..30_000, 100usize..5000).prop_map(|(capacity, buffer_len)| Course {
            capacity,
            buffer_len,
            largest: LARGEST
        }),
        Just(Course { capacity: 212_992, buffer_len: 32 << 10, largest: LARGEST }),
    ]
}

pub(crate) fn setting() -> impl Strategy<Value = ([Limits; 2], Course)> {
    ([limits(), limits()], course())
}
