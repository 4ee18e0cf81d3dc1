-- Tables for the records of docs/json.md from many hosts. Lines go into `lines`, which stores nothing: two views sort
-- them into `events` and `findings`. So every import is one INSERT, and parses a line once.
--
-- Unknown text is '', an unknown address ::, an unknown port, PID, cookie, `sk` or `netns` 0: real values are never these.
-- Other numbers may be 0, so they are Nullable. IPv4 addresses are stored as ::ffff:a.b.c.d.

CREATE DATABASE IF NOT EXISTS tcptrace;

-- Unknown fields are ignored, so lines of later versions can be imported. The import adds `host`.
CREATE TABLE IF NOT EXISTS tcptrace.lines
(
    host LowCardinality(String),
    event LowCardinality(String),
    time DateTime64(9, 'UTC'),
    mono_ns UInt64,
    cpu Nullable(UInt32),
    sk String,
    cookie UInt64,
    netns UInt32,
    netns_name LowCardinality(String),
    family LowCardinality(String),
    local_address IPv6,
    local_port UInt16,
    local_service LowCardinality(String),
    remote_address IPv6,
    remote_port UInt16,
    remote_service LowCardinality(String),
    remote_name LowCardinality(String),
    state LowCardinality(String),
    old_state LowCardinality(String),
    new_state LowCardinality(String),
    new_state_source LowCardinality(String),
    time_in_old_state_ns Nullable(UInt64),
    time_source LowCardinality(String),
    after_gap Bool,
    handshake_rtt_ns Nullable(UInt64),
    srtt_us Nullable(UInt32),
    total_retrans Nullable(UInt32),
    timeouts Nullable(UInt32),
    bytes_acked Nullable(UInt64),
    bytes_received Nullable(UInt64),
    receive_queue Nullable(UInt32),
    send_queue Nullable(UInt32),
    last_sent_ns Nullable(UInt64),
    last_received_ns Nullable(UInt64),
    last_ack_ns Nullable(UInt64),
    ending LowCardinality(String),
    process_exit LowCardinality(String),
    expires_in_ns Nullable(UInt64),
    errno LowCardinality(String),
    reason LowCardinality(String),
    reason_code Nullable(UInt32),
    pid UInt32,
    command LowCardinality(String),
    uid Nullable(UInt32),
    cgroup_id UInt64,
    cgroup LowCardinality(String),
    owner_source LowCardinality(String),
    owner_candidates Array(UInt32),
    user LowCardinality(String),
    ns_pid Nullable(UInt32),
    executable LowCardinality(String),
    args Array(String),
    parent_pid Nullable(UInt32),
    parent_command LowCardinality(String),
    unit LowCardinality(String),
    container_id LowCardinality(String),
    container_name LowCardinality(String),
    container_image LowCardinality(String),
    container_runtime LowCardinality(String),
    container_source LowCardinality(String),
    pod_uid LowCardinality(String),
    pod_name LowCardinality(String),
    pod_namespace LowCardinality(String),
    pod_container LowCardinality(String),
    pod_source LowCardinality(String),
    peer_pid UInt32,
    peer_command LowCardinality(String),
    peer_uid Nullable(UInt32),
    peer_executable LowCardinality(String),
    peer_unit LowCardinality(String),
    peer_container_id LowCardinality(String),
    peer_container_name LowCardinality(String),
    peer_pod_uid LowCardinality(String),
    peer_pod_name LowCardinality(String),
    peer_pod_namespace LowCardinality(String),
    peer_owner_source LowCardinality(String),
    peer_source LowCardinality(String),
    lost Nullable(UInt64),
    -- Of findings.
    phase LowCardinality(String),
    finding LowCardinality(String),
    number UInt64,
    severity LowCardinality(String),
    owner Tuple(
        pid UInt32, command String, uid Nullable(UInt32), cgroup_id UInt64, cgroup String, source String,
        user String, ns_pid Nullable(UInt32), executable String, args Array(String), parent_pid Nullable(UInt32),
        parent_command String, unit String, container_id String, container_name String, container_image String,
        container_runtime String, container_source String, pod_uid String, pod_name String, pod_namespace String,
        pod_container String, pod_source String),
    count UInt64,
    age_ns Nullable(UInt64),
    age_source LowCardinality(String),
    open_for_ns UInt64,
    evidence String,
    examples String,
    explanation String,
    remedy String,
    docs String
)
ENGINE = Null;

-- A query asks for one kind of event or one state within some time, so these come first in the order, by the hour.
-- Within a host, times, cookies and the clock differ little from row to row: differences are kept.
CREATE TABLE IF NOT EXISTS tcptrace.events
(
    host LowCardinality(String),
    event LowCardinality(String),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    mono_ns UInt64 CODEC(Delta, ZSTD),
    cpu Nullable(UInt32) CODEC(ZSTD),
    sk UInt64 CODEC(ZSTD),
    cookie UInt64 CODEC(Delta, ZSTD),
    netns UInt32 CODEC(ZSTD),
    netns_name LowCardinality(String),
    family LowCardinality(String),
    local_address IPv6 CODEC(ZSTD),
    local_port UInt16 CODEC(ZSTD),
    local_service LowCardinality(String),
    remote_address IPv6 CODEC(ZSTD),
    remote_port UInt16 CODEC(ZSTD),
    remote_service LowCardinality(String),
    remote_name LowCardinality(String),
    state LowCardinality(String),
    old_state LowCardinality(String),
    new_state LowCardinality(String),
    new_state_source LowCardinality(String),
    time_in_old_state_ns Nullable(UInt64) CODEC(ZSTD),
    time_source LowCardinality(String),
    after_gap Bool CODEC(ZSTD),
    handshake_rtt_ns Nullable(UInt64) CODEC(ZSTD),
    srtt_us Nullable(UInt32) CODEC(ZSTD),
    total_retrans Nullable(UInt32) CODEC(ZSTD),
    timeouts Nullable(UInt32) CODEC(ZSTD),
    bytes_acked Nullable(UInt64) CODEC(ZSTD),
    bytes_received Nullable(UInt64) CODEC(ZSTD),
    receive_queue Nullable(UInt32) CODEC(ZSTD),
    send_queue Nullable(UInt32) CODEC(ZSTD),
    last_sent_ns Nullable(UInt64) CODEC(ZSTD),
    last_received_ns Nullable(UInt64) CODEC(ZSTD),
    last_ack_ns Nullable(UInt64) CODEC(ZSTD),
    ending LowCardinality(String),
    process_exit LowCardinality(String),
    expires_in_ns Nullable(UInt64) CODEC(ZSTD),
    errno LowCardinality(String),
    reason LowCardinality(String),
    reason_code Nullable(UInt32) CODEC(ZSTD),
    pid UInt32 CODEC(ZSTD),
    command LowCardinality(String),
    uid Nullable(UInt32) CODEC(ZSTD),
    cgroup_id UInt64 CODEC(ZSTD),
    cgroup LowCardinality(String),
    owner_source LowCardinality(String),
    owner_candidates Array(UInt32) CODEC(ZSTD),
    user LowCardinality(String),
    ns_pid Nullable(UInt32) CODEC(ZSTD),
    executable LowCardinality(String),
    args Array(String) CODEC(ZSTD),
    parent_pid Nullable(UInt32) CODEC(ZSTD),
    parent_command LowCardinality(String),
    unit LowCardinality(String),
    container_id LowCardinality(String),
    container_name LowCardinality(String),
    container_image LowCardinality(String),
    container_runtime LowCardinality(String),
    container_source LowCardinality(String),
    pod_uid LowCardinality(String),
    pod_name LowCardinality(String),
    pod_namespace LowCardinality(String),
    pod_container LowCardinality(String),
    pod_source LowCardinality(String),
    peer_pid UInt32 CODEC(ZSTD),
    peer_command LowCardinality(String),
    peer_uid Nullable(UInt32) CODEC(ZSTD),
    peer_executable LowCardinality(String),
    peer_unit LowCardinality(String),
    peer_container_id LowCardinality(String),
    peer_container_name LowCardinality(String),
    peer_pod_uid LowCardinality(String),
    peer_pod_name LowCardinality(String),
    peer_pod_namespace LowCardinality(String),
    peer_owner_source LowCardinality(String),
    peer_source LowCardinality(String),
    lost Nullable(UInt64) CODEC(ZSTD),
    count UInt64 CODEC(ZSTD)
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (event, new_state, toStartOfHour(time), host, time)
TTL toDateTime(time) + INTERVAL 30 DAY;

-- Few rows, kept for longer.
CREATE TABLE IF NOT EXISTS tcptrace.findings
(
    host LowCardinality(String),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    mono_ns UInt64 CODEC(ZSTD),
    phase LowCardinality(String),
    finding LowCardinality(String),
    number UInt64 CODEC(ZSTD),
    severity LowCardinality(String),
    netns UInt32 CODEC(ZSTD),
    netns_name LowCardinality(String),
    local_address IPv6 CODEC(ZSTD),
    local_port UInt16 CODEC(ZSTD),
    remote_address IPv6 CODEC(ZSTD),
    remote_port UInt16 CODEC(ZSTD),
    owner Tuple(
        pid UInt32, command LowCardinality(String), uid Nullable(UInt32), cgroup_id UInt64,
        cgroup LowCardinality(String), source LowCardinality(String), user LowCardinality(String),
        ns_pid Nullable(UInt32), executable LowCardinality(String), args Array(String), parent_pid Nullable(UInt32),
        parent_command LowCardinality(String), unit LowCardinality(String), container_id String,
        container_name LowCardinality(String), container_image LowCardinality(String),
        container_runtime LowCardinality(String), container_source LowCardinality(String), pod_uid String,
        pod_name LowCardinality(String), pod_namespace LowCardinality(String), pod_container LowCardinality(String),
        pod_source LowCardinality(String)),
    count UInt64 CODEC(ZSTD),
    age_ns Nullable(UInt64) CODEC(ZSTD),
    age_source LowCardinality(String),
    open_for_ns UInt64 CODEC(ZSTD),
    -- JSON: what is in them depends on the finding, and may grow. JSONExtractFloat(evidence, 'growth_per_minute')
    evidence String CODEC(ZSTD),
    examples String CODEC(ZSTD),
    explanation LowCardinality(String),
    remedy LowCardinality(String),
    docs LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (finding, host, time)
TTL toDateTime(time) + INTERVAL 400 DAY;

-- Summaries are left out: they are sums of what is here.
CREATE MATERIALIZED VIEW IF NOT EXISTS tcptrace.to_events TO tcptrace.events AS
SELECT
    * EXCEPT (
        phase, finding, number, severity, owner, age_ns, age_source, open_for_ns, evidence, examples, explanation,
        remedy, docs)
    REPLACE (reinterpretAsUInt64(reverse(unhex(substring(sk, 3)))) AS sk)
FROM tcptrace.lines
WHERE event NOT IN ('finding', 'summary');

CREATE MATERIALIZED VIEW IF NOT EXISTS tcptrace.to_findings TO tcptrace.findings AS
SELECT
    host, time, mono_ns, phase, finding, number, severity, netns, netns_name, local_address, local_port,
    remote_address, remote_port, owner, count, age_ns, age_source, open_for_ns, evidence, examples, explanation,
    remedy, docs
FROM tcptrace.lines
WHERE event = 'finding';

-- The last record of each finding that is open: neither has it closed, nor has the tcptrace that told of it ended. Each
-- run of tcptrace begins to number with 1.
CREATE VIEW IF NOT EXISTS tcptrace.open_findings AS
SELECT last.*
FROM (
    SELECT * FROM tcptrace.findings ORDER BY time DESC LIMIT 1 BY host, finding, number
) AS last
LEFT JOIN (SELECT host, max(time) AS time FROM tcptrace.events WHERE event = 'end' GROUP BY host) AS run USING (host)
WHERE last.phase != 'closed' AND last.time > run.time;
