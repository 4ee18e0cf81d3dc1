"""Runs the files of docs/pipelines/clickhouse in ClickHouse's engine, which chdb has in this process.

Usage: clickhouse.py SQL DATA NAME=VALUE...

Makes the tables of SQL/schema.sql, reads the files HOST/*.jsonl* below DATA as SQL/files.sql says, and asks
SQL/queries/*.sql with the parameters NAME. Prints one JSON object: what was read, how long it took, and the answers.
The database is at DATA/.clickhouse and is not removed.
"""

import json
import pathlib
import sys
import time

from chdb.session import Session


def statements(text):
    """The statements of a file; none of ours has a semicolon within, but in comments."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement for statement in code.split(";") if statement.strip()]


def main():
    sql, data = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    parameters = dict(argument.split("=", 1) for argument in sys.argv[3:])
    session = Session(str(data / ".clickhouse"))

    def ask(query):
        return json.loads(str(session.query(query, "JSONCompact", params=parameters)))["data"]

    def timed(work):
        start = time.monotonic()
        answer = work()
        return time.monotonic() - start, answer

    def run(file, change=lambda text: text):
        for statement in statements(change((sql / file).read_text())):
            session.query(statement)

    session.query("SET max_memory_usage = 8000000000")
    run("schema.sql")
    # The tables have no user_files_path here.
    load_s, _ = timed(lambda: run("files.sql", lambda text: text.replace("'*/", f"'{data}/*/")))
    parts = "FROM system.parts WHERE active AND database = 'tcptrace'"
    report = {
        "version": ask("SELECT version()")[0][0],
        "load_s": load_s,
        "columns": [name for (name,) in ask(
            "SELECT name FROM system.columns WHERE database = 'tcptrace' AND table = 'events'")],
        "rows": dict(ask("SELECT event, count() FROM tcptrace.events GROUP BY event")),
        "findings": int(ask("SELECT count() FROM tcptrace.findings")[0][0]),
        "bytes": int(ask(f"SELECT sum(bytes_on_disk) {parts}")[0][0]),
        "queries": {},
    }
    for file in sorted((sql / "queries").glob("*.sql")):
        (query,) = statements(file.read_text())
        seconds, _ = timed(lambda: session.query(query, "Null", params=parameters))
        report["queries"][file.stem] = {
            "s": seconds,
            "rows": ask(query),
            "text": str(session.query(query + " LIMIT 12" * ("LIMIT" not in query), "PrettyCompactNoEscapes", params=parameters)),
        }
    json.dump(report, sys.stdout)


main()
