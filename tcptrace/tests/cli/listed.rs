//! What `tcptrace sockets` says of processes and sockets: what it cannot see, what does not exist, and in which words.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{run, tracer};

fn list(flags: &[&str]) -> super::Run {
    run(&[&["sockets", "--no-iter", "--netns", "self"], flags].concat())
}

fn records(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn in_a_pid_namespace_of_its_own_it_says_so_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
    if !command.arg("true").output().is_ok_and(|output| output.status.success()) {
        return println!("skipped: this machine gives no PID namespace to a user");
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]).arg(tracer().get_program());
    let output = command.args(["sockets", "--no-iter", "--netns", "self", "-L", &port, "--quiet"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && stdout.contains(&port), "{stderr}");
    assert_eq!(stderr.matches("in a PID namespace of its own").count(), 1, "{stderr}");
    assert!(stderr.contains("docker run --pid=host") && stderr.contains("hostPID: true"), "the way out: {stderr}");
}

#[test]
fn a_process_that_does_not_exist_is_an_error() {
    let mut child = Command::new("true").spawn().unwrap();
    let gone = child.id();
    child.wait().unwrap();
    let nobody = list(&[&format!("--pid={gone}")]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (Some(1), ""));
    assert!(nobody.stderr.contains(&format!("--pid {gone}: there is no such process\n")), "{}", nobody.stderr);
    let one_of_two = list(&[&format!("--pid={gone},{}", std::process::id())]);
    assert_eq!(one_of_two.code, Some(0));
    assert!(one_of_two.stderr.contains(&format!("--pid {gone}: there is no such process")), "{}", one_of_two.stderr);
}

/// A cgroup, with a process in it that has a connection to this one.
struct Pod {
    folders: Vec<PathBuf>,
    child: Child,
    _server: TcpStream,
    port: String,
}

const POD: &str = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";

impl Pod {
    /// `None` without the right to make cgroups.
    fn start() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        let top = Path::new(mount.split(' ').nth(1)?).join(format!("kubepods-{}", std::process::id()));
        let container = format!("cri-containerd-{}.scope", "0123456789abcdef".repeat(4));
        let folders = vec![top.clone(), top.join(format!("pod{POD}")), top.join(format!("pod{POD}")).join(container)];
        for folder in &folders {
            fs::create_dir(folder).ok()?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let script = "echo $$ > \"$1/cgroup.procs\" && exec 3<>\"/dev/tcp/127.0.0.1/$2\" && echo ready && read -r _";
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(folders.last()?).arg(&port);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).unwrap();
        let server = (line == "ready\n").then(|| listener.accept().unwrap().0);
        Some(Self { folders, child, _server: server?, port })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        let _ = self.child.wait();
        self.folders.iter().rev().for_each(|folder| _ = fs::remove_dir(folder));
    }
}

#[test]
fn text_has_short_names_of_pods_and_json_has_all_ids() {
    let Some(pod) = Pod::start() else { return println!("skipped: this user makes no cgroups") };
    let text = list(&["--pid", "-R", &pod.port]).stdout;
    let row = text.lines().nth(1).unwrap();
    assert!(row.contains(&POD[..8]) && !row.contains("/kubepods"), "{text}");
    let records = records(&list(&["--json", "-R", &pod.port]).stdout);
    let holder = &records[0]["holders"][0];
    assert_eq!((&holder["pid"], &holder["command"]), (&pod.child.id().into(), &"bash".into()));
    assert_eq!((&holder["container_id"], &holder["pod_uid"]), (&"0123456789abcdef".repeat(4).into(), &POD.into()));
    assert_eq!(holder["container_runtime"], "containerd");
    assert!(holder["cgroup"].as_str().unwrap().contains(POD));
    // The other end has it as its peer.
    let text = list(&["--columns", "local,peer", "-L", &pod.port]).stdout;
    assert!(text.contains(&format!("bash/{} (", pod.child.id())) && text.contains(&POD[..8]), "{text}");
}

#[test]
fn words_are_those_of_the_field_and_addresses_of_the_kernel_stay_inside() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let client = TcpStream::connect(to).unwrap();
    let client_port = client.local_addr().unwrap().port();
    let _server = listener.accept().unwrap();
    drop(client); // its socket waits for the FIN of the other end
    let text = list(&["-P", &to.port().to_string()]).stdout;
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {text}"));
    let orphan = line("FIN_WAIT2");
    assert!(orphan.contains(&format!(":{client_port} ")) && orphan.contains(" fin_timeout "), "{text}");
    assert!(line("LISTEN").contains(" 0.0.0.0:* "), "as in ss: {text}");
    // Hashes by default, whatever kptr_restrict says; kernel addresses only if asked for. Both need iterators.
    let records = records(&list(&["--json", "-P", &to.port().to_string()]).stdout);
    assert!(
        records.iter().all(|record| record["sk"].is_null() || !record["sk"].as_str().unwrap().starts_with("0xffff"))
    );
}
