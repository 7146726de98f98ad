//! A plain client of the scripted model: the history that it sends, and the answer that it reads off the stream.

use crate::SOON;
use crate::support::ScriptedModel;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

pub fn user(text: &str) -> Value {
    json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] })
}

pub fn assistant(text: &str) -> Value {
    json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": text }] })
}

pub fn output(call_id: &str, text: &str) -> Value {
    json!({ "type": "function_call_output", "call_id": call_id, "output": text })
}

pub fn history(items: &[Value]) -> Value {
    json!({ "model": "mock-model", "prompt_cache_key": "thread", "input": items })
}

pub fn connect(model: &ScriptedModel) -> TcpStream {
    let url = model.base_url();
    let address = url.trim_start_matches("http://").trim_end_matches("/v1");
    let stream = TcpStream::connect(address).expect("the model listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    stream
}

pub fn send(model: &ScriptedModel, method: &str, body: &str) -> TcpStream {
    let mut stream = connect(model);
    let length = body.len();
    let head =
        format!("{method} /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).expect("the model reads");
    stream
}

pub fn ask(model: &ScriptedModel, body: &Value) -> Answer {
    Answer::read(send(model, "POST", &body.to_string()))
}

/// What a plain client got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Answer {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer in time");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        Answer { status, body: body.to_owned() }
    }

    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).expect("an event is JSON")).collect()
    }

    pub fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    }

    /// The finished item; the deltas must have said the same.
    pub fn item(&self) -> Value {
        let done = |event: &Value| event["type"] == "response.output_item.done";
        let mut items = self.events().into_iter().filter(done);
        items.next().unwrap_or_else(|| panic!("no item in {self:?}"))["item"].take()
    }

    pub fn text(&self) -> String {
        let item = self.item();
        let deltas: String =
            self.events().iter().filter_map(|event| event["delta"].as_str().map(str::to_owned)).collect();
        assert_eq!(item["content"][0]["text"], deltas);
        deltas
    }

    pub fn call(&self) -> Value {
        let item = self.item();
        assert_eq!(item["type"], "function_call");
        item
    }
}
