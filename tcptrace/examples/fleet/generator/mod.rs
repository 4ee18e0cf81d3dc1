//! A fleet's records, made by the real serializer, and what is true of them.

mod connection;
mod random;
mod services;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::BytesMut;
use tcptrace::{
    findings::{Cause, Detection, Finding, Kind, Phase, Processes, Severity, Subject, Value},
    model::{
        age::{Age, AgeSource},
        event::{Owner, OwnerSource},
        losses::Losses,
        names::Names,
        time::WallOffset,
    },
    render::{context::Context, json::Json},
};

use self::{
    connection::{Course, NO_HOST, Plan, REASONS, Side, Told},
    random::Random,
    services::{CALLS, Call, OUTSIDE, SERVICES, Service},
};

const NS_PER_S: u64 = 1_000_000_000;
/// Events that a connection makes about, both ends together.
const EVENTS_EACH: u64 = 11;
/// Connections whose events are brought into the order of time together.
const PIECE: usize = 20_000;
/// Until addresses and ports are used again, in ns.
const AGAIN_NS: u64 = 300 * NS_PER_S;

/// What to make.
pub(crate) struct Settings {
    pub(crate) hosts: usize,
    /// Events at least; the last connection is whole.
    pub(crate) events: u64,
    pub(crate) seed: u64,
    /// Wall-clock time of the start, in ns since the epoch.
    pub(crate) start_ns: i64,
    /// How long the fleet is watched, in ns.
    pub(crate) span_ns: u64,
}

/// What queries must find.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) events: u64,
    pub(crate) findings: u64,
    /// Runs of tcptrace that ended.
    pub(crate) runs_ended: u64,
    /// Times of handshakes in ns, by client and server.
    pub(crate) handshakes: BTreeMap<(String, String), Vec<u64>>,
    /// Connections between hosts of the fleet, and pairs of hosts, by client, server and the endings at both.
    pub(crate) both_ends: BTreeMap<[&'static str; 4], Seen<(usize, usize)>>,
    /// RSTs, and hosts that sent them, by sender, receiver and reason.
    pub(crate) resets: BTreeMap<[&'static str; 3], Seen<usize>>,
    /// Sockets in trouble now, and hosts, by service and finding.
    pub(crate) open: BTreeMap<[&'static str; 2], Seen<usize>>,
    /// Client and server of a connection whose addresses and ports were used twice, and its events of the first time and
    /// of both.
    pub(crate) twice: Option<(SocketAddr, SocketAddr, usize, usize)>,
}

/// A count, and where it was seen.
pub(crate) struct Seen<T> {
    pub(crate) count: u64,
    pub(crate) places: BTreeSet<T>,
}

fn see<K: Ord, T: Ord>(all: &mut BTreeMap<K, Seen<T>>, key: K, count: u64, place: T) {
    let seen = all.entry(key).or_insert(Seen { count: 0, places: BTreeSet::new() });
    seen.count += count;
    seen.places.insert(place);
}

struct Host {
    name: String,
    service: &'static Service,
    owner: Owner,
    address: Ipv4Addr,
    address6: Ipv6Addr,
    is_leaky: bool,
    /// Monotonic time at the fleet's start.
    uptime_ns: u64,
    wall: WallOffset,
    ports: u16,
    cookies: u64,
    /// When its process leaked connections, and when its connections were refused and where, in ns.
    leaks: Vec<u64>,
    refusals: Vec<(u64, SocketAddr)>,
}

/// Makes the records: `write` gets a host's name and lines of it, about in the order of time.
pub(crate) fn generate(settings: &Settings, mut write: impl FnMut(&str, &[u8])) -> Truth {
    let mut random = Random(settings.seed);
    let mut hosts = hosts(settings, &mut random);
    let mut by_service: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, host) in hosts.iter().enumerate() {
        by_service.entry(host.service.name).or_default().push(index);
    }
    let mut truth = Truth::default();
    let mut renderer = Renderer::new();
    let span_ns = settings.span_ns;
    let step_ns = (u128::from(span_ns) * u128::from(EVENTS_EACH) / u128::from(settings.events.max(1))) as u64;
    let (mut at_ns, mut told) = (0, Vec::new());
    while truth.events < settings.events {
        for _ in 0..PIECE {
            if truth.events >= settings.events {
                break;
            }
            at_ns += step_ns;
            let before = told.len();
            connect(&mut hosts, &by_service, at_ns, span_ns, &mut random, &mut told, &mut truth);
            truth.events += (told.len() - before) as u64;
        }
        told.sort_by_key(|(host, event): &Told| (*host, event.time_ns));
        for events in told.chunk_by_mut(|a, b| a.0 == b.0) {
            let host = &hosts[events[0].0];
            write(&host.name, renderer.events(host, events));
        }
        told.clear();
    }
    for (index, host) in hosts.iter().enumerate() {
        write(&host.name, renderer.findings(index, host, span_ns, &mut truth));
    }
    truth
}

fn hosts(settings: &Settings, random: &mut Random) -> Vec<Host> {
    let mut hosts = Vec::with_capacity(settings.hosts);
    let (mut share, all) = (0, settings.hosts);
    for (number, service) in SERVICES.iter().enumerate() {
        share += service.share as usize;
        let (first, end) = (hosts.len(), all * share / 100);
        let leaky = match service.leaky_hosts {
            0 => 0,
            permille => ((end - first) * permille / 1000).max(2),
        };
        for index in first..end {
            let uptime_ns = random.below(90 * 24 * 3600) * NS_PER_S;
            let skew_ns = random.below(4_000_000) as i64 - 2_000_000;
            let (high, low) = ((index / 250) as u8, (index % 250 + 1) as u8);
            let number = number as u32;
            hosts.push(Host {
                name: format!("{}-{:03}", service.name, index - first),
                service,
                owner: connection::owner(
                    service.name,
                    900 + random.below(9000) as u32,
                    100 + number,
                    4000 + u64::from(number),
                ),
                address: Ipv4Addr::new(10, 20, high, low),
                address6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0x20, high.into(), low.into()),
                is_leaky: index - first < leaky,
                uptime_ns,
                wall: WallOffset(settings.start_ns + skew_ns - uptime_ns as i64),
                ports: 0,
                cookies: 0,
                leaks: Vec::new(),
                refusals: Vec::new(),
            });
        }
    }
    hosts
}

/// One connection, or two of the same addresses and ports.
fn connect(
    hosts: &mut [Host],
    by_service: &HashMap<&str, Vec<usize>>,
    at_ns: u64,
    span_ns: u64,
    random: &mut Random,
    told: &mut Vec<Told>,
    truth: &mut Truth,
) {
    let call = pick(random);
    let mut host =
        |service: &str| by_service.get(service).map_or(NO_HOST, |all| all[random.below(all.len() as u64) as usize]);
    let (client, server) = (host(call.client), host(call.server));
    let (local, remote) = ends(hosts, client, server, random);
    let course = course(hosts, call, server, random);
    let times = if course == Course::Normal && random.chance(10) && at_ns + AGAIN_NS < span_ns { 2 } else { 1 };
    // Was tcptrace not running at the server the first time?
    let is_missed = times == 2 && random.chance(250);
    let before = told.len();
    let mut events = [0; 2];
    for time in 0..times {
        let plan = Plan {
            course,
            at_ns: at_ns + time * AGAIN_NS,
            rtt_ns: random.log_normal(call.median_us * 1000.0, call.sigma) as u64 / 125 * 125,
            open_ns: random.log_normal(80e6, 1.5) as u64,
            request: random.below(2000) + 100,
            response: random.log_normal(4000.0, 1.5) as u64,
            loses: random.chance(20),
        };
        let server = if is_missed && time == 0 { NO_HOST } else { server };
        let mut one = side(hosts, client, local, remote, random);
        let mut other = side(hosts, server, remote, local, random);
        let endings = connection::play(&plan, &mut one, &mut other, told);
        let [at_client, at_server] = [endings.0, endings.1].map(|ending| ending.map_or("", |ending| ending.name()));
        note(hosts, call, (client, server), &plan, [at_client, at_server], remote, truth);
        events[time as usize] = told.len() - before;
    }
    if times == 2 && !is_missed && client != NO_HOST && server != NO_HOST && local.is_ipv4() {
        truth.twice.get_or_insert((local, remote, events[0], events[1]));
    }
}

/// Writes down what is true of a connection.
fn note(
    hosts: &mut [Host],
    call: &Call,
    (client, server): (usize, usize),
    plan: &Plan,
    endings: [&'static str; 2],
    remote: SocketAddr,
    truth: &mut Truth,
) {
    if plan.course != Course::Refused && call.client != OUTSIDE {
        let served = if call.server == OUTSIDE { format!("port {}", remote.port()) } else { call.server.to_owned() };
        truth.handshakes.entry((call.client.to_owned(), served)).or_default().push(plan.rtt_ns);
        if server != NO_HOST {
            see(&mut truth.both_ends, [call.client, call.server, endings[0], endings[1]], 1, (client, server));
        }
    }
    match plan.course {
        Course::Normal => {}
        Course::Leaked => hosts[server].leaks.push(plan.at_ns + plan.open_ns),
        Course::Refused => {
            hosts[client].refusals.push((plan.at_ns, remote));
            see(&mut truth.resets, ["no listener", call.client, "no_socket"], 1, server);
        }
        Course::ServerResets => see(&mut truth.resets, [call.server, call.client, "tcp_abort_on_close"], 1, server),
        Course::ClientResets => see(&mut truth.resets, [call.client, call.server, "tcp_abort_on_linger"], 1, client),
    }
}

fn pick(random: &mut Random) -> &'static Call {
    let mut left = random.below(CALLS.iter().map(|call| call.weight).sum());
    CALLS
        .iter()
        .find(|call| {
            let is_it = left < call.weight;
            left = left.saturating_sub(call.weight);
            is_it
        })
        .unwrap_or(&CALLS[0])
}

fn course(hosts: &[Host], call: &Call, server: usize, random: &mut Random) -> Course {
    let dice = random.below(1000);
    let [server_resets, client_resets, refused] = [
        call.server_resets,
        call.server_resets + call.client_resets,
        call.server_resets + call.client_resets + call.refused,
    ];
    match dice {
        _ if dice < server_resets => Course::ServerResets,
        _ if dice < client_resets => Course::ClientResets,
        _ if dice < refused => Course::Refused,
        _ if hosts.get(server).is_some_and(|host| host.is_leaky) && random.chance(150) => Course::Leaked,
        _ => Course::Normal,
    }
}

/// Addresses and ports of a connection: the client's port is its host's next one.
fn ends(hosts: &mut [Host], client: usize, server: usize, random: &mut Random) -> (SocketAddr, SocketAddr) {
    let remote = match hosts.get(server) {
        Some(host) if host.service.ipv6 => SocketAddr::new(host.address6.into(), host.service.port),
        Some(host) => SocketAddr::new(host.address.into(), host.service.port),
        None => SocketAddr::new(Ipv4Addr::new(203, 0, 113, random.below(20) as u8 + 1).into(), 443),
    };
    let local = match hosts.get_mut(client) {
        Some(host) => {
            host.ports = (host.ports + 1) % 28_000;
            let address: IpAddr = if remote.is_ipv6() { host.address6.into() } else { host.address.into() };
            SocketAddr::new(address, 32_768 + host.ports)
        }
        None => {
            let [high, middle, low] = [random.below(2), random.below(256), random.below(256)].map(|part| part as u8);
            SocketAddr::new(Ipv4Addr::new(198, 18 + high, middle, low).into(), 1024 + random.below(60_000) as u16)
        }
    };
    (local, remote)
}

fn side(hosts: &mut [Host], index: usize, local: SocketAddr, remote: SocketAddr, random: &mut Random) -> Side {
    let sk = 0xffff_8880_0000_0000 | random.below(1 << 28) << 6;
    match hosts.get_mut(index) {
        Some(host) => {
            host.cookies += 1;
            Side::new(index, host.owner, (sk, host.cookies), local, remote)
        }
        None => Side::new(NO_HOST, connection::owner("", 0, 0, 0), (sk, 0), local, remote),
    }
}

struct Renderer {
    json: Json,
    context: Context,
    lines: BytesMut,
}

impl Renderer {
    fn new() -> Self {
        let reasons = REASONS.iter().map(|(code, name)| (*code, (*name).to_owned())).collect();
        let cgroup = |id: u64| SERVICES.get(id as usize - 4000).map(|of| format!("/system.slice/{}.service", of.name));
        let context = Context::new(WallOffset(0), Names::new(reasons, Box::new(cgroup)));
        Self { json: Json::default(), context, lines: BytesMut::new() }
    }

    fn events(&mut self, host: &Host, events: &mut [Told]) -> &[u8] {
        self.lines.clear();
        self.context.wall = host.wall;
        for (_, event) in events {
            event.time_ns += host.uptime_ns;
            self.json.event(&mut self.lines, event, &mut self.context);
        }
        &self.lines
    }

    /// The findings of a host: of its leak, and of what refused its connections. The first host that leaks restarts
    /// tcptrace halfway: its findings are numbered anew.
    fn findings(&mut self, index: usize, host: &Host, span_ns: u64, truth: &mut Truth) -> &[u8] {
        self.lines.clear();
        self.context.wall = host.wall;
        let leaked = |time: u64| host.leaks.iter().filter(|at| **at + 60 * NS_PER_S <= time).count() as u64;
        let mut told = Vec::new();
        if leaked(span_ns) > 0 {
            let first = host.leaks[0] + 60 * NS_PER_S;
            let owner = Some(Owner { source: OwnerSource::Accept, ..host.owner });
            let mut tell = |phase, opened, time| {
                let (count, window_ns) = (leaked(time), time - first + 60 * NS_PER_S);
                let evidence = vec![
                    ("unread_bytes", Value::Number(count * 24)),
                    ("growth_per_minute", Value::Ratio(count as f64 / (window_ns as f64 / 60e9))),
                    ("growth_window_ns", Value::Number(window_ns)),
                    ("closes_after_ns", Value::Unknown),
                ];
                let oldest = Some(Age { ns: window_ns, source: AgeSource::Observed });
                let detection = Detection { count, evidence, oldest, owner, ..detection(host, Kind::CloseWaitLeak) };
                let number = if opened == first { 1 } else { 3 };
                told.push(finding(host, number, phase, opened, time, detection));
            };
            tell(Phase::Opened, first, first);
            (1..=4).for_each(|part| tell(Phase::Updated, first, first + (span_ns - first) * part / 8));
            let restarts = host.name.ends_with("-000");
            let since = if restarts { first + (span_ns - first) / 2 + 90 * NS_PER_S } else { first };
            if restarts {
                tell(Phase::Opened, since, since);
                let ended_ns = host.uptime_ns + since - 60 * NS_PER_S;
                self.json.end(&mut self.lines, host.wall, ended_ns, "SIGTERM", &Losses::default(), &[]);
                truth.runs_ended += 1;
            }
            tell(Phase::Updated, since, span_ns);
            see(&mut truth.open, [host.service.name, Kind::CloseWaitLeak.id()], leaked(span_ns), index);
        }
        if let (Some((first, remote)), Some((last, _))) = (host.refusals.first(), host.refusals.last()) {
            let (subject, all) = (Subject::Remote(*remote), host.refusals.len() as u64);
            let mut tell = |phase, time, count| {
                let evidence = vec![("errno", Value::Name("ECONNREFUSED")), ("latency_ns", Value::Number(260_000))];
                let detection = Detection { subject, count, evidence, ..detection(host, Kind::ConnectRefused) };
                told.push(finding(host, 2, phase, *first, time, detection));
            };
            tell(Phase::Opened, *first, 1);
            tell(Phase::Updated, *last, all);
            if last + 120 * NS_PER_S < span_ns {
                tell(Phase::Closed, last + 120 * NS_PER_S, all);
            } else {
                see(&mut truth.open, [host.service.name, Kind::ConnectRefused.id()], all, index);
            }
        }
        truth.findings += told.len() as u64;
        for finding in &told {
            self.json.finding(&mut self.lines, finding, &mut self.context);
        }
        &self.lines
    }
}

fn detection(host: &Host, kind: Kind) -> Detection {
    Detection {
        kind,
        severity: Severity::Warning,
        netns: Some(4_026_531_840),
        owner: Some(host.owner),
        subject: Subject::Several,
        count: 0,
        oldest: None,
        evidence: Vec::new(),
        examples: Vec::new(),
        processes: Processes::default(),
        cause: Cause::NeverClosed,
        is_settled: true,
        is_shown: true,
    }
}

fn finding(host: &Host, number: u64, phase: Phase, opened_ns: u64, time_ns: u64, detection: Detection) -> Finding {
    let (open_for_ns, count_now) = (time_ns - opened_ns, detection.count);
    Finding { time_ns: host.uptime_ns + time_ns, number, phase, open_for_ns, count_now, detection }
}
