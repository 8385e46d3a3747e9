//! The operations and their flags for clap, from the table.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand};

use super::input::BlobFormat;
use super::table::{Kind, Member, OPERATIONS, Operation, kebab, unset};
use crate::kms::Region;

/// An operation as it was typed.
#[derive(Debug)]
pub struct KmsCommand {
    pub(super) operation: &'static Operation,
    /// What was given for its members.
    pub(super) given: Vec<(&'static Member, Given)>,
    /// `--cli-input-json`
    pub(super) input: Option<String>,
    pub(super) format: BlobFormat,
    pub(super) region: Option<Region>,
    /// `--force`
    pub(super) force: Option<String>,
    pub(super) output: OutputArgs,
}

/// What was given for a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Words behind its flag.
    Words(Vec<String>),
    /// Its flag, or the one with `no-` before it.
    Flag(bool),
}

/// How an answer is printed.
#[derive(Debug, Default)]
pub(super) struct OutputArgs {
    pub(super) output: OutputForm,
    /// A JMESPath expression.
    pub(super) query: Option<String>,
}

/// The forms of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum OutputForm {
    /// JSON, indented by 4.
    #[default]
    Json,
    /// Values separated by tabs.
    Text,
}

const OUTPUT: &str = "output";
const QUERY: &str = "query";
const REGION: &str = "region";
const FORMAT: &str = "cli-binary-format";
const INPUT: &str = "cli-input-json";
const RAW: &str = "raw-in-base64-out";
const FORCE: &str = "force";
/// What destroys key material.
const DESTROYING: [&str; 2] = ["DeleteImportedKeyMaterial", "ScheduleKeyDeletion"];
const COMMON: &str = "Common options";

/// The flags of a member: the second one unsets.
fn flags(member: &'static Member, required: bool) -> Vec<Arg> {
    let flag = kebab(member.name);
    let arg = Arg::new(flag).long(flag).help(member.help);
    match member.kind {
        Kind::Flag => {
            let no = unset(member.name);
            let opposite = Arg::new(no)
                .long(no)
                .help(format!("The opposite of --{flag}"))
                .action(ArgAction::SetTrue)
                .overrides_with(flag);
            vec![arg.action(ArgAction::SetTrue).overrides_with(no), opposite]
        }
        Kind::Words | Kind::Objects => vec![
            arg.value_name(member.value)
                .num_args(1..)
                .action(ArgAction::Set),
        ],
        _ => vec![
            arg.value_name(member.value)
                .action(ArgAction::Set)
                .allow_hyphen_values(matches!(member.kind, Kind::Number)),
        ],
    }
    .into_iter()
    .map(|arg| {
        // What --cli-input-json has need not be a flag.
        if required && member.kind != Kind::Flag {
            arg.required_unless_present(INPUT)
        } else {
            arg
        }
    })
    .collect()
}

fn command(operation: &'static Operation) -> Command {
    let mut command = Command::new(kebab(operation.name)).about(operation.about);
    let mut has_blob = false;
    for (member, required) in operation.members() {
        has_blob |= member.kind == Kind::Blob;
        command = command.args(flags(member, required));
    }
    if DESTROYING.contains(&operation.name) {
        command = command.arg(
            Arg::new(FORCE)
                .long(FORCE)
                .value_name("WORDS")
                .help("Do it although volumes need the key: the words that the refusal gives, which say what is lost"),
        );
    }
    command = command.next_help_heading(COMMON).arg(
        Arg::new(INPUT)
            .long(INPUT)
            .value_name("JSON")
            .help("Take members from a JSON object, as the API has it; flags override it"),
    );
    if has_blob {
        command = command.arg(
            Arg::new(FORMAT)
                .long(FORMAT)
                .value_name("FORMAT")
                .help("How a blob on the command line, or in a file given by file://, is written")
                .value_parser(PossibleValuesParser::new(["base64", RAW]))
                .default_value("base64"),
        );
    }
    command.args([
        Arg::new(REGION)
            .long(REGION)
            .value_name("REGION")
            .help("The Region to work in; the keystore's own unless given"),
        Arg::new(OUTPUT)
            .long(OUTPUT)
            .value_name("FORM")
            .help("The form of the answer")
            .value_parser(PossibleValuesParser::new(["json", "text"]))
            .default_value("json"),
        Arg::new(QUERY)
            .long(QUERY)
            .value_name("EXPRESSION")
            .help("Print only this part of the answer, such as `KeyMetadata.KeyId` or `Keys[0].KeyArn`")
            .long_help(
                "Print only this part of the answer, such as `KeyMetadata.KeyId` or `Keys[0].KeyArn`\n\n\
                 A JMESPath expression: names, [N], [*], [], [?Name=='value'], [A, B] and |.",
            ),
    ])
}

impl Subcommand for KmsCommand {
    fn augment_subcommands(parent: Command) -> Command {
        parent
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(OPERATIONS.iter().map(command))
    }

    fn augment_subcommands_for_update(parent: Command) -> Command {
        Self::augment_subcommands(parent)
    }

    fn has_subcommand(name: &str) -> bool {
        OPERATIONS
            .iter()
            .any(|operation| kebab(operation.name) == name)
    }
}

impl FromArgMatches for KmsCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let unknown = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(unknown)?;
        let operation = OPERATIONS
            .iter()
            .find(|operation| kebab(operation.name) == name)
            .ok_or_else(unknown)?;
        let text = |name: &str| -> Option<String> {
            matches.try_get_one::<String>(name).ok().flatten().cloned()
        };
        let mut given = Vec::new();
        for (member, _) in operation.members() {
            let flag = kebab(member.name);
            if member.kind == Kind::Flag {
                if matches.get_flag(flag) {
                    given.push((member, Given::Flag(true)));
                } else if matches.get_flag(unset(member.name)) {
                    given.push((member, Given::Flag(false)));
                }
            } else if let Some(words) = matches.get_many::<String>(flag) {
                given.push((member, Given::Words(words.cloned().collect())));
            }
        }
        let region = text(REGION)
            .map(|region| region.parse())
            .transpose()
            .map_err(|error| {
                clap::Error::raw(
                    clap::error::ErrorKind::ValueValidation,
                    format!("{error}\n"),
                )
            })?;
        Ok(Self {
            operation,
            given,
            input: text(INPUT),
            format: match text(FORMAT).as_deref() {
                Some(RAW) => BlobFormat::RawInBase64Out,
                _ => BlobFormat::Base64,
            },
            region,
            force: text(FORCE),
            output: OutputArgs {
                output: match text(OUTPUT).as_deref() {
                    Some("text") => OutputForm::Text,
                    _ => OutputForm::Json,
                },
                query: text(QUERY),
            },
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
