//! What a policy can allow: the permissions of AWS KMS, and sets of them.

use super::pattern::glob_ignoring_case;
use super::{PolicyError, Result};

/// Every permission of AWS KMS ("Actions, resources, and condition keys for AWS Key Management
/// Service" in the service authorization reference), so that policies can be moved either way.
pub(super) const NAMES: [&str; 58] = [
    "CancelKeyDeletion",
    "ConnectCustomKeyStore",
    "CreateAlias",
    "CreateCustomKeyStore",
    "CreateGrant",
    "CreateKey",
    "Decapsulate",
    "Decrypt",
    "DeleteAlias",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DescribeCustomKeyStores",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "DisconnectCustomKeyStore",
    "EnableKey",
    "EnableKeyRotation",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GenerateRandom",
    "GetKeyLastUsage",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "GetPublicKey",
    "ImportKeyMaterial",
    "ListAliases",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListKeys",
    "ListResourceTags",
    "ListRetirableGrants",
    "PutKeyPolicy",
    "ReEncryptFrom",
    "ReEncryptTo",
    "ReplicateKey",
    "RetireGrant",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "Sign",
    "SynchronizeMultiRegionKey",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCustomKeyStore",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
    "Verify",
    "VerifyMac",
];

/// A permission, such as `kms:Encrypt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action(u8);

impl Action {
    /// The permission of a name in full.
    pub(super) fn of(name: &str) -> Option<Self> {
        let at = NAMES.binary_search(&name.strip_prefix("kms:")?).ok()?;
        Some(Self(at as u8))
    }
}

/// A set of permissions, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ActionSet(u64);

impl ActionSet {
    const ALL: Self = Self((1 << NAMES.len()) - 1);

    pub(super) fn contains(self, action: Action) -> bool {
        self.0 & (1 << action.0) != 0
    }

    /// Those that one of the patterns names (`Action`) or none of them (`NotAction`).
    pub(super) fn of(patterns: &[&str], except: bool) -> Result<Self> {
        let mut bits = 0;
        for pattern in patterns {
            bits |= matching(pattern)?;
        }
        Ok(if except {
            Self(Self::ALL.0 & !bits)
        } else {
            Self(bits)
        })
    }
}

/// The permissions that a pattern names: at least one. Case does not matter.
fn matching(pattern: &str) -> Result<u64> {
    if pattern == "*" {
        return Ok(ActionSet::ALL.0);
    }
    let unknown = || {
        PolicyError::new(format!(
            "Policy contains an action that is not one of AWS KMS: {pattern}"
        ))
    };
    let (service, name) = pattern.split_once(':').ok_or_else(unknown)?;
    if !service.eq_ignore_ascii_case("kms") {
        return Err(unknown());
    }
    let bits = NAMES
        .iter()
        .enumerate()
        .filter(|(_, known)| glob_ignoring_case(name, known))
        .fold(0, |bits, (at, _)| bits | 1 << at);
    if bits == 0 { Err(unknown()) } else { Ok(bits) }
}
