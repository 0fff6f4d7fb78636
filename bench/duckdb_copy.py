"""DuckDB's side: makes its table, or copies it to Parquet. Prints what the statement alone cost, start-up left out."""

import json
import resource
import sys
import time

import duckdb


def timed(database, statement):
    def cpu():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    start, before = time.perf_counter(), cpu()
    database.sql(statement)
    return {"wall": time.perf_counter() - start, "cpu": cpu() - before}


def main(how, file, threads, source, level=None):
    database = duckdb.connect(file, config={"threads": int(threads)})
    if how == "make":
        database.sql(f"CREATE TABLE lineitem AS SELECT * FROM read_parquet('{source}')")
        database.sql("CHECKPOINT")
        print(json.dumps({"version": duckdb.__version__}))
    else:
        database.sql("SELECT count(*) FROM lineitem").fetchall()  # The catalogue is open before the clock starts.
        print(json.dumps(timed(database, f"COPY lineitem TO '{source}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {level})")))


main(*sys.argv[1:])
