//! `tcptrace explain`: what it finds, how it prints it, and what it says of other words.

use super::{assert_refused, run_with, tracer};

/// What it prints for these words.
fn explained(words: &[&str]) -> String {
    // The list is longer than a pipe holds.
    let told = tracer().arg("explain").args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!((told.status.code(), text(told.stderr).as_str()), (Some(0), ""), "{words:?}");
    text(told.stdout)
}

#[test]
fn findings_states_and_errors_are_explained() {
    for (words, parts) in [
        (
            &["close-wait-leak"][..],
            &["(finding; docs/findings.md)", "What to do.", "tcp_fin()", "Threshold CLOSE_WAIT."][..],
        ),
        (&["CLOSE_WAIT"], &["(state; docs/states.md)", "Timers and sysctls.", "tcp_close_state()"]),
        (&["fin-wait-2"], &["FIN_WAIT2 (state", "tcp_fin_timeout"]),
        (&["orphaned", "FIN_WAIT2"], &["orphaned FIN_WAIT2 (state", "mini-socket"]),
        (&["new_syn_recv"], &["NEW_SYN_RECV (state", "tcp_synack_retries"]),
        (&["ETIMEDOUT"], &["ETIMEDOUT (errno; docs/errnos.md)", "tcp_syn_retries", "peer-dead"]),
        (&["110"], &["ETIMEDOUT (errno"]),
        (&["enoent"], &["ENOENT (errno", "errno 2: No such file or directory"]),
        (&["reset_by_peer"], &["(ending; docs/json.md)", "The peer sent a RST."]),
        (&["never_closed"], &["(cause; docs/findings.md)", "what helps"]),
        (&["idle-reset"], &["(finding;", "Threshold idle-reset. - default: 60s"]),
        (&["LAST_ACK"], &["(state;", "(threshold;", "default: 15s"]),
        (&["total_retrans"], &["field of transition", "Segments retransmitted"]),
        (&["tcptrace_losses_total"], &["(metric; docs/metrics.md)"]),
        (&["filters"], &["(section; docs/filters.md)", "The language", "Words of ss and tcpdump", "age > 1m"]),
        (&["config file"], &["(section; docs/pipelines.md)", "environment variables"]),
    ] {
        let text = explained(words);
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(plain.contains(part), "{words:?} has no {part:?}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100 || line.starts_with("    ")), "{words:?}: {text}");
        assert!(!text.contains("**") && !text.contains('\x1b') && !text.contains("]("), "{words:?}: {text}");
    }
}

#[test]
fn the_command_that_a_finding_names_is_one() {
    let text = explained(&["close-wait-leak", "--color", "always"]);
    assert!(text.contains("\x1b[1mWhat it is.\x1b[22m"), "{text}");
    let told = run_with(&["explain", "close-wait-leak"], &[("CLICOLOR_FORCE", "1")]);
    assert!(told.stdout.contains("\x1b[1m"), "{}", told.stdout);
}

#[test]
fn the_list_has_everything() {
    let list = explained(&[]);
    for line in
        ["  close-wait-leak ", "  CLOSE_WAIT ", "  orphaned FIN_WAIT2 ", "  ECONNREFUSED ", "Endings: normal, refused"]
    {
        assert!(list.contains(line), "{line:?}: {list}");
    }
    assert!(list.lines().all(|line| line.chars().count() <= 100), "{list}");
    let objects = explained(&["--json"]);
    let objects: Vec<serde_json::Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.len() > 300, "{}", objects.len());
    // Each is found by its name.
    for object in objects.iter().step_by(40) {
        let name = object["topic"].as_str().unwrap();
        let found = explained(&["--json", "--", name]);
        let found: Vec<serde_json::Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // A field that counts an ending, a state or a cause is explained by that.
        let is_it = |found: &serde_json::Value| found["kind"] == object["kind"] || object["kind"] == "field";
        assert!(found.iter().any(|found| is_it(found) && !found["text"].as_str().unwrap().is_empty()), "{name}");
    }
}

#[test]
fn other_words_are_refused_with_the_nearest() {
    assert_refused(&["explain", "close-wait-leek"], &["`close-wait-leek`", "did you mean `close-wait-leak`?"]);
    assert_refused(&["explain", "ETIMEOUT"], &["did you mean `ETIMEDOUT`?", "`tcptrace explain` lists"]);
    assert_refused(&["explain", "clos_wait"], &["did you mean `CLOSE_WAIT`?"]);
    assert_refused(&["explain", "999"], &["`999`", "`tcptrace explain` lists"]);
    assert_refused(&["explain", "\u{1b}[31m"], &["`?[31m`"]);
}

/// Whoever has only the program does not have the files of its repository.
#[test]
fn help_names_commands_and_no_files_of_the_repository() {
    let commands =
        ["sockets", "stuck", "kill", "rates", "story", "doctor", "daemon", "record", "replay", "config", "explain"];
    for command in [&[][..]].into_iter().chain(commands.iter().map(std::slice::from_ref)) {
        let help = run_with(&[command, &["--help"]].concat(), &[]).stdout;
        assert!(help.contains("Usage: tcptrace") && !help.contains(".md") && !help.contains("docs/"), "{help}");
    }
}
