//! keepfast-engine
