//! What the kernel writes, read without trust: any bytes give a value or `None`.

/// A decimal number, alone but for white space around it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What stands behind `name` in the first line that begins with it.
pub(super) fn behind<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(line.trim_ascii())
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A number with two decimals, in hundredths: `1.25`.
pub(super) fn hundredths(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|byte| *byte == b'.')?;
    let (whole, decimals) = (text.get(..point)?, text.get(point + 1..)?);
    if decimals.len() != 2 {
        return None;
    }
    number(whole)?.checked_mul(100)?.checked_add(number(decimals)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_whole_or_not_at_all() {
        assert_eq!(number(b" 42\n"), Some(42));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b""[..], b"  ", b"-1", b"+1", b"1 2", b"18446744073709551616", b"0x1"] {
            assert_eq!(number(wrong), None, "{:?}", wrong.escape_ascii().to_string());
        }
        assert_eq!((hundredths(b"0.07"), hundredths(b"99.50")), (Some(7), Some(9950)));
        assert_eq!((hundredths(b"1.5"), hundredths(b"nan"), hundredths(b"1")), (None, None, None));
    }

    #[test]
    fn a_line_is_found_by_how_it_begins() {
        let text = b"Pss_Anon: 1 kB\nPss:   2 kB\n";
        assert_eq!(behind(text, "Pss:"), Some(&b"2 kB"[..]));
        assert_eq!(behind(text, "Rss:"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (number(&bytes), hundredths(&bytes), behind(&bytes, "a"));
            prop_assert!(words(&bytes).all(|word| !word.is_empty()));
        }

        #[test]
        fn every_number_is_read(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
    }
}
