//! The report: foreign names do not become markup, no name survives anonymizing, and it stays small.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr, sync::Arc};

use proptest::{array::uniform16, collection::vec, prelude::*};
use tcptrace::{
    findings::Thresholds,
    model::{
        decode::split,
        event::{Command, Owner, OwnerSource, StartTicks},
        holders::{Holder, Holders},
        namespace::Namespace,
        place::Place,
        processes::{ProcessAnswer, ProcessNames, ProcessQuestion},
        snapshot::{NextHop, Snapshot},
        socket::{Kind, ListedSocket},
        state::State,
    },
    pipeline::route::Renderer,
    pipeline::{
        input::{Input, ListingKind},
        recording::{anonymize::Anonymizer, frames::Frame},
        session::Session,
        settings::SessionSettings,
    },
    render::html::Page,
};
use tcptrace_common::{
    record::{self, owner_source},
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, SYN_SENT},
};

use crate::support::{
    records::{Life, START_NS, Stream, process},
    replay::{output, page, session, settings},
};

const S: u64 = 1_000_000_000;

fn with_findings() -> SessionSettings {
    SessionSettings { findings: Some(Thresholds::default()), max_sockets: 100_000, ..settings() }
}

fn end(session: &mut Session, now_ns: u64) -> String {
    session.evaluate(now_ns);
    session.finish(now_ns);
    session.end(now_ns, "interrupted", &[]);
    output(session)
}

/// The names of all elements, in a page whose text has no `<`.
fn elements(page: &str) -> BTreeSet<&str> {
    page.split('<').skip(1).filter_map(|rest| rest.split([' ', '>', '/', '\n']).find(|name| !name.is_empty())).collect()
}

/// A client that connects and is refused, or leaves, or resets.
fn lives(stream: &mut Stream, name: &[u8], remote: &str) {
    for (number, last) in [CLOSE, FIN_WAIT1, CLOSE_WAIT].into_iter().enumerate() {
        let owner = record::Owner { pid: 700 + number as u32, ..process(700, name, owner_source::CONNECT) };
        let mut life = Life::in_state(CLOSE, &format!("10.1.0.1:{}", 40_000 + number), remote).owned_by(owner);
        life.enters(stream, SYN_SENT);
        stream.wait_us(300);
        if last == CLOSE {
            life.facts.err = libc::ECONNREFUSED;
            life.gets_reset(stream);
        } else {
            life.enters(stream, ESTABLISHED).retransmits(stream, 0).sends_reset(stream, Some(3));
        }
        stream.wait_us(5_000);
        life.enters(stream, last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn foreign_names_do_not_become_markup(
        letters in vec(prop::sample::select(&["<", ">", "\"", "'", "&", "</script>", "<!--", "]]>", "\u{202e}", "\0", "x=", "`", "/", "é"][..]), 0..8)
    ) {
        let name = letters.concat();
        let report = |name: &str| {
            let mut session = session(with_findings(), page());
            session.context.names.netns.insert(4_026_531_840, name.to_owned());
            let mut stream = Stream::new();
            let bytes: Vec<u8> = name.bytes().take(16).collect();
            lives(&mut stream, &bytes, "10.1.0.2:80");
            split(&stream.bytes).for_each(|record| session.ingest(record.unwrap()));
            end(&mut session, stream.now_ns + 5 * S)
        };
        let (plain, hostile) = (report("plain"), report(&name));
        prop_assert_eq!(elements(&plain), elements(&hostile));
        prop_assert_eq!(plain.matches('<').count(), hostile.matches('<').count());
        prop_assert_eq!(plain.matches('"').count(), hostile.matches('"').count());
    }

    #[test]
    fn no_name_survives_anonymizing(
        texts in uniform16("[a-z]{9}[0-9]{2}"), v4 in vec(0x0b00_0000_u32..0x7e00_0000, 3), v6 in any::<u128>(),
    ) {
        let hosts: Vec<IpAddr> = v4.iter().map(|v4| IpAddr::V4((*v4).into()))
            .chain([IpAddr::V6((v6 | 0x2000 << 112).into())]).collect();
        prop_assume!(hosts.iter().all(|host| host.to_string().len() > 8));
        let command = |text: &str| {
            let mut bytes = [0; 16];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            Command::new(bytes)
        };
        let start = StartTicks::new(360_000);
        let owner = |place: usize| Owner {
            pid: 700, uid: 1000, cgroup: 4711, start, command: command(&texts[place]), source: OwnerSource::Holder,
        };
        let mut stream = Stream::new();
        lives(&mut stream, texts[0].as_bytes(), &format!("{}:80", hosts[0]));
        lives(&mut stream, texts[0].as_bytes(), &format!("[{}]:80", hosts[3]));
        let listed = ListedSocket {
            owner: Some(owner(1)), handle: 7, cookie: Some(7), sk: Some(7),
            ..ListedSocket::new(Kind::Full, State::CloseWait, 4_026_531_840, (hosts[1], 80).into(), (hosts[2], 4000).into())
        };
        let holder = Holder {
            handle: 7, pid: 700, ns_pid: 7, fd: 3, uid: 1000, cgroup: Some(4711), start, command: command(&texts[2]),
        };
        let mut place = Place::from_cgroup(&format!("/system.slice/{}.service", texts[3]));
        place.container = Some(Default::default());
        let fact = |text: &str| Some(tcptrace::model::place::Sourced::new(
            text.into(), tcptrace::model::place::PlaceSource::DockerState,
        ));
        if let Some(container) = &mut place.container {
            (container.id, container.name, container.image) = (fact(&texts[4]), fact(&texts[5]), fact(&texts[6]));
        }
        place.pod = Some(Default::default());
        if let Some(pod) = &mut place.pod {
            (pod.uid, pod.name, pod.namespace, pod.container) =
                (fact(&texts[7]), fact(&texts[8]), fact(&texts[9]), fact(&texts[10]));
        }
        let answer = ProcessAnswer {
            names: Some(ProcessNames {
                command: command(&texts[0]), executable: Some(format!("/usr/bin/{}", texts[11])),
                args: Some([texts[12].clone()].into()), ns_pid: None, parent: Some((1, command(&texts[13]))),
            }),
            place: Some(Arc::new(place)),
        };
        let snapshot = Snapshot {
            started_ns: START_NS, ended_ns: START_NS, sockets: vec![listed], holders: Some(Holders::new(vec![holder])),
            namespaces: vec![Namespace { inode: 4_026_531_840, name: Some(texts[14].clone()), ..Namespace::default() }],
            next_hops: vec![NextHop {
                netns: 4_026_531_840, remote: hosts[0], hop: hosts[1], answers: Some(false), read_ns: START_NS,
            }],
            ..Snapshot::default()
        };
        let mut frames = vec![
            Frame::Cgroup(4711, Some(format!("/system.slice/{}.service", texts[3]))),
            Frame::Input(Input::NetnsNames(Cow::Owned(vec![(4_026_531_840, texts[14].clone())]))),
            Frame::Input(Input::Users(Cow::Owned(vec![(1000, texts[15].clone())]))),
            Frame::Input(Input::Services(Cow::Owned(vec![(80, texts[15].as_str().into())]))),
            Frame::Input(Input::Host(hosts[0], Some(format!("{}.example", texts[15])))),
            Frame::Owner(owner(0)),
            Frame::Input(Input::ListingBegun),
            Frame::Input(Input::Listed(ListingKind::All, Cow::Owned(snapshot))),
            Frame::Input(Input::Process(ProcessQuestion { id: (700, start), cgroup: 4711 }, Cow::Owned(answer))),
        ];
        frames.extend(split(&stream.bytes).map(|record| Frame::Input(Input::Record(record.unwrap()))));
        let report = |mut anonymizer: Option<Anonymizer>| {
            let is_anonymous = anonymizer.is_some();
            let mut session = session(with_findings(), Renderer::Page(Box::default(), Page { is_anonymous, ..Page::default() }));
            let mut all = String::new();
            for frame in frames.clone() {
                let frame = match &mut anonymizer {
                    Some(anonymizer) => anonymizer.frame(frame),
                    None => frame,
                };
                all += &format!("{frame:?}");
                if let Frame::Input(Input::Record(record)) = &frame {
                    all += &String::from_utf8_lossy(record);
                }
                if let Frame::Input(input) = &frame {
                    session.apply(input);
                }
            }
            all + &end(&mut session, stream.now_ns + 90 * S)
        };
        let (named, anonymous) = (report(None), report(Some(Anonymizer::default())));
        for name in texts.iter().cloned().chain(hosts.iter().map(ToString::to_string)) {
            prop_assert!(named.contains(&name), "{} is in the input", name);
            prop_assert!(!anonymous.contains(&name), "{} survives", name);
        }
        for words in ["host-1:80", "process-1[700]", "CLOSE_WAIT"] {
            prop_assert!(anonymous.contains(words), "{}: {}", words, anonymous);
        }
    }
}

/// As many processes, ends, latencies and findings as there is room for, and more.
#[test]
fn a_report_stays_small_and_is_the_same_each_time() {
    let report = || {
        let mut session = session(with_findings(), page());
        let mut number: u64 = 1;
        for round in 0..4_000_u64 {
            let mut stream = Stream::new();
            stream.now_ns = START_NS + round * S;
            // A sequence without a pattern, the same each time.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let time_us = 1 << ((number >> 33) % 24);
            let name = format!("p{}", round % 900);
            let owner = record::Owner {
                pid: 1000 + (round % 900) as u32,
                ..process(1, name.as_bytes(), owner_source::CONNECT)
            };
            let (a, b) = (round / 250, round % 250);
            let local = format!("10.{}.{}.{}:{}", 1 + round % 5, a, b, 20_000 + round);
            let mut life = Life::in_state(CLOSE, &local, &format!("10.9.{a}.{b}:{}", 80 + round % 400)).owned_by(owner);
            life.enters(&mut stream, SYN_SENT);
            stream.wait_us(time_us);
            if round % 3 == 0 {
                life.facts.err = libc::ECONNREFUSED;
                life.gets_reset(&mut stream).enters(&mut stream, CLOSE);
            } else {
                life.enters(&mut stream, ESTABLISHED);
                (0..30).for_each(|_| _ = life.retransmits(&mut stream, 0));
                stream.wait_us(time_us);
                life.enters(&mut stream, if round % 2 == 0 { CLOSE_WAIT } else { FIN_WAIT1 });
                stream.wait_us(time_us);
                life.enters(&mut stream, if round % 2 == 0 { LAST_ACK } else { FIN_WAIT2 });
                life.sends_reset(&mut stream, None).enters(&mut stream, CLOSE);
            }
            split(&stream.bytes).for_each(|record| session.ingest(record.unwrap()));
            session.evaluate(START_NS + round * S);
            session.tick(START_NS + round * S);
        }
        end(&mut session, START_NS + 4_010 * S)
    };
    let page = report();
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert!(page.contains("finding-1") && page.contains("ladder-20") && page.contains("left out"), "{}", page.len());
    assert!(page == report(), "not the same");
}
