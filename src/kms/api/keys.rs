//! CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey.

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::{KeyId, MaterialId};
use super::super::reference::KeyRef;
use super::super::spec::{KeyManager, KeySpec, KeyUsage, Origin, RotationType};
use super::super::state::{KeyState, Operation};
use super::super::store::{KeyRow, NewKey};
use super::super::{Kms, Via};
use super::{Listing, Page};

/// What CreateKey is told.
#[derive(Clone, Debug)]
pub struct CreateKey {
    /// `Description`, up to 8192 characters.
    pub description: String,
    /// `KeySpec`
    pub spec: KeySpec,
    /// `KeyUsage`
    pub usage: KeyUsage,
    /// `Origin`
    pub origin: Origin,
}

impl Default for CreateKey {
    fn default() -> Self {
        Self {
            description: String::new(),
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
        }
    }
}

/// `KeyMetadata`
#[derive(Clone, Debug)]
pub struct KeyMetadata {
    /// `AWSAccountId`
    pub account_id: String,
    /// `KeyId`
    pub key_id: KeyId,
    /// `Arn`
    pub arn: String,
    /// `CreationDate`
    pub creation_date: Timestamp,
    /// `Description`
    pub description: String,
    /// `KeyUsage`
    pub usage: KeyUsage,
    /// `KeyState`; `Enabled` is whether it is that.
    pub state: KeyState,
    /// `Origin`
    pub origin: Origin,
    /// `KeyManager`
    pub manager: KeyManager,
    /// `KeySpec`
    pub spec: KeySpec,
    /// `CurrentKeyMaterialId`
    pub current_material: MaterialId,
}

/// `KeyListEntry`
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// `KeyId`
    pub key_id: KeyId,
    /// `KeyArn`
    pub arn: String,
}

impl Kms {
    /// CreateKey.
    ///
    /// # Errors
    /// [`KmsError::Validation`] when the description is too long.
    pub fn create_key(&self, request: &CreateKey) -> Result<KeyMetadata> {
        if request.description.chars().count() > 8192 {
            return Err(KmsError::Validation(
                "Description has more than 8192 characters".to_owned(),
            ));
        }
        if (request.spec, request.usage, request.origin)
            != (
                KeySpec::SymmetricDefault,
                KeyUsage::EncryptDecrypt,
                Origin::AwsKms,
            )
        {
            return Err(KmsError::UnsupportedOperation(format!(
                "a {} key for {} of origin {} is not supported",
                request.spec, request.usage, request.origin
            )));
        }
        let now = self.now();
        let id = self.store.change(|change| {
            change.insert_key(&NewKey {
                spec: request.spec,
                usage: request.usage,
                origin: request.origin,
                manager: KeyManager::Customer,
                description: &request.description,
                rotation_days: None,
                now,
            })
        })?;
        self.describe_key(&id.into())
    }

    /// DescribeKey.
    ///
    /// # Errors
    /// [`KmsError::NotFound`].
    pub fn describe_key(&self, key: &KeyRef) -> Result<KeyMetadata> {
        let id = self.resolve(key)?;
        let key = self.authorized(Via::User, Operation::DescribeKey, &id)?;
        let row = &key.row;
        Ok(KeyMetadata {
            account_id: self.account_id.clone(),
            key_id: id,
            arn: self.key_arn(&id),
            creation_date: row.created,
            description: row.description.clone(),
            usage: row.usage,
            state: row.state,
            origin: row.origin,
            manager: row.manager,
            spec: row.spec,
            current_material: key.current().0,
        })
    }

    /// ListKeys, in the order of creation; 100 unless told otherwise, at most 1000.
    ///
    /// # Errors
    /// [`KmsError::Validation`], [`KmsError::InvalidMarker`].
    pub fn list_keys(&self, page: &Page) -> Result<Listing<KeyEntry>> {
        let limit = page.limit(100, 1000)?;
        let after = page.after_number("keys")?;
        let rows = self
            .store
            .read(|sql| KeyRow::list(sql, after, i64::from(limit) + 1))?;
        let listing = Listing::cut(rows, limit, "keys", |row| row.number.to_string());
        Ok(listing.map(|row| KeyEntry {
            key_id: row.id,
            arn: self.key_arn(&row.id),
        }))
    }

    /// EnableKey. A key whose automatic rotation fell due while it was disabled rotates at once.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::AccessDenied`].
    pub fn enable_key(&self, key: &KeyRef) -> Result<()> {
        let id = self.resolve_key(key)?;
        let now = self.now();
        self.store.change(|change| {
            let row = self.authorized_row(change, Via::User, Operation::EnableKey, &id)?;
            if row.state == KeyState::Enabled {
                return Ok(());
            }
            change.set_state(&id, KeyState::Enabled)?;
            if row.schedule.is_due(now) {
                change.rotate(&id, RotationType::Automatic, now)?;
            }
            Ok(())
        })
    }

    /// DisableKey. From when it returns, no process uses the key.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::AccessDenied`].
    pub fn disable_key(&self, key: &KeyRef) -> Result<()> {
        let id = self.resolve_key(key)?;
        self.store.change(|change| {
            let row = self.authorized_row(change, Via::User, Operation::DisableKey, &id)?;
            if row.state == KeyState::Disabled {
                return Ok(());
            }
            change.set_state(&id, KeyState::Disabled)
        })
    }
}
