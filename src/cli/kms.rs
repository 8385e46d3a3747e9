//! `envelopefs kms`: the operations of AWS KMS, with flags and answers named as in `aws kms`.

mod answer;
mod args;
mod input;
mod query;

use anyhow::Result;

use answer::Json;
pub use args::KmsCommand;
use args::{
    CreateKeyArgs, DecryptArgs, EncryptArgs, GenerateDataKeyArgs, KeyArgs, ListAliasesArgs,
    ListKeysArgs, ListRotationsArgs, OutputArgs, PageArgs, ReEncryptArgs, WhichMaterial,
};
use input::{algorithm, blob, context};

use crate::kms::api::{
    CreateKey, DataKeySize, IncludeKeyMaterial, KeyMetadata, Listing, Page, ReEncrypt,
};
use crate::kms::{
    EncryptionContext, KeySpec, KeyState, KeyUsage, Kms, KmsError, Origin, Timestamp, Via,
};

/// Runs an operation on the keystore that `open` opens, and prints its answer.
///
/// # Errors
/// A [`KmsError`] where the key manager refuses; otherwise wrong usage, or what `open` says.
pub fn run(command: KmsCommand, open: &dyn Fn() -> Result<Kms>) -> Result<()> {
    match answer(command, open)? {
        (Some(answer), output) => answer::print(&answer, &output),
        (None, _) => Ok(()),
    }
}

/// An answer, where the operation has one, and how it is to be printed.
type Answer = (Option<Json>, OutputArgs);

/// Runs an operation; wrong usage is found before the keystore is opened.
fn answer(command: KmsCommand, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    use KmsCommand as C;
    Ok(match command {
        C::CreateKey(args) => create_key(args, open)?,
        C::DescribeKey(args) => {
            let key = args.key_id.parse()?;
            let described = open()?.describe_key(&key)?;
            (Some(metadata(&described)), args.output)
        }
        C::ListKeys(args) => list_keys(args, open)?,
        C::EnableKey(args) => {
            let key = args.key_id.parse()?;
            open()?.enable_key(&key)?;
            (None, args.output)
        }
        C::DisableKey(args) => {
            let key = args.key_id.parse()?;
            open()?.disable_key(&key)?;
            (None, args.output)
        }
        C::CreateAlias(args) => {
            let (name, key) = (args.alias_name.parse()?, args.target_key_id.parse()?);
            open()?.create_alias(&name, &key)?;
            (None, args.output)
        }
        C::UpdateAlias(args) => {
            let (name, key) = (args.alias_name.parse()?, args.target_key_id.parse()?);
            open()?.update_alias(&name, &key)?;
            (None, args.output)
        }
        C::DeleteAlias(args) => {
            let name = args.alias_name.parse()?;
            open()?.delete_alias(&name)?;
            (None, args.output)
        }
        C::ListAliases(args) => list_aliases(args, open)?,
        C::Encrypt(args) => encrypt(args, open)?,
        C::Decrypt(args) => decrypt(args, open)?,
        C::ReEncrypt(args) => re_encrypt(args, open)?,
        C::GenerateDataKey(args) => generate_data_key(args, open)?,
        C::EnableKeyRotation(args) => {
            let key = args.key_id.parse()?;
            open()?.enable_key_rotation(&key, args.rotation_period_in_days)?;
            (None, args.output)
        }
        C::DisableKeyRotation(args) => {
            let key = args.key_id.parse()?;
            open()?.disable_key_rotation(&key)?;
            (None, args.output)
        }
        C::GetKeyRotationStatus(args) => rotation_status(args, open)?,
        C::RotateKeyOnDemand(args) => {
            let key = args.key_id.parse()?;
            let id = open()?.rotate_key_on_demand(Via::User, &key)?;
            (Some(Json::map([("KeyId", Json::text(id))])), args.output)
        }
        C::ListKeyRotations(args) => list_rotations(args, open)?,
    })
}

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// One of the API's words that this version knows.
fn known<T>(what: &str, word: &str, read: fn(&str) -> Option<T>) -> Result<T, KmsError> {
    read(word)
        .ok_or_else(|| KmsError::UnsupportedOperation(format!("{what} {word} is not supported")))
}

fn create_key(args: CreateKeyArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let request = CreateKey {
        spec: known("KeySpec", &args.key_spec, KeySpec::from_word)?,
        usage: known("KeyUsage", &args.key_usage, KeyUsage::from_word)?,
        origin: known("Origin", &args.origin, Origin::from_word)?,
        description: args.description,
    };
    let made = open()?.create_key(&request)?;
    Ok((Some(metadata(&made)), args.output))
}

fn metadata(key: &KeyMetadata) -> Json {
    let spec = || Json::text(key.spec);
    let metadata = Json::map([
        ("AWSAccountId", Json::text(&key.account_id)),
        ("KeyId", Json::text(key.key_id)),
        ("Arn", Json::text(&key.arn)),
        ("CreationDate", Json::text(key.creation_date)),
        ("Enabled", Json::Bool(key.state == KeyState::Enabled)),
        ("Description", Json::text(&key.description)),
        ("KeyUsage", Json::text(key.usage)),
        ("KeyState", Json::text(key.state)),
        ("Origin", Json::text(key.origin)),
        ("KeyManager", Json::text(key.manager)),
        ("CustomerMasterKeySpec", spec()),
        ("KeySpec", spec()),
        (
            "EncryptionAlgorithms",
            Json::List(vec![Json::text(ALGORITHM)]),
        ),
        ("MultiRegion", Json::Bool(key.key_id.is_multi_region())),
        ("CurrentKeyMaterialId", Json::text(key.current_material)),
    ]);
    Json::map([("KeyMetadata", metadata)])
}

/// A listing: the page that was asked for, or all pages when none was.
fn listing<T>(
    args: PageArgs,
    name: &'static str,
    max: u32,
    list: impl Fn(&Page) -> Result<Listing<T>, KmsError>,
    show: impl Fn(T) -> Json,
) -> Result<Json> {
    if args.limit.is_some() || args.marker.is_some() {
        let part = list(&Page {
            limit: args.limit,
            marker: args.marker,
        })?;
        let truncated = part.next_marker.is_some();
        let mut answer = vec![(
            name,
            Json::List(part.entries.into_iter().map(show).collect()),
        )];
        answer.extend(
            part.next_marker
                .map(|marker| ("NextMarker", Json::text(marker))),
        );
        answer.push(("Truncated", Json::Bool(truncated)));
        return Ok(Json::map(answer));
    }
    let mut page = Page {
        limit: Some(max),
        marker: None,
    };
    let mut all = Vec::new();
    loop {
        let part = list(&page)?;
        all.extend(part.entries.into_iter().map(&show));
        page.marker = part.next_marker;
        if page.marker.is_none() {
            return Ok(Json::map([(name, Json::List(all))]));
        }
    }
}

fn list_keys(args: ListKeysArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let kms = open()?;
    let answer = listing(
        args.page,
        "Keys",
        1000,
        |page| kms.list_keys(page),
        |key| {
            Json::map([
                ("KeyId", Json::text(key.key_id)),
                ("KeyArn", Json::text(key.arn)),
            ])
        },
    )?;
    Ok((Some(answer), args.output))
}

fn list_aliases(args: ListAliasesArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let key = args.key_id.map(|key| key.parse()).transpose()?;
    let kms = open()?;
    let list = |page: &Page| kms.list_aliases(key.as_ref(), page);
    let answer = listing(args.page, "Aliases", 100, list, |alias| {
        Json::map([
            ("AliasName", Json::text(alias.name)),
            ("AliasArn", Json::text(alias.arn)),
            ("TargetKeyId", Json::text(alias.target)),
            ("CreationDate", Json::text(alias.creation_date)),
            ("LastUpdatedDate", Json::text(alias.last_updated_date)),
        ])
    })?;
    Ok((Some(answer), args.output))
}

fn encrypt(args: EncryptArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    algorithm(args.encryption_algorithm.as_deref())?;
    let key = args.key_id.parse()?;
    let context = context(args.encryption_context.as_deref())?;
    let plaintext = blob("--plaintext", args.plaintext, args.format.cli_binary_format)?;
    let made = open()?.encrypt(&key, &plaintext, &context)?;
    let answer = Json::map([
        ("CiphertextBlob", Json::blob(&made.blob)),
        ("KeyId", Json::text(made.key_arn)),
        ("EncryptionAlgorithm", Json::text(ALGORITHM)),
    ]);
    Ok((Some(answer), args.output))
}

fn decrypt(args: DecryptArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    algorithm(args.encryption_algorithm.as_deref())?;
    let key = args.key_id.map(|key| key.parse()).transpose()?;
    let context = context(args.encryption_context.as_deref())?;
    let blob = blob(
        "--ciphertext-blob",
        args.ciphertext_blob,
        args.format.cli_binary_format,
    )?;
    let opened = open()?.decrypt(&blob, &context, key.as_ref())?;
    let answer = Json::map([
        ("KeyId", Json::text(opened.key_arn)),
        ("Plaintext", Json::blob(&opened.plaintext)),
        ("EncryptionAlgorithm", Json::text(ALGORITHM)),
        ("KeyMaterialId", Json::text(opened.material)),
    ]);
    Ok((Some(answer), args.output))
}

fn re_encrypt(args: ReEncryptArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    algorithm(args.source_encryption_algorithm.as_deref())?;
    algorithm(args.destination_encryption_algorithm.as_deref())?;
    let source_key = args.source_key_id.map(|key| key.parse()).transpose()?;
    let destination_key = args.destination_key_id.parse()?;
    let from: EncryptionContext = context(args.source_encryption_context.as_deref())?;
    let to: EncryptionContext = context(args.destination_encryption_context.as_deref())?;
    let blob = blob(
        "--ciphertext-blob",
        args.ciphertext_blob,
        args.format.cli_binary_format,
    )?;
    let moved = open()?.re_encrypt(&ReEncrypt {
        blob: &blob,
        source_context: &from,
        source_key: source_key.as_ref(),
        destination_key: &destination_key,
        destination_context: &to,
    })?;
    let answer = Json::map([
        ("CiphertextBlob", Json::blob(&moved.blob)),
        ("SourceKeyId", Json::text(moved.source_key_arn)),
        ("KeyId", Json::text(moved.key_arn)),
        ("SourceEncryptionAlgorithm", Json::text(ALGORITHM)),
        ("DestinationEncryptionAlgorithm", Json::text(ALGORITHM)),
        ("SourceKeyMaterialId", Json::text(moved.source_material)),
        (
            "DestinationKeyMaterialId",
            Json::text(moved.destination_material),
        ),
    ]);
    Ok((Some(answer), args.output))
}

fn generate_data_key(args: GenerateDataKeyArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let size = DataKeySize::from_parameters(args.key_spec.as_deref(), args.number_of_bytes)?;
    let key = args.key_id.parse()?;
    let context = context(args.encryption_context.as_deref())?;
    let made = open()?.generate_data_key_api(&key, size, &context)?;
    let answer = Json::map([
        ("CiphertextBlob", Json::blob(&made.blob)),
        ("Plaintext", Json::blob(&made.plaintext)),
        ("KeyId", Json::text(made.key_arn)),
        ("KeyMaterialId", Json::text(made.material)),
    ]);
    Ok((Some(answer), args.output))
}

fn rotation_status(args: KeyArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let key = args.key_id.parse()?;
    let status = open()?.get_key_rotation_status(&key)?;
    let date = |date: Timestamp| ("NextRotationDate", Json::text(date));
    let days = |days: u32| ("RotationPeriodInDays", Json::Number(i64::from(days)));
    let mut answer = vec![
        ("KeyRotationEnabled", Json::Bool(status.enabled)),
        ("KeyId", Json::text(status.key_id)),
    ];
    answer.extend(status.period_days.map(days));
    answer.extend(status.next_rotation_date.map(date));
    Ok((Some(Json::map(answer)), args.output))
}

fn list_rotations(args: ListRotationsArgs, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let key = args.key_id.parse()?;
    let include = match args.include_key_material {
        WhichMaterial::RotationsOnly => IncludeKeyMaterial::RotationsOnly,
        WhichMaterial::AllKeyMaterial => IncludeKeyMaterial::All,
    };
    let kms = open()?;
    let list = |page: &Page| kms.list_key_rotations(&key, include, page);
    let answer = listing(args.page, "Rotations", 1000, list, |entry| {
        let state = if entry.current {
            "CURRENT"
        } else {
            "NON_CURRENT"
        };
        let mut shown = vec![
            ("KeyId", Json::text(entry.key_id)),
            ("KeyMaterialId", Json::text(entry.material)),
            ("KeyMaterialState", Json::text(state)),
        ];
        if let Some((date, kind)) = entry.rotation {
            shown.push(("RotationDate", Json::text(date)));
            shown.push(("RotationType", Json::text(kind)));
        }
        Json::map(shown)
    })?;
    Ok((Some(answer), args.output))
}

#[cfg(test)]
mod tests;
