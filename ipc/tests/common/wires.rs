//! Both ends of a connection within one process: by hand, through a driver, or as raw bytes of a peer that means harm.

use std::collections::HashSet;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Event};
use cluster_ipc::{
    Arrival, Connection, Error, Message, Parcel, Read, Sent, Socket, blocking, tokio as tasks,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::alone::{deadline, null, open_descriptors};

/// As `io::Result`, of this crate's errors.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Two ends of one connection, open on both sides.
pub(crate) fn pair(config: Config) -> (Connection, Connection) {
    let (mut here, mut there) = Connection::pair(config).unwrap();
    assert!(matches!(wait_for_event(&mut there), Event::Opened(_)));
    there.flush(Instant::now());
    assert!(matches!(wait_for_event(&mut here), Event::Opened(_)));
    (here, there)
}

/// The next event of an end that nobody drives but this.
pub(crate) fn wait_for_event(end: &mut Connection) -> Event<Message, OwnedFd> {
    let deadline = deadline();
    loop {
        if let Some(event) = end.poll_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "nothing happens");
        end.flush(Instant::now());
        if end.read(Instant::now()) == Read::Drained {
            wait_until_ready(end.as_fd(), PollFlags::IN, Duration::from_millis(10));
        }
        end.handle_timeout(Instant::now());
    }
}

/// The next event if it can be had without waiting.
pub(crate) fn next_event(end: &mut Connection) -> Option<Event<Message, OwnedFd>> {
    end.flush(Instant::now());
    while end.read(Instant::now()) == Read::Some {}
    end.poll_event()
}

/// The message that has to come next; it counts as handled.
pub(crate) fn expect_message(end: &mut Connection) -> (Bytes, Vec<OwnedFd>) {
    match wait_for_event(end) {
        Event::Message(message) => {
            let (bytes, descriptors, charge) = message.into_parts();
            end.handled(charge);
            end.flush(Instant::now());
            (bytes, descriptors)
        }
        other => panic!("a message should be next, not {other:?}"),
    }
}

/// The end, which has to come next.
pub(crate) fn expect_closed(end: &mut Connection) -> Error {
    match wait_for_event(end) {
        Event::Closed(error) => error,
        other => panic!("the end should be next, not {other:?}"),
    }
}

pub(crate) fn wait_until_ready(fd: BorrowedFd<'_>, what: PollFlags, at_most: Duration) -> PollFlags {
    let mut watched = [PollFd::new(&fd, what)];
    // Interrupted: the caller looks again.
    poll(&mut watched, Timespec::try_from(at_most).ok().as_ref()).ok();
    watched[0].revents()
}

/// A second descriptor of the same end. As long as it is there, the other end sees no end of the stream.
pub(crate) fn raw(end: impl AsFd) -> Socket {
    Socket::from_fd(end.as_fd().try_clone_to_owned().unwrap())
}

/// Writes bytes that no end of ours would write.
pub(crate) fn write_raw(socket: &Socket, bytes: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let sent = socket.send(&[IoSlice::new(bytes)], &descriptors).unwrap();
    assert_eq!(sent, Sent::Bytes(bytes.len()), "so little fits into any socket");
}

/// The kinds of frames that are written by hand here.
pub(crate) const MESSAGE: u8 = 16;

/// Flags of a frame: it must be understood; more of the message follows; the message is in memory.
pub(crate) const KNOWN: u8 = 1;
pub(crate) const MORE: u8 = 2;
pub(crate) const IN_MEMORY: u8 = 4;

/// A header of the data lane, whatever it announces.
pub(crate) fn header(len: u32, kind: u8, flags: u8, descriptors: u8) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend([kind, flags, descriptors, 1]);
    bytes.extend(0u64.to_le_bytes());
    bytes
}

/// A whole frame of the data lane.
pub(crate) fn frame(kind: u8, flags: u8, descriptors: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(payload.len() as u32, kind, flags, descriptors);
    bytes.extend(payload);
    bytes
}

/// The smallest buffers the system allows: 4.5 KiB, of which one write takes half.
pub(crate) fn shrink_buffers(ends: [&Connection; 2]) {
    for end in ends {
        set_socket_send_buffer_size(end, 1).unwrap();
    }
}

/// Descriptors that can be told apart: the readers of pipes, and the writers to know them by.
pub(crate) fn pipes(count: usize) -> (Vec<OwnedFd>, Vec<OwnedFd>) {
    let pipe = || std::io::pipe().map(|(reader, writer)| (reader.into(), writer.into()));
    (0..count).map(|_| pipe().unwrap()).unzip()
}

/// Whether these are the two ends of one pipe.
pub(crate) fn is_of(reader: &OwnedFd, writer: &OwnedFd) -> bool {
    fstat(reader).unwrap().st_ino == fstat(writer).unwrap().st_ino
}

/// Whether no copy of the other end of this pipe is open anywhere, in flight included.
pub(crate) fn is_closed_everywhere(writer: &OwnedFd) -> bool {
    wait_until_ready(writer.as_fd(), PollFlags::OUT, Duration::ZERO).contains(PollFlags::ERR)
}

/// Does something while only so many more descriptors can be opened.
pub(crate) fn with_room_for<R>(descriptors: usize, act: impl FnOnce() -> R) -> R {
    let open: HashSet<i32> = open_descriptors().into_iter().map(|(number, _)| number).collect();
    let (mut free, mut limit) = (0, 0);
    while free < descriptors || open.iter().any(|number| *number == limit) {
        free += usize::from(!open.contains(&limit));
        limit += 1;
    }
    let before = getrlimit(Resource::Nofile);
    let less = Rlimit { current: Some(u64::try_from(limit).unwrap()), maximum: before.maximum };
    setrlimit(Resource::Nofile, less).unwrap();
    let result = act();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

/// As many descriptors as this process may have.
pub(crate) fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// As many `/dev/null`s.
pub(crate) fn nulls(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| null()).collect()
}

/// The two drivers that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Driver {
    Blocking,
    Tokio,
}

impl Driver {
    pub(crate) const BOTH: [Self; 2] = [Self::Blocking, Self::Tokio];
}

/// An end that a driver drives, used alike for both. Each wait has a limit.
pub(crate) enum End {
    Blocking(blocking::Sender<[u8], Raw>, blocking::Receiver<Bytes, Raw>),
    Tokio(tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>, Runtime),
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for a future, but not for ever.
pub(crate) fn wait_for<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let limited = async { tokio::time::timeout_at(deadline().into(), future).await };
    runtime.block_on(limited).expect("it takes too long")
}

impl End {
    pub(crate) fn new(driver: Driver, connection: Connection) -> Self {
        match driver {
            Driver::Blocking => {
                let (sender, receiver) = blocking::Endpoint::new(connection).unwrap().split();
                Self::Blocking(sender, receiver)
            }
            Driver::Tokio => {
                let runtime = runtime();
                let endpoint = runtime.block_on(async { tasks::Endpoint::new(connection) });
                let (sender, receiver) = endpoint.unwrap().split();
                Self::Tokio(sender, receiver, runtime)
            }
        }
    }

    /// What comes next; it has to be a message. `None` when the peer said that this was all.
    pub(crate) fn message(&mut self) -> Result<Option<Parcel<Bytes>>> {
        match self {
            Self::Blocking(_, receiver) => match receiver.next_before(deadline())? {
                Some(Arrival::Message(parcel)) => Ok(Some(parcel)),
                None => Ok(None),
                other => panic!("a message should be next, not {other:?}"),
            },
            Self::Tokio(_, receiver, runtime) => match wait_for(runtime, receiver.next())? {
                Some(Arrival::Message(parcel)) => Ok(Some(parcel)),
                None => Ok(None),
                other => panic!("a message should be next, not {other:?}"),
            },
        }
    }

    /// Sends, and waits until the socket has taken it.
    pub(crate) fn send(&self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<()> {
        match self {
            Self::Blocking(sender, _) => sender.send_with(bytes, descriptors),
            Self::Tokio(sender, _, runtime) => wait_for(runtime, async {
                sender.send_with(bytes, descriptors).await?;
                sender.flush().await
            }),
        }
    }

    /// Asks, without a limit but that of all waiting here.
    pub(crate) fn request(&self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(Bytes, Vec<OwnedFd>)> {
        match self {
            Self::Blocking(sender, _) => sender.client().timeout(None).request_with(bytes, descriptors),
            Self::Tokio(sender, _, runtime) => {
                let client = sender.client().timeout(None);
                wait_for(runtime, client.request_with(bytes, descriptors))
            }
        }
    }
}
