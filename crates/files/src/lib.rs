//! Import and export of CSV, JSON lines and Parquet files.
