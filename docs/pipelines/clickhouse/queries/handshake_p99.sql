-- The handshake as clients see it, from SYN to SYN-ACK, by client and server: the slowest first. Who serves at an
-- address the servers' hosts tell; where none does, the port stands for it. The percentiles are within 1 %.
WITH servers AS
(
    SELECT local_address AS address, local_port AS port, any(command) AS service
    FROM tcptrace.events
    WHERE event = 'transition' AND new_state = 'ESTABLISHED' AND old_state = 'SYN_RECV' AND command != ''
        AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
    GROUP BY address, port
)
SELECT
    command AS client,
    if(servers.service = '', 'port ' || toString(remote_port), servers.service) AS server,
    count() AS handshakes,
    round(quantileDD(0.01, 0.5)(handshake_rtt_ns) / 1e6, 3) AS p50_ms,
    round(quantileDD(0.01, 0.99)(handshake_rtt_ns) / 1e6, 3) AS p99_ms
FROM tcptrace.events
LEFT JOIN servers ON servers.address = remote_address AND servers.port = remote_port
WHERE event = 'transition' AND new_state = 'ESTABLISHED' AND old_state = 'SYN_SENT' AND handshake_rtt_ns IS NOT NULL
    AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
GROUP BY client, server
ORDER BY p99_ms DESC
