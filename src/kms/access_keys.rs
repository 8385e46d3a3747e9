//! Access keys: what network clients sign their requests with.

use serde::Serialize;
use zeroize::Zeroizing;

use super::Kms;
use super::caller::{Principal, is_user_name};
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::store::{AccessKeyRow, open_access_key};
use crate::crypto;
use crate::secret::{Secret, SecretText};

/// Access keys that one user may have. AWS has two; here one machine may have one each.
const PER_USER: usize = 100;
/// What ids begin with, as AWS's of users do.
const PREFIX: &str = "AKIA";
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An access key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AccessKeyInfo {
    /// `UserName`; none for the account root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// `AccessKeyId`
    pub access_key_id: String,
    /// `Status`: `Active`.
    pub status: &'static str,
    /// `CreateDate`
    pub create_date: Timestamp,
}

/// A new access key. Its secret is shown this once.
pub struct NewAccessKey {
    /// What can be said of it later.
    pub info: AccessKeyInfo,
    /// `SecretAccessKey`: 40 characters.
    pub secret: Zeroizing<String>,
}

/// What a signature is checked against.
pub struct AccessKey {
    /// Whose it is.
    pub principal: Principal,
    /// The secret.
    pub secret: SecretText,
}

impl From<AccessKeyRow> for AccessKeyInfo {
    fn from(row: AccessKeyRow) -> Self {
        Self {
            user_name: Some(row.user).filter(|user| !user.is_empty()),
            access_key_id: row.id,
            status: "Active",
            create_date: row.created,
        }
    }
}

impl Kms {
    /// Makes an access key of a user, or of the account root.
    ///
    /// # Errors
    /// [`KmsError::Validation`] for a name that IAM would not take; [`KmsError::LimitExceeded`].
    pub fn create_access_key(&self, user: Option<&str>) -> Result<NewAccessKey> {
        if let Some(user) = user
            && !is_user_name(user)
        {
            return Err(KmsError::Validation(format!(
                "'{}' is no user name: 1 to 64 of A-Z a-z 0-9 _ + = , . @ -",
                user.escape_debug()
            )));
        }
        let random: [u8; 16] = crypto::random_array();
        let mut id = PREFIX.to_owned();
        id.extend(
            random
                .iter()
                .map(|byte| char::from(ID_LETTERS[usize::from(byte % 32)])),
        );
        let bytes: Secret<40> = crypto::random_key();
        let mut secret = Zeroizing::new(String::with_capacity(40));
        for byte in bytes.expose() {
            secret.push(char::from(SECRET_LETTERS[usize::from(byte % 64)]));
        }
        let row = AccessKeyRow {
            id,
            user: user.unwrap_or_default().to_owned(),
            created: self.now(),
        };
        self.store.change(|change| {
            let has = AccessKeyRow::list(change.sql, Some(&row.user))?.len();
            if has >= PER_USER {
                return Err(KmsError::LimitExceeded(format!(
                    "there are {PER_USER} access keys of that user already"
                )));
            }
            change.insert_access_key(&row, secret.as_bytes())
        })?;
        Ok(NewAccessKey {
            info: row.into(),
            secret,
        })
    }

    /// The access keys, oldest first: of a user (the empty name: of the account root), or all.
    ///
    /// # Errors
    /// [`KmsError::Database`].
    pub fn list_access_keys(&self, user: Option<&str>) -> Result<Vec<AccessKeyInfo>> {
        let rows = self.store.read(|sql| AccessKeyRow::list(sql, user))?;
        Ok(rows.into_iter().map(AccessKeyInfo::from).collect())
    }

    /// Deletes an access key: requests that it signs are refused from then on.
    ///
    /// # Errors
    /// [`KmsError::NotFound`].
    pub fn delete_access_key(&self, id: &str) -> Result<()> {
        self.store.change(|change| change.delete_access_key(id))?;
        self.store.clean()
    }

    /// The access key of an id, as it stands now; none when there is none. A few microseconds.
    ///
    /// # Errors
    /// [`KmsError::Damaged`], [`KmsError::Database`].
    pub fn access_key(&self, id: &str) -> Result<Option<AccessKey>> {
        let sealer = self.store.sealer();
        let found = self.store.read(|sql| open_access_key(sql, sealer, id))?;
        Ok(found.map(|(user, secret)| AccessKey {
            principal: if user.is_empty() {
                Principal::Root
            } else {
                Principal::User(user)
            },
            secret,
        }))
    }
}
