//! What `tcptrace kill` writes.

use tcptrace::{
    commands::kill::{
        choose::{Reason, Target},
        end::Outcome,
        report::Report,
    },
    findings::{Cause, Kind as Finding},
    model::{
        age::{Age, AgeSource},
        event::Command,
        holders::Holder,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket},
        state::State,
        time::WallOffset,
    },
};

use crate::compare::compare;

/// The names of their files begin so.
pub(crate) const KILLS: &str = "kill_";

fn targets() -> Vec<Target> {
    let mut name = [0; 16];
    name[..4].copy_from_slice(b"we\x1bb");
    let holder = |pid, fd| Holder {
        handle: 77,
        pid,
        ns_pid: pid,
        fd,
        uid: 33,
        cgroup: None,
        start: None,
        command: Command::new(name),
    };
    let target = |cookie, state, netns_name: Option<&str>, age, holders, reason| {
        let ends = (([10, 1, 0, 1], 80).into(), ([10, 1, 0, 2], 40200).into());
        let listed = ListedSocket::new(Kind::Full, state, 4_026_531_840, ends.0, ends.1);
        let socket = ListedSocket { cookie: Some(cookie), handle: 77, ..listed };
        Target { socket, netns_name: netns_name.map(str::to_owned), age, least_age: None, holders, reason }
    };
    let age = |ns, source| Some(Age { ns, source });
    let leak = Reason::Finding(Finding::CloseWaitLeak, Cause::NeverClosed);
    vec![
        target(5_283_080, State::CloseWait, None, age(60_750_086_000, AgeSource::Observed), vec![holder(800, 4)], leak),
        target(
            5_283_081,
            State::Established,
            Some("blue"),
            age(5_000_000_000, AgeSource::LowerBound),
            vec![holder(800, 5), holder(800, 6), holder(801, 5)],
            Reason::Filter,
        ),
        target(5_283_082, State::SynSent, None, None, Vec::new(), Reason::Cookie),
        target(5_283_083, State::CloseWait, None, age(1, AgeSource::LowerBound), vec![holder(802, 9)], Reason::Filter),
    ]
}

fn report<T>(outcomes: &[Outcome], write: impl FnOnce(&Report<'_>) -> T) -> T {
    let (targets, snapshot) = (targets(), Snapshot { ended_ns: 7_200_000_000_000, ..Snapshot::default() });
    let is_dry_run = outcomes[0] == Outcome::WouldEnd;
    let wall = WallOffset(1_772_597_167_250_000_000);
    let netns = true;
    write(&Report { targets: &targets, outcomes, snapshot: &snapshot, wall, is_dry_run, netns })
}

fn outcomes() -> Vec<Outcome> {
    let changed = Outcome::Changed("it is in CLOSE_WAIT now".to_owned());
    let failed = Outcome::Failed("CAP_NET_ADMIN is missing: run it with sudo".to_owned());
    vec![Outcome::Ended, changed, Outcome::Gone, failed]
}

/// All kinds of its records.
pub(crate) fn json() -> String {
    report(&outcomes(), |report| String::from_utf8(report.json().to_vec()).unwrap())
}

#[test]
fn results_in_each_form() {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let dry = vec![Outcome::WouldEnd; 4];
    let files = [
        ("kill_done.txt", report(&outcomes(), |report| text(&report.text(false, None)))),
        ("kill_dry.txt", report(&dry, |report| text(&report.text(false, None)))),
        ("kill_done.json", json()),
        ("kill_done.csv", report(&outcomes(), |report| text(&report.csv()))),
    ];
    compare(&files.map(|(name, text)| (name.to_owned(), text)), |name| name.starts_with(KILLS));
}
