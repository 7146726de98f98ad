//! The verb table: one row per verb, as data. It drives dispatch, start of the relay, rights, help, completions and tests.
//!
//! A verb is followed by its stem: its row here, `cli/command/<verb>.rs`, `core/request/<verb>.rs` (when it has a method),
//! `tests/blackbox/<verb>.rs`, and its section in the README. `tests/tidy.rs` fails when one is missing.

/// One verb of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// Its word.
    pub name: &'static str,
    /// The method that it calls, if it needs the relay.
    pub method: Option<&'static str>,
    /// Whether it may start a relay.
    pub starts_relay: bool,
    /// Whether only the operator may use it.
    pub operator: bool,
    /// Whether it changes anything that is stored.
    pub mutates: bool,
    /// What it does, in one line.
    pub help: &'static str,
}

/// Every verb, in the order of `--help`.
#[rustfmt::skip]
pub const VERBS: &[Verb] = &[
    Verb { name: "init", method: None, starts_relay: false, operator: false, mutates: false, help: "Write an agentmux.toml to fill in" },
    Verb { name: "trust", method: None, starts_relay: false, operator: true, mutates: false, help: "Let the project's agentmux.toml say what is run, as it reads now" },
    Verb { name: "spawn", method: Some("session/spawn"), starts_relay: true, operator: true, mutates: true, help: "Create a session and bring it up" },
    Verb { name: "up", method: Some("session/up"), starts_relay: true, operator: true, mutates: true, help: "Bring sessions up; all of them without names" },
    Verb { name: "down", method: Some("session/down"), starts_relay: false, operator: true, mutates: true, help: "Stop sessions; without names all of them and the relay" },
    Verb { name: "close", method: Some("session/close"), starts_relay: true, operator: true, mutates: true, help: "Ask a session for a summary of its work, and stop it" },
    Verb { name: "remove", method: Some("session/remove"), starts_relay: true, operator: true, mutates: true, help: "Remove a session; its undelivered mail ends as failed" },
    Verb { name: "list", method: Some("session/list"), starts_relay: false, operator: false, mutates: false, help: "List the sessions and what they are doing" },
    Verb { name: "status", method: Some("relay/status"), starts_relay: false, operator: false, mutates: false, help: "Show bundle, relay, children, sessions and mail" },
    Verb { name: "show", method: Some("session/show"), starts_relay: true, operator: true, mutates: false, help: "Show one session whole: settings, child, environment" },
    Verb { name: "send", method: Some("mail/send"), starts_relay: true, operator: false, mutates: true, help: "Send mail; accepted means on disk" },
    Verb { name: "reply", method: Some("mail/reply"), starts_relay: true, operator: false, mutates: true, help: "Answer a mail" },
    Verb { name: "ask", method: None, starts_relay: true, operator: true, mutates: true, help: "Send mail and wait for the answer to it" },
    Verb { name: "inbox", method: Some("mail/list"), starts_relay: true, operator: true, mutates: false, help: "List a recipient's mail; yours without a name" },
    Verb { name: "read", method: Some("mail/read"), starts_relay: true, operator: true, mutates: true, help: "Show one mail whole" },
    Verb { name: "search", method: Some("mail/search"), starts_relay: true, operator: true, mutates: false, help: "Find mail by the words in it" },
    Verb { name: "trace", method: Some("mail/trace"), starts_relay: true, operator: true, mutates: false, help: "Show where a mail is and every step it took" },
    Verb { name: "wait", method: Some("mail/next"), starts_relay: true, operator: true, mutates: true, help: "Wait for your next mail, or for the answer to one" },
    Verb { name: "ack", method: Some("mail/ack"), starts_relay: true, operator: true, mutates: true, help: "Confirm a mail; settles one in doubt as taken" },
    Verb { name: "cancel", method: Some("mail/cancel"), starts_relay: true, operator: true, mutates: true, help: "Take a mail back that nobody has yet" },
    Verb { name: "dead", method: Some("mail/dead"), starts_relay: true, operator: true, mutates: true, help: "List mail that expired or failed, with reasons" },
    Verb { name: "requeue", method: Some("mail/requeue"), starts_relay: true, operator: true, mutates: true, help: "Deliver dead mail after all; settles one in doubt as not taken" },
    Verb { name: "prompt", method: Some("session/prompt"), starts_relay: true, operator: true, mutates: true, help: "Say something to a session yourself, before all mail" },
    Verb { name: "interrupt", method: Some("session/interrupt"), starts_relay: true, operator: true, mutates: true, help: "End a session's running turn" },
    Verb { name: "hold", method: Some("session/hold"), starts_relay: true, operator: true, mutates: true, help: "Hold a session's mail back for a while" },
    Verb { name: "release", method: Some("session/release"), starts_relay: true, operator: true, mutates: true, help: "End a hold, or let go what the loop brake holds" },
    Verb { name: "whoami", method: None, starts_relay: true, operator: false, mutates: false, help: "Show who you are to the relay, and why" },
    Verb { name: "instructions", method: None, starts_relay: true, operator: false, mutates: false, help: "Print what a session is told of itself and its peers" },
    Verb { name: "install", method: None, starts_relay: false, operator: false, mutates: false, help: "Give an agent program that is no session our tools" },
    Verb { name: "uninstall", method: None, starts_relay: false, operator: false, mutates: false, help: "Take them out of its configuration again" },
    Verb { name: "look", method: Some("session/look"), starts_relay: true, operator: true, mutates: false, help: "Show the last items of a session's thread" },
    Verb { name: "watch", method: Some("events/subscribe"), starts_relay: true, operator: true, mutates: false, help: "Show what happens, as it happens" },
    Verb { name: "log", method: Some("events/log"), starts_relay: true, operator: true, mutates: false, help: "Show the history: every step of mail, approvals, children" },
    Verb { name: "attach", method: Some("session/attach"), starts_relay: true, operator: true, mutates: false, help: "Open the session's own screen on the live thread" },
    Verb { name: "panes", method: None, starts_relay: true, operator: true, mutates: false, help: "Show the sessions side by side in tmux" },
    Verb { name: "approvals", method: Some("approval/list"), starts_relay: true, operator: true, mutates: false, help: "List what agents want to do and may not without you" },
    Verb { name: "approve", method: Some("approval/settle"), starts_relay: true, operator: true, mutates: true, help: "Say yes to an approval, once" },
    Verb { name: "deny", method: Some("approval/settle"), starts_relay: true, operator: true, mutates: true, help: "Say no to an approval; its turn goes on" },
    Verb { name: "doctor", method: None, starts_relay: false, operator: false, mutates: false, help: "Check everything that the bundle stands on, and name what mends it" },
    Verb { name: "config", method: None, starts_relay: false, operator: false, mutates: false, help: "Show every setting that counts, and where it was said" },
    Verb { name: "completions", method: None, starts_relay: false, operator: false, mutates: false, help: "Print shell completions" },
    Verb { name: "selftest", method: None, starts_relay: false, operator: false, mutates: false, help: "Break starts of a relay in a scratch directory, and look whether the next command minds" },
    Verb { name: "host", method: None, starts_relay: false, operator: false, mutates: false, help: "Run the relay in the foreground, or an agent's tools" },
];

/// Methods that belong to no verb of their own, and whether only the operator may call them.
pub const OTHER_METHODS: &[(&str, bool)] = &[
    ("hello", false),
    ("mail/wait", false),
    ("session/configure", true),
    ("mail/discard", true),
    ("pane/report", true),
    ("relay/stop", true),
    ("relay/replace", true),
];

/// Finds a verb by its word.
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Whether only the operator may call `method`.
pub fn is_operators(method: &str) -> bool {
    let verbs = VERBS.iter().filter_map(|verb| Some((verb.method?, verb.operator)));
    verbs.chain(OTHER_METHODS.iter().copied()).any(|(name, operator)| name == method && operator)
}

/// Methods of the operator that whoever has a name here may call, too, for its own mail.
pub const FOR_NAMED: &[&str] =
    &["mail/list", "mail/read", "mail/trace", "mail/next", "mail/ack", "mail/cancel"];

/// Whether an agent with a name may call `method`, although others may not.
pub fn is_for_named(method: &str) -> bool {
    FOR_NAMED.contains(&method)
}

/// Whether there is such a method.
pub fn is_method(name: &str) -> bool {
    methods().any(|method| method == name)
}

/// Every method of the relay.
pub fn methods() -> impl Iterator<Item = &'static str> {
    VERBS.iter().filter_map(|verb| verb.method).chain(OTHER_METHODS.iter().map(|(name, _)| *name))
}
