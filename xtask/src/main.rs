//! The commands that build, test, check and show tcptrace: `cargo xtask COMMAND`.
//!
//! A laptop and CI call the same commands, so what passes on one passes on the other. This file is only their list;
//! each has a module of its own.

mod advisories;
mod apt;
mod arch;
mod bench;
mod bpf_object;
mod bpf_pin;
mod bpf_setup;
mod bpf_toolchain;
mod build_ebpf;
mod check;
mod demo;
mod demo_actor;
mod dist;
#[cfg(test)]
mod documented;
mod fleet;
mod fuzz;
mod instructions;
mod interop;
mod kernels;
mod pictures;
mod python;
mod run;
mod scenario;
mod setup;
mod system_tree;
mod test;
mod test_totals;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands that build, test, check and show tcptrace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build tcptrace and run it, through sudo where that is needed
    Run(run::Args),
    /// Install what tests need and run all of them: unit, golden, command line and live
    Test(test::Args),
    /// Compile the BPF object of the repository from its sources, or check that it still matches them
    BuildEbpf(build_ebpf::Args),
    /// Check formatting, lints, documentation, licences, and the BPF object against its sources
    Check(check::Args),
    /// Cause real TCP trouble in a network namespace and trace it
    Demo(demo::Args),
    /// Play one scenario of the tests, and show each step and what tcptrace finds
    Scenario(scenario::Args),
    /// Trace real programs, healthy and broken, and report precision and recall of the findings
    Interop(interop::Args),
    /// Measure what tcptrace, tcpstates, bpftrace and ss cost, and write docs/performance.md
    Bench(bench::Args),
    /// Count the instructions that the pure core executes per event, and compare with the recorded counts
    Instructions(instructions::Args),
    /// Generate the records of a fleet, and time the ClickHouse queries over them
    Fleet(fleet::Args),
    /// Make the packages of a release: static binaries, .deb, .rpm, an image, checksums
    Dist(dist::Args),
    /// Run the fuzz targets under libFuzzer, and print what each run came to
    Fuzz(fuzz::Args),
    /// Boot other kernels in virtual machines, and run the live tests there with the static binary
    Kernels(kernels::Args),
    /// Make the pictures and sample outputs of the documentation from a real run
    Pictures(pictures::Args),
    /// Install what tests (--tests), the BPF build (--bpf) and `check` (--deny) need
    Setup(setup::Args),
    /// One process of the demo
    #[command(hide = true)]
    DemoActor(demo_actor::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Scenario(args) => scenario::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Interop(args) => interop::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Pictures(args) => pictures::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::DemoActor(args) => demo_actor::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
