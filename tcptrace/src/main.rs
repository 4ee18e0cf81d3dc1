//! The program `tcptrace`: see [`tcptrace::commands::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tcptrace::commands::main()
}
