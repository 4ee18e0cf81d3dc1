//! What the names of a large node cost: 10,000 pods, each with a container, in the forms of containerd and the kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde_json::json;
use tcptrace::sys::places::Places;

/// Bytes in use, and the most that ever were.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all calls are handed on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(BYTES.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

const PODS: usize = 10_000;
/// The most that their names may take.
const MAX_BYTES: usize = 20 << 20;

fn id(pod: usize) -> String {
    format!("{pod:064x}")
}

fn uid(pod: usize) -> String {
    format!("4a1b2c3d-0e5f-6789-abcd-{pod:012x}")
}

fn cgroup(pod: usize) -> String {
    let uid = uid(pod).replace('-', "_");
    let slice = format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
    format!("/{slice}/cri-containerd-{}.scope", id(pod))
}

fn pod_name(pod: usize) -> String {
    format!("checkout-service-{:08x}-{pod:05x}", pod / 10)
}

#[test]
fn ten_thousand_pods_take_less_than_20_mb() {
    let root = std::env::temp_dir().join(format!("tcptrace-pods-{}", std::process::id()));
    let tasks = root.join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
    let links = root.join("var/log/containers");
    fs::create_dir_all(&links).unwrap();
    for pod in 0..PODS {
        // Every second one has no annotations: its names come from the kubelet's links.
        if pod % 2 == 0 {
            let spec = json!({ "ociVersion": "1.1.0", "process": { "env": vec!["PATH=/bin"; 100] }, "annotations": {
                "io.kubernetes.cri.container-name": "checkout", "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.image-name": "registry.example.com/shop/checkout-service:2026.11.30-1234567",
                "io.kubernetes.cri.sandbox-name": pod_name(pod), "io.kubernetes.cri.sandbox-namespace": "production",
            } });
            fs::create_dir_all(tasks.join(id(pod))).unwrap();
            fs::write(tasks.join(id(pod)).join("config.json"), spec.to_string()).unwrap();
        } else {
            let link = format!("{}_production_checkout-{}.log", pod_name(pod), id(pod));
            symlink("/var/log/pods", links.join(link)).unwrap();
        }
    }
    let before = BYTES.load(Relaxed);
    PEAK.store(before, Relaxed);
    let mut places = Places::new(&root);
    for pod in 0..PODS {
        let place = places.of_cgroup(&cgroup(pod), None);
        assert_eq!(place.to_string(), format!("production/{}/checkout", pod_name(pod)));
        assert_eq!(place.image().is_some(), pod % 2 == 0);
    }
    let (bytes, peak) = (BYTES.load(Relaxed) - before, PEAK.load(Relaxed) - before);
    println!("{PODS} pods: {bytes} bytes, {} each, at most {peak}", bytes / PODS);
    assert!(bytes < MAX_BYTES && peak < MAX_BYTES, "{bytes} bytes, at most {peak}");
    assert_eq!((places.len(), places.counts().evicted), (PODS, 0));
    let searches = places.counts().searches;
    let again = places.of_cgroup(&cgroup(0), None);
    assert!(Arc::ptr_eq(&again, &places.of_cgroup(&cgroup(0), None)), "known ones are shared");
    assert_eq!(places.counts().searches, searches, "and read no file");
    places.of_cgroup(&cgroup(PODS), None);
    assert!(places.len() < PODS && places.counts().evicted > 0, "there is a bound");
    fs::remove_dir_all(root).unwrap();
}
