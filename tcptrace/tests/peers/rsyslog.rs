//! A real rsyslogd that writes what it understood of each message into a file.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use tcptrace::outputs::{Output, Syslog};

use crate::{
    Test,
    program::{Folder, Program, lines, missing as absent, numbered, until},
};

pub(crate) const TESTS: &[Test] = &[
    ("understands_what_comes_by_udp", understands_what_comes_by_udp),
    ("understands_what_comes_by_tcp", understands_what_comes_by_tcp),
    ("understands_what_comes_by_unix_socket", understands_what_comes_by_unix_socket),
    ("the_rest_comes_by_tcp_after_a_restart", the_rest_comes_by_tcp_after_a_restart),
];

/// Records of a test.
const COUNT: u64 = 1000;
/// So many are sent before they are waited for, as UDP has no room for more.
const STEP: usize = 50;

pub(crate) fn missing() -> Option<String> {
    absent(&["rsyslogd"])
}

/// An rsyslogd with one input.
pub(crate) struct Server {
    folder: Folder,
    program: Program,
}

impl Server {
    /// With the module `module` and its `input`, in which `$FOLDER` is the test's folder.
    fn new(name: &str, module: &str, input: &str) -> Self {
        let folder = Folder::new(name);
        let at = folder.0.display().to_string();
        // The machine's own socket is not for tests.
        let settings = if module == "imuxsock" { r#" sysSock.use="off""# } else { "" };
        // docs/pipelines/rsyslog.md has the same.
        let config = format!(
            r#"global(workDirectory="{at}" maxMessageSize="64k")
module(load="mmpstrucdata")
module(load="{module}"{settings})
input(type="{module}" {input})
template(name="understood" type="string" string="%syslogfacility-text%\t%syslogseverity%\t%timestamp:::date-rfc3339%\t%hostname%\t%app-name%\t%procid%\t%msgid%\t%$!rfc5424-sd%\t%msg%\n")
action(type="mmpstrucdata" sd_name.lowercase="off")
action(type="omfile" file="{at}/understood" template="understood")
"#
        );
        fs::write(folder.0.join("rsyslog.conf"), config.replace("$FOLDER", &at)).unwrap();
        let program = rsyslogd(&folder);
        Self { folder, program }
    }

    /// With TCP, and as an output has it.
    pub(crate) fn tcp(name: &str) -> (Self, String) {
        let port = free_tcp_port();
        (Self::new(name, "imtcp", &tcp_input(port)), format!("tcp:127.0.0.1:{port}"))
    }

    fn read(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.folder.0.join("understood")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.map(|line| line.splitn(9, '\t').map(str::to_owned).collect()).collect()
    }

    pub(crate) fn read_all(&self, count: usize) -> Vec<Vec<String>> {
        until("all messages", || Some(self.read()).filter(|all| all.len() >= count))
    }
}

fn rsyslogd(folder: &Folder) -> Program {
    let [config, pid] = ["rsyslog.conf", "pid"].map(|name| folder.0.join(name).display().to_string());
    let _ = fs::remove_file(&pid); // the one before may have left it
    Program::start(Command::new("/usr/sbin/rsyslogd").args(["-n", "-f", &config, "-i", &pid]))
}

fn output(target: &str) -> Output {
    let sink = Syslog::new(target.parse().unwrap(), "web1.example".to_owned());
    Output::start("syslog".to_owned(), Box::new(sink), 64 << 20, |_| ()).unwrap()
}

/// Sends all kinds of records, and compares what rsyslogd understood with them.
fn all_is_understood(server: &Server, target: &str) {
    let output = output(target);
    let mut records = numbered(0..COUNT);
    records[8]["owner"]["command"] = r#"a "quoted\" name]"#.into();
    for (number, some) in records.chunks(STEP).enumerate() {
        output.push(lines(some));
        server.read_all(number * STEP + some.len());
    }
    delivered(&output, COUNT);
    let understood = server.read();
    assert_eq!(understood.len(), records.len());
    for (understood, record) in understood.iter().zip(&records) {
        let [facility, severity, time, host, app, process, id, data, words] = understood.as_slice() else {
            panic!("{understood:?}");
        };
        assert_eq!([facility, host, app], ["daemon", "web1.example", "tcptrace"]);
        assert_eq!(process, &std::process::id().to_string());
        let wanted = record["time"].as_str().unwrap();
        assert_eq!(time, &format!("{}Z", &wanted[..26]).replace("Z", &time[26..]), "with six decimals");
        // What `kill` ends names a finding, too.
        let subject = if record["event"] == "finding" { &record["finding"] } else { &record["event"] };
        assert_eq!(subject, id.as_str());
        assert!((2..8).contains(&severity.parse::<u8>().unwrap()) && !words.trim().is_empty());
        same(record, &serde_json::from_str::<Map<String, Value>>(data).unwrap()["tcptrace@32473"]);
    }
    let finding = &understood[8];
    assert_eq!(finding[1], "4");
    assert!(finding[8].contains(r#"close-wait-leak opened: a "quoted\" name][800] 3 sockets on 10.1.0.1:80"#));
}

/// Are that many in the counters, and none of them as lost?
fn delivered(output: &Output, count: u64) {
    assert!(output.drained(Instant::now() + Duration::from_secs(10)));
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused), (count, 0, 0));
}

/// Has the structured data all fields of the record, and not one more?
fn same(record: &Map<String, Value>, data: &Value) {
    let mut wanted = Map::new();
    flatten("", record, &mut wanted);
    assert_eq!(&Value::Object(wanted), data);
}

fn flatten(before: &str, from: &Map<String, Value>, to: &mut Map<String, Value>) {
    for (name, value) in from {
        match value {
            Value::Null => continue,
            Value::Object(fields) => flatten(&format!("{before}{name}_"), fields, to),
            Value::String(text) => drop(to.insert(format!("{before}{name}"), text.as_str().into())),
            value => drop(to.insert(format!("{before}{name}"), value.to_string().into())),
        }
    }
}

fn understands_what_comes_by_udp() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let input = format!(r#"address="127.0.0.1" port="{port}" rateLimit.interval="0""#);
    all_is_understood(&Server::new("udp", "imudp", &input), &format!("udp:127.0.0.1:{port}"));
}

fn understands_what_comes_by_tcp() {
    let (server, target) = Server::tcp("tcp");
    all_is_understood(&server, &target);
}

fn understands_what_comes_by_unix_socket() {
    let input = r#"socket="$FOLDER/log" useSpecialParser="off" parseHostname="on"
    useSysTimeStamp="off" ignoreTimestamp="off" rateLimit.interval="0""#;
    let server = Server::new("unix", "imuxsock", input);
    let socket: PathBuf = server.folder.0.join("log");
    all_is_understood(&server, &format!("unix:{}", socket.display()));
}

fn the_rest_comes_by_tcp_after_a_restart() {
    let port = free_tcp_port();
    let mut server = Server::new("restart", "imtcp", &tcp_input(port));
    let output = output(&format!("tcp:127.0.0.1:{port}"));
    output.push(lines(&numbered(0..COUNT)));
    server.read_all(COUNT.try_into().unwrap());
    server.program.end(libc::SIGTERM);
    output.push(lines(&numbered(COUNT..2 * COUNT)));
    let trouble = until("trouble is told of", || output.state().trouble);
    assert!(trouble.contains(&format!("syslog tcp:127.0.0.1:{port}")), "{trouble}");
    assert_eq!(output.state().delivered, COUNT);
    server.program = rsyslogd(&server.folder);
    let all = server.read_all((2 * COUNT).try_into().unwrap());
    let number = |line: &Vec<String>| {
        let data: Value = serde_json::from_str(&line[7]).unwrap();
        data["tcptrace@32473"]["mono_ns"].as_str().unwrap().parse::<u64>().unwrap()
    };
    assert!(all.iter().map(number).eq(0..2 * COUNT), "each once, in their order");
    delivered(&output, 2 * COUNT);
}

fn tcp_input(port: u16) -> String {
    format!(r#"address="127.0.0.1" port="{port}""#)
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
