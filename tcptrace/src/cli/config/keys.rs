//! The keys of the config file with their types; the variables `TCPTRACE_*` have the same names.

use std::{mem, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::value::{
    aggregate, choice, choices, count, flag, list, number, one, pairs, paths, pid, record_size, ring_size, severity,
    time,
};
use crate::{
    cli::{
        args::{
            AggregateBy, MetricsBy, Time, TraceArgs,
            values::{Color, Format, LogLevel},
        },
        findings::{FindingArgs, FindingsMode, NamedValue, StuckAfter},
        given::{Given, Setting},
        parse::{PidList, PollTime, Where},
    },
    findings::{Expected, Kind, Severity},
    model::{
        filter::{Place, PortRange, Term, Uid},
        netns_choice::NetnsChoice,
        state::State,
    },
    render::text::EventColumn,
};

/// The last field of a path, e.g. `port` of `filter.port`: clap's id of the flag.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path).trim()
}

/// A name without the mark of Rust's keywords.
const fn raw(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Declares each key once: `name: type, "reader" => field`. The reader is a function of `config/value.rs`; the field is a
/// path in [`TraceArgs`].
macro_rules! keys {
    ($($key:ident: $value:ty, $read:literal => $($place:ident).+;)*) => {
        /// The values that one layer sets.
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub(super) struct Keys {
            $(#[serde(deserialize_with = $read)] $key: Option<$value>,)*
            // These lists are joined with those of other layers.
            #[serde(deserialize_with = "pairs")] stuck_after: Option<Vec<StuckAfter>>,
            #[serde(deserialize_with = "pairs")] threshold: Option<Vec<NamedValue>>,
            #[serde(deserialize_with = "list")] ignore: Option<Vec<Kind>>,
            #[serde(deserialize_with = "list")] expect_listener: Option<Vec<Expected>>,
            /// Only `tcptrace daemon` has this flag.
            #[serde(deserialize_with = "choice")] pub(super) log_level: Option<LogLevel>,
        }

        impl Keys {
            /// The names of all fields.
            pub(super) const NAMES: &[&str] =
                &["stuck_after", "threshold", "ignore", "expect_listener", "log_level", $(raw(stringify!($key))),*];
            /// The fields in [`TraceArgs`] of the keys that replace values of lower layers.
            const PLACES: &[&str] = &[$(stringify!($($place).+)),*];

            /// Sets the values that no higher layer has set. `settings` gives what this layer says about a flag.
            pub(super) fn apply(mut self, args: &mut TraceArgs, settings: impl Fn(&str) -> Vec<Setting>) {
                if args.given.get("ipv4").or(args.given.get("ipv6")).is_some() {
                    (self.ipv4, self.ipv6) = (None, None); // a higher layer has made this choice
                }
                $(if let Some(value) = self.$key.take()
                    && args.given.add(last(stringify!($($place).+)), || settings(raw(stringify!($key))))
                {
                    args.$($place).+ = value.into();
                })*
                self.add_findings(&mut args.findings, &mut args.given, settings);
            }
        }
    };
}

keys! {
    state: Vec<Term<State>>, "list" => filter.state;
    port: Vec<Term<PortRange>>, "list" => filter.port;
    local_port: Vec<Term<PortRange>>, "list" => filter.local_port;
    remote_port: Vec<Term<PortRange>>, "list" => filter.remote_port;
    address: Vec<Term<Place>>, "list" => filter.address;
    local_address: Vec<Term<Place>>, "list" => filter.local_address;
    remote_address: Vec<Term<Place>>, "list" => filter.remote_address;
    ipv4: bool, "flag" => filter.ipv4;
    ipv6: bool, "flag" => filter.ipv6;
    pid: Option<Option<PidList>>, "pid" => filter.pid;
    comm: Vec<Term<String>>, "list" => filter.comm;
    exe: Vec<Term<String>>, "list" => filter.exe;
    uid: Vec<Term<Uid>>, "list" => filter.uid;
    user: Vec<Term<String>>, "list" => filter.user;
    unit: Vec<Term<String>>, "list" => filter.unit;
    container: Vec<Term<String>>, "list" => filter.container;
    pod: Vec<Term<String>>, "list" => filter.pod;
    r#where: Where, "one" => filter.expression;
    cgroup: Vec<PathBuf>, "paths" => filter.cgroup;
    netns: NetnsChoice, "one" => filter.netns;
    no_iter: bool, "flag" => listing.no_iter;
    no_sandbox: bool, "flag" => listing.no_sandbox;
    run_as: String, "one" => run_as;
    format: Format, "choice" => output.format;
    time: Time, "choice" => output.time;
    columns: Vec<EventColumn>, "list" => columns;
    quiet: bool, "flag" => output.quiet;
    color: Color, "choice" => output.color;
    findings: FindingsMode, "choice" => findings_mode;
    summary: bool, "flag" => summary;
    aggregate: Option<AggregateBy>, "aggregate" => aggregate;
    aggregate_keys: u32, "number::<_, 65_536>" => aggregate_keys;
    metrics_by: Vec<MetricsBy>, "choices" => metrics_by;
    metrics_series: u32, "number::<_, 100_000>" => metrics_series;
    metrics_every: Duration, "time" => metrics_every;
    interval: Duration, "time" => interval;
    duration: Duration, "time" => duration;
    count: u64, "count" => count;
    latency: Duration, "time" => latency;
    poll: PollTime, "one" => poll;
    ring_size: u64, "ring_size" => ring_size;
    shared_ring: bool, "flag" => shared_ring;
    max_sockets: u32, "number::<_, 16_777_216>" => max_sockets;
    kernel_sockets: u32, "number::<_, 16_777_216>" => kernel_sockets;
    ready_file: PathBuf, "one" => ready_file;
    kernel_addresses: bool, "flag" => kernel_addresses;
    no_args: bool, "flag" => no_args;
    resolve: bool, "flag" => resolve;
    bpf_log: LogLevel, "choice" => bpf_log;
    record: PathBuf, "one" => recording.record;
    record_keep: Duration, "time" => recording.record_keep;
    record_max_size: u64, "record_size" => recording.record_max_size;
    record_on_finding: Severity, "severity" => recording.record_on_finding;
}

impl Keys {
    /// The ids of all flags of tracing.
    pub(super) fn ids() -> impl Iterator<Item = &'static str> {
        let adding = ["stuck_after", "threshold", "ignore", "expect_listener"];
        Self::PLACES.iter().map(|place| last(place)).chain(adding).chain(["output"])
    }

    /// Adds the settings of findings. They are put before those of higher layers, because the last one wins.
    pub(super) fn add_findings(
        self,
        args: &mut FindingArgs,
        given: &mut Given,
        settings: impl Fn(&str) -> Vec<Setting>,
    ) {
        fn add<T>(to: &mut Vec<T>, of_layer: Option<Vec<T>>) -> bool {
            let is_given = of_layer.is_some();
            let above = mem::replace(to, of_layer.unwrap_or_default());
            to.extend(above);
            is_given
        }
        for (id, is_given) in [
            ("stuck_after", add(&mut args.stuck_after, self.stuck_after)),
            ("threshold", add(&mut args.threshold, self.threshold)),
            ("ignore", add(&mut args.ignore, self.ignore)),
            ("expect_listener", add(&mut args.expect_listener, self.expect_listener)),
        ] {
            if is_given {
                given.join(id, settings(id));
            }
        }
    }
}
