//! placeholder for the module, replaced below.
