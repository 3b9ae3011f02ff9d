//! With real sockets on loopback, IPv4 and, where there is one, IPv6. Nothing here depends on time: what is waited for
//! is a condition, and [`PATIENCE`] only makes a test fail that would hang.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::thread;
use std::time::Duration;

use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_getfd};

use super::*;

const BACKLOG: i32 = 1024;
const PATIENCE: Duration = Duration::from_secs(120);

/// What was accepted, by slot.
type Accepted = BTreeMap<u32, Vec<TcpStream>>;

/// Port 0 of the loopback addresses of this machine.
fn loopbacks() -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    addresses.extend(TcpListener::bind(six).is_ok().then_some(six));
    addresses
}

fn group(address: SocketAddr, slots: u32) -> Group {
    Group::bind(address, BACKLOG, None, 0..slots).unwrap()
}

fn steer(group: &mut Group, eligible: &[u32]) {
    let steering = group.steer(eligible.iter().copied()).unwrap();
    assert!(matches!(steering, Steering::InForce), "{steering:?}");
}

fn connect(group: &Group) -> TcpStream {
    let stream = TcpStream::connect(group.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Keeps a port for a test that gives it up for a while: bound, but not listening, so nobody is given it as a random
/// port, and who asks for it by number gets it.
fn reserve(address: SocketAddr) -> Socket {
    bind(address, None, false).unwrap()
}

/// Accepts all that wait, on every socket, until it would block.
fn accept(group: &Group, accepted: &mut Accepted) {
    for member in &group.members {
        loop {
            match member.socket.accept() {
                Ok((stream, _)) => accepted.entry(member.slot).or_default().push(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("slot {}: {error}", member.slot),
            }
        }
    }
}

/// Accepts until there are `total`.
fn accept_until(group: &Group, total: usize, accepted: &mut Accepted) {
    loop {
        accept(group, accepted);
        let have: usize = accepted.values().map(Vec::len).sum();
        assert!(have <= total, "{have} instead of {total}");
        if have == total {
            return;
        }
        wait(group);
    }
}

/// Waits until somebody can be accepted.
fn wait(group: &Group) {
    let mut polled: Vec<_> =
        group.members.iter().map(|member| PollFd::new(&member.socket, PollFlags::IN)).collect();
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_ne!(poll(&mut polled, Some(&patience)).unwrap(), 0, "nobody comes");
}

/// Connects `count` times, a few at once, and says who got how many.
fn spread(group: &Group, count: usize) -> BTreeMap<u32, usize> {
    let mut accepted = Accepted::new();
    for done in (0..count).step_by(25) {
        let few = (count - done).min(25);
        let _clients: Vec<_> = (0..few).map(|_| connect(group)).collect();
        accept_until(group, done + few, &mut accepted);
    }
    accepted.into_iter().map(|(slot, streams)| (slot, streams.len())).collect()
}

fn receivers(group: &Group, count: usize) -> Vec<u32> {
    spread(group, count).into_keys().collect()
}

sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, u32);

/// Makes a listener ignore the last packet of a handshake, so that its connections stay in SYN_RECV until they carry
/// data. For the client they are complete. (A socket filter would do too, but Linux 6.18 lets only root have one on TCP.)
fn hold_handshakes(listener: BorrowedFd<'_>) {
    setsockopt(&listener, DeferAccept, &30).unwrap();
}

#[test]
fn only_eligible_slots_get_connections() {
    for address in loopbacks() {
        let mut group = group(address, 4);
        steer(&mut group, &[1, 3]);
        assert_eq!(receivers(&group, 200), [1, 3]);
        steer(&mut group, &[2]);
        assert_eq!(spread(&group, 50), BTreeMap::from([(2, 50)]));
        steer(&mut group, &[0, 1, 2, 3]);
        assert_eq!(receivers(&group, 200), [0, 1, 2, 3]);
    }
}

#[test]
fn without_steering_and_with_nobody_eligible_all_get_some() {
    for address in loopbacks() {
        let mut group = group(address, 3);
        assert_eq!(receivers(&group, 200), [0, 1, 2]);
        steer(&mut group, &[1]);
        steer(&mut group, &[]);
        assert_eq!(receivers(&group, 200), [0, 1, 2]);
        steer(&mut group, &[64]);
        assert_eq!(receivers(&group, 200), [0, 1, 2], "a slot that is not in the group does not count");
    }
}

#[test]
fn when_a_slot_leaves_the_last_one_takes_its_number_and_the_program_follows() {
    for address in loopbacks() {
        let mut group = group(address, 4);
        steer(&mut group, &[1, 3]);
        // A worker has a copy of its socket; it leaves the group all the same.
        let copy = TcpListener::from(group.socket(1).unwrap().try_clone_to_owned().unwrap());
        group.remove(1).unwrap();
        assert_eq!(copy.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(receivers(&group, 50), [3], "what was number 3 is number 1 now");
        steer(&mut group, &[0, 2]);
        assert_eq!(receivers(&group, 100), [0, 2]);
        steer(&mut group, &[2, 3]);
        assert_eq!(receivers(&group, 100), [2, 3]);
        assert!(group.socket(1).is_none());
        group.remove(1).unwrap();
    }
}

#[test]
fn a_slot_that_is_added_gets_nothing_until_it_is_steered_to() {
    for address in loopbacks() {
        let mut group = group(address, 2);
        steer(&mut group, &[0, 1]);
        group.remove(0).unwrap();
        group.add(7).unwrap();
        assert_eq!(receivers(&group, 50), [1]);
        steer(&mut group, &[7]);
        assert_eq!(receivers(&group, 50), [7]);
        assert_eq!(group.add(7).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn when_the_only_eligible_slot_leaves_the_others_get_some() {
    let mut group = group(loopbacks()[0], 3);
    steer(&mut group, &[1]);
    group.remove(1).unwrap();
    assert_eq!(receivers(&group, 100), [0, 2]);
}

#[test]
fn a_group_can_shrink_to_nothing_and_grow_again() {
    let mut group = group(loopbacks()[0], 1);
    let address = group.address();
    let _reserved = reserve(address);
    steer(&mut group, &[0]);
    assert_eq!(receivers(&group, 10), [0]);
    group.remove(0).unwrap();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    steer(&mut group, &[0]);
    group.add(5).unwrap();
    group.add(6).unwrap();
    assert_eq!(group.address(), address, "the port does not change");
    steer(&mut group, &[6]);
    assert_eq!(receivers(&group, 50), [6]);
}

/// Every way in which a slot can leave a group of up to five, whoever is eligible: order and program must follow.
#[test]
fn the_order_is_right_whoever_leaves() {
    let address = loopbacks()[0];
    for slots in 2..=5 {
        for leaving in 0..slots {
            for eligible in 0..slots {
                let mut group = group(address, slots);
                steer(&mut group, &[eligible, leaving]);
                group.remove(leaving).unwrap();
                let rest: Vec<_> = (0..slots).filter(|slot| *slot != leaving).collect();
                let expected = if eligible == leaving { &rest[..] } else { &[eligible] };
                let got = receivers(&group, 10);
                assert!(got.iter().all(|slot| expected.contains(slot)), "{slots} - {leaving}: {got:?}");
                for slot in rest {
                    steer(&mut group, &[slot]);
                    assert_eq!(receivers(&group, 5), [slot], "{slots} - {leaving}");
                }
            }
        }
    }
}

/// The program for the moment between speaks of no number that changes its meaning.
#[test]
fn in_the_moment_between_nobody_is_named_by_a_number_that_changes() {
    let mut group = group(loopbacks()[0], 4);
    for (eligible, leaving, meanwhile) in [
        (&[0, 1, 3][..], 1, &[0][..]), // number 1 becomes slot 3
        (&[0, 1, 3], 3, &[0, 1]),      // nothing moves
        (&[3], 1, &[3]),               // there is no better one; after it the kernel hashes
        (&[], 1, &[0, 2]),
        (&[], 3, &[0, 1, 2]),
    ] {
        steer(&mut group, eligible);
        group.members[leaving].eligible = false;
        assert_eq!(group.meanwhile(leaving), meanwhile, "{eligible:?} without {leaving}");
    }
}

#[test]
fn what_was_queued_before_a_slot_is_steered_away_stays_there() {
    for address in loopbacks() {
        let mut group = group(address, 4);
        steer(&mut group, &[2]);
        let mut before: Vec<_> = (0..20).map(|_| connect(&group)).collect();
        steer(&mut group, &[0]);
        let _after: Vec<_> = (0..20).map(|_| connect(&group)).collect();

        let mut accepted = Accepted::new();
        accept_until(&group, 40, &mut accepted);
        assert_eq!((accepted[&2].len(), accepted[&0].len()), (20, 20), "none moves, none is lost");
        for mut stream in accepted.remove(&2).unwrap() {
            stream.write_all(b"!").unwrap();
        }
        for client in &mut before {
            client.read_exact(&mut [0]).expect("connections from before are alive");
        }
    }
}

#[test]
fn a_handshake_under_way_ends_at_the_socket_that_was_steered_away() {
    for address in loopbacks() {
        let mut group = group(address, 3);
        steer(&mut group, &[1]);
        hold_handshakes(group.socket(1).unwrap());
        let mut client = connect(&group);
        let mut accepted = Accepted::new();
        accept(&group, &mut accepted);
        assert!(accepted.is_empty(), "it is in SYN_RECV, so there is nothing to accept");

        steer(&mut group, &[0, 2]);
        client.write_all(b"?").unwrap();
        accept_until(&group, 1, &mut accepted);
        let mut stream = accepted.remove(&1).expect("it arrives in the queue of slot 1").remove(0);
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"?");
    }
}

/// Not what one would want, but why a slot that retires is steered away *and waited for* before it is removed.
#[test]
fn a_handshake_under_way_is_lost_when_its_socket_is_removed() {
    let migrates = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
    if migrates.is_ok_and(|on| on.trim() != "0") {
        return;
    }
    for address in loopbacks() {
        let mut group = group(address, 3);
        steer(&mut group, &[1]);
        hold_handshakes(group.socket(1).unwrap());
        let mut client = connect(&group);
        group.remove(1).unwrap();
        // The kernel may find out when this arrives, or before.
        let reset = client.write_all(b"?").and_then(|()| client.read_exact(&mut [0])).unwrap_err();
        assert!(matches!(reset.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{reset}");
        let mut accepted = Accepted::new();
        accept(&group, &mut accepted);
        assert!(accepted.is_empty());
    }
}

#[test]
fn a_storm_of_connections_during_many_changes_of_course_loses_none() {
    const CLIENTS: usize = 3;
    const EACH: usize = 100;
    const TURNS: usize = 50;
    for address in loopbacks() {
        let mut group = group(address, 4);
        let real = group.address();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                thread::spawn(move || {
                    for nth in 0..EACH {
                        let mut stream = TcpStream::connect(real).unwrap();
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        stream
                            .read_exact(&mut [0])
                            .unwrap_or_else(|error| panic!("connection {nth}: {error}"));
                    }
                })
            })
            .collect();

        let mut greeted = 0;
        for turn in 1..=TURNS {
            let eligible = [&[0, 1][..], &[2], &[], &[1, 2, 3], &[3, 0]][turn % 5];
            steer(&mut group, eligible);
            // Between two changes some must have come, so that the storm does not end before the changes do.
            let enough = if turn == TURNS { CLIENTS * EACH } else { turn * 5 };
            while greeted < enough {
                wait(&group);
                let mut accepted = Accepted::new();
                accept(&group, &mut accepted);
                for mut stream in accepted.into_values().flatten() {
                    stream.write_all(b"!").unwrap();
                    greeted += 1;
                }
            }
        }
        assert_eq!(greeted, CLIENTS * EACH);
        for client in clients {
            client.join().expect("no client was refused, reset, or left waiting");
        }
    }
}

#[test]
fn many_slots_and_the_last_of_them_is_found() {
    let mut group = group(loopbacks()[0], 200);
    let all: Vec<_> = (0..200).collect();
    steer(&mut group, &all);
    assert!(receivers(&group, 100).len() > 1);
    steer(&mut group, &[199]);
    assert_eq!(receivers(&group, 20), [199]);
}

/// The largest program we make passes the kernel's check, where `net.core.optmem_max` lets it.
#[test]
fn the_kernel_takes_the_largest_program() {
    let group = group(loopbacks()[0], 1);
    let most = u32::try_from(program::MOST).unwrap();
    let mut code = program::choose(most, 0..most).unwrap();
    let fprog = sock_fprog { len: u16::try_from(code.len()).unwrap(), filter: code.as_mut_ptr() };
    match setsockopt(&group.members[0].socket, AttachReusePortCbpf, &fprog) {
        Ok(()) | Err(Errno::ENOMEM) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn where_it_cannot_be_steered_that_is_said_and_connections_still_come() {
    // The kernel has nothing to attach a program to, for this is not a group: EINVAL.
    let socket = TcpListener::bind(loopbacks()[0]).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let members = vec![Member { slot: 0, socket, eligible: false }];
    let mut group = Group { address, backlog: BACKLOG, only_v6: None, members, steered: false };
    let steering = group.steer([0]).unwrap();
    let Steering::Unsupported(error) = steering else { panic!("{steering:?}") };
    assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    assert_eq!(receivers(&group, 10), [0]);
    // No program is in force, so none has to follow.
    group.remove(0).unwrap();

    for (errno, unsupported) in [
        (Errno::ENOPROTOOPT, true),
        (Errno::EINVAL, true),
        (Errno::EPERM, true),
        (Errno::ENOMEM, false),
        (Errno::EBADF, false),
    ] {
        assert_eq!(is_unsupported(&errno.into()), unsupported, "{errno}");
    }
}

#[test]
fn who_listens_there_already_is_an_error_even_with_reuseport_and_one_user() {
    for address in loopbacks() {
        let group = group(address, 2);
        let taken = Group::bind(group.address(), BACKLOG, None, 0..2).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert_eq!(receivers(&group, 50), [0, 1]);
        let address = group.address();
        let _reserved = reserve(address);
        // Who closes first is the one that stays in TIME_WAIT.
        let mut client = connect(&group);
        accept_until(&group, 1, &mut Accepted::new());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, group));
        Group::bind(address, BACKLOG, None, 0..2).expect("connections in TIME_WAIT are no reason to refuse");
    }
}

#[test]
fn sockets_are_made_as_they_should_be() {
    let group = group(loopbacks()[0], 2);
    assert_ne!(group.address().port(), 0);
    for member in &group.members {
        assert_eq!(member.socket.local_addr().unwrap(), group.address());
        assert_eq!(fcntl_getfd(&member.socket).unwrap(), FdFlags::CLOEXEC);
        assert_eq!(member.socket.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let twice = Group::bind(loopbacks()[0], BACKLOG, None, [1, 2, 1]).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
}
