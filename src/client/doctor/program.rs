//! Which agentmux this is, and whether it is the one that agents and scripts would run.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, Patient, word};
use crate::boot::program::on_path;
use crate::protocol::{PROTOCOL_MAX, PROTOCOL_MIN, VERSION};

pub fn program(_: &Patient) -> Option<Finding> {
    let crate_name = env!("CARGO_PKG_NAME");
    let Ok(own) = std::env::current_exe() else {
        return Some(Finding::ok(format!("{crate_name} {VERSION}, at a path that the system does not tell")));
    };
    let own_dir = own.parent().unwrap_or(Path::new("/"));
    let put_first = format!("export PATH={}:\"$PATH\"", word(own_dir));
    let what = format!("{crate_name} {VERSION} at {}", own.display());
    let finding = match on_path("agentmux") {
        // The kernel appends ` (deleted)` to the path of a program whose file is gone.
        _ if !own.exists() => {
            Finding::warning(format!("{what}: its file was replaced while it ran")).fix("hash -r")
        }
        Some(first) if is_same(&first, &own) => Finding::ok(what),
        Some(first) => Finding::warning(format!("another agentmux is first on PATH: {}", first.display()))
            .detail(format!("this is {what}"))
            .detail("agents answer mail with the one on PATH")
            .fix(put_first),
        None => Finding::warning(format!("{what} is not on PATH"))
            .detail("agents answer mail by the command `agentmux reply`")
            .fix(put_first),
    };
    Some(finding.detail(format!("speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}")))
}

fn is_same(a: &Path, b: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    file(a).is_some() && file(a) == file(b)
}
