//! The hooks, and the programs that are attached to them.
//!
//! To add a tracepoint, add its program in `tcptrace-ebpf/src/probes`, a row to [`OPTIONAL`], and one to the table of hooks in
//! `docs/architecture.md`.

/// A tracepoint that tcptrace can do without.
#[derive(Clone, Copy)]
pub(super) struct Tracepoint {
    pub(super) program: &'static str,
    pub(super) hook: &'static str,
    /// What tcptrace does not know without it.
    pub(super) effect: &'static str,
    /// The program infers owners and is not needed if they do not matter. If the kernel skips it once, no event is lost: a
    /// process that reads once reads again.
    pub(super) is_for_owners: bool,
}

const fn for_events(program: &'static str, hook: &'static str, effect: &'static str) -> Tracepoint {
    Tracepoint { program, hook, effect, is_for_owners: false }
}

const fn for_owners(program: &'static str, hook: &'static str, effect: &'static str) -> Tracepoint {
    Tracepoint { program, hook, effect, is_for_owners: true }
}

/// The tracepoint that tcptrace cannot do without, and its program, or its program in aggregate mode.
pub(super) const REQUIRED: &str = "inet_sock_set_state";
pub(super) const TRANSITION: &str = "transition";
pub(super) const COUNT_TRANSITION: &str = "count_transition";

/// All other tracepoints.
pub(super) const OPTIONAL: &[Tracepoint] = &[
    for_owners("read", "tcp_rcv_space_adjust", "processes that read from a connection are not seen as its owner"),
    for_events("retransmit", "tcp_retransmit_skb", "retransmitted segments are not seen"),
    for_events("retransmit_synack", "tcp_retransmit_synack", "retransmitted SYN-ACKs are not seen"),
    for_events("reset_sent", "tcp_send_reset", "RSTs that this host sends are not seen"),
    for_events("reset_received", "tcp_receive_reset", "RSTs that this host receives are not seen"),
];

/// A function whose return is a hook. Its program depends on its arguments, see [`super::kernel::AcceptShape`].
pub(super) const ACCEPT: &str = "inet_csk_accept";
pub(super) const ACCEPT_EFFECT: &str =
    "a connection belongs to the listener's process until another reads from it or closes it";

/// Iterator programs, and the objects over which they iterate.
pub(super) const SOCKETS: (&str, &str) = ("list_sockets", "tcp");
pub(super) const HOLDERS: (&str, &str) = ("list_holders", "task_file");

/// Names of all tracepoints.
pub(super) fn tracepoints() -> impl Iterator<Item = &'static str> {
    [REQUIRED].into_iter().chain(OPTIONAL.iter().map(|tracepoint| tracepoint.hook))
}

/// Names of the iterators' functions in the kernel's BTF.
pub(super) fn iterator_names() -> Vec<String> {
    [SOCKETS, HOLDERS].iter().map(|(_, target)| format!("bpf_iter_{target}")).collect()
}

/// Names of all functions and types in the kernel's BTF that programs are attached to.
pub(super) fn btf_names() -> Vec<String> {
    let mut names = iterator_names();
    names.push(ACCEPT.to_owned());
    names.extend(tracepoints().map(|name| format!("btf_trace_{name}")));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::OBJECT;

    /// Whether the bytes of the object contain this name, as its sections and symbols do.
    fn has_name(name: &str) -> bool {
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        OBJECT.windows(name.len()).any(|part| part == name)
    }

    #[test]
    fn each_hook_is_documented_and_has_a_program() {
        let page = include_str!("../../../docs/architecture.md");
        for hook in tracepoints().chain([ACCEPT, SOCKETS.1, HOLDERS.1]) {
            assert!(page.contains(&format!("\n| `{hook}` ")), "docs/architecture.md, Hooks: `{hook}` is missing");
        }
        for program in OPTIONAL.iter().map(|row| row.program).chain([TRANSITION, COUNT_TRANSITION]) {
            assert!(has_name(program), "{program} is not in the object; `cargo xtask build-ebpf`");
        }
        for hook in tracepoints() {
            assert!(has_name(&format!("tp_btf/{hook}")), "no program is attached to {hook}; `cargo xtask build-ebpf`");
        }
    }
}
