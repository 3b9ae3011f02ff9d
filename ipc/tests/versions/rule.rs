//! The version rule of `codec.rs`, line by line, without a connection.

use bytes::Bytes;
use cluster_ipc::Error;
use cluster_ipc::codec::{Decode, Encode, Postcard};
use serde::{Deserialize, Serialize};

/// The first release.
pub(crate) mod old {
    use serde::{Deserialize, Serialize};

    pub(crate) const SCHEMA: u32 = 1;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Word {
        Add(u32),
        Resize { width: u16 },
        Retired,
    }
}

/// The second: `Resize` has a new form beside the old one, `Retired` is not sent any more and stays.
pub(crate) mod new {
    use serde::{Deserialize, Serialize};

    pub(crate) const SCHEMA: u32 = 2;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Word {
        Add(u32),
        Resize { width: u16 },
        Retired,
        ResizeV2 { width: u16, height: u16 },
        Multiply(Vec<u32>),
    }
}

fn read<T>(bytes: &[u8]) -> Result<T, Error>
where
    Postcard: Decode<T>,
{
    Postcard::decode(Bytes::copy_from_slice(bytes))
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    Postcard::encode(value, &mut Vec::new()).unwrap().to_vec()
}

#[test]
fn variants_that_both_know_are_the_same_in_both() {
    let pairs = [
        (old::Word::Add(300), new::Word::Add(300)),
        (old::Word::Resize { width: 80 }, new::Word::Resize { width: 80 }),
        (old::Word::Retired, new::Word::Retired),
    ];
    for (old, new) in pairs {
        assert_eq!(written(&old), written(&new));
        assert_eq!(read::<new::Word>(&written(&old)).unwrap(), new);
        assert_eq!(read::<old::Word>(&written(&new)).unwrap(), old);
    }
}

#[test]
fn a_variant_that_was_appended_is_an_error_to_the_old_one() {
    for word in [new::Word::ResizeV2 { width: 80, height: 24 }, new::Word::Multiply(vec![1, 2])] {
        let error = read::<old::Word>(&written(&word)).unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
        assert!(
            error.to_string().contains("Word"),
            "who reads this wants to know what it was to be: {error}"
        );
    }
}

/// A variant removed from the middle: all after it are taken for others. This is why it must stay.
#[test]
fn a_variant_that_was_removed_makes_others_of_those_after_it() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shorter {
        Add(u32),
        Retired,
    }
    assert_eq!(read::<old::Word>(&written(&Shorter::Add(7))).unwrap(), old::Word::Add(7));
    assert!(read::<old::Word>(&written(&Shorter::Retired)).is_err(), "it has the number of Resize");
    let resize = written(&old::Word::Resize { width: 80 });
    assert!(matches!(read::<Shorter>(&resize), Err(Error::Decode { .. })), "what is left over is an error");
}

/// Of the same form: nothing is left over, nothing is missing, and the value is a wrong one. No decoder can tell, so the
/// rule has to be kept.
#[test]
fn what_was_inserted_or_reordered_is_misread_without_an_error() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Order {
        Start,
        Stop,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Inserted {
        Start,
        Pause,
        Stop,
    }
    assert_eq!(read::<Order>(&written(&Inserted::Pause)).unwrap(), Order::Stop);
    assert_eq!(read::<Inserted>(&written(&Order::Stop)).unwrap(), Inserted::Pause);
    assert!(read::<Order>(&written(&Inserted::Stop)).is_err(), "this number the old one doesn't know");

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Size {
        width: u16,
        height: u16,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Turned {
        height: u16,
        width: u16,
    }
    let size = written(&Size { width: 80, height: 24 });
    assert_eq!(read::<Turned>(&size).unwrap(), Turned { height: 80, width: 24 });
    // A wider number is written alike; what the old one can't hold is an error.
    assert_eq!(read::<(u64, u64)>(&size).unwrap(), (80, 24));
    assert!(read::<Size>(&written(&(80u64, 1u64 << 16))).is_err());
}

/// A field inserted in the middle shifts those after it.
#[test]
fn a_field_that_was_inserted_is_an_error_or_a_wrong_value() {
    let old = (7u32, "name".to_owned());
    let inserted = (7u32, 9u8, "name".to_owned());
    assert!(read::<(u32, String)>(&written(&inserted)).is_err());
    assert!(read::<(u32, u8, String)>(&written(&old)).is_err());
    // By bad luck what is shifted fits: here the number of a field is taken for the length of the next.
    let unlucky = (7u32, 5u8, "name".to_owned());
    assert_eq!(read::<(u32, String)>(&written(&unlucky)).unwrap(), (7, "\u{4}name".to_owned()));
}

#[test]
fn a_struct_that_was_changed_does_not_read_as_what_it_was() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Two {
        first: u32,
        second: String,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Three {
        first: u32,
        second: String,
        third: bool,
    }
    let (first, second) = (1, "two".to_owned());
    let three = Three { first, second: second.clone(), third: true };
    assert!(read::<Two>(&written(&three)).is_err(), "a field more is left over");
    assert!(read::<Three>(&written(&Two { first, second })).is_err(), "a field less is missing");
}

#[test]
fn what_is_not_written_by_postcard_is_an_error_and_no_wrong_value() {
    for garbage in [&[][..], &[9], &[0], &[0xff; 20], b"{\"Add\":1}"] {
        assert!(matches!(read::<old::Word>(garbage), Err(Error::Decode { .. })), "{garbage:?}");
    }
}
