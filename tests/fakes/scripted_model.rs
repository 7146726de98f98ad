//! The scripted model as a program, for demos and shell tests: the server of `tests/support/model.rs` with a script file.
//!
//! `scripted-model --script FILE.json --port-file FILE [--record FILE.jsonl]`
//!
//! Prints its base URL on stdout and writes the port, and nothing else, to the port file once it can be connected to.
//! Reads commands on stdin, one per line: `release NAME`, `hold NAME`. Exits with 0 when stdin ends.
//!
//! The script is `{"rules": [RULE…]}`; the first rule that matches answers, and without one `ok: <first 60 characters>`.
//!
//! ```json
//! {"rules": [
//!   {"user": "[agentmux mail", "input": "You are the reviewer", "times": 3,
//!    "steps": [{"exec": "agentmux reply {id} 'looks good'", "afterMs": 500}, {"reply": "answered {from}"}]},
//!   {"output": "exit code 1", "steps": [{"reply": "the command failed: {output}"}]},
//!   {"user": "long", "steps": [{"reply": ["one ", "two ", "three"], "everyMs": 300}]},
//!   {"user": "wait", "steps": [{"reply": "released", "beginning": "half a ", "heldBy": "gate"}]},
//!   {"user": "tool", "steps": [{"call": "whoami", "server": "agentmux", "arguments": {}}, {"reply": "{output}"}]},
//!   {"user": "busy", "steps": [{"http": 503, "body": {"error": {"message": "try later"}}}]},
//!   {"user": "limit", "steps": [{"fail": "insufficient_quota", "message": "no more today"}]},
//!   {"prompt": true, "steps": [{"drop": true}]}
//! ]}
//! ```
//!
//! Conditions: `user` (text of the newest user message, while unanswered), `output` (text of the newest function output;
//! with `user`, of a message already answered by the call), `prompt` (any unanswered message), `always`; `input` (text,
//! or list of texts, anywhere in the history) and `times` narrow each of them. Steps after a call answer its output. Every step
//! takes `afterMs`, `heldBy` and `beginning`. Replies and arguments fill the templates that `Rule::reply` names.
//!
//! **Invariant:** an unknown key is refused at the start, with its name: a script never does silently less than it says.
//! **Invariant:** nothing outlives stdin, so a killed demo leaves no model behind.
//!
//! Deliberately absent: changing the rules while it runs.

#![allow(dead_code, unused_imports, reason = "the module is shared with the tests, which use the rest of it")]

#[path = "../support/model.rs"]
mod model;

use model::{Rule, ScriptedModel};
use serde_json::{Map, Value};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("scripted-model: {problem}\nhint: {USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let rules = match &flags.script {
        Some(path) => read_script(path).map_err(|problem| format!("{}: {problem}", path.display()))?,
        None => Vec::new(),
    };
    let model = ScriptedModel::start();
    model.script(rules);
    if let Some(path) = &flags.record {
        model.record_to(path);
    }
    let url = model.base_url();
    if let Some(path) = &flags.port_file {
        let port = url.trim_end_matches("/v1").rsplit(':').next().unwrap_or_default();
        publish(path, port).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("{url}");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        match line.trim().split_once(' ') {
            Some(("release", name)) => model.release(name),
            Some(("hold", name)) => model.hold(name),
            _ if line.trim().is_empty() => {}
            _ => eprintln!("scripted-model: unknown command `{line}`"),
        }
    }
    for fault in model.faults() {
        eprintln!("scripted-model: {fault}");
    }
    Ok(())
}

/// Writes beside the file and renames, so that a reader never sees half a port.
fn publish(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}

#[derive(Debug, Default)]
struct Flags {
    script: Option<PathBuf>,
    port_file: Option<PathBuf>,
    record: Option<PathBuf>,
}

impl Flags {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Flags, String> {
        let mut flags = Flags::default();
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "--script" => &mut flags.script,
                "--port-file" => &mut flags.port_file,
                "--record" => &mut flags.record,
                _ => return Err(format!("unknown argument `{word}`")),
            };
            *place = Some(PathBuf::from(words.next().ok_or_else(|| format!("`{word}` needs a file"))?));
        }
        Ok(flags)
    }
}

fn read_script(path: &Path) -> Result<Vec<Rule>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let script: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut keys = Keys::of(&script)?;
    let rules =
        keys.take("rules").and_then(|rules| rules.as_array().cloned()).ok_or("`rules` must be a list")?;
    keys.finish()?;
    let numbered = rules.iter().enumerate();
    numbered
        .map(|(index, rule)| read_rule(rule).map_err(|problem| format!("rule {index}: {problem}")))
        .collect()
}

fn read_rule(value: &Value) -> Result<Rule, String> {
    let mut keys = Keys::of(value)?;
    let (user, output) = (keys.text("user")?, keys.text("output")?);
    let (prompt, always) = (keys.flag("prompt")?, keys.flag("always")?);
    let mut rule = match (user, output, prompt, always) {
        (Some(user), None, false, false) => Rule::user(&user),
        (None, Some(output), false, false) => Rule::output(&output),
        (Some(user), Some(output), false, false) => Rule::output(&output).and_user(&user),
        (None, None, true, false) => Rule::prompt(),
        (None, None, false, true) => Rule::always(),
        _ => return Err("one of `user`, `output`, `prompt`, `always` must say when".to_owned()),
    };
    match keys.take("input") {
        None => {}
        Some(Value::String(text)) => rule = rule.and_input(&text),
        Some(Value::Array(texts)) => {
            for text in texts {
                rule = rule.and_input(text.as_str().ok_or("`input` must hold texts")?);
            }
        }
        Some(_) => return Err("`input` must be a text or a list of texts".to_owned()),
    }
    if let Some(times) = keys.number("times")? {
        rule = rule.times(usize::try_from(times).map_err(|error| error.to_string())?);
    }
    let steps = keys.take("steps").and_then(|steps| steps.as_array().cloned()).unwrap_or_default();
    keys.finish()?;
    for (index, step) in steps.iter().enumerate() {
        let comes_back = index == 0 || ["exec", "call"].iter().any(|key| !steps[index - 1][key].is_null());
        if !comes_back {
            return Err(format!("step {index} can never be reached: only `exec` and `call` come back"));
        }
        rule = read_step(rule, step).map_err(|problem| format!("step {index}: {problem}"))?;
    }
    Ok(rule)
}

fn read_step(rule: Rule, value: &Value) -> Result<Rule, String> {
    let mut keys = Keys::of(value)?;
    let rule = match keys.text("beginning")? {
        Some(text) => rule.beginning(&text),
        None => rule,
    };
    let rule = if let Some(reply) = keys.take("reply") {
        match reply {
            Value::String(text) => rule.reply(&text),
            Value::Array(chunks) => {
                let chunks: Option<Vec<&str>> = chunks.iter().map(Value::as_str).collect();
                rule.reply_in(&chunks.ok_or("`reply` must hold texts")?)
            }
            _ => return Err("`reply` must be a text or a list of texts".to_owned()),
        }
    } else if let Some(command) = keys.text("exec")? {
        rule.exec(&command)
    } else if let Some(name) = keys.text("call")? {
        let arguments = keys.take("arguments").unwrap_or_else(|| Value::Object(Map::new()));
        match keys.text("server")? {
            Some(server) => rule.call_mcp(&server, &name, arguments),
            None => rule.call(&name, arguments),
        }
    } else if let Some(status) = keys.number("http")? {
        let status = u16::try_from(status).map_err(|error| error.to_string())?;
        rule.http(status, keys.take("body").unwrap_or_default())
    } else if let Some(code) = keys.text("fail")? {
        rule.fail(&code, &keys.text("message")?.unwrap_or_default())
    } else if keys.flag("drop")? {
        rule.drop_stream()
    } else if keys.flag("echo")? {
        rule.echo()
    } else {
        return Err("one of `reply`, `exec`, `call`, `http`, `fail`, `drop`, `echo` must say what".to_owned());
    };
    let rule = match keys.number("afterMs")? {
        Some(ms) => rule.after(Duration::from_millis(ms)),
        None => rule,
    };
    let rule = match keys.number("everyMs")? {
        Some(ms) => rule.every(Duration::from_millis(ms)),
        None => rule,
    };
    let rule = match keys.text("heldBy")? {
        Some(name) => rule.held_by(&name),
        None => rule,
    };
    keys.finish()?;
    Ok(rule)
}

/// The keys of an object that nobody has asked for yet.
#[derive(Debug)]
struct Keys(Map<String, Value>);

impl Keys {
    fn of(value: &Value) -> Result<Keys, String> {
        value.as_object().cloned().map(Keys).ok_or_else(|| format!("not an object: {value}"))
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{key}` must be a text")),
        }
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("`{key}` must be a whole number")),
        }
    }

    fn flag(&mut self, key: &str) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| format!("`{key}` must be true or false")),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("unknown key `{key}`")),
        }
    }
}

const USAGE: &str = "scripted-model --script FILE.json --port-file FILE [--record FILE.jsonl]";
