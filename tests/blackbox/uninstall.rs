//! `agentmux uninstall`: what `install` put in, and exactly that.

use crate::install::tools;
use crate::*;
use std::fs;

/// users 27: afterwards the file says what it said before; a file that was not there before is gone again.
#[test]
fn exactly_what_was_installed_is_taken_out_again() {
    let house = House::new();
    for (tool, file, text) in tools(&house) {
        let _ = house.run(&["install", tool]).ok();
        assert!(file.exists(), "{tool}");
        let _ = house.run(&["uninstall", tool]).ok();
        assert!(!file.exists(), "{tool}: it was ours alone");
        fs::create_dir_all(file.parent().expect("a directory")).expect("the house is writable");
        fs::write(&file, text).expect("likewise");
        let _ = house.run(&["install", tool]).ok();
        let _ = house.run(&["uninstall", tool, "--dry-run"]).ok();
        assert!(fs::read_to_string(&file).is_ok_and(|now| now.contains("AGENTMUX_INSTALLED")), "{tool}");
        let _ = house.run(&["uninstall", tool]).ok();
        assert_eq!(fs::read_to_string(&file).expect("it is there"), text, "{tool}");
        assert_eq!(
            house.run(&["uninstall", tool, "--json"]).json()["changed"],
            false,
            "{tool}: a second time"
        );
    }
}
