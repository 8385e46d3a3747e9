//! The man pages, made from the argument table: envelopefs(1) and one page for each subcommand.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::{Cli, ManArgs};
use super::exit::{self, Exit};
use super::{logging, mount_opts, serve, unlock};

/// Writes the pages into a directory.
pub fn run(args: &ManArgs) -> Result<Exit> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("making the directory {}", args.dir.display()))?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    write_pages(&root, None, &args.dir)?;
    Ok(Exit::Ok)
}

fn write_pages(command: &Command, parent: Option<&str>, dir: &Path) -> Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let shown: Vec<&Command> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .collect();
    for subcommand in &shown {
        write_pages(subcommand, Some(&name), dir)?;
    }
    let children = shown.iter().filter_map(|sub| sub.get_display_name());
    let related: Vec<&str> = parent.into_iter().chain(children).collect();
    let mut text = Vec::new();
    page(command, &name, &related, &mut text).context("rendering a man page")?;
    let text = without_preambles(&text);
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Each part that the generator renders begins with the same two lines; one pair is enough.
fn without_preambles(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let is_preamble =
        |line: &&str| line.starts_with(".ie \\n(.g .ds Aq") || line.starts_with(".el .ds Aq");
    let mut lines: Vec<&str> = text.lines().filter(is_preamble).take(2).collect();
    lines.extend(text.lines().filter(|line| !is_preamble(line)));
    lines.join("\n") + "\n"
}

fn page(command: &Command, name: &str, related: &[&str], out: &mut Vec<u8>) -> io::Result<()> {
    // The texts after the help have sections of their own here.
    let man = Man::new(command.clone());
    let title = name.to_uppercase();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        ".TH \"{title}\" 1 \"\" \"envelopefs {version}\" \"envelopefs manual\""
    )?;
    man.render_name_section(out)?;
    section(out, "SYNOPSIS")?;
    synopsis(command, name, out)?;
    man.render_description_section(out)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(out)?;
    }
    if command
        .get_subcommands()
        .any(|subcommand| !subcommand.is_hide_set())
    {
        man.render_subcommands_section(out)?;
    }
    if name == "envelopefs-mount" {
        section(out, "MOUNT OPTIONS")?;
        let text = "Options are separated by commas. In a value, \\, is a comma and \\\\ a \
                    backslash. A later option overrides an earlier one.";
        writeln!(out, "{}", escape(text))?;
        definitions(out, mount_opts::table())?;
        fstab(out)?;
    }
    if name == "envelopefs-serve" {
        for (title, text) in serve::MANUAL {
            section(out, title)?;
            writeln!(out, "{}", escape(text))?;
        }
    }
    section(out, "EXIT STATUS")?;
    let codes: Vec<(String, &str)> = exit::table()
        .map(|(code, meaning)| (code.to_string(), meaning))
        .collect();
    definitions(
        out,
        codes
            .iter()
            .map(|(code, meaning)| (code.as_str(), *meaning)),
    )?;
    if name == "envelopefs" {
        section(out, "ENVIRONMENT")?;
        definitions(out, ENVIRONMENT)?;
        section(out, "FILES")?;
        definitions(out, FILES)?;
    }
    section(out, "SEE ALSO")?;
    let pages = related.iter().map(|page| format!("{}(1)", escape(page)));
    let others = [
        "envelopefs\\-format(5)",
        "envelopefs\\-threats(7)",
        "mount(8)",
        "fstab(5)",
    ]
    .map(str::to_owned);
    let all: Vec<String> = pages.chain(others).collect();
    writeln!(out, "{}", all.join(",\n"))
}

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        unlock::ENV_KEYSTORE,
        "The keystore's folder, unless --keystore says another.",
    ),
    (
        unlock::ENV_PASSPHRASE_FILE,
        "A file with the keystore's passphrase.",
    ),
    (unlock::ENV_KEY_FILE, "A key file that opens the keystore."),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd: the credential envelopefs.passphrase in it is the keystore's passphrase.",
    ),
    (
        logging::ENV_LOG,
        "What is logged: error, warn, info (a mount's default), debug or trace. From debug on, the \
         log holds plaintext names.",
    ),
];

const FILES: [(&str, &str); 3] = [
    ("/var/lib/envelopefs", "The keystore of the superuser."),
    (
        "~/.local/share/envelopefs",
        "The keystore of other users, unless XDG_DATA_HOME is set.",
    ),
    (
        "CIPHERDIR/.envelopefs",
        "The volume record, the lock and the journal of a volume.",
    ),
];

/// The command with its own flags and what it takes; the keystore's options and `--help` are left
/// to the section on options.
fn synopsis(command: &Command, name: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let spoken = command.get_bin_name().unwrap_or(name);
    write!(out, "\\fB{}\\fR", escape(spoken))?;
    for argument in command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
    {
        let id = argument.get_id().as_str();
        if argument.is_positional() || argument.is_global_set() || matches!(id, "help" | "version")
        {
            continue;
        }
        let flag = match (argument.get_long(), argument.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => continue,
        };
        let value = if argument.get_action().takes_values() {
            value_name(argument)
        } else {
            ""
        };
        let text = format!("\\fB{}\\fR \\fI{}\\fR", escape(&flag), escape(value));
        let text = text.strip_suffix(" \\fI\\fR").unwrap_or(&text);
        usage_part(out, argument, text)?;
    }
    for argument in command.get_positionals() {
        let many = argument
            .get_num_args()
            .is_some_and(|range| range.max_values() > 1);
        let dots = if many { "..." } else { "" };
        let text = format!("\\fI{}\\fR{dots}", escape(value_name(argument)));
        usage_part(out, argument, &text)?;
    }
    if command
        .get_subcommands()
        .any(|subcommand| !subcommand.is_hide_set())
    {
        write!(out, " \\fICOMMAND\\fR")?;
    }
    writeln!(out)
}

fn usage_part(out: &mut Vec<u8>, argument: &clap::Arg, text: &str) -> io::Result<()> {
    if argument.is_required_set() {
        write!(out, " {text}")
    } else {
        write!(out, " [{text}]")
    }
}

fn value_name(argument: &clap::Arg) -> &str {
    argument
        .get_value_names()
        .and_then(|names| names.first())
        .map_or("VALUE", |name| name.as_str())
}

fn fstab(out: &mut Vec<u8>) -> io::Result<()> {
    section(out, "MOUNTING BY FSTAB")?;
    let text = "With the mount helper in place, mount(8) and fstab(5) know the type \
                fuse.envelopefs:";
    writeln!(out, "{}\n.PP\n.nf\n.RS 4", escape(text))?;
    let line = "/srv/cipher /srv/plain fuse.envelopefs \
                keystore=/etc/envelopefs,passphrase-file=/etc/envelopefs.pass,nofail 0 0";
    writeln!(out, "{}\n.RE\n.fi", escape(line))
}

fn section(out: &mut Vec<u8>, title: &str) -> io::Result<()> {
    writeln!(out, ".SH \"{title}\"")
}

fn definitions<'a>(
    out: &mut Vec<u8>,
    rows: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    for (term, meaning) in rows {
        writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(term), escape(meaning))?;
    }
    Ok(())
}

/// Text that roff prints as it stands.
fn escape(text: &str) -> String {
    let plain = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('~', "\\(ti");
    // A line that begins with one of these would be a request.
    if plain.starts_with(['.', '\'']) {
        format!("\\&{plain}")
    } else {
        plain
    }
}

#[cfg(test)]
mod tests;
