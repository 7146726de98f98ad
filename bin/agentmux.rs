//! The one binary. Calls the command line and nothing else.

fn main() {
    println!("agentmux");
}
