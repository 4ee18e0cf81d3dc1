//! Who is in the fleet, who calls whom, and what goes wrong there.

/// A service. Each host runs one of them.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Share of the hosts.
    pub(crate) share: u32,
    /// Do callers use IPv6?
    pub(crate) ipv6: bool,
    /// Hosts in a thousand whose process forgets to close some connections; two at least where this is not 0.
    pub(crate) leaky_hosts: usize,
}

const fn service(name: &'static str, port: u16, share: u32, ipv6: bool, leaky_hosts: usize) -> Service {
    Service { name, port, share, ipv6, leaky_hosts }
}

pub(crate) const SERVICES: [Service; 10] = [
    service("edge", 443, 10, false, 0),
    service("api", 8080, 30, false, 40),
    service("auth", 8081, 8, false, 0),
    service("search", 9200, 12, true, 60),
    service("cart", 8082, 10, false, 0),
    service("billing", 8090, 6, false, 100),
    service("cache", 6379, 8, false, 0),
    service("postgres", 5432, 10, false, 0),
    service("queue", 5672, 4, true, 0),
    service("mailer", 2525, 2, false, 0),
];

/// The end of a call that is outside the fleet.
pub(crate) const OUTSIDE: &str = "";

/// A kind of call.
pub(crate) struct Call {
    pub(crate) client: &'static str,
    pub(crate) server: &'static str,
    pub(crate) weight: u64,
    /// Time of the handshake: median in µs, and deviation of its logarithm.
    pub(crate) median_us: f64,
    pub(crate) sigma: f64,
    /// Of a thousand: those that the server resets, closing without having read all; that the client resets, with
    /// SO_LINGER of 0; and that nobody listens for.
    pub(crate) server_resets: u64,
    pub(crate) client_resets: u64,
    pub(crate) refused: u64,
}

const fn call(client: &'static str, server: &'static str, weight: u64, median_us: f64, sigma: f64) -> Call {
    Call { client, server, weight, median_us, sigma, server_resets: 0, client_resets: 0, refused: 0 }
}

pub(crate) const CALLS: [Call; 14] = [
    Call { server_resets: 2, ..call(OUTSIDE, "edge", 20, 24_000.0, 0.8) },
    call("edge", "api", 25, 180.0, 0.35),
    call("edge", "auth", 8, 210.0, 0.3),
    Call { client_resets: 12, ..call("api", "cache", 14, 120.0, 0.25) },
    call("api", "postgres", 10, 340.0, 0.5),
    Call { server_resets: 9, ..call("api", "search", 6, 650.0, 0.6) },
    call("api", "cart", 6, 190.0, 0.4),
    Call { refused: 15, ..call("cart", "billing", 3, 260.0, 0.4) },
    call("auth", "cache", 3, 125.0, 0.25),
    call("auth", "postgres", 2, 360.0, 0.5),
    Call { server_resets: 25, ..call("billing", "postgres", 2, 900.0, 0.9) },
    call("billing", OUTSIDE, 1, 38_000.0, 0.7),
    call("cart", "queue", 2, 240.0, 0.3),
    Call { refused: 6, ..call("queue", "mailer", 2, 300.0, 0.4) },
];
