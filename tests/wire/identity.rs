//! Attempts to be somebody else, on the wire: forged senders, tokens of others and of before, another user.

use crate::socket::{Socket, hello};
use crate::support::{House, ScriptedModel};
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

/// The token of a session's own tools, as only a process of the same user, outside any sandbox, can find it.
fn token_of(session: &str) -> impl Fn() -> Result<String, String> {
    let wanted = format!("AGENTMUX_SESSION={session}");
    move || {
        let environments = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let environments = environments.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
        let found = environments.filter_map(|environ| {
            let entries: Vec<String> = environ
                .split(|byte| *byte == 0)
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect();
            let token = entries.iter().find_map(|entry| entry.strip_prefix("AGENTMUX_TOKEN="))?.to_owned();
            entries.contains(&wanted).then_some(token)
        });
        found.last().ok_or_else(|| "no tools yet".to_owned())
    }
}

fn says(house: &House, identity: &str, token: Option<&str>) -> Value {
    let mut params = hello();
    params["identity"] = identity.into();
    if let Some(token) = token {
        params["token"] = token.into();
    }
    Socket::open(house).ask("hello", params)
}

fn refusal(answer: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&answer["error"]["data"]["code"]), text(&answer["error"]["message"]))
}

/// LK-1, LK-3, LK-8, users 8: a session's name is its token's alone; the sender of a mail is the connection's, whatever the request says;
/// and a token of an earlier child is over.
#[test]
fn nobody_speaks_as_a_session_without_its_token_and_an_old_one_is_over() {
    let model = ScriptedModel::start();
    let house = House::real(&model);
    let name = format!("lead-{}", std::process::id()); // the search above sees every process of this machine
    let _ = house.run(&["spawn", &name]).ok();
    let first = house.poll("the tools to run", DEADLINE, token_of(&name));

    let (code, message) = refusal(&says(&house, &name, None));
    assert!(code == "refused" && message.contains("only its own tools have its token"), "{code}: {message}");
    let flipped: String = first.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    for wrong in [flipped.as_str(), "", "0", &"f".repeat(4096), &first[..31]] {
        let (code, message) = refusal(&says(&house, &name, Some(wrong)));
        assert!(code == "refused" && message.contains("none of session"), "{code}: {message}");
        assert!(
            wrong.is_empty() || !message.contains(wrong) || wrong == "0",
            "a token is never repeated: {message}"
        );
    }
    let mut params = hello();
    (params["identity"], params["token"]) = (name.clone().into(), first.clone().into());
    let mut own = Socket::open(&house);
    let welcome = own.ask("hello", params);
    assert_eq!(
        (&welcome["result"]["name"], &welcome["result"]["kind"]),
        (&name.clone().into(), &"agent".into())
    );
    for forged in [json!("operator"), json!({"name": "operator", "kind": "operator"})] {
        let sent = own.ask(
            "mail/send",
            json!({"to": ["operator"], "body": "x", "from": forged, "fromKind": "operator", "sender": "operator"}),
        );
        assert!(sent["result"]["id"].is_string(), "{sent}");
    }
    // With its token it still is no operator.
    for method in ["approval/list", "relay/stop", "mail/dead", "session/up"] {
        assert_eq!(refusal(&own.ask(method, json!({}))).0, "refused", "{method}");
    }
    let inbox = Socket::hello(&house).ask("mail/list", json!({}));
    let mails = inbox["result"]["mails"].as_array().cloned().unwrap_or_default();
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().all(|mail| mail["from"] == *name && mail["fromKind"] == "agent"), "{inbox}");

    // A new child, a new token; a connection of before is fenced, too.
    let _ = house.run(&["down", &name]).ok();
    house.poll("the child to end", DEADLINE, || match token_of(&name)() {
        Ok(_) => Err("its tools still run".to_owned()),
        Err(_) => Ok(()),
    });
    let _ = house.run(&["up", &name]).ok();
    let second = house.poll("the tools to run again", DEADLINE, token_of(&name));
    assert_ne!(first, second);
    let (code, message) = refusal(&says(&house, &name, Some(&first)));
    assert!(code == "refused" && message.contains("none of session"), "{code}: {message}");
    let (code, message) = refusal(&own.ask("mail/send", json!({"to": ["operator"], "body": "too late"})));
    assert!(code == "conflict" && message.contains("was started again"), "{code}: {message}");
    own.ended();
    let left = Socket::hello(&house).ask("mail/list", json!({}));
    assert_eq!(left["result"]["mails"].as_array().map(Vec::len), Some(2), "what was refused was not done");
    // No token is kept where it could be read: the store has hashes.
    for file in ["mail.db", "mail.db-wal", "relay.log"] {
        let bytes = std::fs::read(house.bundle_dir().join(file)).unwrap_or_default();
        for token in [&first, &second] {
            assert!(!bytes.windows(32).any(|window| window == token.as_bytes()), "{file} holds a token");
        }
    }
}

/// LK-4, LK-13: a process of another user is turned away by the relay itself, should it ever get as far as the socket.
#[test]
#[allow(unsafe_code, reason = "one thread takes another user for the length of one connection")]
fn another_user_is_turned_away() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOTE: another_user_is_turned_away was not tried: only root can be another user");
        return;
    }
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let socket = house.bundle_dir().join("relay.sock");
    // The directories are what really keeps others out; they are opened here to get at the second wall.
    let places = socket.ancestors().skip(1).take_while(|place| place.starts_with(house.dir()));
    for place in places {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let said = std::thread::spawn(move || {
        // SAFETY: plain integers; the raw call changes this thread alone, which ends below.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1_i64, 65_534_i64, -1_i64) };
        assert_eq!(changed, 0, "root may be anybody");
        let mut stream = UnixStream::connect(socket).expect("the walls were opened");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout is possible");
        let mut said = String::new();
        stream.read_to_string(&mut said).map(|_| said)
    });
    let said = said.join().expect("no panic").expect("an answer");
    assert!(said.contains("this relay serves another user"), "{said}");
    std::fs::set_permissions(house.bundle_dir(), std::fs::Permissions::from_mode(0o700)).expect("ours");
    let _ = house.run(&["status"]).ok();
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(40);
