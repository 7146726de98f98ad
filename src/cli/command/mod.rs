//! The verbs, one file each, named for it.

pub mod attach;
pub mod completions;
pub mod doctor;
pub mod down;
pub mod host;
pub mod inbox;
pub mod list;
pub mod look;
pub mod read;
pub mod remove;
pub mod reply;
pub mod send;
pub mod spawn;
pub mod status;
pub mod trace;
pub mod up;

use super::args::Command;
use super::context::Context;
use crate::model::fault::Fault;

/// Runs one verb; returns the exit code of a command that did what it could.
pub fn run(context: &Context, command: Command) -> Result<u8, Fault> {
    match command {
        Command::Spawn(args) => spawn::run(context, args),
        Command::Up(args) => up::run(context, args),
        Command::Down(args) => down::run(context, args),
        Command::Remove(args) => remove::run(context, args),
        Command::List(_) => list::run(context),
        Command::Status(_) => status::run(context),
        Command::Send(args) => send::run(context, args),
        Command::Reply(args) => reply::run(context, args),
        Command::Inbox(args) => inbox::run(context, args),
        Command::Read(args) => read::run(context, &args),
        Command::Trace(args) => trace::run(context, &args),
        Command::Look(args) => look::run(context, &args),
        Command::Attach(args) => attach::run(context, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Host(host) => host::run(context, &host),
    }
}
