//! Something fails: connections that are refused, reset or cut, and segments that are lost.

use std::{collections::BTreeSet, time::Duration};

use super::sleep;
use crate::{
    Case,
    servers::{apache, nginx, nginx_files, node, postgres, redis},
    site::{Program, Site, command, wait_until},
    verdict::{Expected, Finding, Watch},
};

pub(crate) const CASES: &[Case] = &[
    Case::short("resets_of_checks", resets_of_checks),
    Case::short("refused", refused),
    Case::short("restarted_server", restarted_server),
    Case::short("ports_exhausted", ports_exhausted),
    Case::short("given_up", given_up),
    Case::short("icmp_reject", icmp_reject),
    Case::short("firewall_resets", firewall_resets),
    Case::short("loss_over_short_connections", loss_over_short_connections),
    Case::short("killed_with_connections", killed_with_connections),
    Case::short("killed_under_load", killed_under_load),
    Case::short("killed_workers", killed_workers),
    Case::short("backends_without_clients", backends_without_clients),
    Case::short("keepalive_race", keepalive_race),
];

/// W3: fifteen RSTs of health checks at a server with workers, and at one without: the same is said of both.
fn resets_of_checks() {
    let site = Site::new();
    let (_nginx, _node) =
        (nginx(&site, 8080, "worker_processes 4;", &nginx_files(&site, 8080)), node(&site, 8083, &[]));
    let watch = Watch::start();
    for _ in 0..15 {
        for port in [8080, 8083] {
            let mut check = site.client("reset", port, "0");
            wait_until("the check's end", || check.has_ended());
        }
    }
    sleep(1.0);
    let findings = watch.end(&site, 0, &[]);
    let of = |port: u16| -> Vec<_> {
        let of_port = findings.iter().filter(|one| one.subject().ends_with(&format!(":{port}")));
        of_port.map(|one| (one.id(), one.record["count"].as_u64())).collect()
    };
    assert_eq!(of(8080), of(8083), "the same of both");
    let kinds: BTreeSet<_> = of(8080).into_iter().collect();
    assert_eq!(kinds.len(), of(8080).len(), "one finding of each kind");
    assert!(kinds.iter().all(|(_, count)| *count == Some(15)), "{kinds:?}");
}

/// W5: a new curl each second to a port that is closed: one trouble, of curl.
fn refused() {
    let site = Site::new();
    let mut watch = Watch::start();
    watch.trouble();
    for _ in 0..10 {
        site.shell("curl -s http://127.0.0.1:9/; sleep 0.3");
    }
    watch.expect(&Expected { ids: &["connect-refused"], command: "curl", ..Expected::ANY });
    watch.check(watch.findings().len() == 1, "it is one finding");
    watch.end(&site, 0, &[]);
}

/// A server is away for a while: its clients are refused meanwhile, which is one trouble.
fn restarted_server() {
    let site = Site::new();
    let start = || nginx(&site, 8080, "worker_processes 2;", &nginx_files(&site, 8080));
    let before = start();
    let mut watch = Watch::start();
    drop(before);
    watch.trouble();
    for _ in 0..6 {
        site.shell("curl -s http://127.0.0.1:8080/; sleep 0.2");
    }
    let _after = start();
    for _ in 0..6 {
        site.shell("curl -s http://127.0.0.1:8080/");
    }
    watch.expect(&Expected { ids: &["connect-refused"], command: "curl", ..Expected::ANY });
    watch.check(watch.findings().len() == 1, "it is one finding");
    watch.check(watch.findings().iter().all(|one| one.subject() == "to 127.0.0.1:8080"), "it is about the service");
    watch.end(&site, 0, &[]);
}

/// W5: a client without keep-alive uses all local ports up: one trouble, which names them.
fn ports_exhausted() {
    let site = Site::new();
    let _redis = redis(&site, 6379);
    sysctl("ip_local_port_range", "40000 40199");
    sysctl("tcp_tw_reuse", "0");
    let mut watch = Watch::start();
    watch.trouble();
    for _ in 0..3 {
        site.shell("redis-benchmark -q -n 400 -c 4 -k 0 -t get");
    }
    watch.expect(&Expected {
        ids: &["connect-failed", "time-wait-pressure"],
        command: "redis-benchmark",
        says: &["EADDRNOTAVAIL"],
        ..Expected::ANY
    });
    let kinds: BTreeSet<_> = watch.findings().iter().map(|one| one.id().to_owned()).collect();
    watch.check(watch.findings().len() == kinds.len(), "each kind is one finding");
    watch.end(&site, 0, &["connect-failed", "time-wait-pressure"]);
}

/// Sets a parameter of this thread's network namespace.
fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
}

/// W5: SYNs that nobody answers, by clients that give up and try again: one trouble, of curl.
fn given_up() {
    let site = Site::new();
    site.filter("tcp dport 9 drop");
    let mut watch = Watch::start();
    watch.trouble();
    for _ in 0..5 {
        site.shell("curl -s --max-time 1 http://127.0.0.1:9/");
    }
    watch.expect(&Expected {
        ids: &["syn-sent-unanswered"],
        command: "curl",
        within: Duration::from_secs(8),
        ..Expected::ANY
    });
    watch.check(watch.findings().len() == 1, "it is one finding");
    watch.end(&site, 0, &[]);
}

/// W6: ICMP in answer to a SYN, as kube-proxy's rules give it for a service without endpoints.
fn icmp_reject() {
    let site = Site::new();
    site.filter("tcp dport 9 reject");
    let mut watch = Watch::start();
    watch.trouble();
    let client = site.client("attempt", 9, "0.5");
    watch.expect(&Expected {
        ids: &["connect-failed", "connect-refused"],
        owner: client.family(),
        command: "python3",
        says: &["ICMP", "unknown"],
        ..Expected::ANY
    });
    watch.reject(&["aborted-close", "syn-sent-unanswered"]);
    watch.end(&site, 0, &[]);
}

/// W8: a firewall resets a connection whose peer lives: the peer is not accused.
fn firewall_resets() {
    let site = Site::new();
    let _redis = redis(&site, 6379);
    let mut watch = Watch::start();
    let client = site.ready_client("trickle", 6379, "0.5");
    sleep(1.0);
    site.filter("tcp dport 6379 reject with tcp reset");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["reset-by-peer"],
        owner: client.family(),
        command: "python3",
        says: &["device", "firewall"],
        ..Expected::ANY
    });
    let accused = |one: &Finding| one.record["evidence"]["peer_command"] == "redis-server";
    watch.check(!watch.findings().iter().any(accused), "redis lives, and has sent no RST");
    watch.end(&site, 0, &[]);
}

/// W10: loss over many short connections, of which each has few retransmits.
fn loss_over_short_connections() {
    let site = Site::new();
    let nginx = nginx(&site, 8080, "worker_processes 2;", &nginx_files(&site, 8080));
    site.filter("numgen random mod 100 < 5 drop");
    let mut watch = Watch::start();
    watch.trouble();
    let _load = site.start("ab", command("ab").args(["-q", "-n", "20000", "-c", "40", "http://127.0.0.1:8080/"]));
    watch.expect(&Expected {
        ids: LOSS,
        owner: nginx.family(),
        command: "nginx",
        within: Duration::from_secs(15),
        ..Expected::ANY
    });
    watch.end(&site, 0, LOSS);
}

/// Findings that tell of loss.
const LOSS: &[&str] = &["retransmit-storm", "packet-loss"];

/// W11: a server is killed with connections.
fn killed_with_connections() {
    let site = Site::new();
    let mut node = node(&site, 8083, &["600000"]);
    let mut watch = Watch::start();
    let _clients = site.ready_client("hold", 8083, "10");
    sleep(1.0);
    killed(&mut watch, &mut node, "node");
    let finding = watch.findings().into_iter().find(|one| one.id() == "process-killed");
    watch.check(finding.is_none_or(|one| one.record["count"] == 10), "ten connections were cut");
    watch.end(&site, 0, &[]);
}

/// W11: a server is killed under load.
fn killed_under_load() {
    let site = Site::new();
    let mut redis = redis(&site, 6379);
    let mut watch = Watch::start();
    let mut benchmark = command("redis-benchmark");
    let _load = site.start("redis-benchmark", benchmark.args(["-q", "-n", "10000000", "-c", "50", "-t", "get"]));
    sleep(2.0);
    killed(&mut watch, &mut redis, "redis-server");
    // What the clients then meet is told of as well.
    watch.end(&site, 0, &["connect-refused"]);
}

fn killed(watch: &mut Watch, server: &mut Program, name: &str) {
    server.signal(libc::SIGKILL);
    wait_until("the server's end", || server.has_ended());
    watch.trouble();
    watch.expect(&Expected {
        ids: &["process-killed"],
        owner: BTreeSet::from([server.pid()]),
        command: name,
        says: &["killed"],
        ..Expected::ANY
    });
    watch.reject(&["aborted-close", "write-after-close"]);
}

/// All workers of a server are killed, and the master makes new ones: one trouble of the service.
fn killed_workers() {
    let site = Site::new();
    let apache = apache(&site, 8081);
    let mut watch = Watch::start();
    let _clients = site.ready_client("hold", 8081, "3");
    let workers = apache.workers();
    watch.trouble();
    apache.signal_workers(libc::SIGKILL);
    watch.expect(&Expected {
        ids: &["process-killed"],
        owner: workers,
        command: "apache2",
        says: &["killed"],
        ..Expected::ANY
    });
    watch.check(watch.findings().len() == 1, "it is one finding");
    watch.end(&site, 0, &[]);
}

/// W5: the clients of three backends are gone while these work: one trouble of the service.
fn backends_without_clients() {
    let site = Site::new();
    let _postgres = postgres(&site, 5432);
    let watch = Watch::start();
    let line = "timeout 1 psql -h 127.0.0.1 -U nobody -c 'select pg_sleep(2)' postgres & ";
    site.shell(&format!("{line} {line} {line} wait"));
    sleep(2.5);
    let findings = watch.findings();
    let of_postgres: Vec<_> = findings.iter().filter(|one| one.record["owner"]["command"] == "postgres").collect();
    watch.check(of_postgres.len() <= 1, "it is one finding");
    watch.check(of_postgres.iter().all(|one| one.subject() == "at 127.0.0.1:5432"), "its subject is the service");
    // Their answers went nowhere, and the server may say so.
    watch.end(&site, 0, &["write-after-close"]);
}

/// W13: node closes idle connections sooner than nginx does, and a request crosses its FIN.
fn keepalive_race() {
    let site = Site::new();
    let _node = node(&site, 8083, &["1000"]);
    let http = "upstream node { server 127.0.0.1:8083; keepalive 32; }
                server {
                    listen 127.0.0.1:8080;
                    location / { proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection \"\"; }
                }";
    let nginx = nginx(&site, 8080, "worker_processes 1;", http);
    let mut watch = Watch::start();
    let mut client = site.ready_client("again", 8080, "2.15");
    // node adds a second to its time, and closes after 2.02 s; its FIN is on its way for a while.
    site.filter("tcp sport 8083 tcp flags & fin == fin drop");
    let answer = client.line();
    watch.trouble();
    watch.check(answer == "502", &format!("the second request met no race, but was answered with {answer}"));
    watch.expect(&Expected {
        ids: &["reset-by-peer", "write-after-close"],
        owner: nginx.family(),
        command: "nginx",
        says: &["keep-alive", "keepalive"],
        ..Expected::ANY
    });
    watch.end(&site, 0, &[]);
}
