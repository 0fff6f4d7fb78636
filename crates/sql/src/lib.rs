//! keepfast-sql
