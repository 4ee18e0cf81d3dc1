-- Who resets whom: RSTs by who sent them, and who got them at the other end. Both hosts tell of one RST within a second
-- (of the clocks of two hosts). Where the other host is not traced, nobody is named; a port without a listener
-- sends RSTs too, and has no owner.
SELECT
    if(sent.command = '', 'no listener', sent.command) AS sender,
    if(received.time <= sent.time + INTERVAL 1 SECOND, received.command, '') AS receiver,
    sent.state AS state,
    sent.reason AS reason,
    count() AS resets,
    uniqExact(sent.host) AS sender_hosts
FROM (
    SELECT * FROM tcptrace.events
    WHERE event = 'reset_sent' AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
) AS sent
ASOF LEFT JOIN (
    SELECT *, time + INTERVAL 1 SECOND AS latest FROM tcptrace.events
    WHERE event = 'reset_received' AND time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
) AS received
    ON sent.local_address = received.remote_address AND sent.local_port = received.remote_port
    AND sent.remote_address = received.local_address AND sent.remote_port = received.local_port
    AND sent.time <= received.latest
GROUP BY ALL
ORDER BY resets DESC, sender, receiver
