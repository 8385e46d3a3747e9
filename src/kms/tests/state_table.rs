//! The key-state table, against the developer guide's own, written down once more by hand.

use super::*;

/// The columns of [`TABLE`].
const COLUMNS: [KeyState; 8] = [
    KeyState::Enabled,
    KeyState::Disabled,
    KeyState::PendingImport,
    KeyState::PendingDeletion,
    KeyState::PendingReplicaDeletion,
    KeyState::Unavailable,
    KeyState::Creating,
    KeyState::Updating,
];

/// A letter for each state: `+` allowed; the notes of the guide: `d` is disabled [1], `p` is
/// pending deletion [3], `n` is not pending deletion [4], `i` is pending import [5], `u` is
/// unavailable [11], `c` is creating [14], `m` is updating [15].
const TABLE: &[(&str, &str)] = &[
    ("CancelKeyDeletion", "nnn++nnn"),
    ("CreateAlias", "+++pp+c+"),
    ("CreateGrant", "+dipp+c+"),
    ("Decrypt", "+dippuc+"),
    ("DeleteAlias", "++++++c+"),
    ("DeleteImportedKeyMaterial", "+++++ucm"),
    ("DeriveSharedSecret", "+dippuc+"),
    ("DescribeKey", "++++++++"),
    ("DisableKey", "++ipp+cm"),
    ("DisableKeyRotation", "+dippucm"),
    ("EnableKey", "++ipp+cm"),
    ("EnableKeyRotation", "+dippucm"),
    ("Encrypt", "+dippuc+"),
    ("GenerateDataKey", "+dippuc+"),
    ("GenerateDataKeyPair", "+dippuc+"),
    ("GenerateDataKeyPairWithoutPlaintext", "+dippuc+"),
    ("GenerateDataKeyWithoutPlaintext", "+dippuc+"),
    ("GenerateMac", "+dippuc+"),
    ("GetKeyLastUsage", "++++++++"),
    ("GetKeyPolicy", "++++++++"),
    ("GetKeyRotationStatus", "++++++++"),
    ("GetParametersForImport", "+++ppucm"),
    ("GetPublicKey", "+dippuc+"),
    ("ImportKeyMaterial", "+++ppucm"),
    ("ListAliases", "++++++++"),
    ("ListGrants", "++++++++"),
    ("ListKeyPolicies", "++++++++"),
    ("ListKeyRotations", "++++++++"),
    ("ListResourceTags", "++++++++"),
    ("PutKeyPolicy", "++++++c+"),
    ("ReEncryptFrom", "+dippuc+"),
    ("ReEncryptTo", "+dippuc+"),
    ("ReplicateKey", "+dippucm"),
    ("RetireGrant", "++++++c+"),
    ("RevokeGrant", "++++++c+"),
    ("RotateKeyOnDemand", "+dippucm"),
    ("ScheduleKeyDeletion", "+++pp+cm"),
    ("Sign", "+dippuc+"),
    ("TagResource", "+++pp+c+"),
    ("UntagResource", "+++pp+c+"),
    ("UpdateAlias", "+++pp+c+"),
    ("UpdateKeyDescription", "+++pp+c+"),
    ("UpdatePrimaryRegion", "+dippucm"),
    ("Verify", "+dippuc+"),
    ("VerifyMac", "+dippuc+"),
];

#[test]
fn every_operation_in_every_state() {
    for (name, row) in TABLE {
        let operation = Operation::from_word(name).unwrap();
        assert_eq!(row.len(), COLUMNS.len());
        for (state, letter) in COLUMNS.into_iter().zip(row.chars()) {
            let result = state.allows(operation, || "ARN".to_owned());
            let found = result.map_err(|error| (error.code(), error.message()));
            let invalid = |text: &str| Err(("KMSInvalidStateException", format!("ARN {text}.")));
            let expected = match letter {
                '+' => Ok(()),
                'd' => Err(("DisabledException", "ARN is disabled".to_owned())),
                'p' if state == KeyState::PendingDeletion => invalid("is pending deletion"),
                'p' => invalid("is pending replica deletion"),
                'n' => invalid("is not pending deletion"),
                'i' => invalid("is pending import"),
                'u' => invalid("is unavailable"),
                'c' => invalid("is creating"),
                'm' => invalid("is updating"),
                other => panic!("{other}"),
            };
            assert_eq!(found, expected, "{name} in {state}");
        }
    }
    // What is missing there is about no key.
    let about_none = [
        "CreateKey",
        "GenerateRandom",
        "ListKeys",
        "ListRetirableGrants",
    ];
    for operation in Operation::ALL {
        let name = operation.as_str();
        let told = TABLE.iter().any(|(other, _)| *other == name)
            || about_none.contains(&name)
            || name == "ReEncrypt"
            || api::UNSUPPORTED.iter().any(|(other, _)| *other == name);
        assert!(told, "{name}");
    }
}

#[test]
fn each_operation_of_aws_is_there_or_listed_as_missing() {
    for operation in Operation::ALL {
        let name = operation.as_str();
        if matches!(operation, Operation::ReEncryptFrom | Operation::ReEncryptTo) {
            continue; // parts of ReEncrypt
        }
        let there = api::OPERATIONS.contains(&name);
        let missing = api::UNSUPPORTED.iter().any(|(other, _)| *other == name);
        assert!(there != missing || cfg!(not(feature = "aws-lc")), "{name}");
    }
}
