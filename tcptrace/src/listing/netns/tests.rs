use std::{net::TcpListener, os::fd::AsRawFd as _, process::Command, sync::mpsc, thread};

use super::*;

fn own_inode() -> u32 {
    own().unwrap().inode
}

fn inodes(choice: Option<NetnsChoice>) -> Vec<u32> {
    find(choice.as_ref()).unwrap().0.iter().map(|found| found.inode).collect()
}

#[test]
fn ones_own_is_first_and_needs_no_privilege() {
    let found = find(None).unwrap().0;
    assert_eq!(found[0].inode, own_inode());
    found[0].enter().unwrap();
    assert_eq!(inodes(Some(NetnsChoice::Own)), [own_inode()]);
    let mut seen = FxHashSet::default();
    assert!(found.iter().all(|found| seen.insert(found.inode)), "each once");
}

#[test]
fn a_thread_of_its_own_is_found_entered_left_and_gone() {
    let here = find(Some(&NetnsChoice::Own)).unwrap().0.remove(0);
    let (to_test, inode) = mpsc::channel();
    let (end, to_thread) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        in_fresh_netns(move || {
            to_test.send(own_inode()).unwrap();
            to_thread.recv().unwrap_err();
        })
    });
    let Ok(inode) = inode.recv() else { return };
    assert!(inodes(None).contains(&inode));
    let there = find(Some(&NetnsChoice::Inode(inode))).unwrap().0.remove(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            there.enter().unwrap();
            assert_eq!(own_inode(), inode);
            here.enter().unwrap();
            assert_eq!(own_inode(), here.inode);
        });
    });
    // The namespace may disappear together with its thread: a thread that ended is reaped a moment later.
    drop(end);
    other.join().unwrap().unwrap();
    assert!(matches!(there.enter(), Err(EnterError::Gone(gone)) if gone == inode));
    let error = find(Some(&NetnsChoice::Inode(inode))).unwrap_err().to_string();
    assert!(error.contains(&inode.to_string()) && error.contains("lsns"), "{error}");
}

#[test]
fn another_thread_of_the_namespace_is_an_entrance_too() {
    in_fresh_netns(|| {
        let entrance = NetnsHandle::Path(PathBuf::from("/proc/0/ns/net"));
        let found = Netns { inode: own_inode(), name: None, cookie: None, entrance };
        in_fresh_netns(|| {
            found.enter().unwrap();
            assert_eq!(own_inode(), found.inode);
        });
    });
}

#[test]
fn a_namespace_is_found_by_its_socket() {
    in_fresh_netns(|| {
        let there = own_inode();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_raw_fd() as u32;
        in_fresh_netns(|| {
            let found = by_socket(std::process::id(), fd).unwrap();
            assert_eq!(found.inode, there);
            found.enter().unwrap();
            assert_eq!(own_inode(), there);
        });
    });
    let file = File::open("/dev/null").unwrap();
    let error = by_socket(std::process::id(), file.as_raw_fd() as u32).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    assert!(by_socket(u32::MAX, 0).is_err());
}

#[test]
fn names_are_found_and_those_left_over_are_not() {
    if Command::new("ip").args(["netns", "add", "tcptrace-find"]).status().is_ok_and(|status| !status.success()) {
        return eprintln!("skipped: `ip netns add` failed");
    }
    let choice = NetnsChoice::Name("tcptrace-find".to_owned());
    let named = find(Some(&choice)).unwrap().0.remove(0);
    let all = find(None).unwrap().0;
    let entered = thread::scope(|scope| scope.spawn(|| named.enter().map(|()| own_inode())).join()).unwrap();
    let left_over = Path::new(NAMES).join("tcptrace-left-over");
    fs::write(&left_over, "").unwrap();
    let unmounted = Netns { entrance: NetnsHandle::Path(left_over.clone()), inode: 1, name: None, cookie: None };
    assert!(matches!(unmounted.enter(), Err(EnterError::Gone(1))), "the file of a name that is being deleted");
    let passed_over = find(None).unwrap().0;
    let refused = find(Some(&NetnsChoice::Name("tcptrace-left-over".to_owned()))).unwrap_err().to_string();
    fs::remove_file(left_over).unwrap();
    Command::new("ip").args(["netns", "delete", "tcptrace-find"]).status().unwrap();

    assert!(all.iter().any(|found| found.inode == named.inode && found.name == named.name));
    assert_eq!(entered.unwrap(), named.inode);
    assert!(passed_over.iter().all(|found| found.name.as_deref() != Some("tcptrace-left-over")));
    assert!(refused.contains("`ip netns delete tcptrace-left-over`"), "{refused}");
    assert!(matches!(named.enter(), Err(EnterError::Gone(_))));
    let error = find(Some(&choice)).unwrap_err().to_string();
    assert!(error.starts_with("no network namespace is called `tcptrace-find`: `ip netns` lists"), "{error}");
}

#[test]
fn without_the_privilege_others_are_denied() {
    in_fresh_netns(|| {
        let there = find(Some(&NetnsChoice::Own)).unwrap().0.remove(0);
        in_fresh_netns(|| {
            // SAFETY: the system call takes only numbers, and changes this thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
            assert!(matches!(there.enter(), Err(EnterError::Denied(..))));
            let (found, skipped) = find(None).unwrap();
            found[0].enter().unwrap();
            assert!(skipped.processes_denied > 0, "PID 1 is root's");
            let error = find(Some(&NetnsChoice::Inode(1))).unwrap_err().to_string();
            assert!(error.contains("processes could not be read"), "{error}");
        });
    });
}

/// The kernel reuses the inode number of a deleted namespace for the next one at once (`fs/nsfs.c`,
/// `ns_alloc_inum`).
#[test]
fn a_number_that_is_used_again_is_not_entered() {
    in_fresh_netns(|| {
        let Some(cookie) = cookie() else { return eprintln!("skipped: no cookies before Linux 5.14") };
        let entrance = NetnsHandle::Open(open(Path::new(OWN)).unwrap());
        let it = Netns { inode: own_inode(), name: None, cookie: Some(cookie), entrance };
        let entrance = NetnsHandle::Open(open(Path::new(OWN)).unwrap());
        let earlier = Netns { cookie: Some(cookie + 1), entrance, inode: it.inode, name: None };
        in_fresh_netns(|| {
            it.enter().unwrap();
            assert_eq!(super::cookie(), Some(cookie));
        });
        in_fresh_netns(|| {
            assert_ne!(super::cookie(), Some(cookie));
            assert!(matches!(earlier.enter(), Err(EnterError::Gone(inode)) if inode == earlier.inode));
        });
    });
}

#[test]
fn the_capability_that_is_missing_is_named() {
    use Capabilities as C;
    let why = |has: &[u32]| why_denied(Some(C::of(has)));
    assert!(why(&[C::SYS_PTRACE]).starts_with("CAP_SYS_ADMIN is missing"));
    assert!(why(&[C::SYS_ADMIN]).starts_with("CAP_SYS_PTRACE is missing"));
    assert!(!why(&[C::SYS_ADMIN, C::SYS_PTRACE]).contains("missing"), "root is not told to be root");
}
