//! keepfast-format
