//! Keys in the head of an HTTP/1 request (RFC 9112), complete or not.

use httparse::{EMPTY_HEADER, Header, Request, Status};

use super::{Found, Read, key_of_name};

/// Headers that are looked at. Servers take about as many as this; beyond it there is nothing.
const HEADERS: usize = 64;

pub(super) fn header(name: &str, read: Read, bytes: &[u8]) -> Found {
    in_head(bytes, |_, headers| first(headers, name, read))
}

pub(super) fn cookie(name: &str, read: Read, bytes: &[u8]) -> Found {
    in_head(bytes, |_, headers| first(headers, "cookie", |value| key_of_cookie(name, read, value)))
}

pub(super) fn host(bytes: &[u8]) -> Found {
    in_head(bytes, |target, headers| {
        // With a whole URL or an authority as the target, the header does not count.
        let is_origin = target.starts_with('/') || target == "*";
        if is_origin {
            first(headers, "host", |value| key_of_name(without_port(value)?))
        } else {
            Found::Nothing
        }
    })
}

pub(super) fn query(name: &str, read: Read, bytes: &[u8]) -> Found {
    in_head(bytes, |target, _| {
        // A fragment is not sent by those who know the rules.
        let target = target.split('#').next().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
        Found::or_nothing(
            values.find_map(|(its, value)| if its == name { read(value.as_bytes()) } else { None }),
        )
    })
}

/// Looks at what is there of a head: the target once the request line is known to be HTTP/1, and the headers whose
/// lines are complete. `More` of `find` becomes `Nothing` where the head ends or goes wrong.
///
/// What was found stays found even if the head goes wrong behind it. Else the answer would depend on how many bytes were
/// there; and whoever gets the connection will refuse it anyway.
fn in_head(bytes: &[u8], find: impl FnOnce(&str, &[Header<'_>]) -> Found) -> Found {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    let is_partial = matches!(request.parse(bytes), Ok(Status::Partial));
    let found = match (request.path, request.version) {
        // Without a complete head httparse leaves all places there, the first ones filled, the others without name or value.
        (Some(target), Some(_)) => find(target, request.headers),
        _ => Found::More,
    };
    match found {
        Found::More if !is_partial => Found::Nothing,
        found => found,
    }
}

/// The key of the first header of that name that has one.
fn first(headers: &[Header<'_>], name: &str, key: impl Fn(&[u8]) -> Option<u64>) -> Found {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    values.find_map(|header| key(header.value)).map_or(Found::More, Found::Key)
}

/// The key of a cookie in the value of a `Cookie` header: `a=1; b="2"` (RFC 6265, §4.2.1). Of two with one name, browsers
/// send the one with the longer path first.
fn key_of_cookie(name: &str, read: Read, value: &[u8]) -> Option<u64> {
    value.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (its, value) = pair.split_at_checked(equals)?;
        let value = value.strip_prefix(b"=")?.trim_ascii();
        if its.trim_ascii() == name.as_bytes() { read(without_quotes(value)) } else { None }
    })
}

fn without_quotes(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The host in `host`, `host:port` or `[address]:port`; nothing if it is something else.
fn without_port(authority: &[u8]) -> Option<&[u8]> {
    let is_literal = authority.starts_with(b"[");
    let end = match authority.iter().position(|byte| *byte == if is_literal { b']' } else { b':' }) {
        Some(bracket) if is_literal => bracket + 1,
        Some(colon) => colon,
        None if is_literal => return None,
        None => authority.len(),
    };
    let (host, port) = authority.split_at_checked(end)?;
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port.then_some(host)
}

#[cfg(test)]
mod tests {
    use crate::hash_of;

    use super::super::key_of;
    use super::super::samples::SOCKET_IO;
    use super::*;

    fn cookie(name: &str, bytes: &[u8]) -> Found {
        super::cookie(name, key_of, bytes)
    }

    fn header(name: &str, bytes: &[u8]) -> Found {
        super::header(name, key_of, bytes)
    }

    fn query(name: &str, bytes: &[u8]) -> Found {
        super::query(name, key_of, bytes)
    }

    fn key(value: &str) -> Found {
        Found::Key(hash_of(value.as_bytes()))
    }

    fn head(lines: &str) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes()
    }

    #[test]
    fn each_part_of_a_real_request_is_found() {
        assert_eq!(query("sid", SOCKET_IO), key("Zx81"));
        assert_eq!(query("EIO", SOCKET_IO), key("4"));
        assert_eq!(cookie("sid", SOCKET_IO), key("4711"));
        assert_eq!(cookie("theme", SOCKET_IO), key("dark"));
        assert_eq!(header("user-agent", SOCKET_IO), key("curl/7.88.1"));
        assert_eq!(header("USER-AGENT", SOCKET_IO), key("curl/7.88.1"));
        assert_eq!(host(SOCKET_IO), key("localhost"));
    }

    #[test]
    fn what_is_complete_is_found_before_the_rest_is_there() {
        let seen = |text: &str| {
            let at = SOCKET_IO.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
            &SOCKET_IO[..at + text.len()]
        };
        assert_eq!(query("sid", seen("sid=Zx8")), Found::More);
        assert_eq!(query("sid", seen("sid=Zx81")), Found::More, "the value may go on");
        assert_eq!(query("sid", seen("HTTP/1.")), Found::More, "it may be something else than HTTP/1");
        assert_eq!(query("sid", seen("HTTP/1.1")), key("Zx81"));
        assert_eq!(query("uid", seen("HTTP/1.1")), Found::Nothing, "there is only one target");
        assert_eq!(host(seen("Host: localhost:56757")), Found::More, "the port may go on");
        assert_eq!(host(seen("Host: localhost:56757\r\n")), key("localhost"));
        assert_eq!(header("accept", seen("Accept: */*\r")), Found::More);
        assert_eq!(header("accept", seen("Accept: */*\r\n")), key("*/*"));
        assert_eq!(cookie("sid", seen("sid=4711\r\n")), key("4711"));
        assert_eq!(cookie("uid", seen("sid=4711\r\n")), Found::More, "there may be another header");
        assert_eq!(cookie("uid", SOCKET_IO), Found::Nothing);
    }

    #[test]
    fn what_is_not_http_1_is_refused_by_its_first_wrong_byte() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let strangers: [(&[u8], usize); 5] = [
            (b"\x16\x03\x01\x02\x00\x01", 1),
            (preface, "PRI * HTTP/2".len()),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2\r".len()),
            (b"EHLO mail.example\r\n", "EHLO mail.example\r".len()),
            (b"\0\0\0\x07", 1),
        ];
        for (bytes, enough) in strangers {
            for look in [host, |bytes: &[u8]| query("sid", bytes), |bytes: &[u8]| cookie("sid", bytes)] {
                assert_eq!(look(&bytes[..enough - 1]), Found::More, "{:?}", bytes.escape_ascii().to_string());
                assert_eq!(look(&bytes[..enough]), Found::Nothing, "{:?}", bytes.escape_ascii().to_string());
                assert_eq!(look(bytes), Found::Nothing, "{:?}", bytes.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn cookies_are_read_as_browsers_and_others_write_them() {
        let of = |value: &str| cookie("sid", &head(&format!("Cookie: {value}\r\n")));
        assert_eq!(of("sid=4711"), key("4711"));
        assert_eq!(of("a=1;sid=4711;b=2"), key("4711"), "no space after the semicolon");
        assert_eq!(of("  sid = 4711 \t"), key("4711"));
        assert_eq!(of("sid=\"4711\""), key("4711"), "quotes are not part of the value");
        assert_eq!(of("sid=\"4711"), key("\"4711"), "half of them are");
        assert_eq!(of("sid=a=b=="), key("a=b=="));
        assert_eq!(of("sid=first; sid=second"), key("first"));
        assert_eq!(of("sid=; sid=second"), key("second"), "an empty one is absent");
        assert_eq!(of("sid=\"\""), Found::Nothing);
        assert_eq!(of("sid"), Found::Nothing);
        assert_eq!(of("SID=1; xsid=2; sidx=3; x=sid=4"), Found::Nothing);
        assert_eq!(of(""), Found::Nothing);
        assert_eq!(of("\u{fc}=1; sid=\u{fc}"), key("\u{fc}"), "a value may be any bytes");
    }

    #[test]
    fn of_several_headers_the_first_with_a_value_counts() {
        let bytes = head("X-User:\r\nx-user: \t anna \r\nX-USER: bert\r\nCookie: a=1\r\ncookie: sid=2\r\n");
        assert_eq!(header("x-user", &bytes), key("anna"));
        assert_eq!(cookie("sid", &bytes), key("2"));
        assert_eq!(header("", &bytes), Found::Nothing);
    }

    #[test]
    fn a_host_is_the_same_with_a_port_a_dot_and_in_capitals() {
        let of = |value: &str| host(&head(&format!("Host: {value}\r\n")));
        for value in ["a.example", "A.Example", "a.example:80", "a.example:", "a.example.", "a.example.:8080"]
        {
            assert_eq!(of(value), key("a.example"), "{value}");
        }
        assert_eq!(of("[2001:DB8::1]:443"), key("[2001:db8::1]"));
        assert_eq!(of("[2001:db8::1]"), key("[2001:db8::1]"));
        for value in ["", ":80", "a.example:http", "2001:db8::1", "[::1", "[::1]80", "a b"] {
            assert_eq!(of(value), Found::Nothing, "{value}");
        }
    }

    #[test]
    fn the_host_counts_only_for_a_target_on_it() {
        let of = |target: &str| host(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").as_bytes());
        assert_eq!(of("/"), key("a.example"));
        assert_eq!(of("*"), key("a.example"));
        assert_eq!(of("http://b.example/"), Found::Nothing);
        assert_eq!(of("b.example:443"), Found::Nothing);
    }

    #[test]
    fn a_query_is_read_as_it_was_sent() {
        let of = |target: &str| query("sid", format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(of("/?sid=1"), key("1"));
        assert_eq!(of("/?a=b&sid=a%20b=c&sid=2"), key("a%20b=c"));
        assert_eq!(of("/?sid=&sid=2"), key("2"));
        assert_eq!(of("/?a?sid=1"), Found::Nothing);
        assert_eq!(of("/?sid=1#f"), key("1"));
        assert_eq!(of("/#?sid=1"), Found::Nothing);
        assert_eq!(of("http://a.example/?sid=1"), key("1"));
        for target in ["/", "/?", "/?sid", "/?SID=1", "/sid=1", "/?xsid=1", "*"] {
            assert_eq!(of(target), Found::Nothing, "{target}");
        }
    }

    #[test]
    fn headers_beyond_the_bound_are_not_looked_at() {
        let with =
            |before: usize| head(&("A: 1\r\n".repeat(before) + "X-User: anna\r\n" + &"B: 2\r\n".repeat(9)));
        assert_eq!(header("x-user", &with(63)), key("anna"));
        assert_eq!(header("x-user", &with(64)), Found::Nothing);
        let endless = [b"GET / HTTP/1.1\r\n".to_vec(), b"A: 1\r\n".repeat(HEADERS + 1)].concat();
        assert_eq!(header("x-user", &endless), Found::Nothing, "no need for the end of the head");
    }

    #[test]
    fn what_was_found_stays_whatever_follows() {
        let start = b"GET / HTTP/1.1\r\nX-User: anna\r\n";
        for rest in
            [&b""[..], b"\0", b" folded\r\n", b"no colon\r\n\r\n", b"\r\n\x16\x03", b"X-User: bert\r\n\r\n"]
        {
            assert_eq!(header("x-user", &[start, rest].concat()), key("anna"));
        }
        assert_eq!(header("x-group", &[start, &b"\0"[..]].concat()), Found::Nothing, "the head went wrong");
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped() {
        assert_eq!(query("sid", b"\r\n\r\nGET /?sid=1 HTTP/1.0\r\n"), key("1"));
        assert_eq!(query("sid", b"\r\n"), Found::More);
    }
}
