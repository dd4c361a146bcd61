//! What must hold of all that a stage has seen, however its hosts and plugins were killed.

use std::collections::{HashMap, HashSet};

use whatsapp_loopback::people::{Seen, SeenMessage};

use super::simhost::{self, What};
use super::stage::Stage;

impl Stage {
    /// What was written and had no turn.
    pub(super) fn unhandled(&self) -> Vec<String> {
        let chats = self.book.chats.lock().expect("book");
        let written = chats.iter().flatten();
        let mut without: Vec<&String> = written
            .filter(|text| !self.handled.contains(*text))
            .collect();
        if !without.is_empty() {
            let mut excused = self.given_up();
            excused.extend(self.set_aside());
            without.retain(|text| {
                !self.records.iter().any(|record| {
                    matches!(&record.what, What::Start { text: begun, id } if begun == *text && excused.contains(id))
                })
            });
        }
        without
            .into_iter()
            .map(|text| format!("never handled: {text}"))
            .collect()
    }

    /// What was set aside although fewer than three hosts ended in its turn.
    fn set_aside_too_soon(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in self.set_aside() {
            let turns = self.turns(&id);
            if turns < 3 {
                wrong.push(format!("set aside after {turns} turns: {id}"));
            }
        }
        wrong
    }

    /// How many hosts have taken a message by itself; a batch that is polled is in nobody's turn.
    fn turns(&self, id: &str) -> usize {
        let hosts = self.records.iter().filter_map(|record| match &record.what {
            What::Taken { messages } if messages.as_slice() == [id] => Some(record.host),
            _ => None,
        });
        hosts.collect::<HashSet<_>>().len()
    }

    /// What is wrong with the answers at the people's phones.
    pub(super) fn answers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // Of these nothing better than "queued" or "unknown" may have been said.
        let given_up = self.given_up();
        let mut answered: HashMap<&str, Vec<&str>> = HashMap::new();
        for record in &self.records {
            if let What::Answered {
                text,
                message_id,
                state,
            } = &record.what
            {
                match state.as_str() {
                    "rejected" => wrong.push(format!("rejected: {text}")),
                    "queued" | "unknown" if given_up.contains(message_id) => {}
                    _ => answered.entry(text).or_default().push(message_id),
                }
            }
        }
        for text in self.book.chats.lock().expect("book").iter().flatten() {
            let got: Vec<String> = self.people[chat_of(text)]
                .seen(|seen| answers_to(seen, text).map(|m| m.id().to_owned()).collect());
            if got.len() > 1 {
                wrong.push(format!("answered twice: {text}, with {got:?}"));
            }
            for id in answered.get(text.as_str()).into_iter().flatten() {
                if !got.iter().any(|got| got == id) {
                    wrong.push(format!("answered and not there: {text}, {id}; {got:?}"));
                }
            }
        }
        wrong
    }

    /// What was seen twice and should not have been.
    pub fn repeated(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // How the last turn of a text went: nothing, or the place where it ended and whether it was answered.
        let mut turns: HashMap<&str, Option<(usize, bool)>> = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            match &record.what {
                What::Start { text, .. } => {
                    let before = turns.insert(text, None).flatten();
                    let Some((ended, replied)) = before else {
                        continue;
                    };
                    let host = self.records[ended].host;
                    let later = self.records[ended..at].iter().any(|record| {
                        record.host == host && matches!(record.what, What::Taken { .. })
                    });
                    if replied || later {
                        wrong.push(format!("seen again: {text}, replied {replied}"));
                    }
                }
                What::End { text, replied } => {
                    turns.insert(text, Some((at, *replied)));
                }
                _ => {}
            }
        }
        wrong
    }

    /// Chats in which a message had its first turn before an earlier one.
    fn disorder(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut last: HashMap<&str, usize> = HashMap::new();
        for record in &self.records {
            if let What::Start { text, .. } = &record.what
                && let Some((chat, number)) = text.split_once('/')
                && let Ok(number) = number.parse::<usize>()
            {
                let next = last.entry(chat).or_default();
                if number > *next {
                    wrong.push(format!("out of turn: {text} before {chat}/{next}"));
                }
                *next = (*next).max(number + 1);
            }
        }
        wrong
    }

    /// Fails with all that is wrong.
    pub fn judge(self, seed: u64, mut wrong: Vec<String>) {
        wrong.extend(self.unhandled());
        wrong.extend(self.set_aside_too_soon());
        wrong.extend(self.answers());
        wrong.extend(self.disorder());
        let count = |of: fn(&What) -> bool| {
            self.records
                .iter()
                .filter(|record| of(&record.what))
                .count()
        };
        let given_up = self.given_up().len() / 2;
        if given_up * 100 > self.handled.len() {
            wrong.push(format!("{given_up} replies were given up"));
        }
        println!(
            "{} messages, {} set aside, {given_up} replies given up, {} turns, {} plugins",
            self.handled.len(),
            self.set_aside().len(),
            count(|what| matches!(what, What::Start { .. })),
            count(|what| matches!(what, What::Plugin { .. })),
        );
        if wrong.is_empty() {
            return;
        }
        let (kept, home) = (self.dir.keep(), self.world.home.keep());
        panic!(
            "CHANNEL_WHATSAPP_SEED={seed}, the host's log is in {}, the account in {}:\n{}",
            kept.display(),
            home.display(),
            wrong.join("\n")
        );
    }

    /// The messages that the plugin has set aside.
    fn set_aside(&self) -> Vec<String> {
        self.rows("SELECT stanza FROM inbox WHERE state = 5")
    }

    /// The messages whose replies were handed over three times and never acknowledged, and the replies.
    fn given_up(&self) -> Vec<String> {
        let given_up =
            "FROM part p JOIN request r ON r.id = p.request WHERE p.state = 2 AND p.open = 0";
        self.rows(&format!(
            "SELECT r.reply_stanza {given_up} UNION SELECT p.message_id {given_up}"
        ))
    }

    fn rows(&self, query: &str) -> Vec<String> {
        let path = self.world.account_dir().join("channel.db");
        let file = rusqlite::Connection::open(path).expect("channel.db");
        file.busy_timeout(super::PATIENCE).expect("timeout");
        let mut query = file.prepare(query).expect("query");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    }
}

pub(super) fn chat_of(text: &str) -> usize {
    let chat = text.split('/').next().and_then(|chat| chat.parse().ok());
    chat.expect("a text of these tests")
}

pub(super) fn answers_to<'a>(seen: &'a Seen, text: &str) -> impl Iterator<Item = &'a SeenMessage> {
    let prefix = simhost::reply_prefix(text);
    let messages = seen.messages.iter();
    messages.filter(move |m| m.text().is_some_and(|t| t.starts_with(&prefix)))
}
