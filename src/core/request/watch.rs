//! `watch`: the stream of what happens, from the shell's feed.

use super::super::action::{Action, Begin, Watching};
use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::model::limits;
use crate::model::name::{Name, OPERATOR};
use crate::protocol::request::Watch;

impl Core {
    pub(in crate::core) fn request_watch(&mut self, step: &mut Step, ask: Ask, watch: &Watch) {
        let session = match watch.name.as_deref() {
            None => None,
            Some(OPERATOR) => Some(Name::operator()),
            // An outside agent has mail and claims that can be watched.
            Some(name) => match Name::parse(name).filter(|name| self.has_mailbox(name)) {
                Some(name) => Some(name),
                None => return step.refuse(ask, self.unknown_name("session", name, &[])),
            },
        };
        let begin = match &watch.after {
            Some(place) => Begin::After { stream: place.stream.clone(), seq: place.seq },
            None => Begin::Replay(watch.replay.min(limits::FEED_HAPPENINGS_MAX as u32)),
        };
        let watching = Watching { session, events: watch.events.clone(), begin };
        step.act(Action::Watch { conn: ask.conn, id: ask.id, watching });
    }
}
