//! What a datagram of `sd_notify` says: a pure function (`man 3 sd_notify`).

use std::time::Duration;

/// One thing that a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `READY=1`: it has started, or has reloaded.
    Ready,
    /// `RELOADING=1`: it reads its configuration anew, and says ready again after that.
    Reloading,
    /// `STOPPING=1`: it has begun to end.
    Stopping,
    /// `WATCHDOG=1`: it is alive.
    Watchdog,
    /// `WATCHDOG=trigger`: it has found itself broken, and wants what a missed watchdog leads to.
    WatchdogTrigger,
    /// `STATUS=…`: for people to read. Control characters and what isn't UTF-8 are replaced by `�`.
    Status(String),
    /// `MAINPID=…`: the process that counts. It is only told here: who believes it must check it.
    MainPid(u32),
    /// `EXTEND_TIMEOUT_USEC=…`: it needs at least this long from now on to start or stop.
    ExtendTimeout(Duration),
}

/// Reads a datagram. Unknown and malformed lines are passed over, as systemd does.
pub(super) fn parse(datagram: &[u8]) -> Vec<Field> {
    datagram.split(|byte| *byte == b'\n').filter_map(field).collect()
}

fn field(line: &[u8]) -> Option<Field> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&line[..equals], &line[equals + 1..]);
    match (key, value) {
        (b"READY", b"1") => Some(Field::Ready),
        (b"RELOADING", b"1") => Some(Field::Reloading),
        (b"STOPPING", b"1") => Some(Field::Stopping),
        (b"WATCHDOG", b"1") => Some(Field::Watchdog),
        (b"WATCHDOG", b"trigger") => Some(Field::WatchdogTrigger),
        (b"STATUS", text) => Some(Field::Status(printable(text))),
        (b"MAINPID", pid) => u32::try_from(number(pid)?).ok().filter(is_pid).map(Field::MainPid),
        (b"EXTEND_TIMEOUT_USEC", time) => Some(Field::ExtendTimeout(Duration::from_micros(number(time)?))),
        _ => None,
    }
}

/// A status ends up on somebody's terminal, where control characters are commands.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_pid(number: &u32) -> bool {
    *number != 0 && i32::try_from(*number).is_ok()
}

fn number(digits: &[u8]) -> Option<u64> {
    // `parse` would take a sign, too.
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_systemd_knows_is_read() {
        let text = b"READY=1\nSTATUS=Serving 3 of 4\nMAINPID=4711\nWATCHDOG=1\nWATCHDOG=trigger\n\
            RELOADING=1\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=1500000";
        let expected = [
            Field::Ready,
            Field::Status("Serving 3 of 4".into()),
            Field::MainPid(4711),
            Field::Watchdog,
            Field::WatchdogTrigger,
            Field::Reloading,
            Field::Stopping,
            Field::ExtendTimeout(Duration::from_millis(1500)),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_is_not_exactly_so_is_passed_over() {
        for line in
            ["READY=0", "READY=", "READY", "ready=1", " READY=1", "READY=1 ", "X_READY=1", "", "=", "=1"]
        {
            assert_eq!(parse(line.as_bytes()), [], "{line:?}");
        }
        for pid in ["0", "-1", "+1", "", "1x", "2147483648", "99999999999999999999"] {
            assert_eq!(parse(format!("MAINPID={pid}").as_bytes()), [], "{pid:?}");
        }
    }

    #[test]
    fn a_status_may_be_anything_and_harms_no_terminal() {
        assert_eq!(parse(b"STATUS="), [Field::Status(String::new())]);
        assert_eq!(parse(b"STATUS=a=b"), [Field::Status("a=b".into())]);
        assert_eq!(parse(b"STATUS=\x1b[2Jx\0\xff"), [Field::Status("\u{fffd}[2Jx\u{fffd}\u{fffd}".into())]);
    }

    fn known() -> impl Strategy<Value = (String, Field)> {
        prop_oneof![
            Just(("READY=1".to_owned(), Field::Ready)),
            Just(("STOPPING=1".to_owned(), Field::Stopping)),
            Just(("WATCHDOG=1".to_owned(), Field::Watchdog)),
            (1..=i32::MAX as u32).prop_map(|pid| (format!("MAINPID={pid}"), Field::MainPid(pid))),
            "[ -~]{0,20}".prop_map(|text| (format!("STATUS={text}"), Field::Status(text))),
        ]
    }

    proptest! {
        #[test]
        fn known_lines_are_found_among_others(
            lines in vec(prop_oneof![known().prop_map(Ok), "[A-Z]{1,5}_[A-Z]{1,9}=[ -~]{0,9}".prop_map(Err)], 0..20)
        ) {
            let text: Vec<String> = lines.iter().map(|line| match line {
                Ok((text, _)) | Err(text) => text.clone(),
            }).collect();
            let expected: Vec<Field> = lines.into_iter().filter_map(Result::ok).map(|(_, field)| field).collect();
            prop_assert_eq!(parse(text.join("\n").as_bytes()), expected);
        }

        #[test]
        fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..500)) {
            prop_assert!(parse(&bytes).len() <= bytes.len());
        }
    }
}
