//! `search`: mail by the words in its subject and body. The shell has the index.

use super::super::action::{Action, Query};
use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::model::limits;
use crate::protocol::request::Search;

impl Core {
    pub(in crate::core) fn request_search(&mut self, step: &mut Step, ask: Ask, search: Search) {
        let limit = search.limit.unwrap_or(limits::LIST_ROWS_DEFAULT).clamp(1, limits::LIST_ROWS_MAX);
        let query = Query::Search { text: search.text, limit, at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }
}
