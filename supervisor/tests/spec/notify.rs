//! Readiness: notifications as to systemd, and a line on a descriptor.

use std::ffi::OsStr;
use std::io::{IoSlice, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use cluster_supervisor::Exit;
use cluster_supervisor::os::{
    Child, ChildSpec, Executable, Field, Notification, NotifySocket, Readiness, ReadyPipe, Senders,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use crate::look::{spec, wait_readable};
use crate::scenes::SCENE;

/// As `sd_notify` does.
pub(crate) fn send(address: &str, text: &[u8]) {
    let address = SocketAddr::from_abstract_name(address.strip_prefix('@').unwrap()).unwrap();
    let sent = UnixDatagram::unbound().unwrap().send_to_addr(text, &address).unwrap();
    assert_eq!(sent, text.len());
}

fn address(socket: &NotifySocket) -> &str {
    socket.address().to_str().unwrap()
}

/// Starts this program to play a scene that notifies.
fn notifier(scene: &str, socket: &NotifySocket) -> Child {
    let spec = ChildSpec::new(Executable::current().unwrap());
    spec.env(SCENE, scene).env("NOTIFY_SOCKET", socket.address()).spawn().unwrap()
}

/// Reads until something counts.
fn receive(socket: &NotifySocket, senders: Senders) -> Notification {
    loop {
        wait_readable(socket);
        if let Some(notification) = socket.receive(senders).unwrap() {
            return notification;
        }
    }
}

fn up() -> [Field; 2] {
    [Field::Ready, Field::Status("up".into())]
}

pub(crate) fn a_childs_notifications_arrive_and_a_strangers_do_not() {
    let socket = NotifySocket::bind().unwrap();
    let child = notifier("notify", &socket);
    // We are its parent: to it, that makes us a stranger.
    send(address(&socket), b"READY=1\nSTATUS=stranger");
    let notification = receive(&socket, Senders::Child(child.pid()));
    assert_eq!((notification.pid(), notification.fields()), (child.pid(), &up()[..]));
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    // Whichever came first, this one was passed over or is now.
    send(address(&socket), b"WATCHDOG=1");
    let gone = Senders::Tree(u32::MAX);
    assert_eq!(socket.receive(gone).unwrap(), None);
    send(address(&socket), b"STOPPING=1");
    let ours = socket.receive(Senders::Anyone).unwrap().unwrap();
    assert_eq!((ours.pid(), ours.fields()), (std::process::id(), &[Field::Stopping][..]));
}

pub(crate) fn a_grandchild_counts_where_the_tree_does() {
    // Alone it would end before we look: its parent keeps it as a zombie only until it is reaped. So the sender is we.
    let socket = NotifySocket::bind().unwrap();
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned();
    send(address(&socket), b"READY=1");
    assert_eq!(socket.receive(Senders::Child(parent)).unwrap(), None, "only the child itself");
    send(address(&socket), b"READY=1");
    let notification = socket.receive(Senders::Tree(parent)).unwrap().unwrap();
    assert_eq!(notification.pid(), std::process::id());
    // And a sender that has ended is nobody's.
    let child = notifier("notify_below", &socket);
    let pid = child.pid();
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    wait_readable(&socket);
    assert_eq!(socket.receive(Senders::Tree(pid)).unwrap(), None);
}

pub(crate) fn datagrams_that_are_too_long_or_carry_descriptors_are_dropped() {
    let socket = NotifySocket::bind().unwrap();
    let text = |length: usize| [b"READY=1\n".to_vec(), vec![b'x'; length - 8]].concat();
    send(address(&socket), &text(4097));
    assert_eq!(socket.receive(Senders::Anyone).unwrap(), None);
    send(address(&socket), &text(4096));
    assert_eq!(socket.receive(Senders::Anyone).unwrap().unwrap().fields(), [Field::Ready]);

    let (mut reader, writer) = std::io::pipe().unwrap();
    send_with_descriptor(&socket, writer.into());
    send(address(&socket), b"STOPPING=1");
    assert_eq!(socket.receive(Senders::Anyone).unwrap().unwrap().fields(), [Field::Stopping]);
    assert_closed(&mut reader);

    // A flood that doesn't count is left for another turn. (The kernel queues ten, give or take.)
    for _ in 0..8 {
        send(address(&socket), b"");
    }
    assert_eq!(socket.receive(Senders::Child(0)).unwrap(), None);
}

/// As `systemd-notify` does for `BARRIER=1`.
fn send_with_descriptor(socket: &NotifySocket, descriptor: OwnedFd) {
    let sender = UnixDatagram::unbound().unwrap();
    let name = OsStr::as_encoded_bytes(socket.address());
    let to = SocketAddrUnix::new_abstract_name(&name[1..]).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg_addr(&sender, &to, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::empty()).unwrap();
}

fn assert_closed(reader: &mut PipeReader) {
    wait_readable(&*reader);
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "the descriptor is closed: who waits for that goes on");
}

pub(crate) fn a_line_on_a_descriptor_is_ready_and_its_end_is_not() {
    for (script, expected) in [
        ("printf starting >&5; read go; echo >&5", Readiness::Ready),
        ("printf starting >&5; read go", Readiness::Closed),
    ] {
        let (mut pipe, childs_end) = ReadyPipe::new().unwrap();
        assert_eq!(pipe.receive().unwrap(), None);
        let spec = spec("sh").args(["-c", script]).stdin(cluster_supervisor::os::Stdio::Piped);
        let mut child = spec.clone().descriptor(5, childs_end).spawn().unwrap();
        wait_readable(&pipe);
        assert_eq!(pipe.receive().unwrap(), None, "no newline yet");
        drop(child.take_stdin());
        wait_readable(&pipe);
        assert_eq!(pipe.receive().unwrap(), Some(expected), "{script}");
        child.wait().unwrap();
    }
}
