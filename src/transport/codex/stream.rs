//! Streams: an answer while the model writes it, for the sessions that somebody listens to.
//!
//! **Invariant:** what is said of a message, in order, is that message and nothing else: it begins with its first byte, and what was not
//! heard as it was written is said when it is whole.
//! **Invariant:** nothing of a stream is parsed, or kept, while nobody listens.
//!
//! Deliberately absent: reasoning, and the output of commands while they run. Both are items when they are done.

use serde_json::Value;

use super::Codex;
use super::notice::turn_id;
use crate::model::child::ChildEvent;
use crate::model::id::TurnId;
use crate::model::limits;
use crate::model::name::Name;

const ANSWER: &str = "item/agentMessage/delta";
const UNHEARD: &[&str] = &[ANSWER, "item/reasoning/", "item/commandExecution/outputDelta"];

/// A message that is being written: its item, and how many bytes of it were said.
#[derive(Debug)]
pub(super) struct Saying {
    item: String,
    bytes: usize,
}

impl Codex {
    /// Whether a message is a notification that means nothing to us now, told by how Codex writes it: the method first, the thread
    /// behind it. A stream is mostly these, and reading one costs the relay more than all else that it does with it.
    pub(super) fn is_unheard(&self, text: &str) -> bool {
        let Some(method) = text.strip_prefix("{\"method\":\"") else { return false };
        let head = text.get(..limits::MESSAGE_HEAD_BYTES).unwrap_or(text);
        // A request has an id, behind its parameters or before them, and is answered whatever it asks.
        if !UNHEARD.iter().any(|unheard| method.starts_with(unheard)) || head.contains("\"id\":") {
            return false;
        }
        let mut heard = self.heard.iter().filter_map(|session| self.threads.get(session));
        !(method.starts_with(ANSWER) && heard.any(|thread| head.contains(&*thread.id)))
    }

    /// A message begins: what is said of it from now on is said from its first byte on.
    pub(super) fn on_message_begun(&mut self, session: &Name, item: &Value) {
        if self.heard.contains(session)
            && let (Some(thread), Some(id)) = (self.threads.get_mut(session), item["id"].as_str())
        {
            thread.saying = Some(Saying { item: id.to_owned(), bytes: 0 });
        }
    }

    pub(super) fn on_delta(&mut self, session: Name, params: &Value) {
        let (Some(turn), Some(item)) = (turn_id(&params["turnId"]), params["itemId"].as_str()) else {
            return;
        };
        let text = params["delta"].as_str().unwrap_or_default();
        let saying = self.threads.get_mut(&session).and_then(|thread| thread.saying.as_mut());
        if let Some(saying) = saying.filter(|saying| saying.item == item) {
            let offset = saying.bytes;
            saying.bytes += text.len();
            self.say(session, turn, item, offset, text);
        }
    }

    /// A message is whole: what has not been said of it is said now.
    pub(super) fn on_message_done(&mut self, session: &Name, turn: Option<&TurnId>, item: &Value) {
        let Some(thread) = self.threads.get_mut(session) else { return };
        let saying = thread.saying.take();
        if let (true, Some(turn), Some(id)) = (self.heard.contains(session), turn, item["id"].as_str()) {
            let offset = saying.filter(|saying| saying.item == id).map_or(0, |saying| saying.bytes);
            let left = item["text"].as_str().and_then(|text| text.get(offset..)).unwrap_or_default();
            self.say(session.clone(), turn.clone(), id, offset, left);
        }
    }

    fn say(&mut self, session: Name, turn: TurnId, item: &str, mut offset: usize, mut text: &str) {
        while !text.is_empty() {
            let most = limits::DELTA_BYTES_MAX.min(text.len());
            let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            let (piece, rest) = text.split_at(end);
            self.events.push_back(ChildEvent::Said {
                session: session.clone(),
                turn: turn.clone(),
                item: item.to_owned(),
                offset: offset as u64,
                text: piece.to_owned(),
            });
            offset += end;
            text = rest;
        }
    }
}
