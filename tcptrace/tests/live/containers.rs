//! Real containers of podman and containerd, from an image that the test makes: it is empty, and the programs of this
//! host are mounted into it. They listen in the test's network namespace.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tcptrace::{
    model::place::{Place, PlaceSource},
    sys::places::{Places, host_root},
};

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns},
    tracer::{Tracer, temporary},
};

/// With podman.
pub(crate) const PODMAN: &[Test] = &[
    ("a container has its name and image", podman_names),
    ("events have the names of the container", podman_events),
    ("what is executed in a container runs there", podman_exec),
];

/// With docker.
pub(crate) const DOCKER: &[Test] = &[("a container has its name and image", docker_names)];

/// With containerd.
pub(crate) const CONTAINERD: &[Test] = &[
    ("the container of a pod has the pod's names", containerd_pod),
    ("events have the names of the pod", containerd_events),
    ("a container whose id its user chose is found", containerd_task),
];

/// What a suite of this file needs.
pub(crate) fn missing(suite: &str) -> Option<String> {
    let programs: &[&str] = match suite {
        "podman" => &["podman", "conmon"],
        "docker" => &["docker", "dockerd", "containerd", "runc"],
        "containerd" => &["containerd", "ctr", "containerd-shim-runc-v2", "runc"],
        _ => return None,
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let absent = programs.iter().find(|name| !is_there(name));
    absent.map(|name| format!("{name} is not installed: `cargo xtask setup --tests` does that")).or_else(|| {
        let is_merged = fs::read_link("/lib").is_ok_and(|to| to == Path::new("usr/lib"));
        (!is_merged).then(|| "this host's programs are not below /usr, so they cannot run in an empty image".into())
    })
}

const PORT: u16 = 7443;
const IMAGE: &str = "localhost/tcptrace-test:7";

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    /// With `rootfs`, in which the host's programs run once `/usr` is mounted.
    fn new() -> Self {
        let path = temporary("containers");
        for name in ["usr", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(path.join("rootfs").join(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64"] {
            std::os::unix::fs::symlink(Path::new("usr").join(name), path.join("rootfs").join(name)).unwrap();
        }
        fs::write(path.join("rootfs/actor"), "").unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Waits until somebody listens.
fn wait_for_server() {
    let start = Instant::now();
    while TcpStream::connect(SocketAddr::new(LOCALHOST, PORT)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "no server");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first event of the server whose container has a name: names are read after the first event of a process.
fn named_event(tracer: &Tracer, id: &str) -> Value {
    std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let mut last = TcpStream::connect(SocketAddr::new(LOCALHOST, PORT)).unwrap();
        scope.spawn(move || {
            while is_done.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                last = TcpStream::connect(SocketAddr::new(LOCALHOST, PORT)).unwrap();
            }
            drop(last);
        });
        let of_server = |record: &Value| record["container_id"] == id && record["container_name"] != Value::Null;
        let found = tracer.wait_for_record("event with the names of the container", of_server);
        drop(done);
        found
    })
}

fn actor() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

/// A podman whose containers and files end with the test.
struct Podman(Folder);

impl Podman {
    fn new() -> Self {
        let podman = Self(Folder::new());
        // Raising limits is refused where root has no CAP_SYS_RESOURCE.
        fs::write(podman.0.path("containers.conf"), "[containers]\ndefault_ulimits = []\n").unwrap();
        let (tar, rootfs) = (podman.0.path("image.tar"), podman.0.path("rootfs"));
        output(Command::new("tar").args(["-C", &rootfs, "-cf", &tar, "."]));
        output(&mut podman.command(&["import", &tar, IMAGE]));
        podman
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (flag, folder) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.args([flag, &self.0.path(folder)]);
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]).args(arguments);
        command.env("CONTAINERS_CONF", self.0.path("containers.conf"));
        command
    }

    /// Starts a server in a container; returns its id and PID.
    fn serve(&self, name: &str) -> (String, u32) {
        let actor = format!("{}:/actor:ro", actor());
        let flags = ["run", "-d", "--name", name, "--network", "host", "--ulimit", "host", "-v", "/usr:/usr:ro", "-v"];
        let port = PORT.to_string();
        let server = ["-e", "TCPTRACE_TEST_ACTOR=t-namer", IMAGE, "/actor", &port];
        let id = output(&mut self.command(&[&flags[..], &[&actor], &server].concat())).trim().to_owned();
        wait_for_server();
        let pid = output(&mut self.command(&["inspect", "-f", "{{.State.Pid}}", name])).trim().parse().unwrap();
        (id, pid)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-a", "-f", "-t", "0"]).output();
    }
}

/// A dockerd in a mount namespace of its own, in which its files are where they are by default.
struct Docker {
    folder: Folder,
    child: Child,
}

impl Docker {
    fn new() -> Self {
        let folder = Folder::new();
        let script = "mkdir -p /var/lib/docker && mount -t tmpfs tmpfs /var/lib/docker && mount -t tmpfs tmpfs /run && \
            exec dockerd --storage-driver vfs --bridge none --iptables=false --ip6tables=false --ip-forward=false \
            -H \"unix://$0\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, &folder.path("socket")]).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let docker = Self { folder, child };
        let start = Instant::now();
        while !docker.command(&["version"]).output().unwrap().status.success() {
            assert!(start.elapsed() < Duration::from_secs(60), "dockerd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        docker
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &format!("unix://{}", self.folder.path("socket"))]).args(arguments);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-f", "shop"]).output();
        // SAFETY: takes numbers only. With SIGTERM it ends its containerd, too.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

fn docker_names() {
    enter_new_netns();
    let docker = Docker::new();
    let (tar, rootfs) = (docker.folder.path("image.tar"), docker.folder.path("rootfs"));
    output(Command::new("tar").args(["-C", &rootfs, "-cf", &tar, "."]));
    output(&mut docker.command(&["import", &tar, IMAGE]));
    let actor = format!("{}:/actor:ro", actor());
    let flags = ["run", "-d", "--name", "shop", "--network", "host", "-v", "/usr:/usr:ro", "-v", &actor];
    let server = ["-e", "TCPTRACE_TEST_ACTOR=t-namer", IMAGE, "/actor", &PORT.to_string()];
    let id = output(&mut docker.command(&[&flags[..], &server].concat())).trim().to_owned();
    wait_for_server();
    let pid = output(&mut docker.command(&["inspect", "-f", "{{.State.Pid}}", "shop"])).trim().parse().unwrap();
    let mut places = Places::new(&host_root(None));
    let place = places.of_process(pid).unwrap();
    assert_eq!(place.container_id(), Some(&*id), "{place:?}");
    assert_eq!((place.runtime(), place.container_name(), place.image()), (Some("docker"), Some("shop"), Some(IMAGE)));
    assert_eq!(source(&place), Some(PlaceSource::DockerState));
    assert_eq!(place.pod, None);
    let of_dockerd = PathBuf::from(format!("/proc/{}/root", docker.child.id()));
    assert_eq!(Places::new(&of_dockerd).of_cgroup(&place.cgroup, None).container_name(), Some("shop"));
}

fn source(place: &Place) -> Option<PlaceSource> {
    Some(place.container.as_ref()?.name.as_ref()?.source)
}

fn podman_names() {
    enter_new_netns();
    let podman = Podman::new();
    let (id, pid) = podman.serve("shop");
    let mut places = Places::new(&host_root(None));
    let place = places.of_process(pid).unwrap();
    assert_eq!(place.container_id(), Some(&*id), "{place:?}");
    assert_eq!((place.runtime(), place.container_name(), place.image()), (Some("podman"), Some("shop"), Some(IMAGE)));
    assert_eq!(source(&place), Some(PlaceSource::ContainerStorage));
    assert_eq!(place.to_string(), "podman shop");
    assert_eq!(place.pod, None);
    // Its files are in no usual folder: conmon led to them.
    let alone = Places::new(&host_root(None)).of_cgroup(&place.cgroup, None);
    assert_eq!((alone.container_id(), alone.container_name()), (Some(&*id), None));
    let own = places.of_process(std::process::id()).unwrap();
    assert_ne!(own.container_id(), Some(&*id));
    output(&mut podman.command(&["rm", "-f", "-t", "0", "shop"]));
    assert_eq!(places.of_process(pid), None, "it has ended");
    assert_eq!(places.of_cgroup(&place.cgroup, None).container_name(), Some("shop"), "its name stays");
}

fn podman_events() {
    enter_new_netns();
    let podman = Podman::new();
    let tracer = Tracer::here(&["--local-port", &PORT.to_string()]);
    let (id, pid) = podman.serve("shop");
    let event = named_event(&tracer, &id);
    assert_eq!((&event["pid"], &event["container_name"]), (&pid.into(), &"shop".into()), "{event:#}");
    assert_eq!(
        (&event["container_image"], &event["container_runtime"]),
        (&IMAGE.into(), &"podman".into()),
        "{event:#}"
    );
    assert_eq!(event["container_source"], "container_storage", "{event:#}");
    assert_eq!(event["pod_name"], Value::Null, "{event:#}");
}

fn podman_exec() {
    enter_new_netns();
    let podman = Podman::new();
    let (id, pid) = podman.serve("shop");
    let in_container = ["exec", "-i", "shop", "/bin/sh", "-c", "sleep 1000 & wait"];
    let mut child = podman.command(&in_container).stdin(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let sleeper = loop {
        let others = processes_of(pid).into_iter().find(|other| *other != pid && comm(*other) == "sleep");
        match others {
            Some(other) => break other,
            None => assert!(start.elapsed() < Duration::from_secs(30), "nothing was executed"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let place = Places::new(&host_root(None)).of_process(sleeper).unwrap();
    assert_eq!((place.container_id(), place.container_name()), (Some(&*id), Some("shop")), "{place:?}");
    drop(podman);
    child.wait().unwrap();
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The processes in the PID namespace of this one.
fn processes_of(pid: u32) -> Vec<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(pid);
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid| namespace(*pid) == wanted).collect()
}

/// A containerd in a mount namespace of its own, whose state is where it is by default, but on no other's `/run`: as on
/// the node of a cluster of `kind`.
struct Containerd {
    folder: Folder,
    child: Child,
    /// Containers that were started.
    started: Vec<String>,
}

impl Containerd {
    fn new() -> Self {
        let folder = Folder::new();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            folder.path("root"),
            folder.path("socket")
        );
        let file = folder.path("config.toml");
        fs::File::create(&file).unwrap().write_all(config.as_bytes()).unwrap();
        let script = "mount -t tmpfs tmpfs /run && exec containerd -c \"$0\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, &file]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let containerd = Self { folder, child, started: Vec::new() };
        let start = Instant::now();
        while !containerd.ctr(&["version"]).output().unwrap().status.success() {
            assert!(start.elapsed() < Duration::from_secs(30), "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        // It makes pipes below /run for containerd to open.
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--mount", "ctr"]);
        command.args(["-a", &self.folder.path("socket")]).args(arguments);
        command
    }

    /// Starts a server in a container, with these annotations and further flags; returns its PID.
    fn serve(&mut self, id: &str, annotations: &[(&str, &str)], flags: &[&str]) -> u32 {
        let mount = |from: &str, to: &str| format!("type=bind,src={from},dst={to},options=rbind:ro");
        let mut command = self.ctr(&["run", "-d", "--net-host", "--rootfs"]);
        command.args(["--mount", &mount("/usr", "/usr"), "--mount", &mount(&actor(), "/actor")]);
        command.args(["--env", "TCPTRACE_TEST_ACTOR=t-namer"]).args(flags);
        for (key, value) in annotations {
            command.args(["--annotation", &format!("{key}={value}")]);
        }
        self.started.push(id.to_owned());
        output(command.args([&self.folder.path("rootfs"), id, "/actor", &PORT.to_string()]));
        wait_for_server();
        let tasks = output(&mut self.ctr(&["task", "ls"]));
        let line = tasks.lines().find(|line| line.starts_with(id)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The root folder that it sees.
    fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.child.id()).into()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in &self.started {
            let _ = self.ctr(&["task", "rm", "-f", id]).output();
            let _ = self.ctr(&["container", "rm", id]).output();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Of the cgroups, runc removes only the container's own.
        let below = format!("docker/{}/kubelet/kubepods/burstable/pod{POD_UID}", node_id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            Path::new(&below).ancestors().take(5).for_each(|path| _ = fs::remove_dir(hierarchy.join(path)));
        }
    }
}

const POD_UID: &str = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";

/// An id that no other test has: the containers of one cgroup end together.
fn pod_id() -> String {
    format!("{:08x}{}", std::process::id(), "89abcdef".repeat(7))
}

/// The id of the container that a node of the cluster is.
fn node_id() -> String {
    format!("{:08x}{}", std::process::id(), "76543210".repeat(7))
}

/// The container of a pod, as the CRI plugin annotates it and as a kubelet without systemd names its cgroup; and its PID.
fn serve_pod(containerd: &mut Containerd) -> (String, u32) {
    let annotations = [
        ("io.kubernetes.cri.container-name", "web"),
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.image-name", "docker.io/library/shop:2"),
        ("io.kubernetes.cri.sandbox-name", "shop-1"),
        ("io.kubernetes.cri.sandbox-namespace", "prod"),
    ];
    let cgroup = format!("/docker/{}/kubelet/kubepods/burstable/pod{POD_UID}/{}", node_id(), pod_id());
    let pid = containerd.serve(&pod_id(), &annotations, &["--cgroup", &cgroup]);
    (cgroup, pid)
}

fn containerd_pod() {
    enter_new_netns();
    let id = pod_id();
    let mut containerd = Containerd::new();
    let (cgroup, pid) = serve_pod(&mut containerd);
    let place = Places::new(&host_root(None)).of_process(pid).unwrap();
    assert_eq!(place.container_id(), Some(&*id), "{place:?}");
    assert_eq!(place.outer_container(), Some(&*node_id()));
    assert_eq!(place.to_string(), "prod/shop-1/web");
    assert_eq!((place.runtime(), place.image()), (Some("containerd"), Some("docker.io/library/shop:2")));
    assert_eq!(place.pod_uid(), Some(POD_UID));
    assert_eq!(source(&place), Some(PlaceSource::ContainerdTask));
    // On the node itself no process is needed.
    let on_node = format!("/kubepods/burstable/pod{POD_UID}/{id}");
    let place = Places::new(&containerd.root()).of_cgroup(&on_node, None);
    assert_eq!(place.to_string(), "prod/shop-1/web");
    let place = Places::new(&host_root(None)).of_cgroup(&cgroup, None);
    assert_eq!((place.container_id(), place.container_name()), (Some(&*id), None), "this host does not know it");
}

fn containerd_events() {
    enter_new_netns();
    let mut containerd = Containerd::new();
    let tracer = Tracer::here(&["--local-port", &PORT.to_string()]);
    let (_, pid) = serve_pod(&mut containerd);
    let event = named_event(&tracer, &pod_id());
    assert_eq!((&event["pid"], &event["pod_container"]), (&pid.into(), &"web".into()), "{event:#}");
    assert_eq!((&event["pod_name"], &event["pod_namespace"]), (&"shop-1".into(), &"prod".into()), "{event:#}");
    assert_eq!((&event["pod_uid"], &event["container_runtime"]), (&POD_UID.into(), &"containerd".into()), "{event:#}");
    assert_eq!(event["pod_source"], "containerd_task", "{event:#}");
}

fn containerd_task() {
    enter_new_netns();
    let mut containerd = Containerd::new();
    let pid = containerd.serve("tcptrace-web", &[("nerdctl/name", "cart")], &[]);
    let place = Places::new(&host_root(None)).of_process(pid).unwrap();
    assert_eq!(place.container_id(), Some("tcptrace-web"), "{place:?}");
    assert_eq!((place.runtime(), place.to_string().as_str()), (Some("containerd"), "containerd cart"));
    let place = Places::new(&containerd.root()).of_cgroup("/default/tcptrace-web", None);
    assert_eq!((place.container_id(), place.container_name()), (Some("tcptrace-web"), Some("cart")));
}
