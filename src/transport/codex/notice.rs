//! Notifications of Codex: which of them mean something to us. All others are tolerated in silence.

use serde_json::Value;

use super::Codex;
use super::thread::{Thread, waits_for_a_person};
use crate::model::child::{ChildEvent, Tokens, ToolsState, TurnOutcome};
use crate::model::clock::Millis;
use crate::model::id::{ClaimId, TurnId};
use crate::model::limits;
use crate::model::name::Name;

impl Codex {
    pub(super) fn on_notice(&mut self, method: &str, params: &Value) {
        if method == "skills/changed" {
            return self.list_skills_again();
        }
        if method == "mcpServer/startupStatus/updated" {
            return self.on_tools_status(params);
        }
        if method == "account/rateLimits/updated" {
            return self.on_rate_limits(&params["rateLimits"]);
        }
        // Numbers of questions are the child's, not a thread's.
        if method == "serverRequest/resolved" {
            return self.on_resolved(&params["requestId"].to_string());
        }
        let Some(thread) = params["threadId"].as_str() else { return };
        let Some(session) = self.session_of(thread) else {
            self.on_sub_notice(thread, method, params);
            return;
        };
        match method {
            "turn/started" => self.on_turn_started(session, params),
            "turn/completed" => self.on_turn_completed(session, params),
            "item/started" => self.on_item_started(session, params),
            "item/completed" => self.on_item_completed(session, params),
            "item/agentMessage/delta" => self.on_delta(session, params),
            "thread/tokenUsage/updated" => self.on_tokens(session, &params["tokenUsage"]),
            "error" if params["willRetry"] == true => {
                // The stream is over, and with it what was being written in it.
                self.change_boundary(&session, |thread| thread.writing = false);
                let why = failure(&params["error"]);
                self.events.push_back(ChildEvent::TurnStruggles { session, why });
            }
            "thread/closed" => self.on_thread_closed(session),
            "thread/status/changed" if params["status"]["type"] == "notLoaded" => {
                self.on_thread_closed(session)
            }
            "thread/status/changed" => self.on_status(session, params),
            _ => {}
        }
    }

    /// How far the account's windows are used up, told before the turn that meets the limit fails. What a message leaves out still holds.
    fn on_rate_limits(&mut self, limits: &Value) {
        for (window, full_until) in ["primary", "secondary"].iter().zip(&mut self.full_until) {
            let window = &limits[window];
            if let Some(used) = window["usedPercent"].as_i64() {
                let resets_at = window["resetsAt"].as_i64().filter(|_| used >= 100);
                *full_until = resets_at.map(|seconds| Millis(seconds.saturating_mul(1_000)));
            }
        }
    }

    /// When the last of the account's windows that are used up begins anew, if that is known.
    fn resets_at(&self) -> Option<Millis> {
        self.full_until.iter().flatten().max().copied()
    }

    /// Our own tools in a thread come up. That may be said before the thread is known, and is passed on when it is open.
    fn on_tools_status(&mut self, params: &Value) {
        let Some(thread) = params["threadId"].as_str().filter(|_| params["name"] == super::TOOLS) else {
            return;
        };
        let state = match params["status"].as_str() {
            Some("starting") => ToolsState::Starting,
            Some("ready") => ToolsState::Ready,
            _ => ToolsState::Gone,
        };
        if self.own_tools.len() >= limits::THREADS_UNHEARD_MAX {
            self.own_tools.clear();
        }
        self.own_tools.insert(thread.to_owned(), state);
        if let Some(session) = self.session_of(thread).filter(|session| !self.openings.contains_key(session))
        {
            self.events.push_back(ChildEvent::OwnTools { session, state });
        }
    }

    /// A turn that ran when the thread was resumed may have ended before its id was known; the status tells.
    fn on_status(&mut self, session: Name, params: &Value) {
        let Some(thread) = self.threads.get_mut(&session) else { return };
        let active = params["status"]["type"] == "active";
        let id = thread.id.clone();
        if !active && thread.turn.is_none() && std::mem::take(&mut thread.busy) {
            self.events.push_back(ChildEvent::ThreadIdle { session: session.clone() });
            // Whose end was not heard has ended.
            if thread.closing && !thread.expected {
                self.leave_thread(session.clone());
            }
        }
        if !waits_for_a_person(&params["status"]) {
            self.asks_no_more(&session, &id);
        }
    }

    fn on_turn_started(&mut self, session: Name, params: &Value) {
        let Some(turn) = turn_id(&params["turn"]["id"]) else { return };
        self.turn_is_known(&session, turn.clone());
        self.events.push_back(ChildEvent::TurnStarted { session, turn });
    }

    fn on_turn_completed(&mut self, session: Name, params: &Value) {
        let Some(turn) = turn_id(&params["turn"]["id"]) else { return };
        if let Some(thread) = self.threads.get_mut(&session) {
            (thread.turn, thread.turn_since) = (None, None);
            thread.busy = false;
            thread.expected = false;
            thread.tools.clear();
            thread.writing = false;
            if thread.closing {
                self.leave_thread(session.clone());
            }
        }
        let outcome = match params["turn"]["status"].as_str() {
            Some("failed") => failed(&params["turn"]["error"], self.resets_at()),
            Some("interrupted") => TurnOutcome::Interrupted,
            _ => TurnOutcome::Completed,
        };
        self.events.push_back(ChildEvent::TurnEnded { session, turn, outcome });
    }

    /// The one place where evidence is made.
    fn on_item_completed(&mut self, session: Name, params: &Value) {
        self.learn_turn(&session, params);
        let item = &params["item"];
        let turn = turn_id(&params["turnId"]);
        self.learn_subs(&session, item);
        self.note_boundary(&session, item, false);
        if let Some(turn) = turn.clone().filter(|_| item["type"] == "userMessage") {
            let claim = item["clientId"].as_str().and_then(ClaimId::parse);
            self.events.push_back(ChildEvent::InputTaken { session: session.clone(), claim, turn });
        } else if item["type"] == "agentMessage" {
            self.on_message_done(&session, turn.as_ref(), item);
        }
        let item = super::history::item(params);
        if !item.text.is_empty() {
            self.events.push_back(ChildEvent::ItemDone { session, turn, item });
        }
    }

    fn on_tokens(&mut self, session: Name, usage: &Value) {
        let of = |key: &str| usage["total"][key].as_i64().unwrap_or_default();
        let tokens = Tokens {
            total: of("totalTokens"),
            input: of("inputTokens"),
            cached_input: of("cachedInputTokens"),
            output: of("outputTokens"),
            reasoning_output: of("reasoningOutputTokens"),
            in_context: usage["last"]["totalTokens"].as_i64().unwrap_or_default(),
            context_window: usage["modelContextWindow"].as_i64(),
        };
        self.events.push_back(ChildEvent::TokensUsed { session, tokens });
    }

    fn on_item_started(&mut self, session: Name, params: &Value) {
        self.learn_turn(&session, params);
        let item = &params["item"];
        if let (Some(change), Some(thread)) =
            (super::thread::changed_paths(item), self.threads.get_mut(&session))
        {
            thread.change = Some(change);
        }
        self.note_boundary(&session, item, true);
        if item["type"] == "agentMessage" {
            self.on_message_begun(&session, item);
        }
    }

    /// An item began or ended that says whether the model streams.
    fn note_boundary(&mut self, session: &Name, item: &Value, begins: bool) {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        self.change_boundary(session, |thread| match Work::of(item) {
            Work::Tool if begins && thread.tools.len() < limits::TOOLS_MAX => {
                thread.tools.insert(id);
            }
            Work::Tool if begins => {}
            Work::Tool => {
                thread.tools.remove(&id);
            }
            Work::Writing => thread.writing = begins,
            // What was being written when new input came in was thrown away, and never ends.
            Work::Input => thread.writing = false,
            Work::Other => {}
        });
    }

    /// Passes a thread's boundary on when something has opened or closed it.
    fn change_boundary(&mut self, session: &Name, change: impl FnOnce(&mut Thread)) {
        let Some(thread) = self.threads.get_mut(session) else { return };
        let before = thread.is_at_boundary();
        change(thread);
        let at_boundary = thread.is_at_boundary();
        if at_boundary != before {
            self.events.push_back(ChildEvent::Boundary { session: session.clone(), at_boundary });
        }
    }

    /// A turn that ran when the thread was resumed shows its id with its next item, if the child could not tell it before.
    fn learn_turn(&mut self, session: &Name, params: &Value) {
        if let (Some(thread), Some(turn)) = (self.threads.get(session), turn_id(&params["turnId"]))
            && thread.busy
            && thread.turn.is_none()
        {
            self.turn_is_known(session, turn.clone());
            self.events.push_back(ChildEvent::TurnStarted { session: session.clone(), turn });
        }
    }

    fn on_thread_closed(&mut self, session: Name) {
        let Some(thread) = self.threads.remove(&session) else { return };
        if self.openings.get(&session).is_some_and(|attempt| thread.is_of(attempt.number)) {
            self.opening_failed(session, "the thread was unloaded while it was opened".to_owned());
        } else {
            // They are found anew when it is opened again, and what they ask is repeated then.
            self.subs.retain(|_, sub| sub.session != session);
            self.events.push_back(ChildEvent::ThreadGone { session });
        }
    }

    fn list_skills_again(&mut self) {
        for session in self.threads.keys().cloned().collect::<Vec<Name>>() {
            self.list_skills(session, None);
        }
    }
}

/// What an item says of its model.
enum Work {
    /// It waits for a tool, or will when its response is complete.
    Tool,
    /// Its response streams; a web search is one of the service's own, in the middle of the stream.
    Writing,
    /// It gets input.
    Input,
    Other,
}

impl Work {
    fn of(item: &Value) -> Work {
        match item["type"].as_str().unwrap_or_default() {
            "commandExecution" | "mcpToolCall" | "dynamicToolCall" | "fileChange" => Work::Tool,
            "agentMessage" | "reasoning" | "plan" | "webSearch" => Work::Writing,
            "userMessage" => Work::Input,
            _ => Work::Other,
        }
    }
}

pub(super) fn turn_id(value: &Value) -> Option<TurnId> {
    value.as_str().map(Into::into)
}

/// How a turn failed, by Codex's kinds (measured with 0.157.0, 0.163.0 and 0.169.0).
fn failed(error: &Value, resets_at: Option<Millis>) -> TurnOutcome {
    let why = failure(error);
    let message = error["message"].as_str().unwrap_or_default();
    let (kind, status) = match &error["codexErrorInfo"] {
        // A stream that breaks off, and a model that fails in the middle of one, have no kind of their own (0.157.0, 0.169.0).
        Value::String(kind) if kind == "other" && message.starts_with(BROKEN_STREAM) => {
            ("responseStreamDisconnected", None)
        }
        // Before 0.163 the status stands in the words only.
        Value::String(kind) if kind == "other" => ("other", status_in(message)),
        Value::String(kind) => (kind.as_str(), None),
        Value::Object(kinds) => kinds
            .iter()
            .next()
            .map_or(("", None), |(kind, info)| (kind.as_str(), info["httpStatusCode"].as_u64())),
        _ => ("", None),
    };
    match (kind, status) {
        ("usageLimitExceeded", _) => TurnOutcome::Blocked { why, until: resets_at },
        ("unauthorized", _) | (_, Some(401 | 403)) => TurnOutcome::Blocked { why, until: None },
        (
            "serverOverloaded"
            | "rateLimitExceeded"
            | "internalServerError"
            | "responseTooManyFailedAttempts",
            _,
        )
        | (_, Some(408 | 429 | 500..=599)) => TurnOutcome::Overloaded(why),
        // The way to the model is broken, or breaks off again and again: that is nobody's fault in the mail.
        ("httpConnectionFailed" | "responseStreamConnectionFailed" | "responseStreamDisconnected", None) => {
            TurnOutcome::Overloaded(why)
        }
        ("contextWindowExceeded", _) => TurnOutcome::ContextFull(why),
        _ => TurnOutcome::Failed(why),
    }
}

/// How the words of a turn begin whose stream broke off, or whose model said `response.failed` without a reason that Codex knows.
const BROKEN_STREAM: &str = "stream disconnected before completion: ";

/// The status in `unexpected status 503 Service Unavailable: …`.
fn status_in(message: &str) -> Option<u64> {
    message.strip_prefix("unexpected status ")?.split(' ').next()?.parse().ok()
}

/// The words of a failed turn: what kind, then what happened.
fn failure(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("no reason given");
    match &error["codexErrorInfo"] {
        Value::String(kind) if kind != "other" => format!("{kind}: {message}"),
        Value::Object(kinds) => {
            kinds.keys().next().map_or(message.to_owned(), |kind| format!("{kind}: {message}"))
        }
        _ => message.to_owned(),
    }
}
