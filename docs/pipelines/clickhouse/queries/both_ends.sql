-- Connections whose both ends were traced, by what each end says of how it ended: the most frequent first. An end is a
-- socket of a host; ends belong together by their addresses and ports, which may be used again, and by the time: the
-- clocks of two hosts may differ by two seconds.
WITH ends AS
(
    SELECT
        host,
        cookie,
        any(local_address) AS local_address,
        any(local_port) AS local_port,
        any(remote_address) AS remote_address,
        any(remote_port) AS remote_port,
        anyIf(command, command != '') AS service,
        anyIf(old_state, new_state = 'ESTABLISHED') AS from_state,
        minIf(time, new_state = 'ESTABLISHED') AS since,
        maxIf(time, ending != '') AS until,
        anyIf(ending, ending != '') AS ending
    FROM tcptrace.events
    WHERE event = 'transition' AND (new_state = 'ESTABLISHED' OR ending != '')
        AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
    GROUP BY host, cookie
    HAVING from_state != ''
)
SELECT
    client.service AS client,
    server.service AS server,
    client.ending AS client_ending,
    server.ending AS server_ending,
    count() AS connections,
    countDistinct(client.host, server.host) AS pairs_of_hosts
FROM (SELECT * FROM ends WHERE from_state = 'SYN_SENT') AS client
ASOF JOIN (SELECT *, since + INTERVAL 2 SECOND AS latest FROM ends WHERE from_state = 'SYN_RECV') AS server
    ON client.local_address = server.remote_address AND client.local_port = server.remote_port
    AND client.remote_address = server.local_address AND client.remote_port = server.local_port
    AND client.since <= server.latest
WHERE server.since <= client.since + INTERVAL 2 SECOND
GROUP BY ALL
ORDER BY connections DESC, client, server, client_ending, server_ending
