//! What a key is, and what it may be used for in which state.

use std::fmt;

use super::error::{KmsError, Result};

/// An enum whose values are the API's words, in the keystore as well.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// The value's word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }

            /// The value of a word, if there is one.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$value),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The kind of a key's material.
    KeySpec {
        /// AES-256-GCM.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
    }
}

words! {
    /// What a key is for.
    KeyUsage {
        /// Encrypt and decrypt.
        EncryptDecrypt = "ENCRYPT_DECRYPT",
    }
}

words! {
    /// Where a key's material came from.
    Origin {
        /// Made by the key manager.
        AwsKms = "AWS_KMS",
    }
}

words! {
    /// Who manages a key. The words are the API's: AWS calls the service itself `AWS`.
    KeyManager {
        /// The service: made on first use, rotated each year, usable through volumes only.
        Service = "AWS",
        /// Its user.
        Customer = "CUSTOMER",
    }
}

words! {
    /// How a key material came to be current.
    RotationType {
        /// The key's rotation period was over.
        Automatic = "AUTOMATIC",
        /// Somebody asked for it.
        OnDemand = "ON_DEMAND",
    }
}

words! {
    /// A key's state.
    KeyState {
        /// In use.
        Enabled = "Enabled",
        /// Not to be used until it is enabled again.
        Disabled = "Disabled",
    }
}

words! {
    /// What can be done with a key, as AWS KMS names it.
    Operation {
        /// `Encrypt`
        Encrypt = "Encrypt",
        /// `Decrypt`
        Decrypt = "Decrypt",
        /// The source key's part in `ReEncrypt`.
        ReEncryptFrom = "ReEncryptFrom",
        /// The destination key's part in `ReEncrypt`.
        ReEncryptTo = "ReEncryptTo",
        /// `GenerateDataKey`
        GenerateDataKey = "GenerateDataKey",
        /// `DescribeKey`
        DescribeKey = "DescribeKey",
        /// `EnableKey`
        EnableKey = "EnableKey",
        /// `DisableKey`
        DisableKey = "DisableKey",
        /// `CreateAlias`
        CreateAlias = "CreateAlias",
        /// `UpdateAlias`
        UpdateAlias = "UpdateAlias",
        /// `DeleteAlias`
        DeleteAlias = "DeleteAlias",
        /// `ListAliases`
        ListAliases = "ListAliases",
        /// `EnableKeyRotation`
        EnableKeyRotation = "EnableKeyRotation",
        /// `DisableKeyRotation`
        DisableKeyRotation = "DisableKeyRotation",
        /// `GetKeyRotationStatus`
        GetKeyRotationStatus = "GetKeyRotationStatus",
        /// `RotateKeyOnDemand`
        RotateKeyOnDemand = "RotateKeyOnDemand",
        /// `ListKeyRotations`
        ListKeyRotations = "ListKeyRotations",
    }
}

/// What an operation does, as far as rights on service-managed keys go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Uses the key's material.
    Cryptographic,
    /// Changes the key.
    Management,
    /// Looks at it.
    Reading,
}

impl Operation {
    pub(super) fn class(self) -> Class {
        match self {
            Self::Encrypt
            | Self::Decrypt
            | Self::ReEncryptFrom
            | Self::ReEncryptTo
            | Self::GenerateDataKey => Class::Cryptographic,
            Self::EnableKey
            | Self::DisableKey
            | Self::CreateAlias
            | Self::UpdateAlias
            | Self::DeleteAlias
            | Self::EnableKeyRotation
            | Self::DisableKeyRotation
            | Self::RotateKeyOnDemand => Class::Management,
            Self::DescribeKey
            | Self::ListAliases
            | Self::GetKeyRotationStatus
            | Self::ListKeyRotations => Class::Reading,
        }
    }
}

impl KeyState {
    /// The key-state table of the AWS KMS developer guide ("Key states of AWS KMS keys"): whether
    /// `operation` is allowed in this state, and the exception if not. `arn` is for its message.
    ///
    /// # Errors
    /// [`KmsError::Disabled`].
    pub fn allows(self, operation: Operation, arn: impl FnOnce() -> String) -> Result<()> {
        use Operation as O;
        match (self, operation) {
            (Self::Enabled, _)
            | (
                Self::Disabled,
                O::DescribeKey
                | O::EnableKey
                | O::DisableKey
                | O::CreateAlias
                | O::UpdateAlias
                | O::DeleteAlias
                | O::ListAliases
                | O::GetKeyRotationStatus
                | O::ListKeyRotations,
            ) => Ok(()),
            (
                Self::Disabled,
                O::Encrypt
                | O::Decrypt
                | O::ReEncryptFrom
                | O::ReEncryptTo
                | O::GenerateDataKey
                | O::EnableKeyRotation
                | O::DisableKeyRotation
                | O::RotateKeyOnDemand,
            ) => Err(KmsError::Disabled { arn: arn() }),
        }
    }
}
