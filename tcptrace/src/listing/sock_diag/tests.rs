use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rustc_hash::FxHashSet;
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::*;
use crate::{
    listing::{
        dedup, holders,
        inet_diag::tests::{V4, V6, attribute, diag, info_bytes, listed},
        netns::in_fresh_netns,
    },
    model::socket::{Kind, TimerKind},
};

/// Encodes a message with its header.
fn message(kind: u16, flags: i32, payload: &[u8]) -> Vec<u8> {
    let length = size_of::<Header>() + payload.len();
    let header = Header { length: length as u32, kind, flags: flags as u16, sequence: 0, port: 0 };
    let mut bytes = [header.as_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn answer(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.concat()
}

fn plain(cookie: u32) -> Vec<u8> {
    message(SOCK_DIAG_BY_FAMILY, 0, &diag(V4, [6, 3, 0], 0, cookie))
}

fn done(errno: i32) -> Vec<u8> {
    message(libc::NLMSG_DONE as u16, 0, &errno.to_ne_bytes())
}

/// Runs against a kernel that sends these replies and then nothing.
fn receive_from(answers: Vec<io::Result<Vec<u8>>>) -> io::Result<Dump> {
    let mut answers = answers.into_iter();
    receive(7, move |buffer| {
        let answer = answers.next().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
        let length = answer.len().min(buffer.len());
        buffer[..length].copy_from_slice(&answer[..length]);
        Ok(answer.len())
    })
}

fn counts(answers: Vec<io::Result<Vec<u8>>>) -> (usize, u64, bool) {
    let dump = receive_from(answers).unwrap();
    (dump.sockets.len(), dump.cut_short, dump.interrupted)
}

#[test]
fn what_was_understood_is_kept_and_the_rest_counted() {
    let errno = |number| Err(io::Error::from_raw_os_error(number));
    let noop = || message(libc::NLMSG_NOOP as u16, 0, &[]);
    assert_eq!(counts(vec![Ok(answer(&[plain(1), noop(), plain(2)])), Ok(done(0))]), (2, 0, false));
    assert_eq!(counts(vec![errno(libc::EINTR), Ok(answer(&[plain(1), done(0)]))]), (1, 0, false));
    assert_eq!(counts(vec![Ok(plain(1)[..80].to_vec()), Ok(plain(2)), Ok(done(0))]), (1, 1, false), "cut");
    assert_eq!(counts(vec![Ok(answer(&[message(99, 0, &[0; 80]), plain(2)])), Ok(done(0))]), (1, 1, false));
    assert_eq!(counts(vec![Ok(Vec::new()), Ok(done(0))]), (0, 0, false));
    assert_eq!(counts(vec![Ok(vec![0; 16]), Ok(done(0))]), (0, 1, false), "a message of no length");
    assert_eq!(counts(vec![Ok(plain(1))]), (1, 1, false), "the end is missing");
    assert_eq!(counts(vec![Ok(plain(1)), Ok(done(-libc::ENOMEM))]), (1, 1, false));
    assert_eq!(counts(vec![Ok(plain(1)), errno(libc::ENOBUFS)]), (1, 0, true));
    let overrun = message(libc::NLMSG_OVERRUN as u16, 0, &[]);
    assert_eq!(counts(vec![Ok(answer(&[plain(1), overrun, done(0)]))]), (1, 0, true));
    let changed = message(libc::NLMSG_DONE as u16, libc::NLM_F_DUMP_INTR, &[0; 4]);
    assert_eq!(counts(vec![Ok(plain(1)), Ok(changed)]), (1, 0, true));
    let too_long = answer(&vec![plain(1); ANSWER_BYTES / plain(1).len() + 1]);
    let (sockets, cut_short, _) = counts(vec![Ok(too_long), Ok(done(0))]);
    assert_eq!(sockets, ANSWER_BYTES / plain(1).len());
    assert!(cut_short > 0);
}

#[test]
fn a_cut_is_never_silent() {
    let whole = answer(&[plain(1), plain(2), plain(3)]);
    let length = plain(1).len();
    for end in 0..=whole.len() {
        let mut dump = Dump::default();
        assert!(dump.take(&whole[..end], 7).is_none());
        assert_eq!((dump.sockets.len(), dump.cut_short), (end / length, u64::from(end % length != 0)), "{end}");
    }
}

#[test]
fn a_dump_that_never_ends_is_ended() {
    let mut left = 3 * MAX_ANSWERS;
    let dump = receive(7, |buffer| {
        left -= 1;
        buffer[..16].fill(0);
        Ok(16)
    });
    assert_eq!(dump.unwrap().cut_short, MAX_ANSWERS as u64 + 1);
    assert_eq!(left, 2 * MAX_ANSWERS);
}

#[test]
fn a_kernel_without_the_modules_says_so() {
    let error = |errno: i32| message(libc::NLMSG_ERROR as u16, 0, &errno.to_ne_bytes());
    for answer in [done(-libc::ENOENT), error(-libc::ENOENT)] {
        let error = receive_from(vec![Ok(answer)]).err().unwrap();
        assert!(error.to_string().contains("modprobe tcp_diag"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
    let error = receive_from(vec![Ok(error(i32::MIN))]).err().unwrap();
    assert_eq!(error.raw_os_error(), Some(i32::MAX));
    assert!(receive_from(vec![]).is_err(), "no answer at all");
}

#[test]
fn an_interrupted_dump_is_made_once_more() {
    let dump = |cookies: &[u32], interrupted| {
        let sockets = cookies.iter().map(|&cookie| listed(&diag(V4, [6, 3, 0], 0, cookie))).collect();
        Ok(Dump { sockets, cut_short: 0, interrupted })
    };
    let retried = |mut dumps: Vec<io::Result<Dump>>| {
        let dump = with_retry(|| dumps.remove(0)).unwrap();
        (dump.sockets.len(), dump.cut_short, dumps.len())
    };
    assert_eq!(retried(vec![dump(&[1], false), dump(&[1, 2], false)]), (1, 0, 1));
    assert_eq!(retried(vec![dump(&[1], true), dump(&[1, 2], false)]), (2, 0, 0));
    assert_eq!(retried(vec![dump(&[1], true), dump(&[1, 2], true), dump(&[], false)]), (2, 1, 1));
    assert_eq!(retried(vec![dump(&[1], true), Err(io::ErrorKind::OutOfMemory.into())]), (1, 1, 0));
}

proptest! {
    #[test]
    fn no_bytes_do_harm(
        cut in 0_usize..600,
        flips in prop::collection::vec((0_usize..600, any::<u8>()), 0..8),
    ) {
        let full = [diag(V6, [1, 1, 0], 9, 5), attribute(INET_DIAG_INFO, &info_bytes())].concat();
        let mut bytes = answer(&[plain(1), message(SOCK_DIAG_BY_FAMILY, 0, &full), plain(2), done(0)]);
        for (at, flip) in flips {
            let at = at % bytes.len();
            bytes[at] ^= flip;
        }
        bytes.truncate(cut);
        let mut dump = Dump::default();
        dump.take(&bytes, 7);
        prop_assert!(dump.sockets.len() as u64 + dump.cut_short <= 1 + bytes.len() as u64 / 16);
    }

    #[test]
    fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        Dump::default().take(&bytes, 7);
        let _ = socket(&bytes, 7);
    }
}

/// The columns that `ss` and a listing have in common.
type Row = (State, u32, u32, SocketAddr, SocketAddr);

fn rows_of_ss() -> Vec<Row> {
    let output = Command::new("ss").args(["-Htan"]).output().unwrap();
    let end = |text: &str| {
        let text = text.strip_suffix(":*").map_or_else(|| text.to_owned(), |address| format!("{address}:0"));
        let end: SocketAddr = text.replace("*:", "[::]:").parse().unwrap();
        SocketAddr::new(end.ip().to_canonical(), end.port())
    };
    let row = |line: &str| -> Row {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse().unwrap();
        (words[0].parse().unwrap(), number(words[1]), number(words[2]), end(words[3]), end(words[4]))
    };
    let mut rows: Vec<Row> = String::from_utf8(output.stdout).unwrap().lines().map(row).collect();
    rows.sort_unstable();
    rows
}

fn rows(sockets: &[ListedSocket]) -> Vec<Row> {
    let row = |of: &ListedSocket| (of.state, of.receive_queue, of.send_queue, of.local, of.remote);
    let mut rows: Vec<Row> = sockets.iter().map(row).collect();
    rows.sort_unstable();
    rows
}

fn drop_input(socket: SockRef<'_>) {
    socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
}

/// Lists the sockets as soon as there are as many as given in each of these states.
fn listed_when(states: &[(State, usize)]) -> Vec<ListedSocket> {
    let start = Instant::now();
    loop {
        let (sockets, skipped) = list(7, StateSet::default()).unwrap();
        assert_eq!(skipped, Skipped::default());
        let is_there = |&(state, count)| sockets.iter().filter(|socket| socket.state == state).count() == count;
        if states.iter().all(is_there) {
            return sockets;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{sockets:#?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_kernel_lists_what_ss_lists() {
    in_fresh_netns(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let both = TcpListener::bind("[::]:0").unwrap();
        let connect = |to: &TcpListener, address: &str| {
            let client = TcpStream::connect((address, to.local_addr().unwrap().port())).unwrap();
            (client, to.accept().unwrap().0)
        };
        let v4 = |to| connect(to, "127.0.0.1");
        let unread = v4(&listener);
        (&unread.0).write_all(b"three").unwrap();
        let mapped = v4(&both);
        let v6 = connect(&both, "::1");
        let (half_closed, waits) = v4(&listener);
        drop(half_closed);
        let (first, mut second) = v4(&listener);
        drop(first);
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        drop(second);
        let unanswered = v4(&listener);
        drop_input(SockRef::from(&unanswered.1));
        (&unanswered.0).write_all(b"12").unwrap();
        let half_open = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        half_open.set_nonblocking(true).unwrap();
        drop_input(SockRef::from(&half_open));
        half_open.connect(&listener.local_addr().unwrap().into()).unwrap_err();

        let states = [
            (State::Listen, 2),
            (State::Established, 8),
            (State::FinWait2, 1),
            (State::CloseWait, 1),
            (State::TimeWait, 1),
            (State::SynSent, 1),
            (State::SynRecv, 1),
        ];
        let sockets = listed_when(&states);
        assert_eq!(rows(&sockets), rows_of_ss());

        let one = |state: State| *sockets.iter().find(|socket| socket.state == state).unwrap();
        let with_local = |stream: &TcpStream| {
            let end = stream.local_addr().unwrap();
            let is_it = |socket: &&ListedSocket| {
                socket.local.port() == end.port() && socket.remote.port() == stream.peer_addr().unwrap().port()
            };
            *sockets.iter().find(is_it).unwrap()
        };
        assert_eq!((one(State::FinWait2).kind, one(State::TimeWait).kind), (Kind::TimeWait, Kind::TimeWait));
        assert!(one(State::TimeWait).age(0).is_some_and(|age| age.ns < 10_000_000_000));
        assert_eq!((one(State::SynRecv).kind, one(State::SynRecv).uid), (Kind::Request, None));
        assert_eq!(one(State::SynRecv).timer.map(|timer| timer.kind), Some(TimerKind::Retransmit));
        assert_eq!(with_local(&unread.1).receive_queue, 5);
        assert_eq!(with_local(&unread.1).connection.unwrap().bytes_received, 5);
        let retransmitting = with_local(&unanswered.0);
        assert_eq!(retransmitting.timer.map(|timer| timer.kind), Some(TimerKind::Retransmit));
        assert_eq!(retransmitting.send_queue, 2);
        for stream in [&mapped.1, &v6.0, &v6.1] {
            assert!(with_local(stream).ipv6);
        }
        assert!(with_local(&mapped.1).local.is_ipv4() && !with_local(&mapped.0).ipv6);
        assert!(with_local(&unread.0).connection.unwrap().srtt_us.is_some());
        assert!(sockets.iter().all(|socket| socket.cookie.is_some() && socket.netns == 7));

        let waiting = with_local(&waits);
        let (holders, _) = holders::holders(|inode| inode == waiting.handle).unwrap();
        assert!(holders.iter().any(|holder| holder.fd == waits.as_raw_fd() as u32));

        let narrowed = list(7, [State::SynRecv, State::FinWait2].into_iter().collect()).unwrap().0;
        let kinds: Vec<Kind> = narrowed.iter().map(|socket| socket.kind).collect();
        assert!(kinds.len() == 2 && kinds.contains(&Kind::Request) && kinds.contains(&Kind::TimeWait), "{kinds:?}");
    });
}

/// Sockets that open and close during dumps do no harm, and those that stay are in each dump.
#[test]
fn sockets_that_close_during_the_dump_do_no_harm() {
    in_fresh_netns(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lasting: Vec<_> =
            (0..500).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap())).collect();
        thread::scope(|scope| {
            let churn = scope.spawn(|| {
                for _ in 0..2000 {
                    let client = TcpStream::connect(address).unwrap();
                    drop((listener.accept().unwrap(), client));
                }
            });
            while !churn.is_finished() {
                let (mut sockets, skipped) = list(7, StateSet::default()).unwrap();
                assert_eq!(skipped, Skipped::default());
                dedup(&mut sockets);
                let established = sockets.iter().filter(|socket| socket.state == State::Established).count();
                assert!(established >= 2 * lasting.len(), "{established}");
                let cookies: FxHashSet<_> = sockets.iter().map(|socket| socket.cookie).collect();
                assert_eq!(cookies.len(), sockets.len(), "no socket twice");
            }
        });
    });
}
