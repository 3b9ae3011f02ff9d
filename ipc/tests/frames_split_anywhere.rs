//! However the kernel cuts the stream, the same frames come out, with their own descriptors.

use cluster_ipc::{Decoder, Error, Frame, Kind, Outbox};
use proptest::prelude::*;

/// A frame to send: payload length and how many descriptors.
fn frames() -> impl Strategy<Value = Vec<(Vec<u8>, usize)>> {
    let frame = (prop::collection::vec(any::<u8>(), 0..200), prop_oneof![3 => Just(0usize), 1 => 1usize..20]);
    prop::collection::vec(frame, 1..20)
}

/// Fast by default; `CLUSTER_TEST_LONG=1` tries a hundred times as many. proptest prints what failed, and how to repeat it.
fn config() -> ProptestConfig {
    let long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if long { 25_600 } else { 256 })
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        frames in frames(),
        cuts in prop::collection::vec(1usize..64, 1..50),
        // The kernel merges plain bytes with the first bytes of a message that carries descriptors.
        merge in any::<bool>(),
    ) {
        let mut outbox = Outbox::new();
        let mut next = 0;
        let mut sent = Vec::new();
        for (id, (payload, count)) in frames.into_iter().enumerate() {
            let descriptors: Vec<usize> = (next..next + count).collect();
            next += count;
            sent.push((id as u64, payload.clone(), descriptors.clone()));
            outbox.push(Frame::new(Kind::Message, id as u64, payload).with_descriptors(descriptors)).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut received = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        let mut held: (Vec<u8>, Vec<usize>) = Default::default();
        while let Some(transmit) = outbox.poll_transmit() {
            let cut = cuts.next().unwrap().min(transmit.bytes().len());
            let carries = !transmit.descriptors().is_empty();
            held.0.extend(&transmit.bytes()[..cut]);
            held.1.extend(transmit.descriptors());
            outbox.handle_sent(cut);
            // A read stops after bytes that carry descriptors; plain ones may wait for the next.
            if carries || !merge {
                decoder.push(&std::mem::take(&mut held.0), std::mem::take(&mut held.1)).unwrap();
                while let Some(frame) = decoder.poll_frame().unwrap() {
                    received.push((frame.id(), frame.payload().to_vec(), frame.descriptors().to_vec()));
                }
            }
        }
        decoder.push(&held.0, held.1).unwrap();
        while let Some(frame) = decoder.poll_frame().unwrap() {
            received.push((frame.id(), frame.payload().to_vec(), frame.descriptors().to_vec()));
        }
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_an_error_is_final(
        reads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..100), 0usize..4), 1..30),
    ) {
        let mut decoder = Decoder::<u8>::with_max_frame(1 << 16);
        let mut failed = false;
        for (bytes, descriptors) in reads {
            let mut results = vec![decoder.push(&bytes, vec![0; descriptors]).map(|()| None)];
            while matches!(results.last(), Some(Ok(_))) {
                let result = decoder.poll_frame();
                let drained = matches!(result, Ok(None));
                results.push(result);
                if drained { break; }
            }
            let error = results.iter().any(Result::is_err);
            prop_assert!(!failed || matches!(results[0], Err(Error::PeerGone)), "an error is final");
            failed |= error;
        }
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_anything_arrives() {
    let mut header = [0u8; 16];
    header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    header[4] = 16;
    let mut decoder = Decoder::<u8>::new();
    decoder.push(&header, []).unwrap();
    assert!(
        matches!(decoder.poll_frame(), Err(Error::FrameTooLarge { len, .. }) if len == u32::MAX as usize)
    );
}

#[test]
fn a_frame_that_claims_more_descriptors_than_arrived_is_an_error() {
    let mut header = [0u8; 16];
    header[4] = 16;
    header[6] = 2;
    let mut decoder = Decoder::new();
    decoder.push(&header, [1]).unwrap();
    assert!(matches!(decoder.poll_frame(), Err(Error::DescriptorsMissing { claimed: 2, waiting: 1 })));
}

#[test]
fn descriptors_that_no_frame_claims_are_bounded() {
    let mut decoder = Decoder::new();
    let pushed = (0..10).map(|_| decoder.push(b"", vec![0u8; 100])).find(Result::is_err);
    assert!(matches!(pushed, Some(Err(Error::DescriptorsUnclaimed { .. }))));
}

#[test]
fn an_unknown_kind_is_skipped_unless_it_must_be_understood() {
    let mut skippable = [0u8; 16];
    skippable[4] = 200;
    skippable[6] = 1;
    let mut decoder = Decoder::new();
    decoder.push(&skippable, [7]).unwrap();
    assert!(decoder.poll_frame().unwrap().is_none());
    let mut mandatory = skippable;
    mandatory[5] = 1;
    decoder.push(&mandatory, [8]).unwrap();
    assert!(matches!(decoder.poll_frame(), Err(Error::UnknownKind(200))));
}
