//! The same programs broken, as operators meet them. Each trouble must be named in time, with the right process and
//! cause, and nothing else may be said.

use std::{thread, time::Duration};

use crate::{
    Case,
    servers::{gunicorn, nginx, nginx_files, node, redis},
    site::{Program, Site, command, wait_until},
    verdict::{Expected, Watch},
};

pub(crate) const CASES: &[Case] = &[
    Case::short("stopped_workers", stopped_workers),
    Case::short("out_of_descriptors", out_of_descriptors),
    Case::short("busy_worker", busy_worker),
    Case::short("upstream_is_silent", upstream_is_silent),
    Case::short("resets_of_checks", resets_of_checks),
    Case::short("refused", refused),
    Case::short("given_up", given_up),
    Case::short("icmp_reject", icmp_reject),
    Case::short("reader_stops", reader_stops),
    Case::short("firewall_resets", firewall_resets),
    Case::short("full_queue_is_served_again", full_queue_is_served_again),
    Case::short("loss_over_short_connections", loss_over_short_connections),
    Case::short("killed_with_connections", killed_with_connections),
    Case::short("killed_under_load", killed_under_load),
    Case::long("idle_pools", idle_pools),
    Case::short("keepalive_race", keepalive_race),
    Case::short("reload_keeps_the_subject", reload_keeps_the_subject),
];

/// What nobody may say of connections that wait for a server that does not accept.
const NOT_OF_WAITING: [&str; 4] = ["fin-wait2-stuck", "close-wait-leak", "syn-sent-unanswered", "peer-dead"];

fn sleep(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// W2: the workers are stopped, and the kernel accepts connections for them.
fn stopped_workers() {
    let site = Site::new();
    let nginx = nginx(&site, 8080, "worker_processes 2;", &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    nginx.signal_workers(libc::SIGSTOP);
    watch.trouble();
    let _clients = site.client("wait", 8080, "30");
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: Some(&nginx),
        command: "nginx",
        says: &["stopped", "SIGSTOP"],
        ..Expected::ANY
    });
    watch.reject(&NOT_OF_WAITING);
    nginx.signal_workers(libc::SIGCONT);
    sleep(2.0);
    watch.end(&site, 0, &[]);
}

/// W2: a server without a free descriptor cannot accept.
fn out_of_descriptors() {
    let site = Site::new();
    let main = "worker_processes 1; worker_rlimit_nofile 14;";
    let nginx = nginx(&site, 8080, main, &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    watch.trouble();
    let _clients = site.client("wait", 8080, "30");
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: Some(&nginx),
        command: "nginx",
        says: &["descriptor", "EMFILE"],
        ..Expected::ANY
    });
    watch.reject(&NOT_OF_WAITING);
    watch.end(&site, 0, &[]);
}

/// W2: the only worker works on one request while others wait.
fn busy_worker() {
    let site = Site::new();
    let gunicorn = gunicorn(&site, 8082, 1, &["--timeout", "300"]);
    let mut watch = Watch::start();
    let _busy = site.start("curl", command("curl").args(["-s", "http://127.0.0.1:8082/slow/300"]));
    sleep(0.5);
    watch.trouble();
    let _clients = site.client("wait", 8082, "20");
    watch.expect(&Expected { ids: &["accept-stalled"], owner: Some(&gunicorn), command: "gunicorn", ..Expected::ANY });
    watch.reject(&NOT_OF_WAITING);
    watch.end(&site, 0, &[]);
}

/// W2: requests that an upstream never answers are no trouble of TCP: info at most.
fn upstream_is_silent() {
    let site = Site::new();
    let _node = node(&site, 8083, &[]);
    let http = "server { listen 127.0.0.1:8080; location / { proxy_pass http://127.0.0.1:8083/never/; } }";
    let _nginx = nginx(&site, 8080, "worker_processes 2;", http);
    let watch = Watch::start();
    let _clients = site.client("wait", 8080, "20");
    sleep(8.0);
    watch.reject(&NOT_OF_WAITING);
    watch.end(&site, 0, &[]);
}

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
    sleep(2.0);
    let findings = watch.findings();
    let of = |port: u16| {
        let of_port =
            findings.iter().filter(|one| one.record["local_port"] == port || one.record["remote_port"] == port);
        of_port.map(|one| (one.id().to_owned(), one.record["count"].clone())).collect::<Vec<_>>()
    };
    watch.check(of(8080) == of(8083) && of(8080).len() <= 1, &format!("{:?} and {:?}", of(8080), of(8083)));
    watch.end(&site, 0, &[]);
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
        owner: Some(&client),
        command: "python3",
        says: &["ICMP", "unknown"],
        ..Expected::ANY
    });
    watch.reject(&["aborted-close", "syn-sent-unanswered"]);
    watch.end(&site, 0, &[]);
}

/// W7: a client that stops reading: it is named, and who waits for it.
fn reader_stops() {
    let site = Site::new();
    let _nginx = nginx(&site, 8080, "worker_processes 1;", &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    let client = site.ready_client("stall", 8080, "0");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["zero-window"],
        owner: Some(&client),
        command: "python3",
        says: &["nginx"],
        within: Duration::from_secs(10),
        ..Expected::ANY
    });
    watch.reject(&["peer-dead", "retransmit-storm"]);
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
        owner: Some(&client),
        command: "python3",
        says: &["device", "firewall"],
        ..Expected::ANY
    });
    let accused = |one: &crate::verdict::Finding| one.record["evidence"]["peer_command"] == "redis-server";
    watch.check(!watch.findings().iter().any(accused), "redis lives, and has sent no RST");
    watch.end(&site, 0, &[]);
}

/// W9: the queue of a server that hangs for a while is full; then it serves all.
fn full_queue_is_served_again() {
    let site = Site::new();
    let http = format!("server {{ listen 127.0.0.1:8080 backlog=8; root {}/pages; }}", site.folder.display());
    let nginx = nginx(&site, 8080, "worker_processes 2;", &http);
    let mut watch = Watch::start();
    nginx.signal_workers(libc::SIGSTOP);
    watch.trouble();
    let _clients = site.client("wait", 8080, "30");
    watch.expect(&Expected {
        ids: &["accept-queue-full", "accept-stalled"],
        owner: Some(&nginx),
        command: "nginx",
        ..Expected::ANY
    });
    sleep(3.0);
    nginx.signal_workers(libc::SIGCONT);
    sleep(6.0);
    watch.reject(&NOT_OF_WAITING);
    // Stalled and full are two sides of one trouble; either is right.
    watch.end(&site, 0, &["accept-stalled", "accept-queue-full"]);
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
        owner: Some(&nginx),
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
        owner: Some(server),
        command: name,
        says: &["killed"],
        ..Expected::ANY
    });
    watch.reject(&["aborted-close", "write-after-close"]);
}

/// W12: two pools whose servers have closed: few sockets, which do not become more.
fn idle_pools() {
    let site = Site::new();
    let _servers = [
        node(&site, 8083, &["2000"]),
        nginx(&site, 8080, "worker_processes 2;", &format!("keepalive_timeout 2s; {}", nginx_files(&site, 8080))),
    ];
    let watch = Watch::start();
    let _pools = [site.client("pool", 8083, "150"), site.client("pool", 8080, "150")];
    sleep(90.0);
    watch.reject(&["fin-wait2-stuck"]);
    watch.end(&site, 0, &[]);
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
    let mut client = site.ready_client("again", 8080, "3.5");
    // node adds a second to its time. From now on its FIN is on its way for as long as it takes.
    site.filter("tcp sport 8083 tcp flags & fin == fin drop");
    let answer = client.line();
    watch.trouble();
    watch.check(answer == "502", &format!("the second request met no race, but was answered with {answer}"));
    watch.expect(&Expected {
        ids: &["reset-by-peer", "write-after-close"],
        owner: Some(&nginx),
        command: "nginx",
        says: &["keep-alive", "keepalive"],
        ..Expected::ANY
    });
    watch.end(&site, 0, &[]);
}

/// W14: the listener of a trouble is replaced: the trouble keeps its number and its address.
fn reload_keeps_the_subject() {
    let site = Site::new();
    let nginx = nginx(&site, 8080, "worker_processes 1;", &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    let client = site.ready_client("stall", 8080, "0");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["zero-window"],
        owner: Some(&client),
        within: Duration::from_secs(10),
        ..Expected::ANY
    });
    let before: Vec<_> = watch.findings().iter().map(|one| (one.number, one.subject())).collect();
    nginx.signal(libc::SIGHUP);
    sleep(4.0);
    let after: Vec<_> = watch.findings().iter().map(|one| (one.number, one.subject())).collect();
    watch.check(before == after, &format!("it was {before:?}, and is {after:?}"));
    watch.check(watch.findings().iter().all(|one| one.record["phase"] != "closed"), "it is not over");
    watch.end(&site, 0, &[]);
}
