//! What a lock's text says of its holder: which process of which host, and since when.
//!
//! **Invariant:** the text is for people. Who holds a lock is the kernel's business; the text only says whether the pid in it
//! means anything on this host.

use super::process;

/// The holder of a lock, as it wrote itself down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process, on its own host.
    pub pid: Option<u32>,
    /// When that process was started, in clock ticks since boot.
    pub start: Option<u64>,
    /// The boot of its host.
    pub boot: String,
    /// The name of its host.
    pub host: String,
    /// What tells two hosts of one name apart: the machine's id, empty where there is none.
    pub machine: String,
    /// Its program version.
    pub version: String,
    /// Since when it holds the lock.
    pub since: String,
}

impl Holder {
    /// This process.
    pub fn here(version: &str, since: String) -> Holder {
        let pid = std::process::id();
        Holder {
            pid: Some(pid),
            start: process::start_ticks(pid),
            boot: process::boot_id(),
            host: process::host_name(),
            machine: process::machine_id(),
            version: version.to_owned(),
            since,
        }
    }

    /// Reads a lock's text; `None` for that of a lock that was let go.
    pub fn parse(text: &str) -> Option<Holder> {
        if text.trim().is_empty() {
            return None;
        }
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
        };
        Some(Holder {
            pid: value("pid").parse().ok(),
            start: value("start").parse().ok(),
            boot: value("boot").to_owned(),
            host: value("host").to_owned(),
            machine: value("machine").to_owned(),
            version: value("version").to_owned(),
            since: value("since").to_owned(),
        })
    }

    /// The lock's text.
    pub fn text(&self) -> String {
        let Holder { boot, host, machine, version, since, .. } = self;
        let (pid, start) = (self.pid.unwrap_or(0), self.start.unwrap_or(0));
        format!(
            "pid={pid}\nstart={start}\nboot={boot}\nhost={host}\nmachine={machine}\nversion={version}\nsince={since}\n"
        )
    }

    /// Whether its pid means nothing here: it is of another machine, or of a container with a name of its own.
    pub fn is_elsewhere(&self) -> bool {
        self.differs_from(&process::host_name(), &process::machine_id())
    }

    /// Whether the process that wrote the text still runs on this host.
    pub fn is_alive_here(&self) -> bool {
        let is_it = |pid: u32| process::start_ticks(pid) == self.start && !process::is_zombie(pid);
        !self.is_elsewhere()
            && self.boot == process::boot_id()
            && self.start.is_some()
            && self.pid.is_some_and(is_it)
    }

    /// Who it is, for a sentence.
    pub fn named(&self) -> String {
        let pid = self.pid.map_or("unknown".to_owned(), |pid| pid.to_string());
        let since = if self.since.is_empty() { "unknown" } else { &self.since };
        let place = if self.is_elsewhere() { format!(" on host {}", self.place()) } else { String::new() };
        let stopped = if self.is_stopped() { " (stopped)" } else { "" };
        format!("pid {pid}{stopped}{place} (running since {since})")
    }

    /// Whether it runs on this host and is stopped (`SIGSTOP`, ^Z).
    pub fn is_stopped(&self) -> bool {
        self.is_alive_here() && self.pid.is_some_and(process::is_stopped)
    }

    /// Its host, for a sentence; two hosts of one name are told apart.
    pub fn place(&self) -> String {
        if self.host == process::host_name() {
            format!("{} (machine {})", self.host, self.machine)
        } else {
            self.host.clone()
        }
    }

    /// A text that does not say where its holder is counts as one from here.
    fn differs_from(&self, host: &str, machine: &str) -> bool {
        let differs = |theirs: &str, ours: &str| !theirs.is_empty() && !ours.is_empty() && theirs != ours;
        differs(&self.host, host) || differs(&self.machine, machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let here = Holder::here("1.2.3", "2026-01-01T00:00:00.000Z".to_owned());
        assert_eq!(Holder::parse(&here.text()).unwrap(), here);
        assert!(here.is_alive_here() && !here.is_elsewhere());
        assert_eq!(Holder::parse("\n"), None);
    }

    /// LK-9: two hosts of one name are two; a text that does not say is taken for ours, as the flock itself is.
    #[test]
    fn another_machine_or_another_name_is_elsewhere() {
        let of = |host: &str, machine: &str| {
            let text = format!("pid=1\nhost={host}\nmachine={machine}\n");
            Holder::parse(&text).unwrap().differs_from("a", "m1")
        };
        let table =
            [("a", "m1", false), ("a", "m2", true), ("b", "m1", true), ("a", "", false), ("", "", false)];
        for (host, machine, wanted) in table {
            assert_eq!(of(host, machine), wanted, "{host} {machine}");
        }
    }

    /// LK-6, PX-9: garbage is nobody, not an error.
    #[test]
    fn garbage_names_nobody() {
        let holder = Holder::parse("pid=-1\nstart=x\ngarbage").unwrap();
        assert!(holder.pid.is_none() && !holder.is_alive_here());
        assert_eq!(holder.named(), "pid unknown (running since unknown)");
        // LK-6: to kill() these two would mean a whole group, or everybody.
        let here = Holder::here("1", "now".to_owned());
        for pid in [0, u32::MAX] {
            for start in [None, here.start] {
                let holder = Holder { pid: Some(pid), start, ..Holder::here("1", "now".to_owned()) };
                assert!(!holder.is_alive_here() && !holder.is_stopped(), "{pid} {start:?}");
            }
        }
    }
}
