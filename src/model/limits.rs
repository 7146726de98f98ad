//! Every bound and every duration of agentmux, with its unit in its name.
//!
//! **Invariant:** relations between bounds that the code relies on are const assertions at the end of this file.

/// Longest request line that a client may send (a 1 MB body may grow sixfold by JSON escaping).
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest answer line; listings are paged below it.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What may wait to be written to one client before that client is closed.
pub const CLIENT_OUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is read from one descriptor in one lap.
pub const READ_BYTES_PER_LAP: usize = 64 * 1024;
/// Requests of one client that are handled in one lap; the rest waits for the next one.
pub const REQUESTS_PER_CLIENT_PER_LAP: usize = 16;
/// Requests that are handled in one lap, shared by the clients that are ready; each has at least one.
pub const REQUESTS_PER_LAP: usize = 64;
/// Connections taken in one lap, so that a crowd at the door keeps nobody waiting who is in.
pub const ACCEPTS_PER_LAP: usize = 8;
/// What is kept of a client's words about itself.
pub const CLIENT_WORDS_CHARS_MAX: usize = 40;
/// Claims of names that the history keeps, however young they are: a command that speaks under a name is a claim.
pub const NAME_CLAIMS_KEPT: i64 = 10_000;
/// Orphans reaped in one lap.
pub const ORPHANS_PER_LAP: usize = 64;
/// Connections served at once; the next one gets a typed refusal.
pub const CLIENTS_MAX: usize = 2_000;
/// The relay's soft limit of descriptors, where the hard one allows it.
pub const DESCRIPTORS_MAX: u64 = 65_536;
/// Requests of one connection that may wait for something at once.
pub const PENDING_PER_CLIENT_MAX: usize = 64;
/// Nesting of JSON that a request may have (serde_json itself stops at 128).
pub const JSON_DEPTH_MAX: usize = 64;

/// A connection that has not said hello by then is closed.
pub const HELLO_MS: i64 = 2_000;
/// How long a client waits for the relay's answer to hello before it says "busy".
pub const HELLO_ANSWER_MS: u64 = 5_000;
/// How often a call is made that each time loses its relay: one that dies of it would be started for ever.
pub const CALL_LOST_MAX: u32 = 30;
/// A relay that was heard for so long before it went is not one of those that go away in a row.
pub const WATCH_STEADY_MS: u64 = 2_000;
/// Default of `start_timeout`: how long a client waits for a relay to come up.
pub const START_MS: u64 = 10_000;
/// Bounds of `start_timeout`.
pub const START_MS_MIN: u64 = 200;
/// See [`START_MS_MIN`].
pub const START_MS_MAX: u64 = 10 * 60 * 1_000;
/// How long a new relay waits for `relay.lock` while the former holder is leaving; half its starter's patience at most.
pub const RELAY_LOCK_MS: u64 = 3_000;
/// How long a program may take to print its version.
pub const VERSION_MS: u64 = 10_000;
/// Default for `--timeout`.
pub const WAIT_DEFAULT_MS: u64 = 60_000;
/// Longest wait that a client may ask the relay for in one request.
pub const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Body of one mail, in bytes: body and envelope fit Codex's 1,048,576 characters.
pub const BODY_BYTES_MAX: usize = 1_000_000;
/// A configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Subject of one mail, in characters.
pub const SUBJECT_CHARS_MAX: usize = 200;
/// Recipients of one mail.
pub const RECIPIENTS_MAX: usize = 64;
/// An idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 200;
/// Instructions of one session, in bytes.
pub const INSTRUCTIONS_BYTES_MAX: usize = 64 * 1024;
/// Sessions of one bundle.
pub const SESSIONS_MAX: usize = 256;
/// Undelivered mails for one session.
pub const QUEUED_PER_SESSION_MAX: usize = 200_000;
/// Undelivered bytes for one session.
pub const QUEUED_BYTES_PER_SESSION_MAX: u64 = 256 * 1024 * 1024;
/// Undelivered mails of the bundle.
pub const QUEUED_MAX: usize = 1_000_000;
/// Undelivered bytes of the bundle.
pub const QUEUED_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// New mail is refused when the file system has less than this left, so that evidence still commits.
pub const DISK_FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Mails and bytes that are indexed for a search in one lap.
pub const INDEX_MAILS_PER_SLICE: usize = 512;
/// See [`INDEX_MAILS_PER_SLICE`].
pub const INDEX_BYTES_PER_SLICE: usize = 1024 * 1024;
/// What a search may ask for, in bytes.
pub const SEARCH_BYTES_MAX: usize = 1_000;
/// Searches that wait for the index at once.
pub const SEARCHES_MAX: usize = 64;
/// A piece of a body that a search shows.
pub const EXCERPT_CHARS_MAX: usize = 160;
/// In how much of a body that piece is looked for.
pub const EXCERPT_CHARS_READ: usize = 16 * 1024;
/// Default of `retention`: finished mail is forgotten this long after it was accepted.
pub const RETENTION_MS: i64 = 180 * 24 * 60 * 60 * 1_000;
/// Finished mails that are forgotten in one lap.
pub const FORGET_MAILS_PER_SLICE: usize = 200;
/// How often finished mail is looked for, in a relay that has something to do anyway.
pub const FORGET_EVERY_MS: i64 = 60 * 60 * 1_000;

/// Claims of one mail that its child's history is searched for: a child that refuses a mail again and again leaves one each time.
pub const EARLIER_CLAIMS_MAX: usize = 64;
/// Approvals that a child may ask at once; more are declined at once.
pub const APPROVALS_PER_CHILD_MAX: usize = 256;
/// Notices that wait for one reader; the oldest makes room for the next one.
pub const NOTICES_MAX: usize = 100;
/// Outcomes that one notice lists.
pub const NOTICE_LINES_MAX: usize = 20;

/// Default of `silent_after`: a running turn that says nothing for so long is asked about.
pub const SILENT_MS: i64 = 10 * 60 * 1_000;
/// A child that is asked about a silent turn has this long to answer at least, and [`LEASE_MS`] at most.
pub const ANSWER_MS_MIN: i64 = 5_000;
/// Default of `child_memory_mib`: above this much resident memory a child is ended and started again.
pub const CHILD_MIB_MAX: u64 = 8 * 1024;
/// Children's memory is looked at so often at most, and only while something happens anyway or a turn runs.
pub const MEMORY_EVERY_MS: i64 = 1_000;
/// Default of `patience`: normal mail that has waited this long may join a running turn at its next boundary.
pub const PATIENCE_MS: i64 = 5 * 60 * 1_000;
/// Searches of a history that fail in a row before mail in doubt no longer holds other mail back.
pub const UNREAD_MAX: u32 = 5;
/// Refusals for good in a row to sum a full context up, after which the session fails.
pub const ROOM_REFUSALS_MAX: u32 = 5;
/// Mails that expire in one step; the rest follows at once, after others had their turn.
pub const EXPIRED_PER_INPUT: usize = 500;
/// Queued mails that are looked at for one that may join a running turn.
pub const STEER_LOOK_MAX: usize = 1_000;
/// Default of `brake_hops`.
pub const BRAKE_HOPS: u32 = 24;
/// Default of `brake_pair_per_minute`.
pub const BRAKE_PAIR_PER_MINUTE: usize = 30;
/// Default of `brake_thread_per_minute`.
pub const BRAKE_THREAD_PER_MINUTE: usize = 60;
/// What the two rates count over.
pub const BRAKE_WINDOW_MS: i64 = 60_000;
/// After a notice about a loop the next one about the same pair comes this much later at the earliest.
pub const BRAKE_NOTICE_MS: i64 = 10 * 60 * 1_000;
/// Pairs and conversations whose rates are remembered; the least recent is forgotten first.
pub const BRAKE_ENTRIES_MAX: usize = 4_096;
/// Default of `wake_max`.
pub const WAKE_MAX: usize = 4;
/// A session that mail has woken sleeps again after this long without anything to do.
pub const WAKE_LINGER_MS: i64 = 60_000;
/// `doctor` warns when the file system has less than this left.
pub const DISK_FREE_BYTES_LOW: u64 = 8 * DISK_FREE_BYTES_MIN;
/// `doctor` warns when a session's oldest pending mail is older than this.
pub const PENDING_MS_LONG: i64 = 15 * 60 * 1_000;
/// `doctor` warns of this many mails in doubt; each is settled within seconds while its session is up.
pub const UNKNOWN_MAILS_MANY: u64 = 10;
/// `doctor` warns of this many mails that expired or failed.
pub const DEAD_MAILS_MANY: u64 = 100;

/// Mails that go into one turn together.
pub const BATCH_MAILS_MAX: usize = 10;
/// Body bytes that go into one turn together; a larger mail goes alone and whole.
pub const BATCH_BYTES_MAX: u64 = 32 * 1024;
/// What Codex takes in one turn, in characters.
pub const TURN_CHARS_MAX: usize = 1_048_576;

/// The child's time to respond to a request of ours; after it the outcome is unknown.
pub const LEASE_MS: i64 = 30_000;
/// After a reboot, what was consumed this long before the last step of any mail is checked.
pub const RECHECK_MS: i64 = 10 * 60 * 1_000;
/// While mail could move, its sessions are looked at again at least this often.
pub const SWEEP_MS: i64 = 5_000;
/// How long absence in a living child's history must last before it is believed.
pub const ABSENCE_MS: i64 = 2_000;
/// First and longest wait after a refusal that may pass by itself.
pub const RETRY_MS_MIN: i64 = 200;
/// See [`RETRY_MS_MIN`].
pub const RETRY_MS_MAX: i64 = 30_000;
/// A session whose account cannot run now (usage limit, authentication) is tried again after this.
pub const BLOCKED_MS: i64 = 10 * 60 * 1_000;
/// A child that says that its account can run again later than in so long is not believed.
pub const BLOCKED_MS_MAX: i64 = 35 * 24 * 60 * 60 * 1_000;
/// How long a command that was interrupted while it sent mail waits for the relay's word about that mail.
pub const LAST_WORD_MS: u64 = 2_000;
/// How long an answer that a pane has told of is on its way to the child: no other is given meanwhile.
pub const PANE_ANSWER_MS: i64 = 5_000;
/// How long what the relay has told already is waited for, where it will tell no more.
pub const HEARD_MS: u64 = 100;
/// How long a command asks where threads lie, which is only told beside its answer.
pub const HOMES_MS: u64 = 2_000;
/// How long a session that is closed may take for its summary.
pub const CLOSE_MS: i64 = 10_000;
/// Bytes of a summary that are kept.
pub const SUMMARY_BYTES_MAX: usize = 8 * 1024;
/// Default of `approval_timeout`: how long an approval waits for a person before it is declined.
pub const APPROVAL_MS: i64 = 10 * 60 * 1_000;
/// How long a question about approvals waits for a new relay to hear from the child what is still asked.
pub const APPROVALS_KNOWN_MS: i64 = 5_000;
/// Bytes of the reason for a denial.
pub const REASON_BYTES_MAX: usize = 1_000;
/// Characters of what an approval is about, in one line.
pub const APPROVAL_SUMMARY_CHARS_MAX: usize = 500;
/// Paths of a change of files that are shown with its approval.
pub const CHANGED_PATHS_SHOWN: usize = 20;
/// Characters of a command that is shown with its approval.
pub const APPROVAL_COMMAND_CHARS_MAX: usize = 65_536;
/// Characters of what a decision says that stand in its name.
pub const DECISION_CHARS_MAX: usize = 200;
/// Bytes of the number of a question and of the word for its answer, as a pane tells them.
pub const ANSWERED_BYTES_MAX: usize = 128;
/// Default of `idle_exit`: the relay leaves after this long without anything to do.
pub const IDLE_EXIT_MS: i64 = 30 * 60 * 1_000;

/// How long a tool waits at most; agents give a tool call about a minute.
pub const TOOL_WAIT_MS: u64 = 45_000;
/// How much longer a tool waits for a relay that does not answer.
pub const TOOL_HANG_MS: u64 = 4_000;
/// How long a call of a tool takes at most, whatever it asks.
pub const TOOL_CALL_MS: u64 = 50_000;
/// Mails of one agent's tools of which it is not known whether they were accepted; the oldest is forgotten first.
pub const TOOL_DOUBTS_MAX: usize = 64;
/// For how long the same words from the same agent are the same mail, when it is not known whether that was accepted.
pub const TOOL_DOUBT_MS: u64 = 10 * 60 * 1_000;
/// Tool calls of one agent that are under way at once.
pub const TOOL_CALLS_MAX: usize = 24;
/// Connections that an agent's tools keep between calls.
pub const TOOL_CONNECTIONS_KEPT: usize = 4;
/// Mails that the tool `inbox` lists when it is not told how many.
pub const TOOL_INBOX_ROWS: u32 = 10;
/// Body bytes after which the tool `inbox` shows no more bodies, and takes no more mail.
pub const TOOL_INBOX_BYTES: usize = 64 * 1024;
/// After a relay restart a claimed name is kept this long for its token.
pub const NAME_KEPT_MS: i64 = 10_000;
/// Names that outside agents may have claimed, held or not.
pub const OUTSIDERS_MAX: usize = 256;
/// Tokens of one session that are valid at once: the last that was used, and those given out since to the same child.
pub const TOKENS_PER_SESSION_MAX: usize = 8;

/// A child must answer `initialize` within this time of its start.
pub const CHILD_START_MS: i64 = 20_000;
/// The first turn of a thread waits this long for our own tools in it.
pub const TOOLS_READY_MS: i64 = 5_000;
/// Threads whose tools are remembered before they are known to be open.
pub const THREADS_UNHEARD_MAX: usize = 512;
/// Threads of sub-agents that are known in one child.
pub const SUB_THREADS_MAX: usize = 256;
/// Pages of a child's loaded threads that are looked through.
pub const LOADED_PAGES_MAX: u32 = 16;
/// Generations above a thread that are looked at for the session that it descends from.
pub const SUB_THREAD_STEPS_MAX: u32 = 8;
/// Questions of one child that wait until it is known whose thread they are about; more are refused.
pub const ASKS_UNPLACED_MAX: usize = 64;
/// How often the thread of such a question is looked for, later each time, before it is refused: for some 40 s.
pub const ASK_SOUGHT_TIMES_MAX: u32 = 9;
/// How often the end of a turn that nobody here has any more is asked for when it is refused for now.
pub const ABANDON_TIMES_MAX: u32 = 5;
/// A thread must be open within this time of the request.
pub const THREAD_OPEN_MS: i64 = 30_000;
/// First and longest pause between attempts to connect to a starting child.
pub const CHILD_CONNECT_MS_MIN: i64 = 5;
/// See [`CHILD_CONNECT_MS_MIN`].
pub const CHILD_CONNECT_MS_MAX: i64 = 200;
/// A connection to a child that lasted this long was a good one: the next attempt comes after the first pause again.
pub const CHILD_LINK_STEADY_MS: i64 = 1_000;
/// Exits within [`CRASH_LOOP_MS`] without a completed turn after which a child is given up.
pub const CRASH_LOOP_EXITS: usize = 5;
/// See [`CRASH_LOOP_EXITS`].
pub const CRASH_LOOP_MS: i64 = 60_000;
/// Answers to a search of its history, or to the opening of a thread, that a child may leave out in a row before it is held for hung
/// and killed.
pub const UNANSWERED_MAX: u32 = 2;
/// Budget of `down`, and of `down --now`.
pub const DOWN_MS: i64 = 10_000;
/// See [`DOWN_MS`].
pub const DOWN_NOW_MS: i64 = 2_000;
/// How much longer than its budget `down` waits for the relay's answer and end.
pub const DOWN_GRACE_MS: i64 = 3_000;
/// After an ended child's shells were asked to end they have this long before they are killed.
pub const SWEEP_KILL_MS: i64 = 300;
/// A keeper that has not ended this long after its child is killed.
pub const KEEPER_END_MS: i64 = 5_000;
/// A child's stderr file is cut to nothing when it has grown past this.
pub const CHILD_LOG_BYTES_MAX: u64 = 1024 * 1024;
/// Lines of its stderr that the end of a child is told with, their characters, and what is read for them.
pub const CHILD_WORDS_LINES: usize = 3;
/// See [`CHILD_WORDS_LINES`].
pub const CHILD_WORDS_CHARS_MAX: usize = 300;
/// See [`CHILD_WORDS_LINES`].
pub const CHILD_WORDS_BYTES_READ: u64 = 4 * 1024;
/// One message from a child (Codex sends whole histories in one frame).
pub const CHILD_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of that, what is looked at to tell whether it means anything to us: its method and its thread stand at its beginning.
pub const MESSAGE_HEAD_BYTES: usize = 200;
/// What may wait to be written to a child.
pub const CHILD_OUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Messages of one child that are handled in one lap.
pub const CHILD_MESSAGES_PER_LAP: usize = 256;
/// Bytes of them after which the rest is left to the next lap.
pub const CHILD_BYTES_PER_LAP: usize = CHILD_MESSAGE_BYTES_MAX;
/// A child that says more than this in [`CHILD_FLOOD_MS`] is out of its mind: 20 sessions that stream without pause say a hundredth of it.
pub const CHILD_FLOOD_MESSAGES: u64 = 6_000_000;
/// As [`CHILD_FLOOD_MESSAGES`], in bytes.
pub const CHILD_FLOOD_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// A child that says more than this in [`CHILD_FLOOD_MS`] that cannot be read does not serve, and is ended.
pub const CHILD_GARBLED_MAX: u64 = 100;
/// The time that all of these are counted over.
pub const CHILD_FLOOD_MS: i64 = 60_000;
/// Bytes of one item's text that `look` shows.
pub const LOOK_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Bytes of one piece of an answer that is told as it is written.
pub const DELTA_BYTES_MAX: usize = 16 * 1024;
/// Characters of the name of a child's question that are shown.
pub const METHOD_CHARS_SHOWN: usize = 80;
/// Happenings that are kept in memory for those who watch, and their bytes, about.
pub const FEED_HAPPENINGS_MAX: usize = 2_048;
/// See [`FEED_HAPPENINGS_MAX`].
pub const FEED_BYTES_MAX: usize = 1024 * 1024;
/// Connections that watch at once.
pub const WATCHERS_MAX: usize = 1_024;
/// A watcher that has left this much unread is told more when it has read.
pub const WATCH_OUT_BYTES_MAX: usize = 64 * 1024;
/// The same for one that reads answers as they are written.
pub const LISTEN_OUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Steps of mail that a history of one name looks at, from the last one back.
pub const LOG_STEPS_LOOKED_AT_MAX: i64 = 20_000;
/// Bytes of one text in a history.
pub const LOG_TEXT_BYTES_MAX: usize = 2_000;
/// Items that `look` shows at most.
pub const LOOK_ITEMS_MAX: u32 = 500;
/// A page of the child's history, when we look for claims.
pub const HISTORY_PAGE_ITEMS: u32 = 100;
/// Pages of the child's history that one reconciliation reads.
pub const HISTORY_PAGES_MAX: u32 = 200;
/// Tools of one turn that are known to be at work at once.
pub const TOOLS_MAX: usize = 256;
/// Skills of one child whose names are made inert.
pub const SKILLS_MAX: usize = 2_000;

/// `relay.log` is rotated at this size; two old ones are kept.
pub const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Rotated logs kept.
pub const LOGS_KEPT: u32 = 2;
/// Longest path that a Unix socket address takes on every platform we know.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Characters of a user's text that are quoted back.
pub const QUOTED_CHARS_MAX: usize = 40;
/// Rows of one listing when the caller names no limit.
pub const LIST_ROWS_DEFAULT: u32 = 50;
/// Rows that are looked at for one listing, whether they fit or not.
pub const LIST_LOOK_MAX: u32 = 10_000;
/// Rows of one listing at most.
pub const LIST_ROWS_MAX: u32 = 1_000;

/// A message of a screen that is longer than this is passed on without being read.
pub const SCREEN_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Runs of the hook at once.
pub const HOOKS_AT_ONCE: usize = 4;
/// A run of the hook that takes longer is killed.
pub const HOOK_MS: i64 = 10_000;
/// Runs of the hook in [`HOOK_WINDOW_MS`].
pub const HOOKS_PER_WINDOW: usize = 20;
/// See [`HOOKS_PER_WINDOW`].
pub const HOOK_WINDOW_MS: i64 = 60_000;
/// For the same session in the same state the hook is run again only after this.
pub const HOOK_AGAIN_MS: i64 = 5_000;
/// Characters of a reason that the hook is told.
pub const HOOK_REASON_CHARS_MAX: usize = 200;
/// Panes of one tmux window; more sessions get another window.
pub const PANES_PER_WINDOW: usize = 9;
/// A command of tmux that takes longer is given up.
pub const TMUX_MS: u64 = 5_000;
/// Times that tmux is asked again when the server before has just ended.
pub const TMUX_TRIES: u32 = 5;
/// How often `down` looks whether the last panes have ended, and the pause between.
pub const PANES_END_LOOKS: u32 = 40;
/// See [`PANES_END_LOOKS`].
pub const PANES_END_LOOK_MS: u64 = 50;
/// Codex's screen gives up reconnecting after 120 s; when its child was away for nearly as long it is started again.
pub const SCREEN_PATIENCE_MS: u64 = 110_000;
/// A screen that was asked to end has this long.
pub const SCREEN_END_MS: u64 = 1_000;
/// A screen that has lived this long was a good one: the next failure is the first again.
pub const SCREEN_STEADY_MS: u64 = 60_000;
/// A pane shows its state when nothing more has come for this long.
pub const PANE_SETTLE_MS: u64 = 30;
/// Events that a pane reads at most before it shows its state.
pub const PANE_EVENTS_AT_ONCE: u32 = 100;

const _: () =
    assert!(BODY_BYTES_MAX * 6 + 64 * 1024 <= REQUEST_LINE_BYTES_MAX, "an escaped body fits a line");
const _: () = assert!(BODY_BYTES_MAX + 32 * 1024 <= TURN_CHARS_MAX, "a body and its envelope fit one turn");
const _: () =
    assert!(ANSWER_BYTES_MAX * 2 <= CLIENT_OUT_BYTES_MAX, "an answer fits the out-buffer with room");
const _: () = assert!(TURN_CHARS_MAX * 6 <= CHILD_OUT_BYTES_MAX, "a turn fits the child's out-buffer");
const _: () = assert!(REQUESTS_PER_CLIENT_PER_LAP <= REQUESTS_PER_LAP);
const _: () = assert!(ABSENCE_MS < SWEEP_MS && SWEEP_MS < LEASE_MS);
const _: () = assert!(ANSWER_MS_MIN < LEASE_MS && LEASE_MS <= SILENT_MS);
const _: () = assert!(3 * SWEEP_KILL_MS < KEEPER_END_MS, "a keeper asks, kills, and has as long again");
const _: () = assert!(CHILD_START_MS > DOWN_MS && DOWN_MS > DOWN_NOW_MS);
const _: () = assert!((HOMES_MS as i64) < DOWN_NOW_MS + DOWN_GRACE_MS);
const _: () = assert!(BLOCKED_MS < BLOCKED_MS_MAX, "what is supposed is believed");
const _: () =
    assert!(LOOK_ITEMS_MAX as usize * LOOK_TEXT_BYTES_MAX <= ANSWER_BYTES_MAX, "a look fits one answer");
const _: () =
    assert!(LIST_ROWS_MAX as usize * LOG_TEXT_BYTES_MAX <= ANSWER_BYTES_MAX, "a history fits one answer");
const _: () = assert!(
    WATCH_OUT_BYTES_MAX < LISTEN_OUT_BYTES_MAX
        && LISTEN_OUT_BYTES_MAX + FEED_BYTES_MAX <= CLIENT_OUT_BYTES_MAX,
    "a watcher is never closed for being slow"
);
const _: () = assert!(HOOK_AGAIN_MS < HOOK_WINDOW_MS && HOOKS_AT_ONCE <= 12, "runs have tokens of their own");
const _: () = assert!(TOOL_WAIT_MS + TOOL_HANG_MS < TOOL_CALL_MS);
const _: () = assert!(START_MS_MIN <= START_MS && START_MS <= START_MS_MAX);
const _: () = assert!(RELAY_LOCK_MS < START_MS, "a starter hears why its relay gave up waiting");
const _: () = assert!(QUEUED_PER_SESSION_MAX <= QUEUED_MAX);
