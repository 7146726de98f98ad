//! Hostile inputs for the relay's socket, from a seed: what is sent, how, and what must come back.
//!
//! **Invariant:** equal seeds make equal inputs. **Invariant:** no input asks for anything that a relay of an empty bundle would do
//! (start, stop, store), so that whatever changes in the relay is a fault.
//!
//! Deliberately absent: sockets; those are `siege.rs`.

use agentmux::protocol::verb;
use serde_json::{Value, json};

/// One input.
#[derive(Debug)]
pub struct Input {
    /// Its kind, for counts and for the text of a failure.
    pub kind: &'static str,
    /// The bytes, hello included.
    pub bytes: Vec<u8>,
    /// What is done beside writing.
    pub way: Way,
}

/// How an input is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// Written at once; the writing side is closed, and everything up to the end is read.
    Read(Answers),
    /// The same, written byte by byte.
    Bytewise(Answers),
    /// Written at once, left open and never read.
    Deaf,
    /// One byte with every input that follows, and left open.
    Drip,
    /// Written at once and closed with the answers unread, which the relay sees as a reset.
    Abort,
}

/// What must come back before the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answers {
    /// So many answers.
    Exactly(usize),
    /// So many answers, the last of them a refusal of the whole connection.
    UpTo(usize),
    /// Any number; each of them typed.
    Any,
}

/// Makes the bytes of an input, and says how they are played.
type Make = fn(&mut Chance) -> (Vec<u8>, Way);

/// The kinds, each as likely as the others.
const KINDS: &[(&str, Make)] = &[
    ("no hello", |_| (Vec::new(), Way::Deaf)),
    ("slow hello", |_| (hello(None), Way::Drip)),
    ("bytewise", |chance| (after_hello(&[good(chance, 1)]), Way::Bytewise(Answers::Exactly(2)))),
    ("garbage before hello", garbage),
    ("request before hello", |chance| (line(&good(chance, 1)), Way::Read(Answers::UpTo(1)))),
    ("endless line", endless),
    ("long line", long),
    ("invalid UTF-8", |chance| {
        let at = chance.below(3);
        let bad: [&[u8]; 3] = [b"\xff\xfe\x00{}\n", b"{\"id\":\"\xc3\x28\"}\n", b"\xf8\x88\x80\x80\x80\n"];
        (join(&hello(None), bad[at]), Way::Read(Answers::UpTo(2)))
    }),
    ("deep JSON", deep),
    ("equal ids", |chance| {
        let count = 2 + chance.below(60);
        let lines: Vec<String> = (0..count).map(|_| good(chance, 7)).collect();
        (after_hello(&lines), Way::Read(Answers::Exactly(count + 1)))
    }),
    ("equal keys", |_| {
        let twice = r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"session/list","method":"relay/status"}"#;
        (after_hello(&[twice.to_owned()]), Way::Read(Answers::Any))
    }),
    ("half closed", |chance| {
        let count = 1 + chance.below(300);
        let lines: Vec<String> = (0..count).map(|id| good(chance, id)).collect();
        (after_hello(&lines), Way::Read(Answers::Exactly(count + 1)))
    }),
    ("never reads", |chance| (flood(chance, 400), Way::Deaf)),
    ("reset", |chance| (flood(chance, 50), Way::Abort)),
    ("leaves in a line", |chance| {
        let mut bytes = after_hello(&[good(chance, 1)]);
        bytes.truncate(bytes.len() - 2 - chance.below(20));
        (bytes, Way::Abort)
    }),
    ("giant number", |chance| {
        let numbers = ["1e400", "99999999999999999999", "-1", "1e308", "0.5", "18446744073709551616", "-0"];
        let number = numbers[chance.below(numbers.len())];
        let lines = [
            format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"session/list","params":{{}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":2,"method":"mail/list","params":{{"limit":{number}}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":3,"method":"mail/wait","params":{{"timeoutMs":{number}}}}}"#),
        ];
        (after_hello(&lines[chance.below(3)..][..1]), Way::Read(Answers::Exactly(2)))
    }),
    ("wrong types", wrong_types),
    ("NULs", |chance| {
        let texts = ["\0", "a\0b", "\0\0\0\0", "operator\0"];
        let text = texts[chance.below(texts.len())];
        let lines = [
            request(1, "mail/send", &json!({ "to": [text], "body": "x" })),
            request(2, "mail/send", &json!({ "to": ["nobody"], "body": text })),
            request(3, text, &json!({})),
        ];
        (after_hello(&lines), Way::Read(Answers::Exactly(4)))
    }),
    ("raw NULs", |chance| {
        (join(&hello(None), &vec![0; 1 + chance.below(4096)]), Way::Read(Answers::Exactly(1)))
    }),
    ("flood", |chance| {
        let count = 100 + chance.below(900);
        let lines: Vec<String> = (0..count).map(|id| good(chance, id)).collect();
        (after_hello(&lines), Way::Read(Answers::Exactly(count + 1)))
    }),
    ("turned bits", |chance| {
        let mut bytes = after_hello(&[good(chance, 1), good(chance, 2)]);
        for _ in 0..1 + chance.below(8) {
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
        }
        (bytes, Way::Read(Answers::Any))
    }),
    ("nothing to answer", |_| {
        let lines = [
            "",
            "\r",
            r#"{"jsonrpc":"2.0","method":"relay/stop","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
        ];
        (after_hello(&lines.map(str::to_owned)), Way::Read(Answers::Exactly(1)))
    }),
    ("another protocol", |chance| {
        let min = 2 + chance.below(1_000_000);
        let params = json!({ "client": "x", "version": "9", "protocolMin": min, "protocolMax": min });
        (line(&request(0, "hello", &params)), Way::Read(Answers::UpTo(1)))
    }),
];

/// Inputs without end.
#[derive(Debug)]
pub struct Inputs(Chance);

impl Inputs {
    /// The inputs of a seed.
    pub fn of(seed: u64) -> Inputs {
        Inputs(Chance(seed))
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        let (kind, make) = KINDS[self.0.below(KINDS.len())];
        let (bytes, way) = make(&mut self.0);
        Some(Input { kind, bytes, way })
    }
}

/// SplitMix64: small, seeded, and good enough to choose with.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }
}

/// A request line, without its newline.
pub fn request(id: usize, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// A hello with its newline; with a mark, that of an agent.
pub fn hello(mark: Option<&str>) -> Vec<u8> {
    let mut params = json!({ "client": "siege", "version": "0", "protocolMin": 1, "protocolMax": 1 });
    if let Some(mark) = mark {
        params["agentMark"] = mark.into();
    }
    line(&request(0, "hello", &params))
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    [first, second].concat()
}

fn after_hello(lines: &[String]) -> Vec<u8> {
    join(&hello(None), &line(&lines.join("\n")))
}

/// A request that is answered at once and changes nothing.
fn good(chance: &mut Chance, id: usize) -> String {
    match chance.below(4) {
        0 => request(id, "relay/status", &json!({})),
        1 => request(id, "mail/send", &json!({ "to": ["nobody"], "body": "x" })),
        2 => request(id, "mail/list", &json!({})),
        _ => request(id, "session/list", &json!({})),
    }
}

fn flood(chance: &mut Chance, most: usize) -> Vec<u8> {
    let count = 1 + chance.below(most);
    after_hello(&(0..count).map(|id| good(chance, id)).collect::<Vec<String>>())
}

fn garbage(chance: &mut Chance) -> (Vec<u8>, Way) {
    let mut bytes: Vec<u8> = (0..1 + chance.below(4096)).map(|_| chance.draw() as u8).collect();
    // Not an empty line, which would be passed over; and a whole one, which is refused.
    bytes[0] = b'#';
    bytes.push(b'\n');
    bytes.extend(hello(None));
    (bytes, Way::Read(Answers::UpTo(1)))
}

/// Ten megabytes without a newline.
fn endless(chance: &mut Chance) -> (Vec<u8>, Way) {
    let said = if chance.below(2) == 0 { hello(None) } else { Vec::new() };
    let answers = if said.is_empty() { 1 } else { 2 };
    (join(&said, &vec![b'x'; 10 * 1024 * 1024]), Way::Read(Answers::UpTo(answers)))
}

/// A line as long as is allowed just so, with nothing in it that is of use.
fn long(chance: &mut Chance) -> (Vec<u8>, Way) {
    let text = "x".repeat(1_000_001 + chance.below(100_000));
    let params = match chance.below(3) {
        0 => json!({ "to": ["nobody"], "body": text }),
        1 => json!({ "to": [text], "body": "x" }),
        _ => json!({ "to": vec![0; 100_000], "body": "x" }),
    };
    (after_hello(&[request(1, "mail/send", &params)]), Way::Read(Answers::Exactly(2)))
}

fn deep(chance: &mut Chance) -> (Vec<u8>, Way) {
    let depth = 65 + chance.below(100_000);
    let (open, close) = if chance.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
    let core = if open == "[" { "" } else { "1" };
    let params = format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
    let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"session/list\",\"params\":{params}}}");
    (after_hello(&[text]), Way::Read(Answers::UpTo(2)))
}

/// Every method with parameters of every wrong type; as an agent, whose connection may do nothing that changes a session.
fn wrong_types(chance: &mut Chance) -> (Vec<u8>, Way) {
    let wrong = [
        Value::Null,
        json!(true),
        json!(-7),
        json!("text"),
        json!([]),
        json!([[], {}]),
        json!({ "to": "operator", "body": 1 }),
        json!({ "to": [null], "body": {} }),
        json!({ "id": [], "name": 3, "names": "all", "now": "yes", "limit": "many", "timeoutMs": [] }),
        json!({ "name": "../../x", "dir": 7, "program": null }),
    ];
    let methods: Vec<&str> = verb::methods().filter(|method| *method != "mail/wait").collect();
    let lines: Vec<String> = (0..1 + chance.below(40))
        .map(|id| request(id, methods[chance.below(methods.len())], &wrong[chance.below(wrong.len())]))
        .collect();
    let bytes = join(&hello(Some("SIEGE")), &line(&lines.join("\n")));
    (bytes, Way::Read(Answers::Exactly(lines.len() + 1)))
}
