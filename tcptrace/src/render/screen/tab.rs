//! The tabs.

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Problems, worst first.
    Findings,
    /// Sockets, one a line.
    Sockets,
    /// Processes with sockets.
    Processes,
    /// Local ports.
    Services,
    /// The state machine.
    States,
    /// Events per second.
    Rates,
}

impl Tab {
    /// All, in the order of their keys.
    pub const ALL: [Self; 6] =
        [Self::Findings, Self::Sockets, Self::Processes, Self::Services, Self::States, Self::Rates];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Findings => "Findings",
            Self::Sockets => "Sockets",
            Self::Processes => "Processes",
            Self::Services => "Services",
            Self::States => "States",
            Self::Rates => "Rates",
        }
    }
}
