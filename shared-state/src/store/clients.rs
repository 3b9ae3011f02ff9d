//! What clients asked for, so that nothing is done twice.

use std::collections::{BTreeMap, VecDeque};

use crate::faults::{self, Fault};
use crate::{Answer, ClientId, CommandError, Limits, Misbehaviour};

type Result = std::result::Result<Answer, CommandError>;

/// The answers that clients may ask for again.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<ClientId, Client>,
}

#[derive(Debug, Default)]
struct Client {
    /// The highest number that was answered.
    highest: Option<u64>,
    /// Answers below are forgotten.
    acknowledged: u64,
    /// By number, which only ever rises.
    answers: VecDeque<(u64, Result)>,
    /// Bytes of the answers that are whole.
    bytes: usize,
    /// The oldest answers, below this, are hollow: they say no more than that there was one.
    hollow: u64,
}

impl Clients {
    /// Makes the client known; whether it was already.
    pub(super) fn welcome(&mut self, client: ClientId) -> bool {
        let client = this_life(client);
        let known = self.clients.contains_key(&client);
        self.clients.entry(client).or_default();
        known
    }

    /// The client is gone for good.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.clients.remove(&client);
    }

    /// Whether the request is to be carried out (`None`) or was already (its answer).
    pub(super) fn admit(
        &mut self,
        client: ClientId,
        number: u64,
        acknowledged: u64,
        limits: &Limits,
    ) -> std::result::Result<Option<Result>, Misbehaviour> {
        let client = self.clients.entry(this_life(client)).or_default();
        if acknowledged > number {
            return Err(Misbehaviour::OldRequest { number });
        }
        client.acknowledge(acknowledged);
        if let Some(answer) = client.answer(number).filter(|_| !faults::is(Fault::RetryTwice)) {
            return Ok(Some(answer.clone()));
        }
        if client.highest.is_some_and(|highest| number <= highest && !faults::is(Fault::RetryTwice))
            || number == u64::MAX
        {
            return Err(Misbehaviour::OldRequest { number });
        }
        if client.answers.len() >= limits.requests {
            return Err(Misbehaviour::TooManyRequests { limit: limits.requests as u64 });
        }
        Ok(None)
    }

    /// The request was answered so.
    pub(super) fn remember(&mut self, client: ClientId, number: u64, answer: Result, limits: &Limits) {
        let client = self.clients.entry(this_life(client)).or_default();
        client.highest = Some(number);
        client.bytes += size(&answer);
        match client.place(number) {
            place if place == client.answers.len() => client.answers.push_back((number, answer)),
            place => client.answers.insert(place, (number, answer)),
        }
        let hollow = client.place(client.hollow);
        for (number, answer) in client.answers.range_mut(hollow..) {
            if client.bytes <= limits.remembered_bytes {
                break;
            }
            client.bytes -= size(answer);
            client.hollow = *number + 1;
            // Errors have no payload. They stay, since "carried out" would be untrue of them.
            if let Ok(Answer { revision, .. }) = *answer {
                *answer = Err(CommandError::AnswerForgotten { revision });
            }
        }
    }
}

impl Client {
    /// Where the answers from this number on begin.
    fn place(&self, number: u64) -> usize {
        self.answers.partition_point(|(other, _)| *other < number)
    }

    fn answer(&self, number: u64) -> Option<&Result> {
        self.answers.get(self.place(number)).filter(|(other, _)| *other == number).map(|(_, answer)| answer)
    }

    fn acknowledge(&mut self, below: u64) {
        if below <= self.acknowledged {
            return;
        }
        self.acknowledged = below;
        while let Some((number, answer)) = self.answers.pop_front_if(|(number, _)| *number < below) {
            if number >= self.hollow {
                self.bytes -= size(&answer);
            }
        }
    }
}

fn size(answer: &Result) -> usize {
    match answer {
        Ok(answer) => answer.size(),
        Err(_) => 0,
    }
}

/// One client in one of its lives.
fn this_life(client: ClientId) -> ClientId {
    if faults::is(Fault::IncarnationReused) { ClientId::new(client.client(), 0) } else { client }
}
