//! Whose handshakes these are: servers that fork before they serve share a listener, and the kernel makes connections for
//! all of them before one is accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    Case,
    servers::{apache, gunicorn, haproxy, nginx, nginx_files, node, postgres, redis},
    site::{Program, Site, command, find},
    tracer::Tracer,
    verdict::candidates,
};

pub(crate) const CASES: &[Case] =
    &[Case::short("handshakes", handshakes), Case::short("pid_of_the_master", pid_of_the_master)];

/// A server, the port of its service, and what asks it for something.
struct Service {
    command: &'static str,
    port: u16,
    program: Program,
    load: String,
}

fn services(site: &Site) -> Vec<Service> {
    let pgbench = find("pgbench").unwrap();
    let service = |command, port: u16, program, load: String| Service { command, port, program, load };
    let ab = |port: u16| format!("ab -q -n 200 -c 4 http://127.0.0.1:{port}/");
    let balanced = "listen web\n bind 127.0.0.1:8000\n server n1 127.0.0.1:8080\n";
    vec![
        service("postgres", 5432, postgres(site, 5432), {
            format!("{} -C -n -c 2 -t 40 -h 127.0.0.1 -U nobody postgres", pgbench.display())
        }),
        service("nginx", 8080, nginx(site, 8080, "worker_processes 2;", &nginx_files(site, 8080)), ab(8080)),
        service("apache2", 8081, apache(site, 8081), ab(8081)),
        service("gunicorn", 8082, gunicorn(site, 8082, 2, &[]), ab(8082)),
        service("node", 8083, node(site, 8083, &[]), ab(8083)),
        service("redis-server", 6379, redis(site, 6379), "redis-benchmark -q -n 400 -c 20 -k 0 -t get".into()),
        service("haproxy", 8000, haproxy(site, 8000, balanced), ab(8000)),
    ]
}

fn run(site: &Site, line: &str) {
    let mut shell = command("sh");
    shell.args(["-c", line]).current_dir(&site.folder).stdin(Stdio::null()).stdout(Stdio::null());
    assert!(shell.stderr(Stdio::null()).status().unwrap().success(), "{line}");
}

/// The records of handshakes, by the port of the service.
fn of_handshakes(records: &[Value]) -> BTreeMap<u64, Vec<&Value>> {
    let mut by_port: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for record in records {
        let change = (record["old_state"].as_str(), record["new_state"].as_str());
        if matches!(change, (Some("LISTEN"), Some("SYN_RECV")) | (Some("SYN_RECV"), Some("ESTABLISHED"))) {
            by_port.entry(record["local_port"].as_u64().unwrap()).or_default().push(record);
        }
    }
    by_port
}

/// The process that read and wrote each connection of a service last, by its cookie.
fn served_by(records: &[Value], port: u16) -> BTreeMap<String, u64> {
    let of_service = records.iter().filter(|one| one["local_port"] == port && one["owner_source"] == "io");
    of_service.filter_map(|one| Some((one["cookie"].to_string(), one["pid"].as_u64()?))).collect()
}

/// W4: of the handshakes less than 1 % have no owner, and none a wrong one.
fn handshakes() {
    let site = Site::new();
    let services = services(&site);
    // Servers take a while until all their workers are there.
    thread::sleep(Duration::from_secs(1));
    let tracer = Tracer::json(&["--pid", "--netns", "self"]);
    let mut families: Vec<BTreeSet<u32>> = services.iter().map(|service| service.program.family()).collect();
    for (service, family) in services.iter().zip(&mut families) {
        run(&site, &service.load);
        family.extend(service.program.family());
    }
    thread::sleep(Duration::from_secs(1));
    let records = tracer.stop().records();
    let by_port = of_handshakes(&records);
    let (mut all, mut unknown, mut wrong) = (0, 0, Vec::new());
    for (service, family) in services.iter().zip(&families) {
        let of_service = by_port.get(&u64::from(service.port)).map_or(&[][..], Vec::as_slice);
        let served_by = served_by(&records, service.port);
        let without = of_service.iter().filter(|one| one["pid"].is_null() && candidates(one).is_empty()).count();
        let is_wrong = |one: &&&Value| {
            let pids = one["pid"].as_u64().into_iter().chain(candidates(one));
            let mut strangers = pids.filter(|pid| !family.contains(&(*pid as u32)));
            // A backend that has ended is known by its name alone.
            strangers.next().is_some() && one["command"].as_str() != Some(service.command)
        };
        // One that is named alone is the one that serves. PostgreSQL's first process accepts for all others.
        let is_another = |one: &&&Value| {
            let server = served_by.get(&one["cookie"].to_string());
            candidates(one).is_empty() && service.command != "postgres" && server.is_some_and(|pid| one["pid"] != *pid)
        };
        wrong.extend(of_service.iter().filter(|one| is_wrong(one) || is_another(one)).map(|one| one.to_string()));
        println!("  {:13} {:5} handshake records, {without} without an owner", service.command, of_service.len());
        assert!(of_service.len() >= 100, "{}: {} records", service.command, of_service.len());
        all += of_service.len();
        unknown += without;
    }
    println!("  {unknown} of {all} without an owner, {} with a wrong one", wrong.len());
    assert!(wrong.is_empty(), "{} wrong, the first: {}", wrong.len(), wrong[0]);
    assert!(unknown * 100 < all, "{unknown} of {all} handshake records have no owner");
}

/// W4: `sockets` and events of `--pid MASTER` show the service, whose listener the master holds.
fn pid_of_the_master() {
    let site = Site::new();
    let nginx = nginx(&site, 8080, "worker_processes 2;", &nginx_files(&site, 8080));
    let master = nginx.pid().to_string();
    let tracer = Tracer::json(&["--netns", "self", &format!("--pid={master}")]);
    run(&site, "ab -q -n 50 -c 2 http://127.0.0.1:8080/");
    thread::sleep(Duration::from_millis(500));
    let records = tracer.stop().records();
    let by_port = of_handshakes(&records);
    let count = by_port.get(&8080).map_or(0, Vec::len);
    assert!(count >= 100, "{count} handshake records of 50 connections");
}
