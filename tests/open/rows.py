"""The rows that are inserted, as Python values, as SQL, and as the Arrow table that a reader must give back."""

import datetime as dt
import random
import uuid
from decimal import Decimal

import pyarrow as pa

UTC = dt.timezone.utc

# name, SQL type, the Arrow type that docs/format.md promises a reader (section 2).
COLUMNS = [
    ("id", "INT PRIMARY KEY", pa.int32()),
    ("flag", "BOOLEAN", pa.bool_()),
    ("tiny", "TINYINT", pa.int8()),
    ("small", "SMALLINT", pa.int16()),
    ("big", "BIGINT", pa.int64()),
    ("small_unsigned", "SMALLINT UNSIGNED", pa.int32()),
    ("big_unsigned", "BIGINT UNSIGNED", pa.decimal128(20, 0)),
    ("ratio", "DOUBLE", pa.float64()),
    ("ratio32", "REAL", pa.float32()),
    ("amount", "DECIMAL(18,4)", pa.decimal128(18, 4)),
    ("wide", "DECIMAL(38,10)", pa.decimal128(38, 10)),
    ("name", "VARCHAR(255)", pa.string()),
    ("note", "TEXT", pa.string()),
    ("raw", "BLOB", pa.binary()),
    ("day", "DATE", pa.date32()),
    ("moment", "TIME", pa.int64()),
    ("wall_clock", "TIMESTAMP", pa.timestamp("us")),
    ("instant", "TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
    ("document", "JSON", pa.string()),
    ("token", "UUID", pa.string()),
    ("numbers", "INT[]", pa.list_(pa.int32())),
]
NAMES = [name for name, _, _ in COLUMNS]
SCHEMA = pa.schema([(name, arrow) for name, _, arrow in COLUMNS])


def edges():
    """Rows at the ends of what the types hold."""
    nothing = {name: None for name in NAMES}
    low = dict(
        flag=False, tiny=-128, small=-32768, big=-(2**63), small_unsigned=0, big_unsigned=Decimal(0),
        ratio=-1.7976931348623157e308, ratio32=-0.5, amount=Decimal("-99999999999999.9999"),
        wide=Decimal("-9999999999999999999999999999.9999999999"), name="", note="it's; -- \"quoted\"\nand two lines",
        raw=b"", day=dt.date(1, 1, 1), moment=0, wall_clock=dt.datetime(1, 1, 1), instant=dt.datetime(1583, 1, 1, tzinfo=UTC),
        document="{}", token=str(uuid.UUID(int=0)), numbers=[],
    )
    high = dict(
        flag=True, tiny=127, small=32767, big=2**63 - 1, small_unsigned=65535, big_unsigned=Decimal(2**64 - 1),
        ratio=5e-324, ratio32=0.5, amount=Decimal("99999999999999.9999"),
        wide=Decimal("9999999999999999999999999999.9999999999"), name="Ωmega 表 🙂", note="n" * 5000,
        raw=bytes(range(256)), day=dt.date(9999, 12, 31), moment=86_399_999_999,
        wall_clock=dt.datetime(9999, 12, 31, 23, 59, 59, 999999), instant=dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        document='{"a": [1, null, {"b": "c"}]}', token=str(uuid.UUID(int=2**128 - 1)), numbers=[-(2**31), 2**31 - 1],
    )
    return [nothing, low, high]


def make(count, seed=7):
    """`count` rows in key order: the edges first, then random ones, one value in ten NULL."""
    chance = random.Random(seed)
    start = dt.datetime(1970, 1, 1)

    def one():
        wall = start + dt.timedelta(microseconds=chance.randrange(-(10**15), 4 * 10**15))
        row = dict(
            flag=chance.random() < 0.5, tiny=chance.randrange(-128, 128), small=chance.randrange(-(2**15), 2**15),
            big=chance.randrange(-(2**63), 2**63), small_unsigned=chance.randrange(2**16),
            big_unsigned=Decimal(chance.randrange(2**64)), ratio=chance.uniform(-1e6, 1e6), ratio32=chance.randrange(-64, 64) / 8,
            amount=Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-4), wide=Decimal(chance.randrange(-(10**25), 10**25)).scaleb(-10),
            name=f"name {chance.randrange(1000)}", note=chance.choice("abcdef") * chance.randrange(60),
            raw=chance.randbytes(chance.randrange(20)), day=(wall - dt.timedelta(days=1)).date(),
            moment=chance.randrange(86_400_000_000), wall_clock=wall, instant=wall.replace(tzinfo=UTC),
            document=f'{{"n": {chance.randrange(100)}}}', token=str(uuid.UUID(int=chance.randrange(2**128))),
            numbers=[chance.choice([None, chance.randrange(100)]) for _ in range(chance.randrange(4))],
        )
        return {name: None if chance.random() < 0.1 else value for name, value in row.items()}

    rows = edges()
    rows += [one() for _ in range(count - len(rows))]
    for number, row in enumerate(rows):
        row["id"] = number * 3 - 100
    return rows


def literal(name, value):
    """A value as SQL."""
    if value is None:
        return "NULL"
    if name == "moment":
        seconds, micros = divmod(value, 1_000_000)
        return f"TIME '{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}'"
    if name == "wall_clock":
        return f"'{value.isoformat(sep=' ', timespec='microseconds')}'"
    if name == "instant":
        return f"'{value.isoformat(timespec='microseconds')}'"
    if name == "day":
        return f"DATE '{value.isoformat()}'"
    if name == "raw":
        return f"X'{value.hex()}'"
    if name == "numbers":
        return "[" + ", ".join("NULL" if item is None else str(item) for item in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, bool):
        return str(value).upper()
    return repr(value) if isinstance(value, float) else format(value, "f" if isinstance(value, Decimal) else "")


def sql(table, rows, batch=250):
    """CREATE TABLE and INSERT statements."""
    columns = ", ".join(f"{name} {sql_type}" for name, sql_type, _ in COLUMNS)
    yield f"CREATE TABLE {table} ({columns});"
    for start in range(0, len(rows), batch):
        values = ",\n  ".join("(" + ", ".join(literal(name, row[name]) for name in NAMES) + ")" for row in rows[start : start + batch])
        yield f"INSERT INTO {table} ({', '.join(NAMES)}) VALUES\n  {values};"


def arrow(rows):
    """What a reader must give back, in key order."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)
