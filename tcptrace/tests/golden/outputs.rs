//! What is printed: each story in each form, and all of them together in each style.

use tcptrace::{
    model::{decode::split, state::State},
    pipeline::{route::Renderer, settings::SessionSettings},
    render::text::{TextOptions, TimeStyle},
};
use tcptrace_common::counters::Counters;

use crate::{
    aggregate::COUNTED,
    compare::compare,
    doctor::DOCTOR,
    findings::FOUND,
    kills::KILLS,
    listings::LISTED,
    rates::RATES,
    recordings::RECORDED,
    sockets::LISTING,
    stories,
    support::{
        records::Stream,
        replay::{csv, json, output, plain, replay, session, settings, text, zone},
    },
};

/// Files of styles and summaries, unlike those of stories, begin so.
const STYLE: &str = "all_";

/// Makes the renderer of a form of output.
type Form = fn() -> Renderer;

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

#[test]
fn each_story_in_each_form() {
    let forms: [(&str, Form); 3] = [("txt", || text(plain())), ("json", json), ("csv", csv)];
    let mut files = Vec::new();
    for (name, story) in stories::ALL {
        let mut stream = Stream::new();
        story(&mut stream);
        for (extension, renderer) in forms {
            files.push((format!("{name}.{extension}"), replay(&stream, settings(), renderer())));
        }
    }
    let is_other = |name: &str| {
        [STYLE, COUNTED, LISTING, LISTED, RATES, DOCTOR, FOUND, KILLS, "story_", RECORDED]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    compare(&files, |name| has_extension(name, &["txt", "json", "csv"]) && !is_other(name));
}

#[test]
fn all_stories_in_each_style_of_text() {
    let with_time = |time: TimeStyle| TextOptions { time, ..plain() };
    let styles = [
        ("utc", plain()),
        ("zone", with_time(TimeStyle::Wall(zone()))),
        ("mono", with_time(TimeStyle::Monotonic)),
        ("delta", with_time(TimeStyle::Delta)),
        ("pid", TextOptions { owner_columns: true, ..plain() }),
        ("color", TextOptions { color: true, ..plain() }),
        ("color_pid", TextOptions { color: true, owner_columns: true, ..plain() }),
    ];
    let stream = all_stories();
    let files: Vec<_> = styles
        .into_iter()
        .map(|(name, options)| (format!("{STYLE}{name}.txt"), replay(&stream, settings(), text(options))))
        .collect();
    compare(&files, |name| name.starts_with(STYLE) && !name.contains("summary") && !name.contains("states"));
}

fn all_stories() -> Stream {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    stream
}

/// Three intervals (with events, with other ones, with none), then the end; one record is damaged, and the kernel lost
/// some.
fn summaries(settings: SessionSettings, renderer: Renderer) -> String {
    let stream = all_stories();
    let records: Vec<_> = split(&stream.bytes).map(Result::unwrap).collect();
    let mut session = session(settings, renderer);
    let (first, second) = records.split_at(records.len() / 2);
    for record in first {
        session.ingest(record);
    }
    session.end_interval(stream.now_ns / 2);
    for record in second {
        session.ingest(record);
    }
    session.ingest(&records[0][..40]);
    let by_cpu = [
        Counters { sent: 60, ring_full: 2, filtered: 7, ..Counters::default() },
        Counters { sent: 40, ring_full: 1, table_full: 3, listeners_full: 4, unreadable: 5, ..Counters::default() },
    ];
    session.losses.set_kernel(&by_cpu, 6);
    session.end_interval(stream.now_ns);
    session.end_interval(stream.now_ns + 10_000_000_000);
    session.finish(stream.now_ns + 12_500_000_000);
    session.end(stream.now_ns + 12_500_000_000, "duration", &[]);
    output(&mut session)
}

#[test]
fn summaries_of_intervals_and_of_the_run() {
    let only_summaries = || SessionSettings { events: false, ..settings() };
    let with_pid = || text(TextOptions { owner_columns: true, ..plain() });
    let by_process = || SessionSettings { by_process: true, ..only_summaries() };
    let in_close_wait =
        || SessionSettings { states: [State::CloseWait].into_iter().collect(), by_process: true, ..settings() };
    let in_closing = || SessionSettings { states: [State::Closing].into_iter().collect(), ..settings() };
    let files = [
        ("summary.txt", summaries(only_summaries(), text(plain()))),
        ("summary_color.txt", summaries(only_summaries(), text(TextOptions { color: true, ..plain() }))),
        ("summary_pid.txt", summaries(by_process(), with_pid())),
        ("summary.json", summaries(only_summaries(), json())),
        ("summary_pid.json", summaries(by_process(), json())),
        ("summary_table_of_2.txt", summaries(SessionSettings { max_sockets: 2, ..only_summaries() }, text(plain()))),
        ("states_close_wait.txt", replay(&all_stories(), in_close_wait(), with_pid())),
        ("states_closing.txt", replay(&all_stories(), in_closing(), with_pid())),
    ];
    let files = files.map(|(name, text)| (format!("{STYLE}{name}"), text));
    compare(&files, |name| name.starts_with(STYLE) && (name.contains("summary") || name.contains("states")));
}

#[test]
fn nothing_at_all_is_still_a_run() {
    let nothing = Stream::new();
    assert_eq!(replay(&nothing, settings(), csv()).lines().count(), 1, "the names of the columns");
    let json: Vec<serde_json::Value> =
        replay(&nothing, settings(), json()).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.iter().map(|record| &record["event"]).collect::<Vec<_>>(), ["summary", "end"]);
    assert_eq!(replay(&nothing, settings(), text(plain())).lines().filter(|line| !line.is_empty()).count(), 1);
}

#[test]
fn no_name_of_a_process_steers_a_terminal() {
    let stream = all_stories();
    let printed = replay(&stream, settings(), text(plain()));
    assert!(printed.contains("?[2J????end"), "the story is told");
    for line in printed.lines().chain(replay(&stream, settings(), json()).lines()) {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn count_ends_the_output_after_so_many_events() {
    let stream = all_stories();
    let first = |count, renderer| replay(&stream, SessionSettings { count: Some(count), ..settings() }, renderer);
    assert_eq!(first(3, csv()).lines().count(), 1 + 3);
    let events = |printed: &str| {
        let kinds = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        kinds.filter(|record| record["event"] != "summary" && record["event"] != "end").count()
    };
    assert_eq!(events(&first(3, json())), 3);
    // What is counted is what was printed.
    for count in [1, 3] {
        let json = first(count, json());
        let records: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let transitions = records.iter().filter(|record| record["event"] == "transition").count();
        let summary = records.iter().find(|record| record["event"] == "summary").unwrap();
        assert_eq!(summary["events"]["transitions"], transitions, "{summary}");
        assert_eq!(records.last().unwrap()["received"], count);
        assert!(first(count, text(plain())).contains(&format!("{transitions} transitions")));
    }
    assert!(events(&first(1000, json())) > 50);
}
