//! What the path of a cgroup says. The formats are conventions of systemd, docker, containerd, CRI-O, podman, LXC and
//! the kubelet; `docs/names.md` lists them.

use super::{Container, Manager, Place, PlaceSource, Pod, Runtime, Sourced, Unit};

/// Prefixes of a container's id, and the runtimes that write them.
const PREFIXES: [(&str, Runtime); 5] = [
    ("docker", Runtime::Docker),
    ("cri-containerd", Runtime::Containerd),
    ("crio", Runtime::CriO),
    ("libpod", Runtime::Podman),
    ("libpod-payload", Runtime::Podman),
];

/// Prefixes of a container's name, and the runtimes that write them: `lxc.payload.NAME`; `machine-NAME.scope`, which
/// systemd-machined makes for systemd-nspawn, and `systemd-nspawn@NAME.service`.
const NAME_PREFIXES: [(&str, &str, Runtime); 3] = [
    ("lxc.payload.", "", Runtime::Lxc),
    ("machine-", ".scope", Runtime::Nspawn),
    ("systemd-nspawn@", ".service", Runtime::Nspawn),
];

/// Unit types that have cgroups (systemd.resource-control(5)).
const UNITS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// Parses a path as in `/proc/PID/cgroup`. Each name comes from the innermost component that has one.
pub(super) fn parse(path: &str) -> Place {
    let found = containers(path).next();
    let named = if found.is_none() { machine(path) } else { None };
    let depth = found.map(|(depth, ..)| depth).or(named.as_ref().map(|(depth, _)| *depth));
    let of_id = found.map(|(_, id, runtime)| Container {
        id: Some(sourced(id.into())),
        runtime: runtime.map(sourced),
        ..Container::default()
    });
    let uid = parts(path).filter_map(pod_uid).last();
    Place {
        cgroup: path.into(),
        unit: unit(path, depth),
        container: of_id.or(named.map(|(_, container)| container)),
        pod: uid.map(|uid| Pod { uid: Some(sourced(uid.into())), ..Pod::default() }),
    }
}

const fn sourced<T>(value: T) -> Sourced<T> {
    Sourced::new(value, PlaceSource::Cgroup)
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | ".." | "."))
}

/// The containers in a path, the innermost one first: depth, id and runtime.
pub(super) fn containers(path: &str) -> impl Iterator<Item = (usize, &str, Option<Runtime>)> {
    let parts: Vec<_> = parts(path).collect();
    (0..parts.len()).rev().filter_map(move |depth| {
        let (id, runtime) = container(&parts[..depth], parts[depth])?;
        Some((depth, id, runtime))
    })
}

/// Container id and runtime of the path component `part`, whose parents are `above`.
fn container<'a>(above: &[&str], part: &'a str) -> Option<(&'a str, Option<Runtime>)> {
    let is_id = |text: &str| text.len() == 64 && is_hex(text);
    if is_id(part) {
        // cgroupfs: the parent is docker's, podman's, a containerd namespace (one of the usual two), or a pod.
        let runtime = match above {
            [.., "docker"] => Some(Runtime::Docker),
            [.., "libpod_parent"] => Some(Runtime::Podman),
            ["default" | "k8s.io"] => Some(Runtime::Containerd),
            _ => None,
        };
        return Some((part, runtime));
    }
    // `RUNTIME-ID.scope`, without `.scope` if systemd does not manage it; `SLICE:RUNTIME:ID` if containerd uses the
    // kubelet's systemd name as a path.
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (before, id) = name.rsplit_once(['-', ':']).filter(|(_, id)| is_id(id))?;
    let prefix = before.rsplit(':').next()?;
    PREFIXES.iter().find(|(name, _)| *name == prefix).map(|(_, runtime)| (id, Some(*runtime)))
}

/// A container that has only a name, and its depth.
fn machine(path: &str) -> Option<(usize, Container)> {
    let parts: Vec<_> = parts(path).collect();
    let named = |depth: usize| {
        let part = parts[depth];
        let prefixed = |(before, after, runtime): &(&str, &str, Runtime)| {
            Some((part.strip_prefix(before)?.strip_suffix(after)?, *runtime))
        };
        let (name, runtime) = match &parts[..depth] {
            // Before LXC 4.0: `/lxc/NAME`.
            ["lxc"] => (part, Runtime::Lxc),
            _ => NAME_PREFIXES.iter().find_map(prefixed)?,
        };
        // Virtual machines have scopes of this kind, too: `machine-qemu\x2d1\x2dweb.scope`, `machine-libvirt…`.
        let is_virtual = ["qemu\\x2d", "lxc\\x2d", "libvirt"].iter().any(|kind| name.starts_with(kind));
        if name.is_empty() || runtime == Runtime::Nspawn && is_virtual {
            return None;
        }
        let name = if runtime == Runtime::Nspawn { unescaped(name) } else { name.to_owned() };
        let container =
            Container { runtime: Some(sourced(runtime)), name: Some(sourced(name.into())), ..Container::default() };
        Some((depth, container))
    };
    (0..parts.len()).rev().find_map(named)
}

/// A name without the escapes of unit names, such as `\x2d` for `-` (systemd-escape(1)).
fn unescaped(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"x").and_then(|hex| std::str::from_utf8(hex.get(..2)?).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'\\') {
            Some(character) => {
                plain.push(character);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The innermost unit; a slice only if there is nothing else. Units below the `container` are of its own systemd.
fn unit(path: &str, container: Option<usize>) -> Option<Unit> {
    let is_unit = |part: &str| UNITS.iter().any(|end| part.len() > end.len() && part.ends_with(end));
    let units = || parts(path).enumerate().filter(|(_, part)| is_unit(part));
    let (depth, name) = units().filter(|(_, part)| !part.ends_with(".slice")).last().or_else(|| units().last())?;
    let user = || {
        let above = parts(path).take(depth);
        let uid = |part: &str| part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok();
        above.filter_map(uid).last()
    };
    let manager = match container {
        Some(container) if depth > container => Manager::Container,
        _ => user().map_or(Manager::System, Manager::User),
    };
    Some(Unit { name: name.into(), manager })
}

/// Pod UID in `podUID` (cgroupfs) or `kubepods-QOS-podUID.slice`, which has `_` in place of `-`. A kubelet below another
/// cgroup puts that in front: `kubelet-kubepods-QOS-podUID.slice`.
fn pod_uid(part: &str) -> Option<String> {
    let slice = part.split(':').next()?;
    let uid = match slice.strip_suffix(".slice") {
        Some(slice) => {
            let (above, uid) = slice.rsplit_once("-pod")?;
            above.split('-').any(|name| name == "kubepods").then_some(uid)?
        }
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let is_uid = uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) || uid.len() == 32;
    (is_uid && uid.split('-').all(is_hex)).then_some(uid)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const POD: &str = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";

    /// A path in which `ID`, `OTHER`, `POD` and `P_O_D` stand for the constants.
    fn place(path: &str) -> Place {
        let path = path.replace("OTHER", OTHER).replace("ID", ID).replace("POD", POD);
        parse(&path.replace("P_O_D", &POD.replace('-', "_")))
    }

    #[test]
    fn units() {
        use Manager::{Container, System, User};
        for (path, want) in [
            ("/system.slice/nginx.service", Some(("nginx.service", System))),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some(("getty@tty1.service", System))),
            ("/user.slice/user-1000.slice/session-3.scope", Some(("session-3.scope", System))),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", Some(("x.service", User(1000)))),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a\\x2db.scope",
                Some(("app-a\\x2db.scope", User(1000))),
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some(("init.scope", User(1000)))),
            ("/user.slice/user-1000.slice/user@1000.service", Some(("user@1000.service", System))),
            ("/user.slice/user-1.slice/user@x.service/a.service", Some(("a.service", System))),
            ("/system.slice/sshd.socket", Some(("sshd.socket", System))),
            ("/system.slice/run-data.mount", Some(("run-data.mount", System))),
            ("/system.slice/pg.service/worker", Some(("pg.service", System))),
            ("/system.slice/pg.service/worker.slice", Some(("pg.service", System))),
            ("/init.scope", Some(("init.scope", System))),
            ("/system.slice", Some(("system.slice", System))),
            ("/docker/ID/system.slice/cron.service", Some(("cron.service", Container))),
            ("/machine.slice/machine-web.scope/payload/system.slice/cron.service", Some(("cron.service", Container))),
            ("/machine.slice/libpod-OTHER.scope/container", Some(("libpod-OTHER.scope", System))),
            ("/", None),
            ("", None),
            ("/kubepods/besteffort", None),
            ("/a.services", None),
            ("/.service", None),
            ("/service", None),
        ] {
            let unit = place(path).unit;
            let want = want.map(|(name, manager)| (name.replace("OTHER", OTHER), manager));
            assert_eq!(unit.map(|unit| (unit.name.into_string(), unit.manager)), want, "{path}");
        }
    }

    #[test]
    fn containers_have_ids() {
        use Runtime::{Containerd, CriO, Docker, Podman};
        for (path, runtime) in [
            ("/system.slice/docker-ID.scope", Some(Docker)),
            ("/docker/ID", Some(Docker)),
            ("/docker/ID/system.slice/cron.service", Some(Docker)),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", Some(Docker)),
            ("/docker/OTHER/kubelet/kubepods/podPOD/ID", None),
            ("/default/ID", Some(Containerd)),
            ("/k8s.io/ID", Some(Containerd)),
            ("/ecs/0a1b/ID", None),
            ("/tenant/ID", None),
            ("/ID", None),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_O_D.slice/cri-containerd-ID.scope",
                Some(Containerd),
            ),
            ("/system.slice/containerd.service/kubepods-podP_O_D.slice:cri-containerd:ID", Some(Containerd)),
            ("/../../kubepods-podP_O_D.slice/cri-containerd-ID.scope", Some(Containerd)),
            ("/kubepods.slice/kubepods-podP_O_D.slice/crio-ID.scope", Some(CriO)),
            ("/kubepods/burstable/podPOD/crio-ID", Some(CriO)),
            ("/machine.slice/libpod-ID.scope", Some(Podman)),
            ("/machine.slice/libpod-ID.scope/container", Some(Podman)),
            ("/machine.slice/libpod-payload-ID", Some(Podman)),
            ("/libpod_parent/libpod-ID", Some(Podman)),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container", Some(Podman)),
            ("/kubepods/burstable/podPOD/ID", None),
        ] {
            let place = place(path);
            assert_eq!(place.container_id(), Some(ID), "{path}");
            assert_eq!(place.runtime(), runtime.map(Runtime::name), "{path}");
        }
        for path in [
            "/",
            "/docker",
            "/docker/0123456789ab",
            "/docker/ID0",
            "/docker/x/ID.slice",
            "/system.slice/docker.service",
            "/system.slice/docker-0123456789ab.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/crio-conmon-ID.scope",
            "/system.slice/other-ID.scope",
            "/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
            "/docker/é123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
        ] {
            assert_eq!(place(path).container, None, "{path}");
        }
    }

    #[test]
    fn a_container_may_run_in_another_one() {
        let outer = |path: &str| place(path).outer_container().map(str::to_owned);
        let of_kind = "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
            kubelet-kubepods-besteffort-podP_O_D.slice/cri-containerd-ID.scope";
        assert_eq!(outer(of_kind).as_deref(), Some(OTHER));
        assert_eq!(place(of_kind).container_id(), Some(ID));
        assert_eq!(place(of_kind).pod_uid(), Some(POD));
        assert_eq!(outer("/docker/ID"), None);
        assert_eq!(outer("/"), None);
    }

    #[test]
    fn machines_have_names() {
        for (path, want) in [
            ("/lxc.payload.web/system.slice/cron.service", Some(("web", Runtime::Lxc))),
            ("/lxc/web", Some(("web", Runtime::Lxc))),
            ("/lxc/101/ns", Some(("101", Runtime::Lxc))),
            ("/machine.slice/machine-db\\x2d1.scope", Some(("db-1", Runtime::Nspawn))),
            ("/machine.slice/machine-db.scope/payload/init.scope", Some(("db", Runtime::Nspawn))),
            ("/machine.slice/systemd-nspawn@db.service/payload", Some(("db", Runtime::Nspawn))),
            ("/machine.slice/machine-a\\x2.scope", Some(("a\\x2", Runtime::Nspawn))),
            ("/machine.slice/machine-qemu\\x2d1\\x2dweb.scope", None),
            ("/machine.slice/machine-.scope", None),
            ("/lxc.monitor.web", None),
            ("/lxc", None),
        ] {
            let place = place(path);
            let want = want.map(|(name, runtime)| (Some(name), Some(runtime.name())));
            assert_eq!(place.container.as_ref().map(|_| (place.container_name(), place.runtime())), want, "{path}");
            assert_eq!(place.container_id(), None, "{path}");
        }
    }

    #[test]
    fn pods_have_uids() {
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_O_D.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_O_D.slice",
            "/kubepods.slice/kubepods-podP_O_D.slice/crio-ID.scope",
            "/kubepods/burstable/podPOD/ID",
            "/kubepods/podPOD",
            "/system.slice/containerd.service/kubepods-podP_O_D.slice:cri-containerd:ID",
        ] {
            assert_eq!(place(path).pod_uid(), Some(POD), "{path}");
        }
        let fixed = "/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice/crio-ID.scope";
        assert_eq!(place(fixed).pod_uid(), Some("0123456789abcdef0123456789abcdef"), "of a static pod");
        for path in [
            "/",
            "/kubepods",
            "/kubepods.slice/kubepods-burstable.slice",
            "/podman",
            "/machine.slice/libpod-ID.scope",
            "/kubepods/pod4a1b2c3d",
            "/kubepods/podPOD0",
            "/kubepods/pod4a1b2c3d-0e5f-6789-abcd-ef012345678g",
            "/other-podP_O_D.slice",
        ] {
            assert_eq!(place(path).pod, None, "{path}");
        }
    }
}
