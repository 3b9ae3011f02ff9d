//! Messages by name, and a handler for each: what an event emitter between two processes is (feature `postcard`).
//!
//! | Node's cluster managers | here |
//! |---|---|
//! | `send(type, data)` | [`Emitter::emit`](crate::blocking::Emitter::emit) |
//! | `request(type, data)`, 5 s | [`Emitter::call`](crate::blocking::Emitter::call), 5 s |
//! | `respond(id, value)`, `respond(id, null, error)` | what the handler returns: `Ok(value)` or `Err(reason)` |
//! | `broadcast(type, data)` | [`named`] and [`Broadcast`](crate::blocking::Broadcast) |
//! | `on(type, handler)` | [`Handlers::on`], [`Handlers::on_call`] |
//!
//! The name travels with each message, so both sides may have handlers that the other doesn't know: a call that nobody
//! handles is answered so, an event that nobody handles is passed over (and counted).
//!
//! ```
//! use cluster_ipc::blocking::{Emitter, Endpoint};
//! use cluster_ipc::events::{Call, Event, Handlers};
//! use cluster_ipc::session::Config;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Sum(Vec<u32>);
//! impl Event for Sum {
//!     const NAME: &'static str = "sum";
//! }
//! impl Call for Sum {
//!     type Reply = u32;
//! }
//!
//! # fn main() -> Result<(), cluster_ipc::Error> {
//! let (here, there) = Endpoint::pair(Config::new())?;
//! let server = std::thread::spawn(move || {
//!     let (_sender, receiver) = there.split::<[u8], _, _>();
//!     let mut handlers = Handlers::blocking();
//!     handlers.on_call(|sum: Sum| {
//!         sum.0.iter().try_fold(0u32, |total, n| total.checked_add(*n)).ok_or("too much".to_owned())
//!     });
//!     handlers.serve(receiver)
//! });
//! let emitter = Emitter::new(here);
//! assert_eq!(emitter.call(&Sum(vec![1, 2, 3]))?, 6);
//! let error = emitter.call(&Sum(vec![u32::MAX, 1])).unwrap_err();
//! assert_eq!(error.to_string(), "the request failed: too much");
//! drop(emitter);
//! server.join().expect("no panic")?;
//! # Ok(()) }
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::codec::{Encode, Postcard, decode_borrowed};
use crate::session::Failure;

/// A type of message with a name of its own. The name is what the two sides agree on; the type's own name doesn't matter.
pub trait Event: Serialize + DeserializeOwned {
    /// The name. Short: it travels with each message.
    const NAME: &'static str;
}

/// An event that is answered.
pub trait Call: Event {
    /// What the answer is.
    type Reply: Serialize + DeserializeOwned;
}

/// Encodes an event with its name, for [`Broadcast`](crate::blocking::Broadcast) with the [`Raw`](crate::codec::Raw) codec.
///
/// # Errors
///
/// [`Error::Encode`].
pub fn named<E: Event>(event: &E) -> Result<Bytes, Error> {
    let mut scratch = Vec::new();
    Postcard::encode(&(E::NAME, event), &mut scratch).map(Bytes::copy_from_slice)
}

/// What a handler's answer is while nothing has to be waited for.
pub type Answer = Result<Vec<u8>, Failure>;

type Handler<A> = Box<dyn Fn(&[u8]) -> Result<A, Failure> + Send + Sync>;

/// Handlers by name. `A` is what a handler gives: an [`Answer`], or a future of one.
pub struct Handlers<A = Answer> {
    by_name: HashMap<&'static str, Handler<A>>,
    unhandled: u64,
}

impl<A> std::fmt::Debug for Handlers<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("names", &self.by_name.keys()).finish_non_exhaustive()
    }
}

impl Handlers<Answer> {
    /// For handlers that are plain functions.
    pub fn blocking() -> Self {
        Self::empty()
    }

    /// Calls `handler` for each event of this type. It replaces an earlier handler of the same name.
    pub fn on<E: Event>(&mut self, handler: impl Fn(E) + Send + Sync + 'static) {
        self.insert::<E>(move |event| {
            handler(event);
            Ok(Vec::new())
        });
    }

    /// Answers each call of this type: `Ok` with the reply, `Err` with a reason.
    pub fn on_call<C: Call>(
        &mut self,
        handler: impl Fn(C) -> Result<C::Reply, String> + Send + Sync + 'static,
    ) {
        self.insert::<C>(move |call| answer(handler(call)));
    }
}

impl<A> Handlers<A> {
    fn empty() -> Self {
        Self { by_name: HashMap::new(), unhandled: 0 }
    }

    fn insert<E: Event>(&mut self, handler: impl Fn(E) -> A + Send + Sync + 'static) {
        let handler: Handler<A> = Box::new(move |bytes| match decode_borrowed(bytes) {
            Ok(event) => Ok(handler(event)),
            Err(error) => Err(Failure::Undecodable { reason: error.to_string() }),
        });
        self.by_name.insert(E::NAME, handler);
    }

    /// Finds the handler by the name at the front of `bytes`, and calls it with the rest.
    ///
    /// # Errors
    ///
    /// [`Failure::Unhandled`] or [`Failure::Undecodable`].
    pub fn dispatch(&mut self, bytes: &[u8]) -> Result<A, Failure> {
        let (name, rest) = postcard::take_from_bytes::<&str>(bytes)
            .map_err(|error| Failure::Undecodable { reason: error.to_string() })?;
        match self.by_name.get(name) {
            Some(handler) => handler(rest),
            None => {
                self.unhandled += 1;
                Err(Failure::Unhandled)
            }
        }
    }

    /// How many messages had a name that nobody handles.
    pub fn unhandled(&self) -> u64 {
        self.unhandled
    }
}

/// Encodes what a handler returned.
pub(crate) fn answer<R: Serialize>(returned: Result<R, String>) -> Answer {
    let reply = returned.map_err(|reason| Failure::Refused { reason })?;
    let mut scratch = Vec::new();
    match Postcard::encode(&reply, &mut scratch) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(Failure::Refused { reason: error.to_string() }),
    }
}

#[cfg(feature = "blocking")]
mod blocking;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tokio")]
pub use self::tokio::Pending;
