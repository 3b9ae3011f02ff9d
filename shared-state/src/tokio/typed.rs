//! Values of a type, instead of bytes.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::handle::{SharedState, StateError};
use super::watch::Watching;
use crate::{Condition, Entry, Key, KeyRange, Outcome, Put, Revision, Start, Watch};

/// All keys that begin alike, with values of one type, encoded by postcard. Made by [`SharedState::typed`]. Cheap to clone.
///
/// A type may change while old and new workers run side by side only as postcard allows: an enum may grow at its end.
///
/// ```
/// # use cluster_shared_state::tokio::{Hub, SharedState, memory};
/// # use cluster_shared_state::{ClientId, Epoch, PublisherConfig, ReplicaConfig};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Session { user: String, visits: u32 }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::new(Epoch::new(1), PublisherConfig::new());
/// # let (here, there) = memory();
/// # let anna = ClientId::new(0, 1);
/// # tokio::spawn(async move { hub.serve(anna, there).await });
/// # let (state, mut follower) = SharedState::new(anna, ReplicaConfig::new());
/// # tokio::spawn(async move { follower.follow(here).await });
/// let sessions = state.typed::<Session>("session/");
/// sessions.set("7", &Session { user: "anna".to_owned(), visits: 1 }).await?;
/// // As often as somebody else was faster, it is done again with what is there then.
/// let now = sessions.update("7", |session| session.map(|it| Session { visits: it.visits + 1, ..it })).await?;
/// assert_eq!(now.expect("it was there").visits, 2);
/// assert_eq!(sessions.get("7")?.expect("it is there").user, "anna");
/// # Ok(()) }
/// ```
pub struct Typed<T> {
    state: SharedState,
    prefix: Key,
    value: PhantomData<fn() -> T>,
}

/// Why a typed value could not be had or put.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TypedError {
    /// What is there is not of that type.
    #[error("what is under \"{key}\" is no {wanted}")]
    Decode {
        /// The whole key.
        key: Key,
        /// The type.
        wanted: &'static str,
        /// What was wrong.
        #[source]
        source: postcard::Error,
    },
    /// The value can't be encoded.
    #[error("a {given} can't be encoded")]
    Encode {
        /// The type.
        given: &'static str,
        /// What was wrong.
        #[source]
        source: postcard::Error,
    },
    /// As of the state itself.
    #[error(transparent)]
    State(#[from] StateError),
}

impl SharedState {
    /// All keys that begin so, with values of this type.
    pub fn typed<T>(&self, prefix: impl Into<Key>) -> Typed<T> {
        Typed { state: self.clone(), prefix: prefix.into(), value: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Typed<T> {
    /// What is under the key, as of a moment ago.
    ///
    /// # Errors
    ///
    /// [`TypedError::Decode`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, TypedError> {
        let key = self.key(key);
        self.state.get(&key).map(|entry| Self::decode(&key, &entry)).transpose()
    }

    /// Everything, as of one revision, in the order of keys. Keys are without what they begin with.
    ///
    /// # Errors
    ///
    /// [`TypedError::Decode`] at the first that is of another type.
    pub fn all(&self) -> Result<Vec<(Key, T)>, TypedError> {
        let view = self.state.view();
        let entries = view.prefix(&self.prefix);
        entries
            .map(|(key, entry)| {
                let rest = key.get(self.prefix.len()..).unwrap_or_default();
                Ok((Key::from(rest), Self::decode(key, entry)?))
            })
            .collect()
    }

    /// Puts a value under a key.
    ///
    /// # Errors
    ///
    /// [`TypedError::Encode`], [`TypedError::State`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Revision, TypedError> {
        Ok(self.state.execute(self.put(key, value)?).await?.revision)
    }

    /// Puts, as a command: to have it under a lease, for a time, on a condition, or in a transaction.
    ///
    /// # Errors
    ///
    /// [`TypedError::Encode`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Put, TypedError> {
        Ok(Put::new(self.key(key), Self::encode(value)?))
    }

    /// Changes what is under a key, by what is there: `None` leaves it as it is. If somebody else was faster it is asked again with what is
    /// there then. Returns what is there in the end. It stays under its lease, and has its time to live anew.
    ///
    /// # Errors
    ///
    /// [`TypedError`].
    pub async fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Option<T>, TypedError> {
        let key = self.key(key);
        let mut there: Option<Entry> = self.state.get(&key).map(|entry| Entry::clone(&entry));
        loop {
            let value = there.as_ref().map(|entry| Self::decode(&key, entry)).transpose()?;
            let Some(changed) = change(value) else {
                return there.as_ref().map(|entry| Self::decode(&key, entry)).transpose();
            };
            let mut put = Put::new(key.clone(), Self::encode(&changed)?);
            let condition = match &there {
                Some(entry) => {
                    (put.life.lease, put.life.ttl) = (entry.lease, entry.ttl);
                    Condition::Modified(entry.modified)
                }
                None => Condition::Absent,
            };
            let answer = self.state.execute(put.when(condition)).await?;
            match answer.outcome {
                Outcome::Conflict(conflict) => there = conflict.entry,
                _ => return Ok(Some(changed)),
            }
        }
    }

    /// Deletes a key. Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`TypedError::State`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, TypedError> {
        Ok(self.state.delete(self.key(key)).await?)
    }

    /// Watches all of these keys; [`decode`](Self::decode) makes values of what is told.
    ///
    /// # Errors
    ///
    /// [`TypedError::State`].
    pub fn watch(&self, start: Start) -> Result<Watching, TypedError> {
        Ok(self.state.watch(Watch::new(KeyRange::prefix(self.prefix.clone())).start(start))?)
    }

    /// The value of what is under a key.
    ///
    /// # Errors
    ///
    /// [`TypedError::Decode`].
    pub fn decode(key: &Key, entry: &Entry) -> Result<T, TypedError> {
        postcard::from_bytes(&entry.value).map_err(|source| TypedError::Decode {
            key: key.clone(),
            wanted: std::any::type_name::<T>(),
            source,
        })
    }

    fn encode(value: &T) -> Result<Vec<u8>, TypedError> {
        let given = std::any::type_name::<T>();
        postcard::to_stdvec(value).map_err(|source| TypedError::Encode { given, source })
    }

    fn key(&self, key: impl AsRef<[u8]>) -> Key {
        Key::from([&*self.prefix, key.as_ref()].concat())
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Typed<T> {
    /// Calls back with each change: the key, what is there now and what was there before. First with all that is there.
    /// Until what is returned is dropped.
    ///
    /// What is of another type is passed over, with a warning in the log.
    ///
    /// # Errors
    ///
    /// [`TypedError::State`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn subscribe(
        &self,
        mut callback: impl FnMut(&Key, Option<T>, Option<T>) + Send + 'static,
    ) -> Result<super::Callback, TypedError> {
        use crate::Notice;
        let prefix = self.prefix.len();
        let value = |key: &Key, entry: Option<&Entry>| {
            let decoded = entry.map(|entry| Self::decode(key, entry)).transpose();
            decoded.inspect_err(|error| tracing::warn!(%error, "not told to who subscribed")).ok().flatten()
        };
        Ok(self.watch(Start::Present)?.for_each(move |notice| {
            let mut tell = |key: &Key, now: Option<&Entry>, before: Option<&Entry>| {
                let rest = Key::from(key.get(prefix..).unwrap_or_default());
                callback(&rest, value(key, now), value(key, before));
            };
            match notice {
                Notice::Present { entries, .. } => {
                    entries.iter().for_each(|(key, entry)| tell(key, Some(entry), None))
                }
                Notice::Changes(batch) => {
                    for event in &batch.events {
                        tell(&event.key, event.entry.as_ref(), event.previous.as_ref());
                    }
                }
                _ => {}
            }
        }))
    }
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), prefix: self.prefix.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
