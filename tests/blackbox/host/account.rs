//! The account: without a word of its environment a command finds the state of who runs it, where the passwd entry says.
//!
//! The entry of these tests leads into the house: a private namespace of mounts has another `/etc/passwd`.

use crate::support::House;
use crate::*;
use std::process::Command;

/// A house, and how its commands get to see its passwd.
struct Account {
    house: House,
    /// The words before a command; nothing where namespaces are forbidden.
    inside: Option<Vec<String>>,
}

impl Account {
    fn new() -> Account {
        let house = House::new();
        let passwd = house.dir().join("passwd").display().to_string();
        let mount = "mount --bind \"$0\" /etc/passwd && exec \"$@\"".to_owned();
        let uid = nix::unistd::geteuid();
        // Who is no administrator is one inside a namespace of users.
        let ways = [(&["-m"][..], uid), (&["-r", "-m"], nix::unistd::Uid::from_raw(0))];
        let found = ways.into_iter().find_map(|(flags, uid)| {
            let home = house.home().display().to_string();
            std::fs::write(&passwd, format!("someone:x:{uid}:0::{home}:/bin/sh\n"))
                .expect("the house is writable");
            let mut words = vec!["unshare".to_owned()];
            words.extend(flags.iter().map(|flag| (*flag).to_owned()));
            words.extend(["sh".to_owned(), "-c".to_owned(), mount.clone(), passwd.clone()]);
            let mut probe = house.command(&words[0]);
            probe.args(&words[1..]).args(["grep", "-q", &home, "/etc/passwd"]);
            (house.call_of(probe).run().code == 0).then_some(words)
        });
        if found.is_none() {
            eprintln!(
                "NOTE: namespaces are forbidden here: the home of the passwd entry is only looked up, no relay is started by it"
            );
        }
        Account { house, inside: found }
    }

    /// A command in a directory with these variables and no others, not even those of the house.
    fn bare(&self, variables: &[(&str, &str)], dir: &Path, arguments: &[&str]) -> Ran {
        let mut words = self.inside.clone().unwrap_or_default();
        // The whole environment is named here, as after `env -i`.
        words.extend(["env".to_owned(), "-i".to_owned()]);
        words.extend(variables.iter().map(|(key, value)| format!("{key}={value}")));
        words.push(env!("CARGO_BIN_EXE_agentmux").to_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let mut command: Command = self.house.command(&words[0]);
        command.args(&words[1..]).current_dir(dir);
        self.house.call_of(command).run()
    }
}

/// BS-13, LK-13, users 10: from `env -i`, cron, a login shell or an IDE, with whatever temporary and runtime directories: one relay.
#[test]
fn without_a_home_in_the_environment_the_passwd_entry_says_where_the_relay_is() {
    let account = Account::new();
    let house = &account.house;
    let path = house.environment().into_iter().find(|(key, _)| key == "PATH").map(|(_, path)| path);
    let path = ("PATH", path.as_deref().expect("a house has one"));
    let project = house.project();
    if account.inside.is_none() {
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().expect("an entry");
        let status = account.bare(&[path], &project, &["status", "--json"]).json();
        let dir = status["relay"]["stateDir"].as_str().unwrap_or_default();
        assert!(Path::new(dir).starts_with(own.dir.join(".local/state/agentmux/bundles")), "{status}");
        return;
    }
    let _ = account.bare(&[path], &project, &["up"]).ok();
    let met = |variables: &[(&str, &str)], dir: &Path, arguments: &[&str]| {
        let status = account.bare(variables, dir, &[arguments, &["status", "--json"]].concat()).json();
        status["relay"]["pid"].as_i64()
    };
    let pid = met(&[path], &project, &[]).expect("a relay runs");
    let home = house.home().display().to_string();
    let there = ["-C", &project.display().to_string()];
    assert_eq!(met(&[path], Path::new("/"), &there), Some(pid), "-C");
    assert_eq!(met(&[path, ("HOME", &home)], &project, &[]), Some(pid), "the same home, by its variable");
    let cron: &[(&str, &str)] = &[("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh"), ("LOGNAME", "someone")];
    assert_eq!(met(cron, &project, &[]), Some(pid), "cron");
    let gone = house.dir().join("run/user/gone").display().to_string();
    for odd in ["", "relative/place", "/nowhere/at/all", "/proc", &gone] {
        let variables = &[
            path,
            ("USER", "another"),
            ("SHELL", "/bin/bash"),
            ("TMPDIR", odd),
            ("XDG_RUNTIME_DIR", odd),
            ("SSH_CONNECTION", "::1 1 ::1 22"),
        ];
        assert_eq!(met(variables, &project, &[]), Some(pid), "`{odd}`");
    }
    // What is no whole path would be another place in every directory.
    for odd in ["", "state", "./x", "~/state"] {
        let variables = &[path, ("HOME", odd), ("XDG_STATE_HOME", odd), ("XDG_CONFIG_HOME", odd)];
        assert_eq!(met(variables, &project, &[]), Some(pid), "`{odd}`");
    }
    // A command that needs the relay finds it, too, and the last one ends it.
    let inbox = account.bare(&[path], &project, &["inbox", "--json"]).json();
    assert!(inbox["mails"].is_array(), "{inbox}");
    let _ = account.bare(&[path], &project, &["down"]).ok();
    assert!(met(&[path], &project, &[]).is_none());
    let left = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert_eq!(left, "", "the one relay there was has ended, though perhaps nobody has reaped it");
}
