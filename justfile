# Short names for the project's habits. `cargo xtask` alone does the same.

# Formatting, lints, pinned versions, licences, direction of dependencies.
check:
    cargo xtask check

# Everything that must pass.
test:
    cargo xtask test

# Side by side with DuckDB and restic.
bench *options:
    cargo xtask bench {{options}}

# Sample tables backed up, damaged, restored and proven.
demo:
    cargo run --release -- demo

# Formats all code.
fmt:
    cargo fmt --all
