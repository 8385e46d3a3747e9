//! `completions`: the shell completions, made from the argument table.

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::exit::Exit;
use super::output::STDOUT;

/// Prints the completions.
pub fn run(args: &CompletionsArgs) -> Result<Exit> {
    // Into memory first: the generator panics when its writer fails.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "envelopefs", &mut text);
    std::io::Write::write_all(&mut std::io::stdout(), &text).context(STDOUT)?;
    Ok(Exit::Ok)
}
