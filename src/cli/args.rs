//! The grammar of the command line. Each verb's own arguments stand in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::command;

const LONG_ABOUT: &str = "\
agentmux lets coding agents on one machine work as a team: durable mail between them, delivered into their turns with proof.

  agentmux spawn reviewer                       create an agent in this project
  agentmux send reviewer - <<'EOF'              send it mail (quote EOF so that your shell leaves the text alone)
  look at the diff
  EOF
  agentmux attach reviewer                      watch and steer it in its own screen
  agentmux trace ID                             where is that mail?";

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused; 2 usage; 3 not found; 4 timed out (the mail keeps its state); 5 no relay and not allowed to
start one; 6 blocked by a sandbox; 7 conflict; 8 version mismatch; 70 a bug; 74 local IO failed; 75 temporary; 130 interrupted";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "agentmux", version, about = "Durable mail between coding agents, delivered with proof",
          long_about = LONG_ABOUT, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every verb takes, before or after it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Use this bundle
    #[arg(short, long, global = true, value_name = "NAME")]
    pub bundle: Option<String>,
    /// Keep state below this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Read the person's configuration from this directory
    #[arg(long, global = true, value_name = "DIR", env = "AGENTMUX_CONFIG_DIR", hide_env = true)]
    pub config_dir: Option<PathBuf>,
    /// Act as if started in this directory
    #[arg(short = 'C', global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Speak under this name, as an outside agent
    #[arg(long = "as", global = true, value_name = "NAME")]
    pub speak_as: Option<String>,
    /// Take the name of --as from whoever holds it
    #[arg(long, global = true, requires = "speak_as")]
    pub take_over: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Never start a relay
    #[arg(long, global = true)]
    pub no_start: bool,
    /// Print only what was asked for
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs; their help comes from the verb table.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(command::init::Init),
    Trust(command::trust::Trust),
    Spawn(command::spawn::Spawn),
    Up(command::up::Up),
    Down(command::down::Down),
    Close(command::close::Close),
    Remove(command::remove::Remove),
    List(command::list::List),
    Status(command::status::Status),
    Show(command::show::Show),
    Send(command::send::Send),
    Reply(command::reply::Reply),
    Inbox(command::inbox::Inbox),
    Read(command::read::Read),
    Search(command::search::Search),
    Trace(command::trace::Trace),
    Ask(command::ask::Ask),
    Wait(command::wait::Wait),
    Ack(command::ack::Ack),
    Cancel(command::cancel::Cancel),
    Dead(command::dead::Dead),
    Requeue(command::requeue::Requeue),
    Prompt(command::prompt::Prompt),
    Interrupt(command::interrupt::Interrupt),
    Hold(command::hold::Hold),
    Release(command::release::Release),
    Whoami(command::whoami::Whoami),
    Instructions(command::instructions::Instructions),
    Install(command::install::Install),
    Uninstall(command::uninstall::Uninstall),
    Look(command::look::Look),
    Watch(command::watch::Watch),
    Log(command::log::Log),
    Attach(command::attach::Attach),
    Panes(command::panes::Panes),
    Approvals(command::approvals::Approvals),
    Approve(command::approve::Approve),
    Deny(command::deny::Deny),
    Doctor(command::doctor::Doctor),
    Config(command::config::Config),
    Completions(command::completions::Completions),
    Selftest(command::selftest::Selftest),
    #[command(subcommand)]
    Host(command::host::Host),
}
