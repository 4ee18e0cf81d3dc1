-- Services whose processes do not close what their peers have closed, across hosts: the most sockets first.
SELECT
    owner.command AS service,
    uniqExact(host) AS hosts,
    sum(count) AS sockets,
    round(sum(JSONExtractFloat(evidence, 'growth_per_minute')), 1) AS growth_per_minute,
    sum(JSONExtractUInt(evidence, 'unread_bytes')) AS unread_bytes,
    argMax(host, count) AS worst_host,
    max(count) AS sockets_there
FROM tcptrace.open_findings
WHERE finding = 'close-wait-leak'
GROUP BY service
ORDER BY sockets DESC, service
LIMIT 20
