use wa::message::event_response_message::EventResponseType;
use wacore::poll::compute_option_hash;

use super::*;
use crate::inbound::reveal::{self, Ballot, Choice, Standing};

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

fn chosen(options: &[&str]) -> Choice {
    Choice {
        options: options.iter().map(|&option| option.to_owned()).collect(),
        later: Vec::new(),
    }
}

fn ballot(voter: &str, options: &[&str]) -> Ballot {
    Ballot {
        voter: voter.to_owned(),
        choice: chosen(options),
    }
}

/// The poll as it stands with these votes, the last of which is told.
fn standing(choice: &Choice, ballots: &[Ballot]) -> Standing {
    Standing {
        choice: choice.clone(),
        added: Vec::new(),
        ballots: ballots.to_vec(),
    }
}

#[test]
fn a_vote_names_the_choice_and_how_the_poll_stands() {
    let both = hashes(&["Salad", "Soup", "Cake"]);
    let (vote, choice) = reveal::vote(&closed(), &wrapped_poll(), &both).unwrap();
    assert_eq!(choice.options, ["Soup", "Salad"]);
    assert!(reveal::is_open_vote(&vote) && !reveal::is_open_vote(&closed()));
    let ballots = [ballot("Bob", &["Soup"]), ballot("Ann", &["Soup", "Salad"])];
    let mut stands = standing(&choice, &ballots);
    insta::assert_json_snapshot!("vote", reveal::tally(vote.clone(), "Ann", &stands));
    // Once it is known what the third option is.
    stands.added = vec!["Salad".to_owned(), "Cake".to_owned()];
    stands.ballots[0].choice.later = choice.later;
    insta::assert_json_snapshot!("vote_added", reveal::tally(vote.clone(), "Ann", &stands));
    let (none, choice) = reveal::vote(&closed(), &wrapped_poll(), &[]).unwrap();
    assert_eq!(choice, Choice::default());
    let ballots = [ballot("Bob", &["Soup"]), ballot("Ann", &[])];
    let stands = standing(&choice, &ballots);
    insta::assert_json_snapshot!("vote_taken_back", reveal::tally(none, "Ann", &stands));
    // Nothing of a poll that was let go stays behind.
    let again = reveal::close_vote(reveal::tally(vote, "Ann", &stands));
    assert_eq!(
        again,
        reveal::unknown_target(closed(), reveal::Sealed::Vote)
    );
    assert_eq!(again.content, "Voted in a poll that is not kept here");
}

#[test]
fn a_vote_on_what_is_no_poll_stays_closed() {
    let selected = hashes(&["Soup"]);
    assert_eq!(reveal::vote(&closed(), &text("no poll"), &selected), None);
    assert_eq!(reveal::choice(&text("no poll"), &selected), None);
    let soup = chosen(&["Soup"]);
    assert_eq!(reveal::choice(&wrapped_poll(), &selected), Some(soup));
}

#[test]
fn a_poll_of_ten_thousand_options_does_not_fill_the_event() {
    let names: Vec<String> = (0..10_000).map(|n| format!("option {n}")).collect();
    let options = names.iter().chain(&names[..10]).map(|name| {
        fields!(m::poll_creation_message::Option {
            option_name: s(name)
        })
    });
    let poll = message!(poll_creation_message: fields!(m::PollCreationMessage {
        name: s("Which?"), options: options.collect(),
    }));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (vote, choice) = reveal::vote(&closed(), &poll, &hashes(&names)).unwrap();
    // A name that stands there twice is chosen once.
    assert_eq!(choice.options.len(), 10_000);
    assert!(
        vote.content.ends_with("option 99, 9900 more"),
        "{}",
        vote.content
    );
    let ballots = [ballot("Ann", &names), ballot("Bob", &names[7..8])];
    let all = reveal::tally(vote, "Ann", &standing(&choice, &ballots));
    assert_eq!(all.content.lines().count(), 101);
    assert!(all.content.contains("\n- option 7: 2 (Ann, Bob)"));
    let (one, choice) = reveal::vote(&closed(), &poll, &hashes(&names[9_000..9_001])).unwrap();
    let ballots = [ballot("Ann", &names[9_000..9_001])];
    let one = reveal::tally(one, "Ann", &standing(&choice, &ballots));
    assert_eq!(
        one.content,
        "Voted in the poll \"Which?\": option 9000\n- option 9000: 1 (Ann)"
    );
}

#[test]
fn who_may_change_a_message() {
    use reveal::Change::{Edit, Revocation};
    let edit = |inner: Message| {
        draft(&message!(protocol_message: fields!(m::ProtocolMessage {
            key: key("OLD"), r#type: Some(Type::MESSAGE_EDIT), edited_message: some(inner),
        })))
    };
    assert_eq!(reveal::by_author_alone(&edit(text("new"))), Some(Edit));
    let sealed = |kind| {
        draft(
            &message!(secret_encrypted_message: fields!(m::SecretEncryptedMessage {
                target_message_key: key("OLD"), secret_enc_type: Some(kind),
            })),
        )
    };
    use m::secret_encrypted_message::SecretEncType as Sec;
    assert_eq!(
        reveal::by_author_alone(&sealed(Sec::MESSAGE_EDIT)),
        Some(Edit)
    );
    assert_eq!(reveal::by_author_alone(&sealed(Sec::POLL_ADD_OPTION)), None);
    let mut gone = draft(&message!(protocol_message: fields!(m::ProtocolMessage {
        key: key("OLD"), r#type: Some(Type::REVOKE),
    })));
    assert_eq!(reveal::by_author_alone(&gone), Some(Revocation));
    reveal::revocation(&mut gone, true);
    assert_eq!(reveal::by_author_alone(&gone), None);
    assert_eq!(reveal::by_author_alone(&draft(&text("hello"))), None);
    let line = reveal::not_the_author(edit(text("new")), Edit);
    assert_eq!(line.event_type, "message.received");
    assert!(
        line.content.ends_with("the new text would be) new"),
        "{}",
        line.content
    );
    assert_eq!(line.metadata["refused_change"], "edit");
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
