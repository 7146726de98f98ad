//! The relay's start: its lock, its store, its socket, in that order; and a word to whoever waits for it.
//!
//! **Invariant:** the socket's path is touched only by the holder of `relay.lock` (BS-2), and the starter hears `ready` or the
//! reason why not, never silence (BS-10, PX-7). **Invariant:** the starter's `spawn.lock`, which a spawned relay inherits, is
//! held until the relay serves or ends, also when the starter is killed: nobody starts another relay beside this one.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::Poll;
use mio::net::UnixListener;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, SFlag, umask};

use super::child::Children;
use super::clients::Clients;
use super::clock::Clock;
use super::entropy::Entropy;
use super::feed::Feed;
use super::hook::{Hook, Hooks};
use super::lap::{Fatal, Relay};
use super::names::{self, Names};
use super::orphans::Orphans;
use super::perform::Facts;
use super::resolve::environment_file;
use super::upkeep::Upkeep;
use super::{child, logfile};
use crate::boot::config::{self, UserConfig};
use crate::boot::descent;
use crate::boot::environment;
use crate::boot::filesystem;
use crate::boot::holder::Holder;
use crate::boot::lock::{self, Lock, Taken};
use crate::boot::process;
use crate::boot::program;
use crate::boot::spawn::{Outer, THIRD, close_from, given, is_open, raise_descriptor_limit};
use crate::boot::statedir::{RELAY_LOCK, SOCKET, SPAWN_LOCK, STORE, StateDir, kind, refused};
use crate::core::action::Survivor;
use crate::core::input::Input;
use crate::core::ledger::Ledger;
use crate::core::{Core, Settings};
use crate::model::clock::Millis;
use crate::model::fault::Fault;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::model::name::BundleName;
use crate::protocol::VERSION;
use crate::store::Store;

/// How a relay is started.
#[derive(Debug)]
pub struct Options {
    /// The bundle.
    pub bundle: BundleName,
    /// Where all bundles keep their state.
    pub state_root: PathBuf,
    /// The person's configuration, if it is not where it usually is.
    pub config_dir: Option<PathBuf>,
    /// Whether a relay has just been asked to leave for us, so that its lock is waited for.
    pub replace: bool,
    /// Whether a client started us and waits at descriptor 3.
    pub spawned: bool,
}

/// Runs a relay until it leaves; calls `on_ready` once it serves.
///
/// # Errors
/// Why it could not start, or that the store failed.
pub fn run(options: &Options, on_ready: impl FnOnce()) -> Result<(), Fault> {
    let signals = block_signals()?;
    Orphans::take_in();
    let mut starter = if options.spawned { Some(detach()?) } else { None };
    let signals = signal_descriptor(&signals)?;
    // Whoever starts a relay by connecting to systemd's socket, or replaces one, may hold that lock while waiting for this very process.
    let is_by_hand = !options.spawned && !options.replace && !is_activated();
    let by_hand = is_by_hand.then(|| lock_start(options)).flatten();
    match start(options, signals) {
        Ok(mut relay) => {
            tell(&mut starter, "ready\n");
            drop((starter, by_hand)); // and with them the start lock
            on_ready();
            relay.run().map_err(|Fatal(why)| {
                log::error!("{why}; leaving, nothing of this lap was released");
                Fault::io(why)
            })?;
            // The store is closed before the lock goes, so that the next relay finds it free.
            let lock = relay.lock.take();
            drop(relay);
            lock.into_iter().for_each(Lock::release);
            Ok(())
        }
        Err(fault) => {
            let line = serde_json::to_string(&fault).unwrap_or_else(|_| fault.message.clone());
            tell(&mut starter, &format!("{line}\n"));
            log::error!("start failed: {fault}");
            Err(fault)
        }
    }
}

fn start(options: &Options, signals: SignalFd) -> Result<Relay, Fault> {
    // Its own files are for nobody else, and many clients need many descriptors; children and hooks have what the person's own
    // programs have, also the soft limit, which tells a program that counts on `select` how far it may go.
    let outer = Outer {
        umask: Some(umask(Mode::from_bits_truncate(0o077)).bits()),
        descriptors: raise_descriptor_limit(limits::DESCRIPTORS_MAX),
    };
    let dir = StateDir::create(&options.state_root, &options.bundle)?;
    if let Some(fault) = filesystem::of(&dir).and_then(|found| found.refusal(dir.path())) {
        return Err(fault);
    }
    logfile::start(&dir, options.spawned)?;
    std::panic::set_hook(Box::new(|panic| {
        log::error!("a bug in agentmux: {panic}");
        std::process::exit(70);
    }));
    let config_dir = config::user_dir(options.config_dir.as_deref());
    let config = UserConfig::of(config_dir.as_deref())?;
    let (idle_exit_ms, policy, start_timeout) =
        (config.idle_exit_ms()?, config.policy()?, config.start_timeout()?);
    let mut clock = Clock::new();
    let started_at = clock.now();
    let mut lock = take_lock(&dir, options.replace, start_timeout)?;
    lock.write_text(&lock_text(started_at))
        .map_err(|error| refused(&dir.path().join(RELAY_LOCK), &error.to_string()))?;
    dir.subdirectory(child::DIRECTORY)?;
    dir.subdirectory(names::DIRECTORY)?;
    let mut store = open_store(&dir)?;
    let doubted = store.doubt_after_reboot(&process::boot_id(), started_at);
    match doubted.map_err(|error| store_fault(&dir, &error.0))? {
        0 => {}
        count => log::info!("the machine was restarted: {count} mails that were consumed last are checked"),
    }
    let ledger = store.load().map_err(|error| store_fault(&dir, &error.0))?;
    remove_leftovers(&dir, &ledger);
    dir.check_child_sockets()?;
    let (listener, socket_inode) = match options.spawned {
        false if is_activated() => (adopt_listener(&dir)?, None),
        _ => bind(&dir).map(|(listener, inode)| (listener, Some(inode)))?,
    };
    let survivors = survivors(&dir, &ledger.children.keys().copied().collect::<Vec<Nonce>>());
    let settings = Settings {
        bundle: options.bundle.clone(),
        pid: std::process::id(),
        state_root: options.state_root.display().to_string(),
        tools: tools(options, config_dir.as_deref()),
        idle_exit_ms,
        policy,
    };
    let failed = |error: std::io::Error| Fault::io(format!("the relay failed to start: {error}"));
    let mut relay = Relay {
        poll: Poll::new().map_err(failed)?,
        facts: Facts {
            bundle: options.bundle.clone(),
            root: dir.noted_root()?,
            retention_ms: config.retention_ms()?,
            child_bytes_max: config.child_bytes_max(),
            started_at,
            settings_hash: config::fingerprint(config_dir.as_deref()),
        },
        dir,
        store,
        core: Core::new(ledger, settings),
        clients: Clients::default(),
        children: Children::new(outer),
        listener,
        socket_inode,
        signals,
        lock: Some(lock),
        names: Names::default(),
        clock,
        entropy: Entropy::open().map_err(failed)?,
        inputs: Vec::new(),
        next_client: 0,
        at_the_door: false,
        leaving: false,
        watch: None,
        disk_low: None,
        upkeep: Upkeep::default(),
        feed: Feed::new(std::process::id(), started_at),
        hooks: Hooks::new(hook_of(&config), hook_environment(&options.bundle), outer),
        orphans: Orphans::default(),
        spare: std::fs::File::open("/dev/null").ok(),
    };
    relay.register().map_err(failed)?;
    log::info!("relay {VERSION} of bundle {} started, pid {}", options.bundle, std::process::id());
    relay.names.start(&relay.dir, &relay.core);
    relay.first_lap(Input::Started { survivors }).map_err(|Fatal(why)| Fault::io(why))?;
    Ok(relay)
}

/// The person's hook. One whose program is not on our PATH is left out: whoever started us may have any PATH, and mail matters more.
fn hook_of(config: &UserConfig) -> Option<Hook> {
    let found = config.hook().unwrap_or_else(|fault| {
        log::warn!("no hook is run: {}", fault.message);
        None
    });
    let config::HookProgram { program, arguments, on } = found?;
    Some(Hook { program, arguments, on })
}

/// What a run of the hook gets besides: what the relay has, the bundle, and where a desktop listens.
fn hook_environment(bundle: &BundleName) -> Vec<(String, String)> {
    let mut environment = environment::for_relay();
    environment.push(("AGENTMUX_BUNDLE".to_owned(), bundle.to_string()));
    let runtime = format!("/run/user/{}", nix::unistd::getuid());
    if Path::new(&runtime).is_dir() {
        environment.push(("XDG_RUNTIME_DIR".to_owned(), runtime));
    }
    environment
}

/// The command that gives an agent its tools: this program, told where this relay is.
fn tools(options: &Options, config_dir: Option<&Path>) -> Option<(String, Vec<String>)> {
    let program = program::own();
    let mut arguments =
        vec!["host".to_owned(), "mcp".to_owned(), "--bundle".to_owned(), options.bundle.to_string()];
    arguments.extend(["--state-dir".to_owned(), options.state_root.to_str()?.to_owned()]);
    if let Some(dir) = config_dir.and_then(Path::to_str) {
        arguments.extend(["--config-dir".to_owned(), dir.to_owned()]);
    }
    Some((program.to_str()?.to_owned(), arguments))
}

/// Leaves everything of the starter behind but the pipe: directory, descriptors. The session is new already.
///
/// # Errors
/// `usage` when nobody waits at the pipe.
fn detach() -> Result<Starter, Fault> {
    if !is_open(THIRD) {
        return Err(Fault::usage("start refused: --spawned is what a client starts its relay with")
            .hint("start one by hand: agentmux host relay"));
    }
    if let Err(error) = std::env::set_current_dir("/") {
        log::warn!("leaving the directory failed: {error}");
    }
    close_from(THIRD + 2);
    let lock = is_open(THIRD + 1).then(|| given(THIRD + 1));
    Ok(Starter { pipe: std::fs::File::from(given(THIRD)), _lock: lock })
}

/// A start by hand tells others, too, that it is under way, so that nobody says meanwhile that no relay runs. It waits for another start,
/// but not for ever: only `relay.lock` decides who serves.
fn lock_start(options: &Options) -> Option<Lock> {
    let dir = StateDir::create(&options.state_root, &options.bundle).ok()?;
    // Where the relay will refuse to be, no file is made.
    if filesystem::of(&dir).is_some_and(|found| found.refusal(dir.path()).is_some()) {
        return None;
    }
    match Lock::take(&dir, SPAWN_LOCK, Duration::from_millis(limits::RELAY_LOCK_MS)) {
        Ok(Taken::Ours(lock)) => Some(lock),
        // What is wrong with it is no reason not to serve.
        Ok(Taken::Held) | Err(_) => None,
    }
}

/// What a client that started us gave us: it waits at the pipe, and the lock tells others that a start is under way.
struct Starter {
    pipe: std::fs::File,
    _lock: Option<OwnedFd>,
}

fn tell(starter: &mut Option<Starter>, line: &str) {
    if let Some(Starter { pipe, .. }) = starter {
        // A starter that died no longer wants to know.
        let _ = pipe.write_all(line.as_bytes());
    }
}

/// SIGTERM, SIGINT, SIGHUP and SIGCHLD become readable events, from the first instruction on.
fn block_signals() -> Result<SigSet, Fault> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().map_err(|error| Fault::io(format!("the relay failed to start: signals: {error}")))?;
    Ok(set)
}

/// The descriptor that blocked signals are read from; made after inherited descriptors were closed.
fn signal_descriptor(set: &SigSet) -> Result<SignalFd, Fault> {
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    SignalFd::with_flags(set, flags)
        .map_err(|error| Fault::io(format!("the relay failed to start: signals: {error}")))
}

/// Whether anybody listens at the socket's name; a full backlog is somebody, too.
fn answers(dir: &StateDir) -> bool {
    let connected = mio::net::UnixStream::connect(dir.socket_path(SOCKET));
    connected.map_or_else(|error| error.kind() == std::io::ErrorKind::WouldBlock, |_| true)
}

fn take_lock(dir: &StateDir, replace: bool, start_timeout: Duration) -> Result<Lock, Fault> {
    if let Taken::Ours(lock) = Lock::try_take(dir, RELAY_LOCK)? {
        return Ok(lock);
    }
    // Its holder is a relay that runs, or one that is leaving. Nobody takes this lock only to look.
    let patience = Duration::from_millis(limits::RELAY_LOCK_MS).min(start_timeout / 2);
    let leaving = replace || !answers(dir);
    if leaving && let Taken::Ours(lock) = Lock::take(dir, RELAY_LOCK, patience)? {
        return Ok(lock);
    }
    let text = dir.read(RELAY_LOCK)?.unwrap_or_default();
    if let Some(holder) = Holder::parse(&text).filter(Holder::is_elsewhere) {
        let fault =
            format!("start refused: a relay of this bundle is running on another host: {}", holder.named());
        return Err(Fault::conflict(fault).hint(format!(
            "stop it there (on {}: agentmux down), or give this host a state directory of its own: --state-dir DIR",
            holder.host
        )));
    }
    if !answers(dir) {
        let holders = lock::holders(dir, RELAY_LOCK).unwrap_or_else(|| "somebody".to_owned());
        let pid = Holder::parse(&text)
            .and_then(|holder| holder.pid)
            .filter(|pid| holders.contains(&format!("pid {pid}")));
        let pid = pid.map_or("PID".to_owned(), |pid| pid.to_string());
        return Err(Fault::busy(format!(
            "start refused: {RELAY_LOCK} is held by {holders}, which does not serve"
        ))
        .hint(format!("let it go on with `kill -CONT {pid}` or end it with `kill -KILL {pid}`")));
    }
    let holder: Vec<&str> = text
        .lines()
        .filter(|line| ["pid=", "host=", "since="].iter().any(|key| line.starts_with(key)))
        .collect();
    Err(Fault::conflict(format!("start refused: a relay of this bundle is running ({})", holder.join(", "))))
}

/// What people may want to know of the lock's holder.
pub(super) fn lock_text(started_at: Millis) -> String {
    Holder::here(VERSION, started_at.rfc3339()).text()
}

fn open_store(dir: &StateDir) -> Result<Store, Fault> {
    drop(dir.file(STORE, OFlag::O_RDWR, true)?);
    for beside in ["mail.db-wal", "mail.db-journal"] {
        drop(dir.file(beside, OFlag::O_RDWR, false)?);
    }
    Store::open(&dir.through_descriptor(STORE)).map_err(|error| store_fault(dir, &error.0))
}

fn store_fault(dir: &StateDir, why: &str) -> Fault {
    Fault::io(format!("{} refused: {why}", dir.path().join(STORE).display()))
}

/// Whether systemd started this process and gave it the socket (`LISTEN_FDS`).
fn is_activated() -> bool {
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|found| found == value);
    is_open(THIRD) && is("LISTEN_PID", &std::process::id().to_string()) && is("LISTEN_FDS", "1")
}

/// Takes the socket that systemd bound: it must be the one that clients of this bundle connect to.
fn adopt_listener(dir: &StateDir) -> Result<UnixListener, Fault> {
    let path = dir.path().join(SOCKET);
    let listener = std::os::unix::net::UnixListener::from(given(THIRD));
    let address = listener
        .local_addr()
        .map_err(|error| refused(&path, &format!("systemd's socket is none: {error}")))?;
    if address.as_pathname() != Some(&path) {
        let found = address.as_pathname().map_or("no path".to_owned(), |path| path.display().to_string());
        return Err(refused(&path, &format!("systemd listens at {found}"))
            .hint("set ListenStream= to the first path"));
    }
    let mode = dir.stat(SOCKET)?.map_or(0, |stat| stat.st_mode & 0o777);
    if mode != 0o600 {
        return Err(refused(&path, &format!("its mode is {mode:04o}, not 0600")).hint("set SocketMode=0600"));
    }
    listener.set_nonblocking(true).map_err(|error| refused(&path, &error.to_string()))?;
    Ok(UnixListener::from_std(listener))
}

/// Binds the socket with mode 0600; what a dead relay left at its path is removed, because we hold the lock.
pub(super) fn bind(dir: &StateDir) -> Result<(UnixListener, u64), Fault> {
    let path = dir.path().join(SOCKET);
    if let Some(stat) = dir.stat(SOCKET)? {
        if kind(&stat) != SFlag::S_IFSOCK || stat.st_uid != nix::unistd::geteuid().as_raw() {
            return Err(refused(&path, "it is not a socket of this user"));
        }
        if answers(dir) {
            return Err(Fault::conflict(format!(
                "{} refused: somebody answers there without holding the lock",
                path.display()
            )));
        }
        dir.unlink(SOCKET);
    }
    bind_name(dir)
}

/// Binds the socket at its name, which nobody has.
fn bind_name(dir: &StateDir) -> Result<(UnixListener, u64), Fault> {
    let path = dir.path().join(SOCKET);
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = std::os::unix::net::UnixListener::bind(dir.socket_path(SOCKET));
    umask(before);
    let listener = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    let listener = listener.map_err(|error| refused(&path, &format!("it cannot be bound: {error}")))?;
    let inode = dir.stat(SOCKET)?.map_or(0, |stat| stat.st_ino);
    Ok((UnixListener::from_std(listener), inode))
}

/// Removes the socket's name if it still leads to our socket.
pub(super) fn unbind(dir: &StateDir, inode: Option<u64>) {
    if dir.stat(SOCKET).ok().flatten().is_some_and(|stat| Some(stat.st_ino) == inode) {
        dir.unlink(SOCKET);
    }
}

/// Removes files of sessions and children that the store does not know: of a spawn that a crash cut short, of a child whose
/// end was recorded just before one. Only who holds the lock and has read the store can know.
fn remove_leftovers(dir: &StateDir, ledger: &Ledger) {
    let environments = ledger.sessions.keys().map(environment_file);
    let logs = ledger.children.keys().map(|nonce| format!("{}/{nonce}.log", child::DIRECTORY));
    let known: BTreeSet<String> = environments.chain(logs).collect();
    for name in dir.names(child::DIRECTORY) {
        let name = format!("{}/{name}", child::DIRECTORY);
        let is_ours = [".env", ".env.new", ".log"].iter().any(|end| name.ends_with(end));
        if is_ours && !known.contains(&name) {
            log::info!("{name} belongs to nothing that is stored and is removed");
            dir.unlink(&name);
        }
    }
}

/// Which recorded children are still alive: found by the nonce that they carry and the socket that they serve. Their shells
/// carry the nonce too, but serve no socket of ours. A keeper whose child has ended counts until it has, too.
fn survivors(dir: &StateDir, nonces: &[Nonce]) -> Vec<Survivor> {
    if nonces.is_empty() {
        return Vec::new();
    }
    let found = descent::serving(dir.path()).into_iter().filter(|(nonce, _)| nonces.contains(nonce));
    found.map(|(nonce, pid)| Survivor { nonce, pid }).collect()
}
