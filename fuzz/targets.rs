//! The fuzz targets: functions that take any bytes, as the kernel, `/proc`, a user or a file may hand them over. None may
//! panic, hang or take much memory. `cargo xtask fuzz` runs them under libFuzzer; the property tests run them on their corpus
//! and on mutations of it.

#[path = "run.rs"]
mod run;

use tcptrace::{
    analysis::rates::meter::Reading,
    bpf::btf::KernelBtf,
    cli::config,
    listing::{inet_diag, iter_entry},
    model::filter::Expr,
    outputs::kinds,
    sys::{mountinfo, processes},
};

/// A target: its name, and its function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets, in the order of this file.
#[allow(dead_code, reason = "each target of libFuzzer uses one function")]
pub(crate) const TARGETS: [Target; 8] = [
    ("recording", recording),
    ("records", records),
    ("listing", listing),
    ("diag", diag),
    ("btf", btf),
    ("proc", proc),
    ("filter", filter),
    ("config", config),
];

/// A recording, see `run.rs`.
pub(crate) fn recording(bytes: &[u8]) {
    run::recording(bytes);
}

/// Records of the rings, through table, findings, summary, metrics and all renderers.
pub(crate) fn records(bytes: &[u8]) {
    run::records(bytes);
}

/// What the iterators write: sockets and holders.
pub(crate) fn listing(bytes: &[u8]) {
    let mut sockets = Vec::new();
    let _ = iter_entry::sockets(bytes, 4_000_000, &mut sockets);
    iter_entry::Held::default().add(bytes);
}

/// Answers of sock_diag about a socket.
pub(crate) fn diag(bytes: &[u8]) {
    let _ = inet_diag::socket(bytes, 1);
}

/// The kernel's BTF.
pub(crate) fn btf(bytes: &[u8]) {
    let Ok(btf) = KernelBtf::parse(bytes) else { return };
    let _ = btf.offset_of("sock", "__sk_common.skc_state");
    let _ = btf.bit_of("sock_common", "skc_reuseport");
    let _ = btf.function_parameters("inet_csk_accept");
    let _ = btf.tracepoint_arguments("tcp_send_reset");
    let _ = btf.ids_of(&["sock", "tcp_sock"]);
    let _ = btf.enum_values("sk_rst_reason");
}

/// Texts of `/proc`.
pub(crate) fn proc(bytes: &[u8]) {
    let _ = processes::Stat::parse(bytes);
    mountinfo::mounts(bytes).for_each(drop);
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = processes::parse_status(text);
        Reading::default().take_in(text);
    }
}

/// Filter expressions. One that is understood is understood again as it is printed.
pub(crate) fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let findings = ["close-wait-leak", "connect-refused"];
    let _ = Expr::parse(text, &findings);
    let _ = Expr::parse_words(text, &findings);
}

/// Config files, and outputs as `--output` takes them.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = config::check_text(text);
    let _ = kinds::parse(text);
}
