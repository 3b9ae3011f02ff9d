//! Peers that are no sessions of ours: whatever they send, this side ends the conversation and says why.

use cluster_ipc::session::{Config, Payload, Window};
use cluster_ipc::{Error, MAX_DESCRIPTORS};

use crate::wire::{
    BLOCKED, CANCEL, CHUNK, CREDIT, FAILURE, FINISH, GAP, IN_MEMORY, Lone, MESSAGE, MORE, MUST_UNDERSTAND,
    REPLY, REQUEST, Raw, Told, amount, beginning, patient, raw,
};

/// What ends the conversation after these frames, of which all but the last are fine.
fn ends_with(frames: &[Raw]) -> Error {
    let mut side = Lone::default();
    let (last, before) = frames.split_last().unwrap();
    for frame in before {
        side.gets_with(frame, 0..u32::from(frame.descriptors));
        assert!(side.session.is_open(), "{frame:?} is in its place");
    }
    side.gets_with(last, 0..u32::from(last.descriptors));
    assert!(side.session.is_closed(), "{last:?} is taken");
    side.ended()
}

fn is_out_of_place(frames: &[Raw]) {
    let error = ends_with(frames);
    assert!(matches!(error, Error::OutOfPlace { .. }), "{frames:?}: {error}");
}

fn is_malformed(frame: Raw) {
    let error = ends_with(std::slice::from_ref(&frame));
    assert!(matches!(error, Error::Malformed { .. }), "{frame:?}: {error}");
}

#[test]
fn chunks_belong_to_a_message() {
    let chunk = |payload: &[u8], flags| raw(CHUNK, payload).adding(flags);
    is_out_of_place(&[chunk(b"of nothing", 0)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cde", 0).id(1)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cde", 0).claims(1)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cdef", 0)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cd", 0)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cde", MORE)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"", MORE)]);
    is_out_of_place(&[beginning(5, b"ab"), chunk(b"cde", 0), chunk(b"f", 0)]);
}

#[test]
fn chunks_stay_in_their_lane() {
    is_out_of_place(&[beginning(5, b"ab"), raw(CHUNK, *b"cde").lane(0)]);
}

#[test]
fn nothing_comes_between_the_chunks_of_a_message() {
    for kind in [MESSAGE, REQUEST, REPLY, GAP, FINISH] {
        is_out_of_place(&[beginning(5, b"ab"), raw(kind, patient(b""))]);
    }
    is_out_of_place(&[beginning(5, b"ab"), beginning(5, b"ab")]);
}

#[test]
fn a_beginning_says_truly_how_much_follows() {
    is_malformed(beginning(2, b"ab"));
    is_malformed(beginning(1, b"ab"));
    is_malformed(beginning(0, b""));
    is_malformed(raw(MESSAGE, *b"short").adding(MORE));
    is_malformed(raw(MESSAGE, *b"short").adding(IN_MEMORY).claims(1));
    is_malformed(raw(REQUEST, *b"short"));
    is_out_of_place(&[beginning(10, b"ab").lane(0)]);
    is_out_of_place(&[raw(MESSAGE, amount(1, 1, 1)).adding(MORE | IN_MEMORY).claims(1)]);
    is_out_of_place(&[raw(MESSAGE, *b"").adding(0x40)]);
}

#[test]
fn memory_is_a_descriptor() {
    let error = ends_with(&[raw(MESSAGE, 7u64.to_le_bytes()).adding(IN_MEMORY)]);
    assert!(matches!(error, Error::BadMemory { .. }), "{error}");
}

#[test]
fn there_are_two_lanes() {
    for kind in [MESSAGE, REQUEST, CREDIT, CANCEL, FINISH] {
        is_out_of_place(&[raw(kind, amount(1, 1, 1)).lane(2)]);
    }
    is_out_of_place(&[raw(MESSAGE, *b"plain").lane(255)]);
}

#[test]
fn after_the_end_of_messages_there_are_none() {
    let end = || raw(FINISH, *b"");
    is_out_of_place(&[end(), end()]);
    is_out_of_place(&[end(), raw(MESSAGE, *b"")]);
    is_out_of_place(&[end(), raw(MESSAGE, *b"").lane(0)]);
    is_out_of_place(&[end(), raw(REQUEST, patient(b""))]);
    is_out_of_place(&[end(), beginning(10, b"a")]);
}

#[test]
fn after_the_end_of_messages_none_are_missing() {
    is_out_of_place(&[raw(FINISH, *b""), raw(GAP, *b"").id(1)]);
}

#[test]
fn a_flag_that_is_not_known_is_an_error_whatever_the_frame() {
    for kind in [GAP, FINISH, CREDIT, BLOCKED, CANCEL] {
        is_out_of_place(&[raw(kind, amount(1, 1, 1)).adding(0x40)]);
    }
    is_out_of_place(&[beginning(4, b"ab"), raw(CHUNK, *b"cd").adding(0x40)]);
}

#[test]
fn small_frames_have_their_form() {
    is_malformed(raw(FAILURE, *b""));
    for kind in [CREDIT, BLOCKED] {
        is_malformed(raw(kind, amount(1, 1, 1)).id(3));
        is_malformed(raw(kind, amount(1, 1, 1)).id(u64::MAX));
        is_malformed(raw(kind, &amount(1, 1, 1)[..23]));
    }
}

#[test]
fn a_message_above_the_limit_is_refused_before_it_has_arrived() {
    let config = Config::new().max_message(1000);
    let memory = raw(MESSAGE, 1001u64.to_le_bytes()).adding(IN_MEMORY).claims(1);
    let request = raw(REQUEST, patient(&[0; 1001]));
    for frame in
        [raw(MESSAGE, vec![0; 1001]), beginning(1001, b"a"), beginning(u64::MAX, b"a"), memory, request]
    {
        let mut side = Lone::child(config, Config::new());
        side.gets_with(&frame, 0..u32::from(frame.descriptors));
        assert!(matches!(side.ended(), Error::FrameTooLarge { max: 1000, .. }), "{frame:?}");
    }
    let mut side = Lone::child(config, Config::new());
    side.gets(&raw(MESSAGE, vec![0; 1000]));
    side.gets(&raw(REQUEST, patient(&[0; 1000])));
    assert_eq!(side.told().len(), 2, "the limit itself is allowed");
}

#[test]
fn a_frame_above_the_limit_is_refused_at_its_header() {
    let mut header = raw(MESSAGE, *b"").bytes();
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut side = Lone::default();
    side.hears(&header);
    assert!(matches!(side.ended(), Error::FrameTooLarge { .. }));
}

#[test]
fn descriptors_that_do_not_add_up_end_the_conversation() {
    let mut side = Lone::default();
    side.gets_with(&raw(MESSAGE, *b"").claims(2), [1]);
    assert!(matches!(side.ended(), Error::DescriptorsMissing { claimed: 2, waiting: 1 }));
    let mut side = Lone::default();
    for _ in 0..3 {
        side.session.handle_input(b"", vec![0; MAX_DESCRIPTORS], side.now);
    }
    assert!(matches!(side.ended(), Error::DescriptorsUnclaimed { .. }));
}

/// No write carries more than 253, but two of them wait together, and the header has room for 255.
#[test]
fn a_frame_that_claims_more_descriptors_than_a_frame_may_carry_ends_the_conversation() {
    for claimed in [254, 255] {
        for flags in [0, IN_MEMORY] {
            let mut side = Lone::child(
                Config::new().window(Window { bytes: 1 << 20, messages: 10, descriptors: 1000 }),
                Config::new(),
            );
            let frame = raw(MESSAGE, 7u64.to_le_bytes()).adding(flags).claims(claimed).bytes();
            side.session.handle_input(&frame[..1], vec![0; 253], side.now);
            side.session.handle_input(&frame[1..], vec![0; 253], side.now);
            assert!(side.session.is_closed(), "{claimed} descriptors in one frame");
        }
    }
}

#[test]
fn what_arrived_before_the_mistake_is_reported_before_the_end() {
    let mut side = Lone::default();
    let read = [raw(MESSAGE, *b"a"), raw(GAP, *b"").id(3), raw(CHUNK, *b"?"), raw(MESSAGE, *b"b")];
    let read: Vec<u8> = read.iter().flat_map(Raw::bytes).collect();
    side.hears(&read);
    assert_eq!(side.told(), [Told::Message(b"a".into()), Told::Gap(3), Told::Closed]);
    side.hears(&read);
    assert_eq!(side.told(), [], "after the end input is dropped");
}

#[test]
fn an_end_in_the_middle_of_a_message_drops_the_message() {
    let mut side = Lone::default();
    side.gets_with(&beginning(10, b"abc").claims(2), [1, 2]);
    side.hears(&raw(MESSAGE, *b"cut short").bytes()[..20]);
    side.session.handle_peer_gone();
    assert!(matches!(side.ended(), Error::PeerGone));
}

#[test]
fn flags_of_the_frame_are_not_flags_of_the_message() {
    let mut side = Lone::default();
    side.gets(&Raw { flags: 0, ..raw(MESSAGE, *b"optional") });
    side.gets(&Raw { flags: MUST_UNDERSTAND, ..raw(MESSAGE, *b"mandatory") });
    let expected = [&b"optional"[..], b"mandatory"].map(|text| Told::Message(text.into()));
    assert_eq!(side.told(), expected);
}

#[test]
fn a_parent_is_as_careful_as_a_child() {
    let mut side = Lone::parent(Config::new());
    side.gets(&raw(MESSAGE, *b"fine"));
    assert!(matches!(side.next_message().into_parts().0, Payload::Inline(bytes) if bytes == "fine"));
    side.gets(&raw(CHUNK, *b"not fine"));
    assert!(matches!(side.ended(), Error::OutOfPlace { .. }));
}
