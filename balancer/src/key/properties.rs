//! Whatever a client sends, and in whatever pieces: no answer is taken back, and nothing panics.

use crate::hash_of;
use proptest::prelude::*;

use super::samples::{SOCKET_IO, extension, hello, name, records, tls_1_2_without_name, tls_1_3};
use super::{Found, Key};

/// Every kind of extractor, as a user might have it.
fn extractors() -> Vec<Key> {
    let chunk =
        |bytes: &[u8]| bytes.first_chunk::<9>().map_or(Found::More, |start| Found::Key(hash_of(start)));
    vec![
        Key::cookie("sid"),
        Key::header("x-user"),
        Key::host(),
        Key::sni(),
        Key::query("sid"),
        Key::from_fn(chunk),
        Key::first_of([Key::sni(), Key::host()]),
        Key::first_of([Key::query("sid"), Key::cookie("sid"), Key::address()]),
    ]
}

fn look(key: &Key, bytes: &[u8]) -> Found {
    key.look(std::net::IpAddr::from([192, 0, 2, 7]), bytes)
}

/// A value that any of the extractors takes as it is.
fn word() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,12}"
}

/// A request, and the values of the cookie, the header and the parameter that are looked for.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    cookie: Option<String>,
    user: Option<String>,
    host: String,
    query: Option<String>,
}

fn requests() -> impl Strategy<Value = Sent> {
    let option = || prop::option::of(word());
    let fillers = prop::collection::vec(("[A-Z][a-z]{1,7}-[a-z]{1,3}", "[ -~]{0,20}"), 0..8);
    let pairs = prop::collection::vec((word(), word()), 0..3);
    let order = any::<prop::sample::Index>();
    (option(), option(), word(), option(), fillers, pairs, order, any::<bool>()).prop_map(
        |(cookie, user, host, query, fillers, pairs, order, quoted)| {
            // None of these is looked for: all names begin with an x.
            let pairs = || pairs.iter().map(|(name, value)| format!("x{name}={value}"));
            let parameters: Vec<_> = pairs().chain(query.as_ref().map(|sid| format!("sid={sid}"))).collect();
            let quote = if quoted { "\"" } else { "" };
            let cookies: Vec<_> =
                pairs().chain(cookie.as_ref().map(|sid| format!("sid={quote}{sid}{quote}"))).collect();
            let mut lines: Vec<_> =
                fillers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            lines.push(format!("HOST: {host}:8080\r\n"));
            lines.push(format!("Cookie: {}\r\n", cookies.join("; ")));
            lines.extend(user.as_ref().map(|user| format!("X-User:{user}\r\n")));
            let first = order.index(lines.len());
            lines.rotate_left(first);
            let target = format!("/?{}", parameters.join("&"));
            let bytes = format!("GET {target} HTTP/1.1\r\n{}\r\nbody", lines.concat()).into_bytes();
            Sent { bytes, cookie, user, host, query }
        },
    )
}

/// A ClientHello in records, and the name in it.
fn hellos() -> impl Strategy<Value = (Vec<u8>, Option<String>)> {
    let fillers = prop::collection::vec((1u16..60, prop::collection::vec(any::<u8>(), 0..40)), 0..6);
    let session = prop::collection::vec(any::<u8>(), 0..33);
    let suites = prop::collection::vec(any::<[u8; 2]>(), 1..20);
    let place = any::<prop::sample::Index>();
    let sizes = prop::collection::vec(1usize..200, 1..5);
    (prop::option::of("[a-z]{1,9}\\.example"), fillers, session, suites, place, sizes).prop_map(
        |(host, fillers, session, suites, place, sizes)| {
            let mut extensions: Vec<_> =
                fillers.iter().map(|(kind, content)| extension(*kind, content)).collect();
            let place = place.index(extensions.len() + 1);
            extensions.splice(place..place, host.as_ref().map(|host| name(host.to_uppercase().as_bytes())));
            let message = hello(&session, &suites.concat(), &extensions.concat());
            (records(&message, &sizes), host)
        },
    )
}

/// Each prefix says `More`, until one says what the whole says; and all after it say the same.
fn check_prefixes(bytes: &[u8]) -> Result<(), TestCaseError> {
    for key in extractors() {
        let whole = look(&key, bytes);
        let mut settled = Found::More;
        for end in 0..bytes.len() {
            let found = look(&key, &bytes[..end]);
            prop_assert!(
                found == whole || found == Found::More,
                "{key:?}: {found:?} after {end} bytes, then {whole:?}"
            );
            prop_assert!(
                settled == Found::More || found == settled,
                "{key:?}: {settled:?}, and at {end} {found:?}"
            );
            settled = found;
        }
    }
    Ok(())
}

/// Fast by default; `CLUSTER_TEST_LONG=1` tries a hundred times as many. proptest prints what failed, and how to repeat it.
fn config() -> ProptestConfig {
    let long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if long { 6_400 } else { 64 }) }
}

fn key(value: &Option<String>) -> Found {
    value.as_ref().map_or(Found::Nothing, |value| Found::Key(hash_of(value.as_bytes())))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_request_has_the_same_key_in_whatever_pieces_it_comes(sent in requests()) {
        prop_assert_eq!(look(&Key::cookie("sid"), &sent.bytes), key(&sent.cookie));
        prop_assert_eq!(look(&Key::header("x-user"), &sent.bytes), key(&sent.user));
        prop_assert_eq!(look(&Key::query("sid"), &sent.bytes), key(&sent.query));
        prop_assert_eq!(look(&Key::host(), &sent.bytes), key(&Some(sent.host)));
        prop_assert_eq!(look(&Key::sni(), &sent.bytes), Found::Nothing);
        check_prefixes(&sent.bytes)?;
    }

    #[test]
    fn a_hello_has_the_same_key_in_whatever_pieces_it_comes((bytes, host) in hellos()) {
        prop_assert_eq!(look(&Key::sni(), &bytes), key(&host));
        prop_assert_eq!(look(&Key::host(), &bytes), Found::Nothing);
        check_prefixes(&bytes)?;
    }
}

#[test]
fn real_input_has_the_same_key_in_whatever_pieces_it_comes() {
    for bytes in [SOCKET_IO.to_vec(), tls_1_3(), tls_1_2_without_name()] {
        check_prefixes(&bytes).unwrap();
    }
}

/// Something like what a client may send: noise, or something real that was changed, cut, doubled or mixed up.
fn mutant(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    if rng.u8(..8) == 0 {
        return (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(..6) {
        let at = rng.usize(..=bytes.len());
        let end = rng.usize(at..=bytes.len()).min(at + 40);
        match rng.u8(..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            3 => bytes.insert(at, *rng.choice(b" \t\r\n:;=\"?&#[].,\0\xff").unwrap()),
            4 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(rng.u8(..3)).wrapping_sub(1),
            _ if at < bytes.len() => bytes[at] = rng.u8(..),
            _ => bytes.push(rng.u8(..)),
        }
    }
    bytes
}

#[test]
fn nothing_that_a_client_sends_panics_or_has_two_keys() {
    let seed = match std::env::var("CLUSTER_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("CLUSTER_TEST_SEED={seed} is no number")),
        Err(_) => fastrand::u64(..),
    };
    eprintln!(
        "to repeat: CLUSTER_TEST_SEED={seed} cargo test -p cluster-balancer --features key --lib key::properties"
    );
    let inputs = if std::env::var_os("CLUSTER_TEST_LONG").is_some() { 10_000_000 } else { 100_000 };
    let mut rng = fastrand::Rng::with_seed(seed);
    let message = tls_1_3()[5..].to_vec();
    let seeds = [
        SOCKET_IO.to_vec(),
        b"POST /a?sid=1 HTTP/1.0\r\nhost: [::1]:80\r\nx-user: \"anna\"\r\ncookie: sid=\"2\"; sid=3\r\n\r\n"
            .to_vec(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"A: 1\r\n".repeat(62), b"x-user: anna\r\nB: 2\r\n\r\n".to_vec()]
            .concat(),
        tls_1_3(),
        tls_1_2_without_name(),
        records(&message, &[7, 50, 1]),
    ];
    let extractors = extractors();
    let mut keys = vec![0; extractors.len()];
    for _ in 0..inputs {
        let bytes = mutant(&mut rng, &seeds);
        let start = &bytes[..rng.usize(..=bytes.len())];
        for (key, count) in extractors.iter().zip(&mut keys) {
            let (before, after) = (look(key, start), look(key, &bytes));
            let kept = before == Found::More || before == after;
            assert!(kept, "{key:?}: {before:?}, then {after:?}: {:?}", bytes.escape_ascii().to_string());
            *count += usize::from(matches!(after, Found::Key(_)));
        }
    }
    // Else this would be a test of noise.
    assert!(keys.iter().all(|count| *count > inputs / 50), "each finds keys in some: {keys:?}");
}
