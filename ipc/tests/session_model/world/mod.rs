//! Two sessions, their applications, and the stream between them.

mod events;
mod moves;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cluster_ipc::session::{CallId, Charge, Failure, Payload, Session};
use cluster_ipc::{Lane, TrySendError};

use crate::model::{Answered, Call, Cost, Counted, Entry, Sent, Way};
use crate::ops::{Answer, Course, Limits, Op, Size};
use crate::stream::{Descriptor, Ledger, Pipe, numbers};
use crate::wire::{CHUNK_LEN, beginning_of_time};

#[derive(Clone, Copy, Debug)]
enum What {
    Message,
    Request(Option<Duration>),
    Reply(usize),
    Gap(u64),
}

/// Something to be sent, with its descriptors.
#[derive(Debug)]
struct Want {
    what: What,
    sent: Sent,
    attached: Vec<Descriptor>,
    memory: Option<Descriptor>,
}

/// One side.
#[derive(Debug)]
struct Side {
    /// `None` when its process is dead.
    session: Option<Session<Descriptor>>,
    limits: Limits,
    opened: bool,
    /// The end has been reported.
    closed: bool,
    /// The application ended it.
    closes: bool,
    finished: bool,
    peer_finished: bool,
    /// Refused as `Full`.
    waiting: VecDeque<Want>,
    /// Something was refused since it was last said that it might fit.
    owed: bool,
    /// Messages that were not handled yet.
    held: Vec<(Counted, Cost, Charge)>,
    /// Requests that were not answered yet.
    requests: Vec<usize>,
    /// Time was last told to the session.
    clock: Instant,
    /// Which call failed last because the peer was gone.
    failed: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct World {
    ledger: Ledger,
    now: Instant,
    sides: [Side; 2],
    /// `ways[side]` is from this side to the other.
    ways: [Way; 2],
    calls: Vec<Call>,
    course: Course,
    variants: usize,
    broken: bool,
}

impl World {
    pub(crate) fn new(limits: [Limits; 2], course: Course) -> Self {
        let now = beginning_of_time();
        let ledger = Ledger::default();
        let greeting = [ledger.open(), ledger.open()].into();
        let sessions = [
            Session::parent(limits[0].config(), b"from the parent", greeting, now),
            Session::child(limits[1].config(), b"from the child", now),
        ];
        let mut sides = sessions.into_iter().zip(limits).map(|(session, limits)| Side {
            session: Some(session),
            limits,
            opened: false,
            closed: false,
            closes: false,
            finished: false,
            peer_finished: false,
            waiting: VecDeque::new(),
            owed: false,
            held: Vec::new(),
            requests: Vec::new(),
            clock: now,
            failed: None,
        });
        let sides = [(); 2].map(|()| sides.next().unwrap());
        let way = |receiver: usize| {
            Way::new(Pipe::new(course.capacity, course.buffer_len), limits[receiver].window)
        };
        let ways = [way(1), way(0)];
        Self { ledger, now, sides, ways, calls: Vec::new(), course, variants: 0, broken: false }
    }

    pub(crate) fn apply(&mut self, side: usize, op: Op) {
        if self.sides[side].session.is_none() {
            return;
        }
        match op {
            Op::Send(lane, size) => {
                let want = self.want(What::Message, lane, size);
                self.attempt(side, want);
            }
            Op::Gap(missed) => {
                let want =
                    self.want(What::Gap(missed), Lane::Data, Size { len: 0, descriptors: 0, memory: false });
                self.attempt(side, want);
            }
            Op::Request(size, timeout) => {
                let want = self.want(What::Request(timeout), Lane::Data, size);
                self.attempt(side, want);
            }
            Op::Answer(which, answer) => self.answer(side, which, answer),
            Op::Cancel(which) => self.cancel(side, which),
            Op::Handle(which, two) => self.handle(side, which, two),
            Op::GiveUp => self.give_up(side),
            Op::Finish => self.finish(side),
            Op::Events => drop(self.events(side)),
            Op::Timeout => self.timeout(side),
            Op::Write(most) => drop(self.write(side, most)),
            Op::Read(most, early) => drop(self.read(side, most, early)),
            Op::Flow => drop(self.flow(side)),
            Op::Wait(time) => self.now += time,
            Op::Silence => self.silence(),
            Op::Kill => self.kill(side),
            Op::Close(flush) => self.close(side, flush),
            Op::Break(kept) => self.cut(kept),
        }
    }

    fn session(&mut self, side: usize) -> &mut Session<Descriptor> {
        self.sides[side].session.as_mut().expect("it lives")
    }

    fn is_over(&self) -> bool {
        self.broken || self.sides.iter().any(|side| side.session.is_none() || side.closes)
    }

    // What applications do.

    fn want(&mut self, what: What, lane: Lane, size: Size) -> Want {
        let attached: Vec<_> = (0..size.descriptors).map(|_| self.ledger.open()).collect();
        let memory = size.memory.then(|| self.ledger.open());
        self.variants += 1;
        let most = self.course.largest;
        let len = if size.len > most { size.len % most } else { size.len };
        let len = match lane {
            // Never empty, so that it can be told from a message in the other lane.
            Lane::Control => (len % (CHUNK_LEN + 10)).max(1),
            Lane::Data => len,
        };
        let sent = Sent {
            lane,
            len,
            variant: self.variants,
            descriptors: numbers(&attached),
            memory: memory.as_ref().map(|descriptor| descriptor.number),
        };
        Want { what, sent, attached, memory }
    }

    /// Asks the session to send something. Whatever it says is checked.
    fn attempt(&mut self, side: usize, want: Want) {
        let Want { what, sent, attached, memory } = want;
        let now = self.now;
        let wanted = match what {
            What::Reply(call) => {
                let request = self.calls[call].request.expect("it was reported");
                self.session(side).is_wanted(request)
            }
            _ => true,
        };
        let payload = match memory {
            Some(descriptor) => Payload::Memory { len: sent.len as u64, descriptor },
            None => Payload::Inline(sent.content()),
        };
        let session = self.sides[side].session.as_mut().expect("it lives");
        let mut id = None;
        let result = match what {
            What::Message => session.send(sent.lane, payload, attached),
            What::Request(timeout) => {
                session.request(payload, attached, timeout, now).map(|begun| id = Some(begun))
            }
            What::Reply(call) => session.respond(self.calls[call].request.unwrap(), payload, attached),
            What::Gap(missed) => {
                session.send_gap(missed).map_err(|refused| refused.map(|()| (payload, attached)))
            }
        };
        let peer = self.sides[1 - side].limits;
        match result {
            Ok(()) if !wanted => self.note_answer(side, what, None),
            Ok(()) => {
                assert!(
                    self.session(side).is_open(),
                    "nothing is sent before the handshake or after the end"
                );
                assert!(!sent.is_too_large(&peer), "{sent:?} is above the limits of the peer");
                self.note_sent(side, what, sent, id);
            }
            Err(TrySendError::Full((payload, attached))) => {
                let memory = come_back(&sent, payload, &attached);
                let side = &mut self.sides[side];
                side.owed = true;
                side.waiting.push_back(Want { what, sent, attached, memory });
            }
            Err(TrySendError::TooLarge((payload, attached))) => {
                come_back(&sent, payload, &attached);
                assert!(sent.is_too_large(&peer), "{sent:?} is within the limits of the peer");
                if let What::Reply(call) = what {
                    self.sides[side].requests.push(call);
                }
            }
            Err(TrySendError::Closed((payload, attached))) => {
                come_back(&sent, payload, &attached);
                let silent = self.sides[side].finished && !matches!(what, What::Reply(_));
                assert!(silent || self.session(side).is_closed(), "it could have been sent");
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn note_sent(&mut self, side: usize, what: What, sent: Sent, id: Option<CallId>) {
        let way = &mut self.ways[side];
        match what {
            What::Gap(missed) => way.send(Entry::Gap(missed)),
            What::Message if sent.lane == Lane::Control => {
                way.outstanding(Counted::Control).add(sent.cost());
                way.urgent_unwritten += 1;
                let place = way.place(Lane::Control);
                way.urgent.push_back((place, sent));
            }
            What::Message => {
                way.outstanding(Counted::Data).add(sent.cost());
                way.send(Entry::Message(sent));
            }
            What::Request(timeout) => {
                way.outstanding(Counted::Data).add(sent.cost());
                way.send(Entry::Request(self.calls.len()));
                self.calls.push(Call {
                    owner: side,
                    id: id.expect("it has one"),
                    asked: self.now,
                    timeout,
                    sent,
                    cancel_asked: false,
                    end: None,
                    request: None,
                    answered: None,
                    told: false,
                });
                let most = self.sides.iter().map(|side| side.limits.max_requests as usize).min().unwrap();
                let open = self.calls.iter().filter(|call| call.owner == side && call.answered.is_none());
                assert!(open.count() <= most, "no more requests are at the peer than agreed");
            }
            What::Reply(_) => self.note_answer(side, what, Some(sent)),
        }
    }

    /// A request was answered: with a reply that was queued, or it is dropped as nobody wants it.
    fn note_answer(&mut self, side: usize, what: What, reply: Option<Sent>) {
        let What::Reply(call) = what else { panic!("{what:?} is no answer") };
        let call = &mut self.calls[call];
        call.answered = Some(match reply {
            Some(sent) => {
                let way = &mut self.ways[side];
                if !call.is_abandoned() {
                    way.outstanding(Counted::Replies).add(sent.cost());
                }
                Answered::Reply(way.place(Lane::Data), sent)
            }
            None => Answered::Failure(Failure::Unanswered),
        });
    }

    fn answer(&mut self, side: usize, which: usize, answer: Answer) {
        if self.sides[side].requests.is_empty() {
            return;
        }
        let which = which % self.sides[side].requests.len();
        let call = self.sides[side].requests.swap_remove(which);
        match answer {
            Answer::Reply(size) => {
                let want = self.want(What::Reply(call), Lane::Data, size);
                self.attempt(side, want);
            }
            Answer::Fail(dice) => {
                let reason = format!("for reason {dice}");
                let failure = match dice % 4 {
                    0 => Failure::Unanswered,
                    1 => Failure::Unhandled,
                    2 => Failure::Undecodable { reason },
                    _ => Failure::Refused { reason },
                };
                let request = self.calls[call].request.expect("it was reported");
                if !self.session(side).is_closed() {
                    self.calls[call].answered = Some(Answered::Failure(failure.clone()));
                }
                self.session(side).fail(request, &failure);
            }
        }
    }

    fn cancel(&mut self, side: usize, which: usize) {
        let open = |call: &&mut Call| call.owner == side && call.end.is_none();
        let count = self.calls.iter_mut().filter(open).count();
        if count > 0 {
            let call = self.calls.iter_mut().filter(open).nth(which % count).unwrap();
            call.cancel_asked = true;
            let id = call.id;
            self.session(side).cancel(id);
            // So that the model knows at once whether it came in time.
            self.events(side);
        }
    }

    fn handle(&mut self, side: usize, which: usize, two: bool) {
        let mut charge = Charge::default();
        for _ in 0..if two { 2 } else { 1 } {
            let held = &mut self.sides[side].held;
            if held.is_empty() {
                break;
            }
            let (counted, cost, more) = held.swap_remove(which % held.len());
            self.ways[1 - side].outstanding(counted).subtract(cost);
            charge = charge.and(more);
        }
        self.session(side).handled(charge);
    }

    fn give_up(&mut self, side: usize) {
        for want in std::mem::take(&mut self.sides[side].waiting) {
            if let What::Reply(call) = want.what {
                self.sides[side].requests.push(call);
            }
        }
    }

    fn finish(&mut self, side: usize) {
        let again = std::mem::replace(&mut self.sides[side].finished, true);
        if !again && !self.session(side).is_closed() {
            self.ways[side].send(Entry::Finish);
        }
        self.session(side).finish();
    }

    fn retry(&mut self, side: usize) {
        for want in std::mem::take(&mut self.sides[side].waiting) {
            self.attempt(side, want);
        }
    }
}

/// What was refused is all there.
fn come_back(
    sent: &Sent,
    payload: Payload<&[u8], Descriptor>,
    attached: &[Descriptor],
) -> Option<Descriptor> {
    assert_eq!(numbers(attached), sent.descriptors);
    let memory = match payload {
        Payload::Inline(bytes) => {
            assert!(std::ptr::eq(bytes, sent.content()));
            None
        }
        Payload::Memory { len, descriptor } => {
            assert_eq!(len, sent.len as u64);
            Some(descriptor)
        }
    };
    assert_eq!(memory.as_ref().map(|descriptor| descriptor.number), sent.memory);
    memory
}
