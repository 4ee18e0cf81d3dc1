//! `tcptrace kill`: what it refuses before it looks at any socket.

use super::{assert_refused, run};

#[test]
fn it_wants_to_be_told_which_sockets_to_end() {
    for flags in [
        &["kill"][..],
        &["kill", "--yes"],
        &["kill", "--netns", "self"],
        &["kill", "-4"],
        &["kill", "--older-than", "1m"],
    ] {
        assert_refused(
            flags,
            &["nothing says which sockets to end", "--finding close-wait-leak", "--state CLOSE_WAIT"],
        );
    }
}

#[test]
fn what_it_cannot_take_is_named() {
    assert_refused(&["kill", "4711"], &["`4711` is a number"]);
    assert_refused(&["kill", "cookie:0"], &["cookie:0", "is not cookie:N"]);
    assert_refused(&["kill", "--finding", "leak"], &["leak", "close-wait-leak"]);
    assert_refused(&["kill", "--state", "CLOSE_WAIT", "--max", "0"], &["--max", "1 to 1000000"]);
    assert_refused(&["kill", "--state", "CLOSE_WAIT", "--older-than", "soon"], &["--older-than", "soon"]);
    assert_refused(&["kill", "--state", "CLOSE_WAIT", "--json", "--format", "csv"], &["--json", "--format"]);
}

#[test]
fn its_help_says_what_both_ends_see() {
    let help = run(&["kill", "--help"]);
    assert_eq!(help.code, Some(0));
    for words in ["Without --yes nothing is ended", "ECONNABORTED", "RST", "Exit codes: 0", "--listeners", "--max"] {
        assert!(help.stdout.contains(words), "{words}: {}", help.stdout);
    }
}

#[test]
fn its_usage_and_its_filter_are_its_own() {
    assert_refused(&["kill", "--yes"], &["Usage: tcptrace kill [OPTIONS]"]);
    let told = run(&["kill", "--state", "CLOSE_WAIT", "--comm", "nginx", "--explain-filter"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    for words in ["filter:      state == CLOSE_WAIT && comm == \"nginx\"\n", "in kernel:   nothing\n", "--finding"] {
        assert!(told.stdout.contains(words), "{words}: {}", told.stdout);
    }
}
