"""Keepfast beside mydumper, myloader and mariadb-dump | zstd: the same two servers, the same rows, the same run, medians.

`cargo xtask bench mysql` starts the servers and calls this; docs/bench.md explains each line of the table it prints.
"""

import argparse
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from measure import machine, size_of

DATABASES, TABLES = 4, 4  # Tables of each database; the first half of the databases stands on the first server.
COLUMNS = """id BIGINT NOT NULL PRIMARY KEY, user_id BIGINT NOT NULL, status VARCHAR(20) NOT NULL, title VARCHAR(120), amount DECIMAL(12,2) NOT NULL,
created DATETIME(6) NOT NULL, note TEXT, payload BLOB"""
INDEX = "KEY by_user (user_id)"
# Some 260 bytes a row as text: words that repeat, numbers that do not, JSON, random bytes, NULLs.
ROW = """SELECT {start} + seq * 3, seq * 7919 % 1000003,
ELT(1 + seq % 4, 'new', 'paid', 'shipped', 'returned'), IF(seq % 11 = 0, NULL, CONCAT('order ', seq, ' of ', MD5(seq % 5000))), seq % 99991 / 100,
'2026-01-01' + INTERVAL seq * 1013 MICROSECOND + INTERVAL seq SECOND,
IF(seq % 5 = 0, NULL, CONCAT('{{"item": ', seq % 777, ', "tags": ["', ELT(1 + seq % 3, 'red', 'green', 'blue'), '", "', SHA1(seq), '"], "price": ', seq % 9973, '}}')),
IF(seq % 3 = 0, NULL, UNHEX(SHA2(CONCAT(seq, '/', {start}), 256))) FROM seq_1_to_{rows}"""


@dataclass
class Cost:
    wall: float  # seconds
    cpu: float  # seconds of the programs
    server: float  # seconds of the servers
    peak: int  # bytes of the largest program
    out: dict


class Server:
    def __init__(self, url, process):
        self.url, at = url, urlsplit(url)
        self.host, self.port, self.user, self.password, self.process = at.hostname, at.port, at.username, at.password, process

    def cpu(self):
        fields = Path(f"/proc/{self.process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tool(name):
    return os.environ["TOOL_" + name.replace("-", "_")].split("\n")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.costs, self.sizes = options, folder, {}, {}
        urls, processes = os.environ["KEEPFAST_TEST_MARIADB"].split(), os.environ["SERVER_PROCESSES"].split()
        self.servers = [Server(url, process) for url, process in zip(urls, processes)]
        self.databases = [[f"bench_{n}" for n in range(DATABASES) if n * len(self.servers) // DATABASES == at] for at in range(len(self.servers))]
        # Passwords stand in files that only their owner reads, so that no list of processes shows them.
        for at, server in enumerate(self.servers):
            login = folder / f"login_{at}"
            login.touch(mode=0o600)
            login.write_text("".join(
                f"[{group}]\nhost={server.host}\nport={server.port}\nuser={server.user}\npassword={server.password}\nprotocol=tcp\n" for group in ("client", "mydumper", "myloader")
            ))
        urls = ", ".join(f'"{server.url}"' for server in self.servers)
        config = folder / "keepfast.toml"
        config.touch(mode=0o600)
        last = DATABASES - 1
        config.write_text(
            f'[stores.shop]\nurl = [{urls}]\ntransactions = "xa"\n'
            f'[stores.shop.tables.orders]\nshards = "bench_{{0..{last}}}.orders_{{0..{TABLES - 1}}}"\nshard_rule = "id div {self.stride()}"\n'
        )

    def stride(self):
        """Every table has the keys of a range of its own, so that a rule can tell where a row belongs."""
        return self.options.rows // (DATABASES * TABLES) * 3 + 3

    def tables(self, at):
        return [f"{database}.orders_{n}" for database in self.databases[at] for n in range(TABLES)]

    def measure(self, name, work):
        os.sync()
        before = [server.cpu() for server in self.servers]
        own, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        peak, out = work()
        wall = time.perf_counter() - start
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
        cost = Cost(wall, cpu, sum(s.cpu() for s in self.servers) - sum(before), peak, out)
        self.costs.setdefault(name, []).append(cost)
        print(f"  {name}: {wall:.2f} s, {cpu:.2f} CPU s, {cost.server:.2f} CPU s of the servers, {peak / 2**20:.0f} MiB", file=sys.stderr, flush=True)
        return cost

    def together(self, commands):
        """Runs commands at once; each is (words, text of its standard input)."""
        ends = [None] * len(commands)

        def run(at, words, given):
            child = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder)
            said = []
            errors = threading.Thread(target=lambda: said.append(child.stderr.read()))
            errors.start()
            child.stdin.write(given.encode())
            child.stdin.close()
            text = child.stdout.read()
            errors.join()
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            ends[at] = (child.returncode, text, said[0], used.ru_maxrss * 1024)

        threads = [threading.Thread(target=run, args=(at, *command)) for at, command in enumerate(commands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for (words, _), (code, text, errors, _) in zip(commands, ends):
            if code != 0:
                sys.exit(f"{shlex.join(map(str, words))} ended with {code}\n{(text + errors).decode(errors='replace')[-2000:]}")
        try:
            out = json.loads(ends[0][1])
        except ValueError:
            out = {}
        return max(end[3] for end in ends), out

    def sql(self, at, text):
        login = f"--defaults-extra-file={self.folder / f'login_{at}'}"
        return [*tool("mariadb"), login, "--local-infile=1"], text

    def each_server(self, text_of):
        return self.together([self.sql(at, text_of(at)) for at in range(len(self.servers))])

    def keepfast(self, *arguments):
        program = Path(self.options.programs) / "keepfast"
        common = ["--config", self.folder / "keepfast.toml", "--data", self.folder / "data", "--json", "--no-progress", "--threads", self.options.threads]
        return self.together([([program, *common, *arguments], "")])

    def prepare(self):
        rows = self.options.rows // (DATABASES * TABLES)

        def make(at):
            lines = []
            for database in self.databases[at]:
                lines.append(f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database};")
            for number, table in enumerate(self.tables(at)):
                place = at * len(self.tables(0)) + number
                lines.append(f"USE {table.split('.')[0]}; CREATE TABLE {table} ({COLUMNS}, {INDEX}); INSERT INTO {table} {ROW.format(start=place * self.stride(), rows=rows)}; ANALYZE TABLE {table};")
            return "SET SESSION sql_log_bin = 0; " + "\n".join(lines)

        self.each_server(make)
        self.warm()

    def warm(self):
        self.each_server(lambda at: "\n".join(f"SELECT COUNT(*), SUM(LENGTH(note)) FROM {table};" for table in self.tables(at)))

    def floor(self, form):
        program = Path(self.options.programs) / "keepfast-bench"
        # One program a server, each with one thread.
        commands = [([program, "mysql-floor", form, *(f"SELECT * FROM {table}" for table in self.tables(at))], server.url) for at, server in enumerate(self.servers)]
        self.measure(f"socket floor, {form}", lambda: self.together(commands))

    def backup(self, turn):
        vault = self.folder / "vault"
        shutil.rmtree(vault, ignore_errors=True)
        self.vault = f"{vault.as_uri()}#orders"
        self.measure("backup", lambda: self.keepfast("backup", "shop.main.orders", "--to", self.vault))
        self.sizes["backup"] = size_of(vault)

    def mariadb_dump(self, turn):
        def command(at):
            out = self.folder / f"dump_{at}.zst"
            login = f"--defaults-extra-file={self.folder / f'login_{at}'}"
            dump = [*tool("mariadb-dump"), login, "--single-transaction", "--quick", "--databases", *self.databases[at]]
            return ["sh", "-c", f"{shlex.join(dump)} | {shlex.join([*tool('zstd'), '-3', '-q', '-f', '-o', str(out)])}"], ""

        self.measure("mariadb-dump and zstd -3", lambda: self.together([command(at) for at in range(len(self.servers))]))
        self.sizes["mariadb-dump and zstd -3"] = sum((self.folder / f"dump_{at}.zst").stat().st_size for at in range(len(self.servers)))

    def mydumper(self, turn):
        def command(at):
            out = self.folder / f"mydumper_{at}"
            shutil.rmtree(out, ignore_errors=True)
            databases = "|".join(self.databases[at])
            return [*tool("mydumper"), f"--defaults-file={self.folder / f'login_{at}'}", "--threads=1", f"--regex=^({databases})\\.", f"--outputdir={out}"], ""

        self.measure("mydumper", lambda: self.together([command(at) for at in range(len(self.servers))]))
        self.sizes["mydumper"] = sum(size_of(self.folder / f"mydumper_{at}") for at in range(len(self.servers)))

    def clear(self):
        self.each_server(lambda at: "SET SESSION sql_log_bin = 0; " + "\n".join(f"DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database};" for database in self.databases[at]))

    def restore(self, turn):
        self.clear()
        self.measure("restore", lambda: self.keepfast("restore", "shop.main.orders", "--from", self.vault))

    def myloader(self, turn):
        self.clear()

        def command(at):
            return [*tool("myloader"), f"--defaults-file={self.folder / f'login_{at}'}", "--threads=1", f"--directory={self.folder / f'mydumper_{at}'}"], ""

        self.measure("myloader", lambda: self.together([command(at) for at in range(len(self.servers))]))

    def write_files(self):
        """The rows as LOAD DATA reads them, written by the servers themselves."""
        def text(at):
            return "\n".join(f"SELECT * INTO OUTFILE '{self.rows_of(table)}' FROM {table};" for table in self.tables(at))

        self.each_server(text)

    def rows_of(self, table):
        return self.folder / f"{table}.rows"

    def load_data(self, turn):
        self.clear()
        self.each_server(lambda at: "\n".join(f"CREATE TABLE {table} ({COLUMNS}, {INDEX});" for table in self.tables(at)))
        text = lambda at: "\n".join(f"LOAD DATA LOCAL INFILE '{self.rows_of(table)}' INTO TABLE {table} CHARACTER SET binary;" for table in self.tables(at))
        self.measure("LOAD DATA LOCAL", lambda: self.each_server(text))

    def changed(self):
        """Changes 1 % of the rows and backs up what changed."""
        self.each_server(lambda at: "\n".join(f"UPDATE {table} SET status = 'changed' WHERE id DIV 3 % 100 = 0;" for table in self.tables(at)))
        self.measure("incremental of 1 %", lambda: self.keepfast("backup", "shop.main.orders", "--to", self.vault, "--mode", "incremental"))

    def run(self):
        self.prepare()
        self.write_files()
        for turn in range(self.options.runs):
            print(f"run {turn + 1} of {self.options.runs}", file=sys.stderr, flush=True)
            self.floor("text")
            self.floor("binary")
            order = [self.backup, self.mariadb_dump, self.mydumper]
            for step in order if turn % 2 == 0 else reversed(order):
                step(turn)
            for step in (self.myloader, self.load_data, self.restore):
                step(turn)
            self.warm()
            shutil.rmtree(self.folder / "vault")
            self.keepfast("backup", "shop.main.orders", "--to", self.vault)
            self.changed()

    def table(self):
        def middle(name, what):
            return statistics.median(getattr(cost, what) for cost in self.costs[name])

        yield "program", "seconds", "CPU seconds", "CPU seconds of the servers", "MiB of memory", "MB written"
        yield "---", "---", "---", "---", "---", "---"
        for name, costs in self.costs.items():
            peak = max(cost.peak for cost in costs) / 2**20
            size = f"{self.sizes[name] / 1e6:,.0f}" if name in self.sizes else ""
            yield name, f"{middle(name, 'wall'):.2f}", f"{middle(name, 'cpu'):.2f}", f"{middle(name, 'server'):.2f}", f"{peak:.0f}", size

    def goals(self):
        def middle(name, what="wall"):
            return statistics.median(getattr(cost, what) for cost in self.costs[name])

        dump = "mariadb-dump and zstd -3"
        load = statistics.median(cost.wall - cost.out["verify_seconds"] for cost in self.costs["restore"])
        yield "what", "ratio", "goal"
        yield "---", "---", "---"
        yield f"backup, CPU of {dump}", f"{middle('backup', 'cpu') / middle(dump, 'cpu'):.2f}", "at most 0.42"
        yield f"backup, time of {dump}", f"{middle('backup') / middle(dump):.2f}", "at most 0.55"
        yield f"backup, bytes of {dump}", f"{self.sizes['backup'] / self.sizes[dump]:.2f}", "at most 0.82"
        floor = min(middle("socket floor, text"), middle("socket floor, binary"))
        yield "backup, time of the socket floor", f"{middle('backup') / floor:.2f}", "at most 2.4"
        yield "restore's load phase, time of myloader", f"{load / middle('myloader'):.2f}", "at most 0.6"
        yield "restore's load phase, time of LOAD DATA LOCAL", f"{load / middle('LOAD DATA LOCAL'):.2f}", "at most 1"
        yield "restore's verification, seconds", f"{statistics.median(c.out['verify_seconds'] for c in self.costs['restore']):.2f}", ""
        yield "incremental of 1 %, time of the full backup", f"{middle('incremental of 1 %') / middle('backup'):.3f}", "at most 0.05, or one second"
        yield "memory, MiB", f"{max(c.peak for n in ('backup', 'restore', 'incremental of 1 %') for c in self.costs[n]) / 2**20:.0f}", "at most 512"


def main():
    parse = argparse.ArgumentParser(prog="cargo xtask bench mysql", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--rows", type=int, default=8_000_000, help="rows of all tables together (default 8 million)")
    parse.add_argument("--runs", type=int, default=3, help="runs, whose medians are shown (default 3)")
    parse.add_argument("--threads", type=int, default=0, help="threads of Keepfast (default: one a processor); the others have one a server")
    parse.add_argument("--folder", type=Path, default=None, help="where to work (default: the system's folder for temporary files)")
    parse.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    options = parse.parse_args()
    options.threads = options.threads or len(os.sched_getaffinity(0))
    about = machine()
    with tempfile.TemporaryDirectory(prefix="keepfast-bench-", dir=options.folder) as folder:
        bench = Bench(options, Path(folder))
        bench.run()
        print(f"{options.rows:,} rows in {DATABASES} databases of {TABLES} tables on two MariaDB servers. {options.runs} runs, {options.threads} threads.\nMachine: {about}.\n")
        for lines in (bench.table(), bench.goals()):
            print("\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n")


if __name__ == "__main__":
    main()
