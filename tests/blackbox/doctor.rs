//! `agentmux doctor`: what the bundle stands on.

use crate::*;

#[test]
fn placeholder() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["doctor", "-v"]));
    println!("{}", ran.evidence());
    let _ = house.run(&["up"]).ok();
    let ran = touches_nothing(&house, || house.run(&["doctor", "-v"]));
    println!("{}", ran.evidence());
}
