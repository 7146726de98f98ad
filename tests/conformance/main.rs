//! Conformance: every transport against the same suite, the link split at every byte, the store against the ledger.
