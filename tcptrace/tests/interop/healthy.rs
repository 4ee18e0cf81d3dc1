//! Healthy traffic of real programs: all of it at once, as on a busy machine. An operator wants to hear nothing of it.

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Case,
    servers::{apache, certificate, gunicorn, haproxy, nginx, node, postgres, redis},
    site::{Program, Site, command},
    span,
    verdict::Watch,
};

pub(crate) const CASES: &[Case] = &[Case::short("all", all), Case::short("checks_and_reloads", checks_and_reloads)];

/// In the short form it lasts so long.
const SHORT: Duration = Duration::from_secs(25);

const NGINX: u16 = 8080;
const APACHE: u16 = 8081;
const GUNICORN: u16 = 8082;
const NODE: u16 = 8083;
const TLS: u16 = 8443;
const HAPROXY: u16 = 8000;
const REDIS: u16 = 6379;
const POSTGRES: u16 = 5432;

/// The servers of healthy traffic.
struct Servers {
    nginx: Program,
    apache: Program,
    haproxy: Program,
    gunicorn: Program,
    _others: [Program; 3],
}

impl Servers {
    fn start(site: &Site) -> Self {
        let certificate = certificate(site);
        let root = site.folder.display();
        let http = format!(
            "upstream app {{ server 127.0.0.1:{GUNICORN}; keepalive 4; }}
             upstream node {{ server 127.0.0.1:{NODE}; keepalive 4; }}
             server {{
                 listen 127.0.0.1:{NGINX}; root {root}/pages;
                 location /app/ {{ proxy_pass http://app/; }}
                 location /node/ {{
                     proxy_pass http://node/; proxy_http_version 1.1; proxy_set_header Connection \"\";
                 }}
             }}
             server {{
                 listen 127.0.0.1:{TLS} ssl; root {root}/pages;
                 ssl_certificate {certificate}; ssl_certificate_key {certificate};
             }}"
        );
        let balanced = format!(
            "frontend web\n bind 127.0.0.1:{HAPROXY}\n default_backend web\n\
             backend web\n server n1 127.0.0.1:{NGINX} check inter 1s\n server a1 127.0.0.1:{APACHE} check inter 1s\n\
             backend http_checks\n option httpchk GET /\n server n2 127.0.0.1:{NODE} check inter 2s\n\
             backend others\n mode tcp\n server r1 127.0.0.1:{REDIS} check inter 1s\n\
             server p1 127.0.0.1:{POSTGRES} check inter 2s\n server g1 127.0.0.1:{GUNICORN} check inter 2s\n"
        );
        // PostgreSQL first: it takes longest. haproxy last: all that it checks is there.
        let others = [postgres(site, POSTGRES), redis(site, REDIS), node(site, NODE, &[])];
        let gunicorn = gunicorn(site, GUNICORN, 2, &[]);
        let (nginx, apache) = (nginx(site, NGINX, "worker_processes 2;", &http), apache(site, APACHE));
        Self { nginx, apache, gunicorn, haproxy: haproxy(site, HAPROXY, &balanced), _others: others }
    }

    /// Checks that all of them serve: a program that has died in the middle would make a quiet case.
    fn check(&self, watch: &Watch) {
        for (port, path) in [(NGINX, "app/"), (NGINX, "node/"), (APACHE, ""), (GUNICORN, ""), (NODE, ""), (HAPROXY, "")]
        {
            let url = format!("http://127.0.0.1:{port}/{path}");
            let output = command("curl").args(["-sf", "--max-time", "5", &url]).output().unwrap();
            watch.check(output.stdout == b"hello\n", &format!("{url}: {}", output.status));
        }
        let postgres = command("pg_isready").args(["-q", "-h", "127.0.0.1"]).status().unwrap();
        let redis = command("redis-cli").args(["-p", "6379", "ping"]).output().unwrap();
        watch.check(postgres.success() && redis.stdout == b"PONG\n", "PostgreSQL and redis serve");
    }

    /// Reloads one server after the other until the time is over.
    fn reload(&self, pause: Duration, until: Instant) {
        let reloads = [
            (&self.nginx, libc::SIGHUP),
            (&self.apache, libc::SIGUSR1),
            (&self.haproxy, libc::SIGUSR2),
            (&self.gunicorn, libc::SIGHUP),
        ];
        for (server, signal) in reloads.iter().cycle() {
            if !sleep_until(pause, until) {
                return;
            }
            server.signal(*signal);
        }
    }
}

/// Whether there is time left after a pause.
fn sleep_until(pause: Duration, until: Instant) -> bool {
    thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    Instant::now() < until
}

/// Shell commands that are run again and again, each with the pause between two runs in s.
const COMMANDS: &[(&str, u64)] = &[
    ("curl -s -o /dev/null http://127.0.0.1:8080/ http://127.0.0.1:8080/app/ http://127.0.0.1:8080/node/", 1),
    ("curl -s -o /dev/null http://127.0.0.1:8000/ http://127.0.0.1:8081/ http://127.0.0.1:8082/", 1),
    ("curl -sk -o /dev/null https://127.0.0.1:8443/ https://127.0.0.1:8443/big", 2),
    ("curl -s http://127.0.0.1:8080/big | head -c 1000", 2),
    ("curl -s http://127.0.0.1:8081/big | head -c 1000", 3),
    ("curl -s http://127.0.0.1:8083/big | head -c 1000", 3),
    ("curl -s --max-time 1 --limit-rate 100k http://127.0.0.1:8080/big", 7),
    ("curl -s -o /dev/null --limit-rate 2M http://127.0.0.1:8080/big", 3),
    ("wrk -t1 -c20 -d3s http://127.0.0.1:8080/", 6),
    ("wrk -t1 -c10 -d3s http://127.0.0.1:8000/", 9),
    ("wrk -t1 -c10 -d2s http://127.0.0.1:8083/", 11),
    ("ab -q -k -n 2000 -c 8 http://127.0.0.1:8081/", 8),
    ("ab -q -n 500 -c 4 http://127.0.0.1:8080/", 9),
    ("ab -q -n 200 -c 4 http://127.0.0.1:8082/", 10),
    ("redis-benchmark -q -n 5000 -c 20 -t set,get", 8),
    ("redis-cli -p 6379 ping", 1),
    ("PGUSER=nobody PGHOST=127.0.0.1 $PGBENCH -C -n -c 2 -T 3 postgres", 7),
    ("PGUSER=nobody PGHOST=127.0.0.1 $PGBENCH -n -c 4 -T 4 postgres", 9),
    ("psql -h 127.0.0.1 -U nobody -c 'select pg_sleep(12)' postgres", 1),
];

/// Roles of `client.py`, each with the pause between two runs in s.
const ROLES: &[(&str, u16, &str, u64)] = &[
    ("cancel", NGINX, "0", 2),
    ("cancel", APACHE, "0", 4),
    ("cancel", NODE, "0", 4),
    ("cancel", HAPROXY, "0", 4),
    ("reset", NGINX, "0", 1),
    ("reset", NODE, "0", 2),
    ("reset", REDIS, "0", 2),
    ("touch", NGINX, "0.2", 3),
    ("touch", APACHE, "0.2", 3),
    ("touch", HAPROXY, "0.5", 5),
    ("stream", NODE, "20", 1),
    ("stream", NODE, "70", 1),
    ("socket_idle", NODE, "30", 2),
    ("half_close", APACHE, "0.25", 1),
    ("tls", TLS, "0", 2),
    ("pool", NGINX, "15", 0),
    ("pool", APACHE, "15", 0),
    ("pool", NODE, "20", 0),
    ("pool", GUNICORN, "10", 0),
    ("pool", HAPROXY, "25", 0),
];

/// Runs a program again and again. The one that runs at the end is killed when all is `over`: a kill is no healthy traffic.
fn again(pause: u64, until: Instant, over: &AtomicBool, mut start: impl FnMut() -> Program) {
    while Instant::now() < until {
        let mut program = start();
        while !program.has_ended() {
            if !sleep_until(Duration::from_millis(50), until) {
                while !over.load(Ordering::Relaxed) && Instant::now() < until + Duration::from_secs(60) {
                    thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        }
        if !sleep_until(Duration::from_secs(pause), until) {
            return;
        }
    }
}

fn all() {
    let site = Site::new();
    let servers = Servers::start(&site);
    let watch = Watch::start();
    let (until, over) = (Instant::now() + span(SHORT), AtomicBool::new(false));
    let stopped = thread::scope(|scope| {
        for (line, pause) in COMMANDS {
            let (site, over) = (&site, &over);
            scope.spawn(move || {
                let mut shell = command("sh");
                shell.args(["-c", line]).env("PGBENCH", crate::site::find("pgbench").unwrap());
                shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(&site.folder);
                again(*pause, until, over, || Program::start(&mut shell));
            });
        }
        for (role, port, argument, pause) in ROLES {
            let (site, over) = (&site, &over);
            scope.spawn(move || again(*pause, until, over, || site.client(role, *port, argument)));
        }
        servers.reload(Duration::from_secs(7), until);
        servers.check(&watch);
        let stopped = watch.stop();
        over.store(true, Ordering::Relaxed);
        stopped
    });
    stopped.judge(&site, 1, &[]);
}

/// Health checks and reloads alone: of these no finding of warning or above is wanted, and none at all is invented.
fn checks_and_reloads() {
    let site = Site::new();
    let servers = Servers::start(&site);
    let watch = Watch::start();
    let until = Instant::now() + span(SHORT).min(Duration::from_secs(60));
    servers.reload(Duration::from_secs(3), until);
    servers.check(&watch);
    watch.end(&site, 0, &[]);
}
