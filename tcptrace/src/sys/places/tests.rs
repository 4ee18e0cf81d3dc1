//! Trees of files in the forms of docker, containerd, CRI-O, podman and the kubelet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::CString,
    os::unix::fs::symlink,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::model::place::PlaceSource;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const UID: &str = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";

/// A root folder that is removed on drop.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcptrace-places-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The path below the root, with its folders.
    fn place(&self, path: &str) -> PathBuf {
        let path = self.0.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, content: &Value) {
        fs::write(self.place(path), content.to_string()).unwrap();
    }

    fn places(&self) -> Places {
        Places::new(&self.0)
    }

    fn of(&self, path: &str) -> Arc<Place> {
        self.places().of_cgroup(path, None)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pod_slice(scope: &str) -> String {
    let uid = UID.replace('-', "_");
    format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/{scope}")
}

/// Name and image of a container, and namespace, name and container of a pod.
fn names(place: &Place) -> [Option<&str>; 5] {
    [place.container_name(), place.image(), place.pod_namespace(), place.pod_name(), place.pod_container()]
}

const NOTHING: [Option<&str>; 5] = [None; 5];

#[test]
fn docker_names_its_containers() {
    let tree = Tree::new();
    let state = json!({ "ID": ID, "Name": "/web", "Config": { "Image": "nginx:1.27", "Labels": null }, "State": {} });
    tree.write(&format!("/var/lib/docker/containers/{ID}/config.v2.json"), &state);
    for path in [format!("/system.slice/docker-{ID}.scope"), format!("/docker/{ID}"), format!("/ecs/7/{ID}")] {
        let place = tree.of(&path);
        assert_eq!(names(&place), [Some("web"), Some("nginx:1.27"), None, None, None], "{path}");
        assert_eq!(place.runtime(), Some("docker"));
        assert_eq!(place.container.as_ref().unwrap().name.as_ref().unwrap().source, PlaceSource::DockerState);
        assert_eq!(place.to_string(), "docker web");
        assert_eq!(place.pod, None);
    }
    assert_eq!(names(&tree.of(&format!("/docker/{OTHER}"))), NOTHING);
    let other = json!({ "ID": ID, "Name": "/another", "Config": {} });
    tree.write(&format!("/var/lib/docker/containers/{OTHER}/config.v2.json"), &other);
    assert_eq!(names(&tree.of(&format!("/docker/{OTHER}"))), NOTHING, "the file is of another container");
}

#[test]
fn docker_may_keep_its_data_elsewhere() {
    let state = json!({ "ID": ID, "Name": "/web", "Config": { "Image": "nginx" } });
    let file = format!("containers/{ID}/config.v2.json");
    let snap = Tree::new();
    snap.write(&format!("/var/snap/docker/common/var-lib-docker/{file}"), &state);
    assert_eq!(snap.of(&format!("/docker/{ID}")).container_name(), Some("web"));
    let moved = Tree::new();
    moved.write("/etc/docker/daemon.json", &json!({ "data-root": "/srv/docker", "debug": true }));
    moved.write(&format!("/srv/docker/{file}"), &state);
    assert_eq!(moved.of(&format!("/docker/{ID}")).container_name(), Some("web"));
    let rootless = Tree::new();
    fs::write(
        rootless.place("/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
    )
    .unwrap();
    rootless.write(&format!("/home/ann/.local/share/docker/{file}"), &state);
    let path = |uid| format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/docker-{ID}.scope");
    assert_eq!(rootless.of(&path(1000)).container_name(), Some("web"));
    assert_eq!(rootless.of(&path(1001)).container_name(), None, "another user's docker");
}

#[test]
fn pods_of_docker_have_labels() {
    let tree = Tree::new();
    let state = |kind: &str, name: &str| {
        json!({ "ID": ID, "Name": "/k8s_web_shop-1_prod_0", "Config": { "Image": "sha256:77", "Labels": {
            "io.kubernetes.container.name": name, "io.kubernetes.pod.name": "shop-1",
            "io.kubernetes.pod.namespace": "prod", "io.kubernetes.pod.uid": UID, "io.kubernetes.docker.type": kind,
        } } })
    };
    let file = format!("/var/lib/docker/containers/{ID}/config.v2.json");
    tree.write(&file, &state("container", "web"));
    let place = tree.of(&format!("/kubepods/burstable/pod{UID}/{ID}"));
    assert_eq!(names(&place), [Some("web"), Some("sha256:77"), Some("prod"), Some("shop-1"), Some("web")]);
    tree.write(&file, &state("podsandbox", "POD"));
    let place = tree.of(&format!("/kubepods/burstable/pod{UID}/{ID}"));
    let name = Some("k8s_web_shop-1_prod_0");
    assert_eq!(names(&place), [name, Some("sha256:77"), Some("prod"), Some("shop-1"), None], "a sandbox");
}

#[test]
fn containerd_annotates_tasks() {
    let tree = Tree::new();
    let spec = |annotations: Value| json!({ "ociVersion": "1.1.0", "annotations": annotations, "linux": {} });
    let container = spec(json!({
        "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": "docker.io/library/nginx:1.27", "io.kubernetes.cri.sandbox-id": OTHER,
        "io.kubernetes.cri.sandbox-name": "shop-1", "io.kubernetes.cri.sandbox-namespace": "prod",
        "io.kubernetes.cri.sandbox-uid": UID,
    }));
    let want = [Some("web"), Some("docker.io/library/nginx:1.27"), Some("prod"), Some("shop-1"), Some("web")];
    for state in ["/run/containerd", "/run/k3s/containerd", "/var/snap/microk8s/common/run/containerd"] {
        let tree = Tree::new();
        tree.write(&format!("{state}/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"), &container);
        for path in [
            pod_slice(&format!("cri-containerd-{ID}.scope")),
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/system.slice/containerd.service/kubepods-pod{}.slice:cri-containerd:{ID}", UID.replace('-', "_")),
        ] {
            let place = tree.of(&path);
            assert_eq!(names(&place), want, "{path}");
            assert_eq!(place.runtime(), Some("containerd"));
            assert_eq!(place.pod.as_ref().unwrap().name.as_ref().unwrap().source, PlaceSource::ContainerdTask);
            assert_eq!(place.pod.as_ref().unwrap().uid.as_ref().unwrap().source, PlaceSource::Cgroup);
            assert_eq!(place.to_string(), "prod/shop-1/web");
        }
    }
    let sandbox = spec(json!({
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-name": "shop-1",
        "io.kubernetes.cri.sandbox-namespace": "prod",
    }));
    let tasks = "/run/containerd/io.containerd.runtime.v2.task";
    tree.write(&format!("{tasks}/k8s.io/{ID}/config.json"), &sandbox);
    let place = tree.of(&pod_slice(&format!("cri-containerd-{ID}.scope")));
    assert_eq!(names(&place), [None, None, Some("prod"), Some("shop-1"), None]);
    tree.write(&format!("{tasks}/default/{OTHER}/config.json"), &spec(json!({ "nerdctl/name": "cart" })));
    assert_eq!(tree.of(&format!("/default/{OTHER}")).to_string(), "containerd cart");
    tree.write(&format!("{tasks}/staging/{OTHER}/config.json"), &spec(json!({ "nerdctl/name": "cart" })));
    assert_eq!(tree.of(&format!("/staging/{OTHER}")).to_string(), "containerd cart", "a namespace of its user");
}

#[test]
fn a_task_may_have_any_id() {
    let tree = Tree::new();
    let file = "/run/containerd/io.containerd.runtime.v2.task/default/web/config.json";
    tree.write(file, &json!({ "linux": { "cgroupsPath": "/default/web" } }));
    for path in ["/default/web", "/default/web/below"] {
        let place = tree.of(path);
        assert_eq!((place.container_id(), place.runtime()), (Some("web"), Some("containerd")), "{path}");
        assert_eq!(place.container.as_ref().unwrap().id.as_ref().unwrap().source, PlaceSource::ContainerdTask);
        assert_eq!(place.to_string(), "containerd web");
    }
    tree.write(file, &json!({ "linux": { "cgroupsPath": "/another" } }));
    for path in ["/default/web", "/default", "/default/..", "/../web", "/"] {
        assert_eq!(tree.of(path).container, None, "{path}");
    }
}

#[test]
fn cri_o_annotates_bundles() {
    let tree = Tree::new();
    let bundle = |kind: &str| {
        json!({ "annotations": {
            "io.container.manager": "cri-o", "io.kubernetes.cri-o.ContainerType": kind,
            "io.kubernetes.cri-o.Image": "quay.io/shop/web:7", "io.kubernetes.cri-o.ImageName": "quay.io/shop/web@sha256:1",
            "io.kubernetes.container.name": "web", "io.kubernetes.pod.name": "shop-1",
            "io.kubernetes.pod.namespace": "prod", "io.kubernetes.pod.uid": UID,
        } })
    };
    let file = format!("/run/containers/storage/overlay-containers/{ID}/userdata/config.json");
    tree.write(&file, &bundle("container"));
    for path in [pod_slice(&format!("crio-{ID}.scope")), format!("/kubepods/pod{UID}/crio-{ID}")] {
        let place = tree.of(&path);
        assert_eq!(names(&place), [Some("web"), Some("quay.io/shop/web:7"), Some("prod"), Some("shop-1"), Some("web")]);
        assert_eq!(place.runtime(), Some("cri-o"));
        assert_eq!(place.pod.as_ref().unwrap().name.as_ref().unwrap().source, PlaceSource::ContainerBundle);
    }
    tree.write(&file, &bundle("sandbox"));
    let place = tree.of(&pod_slice(&format!("crio-{ID}.scope")));
    assert_eq!(names(&place), [None, Some("quay.io/shop/web:7"), Some("prod"), Some("shop-1"), None]);
}

#[test]
fn podman_lists_its_containers() {
    let metadata = json!({ "image-name": "localhost/shop:2", "image-id": OTHER, "name": "web" }).to_string();
    let list = json!([
        { "id": OTHER, "names": [], "image": OTHER },
        { "id": ID, "names": ["web"], "image": OTHER, "metadata": metadata, "created": "2026-01-01T00:00:00Z" },
    ]);
    let path = format!("/machine.slice/libpod-{ID}.scope/container");
    for file in [
        "/var/lib/containers/storage/overlay-containers/containers.json",
        "/var/lib/containers/storage/overlay-containers/volatile-containers.json",
        "/run/containers/storage/vfs-containers/containers.json",
    ] {
        let tree = Tree::new();
        tree.write(file, &list);
        let place = tree.of(&path);
        assert_eq!(names(&place), [Some("web"), Some("localhost/shop:2"), None, None, None], "{file}");
        assert_eq!(place.container.as_ref().unwrap().name.as_ref().unwrap().source, PlaceSource::ContainerStorage);
        assert_eq!(place.to_string(), "podman web");
        assert_eq!(names(&tree.of(&path.replace(ID, OTHER))), NOTHING, "it has no name");
    }
    let rootless = Tree::new();
    fs::write(rootless.place("/etc/passwd"), "ann:x:1000:1000:Ann:/home/ann:/bin/sh\n").unwrap();
    rootless.write("/home/ann/.local/share/containers/storage/overlay-containers/containers.json", &list);
    assert_eq!(names(&rootless.of(&path)), NOTHING, "root's podman knows nothing of it");
    let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container");
    assert_eq!(rootless.of(&path).container_name(), Some("web"));
}

#[test]
fn the_kubelets_logs_name_what_no_runtime_does() {
    let tree = Tree::new();
    let name = format!("shop-1_prod_web-{ID}.log");
    symlink(format!("/var/log/pods/prod_shop-1_{UID}/web/0.log"), tree.place(&format!("/var/log/containers/{name}")))
        .unwrap();
    let place = tree.of(&pod_slice(&format!("cri-containerd-{ID}.scope")));
    assert_eq!(names(&place), [Some("web"), None, Some("prod"), Some("shop-1"), Some("web")]);
    assert_eq!(place.pod.as_ref().unwrap().name.as_ref().unwrap().source, PlaceSource::KubeletLogs);
    fs::remove_file(tree.place(&format!("/var/log/containers/{name}"))).unwrap();
    fs::create_dir_all(tree.place(&format!("/var/log/pods/prod_shop-1_{UID}/web"))).unwrap();
    let place = tree.of(&pod_slice(&format!("cri-containerd-{ID}.scope")));
    assert_eq!(names(&place), [None, None, Some("prod"), Some("shop-1"), None], "which container it is, is not known");
    let place = tree.of(&pod_slice(""));
    assert_eq!(names(&place), [None, None, Some("prod"), Some("shop-1"), None], "a cgroup of the pod itself");
    assert_eq!(place.container, None);
}

#[test]
fn a_name_that_is_none_of_kubernetes_is_passed_over() {
    let tree = Tree::new();
    for name in [
        "a_b-ID.log",
        "_b_c-ID.log",
        "a_b_c_d-ID.log",
        "A_b_c-ID.log",
        "a_\u{1b}[2J_c-ID.log",
        "ID.log",
        "-ID.log",
        ".log",
    ] {
        fs::write(tree.place(&format!("/var/log/containers/{}", name.replace("ID", ID))), "").unwrap();
    }
    assert_eq!(names(&tree.of(&pod_slice(&format!("crio-{ID}.scope")))), NOTHING);
}

#[test]
fn hostile_files_say_nothing() {
    let cgroup = format!("/system.slice/docker-{ID}.scope");
    let file = format!("/var/lib/docker/containers/{ID}/config.v2.json");
    let good = json!({ "ID": ID, "Name": "/web", "Config": {} }).to_string();
    let deep = "[".repeat(100_000);
    let padded = format!("{}{}", good, " ".repeat(2 << 20));
    let long = json!({ "ID": ID, "Name": "x".repeat(300), "Config": { "Image": "y".repeat(2000) } }).to_string();
    let contents: [&[u8]; 10] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        &good.as_bytes()[..20],
        br#"{"ID":7,"Name":[],"Config":"x"}"#,
        deep.as_bytes(),
        padded.as_bytes(),
        long.as_bytes(),
    ];
    let tree = Tree::new();
    for content in contents {
        fs::write(tree.place(&file), content).unwrap();
        assert_eq!(names(&tree.of(&cgroup)), NOTHING, "{:?}", &content[..content.len().min(40)]);
    }
    fs::write(tree.place(&file), &good).unwrap();
    assert_eq!(tree.of(&cgroup).container_name(), Some("web"), "the same file, as it should be");
    let control = json!({ "ID": ID, "Name": "/a\u{1b}[2J\n\u{202e}b", "Config": {} });
    tree.write(&file, &control);
    assert_eq!(tree.of(&cgroup).container_name(), Some("a\u{1b}[2J\n\u{202e}b"), "outputs make it printable");
}

/// Files of every form, in the place of each file that is read.
#[test]
fn no_file_may_hold_what_another_one_should() {
    let cgroup = pod_slice(&format!("crio-{ID}.scope"));
    let of_user = format!("/user.slice/user-7.slice/user@7.service/docker-{ID}.scope");
    let files = [
        format!("/var/lib/docker/containers/{ID}/config.v2.json"),
        "/etc/docker/daemon.json".to_owned(),
        "/etc/passwd".to_owned(),
        format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        "/run/containerd/io.containerd.runtime.v2.task/a/b/config.json".to_owned(),
        format!("/run/containers/storage/overlay-containers/{ID}/userdata/config.json"),
        "/var/lib/containers/storage/overlay-containers/containers.json".to_owned(),
    ];
    let metadata = |text: &str| json!([{ "id": ID, "names": null, "metadata": text }]).to_string();
    let contents = [
        "".to_owned(),
        "null".to_owned(),
        "[".repeat(1_000_000),
        "{\"a\":".repeat(1_000_000),
        "1e999999999".to_owned(),
        "\u{0}:\u{0}:7:::\u{1b}/".to_owned(),
        "x:x:7:7::relative:\n:::::::::7\n7:7:7".to_owned(),
        json!({ "ID": ID, "data-root": "../../..", "annotations": { "io.container.manager": 7 }, "linux": [] })
            .to_string(),
        json!({ "data-root": "x".repeat(10_000), "annotations": null, "linux": { "cgroupsPath": null } }).to_string(),
        json!([{ "id": 7 }, { "id": null, "names": ["a"] }, [], "x", null]).to_string(),
        metadata("{"),
        metadata(&"[".repeat(1000)),
        json!([{ "id": ID, "names": [""], "metadata": "{\"image-name\":\"\"}" }]).to_string(),
    ];
    let tree = Tree::new();
    for file in files {
        for content in &contents {
            fs::write(tree.place(&file), content).unwrap();
            let start = &content.chars().take(40).collect::<String>();
            for path in [&cgroup, &of_user, "/a/b"] {
                assert_eq!(names(&tree.of(path)), NOTHING, "{file}: {start}");
            }
        }
        fs::remove_file(tree.place(&file)).unwrap();
    }
}

#[test]
fn nothing_but_regular_files_below_the_root_is_opened() {
    let outside = Tree::new();
    outside.write("/secret.json", &json!({ "ID": ID, "Name": "/stolen", "Config": {} }));
    let cgroup = format!("/docker/{ID}");
    let file = format!("/var/lib/docker/containers/{ID}/config.v2.json");
    let tree = Tree::new();
    let path = tree.place(&file);
    let name = || tree.of(&cgroup).container_name().map(str::to_owned);
    symlink(outside.0.join("secret.json"), &path).unwrap();
    assert_eq!(name(), None, "an absolute link means a file below the root");
    fs::remove_file(&path).unwrap();
    symlink(format!("{}{}", "../".repeat(40), outside.0.join("secret.json").display()), &path).unwrap();
    assert_eq!(name(), None, "above the root is the root");
    fs::remove_file(&path).unwrap();
    symlink(path.file_name().unwrap(), &path).unwrap();
    assert_eq!(name(), None, "a cycle");
    fs::remove_file(&path).unwrap();
    let fifo = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path and a mode.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    assert_eq!(name(), None, "a FIFO that nobody writes to");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(name(), None, "a folder");
    fs::remove_dir(&path).unwrap();
    fs::remove_dir(path.parent().unwrap()).unwrap();
    tree.write(&format!("/data/{ID}/config.v2.json"), &json!({ "ID": ID, "Name": "/web", "Config": {} }));
    fs::remove_dir(path.parent().unwrap().parent().unwrap()).unwrap();
    symlink("/data", path.parent().unwrap().parent().unwrap()).unwrap();
    assert_eq!(name().as_deref(), Some("web"), "an absolute link of the host is followed on the host");
    assert_eq!(Places::new(Path::new("/nonexistent")).of_cgroup(&cgroup, None).container_id(), Some(ID));
}

#[test]
fn a_place_is_searched_once_and_again_if_names_are_missing() {
    let tree = Tree::new();
    let mut places = tree.places();
    let (cgroup, file) = (format!("/docker/{ID}"), format!("/var/lib/docker/containers/{ID}/config.v2.json"));
    assert_eq!(places.of_cgroup(&cgroup, None).container_name(), None);
    let state = json!({ "ID": ID, "Name": "/web", "Config": { "Image": "nginx" } });
    tree.write(&file, &state);
    assert_eq!(places.of_cgroup(&cgroup, None).container_name(), None, "too early to look again");
    assert_eq!(places.counts().searches, 1);
    let at_once = |places: &mut Places| {
        places.known.get_mut(cgroup.as_str()).unwrap().due = Some(Instant::now());
        places.of_cgroup(&cgroup, None)
    };
    assert_eq!(at_once(&mut places).container_name(), Some("web"));
    tree.write(&file, &json!({ "ID": ID, "Name": "/renamed", "Config": { "Image": "nginx" } }));
    assert_eq!(places.of_cgroup(&cgroup, None).container_name(), Some("web"));
    assert_eq!(at_once(&mut places).container_name(), Some("renamed"));
    fs::remove_file(tree.place(&file)).unwrap();
    assert_eq!(names(&at_once(&mut places))[..2], [Some("renamed"), Some("nginx")], "it has ended, its name stays");
    assert_eq!(places.counts().searches, 4);
    let unit = places.of_cgroup("/system.slice/nginx.service", None);
    assert_eq!((unit.to_string().as_str(), places.counts().searches), ("nginx.service", 4), "no file is about a unit");
    assert_eq!(places.len(), 2);
}

#[test]
fn the_places_that_were_not_used_for_longest_make_room() {
    let tree = Tree::new();
    let mut places = Places::with_room(&tree.0, 80);
    for n in 0..80 {
        places.of_cgroup(&format!("/{n}.service"), None);
    }
    places.of_cgroup("/0.service", None);
    assert_eq!((places.len(), places.counts().evicted), (80, 0));
    places.of_cgroup("/new.service", None);
    assert_eq!((places.len(), places.counts().evicted), (70, 11));
    assert!(places.known.contains_key("/0.service"), "it was used again");
    assert!(!places.known.contains_key("/1.service") && places.known.contains_key("/12.service"));
}
