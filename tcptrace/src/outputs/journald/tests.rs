use std::{env, fs, process};

use super::*;
use crate::pipeline::records::RecordsBuilder;

fn records(lines: &[&str]) -> Records {
    let mut collecting = RecordsBuilder::default();
    for line in lines {
        collecting.add(|to| to.extend_from_slice(line.as_bytes()));
    }
    collecting.take()
}

fn text_of(json: &str) -> String {
    String::from_utf8_lossy(&entry(&flat::parse(json.as_bytes()).unwrap())).into_owned()
}

#[test]
fn fields_have_journald_s_form() {
    let json = r#"{"event":"finding","finding":"close-wait-leak","phase":"opened","severity":"warning",
        "owner":{"pid":800,"command":"a\nb"},"list":[1,2],"count":3,"age_ns":null,"_odd näme":1}"#;
    assert_eq!(
        text_of(json),
        "MESSAGE=close-wait-leak opened: a?b[800] 3 sockets: -\nPRIORITY=4\nSYSLOG_IDENTIFIER=tcptrace\n\
         TCPTRACE_EVENT=finding\nTCPTRACE_FINDING=close-wait-leak\nTCPTRACE_PHASE=opened\nTCPTRACE_SEVERITY=warning\n\
         TCPTRACE_OWNER_PID=800\nOBJECT_PID=800\n\
         TCPTRACE_OWNER_COMMAND=a\\u{a}b\nTCPTRACE_LIST=[1,2]\nTCPTRACE_COUNT=3\nTCPTRACE__ODD_N_ME=1\n"
    );
    assert_eq!(name_of(&"x".repeat(99)), format!("TCPTRACE_{}", "X".repeat(55)));
}

/// Stands in for journald's socket; removed on drop.
struct Listener(PathBuf);

impl Listener {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("tcptrace-{}-{name}", process::id())))
    }

    fn bind(&self) -> UnixDatagram {
        let _ = fs::remove_file(&self.0); // it may not exist
        let socket = UnixDatagram::bind(&self.0).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // it may not exist
    }
}

#[test]
fn a_journald_that_was_away_gets_the_rest() {
    let at = Listener::new("journald-away");
    let mut sink = Journald::new(Some(at.0.clone()));
    let mut some = records(&[r#"{"event":"one"}"#, "no JSON", r#"{"event":"two"}"#, r#"{"event":"three"}"#]);
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))), "nobody was ever there");
    assert_eq!(some.len(), 4);
    let first = at.bind();
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Refused { records: 1, .. })));
    assert_eq!(some.len(), 3);
    some.take(1);
    drop(first);
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))), "it went away");
    let second = at.bind();
    assert_eq!((sink.deliver(&mut some), some.len()), (Ok(()), 0));
    let mut buffer = [0; 4096];
    for event in ["two", "three"] {
        let len = second.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..len]).contains(&format!("TCPTRACE_EVENT={event}\n")));
    }
}

#[test]
fn a_socket_that_is_full_is_no_loss() {
    let at = Listener::new("journald-full");
    let listener = at.bind();
    let socket = connect(&at.0).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut sink = Journald { socket: Some(socket), ..Journald::new(Some(at.0.clone())) };
    let lines: Vec<_> = (0..2000).map(|i| format!(r#"{{"event":"{i}"}}"#)).collect();
    let mut some = records(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))));
    let in_the_socket = lines.len() - some.len();
    assert!(in_the_socket > 0 && !some.is_empty());
    listener.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    assert_eq!(std::iter::from_fn(|| listener.recv(&mut buffer).ok()).count(), in_the_socket);
}
