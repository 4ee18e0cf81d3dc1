//! TLS of the outputs: whose certificates they trust. The authorities are made by the program openssl.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tcptrace::outputs::{OtlpLogs, OtlpSettings, Sink as _};

use crate::{
    Test,
    program::{Folder, lines, missing as absent, numbered},
};

pub(crate) const TESTS: &[Test] = &[
    ("the_named_authority_is_trusted_and_no_other", the_named_authority_is_trusted_and_no_other),
    #[cfg(feature = "kafka")]
    ("kafka_trusts_the_named_authority_alone", kafka_trusts_the_named_authority_alone),
];

pub(crate) fn missing() -> Option<String> {
    absent(&["openssl"])
}

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// An authority in `NAME.pem`.
fn authority(folder: &Path, name: &str) -> PathBuf {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(folder, &format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.pem"));
    folder.join(format!("{name}.pem"))
}

/// A server for `localhost` with a certificate of the authority `ours`, which answers each request well, and at once what
/// is no HTTP; returns its port.
fn server(folder: &Path) -> u16 {
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost \
         -keyout server.key -out server.csr",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -copy_extensions copy \
         -out server.pem",
    );
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut stream = BufReader::new(StreamOwned::new(
                ServerConnection::new(Arc::clone(&config)).unwrap(),
                connection.unwrap(),
            ));
            // Who does not trust us says so, and goes.
            let Ok(begin) = stream.fill_buf() else { continue };
            let answer: &[u8] = if begin.starts_with(b"POST") {
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            } else {
                b"\0\0\0\x04\xff\xff\xff\xff"
            };
            let _ = stream.get_mut().write_all(answer);
        }
    });
    port
}

fn the_named_authority_is_trusted_and_no_other() {
    let folder = Folder::new("tls");
    let [ours, other] = ["ours", "other"].map(|name| authority(&folder.0, name));
    let port = server(&folder.0);
    let deliver = |host: &str, ca: Option<PathBuf>| {
        let mut settings = OtlpSettings::new(&format!("https://{host}:{port}")).unwrap();
        settings.ca = ca;
        let mut records = lines(&numbered(0..3));
        OtlpLogs::new(&settings).unwrap().deliver(&mut records).map_err(|trouble| trouble.to_string())
    };
    assert_eq!(deliver("localhost", Some(ours.clone())), Ok(()));
    for (host, ca, reason) in [
        ("localhost", Some(other), "invalid peer certificate: UnknownIssuer"),
        ("localhost", None, "invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", Some(ours), "certificate not valid for name \"127.0.0.1\""),
    ] {
        let refused = deliver(host, ca).unwrap_err();
        assert!(refused.contains(reason) && refused.contains("cannot be reached"), "{refused}");
    }
}

#[cfg(feature = "kafka")]
fn kafka_trusts_the_named_authority_alone() {
    use std::time::Duration;

    use tcptrace::outputs::{DeliveryError, Kafka, KafkaSettings};

    let folder = Folder::new("tls-kafka");
    let [ours, other] = ["ours", "other"].map(|name| authority(&folder.0, name));
    let port = server(&folder.0);
    let deliver = |ca| {
        let mut settings = KafkaSettings::new(&format!("localhost:{port}/topic")).unwrap();
        (settings.tls, settings.ca, settings.timeout) = (true, Some(ca), Duration::from_secs(5));
        match Kafka::new(settings).unwrap().deliver(&mut lines(&numbered(0..3))) {
            Err(DeliveryError::Later(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let refused = deliver(other);
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // The server is trusted, but is no broker.
    let trusted = deliver(ours);
    assert!(!trusted.contains("certificate"), "{trusted}");
}
