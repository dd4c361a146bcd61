use wa::message::event_response_message::EventResponseType;
use wacore::poll::compute_option_hash;

use super::*;
use crate::inbound::reveal::{self, Ballot};

fn hashes(options: &[&str]) -> Vec<Vec<u8>> {
    let options = options.iter();
    options.map(|o| compute_option_hash(o).to_vec()).collect()
}

fn closed() -> Draft {
    draft(
        &message!(poll_update_message: fields!(m::PollUpdateMessage { poll_creation_message_key: key("POLL") })),
    )
}

fn wrapped_poll() -> Message {
    Message {
        poll_creation_message_v4: future(message!(poll_creation_message: poll())),
        ..Message::default()
    }
}

#[test]
fn a_vote_names_the_choice_and_how_the_poll_stands() {
    let bob = Ballot {
        voter: "Bob".to_owned(),
        options: vec!["Soup".to_owned()],
    };
    let others = [bob];
    let both = hashes(&["Salad", "Soup", "Cake"]);
    let vote = reveal::vote(closed(), &wrapped_poll(), "Ann", &both, &others);
    insta::assert_json_snapshot!("vote", vote);
    let none = reveal::vote(closed(), &wrapped_poll(), "Ann", &[], &others);
    insta::assert_json_snapshot!("vote_taken_back", none);
}

#[test]
fn a_vote_on_what_is_no_poll_stays_closed() {
    let selected = hashes(&["Soup"]);
    let vote = reveal::vote(closed(), &text("no poll"), "Ann", &selected, &[]);
    assert_eq!(vote, closed());
    assert_eq!(reveal::choice(&text("no poll"), &selected), None);
    let soup = (vec!["Soup".to_owned()], 0);
    assert_eq!(reveal::choice(&wrapped_poll(), &selected), Some(soup));
}

#[test]
fn an_answer_to_an_event_names_it() {
    let party = message!(event_message: fields!(m::EventMessage { name: s("Party") }));
    let closed = draft(
        &message!(enc_event_response_message: fields!(m::EncEventResponseMessage { event_creation_message_key: key("E") })),
    );
    let answer = m::EventResponseMessage {
        response: Some(EventResponseType::GOING),
        extra_guest_count: Some(2),
        ..Default::default()
    };
    let named = reveal::event_answer(closed.clone(), Some(&party), &answer);
    insta::assert_json_snapshot!("event_answer", named);
    let bare = reveal::event_answer(closed, None, &m::EventResponseMessage::default());
    assert_eq!(
        bare.content,
        "Answered an invitation to an event: an answer that cannot be shown"
    );
}

#[test]
fn a_comment_is_about_what_comes_beside_it() {
    let comment = reveal::comment(draft(&text("nice")), &key("OLD"));
    assert_eq!(comment.event_type, "message.commented");
    assert_eq!(comment.target_message_id.as_deref(), Some("OLD"));
    assert_eq!(comment.content, "nice");
}
