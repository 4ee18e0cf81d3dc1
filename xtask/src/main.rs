//! The commands that build, test, check and show tcptrace: `cargo xtask COMMAND`.
//!
//! A laptop and CI call the same commands, so what passes on one passes on the other. This file is only their list;
//! each has a module of its own.

mod bench;
mod bpf_object;
mod bpf_pin;
mod bpf_toolchain;
mod build_ebpf;
mod cargo;
mod check;
mod demo;
mod demo_actor;
#[cfg(test)]
mod documented;
mod fleet;
mod instructions;
mod interop;
mod netns;
mod peers;
mod pictures;
mod privilege;
mod programs;
mod run;
mod scenario;
mod setup;
mod socket_option;
mod system_tree;
mod test;
mod test_totals;
mod workspace;

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
    /// Compile the BPF object of the repository from its sources, or check that it is what they give
    BuildEbpf(build_ebpf::Args),
    /// Formatting, lints, documentation, licences, and the BPF object against its sources
    Check(check::Args),
    /// Make real TCP trouble in a network namespace and trace it
    Demo(demo::Args),
    /// Play one scenario of the tests, and show all that it does and what tcptrace finds
    Scenario(scenario::Args),
    /// Put tcptrace in front of real programs, healthy and broken, and report its precision and recall
    Interop(interop::Args),
    /// Measure what tcptrace costs, beside tcpstates, bpftrace and ss, and write docs/performance.md
    Bench(bench::Args),
    /// Count the instructions that the pure core spends on an event, against what is recorded
    Instructions(instructions::Args),
    /// Make the records of a fleet, and measure ClickHouse's queries of them
    Fleet(fleet::Args),
    /// Make the pictures and sample outputs of the documentation from a real run
    Pictures(pictures::Args),
    /// Install what tests (--tests) and the BPF build (--bpf) need
    Setup(setup::Args),
    /// One process of the demo
    #[command(hide = true)]
    DemoActor(demo_actor::Args),
    /// One process that holds sockets for the benchmark
    #[command(hide = true)]
    BenchHolder(bench::holder::Args),
    /// One process that makes load for the benchmark
    #[command(hide = true)]
    BenchWorker(bench::worker::Args),
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
        Command::Pictures(args) => pictures::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::DemoActor(args) => demo_actor::run(&args),
        Command::BenchHolder(args) => bench::holder::run(&args),
        Command::BenchWorker(args) => bench::worker::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
