//! The script: an ordered list of rules, each a condition on the request and the steps of its answer.
//!
//! **Invariant:** the same request gets the same step of a sequence again, so that Codex's own retries do not disturb a
//! script; only a rule's use count moves. **Invariant:** a rule for a user's text matches only while that text is
//! unanswered, so that no rule calls its tool again when the tool's output comes back.
//!
//! Deliberately absent: randomness, and several calls in one response.

use super::request::Request;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// A condition and the answer to requests that meet it. Built fluently: `Rule::user("hello").exec("date").reply("done")`.
#[derive(Debug, Clone)]
pub struct Rule {
    when: When,
    user: Option<String>,
    input: Vec<String>,
    output: Option<String>,
    uses_left: Option<usize>,
    /// Of the step that comes next.
    beginning: Option<String>,
    steps: Vec<Step>,
}

/// What a rule without further conditions matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Every request, tools' outputs included.
    Always,
    /// A user's text that is not answered yet.
    Unanswered,
    /// A tool's output as the newest item.
    Output,
}

impl Rule {
    /// Matches every request, tools' outputs too; a call in such a rule repeats itself for ever.
    pub fn always() -> Rule {
        Rule::new(When::Always)
    }

    /// Matches any user's text that is not answered yet.
    pub fn prompt() -> Rule {
        Rule::new(When::Unanswered)
    }

    /// Matches when the newest user's text (not Codex's own context) is unanswered and contains this.
    pub fn user(text: &str) -> Rule {
        Rule { user: Some(text.to_owned()), ..Rule::new(When::Unanswered) }
    }

    /// Matches when the newest item is a function's output that contains this (anything contains `""`).
    pub fn output(text: &str) -> Rule {
        Rule { output: Some(text.to_owned()), ..Rule::new(When::Output) }
    }

    /// Demands the text in the newest user's text as well; for a rule on outputs that text may be answered already.
    pub fn and_user(mut self, text: &str) -> Rule {
        self.user = Some(text.to_owned());
        self
    }

    /// Demands this anywhere in the history as well, an agent's instructions included. May be repeated.
    pub fn and_input(mut self, text: &str) -> Rule {
        self.input.push(text.to_owned());
        self
    }

    /// Lets the rule match this often, then never again.
    pub fn times(mut self, uses: usize) -> Rule {
        self.uses_left = Some(uses);
        self
    }

    /// Answers with a message. Templates: `{id} {from} {to} {bundle} {thread} {subject} {body}` of the newest text's last
    /// envelope, `{text}`, and `{output}` of the newest function output.
    pub fn reply(self, text: &str) -> Rule {
        self.reply_in(&[text])
    }

    /// Answers with a message in several streamed pieces.
    pub fn reply_in(self, chunks: &[&str]) -> Rule {
        self.step(Step::new(Answer::Reply { chunks: chunks.iter().map(|&chunk| chunk.to_owned()).collect() }))
    }

    /// Answers with a shell command; a next step answers its output.
    pub fn exec(self, command: &str) -> Rule {
        self.call("exec_command", json!({ "cmd": command }))
    }

    /// Answers with a call of one of Codex's own functions; a next step answers its output.
    pub fn call(self, name: &str, arguments: Value) -> Rule {
        let (name, call_id) = (name.to_owned(), String::new());
        self.step(Step::new(Answer::Call { name, namespace: None, arguments, call_id }))
    }

    /// Makes the last step's call one of a namespace of Codex's own.
    pub fn in_namespace(mut self, of: &str) -> Rule {
        match self.steps.last_mut().map(|step| &mut step.answer) {
            Some(Answer::Call { namespace, .. }) => *namespace = Some(of.to_owned()),
            _ => panic!("only a call has a namespace"),
        }
        self
    }

    /// Answers with a call of an MCP server's tool (namespace `mcp__<server>`); a next step answers its output.
    pub fn call_mcp(self, server: &str, tool: &str, arguments: Value) -> Rule {
        let (name, namespace, call_id) = (tool.to_owned(), Some(format!("mcp__{server}")), String::new());
        self.step(Step::new(Answer::Call { name, namespace, arguments, call_id }))
    }

    /// Answers with an HTTP status and body; a JSON string is sent as plain text.
    pub fn http(self, status: u16, body: Value) -> Rule {
        self.step(Step::new(Answer::Http { status, body, headers: Vec::new() }))
    }

    /// Adds a header to the last step's HTTP answer.
    pub fn header(mut self, name: &str, value: impl ToString) -> Rule {
        match self.steps.last_mut().map(|step| &mut step.answer) {
            Some(Answer::Http { headers, .. }) => headers.push((name.to_owned(), value.to_string())),
            _ => panic!("only an HTTP answer has headers of its own"),
        }
        self
    }

    /// Closes the stream before `response.completed`.
    pub fn drop_stream(self) -> Rule {
        self.step(Step::new(Answer::Drop))
    }

    /// Answers `response.failed`.
    pub fn fail(self, code: &str, message: &str) -> Rule {
        self.step(Step::new(Answer::Fail { code: code.to_owned(), message: message.to_owned() }))
    }

    /// Answers like a model without rules.
    pub fn echo(self) -> Rule {
        self.step(Step::new(Answer::Echo))
    }

    /// Waits before the last step's first byte.
    pub fn after(self, delay: Duration) -> Rule {
        self.change(|step| step.first_byte_after = delay)
    }

    /// Waits between the last step's pieces.
    pub fn every(self, delay: Duration) -> Rule {
        self.change(|step| step.between_chunks = delay)
    }

    /// Holds the last step until `ScriptedModel::release(name)`; the stream is open by then (`response.created` is sent).
    pub fn held_by(self, name: &str) -> Rule {
        self.change(|step| step.held_by = Some(name.to_owned()))
    }

    /// Streams this first in the next step, before its hold, its drop, its failure or the rest of its reply.
    pub fn beginning(mut self, text: &str) -> Rule {
        self.beginning = Some(text.to_owned());
        self
    }

    /// Streams this behind the last step's call, before the response is complete; a hold holds the rest of it, not the call.
    pub fn ending(self, text: &str) -> Rule {
        self.change(|step| step.ending = Some(text.to_owned()))
    }

    fn new(when: When) -> Rule {
        let (user, input, output, steps) = (None, Vec::new(), None, Vec::new());
        Rule { when, user, input, output, uses_left: None, beginning: None, steps }
    }

    fn step(mut self, mut step: Step) -> Rule {
        let continues = self.steps.last().is_none_or(|last| matches!(last.answer, Answer::Call { .. }));
        assert!(continues, "only a call comes back, so nothing can follow {:?}", self.steps.last());
        step.beginning = self.beginning.take();
        self.steps.push(step);
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Step)) -> Rule {
        change(self.steps.last_mut().expect("a rule's answer stands before its delays and holds"));
        self
    }

    fn matches(&self, request: &Request) -> bool {
        let about = match self.when {
            When::Always => request.newest_user_text().or(Some(String::new())),
            When::Unanswered => request.unanswered_user_text(),
            When::Output => {
                let needle = self.output.as_deref().unwrap_or_default();
                let output = request.newest_output().filter(|output| output.contains(needle));
                output.map(|_| request.newest_user_text().unwrap_or_default())
            }
        };
        let Some(text) = about else { return false };
        self.uses_left != Some(0)
            && self.user.as_ref().is_none_or(|needle| text.contains(needle))
            && self.input.iter().all(|needle| request.contains(needle))
    }
}

/// One response of the model.
#[derive(Debug, Clone)]
pub struct Step {
    pub(super) answer: Answer,
    pub(super) first_byte_after: Duration,
    pub(super) between_chunks: Duration,
    pub(super) held_by: Option<String>,
    pub(super) beginning: Option<String>,
    pub(super) ending: Option<String>,
}

impl Step {
    pub(super) fn new(answer: Answer) -> Step {
        let (first_byte_after, between_chunks) = (Duration::ZERO, Duration::ZERO);
        Step { answer, first_byte_after, between_chunks, held_by: None, beginning: None, ending: None }
    }

    /// The answer's kind in a word or two, for records.
    pub fn describe(&self) -> String {
        match &self.answer {
            Answer::Reply { .. } => "reply".to_owned(),
            Answer::Echo => "echo".to_owned(),
            Answer::Title => "title".to_owned(),
            Answer::Call { name, .. } => format!("call {name}"),
            Answer::Http { status, .. } => format!("http {status}"),
            Answer::Drop => "drop".to_owned(),
            Answer::Fail { code, .. } => format!("fail {code}"),
        }
    }
}

/// What a response consists of.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Reply { chunks: Vec<String> },
    Echo,
    Title,
    Call { name: String, namespace: Option<String>, arguments: Value, call_id: String },
    Http { status: u16, body: Value, headers: Vec<(String, String)> },
    Drop,
    Fail { code: String, message: String },
}

/// The rules and the sequences under way.
#[derive(Debug, Default)]
pub(super) struct Script {
    rules: Vec<Rule>,
    /// What follows the output of a call, by the call's id.
    following: HashMap<String, Vec<Step>>,
}

impl Script {
    pub(super) fn replace(&mut self, rules: Vec<Rule>) {
        self.rules = rules;
    }

    pub(super) fn prepend(&mut self, rule: Rule) {
        self.rules.insert(0, rule);
    }

    /// The answer to a request; `call_id` names the call, should the answer be one.
    ///
    /// A sequence goes on when its call's output is back. A user's text that arrived beside the output (a steer at the
    /// boundary) comes first if a rule names it. An aborted call's sequence is over.
    pub(super) fn choose(&mut self, request: &Request, call_id: &str) -> Step {
        let outputs = request.unanswered_outputs();
        let following = outputs.iter().rev().find_map(|(id, text)| {
            let aborted = ABORTED.contains(&text.as_str());
            self.following.get(id).filter(|_| !aborted).cloned()
        });
        let mut rules = self.rules.iter_mut();
        let rule = rules.find(|rule| {
            let may = following.is_none() || (rule.when == When::Unanswered && rule.user.is_some());
            may && rule.matches(request)
        });
        let mut steps = match (rule, following) {
            (Some(rule), _) => {
                rule.uses_left = rule.uses_left.map(|uses| uses - 1);
                rule.steps.clone()
            }
            (None, Some(steps)) => steps,
            (None, None) => Vec::new(),
        };
        if steps.is_empty() {
            return Step::new(Answer::Echo);
        }
        let mut step = steps.remove(0);
        if let Answer::Call { call_id: id, .. } = &mut step.answer {
            call_id.clone_into(id);
            if !steps.is_empty() {
                self.following.insert(call_id.to_owned(), steps);
            }
        }
        step
    }
}

/// What Codex says in place of an output that never came (0.169.0: interrupt, kill -9).
const ABORTED: [&str; 2] = ["aborted by user", "aborted"];
