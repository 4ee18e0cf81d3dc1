"""Runs the files of docs/pipelines/clickhouse in ClickHouse's engine, which chdb has in this process.

Usage: clickhouse.py files|kafka SQL DATA NAME=VALUE...

Makes the tables of SQL/schema.sql, and reads the files HOST/*.jsonl* below DATA: as SQL/files.sql says, or produced to
a topic of a broker that librdkafka has for tests, and read from there as SQL/kafka.sql says. Asks SQL/queries/*.sql with
the parameters NAME. Prints one JSON object: what was read, how long it took, and the answers. The database is at
DATA/.clickhouse, and stays there.
"""

import json
import pathlib
import sys
import time

from chdb.session import Session


def statements(text):
    """The statements of a file. None of ours has a semicolon within, but in comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in code.split(";") if statement.strip()]


def read_files(session, sql, data):
    # There is no user_files_path here.
    for statement in statements((sql / "files.sql").read_text().replace("'*/", f"'{data}/*/")):
        session.query(statement)


def read_kafka(session, sql, data):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 2})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    # The broker keeps 5 MB of a partition and drops what is older, and the producer by itself may put all into one.
    partitions = len(producer.list_topics("tcptrace", timeout=10).topics["tcptrace"].partitions)
    produced = 0
    for file in data.glob("*/*.jsonl"):
        for line in file.read_bytes().splitlines():
            headers = {"host.name": file.parent.name}
            producer.produce("tcptrace", value=line, partition=produced % partitions, headers=headers)
            producer.poll(0)
            produced += 1
    if producer.flush(30):
        raise SystemExit("the broker did not take all messages")
    text = (sql / "kafka.sql").read_text().replace("localhost:9092", f"{broker.host}:{broker.port}")
    table, view = statements(text)
    try:
        session.query(table)
    except RuntimeError as error:
        # The table is there, but chdb has no threads that read on their own for views.
        if "Shutdown was called" not in str(error):
            raise
    select = view[view.index("SELECT"):]
    session.query("SET stream_like_engine_allow_direct_select = 1")
    kept = "SELECT (SELECT count() FROM tcptrace.events) + (SELECT count() FROM tcptrace.findings)"
    until = time.monotonic() + 60
    while int(str(session.query(kept))) < produced and time.monotonic() < until:
        session.query(f"INSERT INTO tcptrace.lines {select}")


def main():
    way, sql, data = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    parameters = dict(argument.split("=", 1) for argument in sys.argv[4:])
    session = Session(str(data / ".clickhouse"))

    def ask(query):
        return json.loads(str(session.query(query, "JSONCompact", params=parameters)))["data"]

    session.query("SET max_memory_usage = 8000000000")
    session.query("SET output_format_pretty_row_numbers = 0")
    for statement in statements((sql / "schema.sql").read_text()):
        session.query(statement)
    start = time.monotonic()
    {"files": read_files, "kafka": read_kafka}[way](session, sql, data)
    report = {
        "version": ask("SELECT version()")[0][0],
        "load_s": time.monotonic() - start,
        "columns": [row[0] for row in ask("DESCRIBE TABLE tcptrace.events")],
        "hosts": int(ask("SELECT uniqExact(host) FROM tcptrace.events")[0][0]),
        "events": int(ask("SELECT count() FROM tcptrace.events")[0][0]),
        "findings": int(ask("SELECT count() FROM tcptrace.findings")[0][0]),
        "bytes": int(ask("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'tcptrace'")[0][0]),
        "queries": {},
    }
    for file in sorted((sql / "queries").glob("*.sql")):
        (query,) = statements(file.read_text())
        start = time.monotonic()
        text = str(session.query(query, "PrettyCompactNoEscapes", params=parameters))
        report["queries"][file.stem] = {"s": time.monotonic() - start, "text": text, "rows": ask(query)}
    json.dump(report, sys.stdout)


main()
