-- What is wrong now, by service: the worst first.
SELECT
    owner.command AS service,
    finding,
    severity,
    uniqExact(host) AS hosts,
    count() AS findings,
    sum(count) AS sockets,
    formatReadableTimeDelta(max(dateDiff('second', time, now64(9)) + intDiv(open_for_ns, 1000000000))) AS open_for
FROM tcptrace.open_findings
GROUP BY service, finding, severity
ORDER BY indexOf(['critical', 'warning', 'info'], severity), sockets DESC, service, finding
