//! The feed: the last happenings, kept for replay, and those who watch, each at its own place in them.
//!
//! **Invariant:** nothing is kept per watcher but its place: one that does not read costs the relay its share of the bound and
//! nobody else's time, and what it can no longer be told it is told the number of.
//! **Invariant:** a piece of an answer is told at once to those who asked for such, in its place among the rest, and never kept; who has
//! no room for it misses it, and sees that by the next one's offset.
//! **Invariant:** whoever subscribes gets its answer first, then what it asked to be replayed, then what happens, each once and in order;
//! subscriptions begin at the end of a lap, so that a history from the store and what follows it meet without overlap.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::clients::Clients;
use super::lap::Relay;
use crate::core::action::{Begin, Logging, Watching};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::happening::{DELTA, Happening, What};
use crate::model::id::ConnId;
use crate::model::limits;
use crate::model::name::Name;
use crate::protocol::answer::{History, Subscribed};
use crate::wire::rpc::{self, Id, RpcError};

/// See the header of this file.
#[derive(Debug)]
pub struct Feed {
    /// Which relay numbers the happenings.
    stream: String,
    kept: VecDeque<Happening>,
    /// Bytes of what is kept, about.
    bytes: usize,
    /// The number of the next happening; the first is 1.
    next: u64,
    watchers: BTreeMap<ConnId, Watcher>,
    /// Requests of this lap.
    fresh: Vec<(ConnId, Id, Fresh)>,
}

/// Something to be begun when the lap's actions are done.
#[derive(Debug)]
pub enum Fresh {
    /// `events/subscribe`.
    Watch(Watching),
    /// `events/log`.
    Log(Logging),
}

/// The words of what the store keeps a history of, which `log -f` goes on with.
const STORED: [&str; 7] = [
    "mail",
    "approvalAsked",
    "approvalSettled",
    "nameClaimed",
    "nameReleased",
    "childStarted",
    "childExited",
];

/// One who watches.
#[derive(Debug)]
struct Watcher {
    session: Option<Name>,
    events: Vec<String>,
    /// The number of the next happening that it is told.
    next: u64,
    /// Happenings before that, which it was too slow for.
    missed: u64,
}

impl Watcher {
    fn wants(&self, what: &What) -> bool {
        let is_asked_for = |word: &str| self.events.iter().any(|asked| asked == word);
        self.session.as_ref().is_none_or(|name| what.concerns(name))
            && (is_asked_for(what.word()) || (self.events.is_empty() && what.word() != DELTA))
    }

    /// What it may be owed before it is told no more. Who listens gets an answer whole that comes at once, because that is not kept.
    fn owed_bytes_max(&self) -> usize {
        match self.listens_to() {
            Some(_) => limits::LISTEN_OUT_BYTES_MAX,
            None => limits::WATCH_OUT_BYTES_MAX,
        }
    }

    /// The session whose answers it reads as they are written.
    fn listens_to(&self) -> Option<&Name> {
        self.session.as_ref().filter(|_| self.events.iter().any(|word| word == DELTA))
    }
}

/// A happening as watchers read it.
#[derive(Serialize)]
struct Told<'a> {
    seq: u64,
    #[serde(flatten)]
    happening: &'a Happening,
}

impl Feed {
    /// A feed that nobody watches.
    pub fn new(pid: u32, started_at: Millis) -> Feed {
        Feed {
            stream: format!("{pid}-{}", started_at.0),
            kept: VecDeque::new(),
            bytes: 0,
            next: 1,
            watchers: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    /// Keeps a happening, and forgets the oldest ones when there are too many.
    pub fn push(&mut self, happening: Happening) {
        self.bytes += happening.what.bytes();
        self.kept.push_back(happening);
        self.next += 1;
        while self.kept.len() > limits::FEED_HAPPENINGS_MAX || self.bytes > limits::FEED_BYTES_MAX {
            let number = self.oldest();
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.what.bytes();
            for watcher in self.watchers.values_mut().filter(|watcher| watcher.next <= number) {
                watcher.next = number + 1;
                watcher.missed += u64::from(watcher.wants(&oldest.what));
            }
        }
    }

    /// Tells those who listen what is not kept, behind all that was before it.
    pub fn say(&mut self, happening: &Happening, clients: &mut Clients) {
        self.pump(clients);
        let last = self.next - 1;
        for (conn, watcher) in &self.watchers {
            let most = watcher.owed_bytes_max();
            if watcher.wants(&happening.what) && !self.is_behind(watcher) && clients.has_room(*conn, most) {
                clients.notify(*conn, &line(last, happening));
            }
        }
    }

    /// The sessions whose answers somebody reads as they are written.
    pub fn listened_to(&self) -> BTreeSet<Name> {
        self.watchers.values().filter_map(Watcher::listens_to).cloned().collect()
    }

    /// Takes a request that begins at the end of the lap.
    pub fn begin(&mut self, conn: ConnId, id: Id, fresh: Fresh) {
        self.fresh.push((conn, id, fresh));
    }

    /// Forgets one who has left.
    pub fn forget(&mut self, conn: ConnId) {
        self.watchers.remove(&conn);
    }

    /// Whether somebody can be told more at once.
    pub fn is_due(&self, clients: &Clients) -> bool {
        let can_be_told = |(conn, watcher): (&ConnId, &Watcher)| {
            self.is_behind(watcher) && clients.has_room(*conn, watcher.owed_bytes_max())
        };
        self.watchers.iter().any(can_be_told)
    }

    /// Tells everybody what is new, as far as each has room for it.
    pub fn pump(&mut self, clients: &mut Clients) {
        let (oldest, next) = (self.oldest(), self.next);
        for (conn, watcher) in &mut self.watchers {
            let most = watcher.owed_bytes_max();
            while (watcher.next < next || watcher.missed > 0) && clients.has_room(*conn, most) {
                if watcher.missed > 0 {
                    let at = self.kept.front().map_or(Millis(0), |kept| kept.at);
                    let what = What::Missed { count: std::mem::take(&mut watcher.missed) };
                    clients.notify(*conn, &line(watcher.next - 1, &Happening { at, what }));
                    continue;
                }
                if let Some(kept) = self.kept.get((watcher.next - oldest) as usize)
                    && watcher.wants(&kept.what)
                {
                    clients.notify(*conn, &line(watcher.next, kept));
                }
                watcher.next += 1;
            }
        }
    }

    fn is_behind(&self, watcher: &Watcher) -> bool {
        watcher.next < self.next || watcher.missed > 0
    }

    /// The number of the oldest happening that is kept.
    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    /// Lets somebody watch; a second time on one connection replaces the first.
    fn subscribe(&mut self, conn: ConnId, watching: Watching) -> Result<Subscribed, Fault> {
        if self.watchers.len() >= limits::WATCHERS_MAX && !self.watchers.contains_key(&conn) {
            let most = limits::WATCHERS_MAX;
            return Err(Fault::busy(format!("watch refused: {most} connections watch already")));
        }
        let Watching { session, events, begin } = watching;
        let mut watcher = Watcher { session, events, next: self.next, missed: 0 };
        match begin {
            Begin::Replay(count) => {
                let mut left = count as usize;
                for (back, kept) in self.kept.iter().rev().enumerate() {
                    if left == 0 {
                        break;
                    }
                    if watcher.wants(&kept.what) {
                        left -= 1;
                        watcher.next = self.next - 1 - back as u64;
                    }
                }
            }
            Begin::After { stream, seq } => {
                // All that another relay tells is new to one who has read of a former one.
                let wanted = if stream == self.stream { seq.saturating_add(1).min(self.next) } else { 1 };
                watcher.next = wanted.max(self.oldest());
                watcher.missed = watcher.next - wanted;
            }
        }
        let subscribed = Subscribed { stream: self.stream.clone(), seq: watcher.next - 1 };
        self.watchers.insert(conn, watcher);
        Ok(subscribed)
    }
}

impl Relay {
    /// Begins what was asked for in this lap.
    pub(super) fn begin_watches(&mut self) {
        for (conn, id, fresh) in std::mem::take(&mut self.feed.fresh) {
            let line = match fresh {
                Fresh::Watch(watching) => answered(&id, self.feed.subscribe(conn, watching)),
                Fresh::Log(logging) => answered(&id, self.history(conn, logging)),
            };
            self.clients.answer(conn, &line);
        }
    }

    fn history(&mut self, conn: ConnId, logging: Logging) -> Result<History, Fault> {
        let Logging { session, is_known, thread, since, limit, follow } = logging;
        let events = match thread {
            Some(thread) => self.store.thread_history(thread, since, limit),
            None => self.store.history(session.as_ref(), since, limit),
        };
        let events = events.map_err(|error| {
            log::error!("reading the history failed: {error}");
            Fault::io(format!("log failed: {error}"))
        })?;
        if let Some(name) = session.as_ref().filter(|_| !is_known)
            && !self.store.has_history(name).unwrap_or(true)
        {
            let fault = Fault::not_found(format!("session not found: there is no `{name}`, and was none"));
            return Err(fault.hint("`agentmux list` shows the sessions"));
        }
        if follow {
            let events = STORED.map(str::to_owned).to_vec();
            self.feed.subscribe(conn, Watching { session, events, begin: Begin::Replay(0) })?;
        }
        Ok(History { events })
    }
}

fn answered(id: &Id, outcome: Result<impl Serialize, Fault>) -> String {
    match outcome {
        Ok(answer) => rpc::answer(id, &answer),
        Err(fault) => rpc::refusal(Some(id), &RpcError::of(&fault)),
    }
}

fn line(seq: u64, happening: &Happening) -> String {
    rpc::notification("event", &Told { seq, happening })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: u64) -> Happening {
        Happening { at: Millis(n as i64), what: What::RelayLeaving { why: n.to_string() } }
    }

    fn watching(begin: Begin) -> Watching {
        Watching { session: None, events: Vec::new(), begin }
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_slow_watcher_learns_how_many_it_missed() {
        let mut feed = Feed::new(1, Millis(0));
        let conn = ConnId(1);
        feed.subscribe(conn, watching(Begin::Replay(0))).unwrap();
        let most = limits::FEED_HAPPENINGS_MAX as u64;
        (0..most + 10).for_each(|n| feed.push(told(n)));
        assert_eq!(feed.kept.len() as u64, most);
        let watcher = &feed.watchers[&conn];
        assert_eq!((watcher.missed, watcher.next), (10, 11));
        for _ in 0..20 {
            let text = "x".repeat(limits::FEED_BYTES_MAX / 10);
            feed.push(Happening { at: Millis(0), what: What::RelayLeaving { why: text } });
        }
        assert!(feed.bytes <= limits::FEED_BYTES_MAX && feed.kept.len() < 10, "{}", feed.kept.len());
    }

    #[test]
    fn a_watcher_goes_on_where_it_was_and_reads_all_of_another_relay() {
        let mut feed = Feed::new(1, Millis(7));
        (0..5).for_each(|n| feed.push(told(n)));
        let at = |feed: &mut Feed, begin| {
            feed.subscribe(ConnId(1), watching(begin)).unwrap();
            feed.watchers[&ConnId(1)].next
        };
        assert_eq!(at(&mut feed, Begin::Replay(0)), 6);
        assert_eq!(at(&mut feed, Begin::Replay(2)), 4);
        assert_eq!(at(&mut feed, Begin::Replay(99)), 1);
        assert_eq!(at(&mut feed, Begin::After { stream: "1-7".to_owned(), seq: 3 }), 4);
        assert_eq!(
            at(&mut feed, Begin::After { stream: "1-7".to_owned(), seq: 99 }),
            6,
            "a number of the future"
        );
        assert_eq!(at(&mut feed, Begin::After { stream: "2-7".to_owned(), seq: 3 }), 1);
    }
}
