//! Who handles what, by name, in one process.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::budget::{Budget, Cost, Share};
use super::limits::capacity;
use super::{Letter, Limits, Peer};
use crate::Error;
use crate::codec::decode_borrowed;
use crate::events::{Answer, Event};
use crate::session::{Failure, Window};

/// A letter that has not been read.
#[derive(Debug)]
pub(super) struct Sealed<K> {
    pub(super) from: Peer<K>,
    pub(super) sent_at: SystemTime,
    /// The name, and the message.
    pub(super) body: Bytes,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl<K> Sealed<K> {
    pub(super) fn cost(&self) -> Cost {
        Cost::of(&self.body, &self.descriptors)
    }

    fn name(&self) -> Option<&str> {
        postcard::take_from_bytes::<&str>(&self.body).ok().map(|(name, _)| name)
    }

    pub(super) fn read<E: Event>(self) -> Result<Letter<E, K>, Error> {
        let (_, message) = postcard::take_from_bytes::<&str>(&self.body)
            .map_err(|error| Error::Decode { reason: error.to_string() })?;
        let message = decode_borrowed(message)?;
        Ok(Letter { from: self.from, sent_at: self.sent_at, message, descriptors: self.descriptors })
    }
}

/// An answer on its way.
pub(super) type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Begins to answer a call.
pub(super) type Answerer<K> = Arc<dyn Fn(Sealed<K>) -> Result<Pending, Failure> + Send + Sync>;

/// A letter that waits for its handler, and the room that it takes up.
#[derive(Debug)]
pub(super) struct Waiting<K> {
    letter: Sealed<K>,
    _share: Share,
}

impl<K> Waiting<K> {
    pub(super) fn read<E: Event>(self) -> Result<Letter<E, K>, Error> {
        self.letter.read()
    }
}

/// Where the letters of one name wait for a handler that is busy. When it is full, its process reads no more.
struct Queue<K> {
    letters: mpsc::Sender<Waiting<K>>,
    room: Budget,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { letters: self.letters.clone(), room: self.room.clone() }
    }
}

impl<K> Queue<K> {
    /// Puts a letter in when there is room. It comes back if nobody takes any more.
    async fn put(&self, letter: Sealed<K>) -> Result<(), Sealed<K>> {
        let _share = self.room.take(letter.cost()).await;
        let put = self.letters.send(Waiting { letter, _share }).await;
        put.map_err(|mpsc::error::SendError(unsent)| unsent.letter)
    }

    /// The same if there is room now.
    fn try_put(&self, letter: Sealed<K>) -> Result<(), Sealed<K>> {
        let place = self.letters.try_reserve().ok();
        match place.zip(self.room.try_take(letter.cost())) {
            Some((place, _share)) => {
                place.send(Waiting { letter, _share });
                Ok(())
            }
            None => Err(letter),
        }
    }
}

/// The handlers of a process, and the letters that wait for theirs.
pub(super) struct Mailbox<K> {
    state: Mutex<State<K>>,
    /// Rung when there is one handler of calls more, or there will be none.
    changed: Notify,
    /// What may wait for a handler.
    queue: Window,
}

struct State<K> {
    queues: HashMap<&'static str, Queue<K>>,
    answerers: HashMap<&'static str, Answerer<K>>,
    held: VecDeque<Sealed<K>>,
    /// What may be held. It fits into a queue that is empty.
    most: Window,
    settled: bool,
    lost: u64,
}

impl<K> State<K> {
    /// Keeps a letter for a handler to come, instead of the oldest ones if there are too many.
    fn hold(&mut self, letter: Sealed<K>) {
        while !self.held.is_empty() && !self.has_room_for(&letter) {
            self.held.pop_front();
            self.lost += 1;
        }
        self.held.push_back(letter);
    }

    fn has_room_for(&self, letter: &Sealed<K>) -> bool {
        let (mut messages, mut bytes, mut descriptors) = (0, 0, 0);
        for Cost { bytes: more, descriptors: more_descriptors } in
            self.held.iter().chain([letter]).map(Sealed::cost)
        {
            messages += 1;
            bytes += more as u64;
            descriptors += more_descriptors as u64;
        }
        messages <= self.most.messages && bytes <= self.most.bytes && descriptors <= self.most.descriptors
    }
}

impl<K> std::fmt::Debug for Mailbox<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        let names: Vec<_> = state.queues.keys().chain(state.answerers.keys()).collect();
        f.debug_struct("Mailbox").field("names", &names).finish_non_exhaustive()
    }
}

impl<K> Mailbox<K> {
    pub(super) fn new(limits: &Limits) -> Self {
        let Limits { queue, unhandled, .. } = *limits;
        let state = State {
            queues: HashMap::new(),
            answerers: HashMap::new(),
            held: VecDeque::new(),
            most: Window {
                bytes: unhandled.bytes.min(queue.bytes),
                messages: unhandled.messages.min(queue.messages),
                descriptors: unhandled.descriptors.min(queue.descriptors),
            },
            settled: false,
            lost: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), queue }
    }

    /// A panic elsewhere leaves the state whole: nothing in here calls out while it is being changed.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings letters of this name here from now on, those first that have waited for it.
    pub(super) fn open(&self, name: &'static str) -> mpsc::Receiver<Waiting<K>> {
        let (letters, receiver) = mpsc::channel(capacity(self.queue));
        let queue = Queue { letters, room: Budget::new(self.queue) };
        let mut state = self.lock();
        for letter in std::mem::take(&mut state.held) {
            if letter.name() == Some(name) {
                // There is room for more than may be held.
                drop(queue.try_put(letter));
            } else {
                state.held.push_back(letter);
            }
        }
        state.queues.insert(name, queue);
        receiver
    }

    /// Has calls of this name answered so from now on.
    pub(super) fn answer(&self, name: &'static str, answerer: Answerer<K>) {
        self.lock().answerers.insert(name, answerer);
        self.changed.notify_waiters();
    }

    /// From now on calls that nobody answers are refused at once.
    pub(super) fn settle(&self) {
        self.lock().settled = true;
        self.changed.notify_waiters();
    }

    /// Counts a letter that could not be read.
    pub(super) fn lose(&self) {
        self.lock().lost += 1;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Brings a letter to its handler, waiting while that one has too many. Without one it waits here.
    pub(super) async fn deliver(&self, mut letter: Sealed<K>) {
        loop {
            let queue = {
                let mut state = self.lock();
                match letter.name().and_then(|name| state.queues.get(name)) {
                    Some(queue) => queue.clone(),
                    None => return state.hold(letter),
                }
            };
            match queue.put(letter).await {
                Ok(()) => return,
                // Whoever had taken it up has dropped it: another may.
                Err(unput) => letter = unput,
            }
        }
    }

    /// The receiver of this name's letters takes no more of them: those that wait in it wait for another from now on.
    pub(super) fn close(&self, name: &'static str, receiver: &mut mpsc::Receiver<Waiting<K>>) {
        let mut state = self.lock();
        receiver.close();
        // Otherwise somebody else has the name, and letters that are newer.
        let is_last = state.queues.get(name).is_none_or(|queue| queue.letters.is_closed());
        if is_last {
            state.queues.remove(name);
        }
        while let Ok(Waiting { letter, .. }) = receiver.try_recv() {
            if is_last { state.hold(letter) } else { state.lost += 1 }
        }
    }

    /// Answers a call. Until it is settled that there is no handler it waits for one.
    pub(super) async fn call(&self, call: Sealed<K>) -> Answer {
        let answerer = loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                let name = call.name().ok_or_else(nameless)?;
                match state.answerers.get(name) {
                    Some(answerer) => break Arc::clone(answerer),
                    None if state.settled => return Err(Failure::Unhandled),
                    None => {}
                }
            }
            changed.await;
        };
        answerer(call)?.await
    }
}

fn nameless() -> Failure {
    Failure::Undecodable { reason: "it has no name".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::events::named;
    use crate::switch::Letters;

    const MOST: Window = Window { bytes: 200, messages: 4, descriptors: 1 };
    const HELD: Window = Window { bytes: 100, messages: 3, descriptors: 1 };

    /// From whom, the how-manieth of its letters, and so many bytes more.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Left(usize, u32, Vec<u8>);
    impl Event for Left {
        const NAME: &'static str = "left";
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Right(usize, u32, Vec<u8>);
    impl Event for Right {
        const NAME: &'static str = "right";
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// Whoever has this number sends the next letter, if its last one is delivered: to the right or not, so large.
        Send(usize, bool, usize),
        Open(bool),
        /// Takes the next.
        Take(bool),
        TakeWaiting(bool),
        Drop(bool),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            6 => (0..3_usize, any::<bool>(), 0..250_usize).prop_map(|(who, side, len)| Op::Send(who, side, len)),
            1 => any::<bool>().prop_map(Op::Open),
            3 => any::<bool>().prop_map(Op::Take),
            1 => any::<bool>().prop_map(Op::TakeWaiting),
            1 => any::<bool>().prop_map(Op::Drop),
        ];
        proptest::collection::vec(op, 0..150)
    }

    type Delivery = Pin<Box<dyn Future<Output = ()>>>;

    struct World {
        mailbox: Arc<Mailbox<u32>>,
        left: Option<Letters<Left, u32>>,
        right: Option<Letters<Right, u32>>,
        deliveries: [Option<Delivery>; 3],
        sent: [u32; 3],
        /// The last number that was taken, by sender and side.
        last: BTreeMap<(usize, bool), u32>,
        taken: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                mailbox: Arc::new(Mailbox::new(&Limits::new().queue(MOST).unhandled(HELD))),
                left: None,
                right: None,
                deliveries: [None, None, None],
                sent: [0; 3],
                last: BTreeMap::new(),
                taken: 0,
            }
        }

        fn apply(&mut self, op: Op) {
            match op {
                Op::Send(who, side, len) if self.deliveries[who].is_none() => {
                    self.sent[who] += 1;
                    let (number, fill) = (self.sent[who], vec![0; len]);
                    let body =
                        if side { named(&Right(who, number, fill)) } else { named(&Left(who, number, fill)) };
                    let letter = Sealed {
                        from: Peer::Worker(0),
                        sent_at: SystemTime::UNIX_EPOCH,
                        body: body.unwrap(),
                        descriptors: Vec::new(),
                    };
                    let mailbox = Arc::clone(&self.mailbox);
                    self.deliveries[who] = Some(Box::pin(async move { mailbox.deliver(letter).await }));
                }
                Op::Send(..) => {}
                // It replaces another, as `Port::stream` does.
                Op::Open(true) => self.right = Some(Letters::new(Arc::clone(&self.mailbox))),
                Op::Open(false) => self.left = Some(Letters::new(Arc::clone(&self.mailbox))),
                Op::Take(true) => {
                    let letter = self.right.as_mut().and_then(|letters| now(letters.recv()).flatten());
                    letter.into_iter().for_each(|letter| self.took(true, letter.message.0, letter.message.1));
                }
                Op::Take(false) => {
                    let letter = self.left.as_mut().and_then(|letters| now(letters.recv()).flatten());
                    letter
                        .into_iter()
                        .for_each(|letter| self.took(false, letter.message.0, letter.message.1));
                }
                Op::TakeWaiting(true) => {
                    let letters = self.right.as_mut().map(Letters::take_waiting);
                    for letter in letters.into_iter().flatten() {
                        self.took(true, letter.message.0, letter.message.1);
                    }
                }
                Op::TakeWaiting(false) => {
                    let letters = self.left.as_mut().map(Letters::take_waiting);
                    for letter in letters.into_iter().flatten() {
                        self.took(false, letter.message.0, letter.message.1);
                    }
                }
                Op::Drop(true) => self.right = None,
                Op::Drop(false) => self.left = None,
            }
            self.turn();
        }

        fn took(&mut self, side: bool, who: usize, number: u32) {
            let last = self.last.insert((who, side), number);
            assert!(last < Some(number), "{number} of {who} came after {last:?}");
            self.taken += 1;
        }

        /// Letters are delivered as far as they can be.
        fn turn(&mut self) {
            // Once for those that give room to others.
            for _ in 0..self.deliveries.len() {
                for delivery in &mut self.deliveries {
                    if let Some(waiting) = delivery
                        && now(waiting.as_mut()).is_some()
                    {
                        *delivery = None;
                    }
                }
            }
        }

        fn check(&self) {
            let state = self.mailbox.lock();
            let held: Vec<_> = state.held.iter().map(|letter| letter.cost().bytes as u64).collect();
            assert!(within(HELD, &held), "{held:?} are held");
            let on = |name: &str| state.queues.contains_key(name);
            assert_eq!((on("left"), on("right")), (self.left.is_some(), self.right.is_some()));
            // Whoever is there gets what was held for it.
            assert!(
                state.held.iter().all(|letter| !letter.name().is_some_and(on)),
                "some are held for a handler"
            );
        }
    }

    fn within(most: Window, costs: &[u64]) -> bool {
        let sum: u64 = costs.iter().sum();
        costs.len() as u64 <= most.messages && (sum <= most.bytes || costs.len() == 1)
    }

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    proptest! {
        #[test]
        fn letters_are_taken_in_order_or_counted_as_lost_whoever_handles_them_when(ops in ops()) {
            let mut world = World::new();
            for op in ops {
                world.apply(op);
                world.check();
            }
            // All that was sent is somewhere: the last handlers get what was not lost.
            for side in [true, false, true, false] {
                world.apply(Op::Open(side));
                for _ in 0..world.sent.len() * 2 {
                    world.apply(Op::TakeWaiting(side));
                }
                world.check();
            }
            prop_assert!(world.deliveries.iter().all(Option::is_none), "somebody waits though nothing does");
            let sent: u64 = world.sent.iter().map(|sent| u64::from(*sent)).sum();
            prop_assert_eq!(sent, world.taken + world.mailbox.lost());
        }

        #[test]
        fn no_more_bytes_wait_for_a_handler_than_may(lens in proptest::collection::vec(0..300_usize, 1..20)) {
            let mut world = World::new();
            world.apply(Op::Open(true));
            let mut waiting: VecDeque<u64> = VecDeque::new();
            for len in lens {
                world.apply(Op::Send(0, true, len));
                let cost = named(&Right(0, world.sent[0], vec![0; len])).unwrap().len() as u64;
                waiting.push_back(cost);
                while world.deliveries[0].is_some() {
                    let already: Vec<_> = waiting.iter().copied().take(waiting.len() - 1).collect();
                    prop_assert!(within(MOST, &already) && !within(MOST, waiting.make_contiguous()), "{:?}", waiting);
                    world.apply(Op::Take(true));
                    waiting.pop_front();
                }
                prop_assert!(within(MOST, waiting.make_contiguous()), "{:?} wait", waiting);
            }
        }
    }
}
