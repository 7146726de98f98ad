//! Runs a command of ours under ptrace and stops it, or the relay that it starts, before any one of its system calls.
//!
//! System calls are all that other processes can see of a process, so whoever has stopped before each of them has stopped at
//! every step that there is. Nothing in the traced program knows of it.
//!
//! **Invariant:** what is traced dies with the tracer (`PTRACE_O_EXITKILL`). **Invariant:** the tracer waits for tracees of its
//! own thread only, so that others may trace at the same time; that thread has no other child that it has not waited for.
//!
//! Deliberately absent: threads (neither process has a second one while a relay starts), and the outcome of a call: to stop
//! after a call is to stop before the next one.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Which process of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The command that was run.
    Client,
    /// What it started.
    Relay,
}

/// A process is about to make a system call.
#[derive(Debug, Clone)]
pub struct Boundary {
    /// Which process.
    pub role: Role,
    /// How many calls this process has made before.
    pub number: usize,
    /// The call's name, or its number for one that has no part in a start.
    pub call: String,
    /// The file, socket or program that it names; empty when it names none.
    pub object: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed(Signal),
}

/// A traced command, and the relay that it starts.
#[derive(Debug)]
pub struct Traced {
    client: Pid,
    relay: Option<Pid>,
    /// Whoever is traced at this moment.
    tracees: HashSet<Pid>,
    calls: [usize; 2],
    /// Who is stopped before a call at this moment.
    stopped: Option<Pid>,
    ends: Vec<(Pid, End)>,
}

/// What the kernel tells of a tracee; all but the last leave it stopped.
enum Stop {
    /// It has just been started.
    New(Pid),
    /// It is entering a system call, or leaving one.
    Call(Pid),
    /// It is about to get a signal.
    Signal(Pid, Signal),
    /// It has done something that we have asked to be told.
    Event(Pid),
    /// It has ended.
    Ended,
}

impl Traced {
    /// Starts a command, stopped before its first system call; the child is for its streams only.
    ///
    /// # Errors
    /// `EPERM` where tracing is forbidden (in some containers), or why the program cannot be started.
    #[allow(unsafe_code, reason = "one system call between fork and exec, which is async-signal-safe")]
    pub fn start(mut command: Command) -> io::Result<(Traced, Child)> {
        // SAFETY: see above; nothing else happens in the forked child.
        unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
        let child = command.spawn()?;
        let client = Pid::from_raw(child.id() as i32);
        // A tracee stops by itself when its program is there.
        waitpid(client, Some(WaitPidFlag::__WALL))?;
        let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACEEXEC;
        ptrace::setoptions(client, follow | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
        let traced = Traced {
            client,
            relay: None,
            tracees: HashSet::from([client]),
            calls: [0; 2],
            stopped: Some(client),
            ends: Vec::new(),
        };
        Ok((traced, child))
    }

    /// The process of a role, if it was started.
    pub fn pid(&self, role: Role) -> Option<u32> {
        self.process(role).map(|pid| pid.as_raw() as u32)
    }

    /// How the process of a role has ended.
    pub fn end(&self, role: Role) -> Option<End> {
        let pid = self.process(role)?;
        self.ends.iter().find(|(ended, _)| *ended == pid).map(|(_, end)| *end)
    }

    /// Runs both on until one of them is about to make a system call that is wanted; `None` when the client has ended first.
    pub fn run_until(&mut self, mut is_wanted: impl FnMut(&Boundary) -> bool) -> Option<Boundary> {
        self.go_on();
        while self.end(Role::Client).is_none() {
            match self.next()? {
                Stop::Call(pid) => match self.boundary(pid).filter(&mut is_wanted) {
                    None => self.resume(pid, None),
                    wanted => {
                        self.stopped = Some(pid);
                        return wanted;
                    }
                },
                Stop::New(pid) | Stop::Event(pid) => self.resume(pid, None),
                Stop::Signal(pid, signal) => self.resume(pid, Some(signal)),
                Stop::Ended => {}
            }
        }
        None
    }

    /// Sends a signal to the process of a role. SIGKILL comes before the call that it is stopped at, all others after it.
    pub fn signal(&self, role: Role, signal: Signal) {
        if let Some(pid) = self.process(role).filter(|pid| self.tracees.contains(pid)) {
            let _ = kill(pid, signal);
        }
    }

    /// Runs both until the processes of these roles have ended; a relay that is started meanwhile is none of ours.
    pub fn run_to_the_end(&mut self, roles: &[Role]) {
        self.go_on();
        let runs = |traced: &Traced, role: &Role| {
            traced.process(*role).is_some_and(|pid| traced.tracees.contains(&pid))
        };
        while roles.iter().any(|role| runs(self, role)) {
            match self.next() {
                None => return,
                Some(Stop::New(pid)) => self.let_go(pid, None),
                Some(Stop::Call(pid) | Stop::Event(pid)) => self.resume(pid, None),
                Some(Stop::Signal(pid, signal)) => self.resume(pid, Some(signal)),
                Some(Stop::Ended) => {}
            }
        }
    }

    /// Traces nobody any longer; the process of one role may be left stopped, all others go on.
    pub fn release(mut self, stopped: Option<Role>) {
        let stays = stopped.and_then(|role| self.process(role));
        // Only who is stopped can be let go. A signal stops also who waits in the kernel, and is not delivered in the end.
        for pid in &self.tracees {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        self.go_on();
        while !self.tracees.is_empty() {
            match self.next() {
                None => return,
                Some(Stop::New(pid)) => self.let_go(pid, None),
                Some(Stop::Signal(pid, Signal::SIGSTOP)) => {
                    self.let_go(pid, Some(Signal::SIGSTOP).filter(|_| stays == Some(pid)));
                }
                Some(Stop::Call(pid) | Stop::Event(pid)) => self.resume(pid, None),
                Some(Stop::Signal(pid, signal)) => self.resume(pid, Some(signal)),
                Some(Stop::Ended) => {}
            }
        }
    }

    fn process(&self, role: Role) -> Option<Pid> {
        match role {
            Role::Client => Some(self.client),
            Role::Relay => self.relay,
        }
    }

    /// Waits for the next thing that happens to a tracee; `None` when there are none.
    fn next(&mut self) -> Option<Stop> {
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::PtraceSyscall(pid)) => return Some(Stop::Call(pid)),
                Ok(WaitStatus::PtraceEvent(pid, ..)) => return Some(Stop::Event(pid)),
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    // The first stop of a process is the kernel's, not a signal that somebody has sent.
                    if self.tracees.insert(pid) {
                        self.relay = self.relay.or(Some(pid));
                        return Some(Stop::New(pid));
                    }
                    return Some(Stop::Signal(pid, signal));
                }
                Ok(WaitStatus::Exited(pid, code)) => return Some(self.ended(pid, End::Exited(code))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    return Some(self.ended(pid, End::Killed(signal)));
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn ended(&mut self, pid: Pid, end: End) -> Stop {
        self.tracees.remove(&pid);
        self.ends.push((pid, end));
        Stop::Ended
    }

    /// Lets the one go on that is stopped before a call.
    fn go_on(&mut self) {
        if let Some(pid) = self.stopped.take() {
            self.resume(pid, None);
        }
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // One that was killed meanwhile is told by its end.
        let _ = ptrace::syscall(pid, signal);
    }

    fn let_go(&mut self, pid: Pid, signal: Option<Signal>) {
        let _ = ptrace::detach(pid, signal);
        self.tracees.remove(&pid);
    }

    /// What a process that is stopped at a call is about to do; `None` when it is leaving the call.
    #[allow(unsafe_code, reason = "a union of the kernel's, told apart by its tag")]
    fn boundary(&mut self, pid: Pid) -> Option<Boundary> {
        let info =
            ptrace::syscall_info(pid).ok().filter(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)?;
        // SAFETY: the tag says that this is the member which the kernel has filled in.
        let entry = unsafe { info.u.entry };
        let role = match pid {
            pid if pid == self.client => Role::Client,
            pid if Some(pid) == self.relay => Role::Relay,
            _ => return None,
        };
        let number = self.calls[role as usize];
        self.calls[role as usize] += 1;
        let known = CALLS.iter().find(|(call, ..)| *call == entry.nr as i64);
        let call =
            known.map_or_else(|| format!("system call {}", entry.nr), |(_, name, _)| (*name).to_owned());
        let object = known.and_then(|(.., operand)| operand.read(pid, &entry.args)).unwrap_or_default();
        Some(Boundary { role, number, call, object })
    }
}

/// What a call works on, by the place of its argument.
#[derive(Clone, Copy)]
enum Operand {
    Descriptor(usize),
    Path(usize),
    Address(usize),
    None,
}

/// The calls that matter in a start and exist on every architecture. Others are shown by their number.
const CALLS: &[(i64, &str, Operand)] = &[
    (libc::SYS_accept4, "accept4", Operand::Descriptor(0)),
    (libc::SYS_bind, "bind", Operand::Address(1)),
    (libc::SYS_brk, "brk", Operand::None),
    (libc::SYS_clone, "clone", Operand::None),
    (libc::SYS_clone3, "clone3", Operand::None),
    (libc::SYS_close, "close", Operand::Descriptor(0)),
    (libc::SYS_connect, "connect", Operand::Address(1)),
    (libc::SYS_execve, "execve", Operand::Path(0)),
    (libc::SYS_exit_group, "exit_group", Operand::None),
    (libc::SYS_fchmod, "fchmod", Operand::Descriptor(0)),
    (libc::SYS_fcntl, "fcntl", Operand::Descriptor(0)),
    (libc::SYS_fdatasync, "fdatasync", Operand::Descriptor(0)),
    (libc::SYS_flock, "flock", Operand::Descriptor(0)),
    (libc::SYS_fsync, "fsync", Operand::Descriptor(0)),
    (libc::SYS_ftruncate, "ftruncate", Operand::Descriptor(0)),
    (libc::SYS_listen, "listen", Operand::Descriptor(0)),
    (libc::SYS_lseek, "lseek", Operand::Descriptor(0)),
    (libc::SYS_mkdirat, "mkdirat", Operand::Path(1)),
    (libc::SYS_mmap, "mmap", Operand::None),
    (libc::SYS_openat, "openat", Operand::Path(1)),
    (libc::SYS_pipe2, "pipe2", Operand::None),
    (libc::SYS_pread64, "pread64", Operand::Descriptor(0)),
    (libc::SYS_pwrite64, "pwrite64", Operand::Descriptor(0)),
    (libc::SYS_read, "read", Operand::Descriptor(0)),
    (libc::SYS_readlinkat, "readlinkat", Operand::Path(1)),
    (libc::SYS_recvfrom, "recvfrom", Operand::Descriptor(0)),
    (libc::SYS_renameat2, "renameat2", Operand::Path(1)),
    (libc::SYS_rt_sigaction, "rt_sigaction", Operand::None),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", Operand::None),
    (libc::SYS_sendto, "sendto", Operand::Descriptor(0)),
    (libc::SYS_setsid, "setsid", Operand::None),
    (libc::SYS_setsockopt, "setsockopt", Operand::Descriptor(0)),
    (libc::SYS_signalfd4, "signalfd4", Operand::None),
    (libc::SYS_socket, "socket", Operand::None),
    (libc::SYS_statx, "statx", Operand::Path(1)),
    (libc::SYS_unlinkat, "unlinkat", Operand::Path(1)),
    (libc::SYS_write, "write", Operand::Descriptor(0)),
    (libc::SYS_writev, "writev", Operand::Descriptor(0)),
];

impl Operand {
    fn read(self, pid: Pid, arguments: &[u64; 6]) -> Option<String> {
        let bytes = match self {
            Operand::None => return None,
            Operand::Descriptor(at) => {
                let link = std::fs::read_link(format!("/proc/{pid}/fd/{}", arguments[at] as i32)).ok()?;
                return Some(link.display().to_string());
            }
            Operand::Path(at) => memory(pid, arguments[at])?,
            // The family comes before the path.
            Operand::Address(at) => memory(pid, arguments[at].checked_add(2)?)?,
        };
        let text = bytes.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The beginning of what a process has at an address.
fn memory(pid: Pid, address: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 256];
    let count = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?.read_at(&mut bytes, address).ok()?;
    bytes.truncate(count);
    Some(bytes)
}
