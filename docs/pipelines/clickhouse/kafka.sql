-- Reads the topic of `--output kafka:…`. Its messages have the host's name in a header.
CREATE TABLE tcptrace.queue AS tcptrace.lines
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'localhost:9092',
    kafka_topic_list = 'tcptrace',
    kafka_group_name = 'clickhouse',
    kafka_format = 'JSONEachRow';

CREATE MATERIALIZED VIEW tcptrace.from_queue TO tcptrace.lines AS
SELECT * REPLACE (`_headers.value`[indexOf(`_headers.name`, 'host.name')] AS host) FROM tcptrace.queue;
