//! The file system that a bundle's state is on: what another machine serves is refused before anything is made there, and what is of
//! this machine is not, however unusual. In a namespace of mounts of the test's own.

use crate::support::House;
use crate::*;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// Plays a test in a thread with mounts of its own, which its commands share; says so where that is forbidden.
fn with_own_mounts(play: impl FnOnce() + Send) {
    let played = std::thread::scope(|scope| {
        let inside = || {
            // Another thread than the caller's, which stays where it is.
            if let Err(error) = unshare_mounts() {
                eprintln!(
                    "NOTE: mounting is forbidden here ({error}): only the judgement of kinds is tested"
                );
                return;
            }
            play();
        };
        scope.spawn(inside).join()
    });
    played.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[allow(unsafe_code, reason = "unshare has no pointers")]
fn unshare_mounts() -> std::io::Result<()> {
    // SAFETY: the call changes what this thread sees of the mounts, and nothing in memory.
    match unsafe { libc::unshare(libc::CLONE_NEWNS) } {
        0 => mount("none", Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, ""),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[allow(unsafe_code, reason = "mount takes texts that end in NUL")]
fn mount(source: &str, target: &Path, kind: Option<&str>, flags: u64, options: &str) -> std::io::Result<()> {
    let text = |text: &str| CString::new(text).expect("no NUL");
    let (source, target) = (text(source), text(target.to_str().expect("UTF-8")));
    let (kind, options) = (kind.map(text), text(options));
    let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
    // SAFETY: all texts live until the call is over.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, options.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Users 10: two machines with one home must not have two relays on one store, so a file system that another one serves is refused, by its
/// kind, and nothing is made on it. The mount is real; behind it is a server that has one empty directory.
#[test]
fn state_on_a_file_system_that_another_machine_serves_is_refused() {
    let house = House::new();
    let _ = house.run(&["up"]).ok();
    let _ = house.run(&["down"]).ok();
    with_own_mounts(|| {
        let served = match Served::at(&house.bundle_dir(), "fuse.sshfs") {
            Ok(served) => served,
            Err(error) => return eprintln!("NOTE: FUSE is not to be had here ({error})"),
        };
        let ran = house.run(&["host", "relay"]).fails(74);
        let dir = house.bundle_dir();
        assert!(ran.stderr.contains(&format!("{} refused: ", dir.display())), "{}", ran.evidence());
        assert!(ran.stderr.contains("fuse.sshfs") && ran.stderr.contains("hint: "), "{}", ran.evidence());
        let doctor = house.run(&["doctor", "--json"]);
        assert!(doctor.stdout.contains("fuse.sshfs"), "{}", doctor.evidence());
        assert_eq!(house.processes(), Vec::<i32>::new());
        assert_eq!(served.asked_to_change(), Vec::<u32>::new(), "nothing was made");
    });
    // Where this process sees the disk itself, all is well.
    let _ = house.run(&["up"]).ok();
}

/// A container's own layers and a RAM disk are of this machine: they are served, however they pass away.
#[test]
fn state_on_a_ram_disk_or_in_the_layers_of_a_container_is_not_refused() {
    // Made outside, as what clears them up is.
    let houses = [("tmpfs", House::new()), ("overlay", House::new())];
    with_own_mounts(|| {
        for (kind, house) in &houses {
            let (kind, house) = (*kind, house);
            let (state, layers) = (house.state_dir(), house.dir().join("layers"));
            let mounted = if kind == "tmpfs" {
                mount("none", &state, Some(kind), 0, "mode=0700")
            } else {
                fs::create_dir(&layers).expect("the house is writable");
                mount("none", &layers, Some("tmpfs"), 0, "mode=0700").and_then(|()| {
                    let part = |name: &str| {
                        let dir = layers.join(name);
                        fs::create_dir(&dir).expect("ours");
                        dir.display().to_string()
                    };
                    let (lower, upper, work) = (part("lower"), part("upper"), part("work"));
                    mount(
                        "none",
                        &state,
                        Some(kind),
                        0,
                        &format!("lowerdir={lower},upperdir={upper},workdir={work}"),
                    )
                })
            };
            if let Err(error) = mounted {
                eprintln!("NOTE: {kind} cannot be mounted here ({error})");
                continue;
            }
            let id = mail_to_operator(house, "kept");
            house.kill_nine(house.relay_pid().expect("a relay runs"));
            assert_eq!(self::state(house, &id), "queued", "{kind}");
            assert!(house.run(&["doctor", "--json"]).stdout.contains(kind), "it was really mounted");
            let _ = house.run(&["down"]).ok();
        }
    });
}

/// A FUSE file system that answers for one empty directory, as sshfs would for one on another machine, and forbids everything else.
struct Served {
    asked: std::sync::Arc<std::sync::Mutex<Vec<u32>>>,
}

impl Served {
    fn at(dir: &Path, kind: &str) -> std::io::Result<Served> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let options = format!("fd={},rootmode=40700,user_id={uid},group_id={gid}", device.as_raw_fd());
        mount("elsewhere:/home", dir, Some(kind), libc::MS_NOSUID | libc::MS_NODEV, &options)?;
        let served = Served { asked: std::sync::Arc::default() };
        let asked = served.asked.clone();
        // Ends when the last process of the namespace has gone, and with it the mount.
        std::thread::spawn(move || serve(device, &asked));
        Ok(served)
    }

    /// The numbers of what it was asked to do beside looking.
    fn asked_to_change(&self) -> Vec<u32> {
        const LOOKING: &[u32] =
            &[LOOKUP, FORGET, GETATTR, STATFS, GETXATTR, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS, STATX];
        let asked = self.asked.lock().expect("nobody panics with it");
        asked.iter().copied().filter(|what| !LOOKING.contains(what)).collect()
    }
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const GETXATTR: u32 = 22;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const ACCESS: u32 = 34;
const STATX: u32 = 52;

/// Requests begin with length, number, id, node and asker (40 bytes), answers with length, error and id (16 bytes); `linux/fuse.h`.
fn serve(mut device: File, asked: &std::sync::Mutex<Vec<u32>>) {
    let mut request = vec![0; 1 << 17];
    while let Ok(length @ 40..) = device.read(&mut request) {
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let (what, id) = (number(4), request[8..16].to_owned());
        assert!(length >= 40);
        asked.lock().expect("nobody panics with it").push(what);
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let (error, body) = match what {
            FORGET => continue,
            INIT => (0, words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            GETATTR => {
                let mut attributes = vec![0; 26];
                attributes[4] = 1; // the inode
                (attributes[19], attributes[20]) = (0o040_700, 2); // a directory of its owner's
                (attributes[21], attributes[22]) =
                    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                (0, words(&attributes))
            }
            OPENDIR => (0, words(&[0; 4])),
            STATFS => {
                let mut numbers = vec![0; 20];
                (numbers[0], numbers[2], numbers[4]) = (1 << 20, 1 << 20, 1 << 20); // blocks: all, free, for us
                (numbers[10], numbers[11], numbers[12]) = (4096, 255, 4096);
                (0, words(&numbers))
            }
            READDIR | RELEASEDIR => (0, Vec::new()),
            LOOKUP => (libc::ENOENT, Vec::new()),
            _ => (libc::ENOSYS, Vec::new()),
        };
        let mut answer = words(&[16 + body.len() as u32, (-error).cast_unsigned()]);
        answer.extend(id);
        answer.extend(body);
        let _ = device.write_all(&answer);
    }
}
