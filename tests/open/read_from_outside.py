"""A vault is open: other programs read it and find exactly what was inserted.

Usage: read_from_outside.py PATH_OF_KEEPFAST. Prints a line a check and one `test result:` line; exit 1 if one failed.
"""

import subprocess
import sys
import tempfile
from decimal import Decimal, getcontext
from pathlib import Path

import rows as sample
from readers import FIGURES, READERS

RESULTS = {"passed": 0, "failed": 0}


def check(sentence, problem):
    """Counts one check; `problem` is None when it holds."""
    RESULTS["failed" if problem else "passed"] += 1
    print(f"test {sentence} ... {'FAILED: ' + problem if problem else 'ok'}", flush=True)


def keepfast(program, data, *arguments):
    done = subprocess.run([program, "--data", data, "--no-progress", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"keepfast {' '.join(arguments)[:80]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def expected_figures(rows):
    def one(column, how):
        values = [row[column] for row in rows if row[column] is not None]
        return len(values) if how == "count" else {"sum": sum, "min": min, "max": max}[how](values)

    return [one(column, how) for column, how in FIGURES]


def same(found, wanted):
    """Equal as numbers, whatever width a reader's sum has."""
    if isinstance(wanted, (int, Decimal)) and not isinstance(wanted, bool):
        return found is not None and Decimal(found) == Decimal(wanted)
    return found == wanted


def first_difference(found, wanted):
    """None when two tables are equal after casting the reader's own widths (large strings, views) to the promised types."""
    if found.column_names != wanted.column_names:
        return f"columns {found.column_names}"
    try:
        found = found.cast(wanted.schema)
    except Exception as problem:
        return f"types differ from docs/format.md: {problem}"
    for name in wanted.column_names:
        if found[name].combine_chunks().equals(wanted[name].combine_chunks()):
            continue
        pairs = zip(found[name].to_pylist(), wanted[name].to_pylist())
        row = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        if row is None:
            return f"column {name} has {len(found)} rows, {len(wanted)} were inserted"
        return f"row {row}, column {name}: {found[name][row].as_py()!r}, inserted was {wanted[name][row].as_py()!r}"
    return None


def compare(when, table_folder, segments, rows):
    """Every reader against the values inserted."""
    wanted, figures = sample.arrow(rows), expected_figures(rows)
    for name, read in READERS.items():
        if segments is None and "Delta" not in name:
            continue
        try:
            count, found_figures, found = read(table_folder, segments)
        except Exception as problem:
            check(f"{name} reads {when}", f"{type(problem).__name__}: {problem}")
            continue
        check(f"{name} counts the rows of {when}", None if count == len(rows) else f"{count}, inserted were {len(rows)}")
        wrong = [
            f"{how}({column}) is {a!r}, not {b!r}"
            for (column, how), a, b in zip(FIGURES, found_figures, figures) if not same(a, b)
        ]
        check(f"{name} finds the same {len(FIGURES)} sums, counts and limits in {when}", "; ".join(wrong) or None)
        check(f"{name} reads every value of {when}, in order", first_difference(found, wanted))


def main(program):
    getcontext().prec = 80  # Sums of 38 digits, exact.
    with tempfile.TemporaryDirectory(prefix="keepfast-open-") as folder:
        data, script = str(Path(folder, "data")), Path(folder, "rows.sql")
        rows = sample.make(5000)
        script.write_text("\n".join(sample.sql("example", rows)), encoding="utf-8")
        keepfast(program, data, "sql", "-f", str(script))
        keepfast(program, data, "backup", "example", "--to", "example_backup", "--segment-rows", "1024")
        [table_folder] = Path(data, "vault", "tables").iterdir()
        segments = sorted(str(path) for path in table_folder.glob("segments/*.parquet"))
        check("the backup has more than one segment", None if len(segments) > 1 else f"{len(segments)} found")
        compare("a first backup", table_folder, segments, rows)

        keepfast(program, data, "sql", "-c", "UPDATE example SET amount = -1.5, name = NULL WHERE id < 1000; DELETE FROM example WHERE id >= 14000")
        keepfast(program, data, "backup", "example", "--to", "example_backup", "--mode", "full")
        rows = [row for row in rows if row["id"] < 14000]
        for row in rows:
            if row["id"] < 1000:
                row.update(amount=Decimal("-1.5"), name=None)
        compare("a second base, whose table Delta now shows", table_folder, None, rows)

    print(f"\ntest result: {'FAILED' if RESULTS['failed'] else 'ok'}. {RESULTS['passed']} passed; {RESULTS['failed']} failed; 0 ignored")
    return 1 if RESULTS["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
