//! What volumes need: 32-byte data keys that never lie outside locked memory.

use super::context::EncryptionContext;
use super::error::{KmsError, Result};
use super::id::{KeyId, MaterialId};
use super::reference::AliasName;
use super::spec::{KeyManager, KeySpec, KeyUsage, Origin};
use super::state::Operation;
use super::store::{DEFAULT_PERIOD_DAYS, NewKey};
use super::{CachedKey, Kms, Via, wrap};
use crate::crypto;
use crate::format::blob::{Blob, BlobHeader};
use crate::secret::Key256;

/// A new data key: in the clear and wrapped.
pub struct DataKey {
    /// The key.
    pub plaintext: Key256,
    /// Its `CiphertextBlob`, [`crate::format::blob::DATA_KEY_LEN`] bytes.
    pub blob: Vec<u8>,
}

impl Kms {
    /// Makes a data key under the current material of `key`.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::AccessDenied`].
    pub fn generate_data_key(
        &self,
        via: Via,
        key: &KeyId,
        context: &EncryptionContext,
    ) -> Result<DataKey> {
        let key = self.authorized(via, Operation::GenerateDataKey, key)?;
        let plaintext: Key256 = crypto::random_key();
        let (blob, _) = seal_under(&key, context, plaintext.expose());
        Ok(DataKey { plaintext, blob })
    }

    /// Opens a wrapped data key.
    ///
    /// # Errors
    /// [`KmsError::InvalidCiphertext`] when it is damaged, no data key, or of another context;
    /// [`KmsError::KeyMissing`], [`KmsError::Disabled`], [`KmsError::AccessDenied`].
    pub fn decrypt_data_key(
        &self,
        via: Via,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Key256> {
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let key = self.wrapping_key(via, Operation::Decrypt, &blob)?;
        open_data_key(&key, &blob, context)
    }

    /// Wraps a data key anew: under the current material of `to_key` and another context.
    ///
    /// # Errors
    /// As [`Kms::decrypt_data_key`] and [`Kms::generate_data_key`].
    pub fn re_encrypt_data_key(
        &self,
        via: Via,
        blob: &[u8],
        from: &EncryptionContext,
        to_key: &KeyId,
        to: &EncryptionContext,
    ) -> Result<Vec<u8>> {
        let blob = Blob::parse(blob).map_err(|_| KmsError::InvalidCiphertext)?;
        let source = self.wrapping_key(via, Operation::ReEncryptFrom, &blob)?;
        let destination = self.authorized(via, Operation::ReEncryptTo, to_key)?;
        let plaintext = open_data_key(&source, &blob, from)?;
        Ok(seal_under(&destination, to, plaintext.expose()).0)
    }

    /// Whether `key` may decrypt at this moment. A few microseconds; a change that another process
    /// made is seen from the moment it was made.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::AccessDenied`].
    pub fn check_usable(&self, via: Via, key: &KeyId) -> Result<()> {
        self.authorized(via, Operation::Decrypt, key).map(|_| ())
    }

    /// The material that `key` wraps with now.
    ///
    /// # Errors
    /// [`KmsError::NotFound`].
    pub fn current_material(&self, key: &KeyId) -> Result<MaterialId> {
        Ok(self.cached(key)?.current().0)
    }

    /// The service-managed key of an alias (`alias/envelopefs/...`), made on first use. It rotates
    /// each year.
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
        if let Some(id) = self.alias_target(&name)? {
            return Ok(id);
        }
        let now = self.now();
        self.store.change(|change| {
            // Another process may have made it in the meantime.
            if let Some(id) = change.alias_target(&name)? {
                return Ok(id);
            }
            let id = change.insert_key(&NewKey {
                spec: KeySpec::SymmetricDefault,
                usage: KeyUsage::EncryptDecrypt,
                origin: Origin::AwsKms,
                manager: KeyManager::Service,
                description: "Default key that protects my volumes when no other key is defined",
                rotation_days: Some(DEFAULT_PERIOD_DAYS),
                now,
            })?;
            change.insert_alias(&name, &id, now)?;
            Ok(id)
        })
    }

    /// The key that a blob names, when `operation` is allowed on it.
    pub(super) fn wrapping_key(
        &self,
        via: Via,
        operation: Operation,
        blob: &Blob<'_>,
    ) -> Result<std::sync::Arc<CachedKey>> {
        let id = KeyId::new(blob.header.key_id, blob.header.multi_region);
        let key = self
            .cache
            .get(self.store.sealer(), &id)?
            .ok_or(KmsError::KeyMissing { key: id })?;
        self.authorize(via, operation, &key.row)?;
        Ok(key)
    }
}

/// Wraps under a key's current material; also says which that was.
pub(super) fn seal_under(
    key: &CachedKey,
    context: &EncryptionContext,
    plain: &[u8],
) -> (Vec<u8>, MaterialId) {
    let (material, secret) = key.current();
    let header = BlobHeader {
        key_id: *key.row.id.bytes(),
        multi_region: key.row.id.is_multi_region(),
        material: material.prefix(),
        salt: crypto::random_array(),
    };
    (wrap::seal(secret, &header, context, plain), *material)
}

/// Unwraps into `plain`, which is as long as the ciphertext; says with which material.
pub(super) fn open_under(
    key: &CachedKey,
    blob: &Blob<'_>,
    context: &EncryptionContext,
    plain: &mut [u8],
) -> Result<MaterialId> {
    let (material, secret) = key
        .by_prefix(blob.header.material)
        .ok_or(KmsError::InvalidCiphertext)?;
    wrap::open(secret, blob, context, plain).map_err(|_| KmsError::InvalidCiphertext)?;
    Ok(*material)
}

fn open_data_key(key: &CachedKey, blob: &Blob<'_>, context: &EncryptionContext) -> Result<Key256> {
    Key256::try_init(|plain| {
        if blob.ciphertext.len() != plain.len() {
            return Err(KmsError::InvalidCiphertext);
        }
        open_under(key, blob, context, plain).map(|_| ())
    })
}
