//! A primary and replicas, joined by queues in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_shared_state::{
    Answer, ClientId, Command, Entry, Epoch, Key, KeyRange, PlainReplica, ProtocolError, Publisher,
    PublisherConfig, Replica, ReplicaConfig, RequestError, RequestId, View,
};

pub(crate) type State = BTreeMap<Key, Entry>;

/// One replica, and what is under way to and from it.
pub(crate) struct End {
    pub(crate) client: ClientId,
    pub(crate) replica: PlainReplica,
    pub(crate) is_connected: bool,
    pub(crate) up: VecDeque<Bytes>,
    pub(crate) down: VecDeque<Bytes>,
    pub(crate) completions: Vec<(RequestId, Result<Answer, RequestError>)>,
}

/// All of them.
pub(crate) struct Wire {
    pub(crate) now: Instant,
    pub(crate) publisher: Publisher,
    pub(crate) ends: Vec<End>,
}

impl Wire {
    pub(crate) fn new(config: PublisherConfig, replicas: u64) -> Self {
        let ends = (0..replicas).map(|number| End::new(ClientId::new(number, 1), ReplicaConfig::new()));
        Self { now: Instant::now(), publisher: Publisher::new(Epoch::new(7), config), ends: ends.collect() }
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now += by;
        self.publisher.handle_timeout(self.now);
    }

    pub(crate) fn connect(&mut self, end: usize) {
        let end = &mut self.ends[end];
        end.up.clear();
        end.down.clear();
        end.is_connected = true;
        end.replica.handle_connected();
        self.publisher.handle_connected(end.client);
    }

    pub(crate) fn disconnect(&mut self, end: usize) {
        let end = &mut self.ends[end];
        end.up.clear();
        end.down.clear();
        end.is_connected = false;
        end.replica.handle_disconnected();
        self.publisher.handle_disconnected(end.client);
    }

    /// The replica says what it has to say, at most so many messages.
    pub(crate) fn say(&mut self, end: usize, most: usize) {
        let end = &mut self.ends[end];
        if end.is_connected {
            for _ in 0..most {
                let Some(message) = end.replica.poll_transmit() else { break };
                end.up.push_back(message);
            }
        }
    }

    /// The primary hears at most so many messages of it.
    pub(crate) fn hear(&mut self, end: usize, most: usize) {
        let end = &mut self.ends[end];
        for message in end.up.drain(..most.min(end.up.len())) {
            self.publisher.handle_message(end.client, &message, self.now);
        }
    }

    /// The primary sends at most so many messages to it.
    pub(crate) fn send(&mut self, end: usize, most: usize) {
        let end = &mut self.ends[end];
        if end.is_connected {
            for _ in 0..most {
                let Some(message) = self.publisher.poll_transmit(end.client) else { break };
                end.down.push_back(message);
            }
        }
    }

    /// The replica reads at most so many messages, one after the other; `each` looks after each.
    pub(crate) fn read(
        &mut self,
        end: usize,
        most: usize,
        mut each: impl FnMut(&mut PlainReplica),
    ) -> Result<(), ProtocolError> {
        let end = &mut self.ends[end];
        for message in end.down.drain(..most.min(end.down.len())) {
            end.replica.handle_message(message)?;
            each(&mut end.replica);
        }
        end.completions.extend(std::iter::from_fn(|| end.replica.poll_completion()));
        Ok(())
    }

    /// Until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "they never stop talking");
            let mut said = 0;
            for end in 0..self.ends.len() {
                self.say(end, usize::MAX);
                said += self.ends[end].up.len();
                self.hear(end, usize::MAX);
                self.send(end, usize::MAX);
                said += self.ends[end].down.len();
                self.read(end, usize::MAX, |_| ()).expect("the primary keeps to the protocol");
            }
            if said == 0 {
                return;
            }
        }
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> Answer {
        let command = Command::put(key, value.to_owned());
        self.publisher.execute(command, self.now).expect("it is within the limits")
    }

    pub(crate) fn delete(&mut self, key: &str) -> Answer {
        self.publisher.execute(Command::delete(key), self.now).expect("it is within the limits")
    }

    /// What the primary has.
    pub(crate) fn state(&self) -> State {
        copy(self.publisher.store())
    }

    pub(crate) fn replica(&mut self, end: usize) -> &mut PlainReplica {
        &mut self.ends[end].replica
    }

    /// Whether each that is live has what the primary has.
    pub(crate) fn assert_equal(&self) {
        let state = self.state();
        for end in &self.ends {
            assert!(end.replica.is_live(), "{} is not live", end.client);
            assert_eq!(end.replica.cursor(), Some(self.publisher.cursor()), "{} is behind", end.client);
            assert_eq!(*end.replica.state(), state, "{} has something else", end.client);
        }
    }
}

impl End {
    pub(crate) fn new(client: ClientId, config: ReplicaConfig) -> Self {
        Self {
            client,
            replica: Replica::new(client, config, State::new()),
            is_connected: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            completions: Vec::new(),
        }
    }

    /// What came of that request, if anything did.
    pub(crate) fn completion(&self, id: RequestId) -> Option<&Result<Answer, RequestError>> {
        self.completions.iter().find(|(it, _)| *it == id).map(|(_, result)| result)
    }
}

pub(crate) fn copy(view: &impl View) -> State {
    let mut state = State::new();
    view.visit(&KeyRange::All, &mut |key, entry| {
        state.insert(key.clone(), entry.clone());
        true
    });
    state
}

impl Wire {
    /// As [`settle`](Self::settle) for one, but the primary hears everything before it may send anything.
    pub(crate) fn settle_slowly(&mut self, end: usize) {
        self.say(end, usize::MAX);
        self.hear(end, usize::MAX);
        self.settle();
    }
}
