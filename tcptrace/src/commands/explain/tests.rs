//! Whether all that tcptrace names is explained.

use std::collections::BTreeSet;

use super::{
    find,
    pages::{Kind, topics},
    plain,
};
use crate::{
    findings::{self, Cause},
    model::{close_reason::CloseReason, errno, state::State},
};

/// The one topic of this kind with this name.
fn only(kind: Kind, name: &str) -> super::Topic {
    let topics = topics();
    let found = find(&topics, name).unwrap_or_else(|| panic!("{name} is not explained"));
    let mut found = found.into_iter().filter(|topic| topic.kind == kind);
    let topic = found.next().unwrap_or_else(|| panic!("{name} is explained, but not as a {}", kind.name()));
    assert!(found.next().is_none(), "{name} is explained twice");
    topic
}

#[test]
fn all_findings_states_errors_and_causes_are_explained() {
    for kind in findings::Kind::ALL {
        let topic = only(Kind::Finding, kind.id());
        assert!(topic.text.contains("**What to do.**"), "{}", kind.id());
        let command = kind.docs().strip_prefix("tcptrace explain ");
        assert_eq!(command, Some(topic.name.as_str()), "the command that records name prints it");
    }
    let states = State::ALL.map(State::name).into_iter().chain(["NEW_SYN_RECV", "orphaned FIN_WAIT2"]);
    for state in states {
        let text = only(Kind::State, state).text;
        for part in ["What it means.", "How it begins and ends.", "How long.", "Timers and sysctls.", "Many of them."] {
            assert_eq!(text.matches(&format!("**{part}** ")).count(), 1, "{part} of {state}");
        }
        assert!(text.contains("RFC") && text.contains("()`"), "{state} names no RFC, or no function of the kernel");
    }
    for number in 1..200 {
        let Some(name) = errno::name(number) else { continue };
        let text = only(Kind::Errno, name).text;
        assert_eq!(text, only(Kind::Errno, &number.to_string()).text);
        assert!(text.starts_with(&format!("**What it means.** Number {number}")), "{name}: {text}");
        for part in ["How it comes.", "What to look at."] {
            assert_eq!(text.matches(&format!("**{part}** ")).count(), 1, "{part} of {name}");
        }
    }
    for cause in Cause::ALL {
        assert!(only(Kind::Cause, cause.name()).text.contains(cause.remedy()), "{}", cause.name());
    }
    for ending in [CloseReason::Normal, CloseReason::Refused, CloseReason::ResetAfterClose, CloseReason::Unknown] {
        only(Kind::Ending, ending.name());
    }
}

#[test]
fn sections_of_errors_have_their_numbers() {
    for topic in topics().iter().filter(|topic| topic.kind == Kind::Errno) {
        let (name, number) = errno::named(&topic.name).unwrap_or_else(|| panic!("{}", topic.name));
        assert_eq!(name, topic.name);
        assert!(topic.text.contains(&format!("Number {number}")), "{name}");
    }
}

#[test]
fn spellings_of_states_and_numbers_of_errors_are_known() {
    let topics = topics();
    for (word, want) in [
        ("close-wait", "CLOSE_WAIT"),
        ("fin-wait-2", "FIN_WAIT2"),
        ("estab", "ESTABLISHED"),
        ("orphaned-fin-wait2", "orphaned FIN_WAIT2"),
        ("new_syn_recv", "NEW_SYN_RECV"),
        ("etimedout", "ETIMEDOUT"),
        ("EWOULDBLOCK", "EAGAIN"),
        ("2", "ENOENT"),
        ("Close-Wait-Leak", "close-wait-leak"),
        ("config file", "The config file"),
    ] {
        let found = find(&topics, word).unwrap_or_else(|| panic!("{word}"));
        assert_eq!(found[0].name, want);
    }
    for word in ["", "close-wait-leek", "0", "-110", "999"] {
        assert!(find(&topics, word).is_none(), "{word}");
    }
}

#[test]
fn every_topic_has_a_name_a_text_and_a_summary() {
    let topics = topics();
    assert!(topics.len() > 300, "only {}", topics.len());
    let names: BTreeSet<_> = topics.iter().map(|topic| plain(&topic.name)).collect();
    assert!(!names.contains(""));
    for topic in &topics {
        assert!(!topic.text.trim().is_empty() && !topic.summary().contains('\n'), "{}", topic.name);
    }
    let summary = |name: &str| find(&topics, name).unwrap()[0].summary();
    assert_eq!(summary("ECONNREFUSED"), "Nobody takes connections at that address and port, and the other end said so");
    assert_eq!(summary("close-wait-leak"), "The peer closed, and this process never calls close()");
}
