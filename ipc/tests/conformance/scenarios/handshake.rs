//! How two ends get to know each other, or don't.

use std::time::Duration;

use cluster_ipc::session::Config;
use cluster_ipc::{Error, Lane};

use super::{LONG, assert_same, pattern, tracked};
use crate::end::{Driver, End, Setup};
use crate::frames::{
    CONTROL, GENEROUS, MESSAGE, ONLINE, REJECT, RawFrame, WELCOME, message, online, settings, welcome,
};

pub fn it_tells_greetings_descriptors_and_schemas<D: Driver>() {
    let ((first, one), (second, other)) = (tracked(), tracked());
    let parent = Setup {
        config: Config::new().schema(3),
        greeting: b"hello child".to_vec(),
        descriptors: vec![one, other],
    };
    let child =
        Setup { config: Config::new().schema(7), greeting: b"hello parent".to_vec(), descriptors: vec![] };
    let (mut parent, mut child) = D::pair(parent, child);

    let mut opened = child.opened().unwrap();
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello child"[..], 3));
    let descriptors = opened.take_descriptors();
    let [one, other] = <[_; 2]>::try_from(descriptors).expect("two descriptors came with the Welcome");
    first.assert_is(one);
    second.assert_is(other);

    let mut opened = parent.opened().unwrap();
    assert_eq!((&opened.payload()[..], opened.schema()), (&b"hello parent"[..], 7));
    assert!(opened.take_descriptors().is_empty(), "a child sends none");
}

pub fn a_long_greeting_arrives_whole<D: Driver>() {
    // More than a socket takes at once.
    let (one, other) = (pattern(600_000), pattern(700_001));
    let setup = |greeting: &Vec<u8>| Setup { greeting: greeting.clone(), ..Setup::default() };
    // Both ends have to be driven for that, by whoever waits.
    let (mut parent, mut child) = D::pair(setup(&one), setup(&other));
    let sending = parent.begin_send(Lane::Data, b"and a message", vec![]);
    let asked = child.begin_request(b"and a request", vec![], LONG);
    assert_eq!(&child.message().value[..], b"and a message");
    let (request, responder) = parent.request();
    assert_eq!(&request.value[..], b"and a request");
    parent.sent(sending).unwrap();
    parent.reply(responder, b"yes", vec![]).unwrap();
    assert_eq!(&child.answer(asked).unwrap().0[..], b"yes");
    drop((parent, child));

    let (mut child, mut stranger) = D::child(Setup::default());
    for piece in welcome(&GENEROUS, &one).bytes().chunks(100_000) {
        stranger.say(piece);
        child.turn();
        if piece.len() == 100_000 {
            child_reads_on::<D>(&mut child);
        }
    }
    assert_same(child.opened().unwrap().payload(), &one);
}

/// Lets it read what a stranger said, also where nobody does that in the background.
fn child_reads_on<D: Driver>(end: &mut D::End) {
    end.nothing_yet_opened();
}
