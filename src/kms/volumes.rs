//! What volumes need: data keys that never lie outside locked memory, keys of the service's own,
//! and a grant for each volume.

use std::io::Write;
use std::time::Duration;

use super::audit::Parameters;
use super::cache::{Cache, CachedKey};
use super::caller::{Caller, Principal};
use super::client::{Call, Client};
use super::context::EncryptionContext;
use super::error::{KmsError, Result};
use super::id::{KeyId, MaterialId};
use super::policy::Facts;
use super::reference::AliasName;
use super::spec::{KeyManager, KeySpec, KeyUsage, Origin};
use super::state::Operation;
use super::store::{
    DEFAULT_PERIOD_DAYS, Grant, GrantConstraints, MaterialSecret, NewKey, Place, new_secret,
    was_admitted,
};
use super::{Kms, wrap};
use crate::crypto;
use crate::format::VolumeId;
use crate::format::blob::{Blob, BlobHeader};
use crate::secret::Key256;

/// What a volume's grant allows.
const VOLUME_OPERATIONS: [Operation; 5] = [
    Operation::Decrypt,
    Operation::GenerateDataKey,
    Operation::ReEncryptFrom,
    Operation::ReEncryptTo,
    Operation::DescribeKey,
];

/// A new data key: in the clear and wrapped.
pub struct DataKey {
    /// The key.
    pub plaintext: Key256,
    /// Its `CiphertextBlob`, [`crate::format::blob::DATA_KEY_LEN`] bytes.
    pub blob: Vec<u8>,
}

/// The encryption context of a volume's own key, the start of its files', and what its grant is
/// bound to.
pub fn volume_context(volume: &VolumeId) -> EncryptionContext {
    EncryptionContext::new().with("envelopefs:volume-id", volume.to_string())
}

/// The parameters of an operation on a data key, as they are recorded.
struct Shown<'a> {
    key: &'a KeyId,
    context: &'a EncryptionContext,
}

/// The same, of a data key that the volume got in the clear as well.
struct HandedOut<'a>(Shown<'a>);

impl Parameters for Shown<'_> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        // Writing to a Vec does not fail.
        let _ = write!(out, r#"{{"keyId":"{}","encryptionContext":"#, self.key);
        self.context.write_json(out)?;
        out.push(b'}');
        Ok(())
    }
}

impl Parameters for HandedOut<'_> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        self.0.write_json(out)?;
        out.pop();
        out.extend_from_slice(br#","decrypted":true}"#);
        Ok(())
    }
}

impl Client<'_> {
    /// GenerateDataKey for a volume: 32 bytes under the current material of `key`.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::InvalidState`],
    /// [`KmsError::AccessDenied`].
    pub fn generate_data_key_for_volume(
        &self,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        let operation = Operation::GenerateDataKey;
        let _look = self.kms().cache.look();
        self.perform(operation, Some(&Shown { key, context }), |call| {
            let key = call.use_id(key, operation, &with_context(context))?;
            let plaintext: Key256 = crypto::random_key();
            let (blob, material) = seal_under(&key, context, plaintext.expose())?;
            call.used(&key, &material);
            Ok(DataKey { plaintext, blob })
        })
    }

    /// Decrypt for a volume: opens a wrapped data key.
    ///
    /// # Errors
    /// [`KmsError::InvalidCiphertext`] when it is damaged, no data key, or of another context;
    /// [`KmsError::KeyMissing`], [`KmsError::Disabled`], [`KmsError::InvalidState`],
    /// [`KmsError::AccessDenied`].
    pub fn decrypt_data_key(&self, blob: &[u8], context: &EncryptionContext) -> Result<Key256> {
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let id = key_of(&blob);
        let shown = Shown { key: &id, context };
        let _look = self.kms().cache.look();
        self.perform(Operation::Decrypt, Some(&shown), |call| {
            let key = blob_key(call, &blob, Operation::Decrypt, &with_context(context))?;
            open_data_key(call, &key, &blob, context)
        })
    }

    /// ReEncrypt for a volume: wraps a data key anew, under the current material of `to_key` and
    /// another context.
    ///
    /// # Errors
    /// As [`Client::decrypt_data_key`] and [`Client::generate_data_key_for_volume`].
    pub fn re_encrypt_data_key(
        &self,
        blob: &[u8],
        from: &EncryptionContext,
        to_key: &KeyId,
        to: &EncryptionContext,
    ) -> Result<Vec<u8>> {
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let shown = Shown {
            key: to_key,
            context: to,
        };
        let _look = self.kms().cache.look();
        self.perform(Operation::ReEncrypt, Some(&shown), |call| {
            let (_, blob) = wrap_anew(call, &blob, from, to_key, to)?;
            Ok(blob)
        })
    }

    /// Decrypt and ReEncrypt of one data key, for a volume that needs both: one use of the key and
    /// one record, which says that the data key was handed out too.
    ///
    /// # Errors
    /// As [`Client::decrypt_data_key`] and [`Client::re_encrypt_data_key`].
    pub fn open_and_re_encrypt_data_key(
        &self,
        blob: &[u8],
        context: &EncryptionContext,
        to_key: &KeyId,
    ) -> Result<(Key256, Vec<u8>)> {
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let shown = HandedOut(Shown {
            key: to_key,
            context,
        });
        let _look = self.kms().cache.look();
        self.perform(Operation::ReEncrypt, Some(&shown), |call| {
            blob_key(call, &blob, Operation::Decrypt, &with_context(context))?;
            wrap_anew(call, &blob, context, to_key, context)
        })
    }
}

/// The data key of a blob, and what it is under the current material of `to_key` and another context.
fn wrap_anew(
    call: &Call<'_>,
    blob: &Blob<'_>,
    from: &EncryptionContext,
    to_key: &KeyId,
    to: &EncryptionContext,
) -> Result<(Key256, Vec<u8>)> {
    let source = blob_key(call, blob, Operation::ReEncryptFrom, &with_context(from))?;
    let destination = call.use_id(to_key, Operation::ReEncryptTo, &with_context(to))?;
    let plaintext = open_data_key(call, &source, blob, from)?;
    let (blob, material) = seal_under(&destination, to, plaintext.expose())?;
    call.used(&destination, &material);
    Ok((plaintext, blob))
}

impl Kms {
    /// The caller that a volume is.
    pub fn volume_caller(&self, volume: &VolumeId) -> Caller {
        self.caller(Principal::Volume(*volume))
    }

    /// Whether volumes can be made under a key: it is symmetric, and in use.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::InvalidState`],
    /// [`KmsError::InvalidKeyUsage`].
    pub fn check_volume_key(&self, key: &KeyId) -> Result<()> {
        let key = self.cached_anywhere(key)?;
        if !key.row.spec.is_symmetric() {
            return Err(KmsError::InvalidKeyUsage(format!(
                "{} is a {} key; a volume needs a symmetric one",
                key.arn, key.row.spec
            )));
        }
        let arn = || key.arn.to_string();
        key.row.state.allows(Operation::GenerateDataKey, arn)
    }

    /// The material that `key` wraps with now.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::InvalidState`].
    pub fn current_material(&self, key: &KeyId) -> Result<MaterialId> {
        Ok(*self.cached_anywhere(key)?.current()?.0)
    }

    /// How long the material that `key` wraps with has been the current one.
    ///
    /// # Errors
    /// As [`Kms::current_material`].
    pub fn material_age(&self, key: &KeyId) -> Result<Duration> {
        let since = self.cached_anywhere(key)?.current_since()?;
        Ok(since.until(self.now()))
    }

    /// RotateKeyOnDemand for the CMK of a volume, by the account root. A service-managed key has
    /// no limit of rotations.
    ///
    /// # Errors
    /// As RotateKeyOnDemand.
    pub fn rotate_volume_key(&self, volume: &VolumeId, key: &KeyId) -> Result<()> {
        let row = &self.cached_anywhere(key)?.row;
        let caller = match row.manager {
            KeyManager::Service => self.volume_caller(volume),
            KeyManager::Customer => self.caller(self.local_principal()?),
        };
        let caller = caller.in_region(row.region);
        self.client(&caller).rotate_key_on_demand(&(*key).into())?;
        Ok(())
    }

    /// The service-managed key of an alias (`alias/envelopefs/...`) in the default Region, made on
    /// first use. It rotates each year.
    ///
    /// # Errors
    /// [`KmsError::Validation`] when the alias is not the service's.
    pub fn service_key(&self, alias: &str) -> Result<KeyId> {
        let name: AliasName = alias.parse()?;
        if !name.as_str().starts_with(super::SERVICE_PREFIX) {
            return Err(KmsError::Validation(format!(
                "service-managed keys have aliases under {}, unlike {name}",
                super::SERVICE_PREFIX
            )));
        }
        let region = self.region();
        if let Some(place) = self.alias_target(region, &name)? {
            return Ok(place.id);
        }
        let caller = self.caller(Principal::Service);
        let client = self.client(&caller);
        client.perform(Operation::CreateKey, None, |call| {
            let secret = new_secret(KeySpec::SymmetricDefault)?;
            call.change(|change| {
                // Another process may have made it in the meantime.
                if let Some(place) = change.alias_target(region, &name)? {
                    return Ok(place.id);
                }
                let place = change.insert_key(&NewKey {
                    region,
                    spec: KeySpec::SymmetricDefault,
                    usage: KeyUsage::EncryptDecrypt,
                    origin: Origin::AwsKms,
                    multi_region: false,
                    manager: KeyManager::Service,
                    description:
                        "Default key that protects my volumes when no other key is defined",
                    policy: None,
                    secret: Some(&secret),
                    rotation_days: Some(DEFAULT_PERIOD_DAYS),
                    now: call.now(),
                })?;
                call.made(&place);
                change.insert_alias(&name, &place, call.now())?;
                Ok(place.id)
            })
        })
    }

    /// Gives a volume its grant of a key, on the authority of who runs this process. False when it
    /// was given one before: one that was revoked is given again by CreateGrant alone.
    pub(super) fn admit_volume(&self, volume: &VolumeId, place: &Place) -> Result<bool> {
        if self.store.read(|sql| was_admitted(sql, place, volume))? {
            return Ok(false);
        }
        Cache::look_again();
        let volume_arn = Principal::Volume(*volume).arn(self.account_id());
        let sponsor = self.caller(self.local_principal()?).in_region(place.region);
        let constraints = GrantConstraints {
            encryption_context_subset: Some(volume_context(volume)),
            ..GrantConstraints::default()
        };
        let facts = Facts {
            grant_is_for_aws_resource: Some(true),
            grantee_principal: Some(&volume_arn),
            retiring_principal: Some(&volume_arn),
            grant_constraint_type: Some("EncryptionContextSubset"),
            ..Facts::default()
        };
        let context = volume_context(volume);
        let shown = Shown {
            key: &place.id,
            context: &context,
        };
        let client = self.client(&sponsor);
        client.perform(Operation::CreateGrant, Some(&shown), |call| {
            call.change(|change| {
                call.row_for_volume(change, place, &facts)?;
                if !change.admit_volume(place, volume)? {
                    return Ok(false);
                }
                change.insert_grant(
                    place,
                    &Grant {
                        id: super::api::new_grant_id(),
                        name: Some(format!("envelopefs:volume:{volume}")),
                        created: call.now(),
                        grantee: volume_arn.clone(),
                        grantee_is_service: false,
                        retiring: Some(volume_arn.clone()),
                        retiring_is_service: false,
                        issuer: Principal::Root.arn(self.account_id()),
                        operations: VOLUME_OPERATIONS.to_vec(),
                        constraints: Some(constraints.clone()),
                    },
                )?;
                Ok(true)
            })
        })
    }
}

fn with_context(context: &EncryptionContext) -> Facts<'_> {
    Facts {
        encryption_context: Some(context),
        ..Facts::default()
    }
}

/// The key that a blob names.
pub(super) fn key_of(blob: &Blob<'_>) -> KeyId {
    KeyId::new(blob.header.key_id, blob.header.multi_region)
}

/// The key that a blob names, when `operation` is allowed on it.
pub(super) fn blob_key(
    call: &Call<'_>,
    blob: &Blob<'_>,
    operation: Operation,
    facts: &Facts<'_>,
) -> Result<std::sync::Arc<CachedKey>> {
    let id = key_of(blob);
    let key = call.key(&id).map_err(|error| match error {
        KmsError::NotFound(_) => KmsError::KeyMissing {
            key: id,
            material: format!("{:016x}", u64::from_be_bytes(blob.header.material)),
        },
        other => other,
    })?;
    call.authorize_cached(key, operation, facts)
}

/// Wraps under a key's current material; also says which that was.
pub(super) fn seal_under(
    key: &CachedKey,
    context: &EncryptionContext,
    plain: &[u8],
) -> Result<(Vec<u8>, MaterialId)> {
    let (material, secret) = symmetric(key, key.current()?)?;
    let header = BlobHeader {
        key_id: *key.row.id.bytes(),
        multi_region: key.row.id.is_multi_region(),
        material: material.prefix(),
        salt: crypto::random_array(),
    };
    Ok((wrap::seal(secret, &header, context, plain), *material))
}

/// Unwraps into `plain`, which is as long as the ciphertext; says with which material.
pub(super) fn open_under(
    key: &CachedKey,
    blob: &Blob<'_>,
    context: &EncryptionContext,
    plain: &mut [u8],
) -> Result<MaterialId> {
    let found =
        key.by_prefix(blob.header.material)
            .ok_or_else(|| match key.gone(blob.header.material) {
                Some(material) => KmsError::MaterialMissing {
                    arn: key.arn.to_string(),
                    material,
                },
                None => KmsError::InvalidCiphertext,
            });
    let (material, secret) = symmetric(key, found?)?;
    wrap::open(secret, blob, context, plain).map_err(|_| KmsError::InvalidCiphertext)?;
    Ok(*material)
}

/// The material of a symmetric key.
fn symmetric<'k>(
    key: &CachedKey,
    (id, secret): (&'k MaterialId, &'k MaterialSecret),
) -> Result<(&'k MaterialId, &'k Key256)> {
    match secret {
        MaterialSecret::Symmetric(secret) => Ok((id, secret)),
        MaterialSecret::Bytes(_) => Err(KmsError::InvalidKeyUsage(format!(
            "{} is a {} key, and no symmetric encryption key",
            key.arn, key.row.spec
        ))),
    }
}

fn open_data_key(
    call: &Call<'_>,
    key: &CachedKey,
    blob: &Blob<'_>,
    context: &EncryptionContext,
) -> Result<Key256> {
    Key256::try_init(|plain| {
        if blob.ciphertext.len() != plain.len() {
            return Err(KmsError::InvalidCiphertext);
        }
        let material = open_under(key, blob, context, plain)?;
        call.used(key, &material);
        Ok(())
    })
}
