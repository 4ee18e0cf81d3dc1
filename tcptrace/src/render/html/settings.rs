//! The TCP settings of the network namespaces, as the listings of the run have read them.

use super::{
    options::{HostSetting, Page},
    writer::Html,
};
use crate::{
    analysis::postmortem::Postmortem,
    model::namespace::NetSettings,
    render::{context::Context, text::words::netns_name},
};

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, page: &Page, context: &Context) {
    html.section("settings", "TCP settings");
    if all.settings.is_empty() && page.settings.is_empty() {
        html.raw("<p>Not recorded.</p></section>\n");
        return;
    }
    // Most namespaces have the settings of the others.
    let mut groups: Vec<(NetSettings, Vec<String>)> = Vec::new();
    for (netns, settings) in &all.settings {
        let name = netns_name(*netns, &context.names);
        match groups.iter_mut().find(|(other, _)| other == settings) {
            Some((_, names)) => names.push(name),
            None => groups.push((*settings, vec![name])),
        }
    }
    for (settings, names) in &groups {
        let caption = match names.as_slice() {
            [one] => format!("Network namespace {one}"),
            several => format!("Network namespaces {}", several.join(", ")),
        };
        html.table(caption, &["Setting", "#Value", "Meaning"]);
        for (name, value, meaning) in rows(settings) {
            html.raw("<tr><th scope=\"row\"><code>").raw(name).raw("</code></th><td class=\"n\">");
            html.text(value.as_deref().unwrap_or("not known")).raw("</td><td>").raw(meaning).raw("</td></tr>\n");
        }
        html.end_table();
    }
    host(html, page);
    html.raw("</section>\n");
}

/// The other settings of the network namespace in which tcptrace ran; those of the table above are not repeated.
fn host(html: &mut Html<'_>, page: &Page) {
    let above = rows(&NetSettings::default()).map(|(name, ..)| name);
    let is_above = |name: &str| above.iter().any(|known| known.strip_prefix("net.ipv4.").unwrap_or(known) == name);
    let rest: Vec<_> =
        page.settings.iter().filter(|setting| setting.harm.is_some() || !is_above(&setting.name)).collect();
    if rest.is_empty() {
        return;
    }
    html.table("Where tcptrace ran, when the recording began", &["Setting", "#Value", "Meaning"]);
    for HostSetting { name, value, meaning, harm } in rest {
        html.raw("<tr><th scope=\"row\"><code>").text(name).raw("</code></th><td class=\"n\">").text(value);
        html.raw("</td><td>").raw(meaning);
        if let Some(harm) = harm {
            html.raw(". <strong>").text(harm).raw("</strong>");
        }
        html.raw("</td></tr>\n");
    }
    html.end_table();
}

type Row = (&'static str, Option<String>, &'static str);

fn rows(settings: &NetSettings) -> [Row; 16] {
    let one = |value: Option<u32>| value.map(|value| value.to_string());
    let seconds = |value: Option<u32>| value.map(|value| format!("{value} s"));
    let ports = settings.local_ports.map(|(first, last)| format!("{first}–{last}"));
    [
        ("net.ipv4.ip_local_port_range", ports, "ports that connect may choose"),
        (
            "net.ipv4.ip_local_reserved_ports",
            settings.reserved_ports.map(|count| count.to_string()),
            "how many of them are excluded",
        ),
        ("net.core.somaxconn", one(settings.somaxconn), "longest accept queue"),
        ("net.ipv4.tcp_max_syn_backlog", one(settings.max_syn_backlog), "half-open connections of a listener"),
        (
            "net.ipv4.tcp_syncookies",
            one(settings.syncookies),
            "SYN cookies: 0 never, 1 when the queue is full, 2 always",
        ),
        ("net.ipv4.tcp_syn_retries", one(settings.syn_retries), "how often a SYN is sent again"),
        ("net.ipv4.tcp_synack_retries", one(settings.synack_retries), "how often a SYN-ACK is sent again"),
        ("net.ipv4.tcp_retries2", one(settings.retries2), "timeouts until an established connection is given up"),
        ("net.ipv4.tcp_orphan_retries", one(settings.orphan_retries), "the same without a process; 0 stands for 8"),
        ("net.ipv4.tcp_fin_timeout", seconds(settings.fin_timeout), "how long FIN_WAIT2 lasts without a process"),
        ("net.ipv4.tcp_max_tw_buckets", one(settings.max_tw_buckets), "most sockets in TIME_WAIT"),
        (
            "net.ipv4.tcp_tw_reuse",
            one(settings.tw_reuse),
            "whether ports in TIME_WAIT are reused: 0 no, 1 yes, 2 on loopback",
        ),
        (
            "net.ipv4.tcp_timestamps",
            one(settings.timestamps),
            "timestamps: without them no port in TIME_WAIT is reused",
        ),
        ("net.ipv4.tcp_keepalive_time", seconds(settings.keepalive_time), "idle time before the first keepalive probe"),
        ("net.ipv4.tcp_keepalive_intvl", seconds(settings.keepalive_interval), "time between probes"),
        ("net.ipv4.tcp_keepalive_probes", one(settings.keepalive_probes), "probes without an answer until the end"),
    ]
}
