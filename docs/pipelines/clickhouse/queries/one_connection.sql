-- One connection as both of its hosts saw it, in the order of time.
SELECT
    time,
    host,
    command,
    event,
    if(event = 'transition', old_state || ' → ' || new_state, state) AS what,
    round(time_in_old_state_ns / 1e6, 3) AS ms_in_old_state,
    ending
FROM tcptrace.events
WHERE time >= {since:DateTime('UTC')} AND time < {until:DateTime('UTC')}
    AND (local_address, local_port, remote_address, remote_port) IN (
        ({address:IPv6}, {port:UInt16}, {peer_address:IPv6}, {peer_port:UInt16}),
        ({peer_address:IPv6}, {peer_port:UInt16}, {address:IPv6}, {port:UInt16}))
ORDER BY time, host, mono_ns
