//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases.

use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::KeyId;
use super::super::reference::{AliasName, KeyRef, Resource};
use super::super::state::Operation;
use super::super::store::{AliasRow, alias_target};
use super::super::{Kms, Via};
use super::{Listing, Page};

/// Aliases that a key may have, as in AWS KMS.
const ALIASES_PER_KEY: i64 = 50;

/// `AliasListEntry`
#[derive(Clone, Debug)]
pub struct AliasEntry {
    /// `AliasName`
    pub name: String,
    /// `AliasArn`
    pub arn: String,
    /// `TargetKeyId`
    pub target: KeyId,
    /// `CreationDate`
    pub creation_date: Timestamp,
    /// `LastUpdatedDate`
    pub last_updated_date: Timestamp,
}

impl Kms {
    /// CreateAlias.
    ///
    /// # Errors
    /// [`KmsError::InvalidAliasName`] (reserved names too), [`KmsError::AlreadyExists`],
    /// [`KmsError::NotFound`], [`KmsError::LimitExceeded`], [`KmsError::AccessDenied`].
    pub fn create_alias(&self, name: &AliasName, target: &KeyRef) -> Result<()> {
        check_not_reserved(name)?;
        let id = self.resolve_key(target)?;
        let now = self.now();
        self.store.change(|change| {
            self.authorized_row(change, Via::User, Operation::CreateAlias, &id)?;
            if change.alias_target(name)?.is_some() {
                let arn = self.arn(Resource::Alias(name.clone()));
                return Err(KmsError::AlreadyExists(format!(
                    "An alias with the name {arn} already exists"
                )));
            }
            self.check_alias_quota(change.count_aliases(&id)?, &id)?;
            change.insert_alias(name, &id, now)
        })
    }

    /// UpdateAlias: points an alias to another key of the same kind and usage.
    ///
    /// # Errors
    /// As [`Kms::create_alias`]; [`KmsError::UnsupportedOperation`] when the keys differ in kind.
    pub fn update_alias(&self, name: &AliasName, target: &KeyRef) -> Result<()> {
        check_not_reserved(name)?;
        let id = self.resolve_key(target)?;
        let now = self.now();
        self.store.change(|change| {
            let old = change
                .alias_target(name)?
                .ok_or_else(|| self.no_alias(name))?;
            let old = self.authorized_row(change, Via::User, Operation::UpdateAlias, &old)?;
            let new = self.authorized_row(change, Via::User, Operation::UpdateAlias, &id)?;
            if (old.spec, old.usage) != (new.spec, new.usage) {
                return Err(KmsError::UnsupportedOperation(format!(
                    "{name} points to a {} key for {}; it can't point to a {} key for {}",
                    old.spec, old.usage, new.spec, new.usage
                )));
            }
            if old.id != new.id {
                self.check_alias_quota(change.count_aliases(&id)?, &id)?;
            }
            change.move_alias(name, &id, now)
        })
    }

    /// DeleteAlias. The key stays.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::InvalidAliasName`] (reserved names).
    pub fn delete_alias(&self, name: &AliasName) -> Result<()> {
        check_not_reserved(name)?;
        self.store.change(|change| {
            let target = change
                .alias_target(name)?
                .ok_or_else(|| self.no_alias(name))?;
            self.authorized_row(change, Via::User, Operation::DeleteAlias, &target)?;
            change.delete_alias(name)
        })
    }

    /// ListAliases, in the order of names, of one key or of all; 50 unless told otherwise, at most
    /// 100.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Validation`], [`KmsError::InvalidMarker`].
    pub fn list_aliases(&self, key: Option<&KeyRef>, page: &Page) -> Result<Listing<AliasEntry>> {
        let limit = page.limit(50, 100)?;
        let after = page.after("aliases")?.unwrap_or_default();
        let id = key.map(|key| self.resolve_key(key)).transpose()?;
        if let Some(id) = &id {
            self.authorized(Via::User, Operation::ListAliases, id)?;
        }
        let rows = self
            .store
            .read(|sql| AliasRow::list(sql, id.as_ref(), &after, i64::from(limit) + 1))?;
        let listing = Listing::cut(rows, limit, "aliases", |row| row.name.clone());
        Ok(listing.map(|row| AliasEntry {
            arn: format!(
                "arn:aws:kms:{}:{}:{}",
                self.region, self.account_id, row.name
            ),
            name: row.name,
            target: row.key,
            creation_date: row.created,
            last_updated_date: row.updated,
        }))
    }

    /// The key that an alias points to.
    pub(in crate::kms) fn alias_target(&self, name: &AliasName) -> Result<Option<KeyId>> {
        self.store.read(|sql| alias_target(sql, name))
    }

    pub(in crate::kms) fn no_alias(&self, name: &AliasName) -> KmsError {
        let arn = self.arn(Resource::Alias(name.clone()));
        KmsError::NotFound(format!("Alias {arn} is not found."))
    }

    fn check_alias_quota(&self, has: i64, id: &KeyId) -> Result<()> {
        if has < ALIASES_PER_KEY {
            return Ok(());
        }
        Err(KmsError::LimitExceeded(format!(
            "{} has {ALIASES_PER_KEY} aliases, as many as a key may have",
            self.key_arn(id)
        )))
    }
}

fn check_not_reserved(name: &AliasName) -> Result<()> {
    if name.is_reserved() {
        return Err(KmsError::InvalidAliasName(format!(
            "alias name '{name}' is reserved: aliases under alias/envelopefs/ and alias/aws/ \
             belong to the service"
        )));
    }
    Ok(())
}
