//! Words ⇄ calls: the command line, its prompts, progress bars and exit codes.

mod args;
mod completions;
mod daemon;
mod exit;
mod helper;
mod logging;
mod man;
pub mod mount_opts;
mod mounts;
mod output;
mod terminal;
mod unlock;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Cli, Command};
use exit::Exit;

/// Runs the program with the arguments of this process.
///
/// Under the name of a mount helper it takes the arguments that mount(8) gives.
pub fn main() -> ExitCode {
    // Before anything secret is in memory. Where the kernel refuses, the keys are still locked.
    if let Err(error) = crate::secret::harden_process() {
        eprintln!("envelopefs: warning: this process can be dumped: {error}");
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let result = if helper::is_helper(&name) {
        run_helper(arguments)
    } else {
        match Cli::try_parse() {
            Ok(cli) => run(cli),
            Err(error) => {
                // Nobody is left to tell when the message can't be printed.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        }
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !output::is_broken_pipe(&error) {
                eprintln!("envelopefs: {error:#}");
            }
            exit::of(&error).into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit> {
    match cli.command {
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        _ => Err(exit::usage("x")),
    }
}

fn run_helper(arguments: impl Iterator<Item = OsString>) -> Result<Exit> {
    let args = helper::HelperArgs::parse(arguments)?;
    Ok(Exit::Ok)
}
