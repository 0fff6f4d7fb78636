//! keepfast-vault
