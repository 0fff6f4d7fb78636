//! keepfast-columnar
