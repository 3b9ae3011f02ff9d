//! What makes connections belong together: a key, from the client's address or from the first bytes it sent (feature `key`).
//!
//! ```text
//!   address, bytes so far ──▶ Key::look ──▶ Key(hash)   pick by it
//!                                      ├──▶ More        look again when there are more
//!                                      └──▶ Nothing     pick without
//! ```
//!
//! Nothing here reads a socket or a clock. Who calls decides how many bytes it peeks and how long it waits, and asks
//! [`Key::settle`] when it has enough of waiting.
//!
//! All answers are read from left to right: an answer other than `More` stays the same whatever bytes follow. So a
//! client can't get two keys for one connection by sending it in pieces.

mod http;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
mod tls;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::hash_of;
use crate::strategy::key_of_member;

/// The longest name of a host: what DNS allows, and a little.
const LONGEST_NAME: usize = 255;

/// What the first bytes of a connection say about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "complete by nature; made to be matched")]
pub enum Found {
    /// The key: a hash made by [`hash_of`]. It is final.
    Key(u64),
    /// There may be a key in bytes that have not arrived.
    More,
    /// There is none, whatever follows.
    Nothing,
}

impl Found {
    fn or_nothing(key: Option<u64>) -> Self {
        key.map_or(Self::Nothing, Self::Key)
    }
}

/// How the value of a cookie, header or parameter becomes a key.
type Read = fn(&[u8]) -> Option<u64>;

/// Which connections belong together, for strategies that go by a key.
///
/// Connections with the same key go to the same worker, as far as the strategy can. What the key is made of, the client
/// chooses: it is good for affinity and proves nothing.
///
/// ```
/// use std::net::IpAddr;
/// use cluster_balancer::hash_of;
/// use cluster_balancer::key::{Found, Key};
///
/// let key = Key::first_of([Key::cookie("sid"), Key::address()]);
/// let peer: IpAddr = [192, 0, 2, 7].into();
///
/// let request = b"GET / HTTP/1.1\r\nHost: example.org\r\nCookie: theme=dark; sid=4711\r\n\r\n";
/// assert_eq!(key.look(peer, &request[..50]), Found::More, "there may be a cookie in the rest");
/// assert_eq!(key.look(peer, request), Found::Key(hash_of(b"4711")));
///
/// let stranger = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
/// assert_eq!(key.look(peer, stranger), Found::Key(hash_of(peer)));
/// ```
///
/// # What it sees
///
/// * Only the start of a connection: the first request decides for all that follow on it.
/// * HTTP/1.0 and 1.1 in plain text, up to the 64th header. In HTTP/2 and in TLS it finds nothing, but for
///   [`sni`](Self::sni).
/// * Values as they were sent: nothing is decoded. An empty one counts as absent; of several, the first counts.
#[derive(Clone, Default)]
pub struct Key(Source);

/// Where a key comes from.
#[derive(Clone, Default)]
enum Source {
    #[default]
    Address,
    Cookie(Arc<str>),
    Header(Arc<str>),
    Host,
    Sni,
    Query(Arc<str>),
    Custom(Arc<Look>),
    First(Arc<[Key]>),
    Slot(Arc<Key>),
}

type Look = dyn Fn(&[u8]) -> Found + Send + Sync;

impl Key {
    /// The client's IP address, without the port: the default. It needs no bytes.
    ///
    /// An IPv4 address that a socket for both families maps into IPv6 has the key of the IPv4 address.
    pub fn address() -> Self {
        Self(Source::Address)
    }

    /// The value of a cookie in an HTTP/1 request, without the quotes it may be in. Its name is compared exactly.
    pub fn cookie(name: impl Into<Arc<str>>) -> Self {
        Self(Source::Cookie(name.into()))
    }

    /// The value of a header of an HTTP/1 request. The case of its name does not matter.
    pub fn header(name: impl Into<Arc<str>>) -> Self {
        Self(Source::Header(name.into()))
    }

    /// The host that an HTTP/1 request is for, from its `Host` header: without the port, in lower case. It is the same key
    /// as [`sni`](Self::sni) of that name.
    ///
    /// It finds nothing in a request whose target is a whole URL, as sent to proxies, for then the `Host` header does
    /// not count (RFC 9112, §3.2.2).
    pub fn host() -> Self {
        Self(Source::Host)
    }

    /// The name in a TLS ClientHello (`server_name`, RFC 6066, §3), in lower case. With encrypted ClientHello, this is the
    /// public name, which many hosts share.
    pub fn sni() -> Self {
        Self(Source::Sni)
    }

    /// A parameter in the query of an HTTP/1 request's target, as sent, percent signs and all. Its name is compared
    /// exactly.
    ///
    /// Socket.IO has its session there: `/socket.io/?EIO=4&transport=polling&sid=…`.
    pub fn query(name: impl Into<Arc<str>>) -> Self {
        Self(Source::Query(name.into()))
    }

    /// What a closure finds in the bytes that are there, possibly none.
    ///
    /// It runs where connections are accepted, perhaps several times for one: it must be fast, and must not block or
    /// panic. When it says something else than [`Found::More`], it should say the same however many bytes follow.
    ///
    /// ```
    /// use cluster_balancer::hash_of;
    /// use cluster_balancer::key::{Found, Key};
    ///
    /// // A protocol that begins with the number of a room.
    /// let key = Key::from_fn(|bytes| match bytes.first_chunk::<4>() {
    ///     Some(room) => Found::Key(hash_of(room)),
    ///     None => Found::More,
    /// });
    /// assert_eq!(key.look(None, b"\0\0\0"), Found::More);
    /// assert_eq!(key.look(None, b"\0\0\0\x07hello"), Found::Key(hash_of([0u8, 0, 0, 7])));
    /// ```
    pub fn from_fn(look: impl Fn(&[u8]) -> Found + Send + Sync + 'static) -> Self {
        Self(Source::Custom(Arc::new(look)))
    }

    /// The first of these that finds one. While an earlier one may still find, a later one has to wait.
    pub fn first_of(keys: impl IntoIterator<Item = Self>) -> Self {
        Self(Source::First(keys.into_iter().collect()))
    }

    /// Reads values as the name of a member: its [identity](crate::Limits::identity) as a number, which in a cluster is the worker's slot,
    /// alone or before a dot, as in `3` or `3.Zx81`. Other values count as absent. For [`cookie`](Self::cookie), [`header`](Self::header)
    /// and [`query`](Self::query).
    ///
    /// For sessions that live in the worker that began them, when the first request can't have a key yet: that worker tells the
    /// client its slot, in a cookie or as the beginning of the session's name, and
    /// [`Named`](crate::strategy::Named) brings all that follows back to it, or to its successor.
    ///
    /// ```
    /// use cluster_balancer::key::{Found, Key};
    /// use cluster_balancer::strategy::{LeastLoaded, Named, key_of_member};
    ///
    /// let strategy = Named::new(LeastLoaded::new());
    /// let key = Key::query("sid").names_slot();
    ///
    /// let poll = b"GET /socket.io/?sid=3.Zx81 HTTP/1.1\r\n";
    /// assert_eq!(key.look(None, poll), Found::Key(key_of_member(3)));
    /// # drop(strategy);
    /// ```
    #[must_use]
    pub fn names_slot(self) -> Self {
        Self(Source::Slot(Arc::new(self)))
    }

    /// Whether it may look at bytes at all. If not, the first [`look`](Self::look) has the final answer.
    pub fn needs_bytes(&self) -> bool {
        match &self.0 {
            Source::Address => false,
            Source::First(keys) => keys.iter().any(Self::needs_bytes),
            Source::Slot(key) => key.needs_bytes(),
            _ => true,
        }
    }

    /// What these say of the key: the address of the client, if it has one, and all bytes of the connection so far, from the
    /// first.
    ///
    /// It takes time in proportion to the bytes, and keeps nothing between two calls. Only a closure of
    /// [`from_fn`](Self::from_fn) could panic.
    pub fn look(&self, peer: impl Into<Option<IpAddr>>, bytes: &[u8]) -> Found {
        self.look_at(peer.into(), key_of, bytes)
    }

    /// The key when no more bytes are to be had, because a buffer is full or a time is over: as [`look`](Self::look), but
    /// for `More` read `Nothing`, so that [`first_of`](Self::first_of) goes on to the next.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use cluster_balancer::key::{Found, Key};
    ///
    /// let key = Key::first_of([Key::cookie("sid"), Key::address()]);
    /// let peer: IpAddr = [192, 0, 2, 7].into();
    /// assert_eq!(key.look(peer, b"GET / HT"), Found::More);
    /// assert_eq!(key.settle(peer, b"GET / HT").map(Found::Key), Some(Key::address().look(peer, b"")));
    /// ```
    pub fn settle(&self, peer: impl Into<Option<IpAddr>>, bytes: &[u8]) -> Option<u64> {
        self.settle_at(peer.into(), key_of, bytes)
    }

    fn look_at(&self, peer: Option<IpAddr>, read: Read, bytes: &[u8]) -> Found {
        match &self.0 {
            Source::Address => Found::or_nothing(peer.map(|address| hash_of(address.to_canonical()))),
            Source::Cookie(name) => http::cookie(name, read, bytes),
            Source::Header(name) => http::header(name, read, bytes),
            Source::Host => http::host(bytes),
            Source::Sni => tls::server_name(bytes),
            Source::Query(name) => http::query(name, read, bytes),
            Source::Custom(look) => look(bytes),
            Source::First(keys) => keys
                .iter()
                .map(|key| key.look_at(peer, read, bytes))
                .find(|found| *found != Found::Nothing)
                .unwrap_or(Found::Nothing),
            Source::Slot(key) => key.look_at(peer, key_of_slot, bytes),
        }
    }

    fn settle_at(&self, peer: Option<IpAddr>, read: Read, bytes: &[u8]) -> Option<u64> {
        match &self.0 {
            Source::First(keys) => keys.iter().find_map(|key| key.settle_at(peer, read, bytes)),
            Source::Slot(key) => key.settle_at(peer, key_of_slot, bytes),
            _ => match self.look_at(peer, read, bytes) {
                Found::Key(key) => Some(key),
                Found::More | Found::Nothing => None,
            },
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Address => f.write_str("address"),
            Source::Cookie(name) => write!(f, "cookie({name:?})"),
            Source::Header(name) => write!(f, "header({name:?})"),
            Source::Host => f.write_str("host"),
            Source::Sni => f.write_str("sni"),
            Source::Query(name) => write!(f, "query({name:?})"),
            Source::Custom(_) => f.write_str("from_fn(..)"),
            Source::First(keys) => {
                f.write_str("first_of(")?;
                f.debug_list().entries(keys.iter()).finish()?;
                f.write_str(")")
            }
            Source::Slot(key) => write!(f, "{key:?}.names_slot()"),
        }
    }
}

/// The key of a value, if it has any bytes.
fn key_of(value: &[u8]) -> Option<u64> {
    (!value.is_empty()).then(|| hash_of(value))
}

/// The key of the worker that a value begins with the slot of.
fn key_of_slot(value: &[u8]) -> Option<u64> {
    let slot = value.split(|byte| *byte == b'.').next().filter(|slot| slot.iter().all(u8::is_ascii_digit))?;
    let slot: u32 = str::from_utf8(slot).ok()?.parse().ok()?;
    Some(key_of_member(slot.into()))
}

/// The key of a host's name, however it is written.
fn key_of_name(name: &[u8]) -> Option<u64> {
    // The dot at the end of a complete name: TLS leaves it out, HTTP may have it.
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_name = name.len() <= LONGEST_NAME && name.iter().all(u8::is_ascii_graphic);
    if is_name { key_of(&name.to_ascii_lowercase()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /?sid=1 HTTP/1.1\r\nHost: a.example\r\n\r\n";

    fn peer() -> IpAddr {
        [192, 0, 2, 7].into()
    }

    #[test]
    fn an_address_is_a_key_without_any_bytes() {
        let key = Key::default();
        assert!(!key.needs_bytes());
        assert_eq!(key.look(peer(), b""), Found::Key(hash_of(peer())));
        assert_eq!(key.look(None, b""), Found::Nothing, "a client without an address has no key");
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(key.look(mapped, b""), key.look(peer(), b""), "one client, whichever socket it comes to");
    }

    #[test]
    fn the_first_that_finds_counts_and_waits_for_those_before_it() {
        let key = Key::first_of([Key::cookie("sid"), Key::query("sid"), Key::address()]);
        assert!(key.needs_bytes());
        assert_eq!(key.look(peer(), b""), Found::More);
        assert_eq!(key.look(peer(), &REQUEST[..25]), Found::More, "the query is there, a cookie may follow");
        assert_eq!(key.look(peer(), REQUEST), Found::Key(hash_of(b"1")));
        assert_eq!(key.look(peer(), b"\x16\x03\x01"), Found::Key(hash_of(peer())), "it is not HTTP");
        assert_eq!(Key::first_of([]).look(peer(), REQUEST), Found::Nothing);
        assert!(!Key::first_of([Key::address()]).needs_bytes());
    }

    #[test]
    fn who_waits_no_longer_takes_what_a_later_one_found() {
        let key = Key::first_of([Key::first_of([Key::cookie("sid"), Key::query("sid")]), Key::address()]);
        assert_eq!(key.settle(peer(), &REQUEST[..25]), Some(hash_of(b"1")));
        assert_eq!(key.settle(peer(), b"GET /?si"), Some(hash_of(peer())));
        assert_eq!(Key::cookie("sid").settle(peer(), b"GET /?si"), None);
    }

    #[test]
    fn a_value_may_name_a_slot() {
        for (value, slot) in [(&b"0"[..], 0), (b"17", 17), (b"3.Zx81", 3), (b"3.", 3), (b"007", 7)] {
            assert_eq!(key_of_slot(value), Some(key_of_member(slot)));
        }
        for other in [&b""[..], b".3", b"x3", b"3x", b"+3", b"-1", b"4294967296", b"3 .x", b"\xff"] {
            assert_eq!(key_of_slot(other), None, "{other:?}");
        }
        let key = Key::first_of([Key::cookie("route"), Key::query("sid")]).names_slot();
        assert!(key.needs_bytes());
        assert_eq!(key.look(peer(), REQUEST), Found::Key(key_of_member(1)));
        assert_eq!(key.settle(peer(), &REQUEST[..25]), Some(key_of_member(1)));
        let other = Key::first_of([Key::query("sid").names_slot(), Key::address()]);
        assert_eq!(other.look(peer(), b"GET /?sid=x HTTP/1.1\r\n\r\n"), Found::Key(hash_of(peer())));
        assert_eq!(format!("{key:?}"), r#"first_of([cookie("route"), query("sid")]).names_slot()"#);
    }

    #[test]
    fn a_closure_sees_all_bytes() {
        let key =
            Key::from_fn(|bytes| if bytes.len() < 3 { Found::More } else { Found::Key(hash_of(bytes)) });
        assert!(key.needs_bytes());
        assert_eq!(key.look(None, b"ab"), Found::More);
        assert_eq!(key.look(None, b"abc"), Found::Key(hash_of(b"abc")));
    }

    #[test]
    fn names_of_hosts_are_the_same_in_any_case_and_with_a_dot() {
        assert_eq!(key_of_name(b"A.Example."), key_of_name(b"a.example"));
        assert_eq!(key_of_name(b"a.example"), Some(hash_of(b"a.example")));
        for wrong in [&b""[..], b".", b"a b", b"a\0b", "ä.example".as_bytes(), &[b'a'; LONGEST_NAME + 1]] {
            assert_eq!(key_of_name(wrong), None, "{wrong:?} is no name");
        }
    }

    #[test]
    fn a_key_can_be_shared_among_threads_and_says_what_it_is() {
        fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
        let key =
            Key::first_of([Key::sni(), Key::header("x-user"), Key::from_fn(|_| Found::Nothing), Key::host()]);
        shared(&key);
        assert_eq!(format!("{key:?}"), r#"first_of([sni, header("x-user"), from_fn(..), host])"#);
    }
}
