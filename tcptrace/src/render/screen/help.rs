//! The page of keys.

/// All keys.
pub(super) const TEXT: &str = "\
1 to 6, Tab        Findings, Sockets, Processes, Services, States, Rates
↑ ↓ j k            a row up or down
PgUp PgDn          a page up or down
Home End g G       the first or the last row
s, r               sort by the next column; turn the order round
capital letters    sort by a column; pressed again, the other way round (below)
Enter              the story of the chosen connection, or of the first one of a finding;
                   a process or a service: its sockets
/                  edit the filter (the language of --where, docs/filters.md)
e                  explain the chosen finding or state
y                  the command line that shows the same
space, p           stand still, or go on
?                  this page
q, Esc             back; from a list: end
Ctrl-C             end
Ctrl-Z             to the background

In a replay:
← →                a second back or forth
[ ]                a minute back or forth
< >                slower or faster, ×1 to ×100
n N                to the next finding that opened, or the one before

Columns to sort by:
Sockets            S state, A age, P process, L local, M remote, R Recv-Q, Q Send-Q,
                   T retransmits, B how the process is known, E network namespace
Processes          P process, I PID, S sockets, E established, C CLOSE_WAIT, T transitions/s,
                   R retransmits/s, X RST/s, L listening, O opening, F closing, A, B in all
Services           P port, A name, R process, S sockets, E established, C CLOSE_WAIT,
                   Q accept queue, H half-open, F closing, L listening, T network namespace

Ages with ≥ are lower bounds, with ~ derived from a timer. Queues (Recv-Q, Send-Q, Accept-Q) are
those of the last listing that showed the socket: - if none did. Of a listener, Recv-Q is the
length of its accept queue and Send-Q the limit of that. A process may be known in several ways
(column By): tcptrace explain owner_source.
";
