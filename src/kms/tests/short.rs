//! The operations with plain parameters, as the account root or a volume.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::wire::{KeyName, parse as wire_parse};
use super::api::*;
use super::*;
use crate::format::VolumeId;
use crate::secret::{Key256, SecretText};

/// On whose behalf.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    User,
    Volume,
}

/// The volume of the tests.
pub(super) fn volume() -> VolumeId {
    VolumeId([7; 16])
}

/// What CreateKey is told.
#[derive(Default)]
pub(super) struct CreateKey {
    pub(super) description: String,
}

/// What Encrypt answers.
pub(super) struct Encrypted {
    pub(super) blob: Vec<u8>,
    pub(super) key_arn: String,
}

/// What Decrypt answers.
pub(super) struct Decrypted {
    pub(super) plaintext: SecretText,
    pub(super) key_arn: String,
    pub(super) material: MaterialId,
}

/// What ReEncrypt is told.
pub(super) struct ReEncrypt<'a> {
    pub(super) blob: &'a [u8],
    pub(super) source_context: &'a EncryptionContext,
    pub(super) source_key: Option<&'a KeyRef>,
    pub(super) destination_key: &'a KeyRef,
    pub(super) destination_context: &'a EncryptionContext,
}

/// What ReEncrypt answers.
pub(super) struct ReEncrypted {
    pub(super) blob: Vec<u8>,
    pub(super) source_key_arn: String,
    pub(super) key_arn: String,
}

/// Base64, as blobs are given.
pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A request that may be out of its bounds.
fn parsed<T: DeserializeOwned>(body: &Value) -> Result<T> {
    wire_parse(body.to_string().as_bytes())
}

fn set(body: &mut Value, name: &str, value: impl Into<Value>) {
    body.as_object_mut()
        .unwrap()
        .insert(name.to_owned(), value.into());
}

impl Kms {
    fn via<T>(&self, via: Via, run: impl FnOnce(Client<'_>) -> Result<T>) -> Result<T> {
        match via {
            Via::User => run(self.owner()),
            Via::Volume => run(self.client(&self.volume_caller(&volume()))),
        }
    }

    pub(super) fn create_key(&self, new: &CreateKey) -> Result<KeyMetadata> {
        let body = json!({ "Description": new.description });
        let made = self.owner().create_key(&parsed(&body)?)?;
        Ok(made.key_metadata)
    }

    pub(super) fn describe_key(&self, key: &KeyRef) -> Result<KeyMetadata> {
        Ok(self.owner().describe_key(&key.into())?.key_metadata)
    }

    pub(super) fn enable_key(&self, key: &KeyRef) -> Result<()> {
        self.owner().enable_key(&key.into())
    }

    pub(super) fn disable_key(&self, key: &KeyRef) -> Result<()> {
        self.owner().disable_key(&key.into())
    }

    pub(super) fn list_keys(&self, page: &Page) -> Result<ListKeysResponse> {
        self.owner().list_keys(&ListKeysRequest {
            page: page.clone(),
            resource_owners: None,
        })
    }

    pub(super) fn create_alias(&self, name: &AliasName, target: &KeyRef) -> Result<()> {
        self.owner().create_alias(&CreateAliasRequest {
            alias_name: name.as_str().try_into()?,
            target_key_id: target.into(),
        })
    }

    pub(super) fn update_alias(&self, name: &AliasName, target: &KeyRef) -> Result<()> {
        self.owner().update_alias(&UpdateAliasRequest {
            alias_name: name.as_str().try_into()?,
            target_key_id: target.into(),
        })
    }

    pub(super) fn delete_alias(&self, name: &AliasName) -> Result<()> {
        self.owner().delete_alias(&DeleteAliasRequest {
            alias_name: name.as_str().try_into()?,
        })
    }

    pub(super) fn list_aliases(
        &self,
        key: Option<&KeyRef>,
        page: &Page,
    ) -> Result<ListAliasesResponse> {
        self.owner().list_aliases(&ListAliasesRequest {
            key_id: key.map(KeyName::from),
            page: page.clone(),
        })
    }

    pub(super) fn encrypt(
        &self,
        key: &KeyRef,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Encrypted> {
        let body = json!({
            "KeyId": key.to_string(), "Plaintext": base64(plaintext),
            "EncryptionContext": context,
        });
        let made = self.owner().encrypt(&parsed(&body)?)?;
        Ok(Encrypted {
            blob: made.ciphertext_blob.to_vec(),
            key_arn: made.key_id,
        })
    }

    pub(super) fn decrypt(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        key: Option<&KeyRef>,
    ) -> Result<Decrypted> {
        let mut body = json!({ "CiphertextBlob": base64(blob), "EncryptionContext": context });
        if let Some(key) = key {
            set(&mut body, "KeyId", key.to_string());
        }
        let opened = self.owner().decrypt(&parsed(&body)?)?;
        Ok(Decrypted {
            plaintext: opened.plaintext.expose().to_vec().into(),
            key_arn: opened.key_id,
            material: opened.key_material_id.unwrap(),
        })
    }

    pub(super) fn re_encrypt(&self, asked: &ReEncrypt<'_>) -> Result<ReEncrypted> {
        let mut body = json!({
            "CiphertextBlob": base64(asked.blob),
            "SourceEncryptionContext": asked.source_context,
            "DestinationKeyId": asked.destination_key.to_string(),
            "DestinationEncryptionContext": asked.destination_context,
        });
        if let Some(key) = asked.source_key {
            set(&mut body, "SourceKeyId", key.to_string());
        }
        let moved = self.owner().re_encrypt(&parsed(&body)?)?;
        Ok(ReEncrypted {
            blob: moved.ciphertext_blob.to_vec(),
            source_key_arn: moved.source_key_id,
            key_arn: moved.key_id,
        })
    }

    pub(super) fn generate_data_key_api(
        &self,
        key: &KeyRef,
        size: &Value,
        context: &EncryptionContext,
    ) -> Result<GenerateDataKeyResponse> {
        let mut body = size.clone();
        set(&mut body, "KeyId", key.to_string());
        set(&mut body, "EncryptionContext", json!(context));
        self.owner().generate_data_key(&parsed(&body)?)
    }

    pub(super) fn enable_key_rotation(&self, key: &KeyRef, days: Option<u32>) -> Result<()> {
        let body = json!({ "KeyId": key.to_string(), "RotationPeriodInDays": days });
        self.owner().enable_key_rotation(&parsed(&body)?)
    }

    pub(super) fn disable_key_rotation(&self, key: &KeyRef) -> Result<()> {
        self.owner().disable_key_rotation(&key.into())
    }

    pub(super) fn get_key_rotation_status(
        &self,
        key: &KeyRef,
    ) -> Result<GetKeyRotationStatusResponse> {
        self.owner().get_key_rotation_status(&key.into())
    }

    pub(super) fn rotate_key_on_demand(&self, via: Via, key: &KeyRef) -> Result<KeyId> {
        if via == Via::Volume {
            let id = self.resolve(key)?;
            self.rotate_volume_key(&volume(), &id)?;
            return Ok(id);
        }
        Ok(self.owner().rotate_key_on_demand(&key.into())?.key_id)
    }

    pub(super) fn list_key_rotations(
        &self,
        key: &KeyRef,
        include: IncludeKeyMaterial,
        page: &Page,
    ) -> Result<ListKeyRotationsResponse> {
        self.owner().list_key_rotations(&ListKeyRotationsRequest {
            key_id: key.into(),
            include_key_material: Some(include),
            page: page.clone(),
        })
    }

    pub(super) fn generate_data_key(
        &self,
        via: Via,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        self.via(via, |client| {
            client.generate_data_key_for_volume(key, context)
        })
    }

    pub(super) fn decrypt_data_key(
        &self,
        via: Via,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256> {
        self.via(via, |client| client.decrypt_data_key(blob, context))
    }

    pub(super) fn re_encrypt_data_key(
        &self,
        via: Via,
        blob: &[u8],
        from: &EncryptionContext,
        to_key: &KeyId,
        to: &EncryptionContext,
    ) -> Result<Vec<u8>> {
        self.via(via, |client| {
            client.re_encrypt_data_key(blob, from, to_key, to)
        })
    }

    pub(super) fn check_usable(&self, via: Via, key: &KeyId) -> Result<()> {
        self.via(via, |client| client.check_usable(key))
    }

    pub(super) fn rotate_due(&self) -> Result<Vec<KeyId>> {
        Ok(self.maintain()?.rotated)
    }
}
