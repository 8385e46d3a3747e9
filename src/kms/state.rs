//! What may be done with a key in which state.

use super::error::{KmsError, Result};
use super::words::words;

words! {
    /// A key's state.
    KeyState {
        /// A replica that is being made.
        Creating = "Creating",
        /// In use.
        Enabled = "Enabled",
        /// Not to be used until it is enabled again.
        Disabled = "Disabled",
        /// To be destroyed at its deletion date.
        PendingDeletion = "PendingDeletion",
        /// Without material that was imported and has not expired.
        PendingImport = "PendingImport",
        /// A primary key that waits for its replicas to be deleted.
        PendingReplicaDeletion = "PendingReplicaDeletion",
        /// In a custom key store that is not connected.
        Unavailable = "Unavailable",
        /// One of several Regions' keys while the primary moves.
        Updating = "Updating",
    }
}

words! {
    /// The operations of AWS KMS, and what the two keys of ReEncrypt take part in.
    Operation {
        /// `CancelKeyDeletion`
        CancelKeyDeletion = "CancelKeyDeletion",
        /// `ConnectCustomKeyStore`
        ConnectCustomKeyStore = "ConnectCustomKeyStore",
        /// `CreateAlias`
        CreateAlias = "CreateAlias",
        /// `CreateCustomKeyStore`
        CreateCustomKeyStore = "CreateCustomKeyStore",
        /// `CreateGrant`
        CreateGrant = "CreateGrant",
        /// `CreateKey`
        CreateKey = "CreateKey",
        /// `Decapsulate`
        Decapsulate = "Decapsulate",
        /// `Decrypt`
        Decrypt = "Decrypt",
        /// `DeleteAlias`
        DeleteAlias = "DeleteAlias",
        /// `DeleteCustomKeyStore`
        DeleteCustomKeyStore = "DeleteCustomKeyStore",
        /// `DeleteImportedKeyMaterial`
        DeleteImportedKeyMaterial = "DeleteImportedKeyMaterial",
        /// `DeriveSharedSecret`
        DeriveSharedSecret = "DeriveSharedSecret",
        /// `DescribeCustomKeyStores`
        DescribeCustomKeyStores = "DescribeCustomKeyStores",
        /// `DescribeKey`
        DescribeKey = "DescribeKey",
        /// `DisableKey`
        DisableKey = "DisableKey",
        /// `DisableKeyRotation`
        DisableKeyRotation = "DisableKeyRotation",
        /// `DisconnectCustomKeyStore`
        DisconnectCustomKeyStore = "DisconnectCustomKeyStore",
        /// `EnableKey`
        EnableKey = "EnableKey",
        /// `EnableKeyRotation`
        EnableKeyRotation = "EnableKeyRotation",
        /// `Encapsulate`
        Encapsulate = "Encapsulate",
        /// `Encrypt`
        Encrypt = "Encrypt",
        /// `GenerateDataKey`
        GenerateDataKey = "GenerateDataKey",
        /// `GenerateDataKeyPair`
        GenerateDataKeyPair = "GenerateDataKeyPair",
        /// `GenerateDataKeyPairWithoutPlaintext`
        GenerateDataKeyPairWithoutPlaintext = "GenerateDataKeyPairWithoutPlaintext",
        /// `GenerateDataKeyWithoutPlaintext`
        GenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext",
        /// `GenerateMac`
        GenerateMac = "GenerateMac",
        /// `GenerateRandom`
        GenerateRandom = "GenerateRandom",
        /// `GetKeyLastUsage`
        GetKeyLastUsage = "GetKeyLastUsage",
        /// `GetKeyPolicy`
        GetKeyPolicy = "GetKeyPolicy",
        /// `GetKeyRotationStatus`
        GetKeyRotationStatus = "GetKeyRotationStatus",
        /// `GetParametersForImport`
        GetParametersForImport = "GetParametersForImport",
        /// `GetPublicKey`
        GetPublicKey = "GetPublicKey",
        /// `ImportKeyMaterial`
        ImportKeyMaterial = "ImportKeyMaterial",
        /// `ListAliases`
        ListAliases = "ListAliases",
        /// `ListGrants`
        ListGrants = "ListGrants",
        /// `ListKeyPolicies`
        ListKeyPolicies = "ListKeyPolicies",
        /// `ListKeyRotations`
        ListKeyRotations = "ListKeyRotations",
        /// `ListKeys`
        ListKeys = "ListKeys",
        /// `ListResourceTags`
        ListResourceTags = "ListResourceTags",
        /// `ListRetirableGrants`
        ListRetirableGrants = "ListRetirableGrants",
        /// `PutKeyPolicy`
        PutKeyPolicy = "PutKeyPolicy",
        /// `ReEncrypt`
        ReEncrypt = "ReEncrypt",
        /// The source key's part in `ReEncrypt`.
        ReEncryptFrom = "ReEncryptFrom",
        /// The destination key's part in `ReEncrypt`.
        ReEncryptTo = "ReEncryptTo",
        /// `ReplicateKey`
        ReplicateKey = "ReplicateKey",
        /// `RetireGrant`
        RetireGrant = "RetireGrant",
        /// `RevokeGrant`
        RevokeGrant = "RevokeGrant",
        /// `RotateKeyOnDemand`
        RotateKeyOnDemand = "RotateKeyOnDemand",
        /// `ScheduleKeyDeletion`
        ScheduleKeyDeletion = "ScheduleKeyDeletion",
        /// `Sign`
        Sign = "Sign",
        /// `TagResource`
        TagResource = "TagResource",
        /// `UntagResource`
        UntagResource = "UntagResource",
        /// `UpdateAlias`
        UpdateAlias = "UpdateAlias",
        /// `UpdateCustomKeyStore`
        UpdateCustomKeyStore = "UpdateCustomKeyStore",
        /// `UpdateKeyDescription`
        UpdateKeyDescription = "UpdateKeyDescription",
        /// `UpdatePrimaryRegion`
        UpdatePrimaryRegion = "UpdatePrimaryRegion",
        /// `Verify`
        Verify = "Verify",
        /// `VerifyMac`
        VerifyMac = "VerifyMac",
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
        use Operation as O;
        match self {
            O::Encrypt
            | O::Decrypt
            | O::ReEncrypt
            | O::ReEncryptFrom
            | O::ReEncryptTo
            | O::GenerateDataKey
            | O::GenerateDataKeyWithoutPlaintext
            | O::GenerateDataKeyPair
            | O::GenerateDataKeyPairWithoutPlaintext
            | O::GenerateRandom
            | O::Sign
            | O::Verify
            | O::GenerateMac
            | O::VerifyMac
            | O::DeriveSharedSecret
            | O::Encapsulate
            | O::Decapsulate => Class::Cryptographic,
            O::DescribeKey
            | O::GetKeyPolicy
            | O::GetKeyRotationStatus
            | O::GetPublicKey
            | O::GetKeyLastUsage
            | O::ListAliases
            | O::ListGrants
            | O::ListKeyPolicies
            | O::ListKeyRotations
            | O::ListKeys
            | O::ListResourceTags
            | O::ListRetirableGrants
            | O::DescribeCustomKeyStores => Class::Reading,
            _ => Class::Management,
        }
    }
}

/// What a state does to an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It is allowed.
    Ok,
    /// `DisabledException`: is disabled.
    Disabled,
    /// `KMSInvalidStateException`: is pending deletion.
    Pending,
    /// `KMSInvalidStateException`: is not pending deletion.
    NotPending,
    /// `KMSInvalidStateException`: is pending import.
    Import,
    /// `KMSInvalidStateException`: is unavailable.
    Unavailable,
    /// `KMSInvalidStateException`: is creating.
    Creating,
    /// `KMSInvalidStateException`: is updating.
    Updating,
}

/// A row of the key-state table of the AWS KMS developer guide ("Key states of AWS KMS keys"): what
/// each state does to the operations of the row. `PendingReplicaDeletion` is as `PendingDeletion`.
/// What depends on the kind of a key (notes 6, 7 and 9 there) is asked for before.
///
/// Columns: Enabled, Disabled, PendingImport, PendingDeletion, Unavailable, Creating, Updating.
fn row(operation: Operation) -> [Rule; 7] {
    use Operation as O;
    use Rule::{Creating, Disabled, Import, NotPending, Ok, Pending, Unavailable, Updating};
    match operation {
        // Needs the material.
        O::Encrypt
        | O::Decrypt
        | O::ReEncrypt
        | O::ReEncryptFrom
        | O::ReEncryptTo
        | O::GenerateDataKey
        | O::GenerateDataKeyWithoutPlaintext
        | O::GenerateDataKeyPair
        | O::GenerateDataKeyPairWithoutPlaintext
        | O::Sign
        | O::Verify
        | O::GenerateMac
        | O::VerifyMac
        | O::DeriveSharedSecret
        | O::Encapsulate
        | O::Decapsulate
        | O::GetPublicKey => [Ok, Disabled, Import, Pending, Unavailable, Creating, Ok],
        O::CreateGrant => [Ok, Disabled, Import, Pending, Ok, Creating, Ok],
        O::RotateKeyOnDemand
        | O::EnableKeyRotation
        | O::DisableKeyRotation
        | O::ReplicateKey
        | O::UpdatePrimaryRegion => [
            Ok,
            Disabled,
            Import,
            Pending,
            Unavailable,
            Creating,
            Updating,
        ],
        O::EnableKey | O::DisableKey => [Ok, Ok, Import, Pending, Ok, Creating, Updating],
        O::ScheduleKeyDeletion => [Ok, Ok, Ok, Pending, Ok, Creating, Updating],
        O::CancelKeyDeletion => [
            NotPending, NotPending, NotPending, Ok, NotPending, NotPending, NotPending,
        ],
        O::GetParametersForImport | O::ImportKeyMaterial => {
            [Ok, Ok, Ok, Pending, Unavailable, Creating, Updating]
        }
        O::DeleteImportedKeyMaterial => [Ok, Ok, Ok, Ok, Unavailable, Creating, Updating],
        O::CreateAlias
        | O::UpdateAlias
        | O::TagResource
        | O::UntagResource
        | O::UpdateKeyDescription => [Ok, Ok, Ok, Pending, Ok, Creating, Ok],
        O::PutKeyPolicy | O::DeleteAlias | O::RetireGrant | O::RevokeGrant => {
            [Ok, Ok, Ok, Ok, Ok, Creating, Ok]
        }
        // Looks at the key only, or uses none.
        O::DescribeKey
        | O::GetKeyPolicy
        | O::GetKeyRotationStatus
        | O::GetKeyLastUsage
        | O::ListAliases
        | O::ListGrants
        | O::ListKeyPolicies
        | O::ListKeyRotations
        | O::ListKeys
        | O::ListResourceTags
        | O::ListRetirableGrants
        | O::CreateKey
        | O::GenerateRandom
        | O::ConnectCustomKeyStore
        | O::CreateCustomKeyStore
        | O::DeleteCustomKeyStore
        | O::DescribeCustomKeyStores
        | O::DisconnectCustomKeyStore
        | O::UpdateCustomKeyStore => [Ok; 7],
    }
}

impl KeyState {
    /// Whether `operation` is allowed in this state, and the exception if not. `arn` is for its
    /// message.
    ///
    /// # Errors
    /// [`KmsError::Disabled`], [`KmsError::InvalidState`].
    pub fn allows(self, operation: Operation, arn: impl FnOnce() -> String) -> Result<()> {
        let column = match self {
            Self::Enabled => 0,
            Self::Disabled => 1,
            Self::PendingImport => 2,
            Self::PendingDeletion | Self::PendingReplicaDeletion => 3,
            Self::Unavailable => 4,
            Self::Creating => 5,
            Self::Updating => 6,
        };
        let what = match row(operation)[column] {
            Rule::Ok => return Ok(()),
            Rule::Disabled => return Err(KmsError::Disabled { arn: arn() }),
            Rule::Pending if self == Self::PendingReplicaDeletion => "is pending replica deletion",
            Rule::Pending => "is pending deletion",
            Rule::NotPending => "is not pending deletion",
            Rule::Import => "is pending import",
            Rule::Unavailable => "is unavailable",
            Rule::Creating => "is creating",
            Rule::Updating => "is updating",
        };
        Err(KmsError::InvalidState(format!("{} {what}.", arn())))
    }
}
