//! What users of other tools type, and what it is called here: `ss`, `netstat`, bcc's tools, `tcpdump`, `kubectl`, `docker`,
//! `journalctl`. What has one clear meaning is taken; for the rest the message names tcptrace's own spelling.

use Habit::{Is, Way};

/// What becomes of a flag that is not tcptrace's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Habit {
    /// It is this flag, or nothing at all.
    Is(Option<&'static str>),
    /// It does not exist; this is the way out.
    Way(&'static str),
}

const TIMES: &str = "every line has its time already; --time utc, iso, mono or delta changes its form";
const DETAILS: &str = "--format json has all that is known, and --columns chooses among it";
const KILL: &str = "`tcptrace kill` ends connections";
const UNTIL: &str = "tcptrace goes on until Ctrl-C, --duration or --count";
const LABELS: &str = "labels are in the API server, which tcptrace does not ask: --pod, --container and --unit select";
const PAST: &str =
    "tcptrace keeps nothing unless it records: `tcptrace record -w FILE`, then `tcptrace replay FILE --from TIME`";

/// A letter that the command does not have.
pub(super) fn letter(letter: char, command: &str) -> Option<Habit> {
    let lists = command == "sockets";
    Some(match letter {
        // Numbers instead of names: what ss, tcpdump and netstat mean by -n is what tcptrace does anyway.
        'n' => Is(None),
        'N' => Is(Some("--netns")),
        'l' if lists => Is(Some("--state=LISTEN")),
        'l' => Way("write --state LISTEN, or `tcptrace sockets -l` for a list"),
        'w' if lists => Is(Some("--watch")),
        'w' => Way("columns are as wide as their values; --output FILE writes to a file"),
        // Every line has its time.
        'T' | 't' => Is(None),
        'v' => Way("--pid shows everything known about owners; `tcptrace doctor -v` explains its checks"),
        'u' => Way("tcptrace traces TCP only; for a user write --uid or --user"),
        // What tcpconnect adds to its lines: users of processes.
        'U' if command.is_empty() => Is(Some("--pid")),
        'U' => Way("for a user write --uid N or --user NAME"),
        'r' => Way("addresses are printed as numbers; --resolve looks up names for JSON and CSV"),
        'e' | 'i' | 'm' => Way(DETAILS),
        'K' => Way(KILL),
        'A' => Way("all network namespaces are traced, and pods of all namespaces; an address is -a or --address"),
        'C' | 'k' => Way("--summary counts events, and `tcptrace rates` prints how many there are per second"),
        'H' => Way("--format csv and json have no heading"),
        'Y' => Way("IPv6 alone is -6"),
        _ => return None,
    })
}

/// A letter that takes a value here and was given none.
pub(super) fn without_value(letter: char, command: &str) -> Option<Habit> {
    match (letter, command) {
        ('a', "sockets") => Some(Is(None)),
        ('s', "sockets") => Some(Is(Some("--by=state"))),
        ('s', "") => Some(Way("it is short for --state, which needs states; CSV is --format csv")),
        ('f', "" | "stuck" | "story" | "rates") => Some(Way(UNTIL)),
        _ => None,
    }
}

/// A long flag that the command does not have.
pub(super) fn long(name: &str, command: &str) -> Option<Habit> {
    let lists = command == "sockets";
    Some(match name {
        "sort-by" => Is(Some("--sort")),
        "listening" if lists => Is(Some("--state=LISTEN")),
        "all" | "all-namespaces" | "numeric" | "tcp" if lists => Is(None),
        "processes" if lists => Is(Some("--pid")),
        "dry-run" if command == "kill" => Is(None),
        "dry-run" => Way("only `tcptrace kill` changes anything, and that only with --yes"),
        "follow" => Way(UNTIL),
        "since" | "until" => Way(PAST),
        "tail" | "lines" | "limit" | "head" => Way("--count N ends after N records"),
        "wide" | "no-trunc" | "extended" | "info" | "memory" => Way(DETAILS),
        "kill" => Way(KILL),
        "timestamp" | "timestamps" => Way(TIMES),
        "no-header" | "no-headers" => Way("--format csv and json have no heading"),
        "selector" | "show-labels" | "label" => Way(LABELS),
        "namespace" => Way("a network namespace is --netns; for one of Kubernetes write --pod NAMESPACE/POD"),
        _ => return None,
    })
}

/// A word in the place of a command, or of a filter.
pub(super) fn command(word: &str) -> Option<&'static str> {
    Some(match word {
        "get" | "list" | "ls" | "ps" | "ss" | "netstat" | "lsof" => "`tcptrace sockets` lists sockets",
        "describe" | "inspect" | "follow" => "`tcptrace story WHICH` tells all about one connection",
        "logs" | "events" | "watch" | "trace" | "states" | "tcpstates" => {
            "`tcptrace` alone prints events as they happen"
        }
        "delete" | "rm" | "destroy" => KILL,
        "version" => "write `tcptrace --version`",
        "summary" | "stats" | "life" | "tcplife" => {
            "`tcptrace --summary` counts, and `tcptrace --state CLOSE` shows each end"
        }
        "retrans" | "retransmits" | "tcpretrans" => "write `tcptrace --where 'event == retransmit'`",
        "reset" | "resets" | "rst" => "write `tcptrace --where 'event == reset'`",
        "connect" | "tcpconnect" | "accept" | "tcpaccept" | "tracer" | "tcptracer" => {
            "write `tcptrace --state SYN_SENT` for what this host opens, `--state SYN_RECV` for what it accepts"
        }
        "connlat" | "tcpconnlat" => "write `tcptrace --where 'old == SYN_SENT && age > 10ms'`",
        "drop" | "drops" | "tcpdrop" => {
            "tcptrace does not trace dropped packets; `tcptrace rates` counts what TCP counts"
        }
        "findings" | "problems" | "check" | "diagnose" => {
            "`tcptrace stuck` shows problems, and `tcptrace doctor` checks the machine"
        }
        "play" | "open" | "read" => "`tcptrace replay FILE` shows a recording",
        _ => return None,
    })
}

/// A value of `-o` that means a format elsewhere.
pub(super) fn output(value: &str) -> Option<Habit> {
    Some(match value {
        "json" | "jsonl" => Is(Some("--format=json")),
        "csv" => Is(Some("--format=csv")),
        "text" => Is(Some("--format=text")),
        "wide" => Way(DETAILS),
        "yaml" | "name" | "jsonpath" | "go-template" | "custom-columns" => {
            Way("the formats are text, json and csv; --columns chooses fields")
        }
        _ => return None,
    })
}
