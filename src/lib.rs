//! agentmux.
