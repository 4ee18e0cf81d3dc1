-- Imports the files of `--output file:PATH,format=json`, including rotated and compressed ones, one folder per host:
-- HOST/events.jsonl.zst. A server reads below its user_files_path.
CREATE TABLE tcptrace.files AS tcptrace.lines ENGINE = File(JSONEachRow, '*/*.jsonl*');

INSERT INTO tcptrace.lines SELECT * REPLACE (splitByChar('/', _path)[-2] AS host) FROM tcptrace.files;

DROP TABLE tcptrace.files;
