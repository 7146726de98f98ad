//! The one binary. Calls the command line and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentmux::cli::main()
}
