//! A client that speaks the protocol by itself: it has no state, and counts what it is sent.

use std::time::Instant;

use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::{Answer, ClientId, Command, CommandError, Publisher, Put, Transaction};

/// One who has said hello.
pub(crate) struct Raw {
    pub(crate) client: ClientId,
    number: u64,
}

impl Raw {
    pub(crate) fn connect(publisher: &mut Publisher, client: u64, now: Instant) -> Self {
        let client = ClientId::new(client, 1);
        publisher.handle_connected(client);
        let raw = Self { client, number: 0 };
        raw.say(publisher, &ToPrimary::Hello { version: protocol::VERSION, client, cursor: None }, now);
        raw
    }

    /// One who was sent all there is.
    pub(crate) fn live(publisher: &mut Publisher, client: u64, now: Instant) -> Self {
        let raw = Self::connect(publisher, client, now);
        while publisher.poll_transmit(raw.client).is_some() {}
        assert!(publisher.is_live(raw.client), "{} was not let in", raw.client);
        raw
    }

    pub(crate) fn say(&self, publisher: &mut Publisher, message: &ToPrimary, now: Instant) {
        publisher.handle_message(self.client, &protocol::encode(message), now);
    }

    /// Asks, and does not wait for the answer. It acknowledges all before the last `window` requests.
    pub(crate) fn request(
        &mut self,
        publisher: &mut Publisher,
        window: u64,
        command: impl Into<Command>,
        now: Instant,
    ) {
        self.number += 1;
        let acknowledged = (self.number + 1).saturating_sub(window);
        let request = ToPrimary::Request { number: self.number, acknowledged, command: command.into() };
        self.say(publisher, &request, now);
    }

    /// Asks and reads until the answer is there; with how many messages that took.
    pub(crate) fn ask(
        &mut self,
        publisher: &mut Publisher,
        command: impl Into<Command>,
        now: Instant,
    ) -> (usize, Result<Answer, CommandError>) {
        self.request(publisher, 1, command, now);
        for messages in 1.. {
            let message = publisher.poll_transmit(self.client).expect("there is an answer");
            // The answer is short, and says so by its first byte.
            if let Some(ToReplica::Reply { number, result, .. }) =
                (message.first() == Some(&5)).then(|| protocol::decode(&message)).flatten()
                && number == self.number
            {
                return (messages, result);
            }
        }
        unreachable!()
    }

    /// Asks for the last revision and reads until it is there; with how many messages that took.
    pub(crate) fn sync(&mut self, publisher: &mut Publisher, now: Instant) -> usize {
        self.number += 1;
        self.say(publisher, &ToPrimary::Sync { number: self.number }, now);
        let mine = |message: &bytes::Bytes| matches!(protocol::decode(message), Some(ToReplica::Synced { number, .. }) if number == self.number);
        std::iter::from_fn(|| publisher.poll_transmit(self.client))
            .position(|message| mine(&message))
            .map_or(0, |it| it + 1)
    }
}

/// The key of that number.
pub(crate) fn key(number: usize) -> String {
    format!("key/{number:07}")
}

/// Puts so many keys, with values of 8 bytes, by as few transactions as the limits allow.
pub(crate) fn fill(publisher: &mut Publisher, keys: usize, now: Instant) {
    let most = publisher.store().limits().operations;
    for first in (0..keys).step_by(most) {
        let numbers = first..keys.min(first + most);
        let all = numbers.fold(Transaction::new(), |all, number| all.then(Put::new(key(number), "8 bytes.")));
        publisher.execute(all, now).expect("there is room");
    }
}
