//! `tcptrace doctor`: what is printed of a host with trouble, and of one without.

use bytes::BytesMut;
use clap::ValueEnum as _;
use tcptrace::{
    cli::args::Area,
    commands::doctor::{
        check::{CheckUp, Status},
        config_files::ConfigFile,
        hooks::Hook,
        judge::{Facts, checks},
        machine::{Machine, Types},
        render::DoctorRenderer,
        sysctl::Sysctls,
    },
    render::{csv::Csv, json::Json},
    sys::{capabilities::Capabilities, pids::View},
};

use unicode_width::UnicodeWidthStr as _;

use crate::{compare::compare, support::replay::context};

/// Files that these tests make begin so.
pub(crate) const DOCTOR: &str = "doctor";

/// As Linux 6.18 has them with 8 GiB of memory.
const SYSCTLS: &[(&str, &str)] = &[
    ("kernel.bpf_stats_enabled", "0\n"),
    ("kernel.unprivileged_bpf_disabled", "2\n"),
    ("net.core.bpf_jit_enable", "1\n"),
    ("net.core.somaxconn", "4096\n"),
    ("net.ipv4.ip_local_port_range", "32768\t60999\n"),
    ("net.ipv4.ip_local_reserved_ports", "\n"),
    ("net.ipv4.tcp_abort_on_overflow", "0\n"),
    ("net.ipv4.tcp_congestion_control", "cubic\n"),
    ("net.ipv4.tcp_ehash_entries", "65536\n"),
    ("net.ipv4.tcp_fack", "0\n"),
    ("net.ipv4.tcp_fin_timeout", "60\n"),
    ("net.ipv4.tcp_keepalive_intvl", "75\n"),
    ("net.ipv4.tcp_keepalive_probes", "9\n"),
    ("net.ipv4.tcp_keepalive_time", "7200\n"),
    ("net.ipv4.tcp_max_orphans", "32768\n"),
    ("net.ipv4.tcp_max_syn_backlog", "512\n"),
    ("net.ipv4.tcp_max_tw_buckets", "32768\n"),
    ("net.ipv4.tcp_mem", "93756\t125009\t187512\n"),
    ("net.ipv4.tcp_moderate_rcvbuf", "1\n"),
    ("net.ipv4.tcp_mtu_probing", "0\n"),
    ("net.ipv4.tcp_no_metrics_save", "0\n"),
    ("net.ipv4.tcp_orphan_retries", "0\n"),
    ("net.ipv4.tcp_retries1", "3\n"),
    ("net.ipv4.tcp_retries2", "15\n"),
    ("net.ipv4.tcp_rfc1337", "0\n"),
    ("net.ipv4.tcp_rmem", "4096\t131072\t33554432\n"),
    ("net.ipv4.tcp_rto_max_ms", "120000\n"),
    ("net.ipv4.tcp_sack", "1\n"),
    ("net.ipv4.tcp_slow_start_after_idle", "1\n"),
    ("net.ipv4.tcp_syn_linear_timeouts", "4\n"),
    ("net.ipv4.tcp_syn_retries", "6\n"),
    ("net.ipv4.tcp_synack_retries", "5\n"),
    ("net.ipv4.tcp_syncookies", "1\n"),
    ("net.ipv4.tcp_timestamps", "1\n"),
    ("net.ipv4.tcp_tw_reuse", "2\n"),
    ("net.ipv4.tcp_tw_reuse_delay", "1000\n"),
    ("net.ipv4.tcp_window_scaling", "1\n"),
    ("net.ipv4.tcp_wmem", "4096\t16384\t4194304\n"),
];

fn sysctls(changes: &[(&str, &str)]) -> Sysctls {
    let values = SYSCTLS.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sysctls { values: values.collect(), page_bytes: 4096, memory_bytes: Some(8 << 30) }
}

fn file(path: &str, text: &str) -> ConfigFile {
    ConfigFile { path: path.to_owned(), text: Some(text.to_owned()) }
}

fn fit() -> Facts {
    Facts {
        machine: Machine {
            release: "6.18.44\n".to_owned(),
            types: Types::Known { abilities: u32::MAX, no_listing: None },
            capabilities: Some(Capabilities::of(&[12, 19, 21, 38, 39])),
            has_proc: true,
            has_own_users: false,
            view: View::Host,
            descriptors: Some(1024),
            lockdown: Some("[none] integrity confidentiality\n".to_owned()),
            hides_processes: false,
            has_cgroup2: true,
            memlock_bytes: Some(8 << 20),
            program: "/usr/bin/tcptrace".to_owned(),
            has_seccomp: true,
            landlock: Some(7),
        },
        hooks: Some(Ok(vec![Hook { name: "inet_sock_set_state", missing: None }])),
        sysctls: sysctls(&[]),
        sockstat: "sockets: used 17\nTCP: inuse 11 orphan 5 tw 322 alloc 15 mem 53\n".to_owned(),
        files: vec![file("/etc/sysctl.conf", "# net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_fin_timeout = 30\n")],
    }
}

/// All that can be wrong at once, with text that would steer a terminal.
fn in_trouble() -> Facts {
    Facts {
        machine: Machine {
            release: "5.10.223\n".to_owned(),
            types: Types::Known { abilities: 0, no_listing: Some("no `bpf_sock_from_file`".to_owned()) },
            capabilities: Some(Capabilities::of(&[])),
            has_proc: true,
            has_own_users: false,
            view: View::Own,
            descriptors: Some(8),
            lockdown: None,
            hides_processes: true,
            has_cgroup2: false,
            memlock_bytes: Some(65536),
            program: "/tmp/\u{1b}[31mtcptrace".to_owned(),
            has_seccomp: false,
            landlock: None,
        },
        hooks: Some(Ok(vec![
            Hook { name: "inet_sock_set_state", missing: None },
            Hook {
                name: "inet_csk_accept",
                missing: Some(("Operation not permitted (os error 1)".to_owned(), "owners are seen later")),
            },
        ])),
        sysctls: sysctls(&[
            ("kernel.bpf_stats_enabled", "1\n"),
            ("net.core.bpf_jit_enable", "0\n"),
            ("net.core.somaxconn", "128\n"),
            ("net.ipv4.ip_local_port_range", "50000\t51999\n"),
            ("net.ipv4.ip_local_reserved_ports", "50000-50999\n"),
            ("net.ipv4.tcp_abort_on_overflow", "1\n"),
            ("net.ipv4.tcp_congestion_control", "\u{1b}]0;\u{7}\n"),
            ("net.ipv4.tcp_fin_timeout", "300\n"),
            ("net.ipv4.tcp_keepalive_probes", "1\n"),
            ("net.ipv4.tcp_max_orphans", "100\n"),
            ("net.ipv4.tcp_max_tw_buckets", "5000\n"),
            ("net.ipv4.tcp_mem", "8388608\t8388608\t8388608\n"),
            ("net.ipv4.tcp_moderate_rcvbuf", "0\n"),
            ("net.ipv4.tcp_orphan_retries", "1\n"),
            ("net.ipv4.tcp_retries2", "3\n"),
            ("net.ipv4.tcp_rfc1337", "much\n"),
            ("net.ipv4.tcp_sack", "0\n"),
            ("net.ipv4.tcp_syncookies", "0\n"),
            ("net.ipv4.tcp_synack_retries", "0\n"),
            ("net.ipv4.tcp_timestamps", "0\n"),
            ("net.ipv4.tcp_tw_recycle", "1\n"),
            ("net.ipv4.tcp_tw_reuse", "1\n"),
            ("net.ipv4.tcp_window_scaling", "0\n"),
            ("net.ipv4.tcp_wmem", "4096\t16384\t65536\n"),
        ]),
        sockstat: "TCP: inuse 11 orphan 85 tw 5000 alloc 15\n".to_owned(),
        files: vec![
            file(
                "/etc/sysctl.d/10-tcp \u{9b}.conf",
                "net.ipv4.tcp_no_such = \"a,b\"\u{1b}[2J\nnet.ipv4.tcp_fack = 1\nnet/ipv4/tcp_syncookies=0\n",
            ),
            ConfigFile { path: "/etc/sysctl.d/20-secret.conf".to_owned(), text: None },
        ],
    }
}

fn printed(facts: &Facts, mut renderer: DoctorRenderer) -> String {
    let check_up = CheckUp {
        mono_ns: 7_200_000_000_000,
        release: facts.machine.release.trim().to_owned(),
        netns: Some((4_026_532_200, Some("blue".to_owned()))),
        checks: checks(facts, Area::value_variants()),
    };
    let mut to = BytesMut::new();
    renderer.check_up(&mut to, &check_up, context().wall);
    String::from_utf8(to.to_vec()).unwrap()
}

const fn text(color: bool, verbose: bool) -> DoctorRenderer {
    DoctorRenderer::Text { color, verbose, width: None }
}

const fn on_terminal(columns: usize) -> DoctorRenderer {
    DoctorRenderer::Text { color: false, verbose: true, width: Some(columns) }
}

/// A check-up with checks of all kinds.
pub(crate) fn json() -> String {
    printed(&in_trouble(), DoctorRenderer::Json(Json::default()))
}

/// See [`json`].
pub(crate) fn csv() -> String {
    printed(&in_trouble(), DoctorRenderer::Csv(Csv::default()))
}

#[test]
fn check_ups_in_each_form() {
    let files = [
        ("fit.txt", printed(&fit(), text(false, false))),
        ("fit_verbose.txt", printed(&fit(), text(false, true))),
        ("trouble.txt", printed(&in_trouble(), text(false, false))),
        ("trouble_60_columns.txt", printed(&in_trouble(), on_terminal(60))),
        ("trouble_80_columns.txt", printed(&in_trouble(), on_terminal(80))),
        ("trouble_120_columns.txt", printed(&in_trouble(), on_terminal(120))),
        ("trouble_color.txt", printed(&in_trouble(), text(true, false))),
        ("trouble.json", json()),
        ("trouble.csv", csv()),
    ];
    let files = files.map(|(name, printed)| (format!("{DOCTOR}_{name}"), printed));
    compare(&files, |name| name.starts_with(DOCTOR) && !name.ends_with(".rs"));
}

#[test]
fn sentences_break_between_words() {
    for columns in [60, 80, 120] {
        let text = printed(&in_trouble(), on_terminal(columns));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut whole = words(&printed(&in_trouble(), self::text(false, true)));
        let mut broken = words(&text);
        whole.sort();
        broken.sort();
        assert_eq!(whole, broken, "no word is lost or torn");
        for line in text.lines().filter(|line| line.width() > columns) {
            // A title and a value, or one word.
            assert!(line.trim().split(' ').all(|word| !word.is_empty()) || line.width() <= 80, "{columns}: {line}");
        }
    }
}

#[test]
fn text_does_not_steer_a_terminal() {
    let printed = printed(&in_trouble(), text(false, true));
    assert!(printed.chars().all(|c| c == '\n' || !c.is_control()), "{printed:?}");
}

#[test]
fn a_fit_host_has_no_findings_and_one_in_trouble_has_remedies() {
    let all = Area::value_variants();
    assert!(checks(&fit(), all).iter().all(|check| check.status == Status::Ok));
    for check in checks(&in_trouble(), all) {
        assert_eq!(check.remedy.is_some(), check.status.is_finding(), "{check:?}");
    }
}

#[test]
fn only_what_was_asked_for_is_told() {
    for area in Area::value_variants() {
        let checks = checks(&in_trouble(), &[*area]);
        assert!(!checks.is_empty() && checks.iter().all(|check| check.area == *area));
    }
}
