//! Stories: placeholder until the worlds run.
