//! `search`: mail by the words in its subject and body. The shell has the index.

use super::super::action::{Action, Page, Query};
use super::super::conn::Ask;
use super::super::{Core, Step};
use crate::protocol::request::Search;

impl Core {
    pub(in crate::core) fn request_search(&mut self, step: &mut Step, ask: Ask, search: Search) {
        let page = Page::of(search.limit, search.cursor.as_deref());
        let query = Query::Search { text: search.text, page, at: step.now };
        step.act(Action::Query { conn: ask.conn, id: ask.id, query });
    }
}
