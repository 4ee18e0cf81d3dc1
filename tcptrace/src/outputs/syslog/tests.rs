use std::{
    io::Read as _,
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixDatagram,
    time::Duration,
};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn records(lines: &[&str]) -> Records {
    let mut collecting = RecordsBuilder::default();
    for line in lines {
        collecting.add(|to| to.extend_from_slice(line.as_bytes()));
    }
    collecting.take()
}

fn syslog(target: &str) -> Syslog {
    Syslog::new(target.parse().unwrap(), "here".to_owned())
}

/// True if the message has a header for this kind of event.
fn begins(message: &str, event: &str) -> bool {
    message.starts_with(&format!(
        "<30>1 - here tcptrace {} {event} [tcptrace@32473 event=\"{event}\"]",
        std::process::id()
    ))
}

#[test]
fn unix_datagrams_are_messages() {
    let path = std::env::temp_dir().join(format!("tcptrace-{}-syslog", std::process::id()));
    let _ = std::fs::remove_file(&path); // it may not exist
    let mut sink = syslog(&format!("unix:{}", path.display()));
    let large = format!(r#"{{"event":"{}"}}"#, "x".repeat(1 << 20));
    let mut some = records(&[r#"{"event":"one"}"#, "no JSON", &large, r#"{"event":"two"}"#]);
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))));
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    std::fs::remove_file(&path).unwrap_or_default();
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))), "its name is gone");
    drop(server);
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    for left in [3, 2] {
        assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Refused { records: 1, .. })));
        assert_eq!(some.len(), left);
        some.take(1);
    }
    assert_eq!((sink.deliver(&mut some), some.len()), (Ok(()), 0));
    std::fs::remove_file(&path).unwrap();
    let mut buffer = [0; 4096];
    for event in ["one", "two"] {
        let len = server.recv(&mut buffer).unwrap();
        assert!(begins(std::str::from_utf8(&buffer[..len]).unwrap(), event));
    }
}

#[test]
fn udp_that_is_refused_is_sent_again() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut sink = syslog(&format!("udp:127.0.0.1:{port}"));
    let large = format!(r#"{{"event":"{}"}}"#, "x".repeat(1 << 16));
    let mut some = records(&[r#"{"event":"one"}"#, &large, r#"{"event":"two"}"#]);
    for _ in 0..2 {
        let said = sink.deliver(&mut some).unwrap_err();
        assert!(matches!(&said, DeliveryError::Later(reason) if reason.contains("refused")), "{said:?}");
        assert_eq!(some.len(), 3, "nobody got it");
    }
    let server = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Refused { records: 1, .. })));
    some.take(1);
    assert_eq!((sink.deliver(&mut some), some.len()), (Ok(()), 0));
    let mut buffer = [0; 4096];
    for event in ["one", "two"] {
        let len = server.recv(&mut buffer).unwrap();
        assert!(begins(std::str::from_utf8(&buffer[..len]).unwrap(), event));
    }
}

#[test]
fn tcp_counts_octets_and_connects_anew() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let mut sink = syslog(&format!("tcp:[::1]:{}", listener.local_addr().unwrap().port()));
    for events in [["é", "two"], ["three", "four"]] {
        let [one, two] = events.map(|event| format!(r#"{{"event":"x","e":"{event}"}}"#));
        let mut some = records(&[&one, "[]", &two]);
        assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Refused { records: 1, .. })));
        some.take(1);
        assert_eq!((sink.deliver(&mut some), some.len()), (Ok(()), 0));
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        for event in events {
            let mut len = String::new();
            while !len.ends_with(' ') {
                let mut byte = [0];
                server.read_exact(&mut byte).unwrap();
                len.push(char::from(byte[0]));
            }
            let mut message = vec![0; len.trim_end().parse().unwrap()];
            server.read_exact(&mut message).unwrap();
            let message = String::from_utf8(message).unwrap();
            assert!(begins(&message.replace(&format!(" e=\"{event}\""), ""), "x"), "{message}");
        }
        // The server goes away, and the next records need a new connection.
    }
    drop(listener);
    let mut more = records(&[r#"{"event":"x"}"#]);
    assert!(matches!(sink.deliver(&mut more), Err(DeliveryError::Later(_))));
    assert_eq!(more.len(), 1);
}

#[test]
fn a_name_without_an_address_is_trouble_for_a_while() {
    let mut some = records(&[r#"{"event":"x"}"#]);
    for target in ["tcp:a..b:514", "udp:a..b"] {
        let said = syslog(target).deliver(&mut some).unwrap_err();
        assert!(matches!(&said, DeliveryError::Later(reason) if reason.starts_with("syslog ")), "{said:?}");
    }
    assert_eq!(some.len(), 1);
}
