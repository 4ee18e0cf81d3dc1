-- Connections whose both ends were traced, by what each end says of how it ended: the most frequent first. An end is a
-- socket of a host; ends belong together by their addresses and ports, which may be used again, and by the time: the
-- clocks of two hosts may be two seconds apart. How far they are the last column tells, with the way of the last ACK.
WITH ends AS
(
    SELECT
        host,
        cookie,
        any(e.local_address) AS local_address,
        any(e.local_port) AS local_port,
        any(e.remote_address) AS remote_address,
        any(e.remote_port) AS remote_port,
        anyIf(e.command, e.command != '') AS service,
        anyIf(e.old_state, e.new_state = 'ESTABLISHED') AS from_state,
        minIf(e.time, e.new_state = 'ESTABLISHED') AS established,
        anyIf(e.ending, e.ending != '') AS ending
    FROM tcptrace.events AS e
    WHERE e.event = 'transition' AND (e.new_state = 'ESTABLISHED' OR e.ending != '')
        AND e.time >= {since:DateTime('UTC')} AND e.time < {until:DateTime('UTC')}
    GROUP BY host, cookie
    HAVING from_state != ''
)
SELECT
    client.service AS client,
    server.service AS server,
    client.ending AS client_ending,
    server.ending AS server_ending,
    count() AS connections,
    countDistinct(client.host, server.host) AS pairs_of_hosts,
    round(max(abs(dateDiff('microsecond', client.established, server.established))) / 1e3, 3) AS apart_ms
FROM (SELECT * FROM ends WHERE from_state = 'SYN_SENT') AS client
ASOF JOIN (SELECT *, established + INTERVAL 2 SECOND AS latest FROM ends WHERE from_state = 'SYN_RECV') AS server
    ON client.local_address = server.remote_address AND client.local_port = server.remote_port
    AND client.remote_address = server.local_address AND client.remote_port = server.local_port
    AND client.established <= server.latest
WHERE server.established <= client.established + INTERVAL 2 SECOND
GROUP BY ALL
ORDER BY connections DESC, client, server, client_ending, server_ending
