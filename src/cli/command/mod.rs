//! The verbs, one file each, named for it.

pub mod ack;
pub mod approvals;
pub mod approve;
pub mod ask;
pub mod attach;
pub mod cancel;
pub mod completions;
pub mod config;
pub mod dead;
pub mod deny;
pub mod doctor;
pub mod down;
pub mod hold;
pub mod host;
pub mod inbox;
pub mod init;
pub mod instructions;
pub mod list;
pub mod log;
pub mod look;
pub mod panes;
pub mod read;
pub mod release;
pub mod remove;
pub mod reply;
pub mod requeue;
pub mod search;
pub mod selftest;
pub mod send;
pub mod show;
pub mod spawn;
pub mod status;
pub mod trace;
pub mod trust;
pub mod up;
pub mod wait;
pub mod watch;
pub mod whoami;

use super::args::Command;
use super::context::Context;
use crate::model::fault::Fault;

/// Runs one verb; returns the exit code of a command that did what it could.
pub fn run(context: &Context, command: Command) -> Result<u8, Fault> {
    match command {
        Command::Init(_) => init::run(context),
        Command::Trust(args) => trust::run(context, &args),
        Command::Config(args) => config::run(context, &args),
        Command::Spawn(args) => spawn::run(context, args),
        Command::Up(args) => up::run(context, args),
        Command::Down(args) => down::run(context, args),
        Command::Remove(args) => remove::run(context, args),
        Command::List(_) => list::run(context),
        Command::Status(_) => status::run(context),
        Command::Show(args) => show::run(context, &args),
        Command::Send(args) => send::run(context, args),
        Command::Reply(args) => reply::run(context, args),
        Command::Inbox(args) => inbox::run(context, args),
        Command::Read(args) => read::run(context, &args),
        Command::Search(args) => search::run(context, args),
        Command::Trace(args) => trace::run(context, &args),
        Command::Ask(args) => ask::run(context, args),
        Command::Wait(args) => wait::run(context, args),
        Command::Hold(args) => hold::run(context, args),
        Command::Release(args) => release::run(context, args),
        Command::Ack(args) => ack::run(context, args),
        Command::Cancel(args) => cancel::run(context, args),
        Command::Dead(args) => dead::run(context, &args),
        Command::Requeue(args) => requeue::run(context, args),
        Command::Look(args) => look::run(context, &args),
        Command::Watch(args) => watch::run(context, args),
        Command::Log(args) => log::run(context, args),
        Command::Attach(args) => attach::run(context, &args),
        Command::Panes(args) => panes::run(context, args),
        Command::Instructions(args) => instructions::run(context, &args),
        Command::Whoami(_) => whoami::run(context),
        Command::Approvals(_) => approvals::run(context),
        Command::Approve(args) => approve::run(context, args),
        Command::Deny(args) => deny::run(context, args),
        Command::Completions(args) => completions::run(&args),
        Command::Selftest(args) => selftest::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Host(host) => host::run(context, &host),
    }
}
