"""Programs that know nothing of Keepfast. Each counts and sums by itself, and gives all rows in key order."""

import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, QueryBuilder

# Figures that every reader works out with its own engine, by name: a column and what is asked of it.
FIGURES = [
    ("id", "sum"), ("big_unsigned", "sum"), ("amount", "sum"), ("wide", "sum"),
    ("big_unsigned", "max"), ("amount", "min"), ("wide", "max"), ("name", "min"), ("name", "max"),
    ("day", "min"), ("wall_clock", "max"), ("moment", "max"),
    *[(name, "count") for name in ("flag", "ratio", "note", "raw", "instant", "document", "token", "numbers")],
]


def by_sql(run, source):
    """Figures by one SQL query; `run` gives a pyarrow table."""
    asked = ", ".join(f"{how}({column}) AS f{i}" for i, (column, how) in enumerate(FIGURES))
    figures = run(f"SELECT count(*) AS n, {asked} FROM {source}").to_pylist()[0]
    return figures.pop("n"), list(figures.values())


def read_duckdb(table_folder, segments):
    database = duckdb.connect(config={"autoinstall_known_extensions": False})
    run = lambda query: database.sql(query).to_arrow_table()
    source = f"read_parquet({segments!r})"
    return *by_sql(run, source), run(f"SELECT * FROM {source} ORDER BY id")


def read_pyarrow(table_folder, segments):
    table = ds.dataset(segments, format="parquet").to_table().sort_by("id")
    return table.num_rows, [getattr(pc, {"min": "min", "max": "max"}.get(how, how))(table[c]).as_py() for c, how in FIGURES], table


def read_polars(table_folder, segments):
    return with_polars(pl.scan_parquet(segments))


def read_polars_delta(table_folder, segments):
    return with_polars(pl.scan_delta(str(table_folder)))


def with_polars(scan):
    asked = [getattr(pl.col(c), how)().alias(f"f{i}") for i, (c, how) in enumerate(FIGURES)]
    figures = scan.select(pl.len().alias("n"), *asked).collect().row(0)
    return figures[0], list(figures[1:]), scan.sort("id").collect().to_arrow()


def read_delta(table_folder, segments):
    import pyarrow as pa

    table = DeltaTable(str(table_folder))
    run = lambda query: pa.table(QueryBuilder().register("t", table).execute(query).read_all())
    return *by_sql(run, "t"), run("SELECT * FROM t ORDER BY id")


READERS = {
    "DuckDB": read_duckdb,
    "pyarrow": read_pyarrow,
    "Polars": read_polars,
    "a Delta reader (deltalake)": read_delta,
    "a Delta reader (Polars)": read_polars_delta,
}
