//! Handlers on threads.

use bytes::Bytes;

use super::{Answer, Handlers};
use crate::blocking::Receiver;
use crate::codec::Raw;
use crate::{Arrival, Error};

impl Handlers<Answer> {
    /// Handles what arrives, one at a time, until the peer says that this was all.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended.
    pub fn serve(&mut self, mut receiver: Receiver<Bytes, Raw>) -> Result<(), Error> {
        loop {
            match receiver.next() {
                // Nobody waits for what becomes of an event.
                Ok(Some(Arrival::Message(message))) => drop(self.dispatch(&message.value)),
                Ok(Some(Arrival::Request(request, responder))) => {
                    match self.dispatch(&request.value).and_then(|answer| answer) {
                        // The peer may be gone by now: the next turn will tell.
                        Ok(reply) => drop(responder.reply(&reply)),
                        Err(failure) => responder.failure(failure),
                    }
                }
                Ok(Some(Arrival::Gap { .. })) | Err(Error::Missed { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
