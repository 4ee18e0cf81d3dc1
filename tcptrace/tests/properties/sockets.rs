//! `tcptrace sockets` tells of any listing what serde_json and RFC 4180 read back, and tells each socket once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::ValueEnum as _;
use proptest::{collection::vec, option, prelude::*};
use serde_json::Value;
use tcptrace::{
    cli::args::GroupBy,
    commands::sockets::fields::SocketField,
    model::{
        event::{Command, Owner, OwnerSource},
        filter::Filter,
        holders::{Holder, Holders},
        namespace::Namespace,
        snapshot::Snapshot,
        socket::{ConnectionInfo, Kind, ListedSocket, Timer, TimerKind},
        state::State,
    },
};

use crate::support::{
    listing::{csv, json, printed, text},
    rfc4180, schema,
};

fn any_end() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical());
    (prop_oneof![v4, v6], prop_oneof![Just(0), any::<u16>()]).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_command() -> impl Strategy<Value = Command> {
    vec(any::<u8>(), 15).prop_map(|mut bytes| {
        bytes.push(0);
        Command::new(bytes.try_into().unwrap())
    })
}

prop_compose! {
    fn any_connection()(times in any::<[u64; 5]>(), srtt_us in option::of(0u32..1 << 29), total_retrans in any::<u32>())
        -> ConnectionInfo {
        let [last_sent_ns, last_received_ns, last_ack_ns, bytes_acked, bytes_received] = times;
        ConnectionInfo {
            last_sent_ns, last_received_ns, last_ack_ns, srtt_us, total_retrans, bytes_acked, bytes_received,
            ..ConnectionInfo::default()
        }
    }
}

prop_compose! {
    fn any_owner()(ids in any::<[u32; 2]>(), command in any_command()) -> Owner {
        Owner { pid: ids[0], uid: ids[1], cgroup: 0, start: None, command, source: OwnerSource::Io }
    }
}

prop_compose! {
    fn any_socket()(
        names in (option::of(1..=u64::MAX), option::of(1..=u64::MAX), 0u64..4, 1u32..3, any::<bool>()),
        state in prop::sample::select(&State::ALL[..]),
        kind in prop::sample::select(vec![Kind::Full, Kind::TimeWait, Kind::Request]),
        ends in (any_end(), any_end()),
        queues in any::<(u32, u32, u8, u8)>(),
        timer in option::of((
            prop::sample::select(vec![
                TimerKind::Retransmit, TimerKind::Keepalive, TimerKind::TimeWait, TimerKind::Probe,
            ]),
            any::<u64>(),
        )),
        known in (option::of(any::<u32>()), option::of(any::<u64>()), option::of(any_owner())),
        connection in option::of(any_connection()),
    ) -> ListedSocket {
        let (sk, cookie, handle, netns, ipv6) = names;
        let (receive_queue, send_queue, timeouts, probes) = queues;
        let (uid, entered_ns, owner) = known;
        ListedSocket { sk, cookie, handle, ipv6, receive_queue, send_queue, timer: timer.map(|(kind, left_ns)| Timer { kind, left_ns }), timeouts, probes, uid, entered_ns, owner, connection, ..ListedSocket::new(kind, state, netns, ends.0, ends.1) }
    }
}

prop_compose! {
    fn any_holder()(handle in 1u64..4, pid in 798u32..902, fd in any::<u32>(), ns_pid in any::<u32>(), command in any_command())
        -> Holder {
        Holder { handle, pid, ns_pid, fd, uid: fd, cgroup: None, start: None, command }
    }
}

prop_compose! {
    pub(crate) fn any_snapshot()(
        sockets in vec(any_socket(), 0..8),
        holders in option::of(vec(any_holder(), 0..8)),
        name in option::of(any::<String>()),
        times in any::<(u64, u32)>(),
    ) -> Snapshot {
        Snapshot {
            started_ns: times.0,
            ended_ns: times.1.into(),
            sockets,
            holders: holders.map(Holders::new),
            namespaces: vec![Namespace { inode: 1, name, ..Namespace::default() }],
            ..Snapshot::default()
        }
    }
}

#[test]
fn lists_are_read_back() {
    let validator = schema::validator();
    proptest!(|(snapshot in any_snapshot())| {
        let all = Filter::default();
        let lines = printed(&snapshot, &all, &[], json);
        prop_assert_eq!(lines.lines().count(), snapshot.sockets.len() + 1);
        let rows = rfc4180::rows(&printed(&snapshot, &all, &[], csv)).unwrap();
        prop_assert_eq!(rows.len(), snapshot.sockets.len() + 1);
        for (line, row) in lines.lines().zip(rows.iter().skip(1)) {
            let record = schema::valid_record(&validator, line);
            prop_assert_eq!(row.len(), SocketField::ALL.len());
            for (field, cell) in SocketField::ALL.iter().zip(row) {
                if field.name().ends_with("holders") && !cell.is_empty() {
                    prop_assert_eq!(&serde_json::from_str::<Value>(cell).unwrap(), &record[field.name()]);
                }
            }
            let holders = &record["holders"];
            prop_assert_eq!(record["held_by"] == "processes", !holders.as_array().unwrap().is_empty());
        }
        let text = printed(&snapshot, &all, &[], text);
        prop_assert_eq!(text.lines().count(), snapshot.sockets.len() + 3, "heading, blank, total");
        prop_assert!(text.lines().all(|line| !line.contains(char::is_control)));
    });
}

#[test]
fn counts_are_read_back_and_add_up() {
    let validator = schema::validator();
    proptest!(|(snapshot in any_snapshot())| {
        for by in GroupBy::value_variants() {
            let lines = printed(&snapshot, &Filter::default(), &[*by], json);
            let rows = rfc4180::rows(&printed(&snapshot, &Filter::default(), &[*by], csv)).unwrap();
            prop_assert_eq!(lines.lines().count(), rows.len());
            let records: Vec<_> = lines.lines().map(|line| schema::valid_record(&validator, line)).collect();
            let (end, groups) = records.split_last().unwrap();
            let sum: u64 = groups.iter().map(|group| group["sockets"].as_u64().unwrap()).sum();
            let sockets = snapshot.sockets.len() as u64;
            prop_assert_eq!(end["sockets"].as_u64(), Some(sockets));
            // Of several processes that hold a socket, each counts.
            use GroupBy::{Cgroup, Comm, Container, Pid, Pod, Uid, Unit};
            let may_repeat = matches!(by, Pid | Comm | Uid | Cgroup | Unit | Container | Pod);
            prop_assert!(sum == sockets || may_repeat && sum > sockets, "{} of {}", sum, sockets);
        }
    });
}
