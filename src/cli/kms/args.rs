//! The operations and their flags as a clap table.

use clap::{Args, Subcommand, ValueEnum};

use super::input::BlobFormat;

/// The operations.
#[derive(Debug, Subcommand)]
pub enum KmsCommand {
    /// Make a key
    CreateKey(CreateKeyArgs),
    /// Show what is known of a key
    DescribeKey(KeyArgs),
    /// List the keys
    ListKeys(ListKeysArgs),
    /// Allow the use of a key again
    EnableKey(KeyArgs),
    /// Forbid the use of a key, until it is enabled again
    ///
    /// Volumes under the key can open no more files from this moment on; enabling the key heals
    /// them.
    DisableKey(KeyArgs),
    /// Give a key another name
    CreateAlias(AliasTargetArgs),
    /// Point an alias to another key
    UpdateAlias(AliasTargetArgs),
    /// Delete an alias; its key stays
    DeleteAlias(AliasArgs),
    /// List the aliases
    ListAliases(ListAliasesArgs),
    /// Encrypt up to 4096 bytes under a key
    Encrypt(EncryptArgs),
    /// Decrypt what `encrypt`, `re-encrypt` or `generate-data-key` gave
    Decrypt(DecryptArgs),
    /// Move a ciphertext to another key or encryption context
    ReEncrypt(ReEncryptArgs),
    /// Make a data key: in the clear and encrypted under a key
    GenerateDataKey(GenerateDataKeyArgs),
    /// Let a key rotate by itself
    EnableKeyRotation(EnableRotationArgs),
    /// Let a key rotate by itself no more
    DisableKeyRotation(KeyArgs),
    /// Show whether and when a key rotates by itself
    GetKeyRotationStatus(KeyArgs),
    /// Make new key material for a key now
    RotateKeyOnDemand(KeyArgs),
    /// List the rotations of a key
    ListKeyRotations(ListRotationsArgs),
}

/// How an answer is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output options")]
pub struct OutputArgs {
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = OutputForm::Json)]
    pub(super) output: OutputForm,

    /// Print only this part of the answer, such as `KeyMetadata.KeyId` or `Keys[0].KeyArn`
    ///
    /// A JMESPath expression: names, [N], [*], [], [?Name=='value'], [A, B] and |.
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) query: Option<String>,
}

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    /// JSON, indented by 4
    Json,
    /// Values separated by tabs
    Text,
}

/// One key.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The key: its id or ARN; commands that don't change it take an alias or alias ARN too
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// A part of a listing.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// List so many at most; without it all are listed
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,

    /// Go on after a listing that was cut short: its NextMarker
    #[arg(long, value_name = "MARKER")]
    pub(super) marker: Option<String>,
}

/// `create-key`
#[derive(Debug, Args)]
pub struct CreateKeyArgs {
    /// What the key is for, in words
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) description: String,

    /// The kind of the key: SYMMETRIC_DEFAULT
    #[arg(
        long,
        value_name = "SPEC",
        visible_alias = "customer-master-key-spec",
        default_value = "SYMMETRIC_DEFAULT"
    )]
    pub(super) key_spec: String,

    /// What the key may do: ENCRYPT_DECRYPT
    #[arg(long, value_name = "USAGE", default_value = "ENCRYPT_DECRYPT")]
    pub(super) key_usage: String,

    /// Where its material comes from: AWS_KMS
    #[arg(long, value_name = "ORIGIN", default_value = "AWS_KMS")]
    pub(super) origin: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `list-keys`
#[derive(Debug, Args)]
pub struct ListKeysArgs {
    #[command(flatten)]
    pub(super) page: PageArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// An alias and a key.
#[derive(Debug, Args)]
pub struct AliasTargetArgs {
    /// The alias: alias/NAME
    #[arg(long, value_name = "ALIAS")]
    pub(super) alias_name: String,

    /// The key it is to point to: its id or ARN
    #[arg(long, value_name = "KEY")]
    pub(super) target_key_id: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// An alias.
#[derive(Debug, Args)]
pub struct AliasArgs {
    /// The alias: alias/NAME
    #[arg(long, value_name = "ALIAS")]
    pub(super) alias_name: String,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `list-aliases`
#[derive(Debug, Args)]
pub struct ListAliasesArgs {
    /// Only those of this key: its id or ARN
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: Option<String>,

    #[command(flatten)]
    pub(super) page: PageArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// How blobs on the command line are written.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// How a blob on the command line, or in a file given by file://, is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = BlobFormat::Base64)]
    pub(super) cli_binary_format: BlobFormat,
}

/// `encrypt`
#[derive(Debug, Args)]
pub struct EncryptArgs {
    /// The key: its id, ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: String,

    /// What to encrypt, 1 to 4096 bytes: fileb://FILE, or in base64
    #[arg(long, value_name = "BLOB")]
    pub(super) plaintext: String,

    /// Pairs that decryption must name again: KEY=VALUE,... or JSON
    #[arg(long, value_name = "CONTEXT")]
    pub(super) encryption_context: Option<String>,

    /// SYMMETRIC_DEFAULT
    #[arg(long, value_name = "ALGORITHM")]
    pub(super) encryption_algorithm: Option<String>,

    #[command(flatten)]
    pub(super) format: FormatArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `decrypt`
#[derive(Debug, Args)]
pub struct DecryptArgs {
    /// The ciphertext: fileb://FILE, or in base64
    #[arg(long, value_name = "BLOB")]
    pub(super) ciphertext_blob: String,

    /// The key that the ciphertext must be of; without it, the one that it names
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: Option<String>,

    /// The pairs that were given on encryption: KEY=VALUE,... or JSON
    #[arg(long, value_name = "CONTEXT")]
    pub(super) encryption_context: Option<String>,

    /// SYMMETRIC_DEFAULT
    #[arg(long, value_name = "ALGORITHM")]
    pub(super) encryption_algorithm: Option<String>,

    #[command(flatten)]
    pub(super) format: FormatArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `re-encrypt`
#[derive(Debug, Args)]
pub struct ReEncryptArgs {
    /// The ciphertext: fileb://FILE, or in base64
    #[arg(long, value_name = "BLOB")]
    pub(super) ciphertext_blob: String,

    /// The key that the ciphertext must be of; without it, the one that it names
    #[arg(long, value_name = "KEY")]
    pub(super) source_key_id: Option<String>,

    /// The pairs that were given on encryption: KEY=VALUE,... or JSON
    #[arg(long, value_name = "CONTEXT")]
    pub(super) source_encryption_context: Option<String>,

    /// The key to encrypt under: its id, ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    pub(super) destination_key_id: String,

    /// Pairs that decryption must name from now on: KEY=VALUE,... or JSON
    #[arg(long, value_name = "CONTEXT")]
    pub(super) destination_encryption_context: Option<String>,

    /// SYMMETRIC_DEFAULT
    #[arg(long, value_name = "ALGORITHM")]
    pub(super) source_encryption_algorithm: Option<String>,

    /// SYMMETRIC_DEFAULT
    #[arg(long, value_name = "ALGORITHM")]
    pub(super) destination_encryption_algorithm: Option<String>,

    #[command(flatten)]
    pub(super) format: FormatArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `generate-data-key`
#[derive(Debug, Args)]
pub struct GenerateDataKeyArgs {
    /// The key: its id, ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: String,

    /// The kind of the data key: AES_256 or AES_128
    #[arg(long, value_name = "SPEC")]
    pub(super) key_spec: Option<String>,

    /// The length of the data key in bytes, 1 to 1024
    #[arg(long, value_name = "N")]
    pub(super) number_of_bytes: Option<u32>,

    /// Pairs that decryption must name again: KEY=VALUE,... or JSON
    #[arg(long, value_name = "CONTEXT")]
    pub(super) encryption_context: Option<String>,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `enable-key-rotation`
#[derive(Debug, Args)]
pub struct EnableRotationArgs {
    /// The key: its id or ARN
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: String,

    /// Rotate every so many days, 90 to 2560; 365 unless given
    #[arg(long, value_name = "DAYS")]
    pub(super) rotation_period_in_days: Option<u32>,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `list-key-rotations`
#[derive(Debug, Args)]
pub struct ListRotationsArgs {
    /// The key: its id or ARN
    #[arg(long, value_name = "KEY")]
    pub(super) key_id: String,

    /// ALL_KEY_MATERIAL shows the first key material too
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = WhichMaterial::RotationsOnly)]
    pub(super) include_key_material: WhichMaterial,

    #[command(flatten)]
    pub(super) page: PageArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Values of `--include-key-material`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum WhichMaterial {
    /// What rotations made
    RotationsOnly,
    /// The first key material too
    AllKeyMaterial,
}
