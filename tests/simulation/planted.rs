//! Planted bugs: placeholder until the worlds run.
