//! `tcptrace stuck --format nagios`: a plugin says on stdout what is wrong, and ends with 3 where it could not check.

use super::{assert_refused, run};

#[test]
fn a_plugin_says_on_stdout_that_it_could_not_check() {
    for flags in [
        &["stuck", "--format", "nagios"][..],
        &["stuck", "--once", "--format=nagios", "--port", "http"],
        &["stuck", "--once", "-f", "nagios", "--no-such-flag"],
    ] {
        let run = run(flags);
        assert_eq!(run.code, Some(3), "{flags:?}: {}", run.stderr);
        assert!(run.stdout.starts_with("TCPTRACE UNKNOWN: error: "), "{flags:?}: {}", run.stdout);
        assert_eq!(run.stdout.lines().count(), 1, "{flags:?}: {}", run.stdout);
        assert!(run.stderr.starts_with("error: "), "{flags:?}: {}", run.stderr);
    }
    let help = run(&["stuck", "--help", "--format", "nagios"]);
    assert_eq!((help.code, help.stdout.contains("UNKNOWN")), (Some(0), false));
}

#[test]
fn others_end_as_before() {
    assert_refused(&["stuck", "--port", "http"], &["--port"]);
    assert_refused(&["stuck", "--format", "xml"], &["text, json, csv, nagios"]);
}
