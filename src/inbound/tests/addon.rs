use m::event_response_message::EventResponseType;
use wacore::event::encrypt_event_response_with_secret;
use wacore::poll::{compute_option_hash, encrypt_poll_vote_with_secret};

use super::*;
use crate::inbound::addon::{open_event_answer, open_vote};

const SECRET: [u8; 32] = [7; 32];

fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn with_secret(message: Message) -> Message {
    Message {
        message_context_info: some(fields!(wa::MessageContextInfo {
            message_secret: Some(SECRET.to_vec()),
        })),
        ..message
    }
}

fn vote(author: &str, voter: &str) -> Message {
    let hashes = [compute_option_hash("Soup").to_vec()];
    let (payload, iv) =
        encrypt_poll_vote_with_secret(&hashes, &SECRET, "POLL", author, voter).unwrap();
    message!(poll_update_message: fields!(m::PollUpdateMessage {
        poll_creation_message_key: key("POLL"),
        vote: some(m::PollEncValue { enc_payload: Some(payload), enc_iv: Some(iv.to_vec()), ..Default::default() }),
    }))
}

#[test]
fn a_vote_opens_whichever_addresses_it_was_made_with() {
    let poll = Message {
        ephemeral_message: future(with_secret(message!(poll_creation_message: poll()))),
        ..Message::default()
    };
    let soup = Some(vec![compute_option_hash("Soup").to_vec()]);
    let (bob, ann) = (addresses(&[BOB]), addresses(&[ANN, ANN_LID]));
    for voter in [ANN, ANN_LID] {
        assert_eq!(open_vote(&vote(BOB, voter), &poll, &bob, &ann), soup);
    }
    // Another voter's, or one of another poll, or of one whose secret is not known.
    assert_eq!(open_vote(&vote(BOB, ME), &poll, &bob, &ann), None);
    assert_eq!(open_vote(&vote(ME, ANN), &poll, &bob, &ann), None);
    assert_eq!(open_vote(&vote(BOB, ANN), &text("x"), &bob, &ann), None);
    assert_eq!(open_vote(&text("x"), &poll, &bob, &ann), None);
}

#[test]
fn damaged_votes_stay_closed() {
    let poll = with_secret(message!(poll_creation_message: poll()));
    let (bob, ann) = (addresses(&[BOB]), addresses(&[ANN]));
    for length in [0, 5, 12, 16, 48] {
        let broken = message!(poll_update_message: fields!(m::PollUpdateMessage {
            poll_creation_message_key: key("POLL"),
            vote: some(m::PollEncValue {
                enc_payload: Some(vec![1; length]), enc_iv: Some(vec![2; length]), ..Default::default()
            }),
        }));
        assert_eq!(open_vote(&broken, &poll, &bob, &ann), None, "{length}");
    }
}

#[test]
fn an_answer_to_an_event_opens() {
    let going = m::EventResponseMessage {
        response: Some(EventResponseType::GOING),
        ..Default::default()
    };
    let (payload, iv) = encrypt_event_response_with_secret(&going, &SECRET, "E", BOB, ANN).unwrap();
    let answer = message!(enc_event_response_message: fields!(m::EncEventResponseMessage {
        event_creation_message_key: key("E"), enc_payload: Some(payload), enc_iv: Some(iv.to_vec()),
    }));
    let event = with_secret(message!(event_message: m::EventMessage::default()));
    let (bob, ann) = (addresses(&[BOB]), addresses(&[ANN_LID, ANN]));
    let opened = open_event_answer(&answer, &event, &bob, &ann);
    assert_eq!(opened, Some(going));
    assert_eq!(open_event_answer(&answer, &event, &ann, &bob), None);
}
