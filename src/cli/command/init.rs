//! `agentmux init`: writes a project's file that says nothing yet, for a person to fill. Never starts a relay.

use std::fs::OpenOptions;
use std::io::Write;

use clap::Args;
use serde::Serialize;

use crate::boot::project::{PROJECT_FILE, TEMPLATE};
use crate::cli::context::Context;
use crate::model::fault::Fault;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Init {}

#[derive(Debug, Serialize)]
struct Written {
    path: String,
}

pub fn run(context: &Context) -> Result<u8, Fault> {
    let path = context.dir.join(PROJECT_FILE);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(TEMPLATE.as_bytes())).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Fault::conflict(format!("init refused: {} is there already", path.display()))
        }
        _ => Fault::io(format!("init failed: {} cannot be written: {error}", path.display())),
    })?;
    context.print(&Written { path: path.display().to_string() }, |written| {
        format!("{} written; fill it, then: agentmux trust && agentmux up\n", written.path)
    });
    Ok(0)
}
