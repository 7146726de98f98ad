//! Which file system a directory is on, and whether the state of a bundle may live there.
//!
//! **Invariant:** the store's log and the two flocks are trusted only where one kernel sees every write; a file system that
//! is served by somebody else is refused before anything is opened on it.
//!
//! Deliberately absent: writing to find out. A file system that answers a probe today may lose a lock tomorrow.

use std::os::fd::{AsFd, AsRawFd};

use crate::model::fault::Fault;

/// What a bundle's state may expect of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A disk of this machine.
    Local,
    /// Of this machine, but gone with a reboot or with its container.
    Passing,
    /// Of a cluster, a hypervisor or a program that we do not know.
    Doubtful,
    /// Served by another machine or kernel; the relay refuses it.
    Remote,
}

/// A file system, by the name that the kernel has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Such as `ext4`, `nfs4`, `9p` or `fuse.sshfs`.
    pub kind: String,
    /// What may be expected of it.
    pub trust: Trust,
}

/// Numbers of `statfs`, for when the table of mounts cannot be read.
const MAGIC: &[(i64, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smbfs"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x564c, "ncpfs"),
    (0x7375_7245, "coda"),
    (0x786f_4256, "vboxsf"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
];

const REMOTE: &[&str] = &[
    "nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "v9fs", "drvfs", "afs", "ncpfs",
    "coda", "davfs", "vboxsf", "vmhgfs", "prl_fs", "osxfs", "grpcfuse",
];
/// Programs behind `fuse.NAME` that serve what is elsewhere.
const REMOTE_FUSE: &[&str] = &[
    "sshfs",
    "rclone",
    "s3fs",
    "gcsfuse",
    "blobfuse",
    "davfs",
    "curlftpfs",
    "smbnetfs",
    "gvfsd-fuse",
    "kio-fuse",
    "vmhgfs-fuse",
    "osxfs",
    "grpcfuse",
    "portal",
];
const DOUBTFUL: &[&str] = &[
    "fuse",
    "fuseblk",
    "virtiofs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "ocfs2",
    "gfs2",
    "glusterfs",
    "orangefs",
    "vfat",
    "exfat",
    "msdos",
    "ntfs",
    "ntfs3",
];
const PASSING: &[&str] = &["tmpfs", "ramfs", "overlay", "aufs"];

/// The file system that an open directory is on; `None` when the kernel does not say.
pub fn of(dir: impl AsFd) -> Option<FileSystem> {
    let stat = nix::sys::statfs::fstatfs(&dir).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_fd().as_raw_fd()));
    let info = info.unwrap_or_default();
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let line = mount.and_then(|id| table.lines().find(|line| line.split(' ').next() == Some(id)));
    #[allow(clippy::unnecessary_cast, reason = "the width of the number is the platform's")]
    Some(judge(stat.filesystem_type().0 as i64, line))
}

/// Judges by a line of the table of mounts, or without one by the number of `statfs`.
pub fn judge(magic: i64, line: Option<&str>) -> FileSystem {
    let by_number = || {
        let magic = magic & 0xffff_ffff;
        let known = MAGIC.iter().find(|(number, _)| *number == magic);
        known.map_or_else(|| format!("{magic:#x}"), |(_, kind)| (*kind).to_owned())
    };
    let Some((kind, options)) = line.and_then(mounted) else {
        let kind = by_number();
        return FileSystem { trust: trust(&kind), kind };
    };
    // Windows' drives inside WSL 2 are 9p, and say what they really are.
    let is_drive = options.contains("aname=drvfs") || options.contains("drvfs;");
    let kind = if is_drive { format!("{kind} (drvfs)") } else { kind.to_owned() };
    FileSystem { trust: if is_drive { Trust::Remote } else { trust(&kind) }, kind }
}

/// Kind and options of a line such as `36 35 98:0 / /home rw shared:1 - nfs4 host:/home rw,vers=4.2`.
fn mounted(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_once(" - ")?.1.splitn(3, ' ');
    let kind = words.next().filter(|kind| !kind.is_empty())?;
    Some((kind, words.nth(1).unwrap_or_default()))
}

fn trust(kind: &str) -> Trust {
    let program = kind.strip_prefix("fuse.");
    if REMOTE.contains(&kind) || program.is_some_and(|program| REMOTE_FUSE.contains(&program)) {
        Trust::Remote
    } else if program.is_some() || DOUBTFUL.contains(&kind) {
        Trust::Doubtful
    } else if PASSING.contains(&kind) {
        Trust::Passing
    } else {
        Trust::Local
    }
}

impl FileSystem {
    /// Why no state may be kept in `dir`, if so.
    pub fn refusal(&self, dir: &std::path::Path) -> Option<Fault> {
        let fault = Fault::io(format!(
            "{} refused: it is on a remote file system ({}), where neither locks nor the store's log can be relied upon",
            dir.display(),
            self.kind
        ));
        let hint = "keep the state on a local disk: --state-dir DIR, or AGENTMUX_STATE_DIR=DIR";
        (self.trust == Trust::Remote).then(|| fault.hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_of_mounts_decides() {
        let table = [
            ("ext4 /dev/vda rw", "ext4", Trust::Local),
            ("btrfs /dev/sda2 rw,subvol=/home", "btrfs", Trust::Local),
            ("zfs tank/home rw", "zfs", Trust::Local),
            ("tmpfs tmpfs rw,size=1g", "tmpfs", Trust::Passing),
            ("overlay overlay rw,lowerdir=/a", "overlay", Trust::Passing),
            ("nfs4 filer:/home rw,vers=4.2", "nfs4", Trust::Remote),
            ("nfs filer:/home rw,vers=3,local_lock=all", "nfs", Trust::Remote),
            ("cifs //filer/home rw", "cifs", Trust::Remote),
            ("smb3 //filer/home rw", "smb3", Trust::Remote),
            ("9p hostshare rw,trans=virtio", "9p", Trust::Remote),
            (r"9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000", "9p (drvfs)", Trust::Remote),
            (r"drvfs C: rw", "drvfs", Trust::Remote),
            ("fuse.sshfs me@host: rw,user_id=1000", "fuse.sshfs", Trust::Remote),
            ("fuse.rclone remote: rw", "fuse.rclone", Trust::Remote),
            ("fuse.mergerfs a:b rw", "fuse.mergerfs", Trust::Doubtful),
            ("virtiofs home rw", "virtiofs", Trust::Doubtful),
            ("ceph 10.0.0.1:/ rw", "ceph", Trust::Doubtful),
        ];
        for (mount, kind, trust) in table {
            let line = format!("36 35 98:0 / /home rw,noatime shared:1 - {mount}");
            assert_eq!(judge(0, Some(&line)), FileSystem { kind: kind.to_owned(), trust }, "{mount}");
        }
    }

    #[test]
    fn without_a_line_the_number_decides() {
        let table = [
            (0xef53, "0xef53", Trust::Local),
            (0x6969, "nfs", Trust::Remote),
            (0xff53_4d42, "cifs", Trust::Remote),
            // Where the number is 32 bits wide it is negative.
            (i64::from(0xff53_4d42_u32 as i32), "cifs", Trust::Remote),
            (0x0102_1997, "9p", Trust::Remote),
            (0x6573_5546, "fuse", Trust::Doubtful),
            (0x0102_1994, "tmpfs", Trust::Passing),
        ];
        for (magic, kind, trust) in table {
            for line in [None, Some("garbage"), Some("1 2 3 - ")] {
                assert_eq!(
                    judge(magic, line),
                    FileSystem { kind: kind.to_owned(), trust },
                    "{magic:#x} {line:?}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_the_directory_the_kind_and_the_way_out() {
        let of = |kind: &str, trust| FileSystem { kind: kind.to_owned(), trust }.refusal("/srv/x".as_ref());
        let fault = of("nfs4", Trust::Remote).unwrap();
        assert!(fault.message.starts_with("/srv/x refused: ") && fault.message.contains("(nfs4)"), "{fault}");
        assert!(fault.code.exit() == 74 && fault.hint.unwrap().contains("--state-dir DIR"));
        assert!(of("ext4", Trust::Local).is_none() && of("ceph", Trust::Doubtful).is_none());
    }

    /// The directory of this process's own `/proc` is on `proc`, by its mount's id.
    #[test]
    fn the_mount_of_an_open_directory_is_found() {
        let dir = std::fs::File::open("/proc/self").unwrap();
        assert_eq!(of(&dir).unwrap().kind, "proc");
    }
}
