//! The servers, each with the least configuration that does what the cases need. None is a service of the machine: each
//! has its files in the case's folder and runs in the foreground.

use std::{os::unix::process::CommandExt as _, process::Command};

use crate::site::{Program, Site, command, missing, source, wait_for_port};

/// "nobody" and "nogroup" of Debian: who servers run as that refuse to be root.
const NOBODY: u32 = 65534;

/// The size of what `/big` gives.
const BIG: usize = 16 << 20;

/// The programs in front of which tcptrace is put.
const PROGRAMS: [&str; 13] = [
    "nginx",
    "haproxy",
    "apache2",
    "redis-server",
    "postgres",
    "gunicorn",
    "node",
    "python3",
    "curl",
    "wrk",
    "ab",
    "redis-benchmark",
    "pgbench",
];

/// Why the suite cannot be played here.
pub(crate) fn obstacle() -> Option<String> {
    missing(&PROGRAMS).or_else(|| missing(&["nft", "openssl"]))
}

/// nginx with `main` in the outermost block of its configuration, and `http` in that of this name.
pub(crate) fn nginx(site: &Site, port: u16, main: &str, http: &str) -> Program {
    let folder = site.folder.display();
    let config = format!(
        "user nobody nogroup; {main} daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
         events {{ worker_connections 512; }}
         http {{
             access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
             uwsgi_temp_path {folder}; scgi_temp_path {folder};
             {http}
         }}"
    );
    pages(site);
    let config = site.file("nginx.conf", config);
    let program = site.start("nginx-out", command("nginx").args(["-c", &config, "-e", &format!("{folder}/nginx.log")]));
    wait_for_port(port);
    program
}

/// nginx that serves files, as a block of `http`.
pub(crate) fn nginx_files(site: &Site, port: u16) -> String {
    format!("server {{ listen 127.0.0.1:{port}; root {}/pages; }}", site.folder.display())
}

fn pages(site: &Site) {
    std::fs::create_dir_all(site.folder.join("pages")).unwrap();
    site.file("pages/index.html", "hello\n");
    site.file("pages/big", vec![b'x'; BIG]);
}

/// A key and a certificate in one file.
pub(crate) fn certificate(site: &Site) -> String {
    let path = format!("{}/server.pem", site.folder.display());
    let line = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 \
         -keyout {path} -out {path}.crt && cat {path}.crt >> {path}"
    );
    site.shell(&line);
    path
}

/// haproxy as a master with a worker; `config` is what follows the defaults.
pub(crate) fn haproxy(site: &Site, port: u16, config: &str) -> Program {
    let defaults = "defaults\n mode http\n timeout connect 5s\n timeout client 300s\n timeout server 300s\n";
    let config = site.file("haproxy.cfg", format!("{defaults}{config}\n"));
    let program = site.start("haproxy", command("haproxy").args(["-W", "-f", &config]));
    wait_for_port(port);
    program
}

/// Apache that forks before it serves.
pub(crate) fn apache(site: &Site, port: u16) -> Program {
    let folder = site.folder.display();
    let config = format!(
        "ServerRoot {folder}\nServerName localhost\nPidFile {folder}/apache.pid\nErrorLog {folder}/apache.log\n\
         LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so\n\
         LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
         LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so\n\
         User nobody\nGroup nogroup\nListen 127.0.0.1:{port}\nDocumentRoot {folder}/pages\n\
         StartServers 10\nMinSpareServers 10\nMaxSpareServers 20\nMaxRequestWorkers 150\n\
         KeepAlive On\nKeepAliveTimeout 5\n"
    );
    pages(site);
    let config = site.file("apache.conf", config);
    let program = site.start("apache-out", command("apache2").args(["-DFOREGROUND", "-f", &config]));
    wait_for_port(port);
    program
}

/// gunicorn with so many workers, which serve one request at a time.
pub(crate) fn gunicorn(site: &Site, port: u16, workers: u32, more: &[&str]) -> Program {
    let folder = source("");
    let mut gunicorn = command("gunicorn");
    gunicorn.args(["--workers", &workers.to_string(), "--bind", &format!("127.0.0.1:{port}"), "--chdir", &folder]);
    gunicorn.env("PYTHONDONTWRITEBYTECODE", "1").args(more).arg("app:app");
    let program = site.start("gunicorn", &mut gunicorn);
    wait_for_port(port);
    program
}

/// The server of node that `programs/server.js` is.
pub(crate) fn node(site: &Site, port: u16, arguments: &[&str]) -> Program {
    let program = site.start("node", command("node").args([&source("server.js"), &port.to_string()]).args(arguments));
    wait_for_port(port);
    program
}

/// redis that keeps nothing.
pub(crate) fn redis(site: &Site, port: u16) -> Program {
    let folder = site.folder.to_str().unwrap();
    let mut redis = command("redis-server");
    redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
    let program = site.start("redis", &mut redis);
    wait_for_port(port);
    program
}

/// PostgreSQL with the tables of pgbench.
pub(crate) fn postgres(site: &Site, port: u16) -> Program {
    let data = site.folder.join("postgres");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    let run = |command: &mut Command| {
        let output = as_nobody(command).current_dir(&data).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(command("initdb").args(["--no-sync", "--auth", "trust", "--username", "nobody", "--pgdata"]).arg(&data));
    let mut server = command("postgres");
    server.arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
    server.args(["-c", &format!("port={port}"), "-c", "fsync=off"]).current_dir(&data);
    let program = site.start("postgres", as_nobody(&mut server));
    wait_for_port(port);
    crate::site::wait_until("PostgreSQL takes connections", || {
        let mut ready = command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        ready.status().is_ok_and(|status| status.success())
    });
    let mut tables = command("pgbench");
    run(tables.args(["-i", "-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "nobody", "postgres"]));
    program
}

fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}
