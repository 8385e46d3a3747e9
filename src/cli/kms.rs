//! `envelopefs kms`: the operations of AWS KMS, with flags and answers named as in `aws kms`.

mod answer;
mod args;
mod input;
mod query;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use answer::Json;
pub use args::KmsCommand;
use args::{
    CreateKeyArgs, DecryptArgs, EncryptArgs, GenerateDataKeyArgs, ListRotationsArgs, OutputArgs,
    PageArgs, ReEncryptArgs, WhichMaterial,
};
use input::{algorithm, blob, context};

use crate::kms::{AliasName, KeyRef, KeySpec, KeyUsage, Kms, KmsError, Origin, api};
use crate::secret::SecretText;

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

/// An operation that is to be done.
struct Asked {
    operation: &'static str,
    parameters: Value,
    /// A blob that may be a secret: its member's name, and the bytes.
    blob: Option<(&'static str, SecretText)>,
    /// A listing: its entries' name, how many a page has at the most, and the page asked for.
    page: Option<(&'static str, u32, PageArgs)>,
    output: OutputArgs,
}

/// Runs an operation; wrong usage is found before the keystore is opened.
fn answer(command: KmsCommand, open: &dyn Fn() -> Result<Kms>) -> Result<Answer> {
    let asked = asked(command)?;
    let kms = open()?;
    let answer = match asked.page {
        Some((name, most, page)) if page.limit.is_none() && page.marker.is_none() => {
            all_pages(&kms, asked.operation, asked.parameters, name, most)?
        }
        Some((_, _, page)) => {
            let mut parameters = asked.parameters;
            set(&mut parameters, "Limit", page.limit.map(Value::from));
            set(&mut parameters, "Marker", page.marker.map(Value::from));
            call(&kms, asked.operation, &parameters, None)?
        }
        None => call(&kms, asked.operation, &asked.parameters, asked.blob)?,
    };
    Ok((answer, asked.output))
}

/// Does an operation.
fn call(
    kms: &Kms,
    operation: &str,
    parameters: &Value,
    blob: Option<(&'static str, SecretText)>,
) -> Result<Option<Json>> {
    let mut body = Zeroizing::new(parameters.to_string());
    if let Some((name, bytes)) = blob {
        // Put in by hand: no copy of it lies in a JSON value.
        body.pop();
        let encoded = Zeroizing::new(STANDARD.encode(&bytes));
        let mut whole = Zeroizing::new(String::with_capacity(body.len() + encoded.len() + 64));
        for part in [body.as_str(), ",\"", name, "\":\"", &encoded, "\"}"] {
            whole.push_str(part);
        }
        body = whole;
    }
    let answer = api::call(&kms.owner(), operation, body.as_bytes())?;
    if answer.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&answer)
        .map(Some)
        .context("reading the key manager's answer")
}

/// Lists everything.
fn all_pages(
    kms: &Kms,
    operation: &str,
    mut parameters: Value,
    name: &'static str,
    most: u32,
) -> Result<Option<Json>> {
    set(&mut parameters, "Limit", Some(most.into()));
    let mut all = Vec::new();
    loop {
        let Some(Json::Map(members)) = call(kms, operation, &parameters, None)? else {
            return Ok(None);
        };
        let mut marker = None;
        for (member, value) in members {
            match value {
                Json::List(entries) if member == name => all.extend(entries),
                Json::Text(text) if member == "NextMarker" => marker = Some(text),
                _ => {}
            }
        }
        let Some(marker) = marker else {
            return Ok(Some(Json::map([(name, Json::List(all))])));
        };
        set(&mut parameters, "Marker", Some(marker.as_str().into()));
    }
}

fn set(parameters: &mut Value, name: &str, value: Option<Value>) {
    if let (Value::Object(members), Some(value)) = (parameters, value) {
        members.insert(name.to_owned(), value);
    }
}

/// A key that is named well.
fn key(name: &str) -> Result<Value, KmsError> {
    name.parse::<KeyRef>().map(|_| Value::from(name))
}

fn alias(name: &str) -> Result<Value, KmsError> {
    name.parse::<AliasName>().map(|_| Value::from(name))
}

fn asked(command: KmsCommand) -> Result<Asked> {
    use KmsCommand as C;
    let simple = |operation, key_id: &str, output| -> Result<Asked> {
        Ok(Asked {
            operation,
            parameters: json!({ "KeyId": key(key_id)? }),
            blob: None,
            page: None,
            output,
        })
    };
    let on_alias = |operation, name: &str, target: Option<&str>, output| -> Result<Asked> {
        let mut parameters = json!({ "AliasName": alias(name)? });
        set(&mut parameters, "TargetKeyId", target.map(key).transpose()?);
        Ok(Asked {
            operation,
            parameters,
            blob: None,
            page: None,
            output,
        })
    };
    match command {
        C::CreateKey(args) => create_key(args),
        C::DescribeKey(args) => simple("DescribeKey", &args.key_id, args.output),
        C::ListKeys(args) => Ok(Asked {
            operation: "ListKeys",
            parameters: json!({}),
            blob: None,
            page: Some(("Keys", 1000, args.page)),
            output: args.output,
        }),
        C::EnableKey(args) => simple("EnableKey", &args.key_id, args.output),
        C::DisableKey(args) => simple("DisableKey", &args.key_id, args.output),
        C::CreateAlias(args) => {
            let target = Some(args.target_key_id.as_str());
            on_alias("CreateAlias", &args.alias_name, target, args.output)
        }
        C::UpdateAlias(args) => {
            let target = Some(args.target_key_id.as_str());
            on_alias("UpdateAlias", &args.alias_name, target, args.output)
        }
        C::DeleteAlias(args) => on_alias("DeleteAlias", &args.alias_name, None, args.output),
        C::ListAliases(args) => {
            let mut parameters = json!({});
            let wanted = args.key_id.as_deref().map(key).transpose()?;
            set(&mut parameters, "KeyId", wanted);
            Ok(Asked {
                operation: "ListAliases",
                parameters,
                blob: None,
                page: Some(("Aliases", 100, args.page)),
                output: args.output,
            })
        }
        C::Encrypt(args) => encrypt(args),
        C::Decrypt(args) => decrypt(args),
        C::ReEncrypt(args) => re_encrypt(args),
        C::GenerateDataKey(args) => generate_data_key(args),
        C::EnableKeyRotation(args) => {
            let mut asked = simple("EnableKeyRotation", &args.key_id, args.output)?;
            let days = args.rotation_period_in_days.map(Value::from);
            set(&mut asked.parameters, "RotationPeriodInDays", days);
            Ok(asked)
        }
        C::DisableKeyRotation(args) => simple("DisableKeyRotation", &args.key_id, args.output),
        C::GetKeyRotationStatus(args) => simple("GetKeyRotationStatus", &args.key_id, args.output),
        C::RotateKeyOnDemand(args) => simple("RotateKeyOnDemand", &args.key_id, args.output),
        C::ListKeyRotations(args) => list_rotations(args),
    }
}

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// One of the API's words that this version knows.
fn known<T>(what: &str, word: &str, read: fn(&str) -> Option<T>) -> Result<(), KmsError> {
    match read(word) {
        Some(_) => Ok(()),
        None => Err(KmsError::UnsupportedOperation(format!(
            "{what} {word} is not supported"
        ))),
    }
}

fn create_key(args: CreateKeyArgs) -> Result<Asked> {
    known("KeySpec", &args.key_spec, KeySpec::from_word)?;
    known("KeyUsage", &args.key_usage, KeyUsage::from_word)?;
    known("Origin", &args.origin, Origin::from_word)?;
    Ok(Asked {
        operation: "CreateKey",
        parameters: json!({
            "Description": args.description, "KeySpec": args.key_spec,
            "KeyUsage": args.key_usage, "Origin": args.origin,
        }),
        blob: None,
        page: None,
        output: args.output,
    })
}

fn encrypt(args: EncryptArgs) -> Result<Asked> {
    algorithm(args.encryption_algorithm.as_deref())?;
    let parameters = json!({
        "KeyId": key(&args.key_id)?,
        "EncryptionContext": context(args.encryption_context.as_deref())?,
    });
    let plaintext = blob("--plaintext", args.plaintext, args.format.cli_binary_format)?;
    Ok(Asked {
        operation: "Encrypt",
        parameters,
        blob: Some(("Plaintext", plaintext)),
        page: None,
        output: args.output,
    })
}

fn decrypt(args: DecryptArgs) -> Result<Asked> {
    algorithm(args.encryption_algorithm.as_deref())?;
    let mut parameters =
        json!({ "EncryptionContext": context(args.encryption_context.as_deref())? });
    let given = args.key_id.as_deref().map(key).transpose()?;
    set(&mut parameters, "KeyId", given);
    let format = args.format.cli_binary_format;
    let blob = blob("--ciphertext-blob", args.ciphertext_blob, format)?;
    Ok(Asked {
        operation: "Decrypt",
        parameters,
        blob: Some(("CiphertextBlob", blob)),
        page: None,
        output: args.output,
    })
}

fn re_encrypt(args: ReEncryptArgs) -> Result<Asked> {
    algorithm(args.source_encryption_algorithm.as_deref())?;
    algorithm(args.destination_encryption_algorithm.as_deref())?;
    let mut parameters = json!({
        "DestinationKeyId": key(&args.destination_key_id)?,
        "SourceEncryptionContext": context(args.source_encryption_context.as_deref())?,
        "DestinationEncryptionContext": context(args.destination_encryption_context.as_deref())?,
    });
    let source = args.source_key_id.as_deref().map(key).transpose()?;
    set(&mut parameters, "SourceKeyId", source);
    let format = args.format.cli_binary_format;
    let blob = blob("--ciphertext-blob", args.ciphertext_blob, format)?;
    Ok(Asked {
        operation: "ReEncrypt",
        parameters,
        blob: Some(("CiphertextBlob", blob)),
        page: None,
        output: args.output,
    })
}

fn generate_data_key(args: GenerateDataKeyArgs) -> Result<Asked> {
    let mut parameters = Map::new();
    parameters.insert("KeyId".to_owned(), key(&args.key_id)?);
    let context = context(args.encryption_context.as_deref())?;
    parameters.insert("EncryptionContext".to_owned(), json!(context));
    let mut parameters = Value::Object(parameters);
    set(&mut parameters, "KeySpec", args.key_spec.map(Value::from));
    let bytes = args.number_of_bytes.map(Value::from);
    set(&mut parameters, "NumberOfBytes", bytes);
    Ok(Asked {
        operation: "GenerateDataKey",
        parameters,
        blob: None,
        page: None,
        output: args.output,
    })
}

fn list_rotations(args: ListRotationsArgs) -> Result<Asked> {
    let include = match args.include_key_material {
        WhichMaterial::RotationsOnly => "ROTATIONS_ONLY",
        WhichMaterial::AllKeyMaterial => "ALL_KEY_MATERIAL",
    };
    Ok(Asked {
        operation: "ListKeyRotations",
        parameters: json!({ "KeyId": key(&args.key_id)?, "IncludeKeyMaterial": include }),
        blob: None,
        page: Some(("Rotations", 1000, args.page)),
        output: args.output,
    })
}

#[cfg(test)]
mod tests;
