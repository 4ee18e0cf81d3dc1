//! What the commands of the repository share: calling cargo and other programs, as root where that is needed, and
//! network namespaces to play in. The benchmark (`bench`) uses it too.

pub mod builds;
pub mod cargo;
pub mod netns;
pub mod privilege;
pub mod programs;
pub mod socket_option;
pub mod workspace;
