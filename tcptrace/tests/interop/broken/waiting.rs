//! Somebody waits: for a server that does not accept or does not answer, for a reader that does not read.

use std::time::Duration;

use super::sleep;
use crate::{
    Case,
    servers::{gunicorn, nginx, nginx_files, node, postgres},
    site::{Site, command},
    verdict::{Expected, Watch},
};

pub(crate) const CASES: &[Case] = &[
    Case::short("stopped_workers", stopped_workers),
    Case::short("stopped_postmaster", stopped_postmaster),
    Case::short("out_of_descriptors", out_of_descriptors),
    Case::short("busy_worker", busy_worker),
    Case::short("upstream_is_silent", upstream_is_silent),
    Case::short("reader_stops", reader_stops),
    Case::short("full_queue_is_served_again", full_queue_is_served_again),
    Case::long("idle_pools", idle_pools),
    Case::short("reload_keeps_the_subject", reload_keeps_the_subject),
];

/// What nobody may say of connections that wait for a server that does not accept.
const NOT_OF_WAITING: [&str; 4] = ["fin-wait2-stuck", "close-wait-leak", "syn-sent-unanswered", "peer-dead"];

/// W2: the workers are stopped, and the kernel accepts connections for them.
fn stopped_workers() {
    let site = Site::new();
    let nginx = nginx(&site, 8080, "worker_processes 2;", &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    nginx.signal_workers(libc::SIGSTOP);
    let _clients = site.ready_client("wait", 8080, "30");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: nginx.family(),
        command: "nginx",
        says: &["stopped", "SIGSTOP"],
        ..Expected::ANY
    });
    watch.reject(&NOT_OF_WAITING);
    nginx.signal_workers(libc::SIGCONT);
    sleep(2.0);
    watch.end(&site, 0, &[]);
}

/// The same of a server that accepts by one process and serves by others.
fn stopped_postmaster() {
    let site = Site::new();
    let postgres = postgres(&site, 5432);
    let mut watch = Watch::start();
    postgres.signal(libc::SIGSTOP);
    let _clients = site.ready_client("wait", 5432, "10");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: postgres.family(),
        command: "postgres",
        says: &["stopped", "SIGSTOP"],
        ..Expected::ANY
    });
    watch.reject(&NOT_OF_WAITING);
    watch.end(&site, 0, &[]);
}

/// W2: a server without a free descriptor cannot accept.
fn out_of_descriptors() {
    let site = Site::new();
    let main = "worker_processes 1; worker_rlimit_nofile 14;";
    let nginx = nginx(&site, 8080, main, &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    let _clients = site.ready_client("silent", 8080, "30");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: nginx.family(),
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
    let _clients = site.ready_client("wait", 8082, "20");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["accept-stalled"],
        owner: gunicorn.family(),
        command: "gunicorn",
        ..Expected::ANY
    });
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

/// W7: a client that stops reading: it is named, and who waits for it.
fn reader_stops() {
    let site = Site::new();
    let _nginx = nginx(&site, 8080, "worker_processes 1;", &nginx_files(&site, 8080));
    let mut watch = Watch::start();
    let client = site.ready_client("stall", 8080, "0");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["zero-window"],
        owner: client.family(),
        command: "python3",
        says: &["nginx"],
        within: Duration::from_secs(10),
        ..Expected::ANY
    });
    watch.reject(&["peer-dead", "retransmit-storm"]);
    watch.end(&site, 0, &[]);
}

/// W9: the queue of a server that hangs for a while is full; then it serves all.
fn full_queue_is_served_again() {
    let site = Site::new();
    let http = format!("server {{ listen 127.0.0.1:8080 backlog=8; root {}/pages; }}", site.folder.display());
    let nginx = nginx(&site, 8080, "worker_processes 2;", &http);
    let mut watch = Watch::start();
    nginx.signal_workers(libc::SIGSTOP);
    let _clients = site.ready_client("wait", 8080, "30");
    watch.trouble();
    watch.expect(&Expected {
        ids: &["accept-queue-full", "accept-stalled"],
        owner: nginx.family(),
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
    // What the servers have closed is told of as info at both ends.
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
        owner: client.family(),
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
