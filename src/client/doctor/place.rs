//! Where the bundle is: its name and root, the directory of its state, the file system below that, and what is free on it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Finding, Patient, word};
use crate::boot::filesystem::{self, Trust};
use crate::boot::project::PROJECT_FILE;
use crate::boot::statedir::SOCKET;
use crate::model::limits;

pub fn bundle(patient: &Patient) -> Option<Finding> {
    let bundle = &patient.target.bundle;
    let (name, root) = (&bundle.name, bundle.root.display().to_string());
    let what = format!("{name} at {root} (by {})", bundle.rule);
    let known = patient.dir().and_then(|dir| dir.noted_root().ok().flatten());
    let finding = match known.as_ref().map(|known| known.path.as_str()) {
        Some(known) if known != root && bundle.rule == PROJECT_FILE => {
            Finding::fail(format!("bundle {name} belongs to {known}, not to {root}"))
                .detail("two projects must not meet by accident; give one of them another name")
                .fix(format!("${{EDITOR:-vi}} {}", word(&bundle.root.join(PROJECT_FILE))))
        }
        Some(known) if !Path::new(known).is_dir() => {
            Finding::warning(format!("the project of bundle {name} is gone: {known}"))
                .detail("its state and its mail are kept until somebody removes them")
                .fix(patient.command("down"))
        }
        Some(known) if known != root => {
            Finding::ok(what).detail(format!("it was first used at {known}; {} chose it here", bundle.rule))
        }
        _ => Finding::ok(what),
    };
    Some(finding)
}

pub fn address(patient: &Patient) -> Option<Finding> {
    let dir = patient.target.dir();
    let bytes = dir.join(SOCKET).as_os_str().len();
    let what = format!("{} (by {})", dir.display(), patient.state_rule);
    let finding = match &patient.dir {
        Ok(Some(_)) => Finding::ok(what),
        Ok(None) => Finding::ok(format!("{what}, not created yet")),
        // What is wrong with it is told under `files`.
        Err(_) => Finding::ok(what),
    };
    let most = limits::SOCKET_PATH_BYTES_MAX;
    let length = if bytes <= most {
        format!("its socket's path has {bytes} bytes, of {most} that an address takes everywhere")
    } else {
        format!(
            "its socket's path has {bytes} bytes, more than the {most} of an address; agentmux reaches it through the directory"
        )
    };
    let follows = "it depends on the account and the project, not on TMPDIR or a runtime directory";
    Some(finding.detail(length).detail(follows))
}

pub fn filesystem(patient: &Patient) -> Option<Finding> {
    let place = nearest(&patient.target.dir());
    let Some(found) = File::open(&place).ok().and_then(filesystem::of) else {
        return Some(Finding::ok(format!("the system does not tell what {} is on", place.display())));
    };
    let kind = &found.kind;
    if let Some(fault) = found.refusal(&patient.target.dir()) {
        return Some(
            Finding::fail(fault.message)
                .detail("the relay refuses to start there; any local directory that nobody else may enter will do")
                .fix(move_to_a_local_disk()),
        );
    }
    Some(match found.trust {
        Trust::Passing => {
            Finding::ok(format!("{kind}: local, but it ends with a reboot or with its container"))
        }
        Trust::Doubtful => {
            Finding::warning(format!("{kind}: whether locks and syncs hold there is not known"))
                .detail(
                    "a cluster's or a virtual machine's file system must not be used by two hosts at once",
                )
                .fix(move_to_a_local_disk())
        }
        Trust::Local | Trust::Remote => Finding::ok(format!("{kind}: local")),
    })
}

pub fn disk(patient: &Patient) -> Option<Finding> {
    let place = nearest(&patient.target.dir());
    let stat = nix::sys::statvfs::statvfs(&place).ok()?;
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    let mib = |bytes: u64| bytes / 1024 / 1024;
    let what = format!("{} MiB free at {}", mib(free), place.display());
    let finding = if free < limits::DISK_FREE_BYTES_MIN {
        let least = mib(limits::DISK_FREE_BYTES_MIN);
        Finding::fail(what).detail(format!("new mail is refused below {least} MiB"))
    } else if free < limits::DISK_FREE_BYTES_LOW {
        Finding::warning(what)
    } else {
        return Some(Finding::ok(what));
    };
    Some(finding.fix(format!("df -h {}", word(&place))))
}

/// Not below a temporary directory, which cleaners empty.
fn move_to_a_local_disk() -> String {
    let uid = nix::unistd::geteuid();
    let local = format!("/var/lib/agentmux-{uid}");
    format!("sudo install -d -m 700 -o {uid} {local} && export AGENTMUX_STATE_DIR={local}")
}

/// The directory itself, or the nearest above it that is there.
fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}
