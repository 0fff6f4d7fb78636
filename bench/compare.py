"""Keepfast beside DuckDB and restic: same data, same run, same threads, alternating order, medians.

`cargo xtask bench` builds the programs and calls this; docs/bench.md explains each line of the table it prints.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Cost, machine, median, run, size_of, spread

HERE = Path(__file__).parent
RANGES = 10  # The 1 % of changed rows lie in this many ranges of neighbouring keys.


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.threads, self.data = options.threads, folder / "data"
        self.lineitem, self.duckdb = folder / "lineitem.parquet", folder / "lineitem.duckdb"
        self.costs = {}
        self.restic_found = shutil.which("restic") is not None

    def keep(self, name, cost):
        self.costs.setdefault(name, []).append(cost)
        print(f"  {name}: {cost.wall:.2f} s, {cost.cpu:.2f} CPU s, {cost.peak / 2**20:.0f} MiB", file=sys.stderr, flush=True)
        return cost

    def keepfast(self, *arguments, data=None):
        program = Path(self.options.programs) / "keepfast"
        common = ["--data", data or self.data, "--json", "--no-progress", "--threads", self.threads]
        return run([program, *common, *arguments], self.threads)

    def sql(self, text):
        return self.keepfast("sql", "-c", text)

    def python(self, *arguments):
        return run([sys.executable, HERE / "duckdb_copy.py", *arguments], self.threads)

    def prepare(self):
        generator = Path(self.options.programs) / "keepfast-bench"
        self.rows = run([generator, "lineitem", self.options.scale, self.lineitem], self.threads).out["rows"]
        self.keep("import", self.keepfast("import", self.lineitem, "--into", "lineitem", "--key", "l_orderkey,l_linenumber"))
        self.duckdb_version = self.python("make", self.duckdb, self.threads, self.lineitem).out["version"]
        self.store_bytes = size_of(self.data / "store")
        self.csv = self.folder / "lineitem.csv"
        self.keep("export", self.keepfast("export", "lineitem", "--to", self.csv))
        for _ in range(self.options.runs):
            self.keep("digest", run([generator, "digest", self.lineitem], 1))
        self.last_key = 6_000_000 * self.options.scale  # TPC-H: order keys go to six million times the scale.

    def first_backup(self):
        vault = self.folder / "vault"
        shutil.rmtree(vault, ignore_errors=True)
        self.vault = f"{vault.as_uri()}#lineitem"
        cost = self.keep("first backup", self.keepfast("backup", "lineitem", "--to", self.vault))
        self.vault_bytes = size_of(vault)
        return cost

    def copy(self):
        out = self.folder / "copy.parquet"
        out.unlink(missing_ok=True)
        whole = self.python("copy", self.duckdb, self.threads, out, self.options.level)
        self.keep("DuckDB COPY", Cost(whole.out["wall"], whole.out["cpu"], whole.peak, {}))
        self.copy_bytes = out.stat().st_size

    def restic_version(self):
        return " ".join(subprocess.run(["restic", "version"], capture_output=True, text=True).stdout.split()[:2])

    def restic(self):
        if not self.restic_found:
            return
        for name, what in (("restic of the store's files", self.data / "store"), ("restic of the rows as CSV", self.csv)):
            repository = self.folder / "restic"
            shutil.rmtree(repository, ignore_errors=True)
            environment = {"RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(repository), "GOMAXPROCS": str(self.threads)}
            run(["restic", "init", "--no-cache", "--quiet"], self.threads, environment)
            self.keep(name, run(["restic", "backup", "--no-cache", "--quiet", what], self.threads, environment))

    def read_back(self):
        empty = self.folder / "restored"
        shutil.rmtree(empty, ignore_errors=True)
        self.keep("restore", self.keepfast("restore", "lineitem", "--from", self.vault, data=empty))
        shutil.rmtree(empty)
        self.keep("verify checksum", self.keepfast("verify", self.vault, "--level", "checksum"))
        self.keep("verify compare", self.keepfast("verify", self.vault, "--level", "compare", "--against", "lineitem"))

    def change(self, turn):
        """Changes 1 % of the rows, in ranges of neighbouring keys that move from turn to turn."""
        width = self.last_key / 100 / RANGES
        starts = [self.last_key * (i + turn % 7 / 7) / RANGES for i in range(RANGES)]
        ranges = " OR ".join(f"l_orderkey BETWEEN {int(start) + 1} AND {int(start + width)}" for start in starts)
        self.sql(f"UPDATE lineitem SET l_comment = 'changed in turn {turn}', l_tax = 0.{turn % 10}1 WHERE {ranges}")

    def later_backups(self):
        for turn in range(self.options.runs):
            for mode in ("incremental", "full"):
                self.keepfast("backup", "lineitem", "--to", self.vault, "--mode", "full")  # A base of all that is there now.
                self.change(2 * turn + (mode == "full"))
                self.keep(f"second backup, {mode}", self.keepfast("backup", "lineitem", "--to", self.vault, "--mode", mode))

    def run(self):
        self.prepare()
        for turn in range(self.options.runs):
            print(f"run {turn + 1} of {self.options.runs}", file=sys.stderr, flush=True)
            order = [self.first_backup, self.copy, self.restic]
            for step in order if turn % 2 == 0 else reversed(order):
                step()
            self.read_back()
        self.later_backups()

    def table(self):
        first, later = self.costs["first backup"], lambda mode: self.costs[f"second backup, {mode}"]
        base = first[0].out["tables"][0]["bytes_new"] if "tables" in first[0].out else self.vault_bytes
        yield "what", "Keepfast", "beside it", "ratio", "goal"
        yield "---", "---", "---", "---", "---"

        def beside(what, name, peer, unit, goal, digits=2):
            a, b = self.costs[name], self.costs[peer]
            yield f"{what}", spread(a, unit, digits), f"{peer}: {spread(b, unit, digits)}", f"{median(a, unit) / median(b, unit):.2f}", goal

        yield from beside("first backup, seconds", "first backup", "DuckDB COPY", "wall", "at most 1")
        yield from beside("first backup, CPU seconds", "first backup", "DuckDB COPY", "cpu", "")
        yield "first backup, bytes written", f"{self.vault_bytes:,}", f"DuckDB COPY: {self.copy_bytes:,}", f"{self.vault_bytes / self.copy_bytes:.2f}", ""
        if self.restic_found:
            for name, size, goal in (("restic of the store's files", self.store_bytes, "at least 2"), ("restic of the rows as CSV", self.csv.stat().st_size, "")):
                ours, theirs = (size / 1e6 / median(self.costs[which], "cpu") for which in ("first backup", name))
                yield f"first backup, MB a CPU second of the {size / 1e6:,.0f} MB that restic reads", f"{ours:.0f}", f"{name}: {theirs:.0f}", f"{ours / theirs:.2f}", goal
        else:
            yield "first backup against restic", "", "restic is not installed", "", "at least 2"
        for mode in ("incremental", "full"):
            costs = later(mode)
            yield from beside(f"second backup after 1 % changed, {mode}, seconds", f"second backup, {mode}", "first backup", "wall", "at most 0.1" if mode == "incremental" else "")
            new = [cost.out["tables"][0]["bytes_new"] for cost in costs]
            yield f"second backup after 1 % changed, {mode}, new bytes", f"{sorted(new)[len(new) // 2]:,}", f"first backup: {base:,}", f"{sorted(new)[len(new) // 2] / base:.4f}", "at most 0.03"
        yield from beside("restore, seconds", "restore", "first backup", "wall", "at most 1")
        yield from beside("verify --level compare, seconds", "verify compare", "first backup", "wall", "at most 1")
        checked = self.vault_bytes / 1e9 / median(self.costs["verify checksum"], "cpu")
        yield "verify --level checksum, GB a CPU second", f"{checked:.2f}", "", "", "at least 1"
        share = self.costs["digest"][0].out["seconds"]
        yield "row hashes alone, CPU seconds", f"{share:.2f}", f"first backup: {spread(first, 'cpu')}", f"{share / median(first, 'cpu'):.3f}", "at most 0.1"
        for name in ("import", "export", "first backup", "restore", "verify compare", "second backup, incremental"):
            yield f"peak memory of {name}, MiB", f"{max(cost.peak for cost in self.costs[name]) / 2**20:.0f}", "", "", "at most 1,024 for 60 million rows"
        for name in ("import", "export"):
            yield f"{name}, seconds", spread(self.costs[name], "wall"), "", "", ""


def main():
    parse = argparse.ArgumentParser(prog="cargo xtask bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--scale", type=float, default=1, help="TPC-H scale: six million rows each (default 1; 10 is 60 million rows)")
    parse.add_argument("--runs", type=int, default=5, help="runs, whose medians are shown (default 5)")
    parse.add_argument("--threads", type=int, default=0, help="processors for every program (default: all)")
    parse.add_argument("--level", type=int, default=1, help="zstd level of DuckDB's copy (default 1, which is Keepfast's)")
    parse.add_argument("--folder", type=Path, default=None, help="where to work (default: the system's folder for temporary files)")
    parse.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    options = parse.parse_args()
    options.threads = min(options.threads or 1024, len(os.sched_getaffinity(0)))
    about = machine()
    with tempfile.TemporaryDirectory(prefix="keepfast-bench-", dir=options.folder) as folder:
        bench = Bench(options, Path(folder))
        bench.run()
        lines = ["| " + " | ".join(cells) + " |" for cells in bench.table()]
    peers = f"DuckDB {bench.duckdb_version} (zstd level {options.level})" + (f", {bench.restic_version()}" if bench.restic_found else "")
    print(f"TPC-H lineitem at scale {options.scale:g}: {bench.rows:,} rows, {bench.store_bytes / 1e6:,.0f} MB in the store. "
          f"{options.runs} runs, {options.threads} threads, {peers}.\nMachine: {about}.\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
