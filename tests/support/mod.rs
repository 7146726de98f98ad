//! What the tests share: the scripted model, the house, panes.
//!
//! Deliberately absent: anything that a test asserts; these are the stand-ins and the tools only.

#![allow(dead_code, reason = "several test binaries share this folder, and none uses all of it")]
#![allow(unused_imports, reason = "likewise: the front door names everything, each binary takes its part")]

pub mod model;
