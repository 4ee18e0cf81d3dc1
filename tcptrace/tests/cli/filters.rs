//! Filters on the command line: flags, words and expressions, and which part of them the kernel decides.

use crate::{assert_refused, assert_taken, run};

/// What `--explain-filter` prints: the whole filter, the kernel's part and tcptrace's part.
fn explained(arguments: &[&str]) -> [String; 3] {
    let run = run(&[arguments, &["--explain-filter"]].concat());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    let line = |name: &str| {
        let line = run.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{arguments:?}: no {name}: {}", run.stdout)).trim().to_owned()
    };
    [line("filter:"), line("in kernel:"), line("in tcptrace:")]
}

fn filter(arguments: &[&str]) -> String {
    explained(arguments)[0].clone()
}

#[test]
fn an_exclamation_mark_excludes() {
    for (arguments, want) in [
        (&["sockets", "-s", "!LISTEN"][..], "!(state == LISTEN)"),
        (&["--port", "!22"], "!(port == 22)"),
        (&["-P", "1-100,!22"], "port <= 100 && !(port == 22)"),
        (&["stuck", "--address", "!10.0.0.0/8,!127.0.0.0/8"], "!(addr in {10.0.0.0/8, 127.0.0.0/8})"),
        (&["--pid=!7"], "!(pid == 7)"),
        (&["--comm", "!sshd"], "!(comm == \"sshd\")"),
    ] {
        assert_eq!(filter(arguments), want, "{arguments:?}");
    }
    for state in ["~ESTAB", "^close", "LISTEN!", "!", "C-L-O-S-E"] {
        assert_refused(&["sockets", "--by", "state", "-s", state], &["--state", "the states are"]);
    }
}

#[test]
fn p_is_the_pid_and_capital_p_the_port() {
    assert_eq!(filter(&["-p", "7", "-P", "80"]), "port == 80 && pid == 7");
    assert_eq!(filter(&["-p7,8"]), "pid in {7, 8}");
    assert_eq!(filter(&["--pid", "80", "--port", "7801"]), "port == 7801 && pid == 80");
    assert_eq!(filter(&["--state", "CLOSE_WAIT", "--pid"]), "state == CLOSE_WAIT");
    assert_eq!(filter(&["--pid", "state", "close-wait"]), "state == CLOSE_WAIT", "nothing is swallowed");
    assert_refused(&["-p"], &["a value is required for -p", "--pid alone", "ports are -P"]);
    assert_refused(&["-p", "nginx"], &["--pid", "nginx"]);
    assert_refused(&["--pid", "nginx"], &["nginx", "neither a command nor a filter"]);
}

#[test]
fn a_pid_without_a_process_is_an_error() {
    // One more than PID_MAX_LIMIT allows as the last PID there can be: no process has it.
    for arguments in [&["sockets", "-p", "4194304"][..], &["stuck", "--once", "--pid=4194304"]] {
        let told = run(arguments);
        assert_eq!(told.code, Some(1), "{arguments:?}: {}", told.stderr);
        // Without the rights to trace, tracing ends earlier.
        let is_said = told.stderr.contains("--pid 4194304: there is no such process");
        assert!(is_said || told.stderr.contains("CAP_"), "{arguments:?}: {}", told.stderr);
    }
}

#[test]
fn an_optional_value_swallows_no_command() {
    assert_refused(&["--aggregate", "sockets"], &["`tcptrace sockets` has no flag --aggregate"]);
    assert_eq!(explained(&["--aggregate", "port", "-P", "80"])[1], "port == 80");
    assert_refused(
        &["--aggregate", "--where", "age > 1s"],
        &["--aggregate", "counts in the kernel", "cannot decide this part of the filter: age > 1s"],
    );
}

#[test]
fn habits_of_other_tools_work_or_are_named() {
    for (arguments, want) in [
        (&["sockets", "-tanp"][..], "everything"),
        (&["sockets", "-tlnp"], "state == LISTEN"),
        (&["sockets", "-l"], "state == LISTEN"),
        (&["-D", "443"], "rport == 443"),
        (&["-n", "port", "80"], "port == 80"),
        (&["sockets", "state", "close-wait", "sport", "=", ":80"], "state == CLOSE_WAIT && lport == 80"),
        (&["dport = :443"], "rport == 443"),
        (&["src", "10.0.0.0/8"], "laddr == 10.0.0.0/8"),
        (&["sockets", "(", "sport", "=", ":80", "or", "dport", "=", ":80", ")"], "lport == 80 || rport == 80"),
        (&["host", "10.0.0.1", "and", "not", "port", "22"], "addr == 10.0.0.1 && !(port == 22)"),
        (&["stuck", "-P", "80", "state", "listen"], "port == 80 && state == LISTEN"),
    ] {
        assert_eq!(filter(arguments), want, "{arguments:?}");
    }
    for (arguments, words) in [
        (&["-w"][..], "--output FILE"),
        (&["retrans", "-c"], "event == retransmit"),
        (&["-v"], "--pid"),
        (&["-tanp"], "`tcptrace sockets -tanp`"),
        (&["socket"], "did you mean `sockets`"),
        (&["80"], "--port 80"),
        (&["10.0.0.1"], "--address 10.0.0.1"),
        (&["close-wait"], "--state close-wait"),
        (&["sport", "=", ":http"], "invalid port `http`"),
    ] {
        assert_refused(arguments, &[words]);
    }
}

#[test]
fn what_is_printed_can_be_pasted() {
    assert_eq!(filter(&["-a", "[::1]:7801"]), "addr == [::1]:7801");
    assert_eq!(filter(&["-a", "10.0.0.1:80"]), "addr == 10.0.0.1:80");
    for (netns, want) in [
        ("/proc/1/ns/net", "the network namespace /proc/1/ns/net"),
        ("/run/netns/foo", "the network namespace foo"),
        ("pid:1234", "the network namespace /proc/1234/ns/net"),
        ("net:[4026531840]", "the network namespace 4026531840"),
    ] {
        assert_eq!(explained(&["--netns", netns])[1], want, "{netns}");
    }
    assert_refused(&["--netns", "a/b"], &["--netns", "pid:PID"]);
    let told = run(&["sockets", "--netns", "pid:4194304"]);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(told.stderr.contains("there is no process 4194304"), "{}", told.stderr);
}

#[test]
fn filters_stand_before_or_after_the_command() {
    assert_eq!(filter(&["-P", "7801", "stuck", "--once"]), "port == 7801");
    assert_eq!(filter(&["--state", "LISTEN", "sockets", "-P", "80"]), "state == LISTEN && port == 80");
    assert_refused(&["--summary", "stuck"], &["`tcptrace stuck` has no flag --summary"]);
}

#[test]
fn an_expression_is_checked_and_its_mistakes_are_shown() {
    let text = "state == CLOSE_WAIT && age > 1m && comm =~ \"^java\" && !(rport in {443, 8443}) && raddr in 10.0.0.0/8";
    assert_taken(&["--where", text]);
    let told = run(&["--where", "state == CLOSE_WAIT && agee > 1m"]).stderr;
    let place = "    state == CLOSE_WAIT && agee > 1m\n                           ^^^^";
    assert!(told.contains("did you mean `age`") && told.contains(place), "{told}");
    assert_refused(&["--where", "age > 5"], &["--where", "write it with a unit"]);
    assert_refused(&["--where", "severity >= warning"], &["severity", "where=severity >= warning"]);
    assert_refused(&["--user", "no-such-user"], &["there is no user `no-such-user`", "--uid"]);
    assert_refused(&["-o", "stdout,where=port == http"], &["--output", "where", "invalid port"]);
    assert_taken(&["-o", "stdout,where=severity >= warning || state == CLOSE_WAIT,port=!22"]);
}

#[test]
fn which_part_the_kernel_decides_is_explained() {
    let text = ["--where", "state == CLOSE_WAIT && age > 1m && !(rport in {443, 8443}) && raddr in 10.0.0.0/8"];
    let [whole, kernel, user] = explained(&[&["--findings", "off"][..], &text].concat());
    assert_eq!(whole, "state == CLOSE_WAIT && age > 1m && !(rport in {443, 8443}) && raddr == 10.0.0.0/8");
    assert_eq!(kernel, "state == CLOSE_WAIT && rport in {0-442, 444-8442, 8444-65535} && raddr == 10.0.0.0/8");
    assert_eq!(user, "age > 1m");
    // As docs/filters.md shows it.
    let text = ["--where", "state == CLOSE_WAIT && age > 1m && rport != 443"];
    let [whole, kernel, user] = explained(&[&["--findings", "off"][..], &text].concat());
    assert_eq!(whole, "state == CLOSE_WAIT && age > 1m && !(rport == 443)");
    assert_eq!((kernel.as_str(), user.as_str()), ("state == CLOSE_WAIT && rport in {0-442, 444-65535}", "age > 1m"));
    let [_, kernel, user] = explained(&text);
    assert_eq!(kernel, "nothing", "findings need all events");
    assert!(user.contains("state == CLOSE_WAIT") && user.contains("age > 1m"), "{user}");
    let [_, kernel, user] = explained(&["sockets", "-s", "LISTEN", "-P", "80"]);
    assert_eq!((kernel.as_str(), user.as_str()), ("state == LISTEN", "port == 80"));
}
