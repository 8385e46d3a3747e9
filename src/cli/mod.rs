//! Words ⇄ calls: the command line, its prompts, progress bars and exit codes.

mod args;
mod audit;
mod auto_rewrap;
mod cat;
mod completions;
mod control;
mod cp;
mod daemon;
mod exit;
mod fsck;
mod helper;
mod init;
mod inspect;
mod job;
mod keystore;
mod kms;
mod logging;
mod ls;
mod man;
mod mount;
pub mod mount_opts;
mod open;
mod output;
mod progress;
mod reader;
mod reencrypt;
mod remount;
mod rewrap;
mod rotate;
mod schedule;
mod serve;
mod status;
mod target;
mod terminal;
mod umount;
mod unlock;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Cli, Command};
use exit::Exit;
use unlock::{Environment, KeystoreArgs, Source};

use crate::kms::{Clock, SystemClock};

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
        mount::run_helper(arguments)
    } else {
        match Cli::try_parse() {
            Ok(cli) => run(cli),
            Err(error) => {
                // Nobody is left to tell when the message can't be printed.
                let _ = error.print();
                return exit::of_command_line(&error, std::env::args_os().skip(1)).into();
            }
        }
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !output::is_broken_pipe(&error) {
                eprintln!("envelopefs: {}", output::error_line(&error));
            }
            exit::of(&error).into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit> {
    let keystore = &cli.keystore;
    match cli.command {
        // A mount has a log of its own.
        Command::Mount(_) => {}
        Command::Serve(_) => logging::start(&logging::LogTarget::Stderr)?,
        _ => logging::start(&logging::LogTarget::Command)?,
    }
    match cli.command {
        Command::Init(args) => init::run(&args, keystore),
        Command::Mount(args) => mount::run(args, keystore),
        Command::Umount(args) => umount::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Rotate(args) => rotate::run(&args, keystore),
        Command::Rewrap(args) => rewrap::run(&args, keystore),
        Command::ReEncrypt(args) => reencrypt::run(&args, keystore),
        Command::Fsck(args) => fsck::run(&args, keystore),
        Command::Ls(args) => ls::run(&args, keystore),
        Command::Cat(args) => cat::run(&args, keystore),
        Command::Cp(args) => cp::run(&args, keystore),
        Command::Keystore(command) => run_keystore(command, keystore),
        Command::Kms(command) => {
            kms::run(command, &|| unlock::open(keystore))?;
            Ok(Exit::Ok)
        }
        Command::Serve(args) => serve::run(args, &|| unlock::open(keystore)),
        Command::Audit(command) => run_audit(command, keystore),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

fn run_audit(command: audit::AuditCommand, args: &KeystoreArgs) -> Result<Exit> {
    let access = audit::Access {
        keystore: &unlock::keystore_path(args, &Environment::real())?,
        open: &|| unlock::open(args),
        file_id: &inspect::file_id,
        now: SystemClock.now(),
    };
    audit::run(command, &access)
}

fn run_keystore(command: keystore::KeystoreCommand, args: &KeystoreArgs) -> Result<Exit> {
    let env = Environment::real();
    let dir = unlock::keystore_path(args, &env)?;
    let access = keystore::Access {
        dir: &dir,
        open: &|| unlock::open(args),
        first_protector: &|| {
            let sources = unlock::sources(args, &env);
            unlock::read_new(sources.first().unwrap_or(&Source::Terminal), &dir)
        },
        ask_new_passphrase: &|| unlock::read_new(&Source::Terminal, &dir),
    };
    keystore::run(command, &access)?;
    Ok(Exit::Ok)
}
