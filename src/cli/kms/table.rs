//! The operations and their members as one table: the flags, the help, the man pages, the
//! completions and the requests come from it. Names are AWS's.

use std::sync::LazyLock;

/// What a member's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// Set by the flag, unset by the flag with `no-` before it.
    Flag,
    /// Bytes.
    Blob,
    /// Pairs of texts.
    Pairs,
    /// Several texts.
    Words,
    /// Several objects, or one: JSON, or AWS's shorthand.
    Objects,
    /// One object.
    Object,
    /// A point in time.
    Time,
}

/// A member of requests.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in the API.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What stands for its value in the help.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
}

const fn member(name: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Member {
    Member {
        name,
        kind,
        value,
        help,
    }
}

use Kind::{Blob, Number, Object, Objects, Pairs, Text, Time, Words};

const BLOB: &str = "BLOB";
const CONTEXT: &str = "CONTEXT";
const KEY: &str = "KEY";
const ALGORITHM: &str = "ALGORITHM";

/// Every member of every operation; one name means one thing wherever it stands.
pub(super) const MEMBERS: &[Member] = &[
    member("AliasName", Text, "ALIAS", "The alias: alias/NAME"),
    member(
        "BypassPolicyLockoutSafetyCheck",
        Kind::Flag,
        "",
        "Take a policy that keeps its maker from changing it",
    ),
    member(
        "CiphertextBlob",
        Blob,
        BLOB,
        "The ciphertext: fileb://FILE, or in base64",
    ),
    member(
        "Constraints",
        Object,
        "JSON",
        "Use under this encryption context only: EncryptionContextSubset={KEY=VALUE,...} or \
         EncryptionContextEquals={...}, or JSON",
    ),
    member(
        "CustomKeyStoreId",
        Text,
        "ID",
        "Refused: there are no custom key stores",
    ),
    member(
        "CustomerMasterKeySpec",
        Text,
        "SPEC",
        "The older name of --key-spec",
    ),
    member("Description", Text, "TEXT", "What the key is for, in words"),
    member(
        "DestinationEncryptionAlgorithm",
        Text,
        ALGORITHM,
        "How to encrypt: SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1 or RSAES_OAEP_SHA_256",
    ),
    member(
        "DestinationEncryptionContext",
        Pairs,
        CONTEXT,
        "Pairs that decryption must name from now on: KEY=VALUE,... or JSON",
    ),
    member(
        "DestinationKeyId",
        Text,
        KEY,
        "The key to encrypt under: its id, ARN, alias or alias ARN",
    ),
    member(
        "DryRun",
        Kind::Flag,
        "",
        "Say whether it would be allowed, and do nothing",
    ),
    member(
        "DryRunModifiers",
        Words,
        "MODIFIER",
        "What a dry run leaves out, such as IGNORE_CIPHERTEXT",
    ),
    member(
        "EncryptedKeyMaterial",
        Blob,
        BLOB,
        "The key material, encrypted as get-parameters-for-import said",
    ),
    member(
        "EncryptionAlgorithm",
        Text,
        ALGORITHM,
        "SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1 or RSAES_OAEP_SHA_256",
    ),
    member(
        "EncryptionContext",
        Pairs,
        CONTEXT,
        "Pairs that encryption binds and decryption must name again: KEY=VALUE,... or JSON",
    ),
    member(
        "ExpirationModel",
        Text,
        "MODEL",
        "KEY_MATERIAL_EXPIRES or KEY_MATERIAL_DOES_NOT_EXPIRE",
    ),
    member("GrantId", Text, "ID", "The grant's id"),
    member(
        "GrantToken",
        Text,
        "TOKEN",
        "The token that create-grant gave",
    ),
    member(
        "GrantTokens",
        Words,
        "TOKEN",
        "Tokens of grants that may be too new to be known otherwise",
    ),
    member("GranteePrincipal", Text, "ARN", "Who is granted something"),
    member(
        "GranteeServicePrincipal",
        Text,
        "NAME",
        "The service that is granted something",
    ),
    member(
        "ImportToken",
        Blob,
        BLOB,
        "The token that get-parameters-for-import gave",
    ),
    member(
        "ImportType",
        Text,
        "TYPE",
        "NEW_KEY_MATERIAL or EXISTING_KEY_MATERIAL",
    ),
    member(
        "IncludeKeyMaterial",
        Text,
        "WHICH",
        "ROTATIONS_ONLY, or ALL_KEY_MATERIAL to show the first key material too",
    ),
    member("KeyAgreementAlgorithm", Text, ALGORITHM, "ECDH"),
    member(
        "KeyId",
        Text,
        KEY,
        "The key: its id or ARN; where a key is used, an alias or alias ARN too",
    ),
    member(
        "KeyMaterialDescription",
        Text,
        "TEXT",
        "What the key material is, in words",
    ),
    member("KeyMaterialId", Text, "ID", "The key material's id"),
    member(
        "KeyPairSpec",
        Text,
        "SPEC",
        "The kind of the pair: RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ...",
    ),
    member(
        "KeySpec",
        Text,
        "SPEC",
        "The kind of the key: SYMMETRIC_DEFAULT, RSA_2048, ECC_NIST_P256, HMAC_256, ...; of a data key: \
         AES_256 or AES_128",
    ),
    member(
        "KeyUsage",
        Text,
        "USAGE",
        "What the key may do: ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC or KEY_AGREEMENT",
    ),
    member(
        "Limit",
        Number,
        "N",
        "List so many at most; without it all are listed",
    ),
    member("Mac", Blob, BLOB, "The MAC: fileb://FILE, or in base64"),
    member(
        "MacAlgorithm",
        Text,
        ALGORITHM,
        "HMAC_SHA_224, HMAC_SHA_256, HMAC_SHA_384 or HMAC_SHA_512",
    ),
    member(
        "Marker",
        Text,
        "MARKER",
        "Go on after a listing that was cut short: its NextMarker",
    ),
    member(
        "Message",
        Blob,
        BLOB,
        "The message, up to 4096 bytes, or its digest: fileb://FILE, or in base64",
    ),
    member(
        "MessageType",
        Text,
        "TYPE",
        "RAW: the message itself; DIGEST: its hash; EXTERNAL_MU: of ML-DSA",
    ),
    member(
        "MultiRegion",
        Kind::Flag,
        "",
        "Make a key that can be replicated to other Regions",
    ),
    member(
        "Name",
        Text,
        "NAME",
        "A name, so that the same grant is not made twice",
    ),
    member("NumberOfBytes", Number, "N", "So many bytes, 1 to 1024"),
    member(
        "Operations",
        Words,
        "OPERATION",
        "What is granted, such as Encrypt Decrypt",
    ),
    member(
        "Origin",
        Text,
        "ORIGIN",
        "Where the key material comes from: AWS_KMS, or EXTERNAL to import it",
    ),
    member(
        "PendingWindowInDays",
        Number,
        "DAYS",
        "How long deletion can be cancelled: 7 to 30; 30 unless given",
    ),
    member(
        "Plaintext",
        Blob,
        BLOB,
        "What to encrypt, 1 to 4096 bytes: fileb://FILE, or in base64",
    ),
    member(
        "Policy",
        Text,
        "JSON",
        "The key policy; file://FILE reads it from a file",
    ),
    member("PolicyName", Text, "NAME", "default"),
    member(
        "PrimaryRegion",
        Text,
        "REGION",
        "The Region of the new primary key",
    ),
    member(
        "PublicKey",
        Blob,
        BLOB,
        "The other side's public key (DER): fileb://FILE, or in base64",
    ),
    member(
        "Recipient",
        Object,
        "JSON",
        "Refused: there are no attested recipients",
    ),
    member(
        "ReplicaRegion",
        Text,
        "REGION",
        "The Region of the new replica",
    ),
    member("ResourceOwners", Words, "OWNER", "Whose keys: SELF"),
    member("RetiringPrincipal", Text, "ARN", "Who may retire the grant"),
    member(
        "RetiringServicePrincipal",
        Text,
        "NAME",
        "The service that may retire the grant",
    ),
    member(
        "RotationPeriodInDays",
        Number,
        "DAYS",
        "Rotate every so many days, 90 to 2560; 365 unless given",
    ),
    member(
        "Signature",
        Blob,
        BLOB,
        "The signature: fileb://FILE, or in base64",
    ),
    member(
        "SigningAlgorithm",
        Text,
        ALGORITHM,
        "How to sign, such as RSASSA_PSS_SHA_256 or ECDSA_SHA_256",
    ),
    member(
        "SourceEncryptionAlgorithm",
        Text,
        ALGORITHM,
        "How the ciphertext was made: SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1 or RSAES_OAEP_SHA_256",
    ),
    member(
        "SourceEncryptionContext",
        Pairs,
        CONTEXT,
        "The pairs that were given on encryption: KEY=VALUE,... or JSON",
    ),
    member(
        "SourceKeyId",
        Text,
        KEY,
        "The key that the ciphertext must be of; without it, the one that it names",
    ),
    member("TagKeys", Words, "KEY", "The keys of the tags"),
    member(
        "Tags",
        Objects,
        "TAG",
        "Tags: TagKey=KEY,TagValue=VALUE ..., or JSON",
    ),
    member(
        "TargetKeyId",
        Text,
        KEY,
        "The key it is to point to: its id or ARN",
    ),
    member(
        "ValidTo",
        Time,
        "TIME",
        "When the key material expires, such as 2027-01-01T00:00:00Z",
    ),
    member(
        "WrappingAlgorithm",
        Text,
        ALGORITHM,
        "How the key material will be encrypted: RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_256, ...",
    ),
    member(
        "WrappingKeySpec",
        Text,
        "SPEC",
        "The kind of the public key to encrypt it with: RSA_2048, RSA_3072 or RSA_4096",
    ),
    member(
        "XksKeyId",
        Text,
        "ID",
        "Refused: there are no external key stores",
    ),
];

/// The member of a name.
pub(super) fn member_named(name: &str) -> Option<&'static Member> {
    MEMBERS.iter().find(|member| member.name == name)
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// Its name in the API.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Its members, in the order of the help; `!` behind a name that must be given.
    members: &'static str,
    /// The member of the answer that is a listing, and the largest `Limit`.
    pub(super) listing: Option<(&'static str, u32)>,
}

const fn operation(name: &'static str, about: &'static str, members: &'static str) -> Operation {
    Operation {
        name,
        about,
        members,
        listing: None,
    }
}

const fn listing(
    name: &'static str,
    about: &'static str,
    members: &'static str,
    entries: &'static str,
    most: u32,
) -> Operation {
    Operation {
        name,
        about,
        members,
        listing: Some((entries, most)),
    }
}

impl Operation {
    /// The names of the members, as the table has them.
    pub(super) fn words(&self) -> impl Iterator<Item = &'static str> {
        self.members.split_ascii_whitespace()
    }

    /// The members, and whether each must be given.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'static Member, bool)> {
        self.words().filter_map(|word| {
            let name = word.trim_end_matches('!');
            member_named(name).map(|member| (member, name != word))
        })
    }
}

/// A name as it stands on the command line, and with `no-` before it.
struct Flag {
    name: &'static str,
    set: &'static str,
    unset: &'static str,
}

/// The command line's names of all operations and members: made once, as the parser wants them to
/// last.
static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let names = OPERATIONS.iter().map(|operation| operation.name);
    names
        .chain(MEMBERS.iter().map(|member| member.name))
        .map(|name| {
            let mut unset = String::from("no");
            for c in name.chars() {
                if c.is_ascii_uppercase() {
                    unset.push('-');
                }
                unset.push(c.to_ascii_lowercase());
            }
            let unset: &'static str = unset.leak();
            Flag {
                name,
                set: unset.strip_prefix("no-").unwrap_or(unset),
                unset,
            }
        })
        .collect()
});

/// `GenerateDataKey` as it stands on the command line: `generate-data-key`.
pub(super) fn kebab(name: &str) -> &'static str {
    FLAGS
        .iter()
        .find(|flag| flag.name == name)
        .map_or("", |flag| flag.set)
}

/// The flag that unsets a member: `no-dry-run`.
pub(super) fn unset(name: &str) -> &'static str {
    FLAGS
        .iter()
        .find(|flag| flag.name == name)
        .map_or("", |flag| flag.unset)
}

/// Every operation, grouped by what it is about.
pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "CreateKey",
        "Make a key",
        "Description KeySpec CustomerMasterKeySpec KeyUsage Origin MultiRegion Policy \
         BypassPolicyLockoutSafetyCheck Tags CustomKeyStoreId XksKeyId",
    ),
    operation(
        "DescribeKey",
        "Show what is known of a key",
        "KeyId! GrantTokens",
    ),
    listing(
        "ListKeys",
        "List the keys",
        "Limit Marker ResourceOwners",
        "Keys",
        1000,
    ),
    operation("EnableKey", "Allow the use of a key again", "KeyId!"),
    operation(
        "DisableKey",
        "Forbid the use of a key, until it is enabled again",
        "KeyId!",
    ),
    operation(
        "UpdateKeyDescription",
        "Change a key's description",
        "KeyId! Description!",
    ),
    operation(
        "GetKeyLastUsage",
        "Show when a key was last used, and for what",
        "KeyId!",
    ),
    operation(
        "ScheduleKeyDeletion",
        "Delete a key and its material for good after 7 to 30 days",
        "KeyId! PendingWindowInDays",
    ),
    operation(
        "CancelKeyDeletion",
        "Keep a key whose deletion is scheduled; it is disabled",
        "KeyId!",
    ),
    operation(
        "CreateAlias",
        "Give a key another name",
        "AliasName! TargetKeyId!",
    ),
    operation(
        "UpdateAlias",
        "Point an alias to another key",
        "AliasName! TargetKeyId!",
    ),
    operation(
        "DeleteAlias",
        "Delete an alias; its key stays",
        "AliasName!",
    ),
    listing(
        "ListAliases",
        "List the aliases",
        "KeyId Limit Marker",
        "Aliases",
        100,
    ),
    operation(
        "Encrypt",
        "Encrypt up to 4096 bytes under a key",
        "KeyId! Plaintext! EncryptionContext EncryptionAlgorithm GrantTokens DryRun",
    ),
    operation(
        "Decrypt",
        "Decrypt what was encrypted under a key, or a data key",
        "CiphertextBlob KeyId EncryptionContext EncryptionAlgorithm GrantTokens Recipient DryRun \
         DryRunModifiers",
    ),
    operation(
        "ReEncrypt",
        "Move a ciphertext to another key or encryption context",
        "CiphertextBlob SourceKeyId SourceEncryptionContext DestinationKeyId! \
         DestinationEncryptionContext SourceEncryptionAlgorithm DestinationEncryptionAlgorithm GrantTokens \
         DryRun DryRunModifiers",
    ),
    operation(
        "GenerateDataKey",
        "Make a data key: in the clear and encrypted under a key",
        "KeyId! KeySpec NumberOfBytes EncryptionContext GrantTokens Recipient DryRun",
    ),
    operation(
        "GenerateDataKeyWithoutPlaintext",
        "Make a data key, encrypted under a key",
        "KeyId! KeySpec NumberOfBytes EncryptionContext GrantTokens DryRun",
    ),
    operation(
        "GenerateDataKeyPair",
        "Make a pair of data keys: the private one in the clear and encrypted under a key",
        "KeyId! KeyPairSpec! EncryptionContext GrantTokens Recipient DryRun",
    ),
    operation(
        "GenerateDataKeyPairWithoutPlaintext",
        "Make a pair of data keys: the private one encrypted under a key",
        "KeyId! KeyPairSpec! EncryptionContext GrantTokens DryRun",
    ),
    operation(
        "GenerateRandom",
        "Make random bytes",
        "NumberOfBytes CustomKeyStoreId Recipient",
    ),
    operation(
        "GetPublicKey",
        "Show the public key of an asymmetric key",
        "KeyId! GrantTokens",
    ),
    operation(
        "Sign",
        "Sign a message",
        "KeyId! Message! SigningAlgorithm! MessageType GrantTokens DryRun",
    ),
    operation(
        "Verify",
        "Verify a signature",
        "KeyId! Message! Signature! SigningAlgorithm! MessageType GrantTokens DryRun",
    ),
    operation(
        "GenerateMac",
        "Make the MAC of a message",
        "KeyId! Message! MacAlgorithm! GrantTokens DryRun",
    ),
    operation(
        "VerifyMac",
        "Verify the MAC of a message",
        "KeyId! Message! Mac! MacAlgorithm! GrantTokens DryRun",
    ),
    operation(
        "DeriveSharedSecret",
        "Derive a secret from a key and the public key of somebody else",
        "KeyId! KeyAgreementAlgorithm! PublicKey! GrantTokens Recipient DryRun",
    ),
    operation(
        "EnableKeyRotation",
        "Let a key rotate by itself",
        "KeyId! RotationPeriodInDays",
    ),
    operation(
        "DisableKeyRotation",
        "Let a key rotate by itself no more",
        "KeyId!",
    ),
    operation(
        "GetKeyRotationStatus",
        "Show whether and when a key rotates by itself",
        "KeyId!",
    ),
    operation(
        "RotateKeyOnDemand",
        "Make new key material for a key now",
        "KeyId!",
    ),
    listing(
        "ListKeyRotations",
        "List the rotations of a key",
        "KeyId! IncludeKeyMaterial Limit Marker",
        "Rotations",
        1000,
    ),
    operation(
        "PutKeyPolicy",
        "Say anew who may do what with a key",
        "KeyId! Policy! PolicyName BypassPolicyLockoutSafetyCheck",
    ),
    operation(
        "GetKeyPolicy",
        "Show who may do what with a key",
        "KeyId! PolicyName",
    ),
    listing(
        "ListKeyPolicies",
        "List the names of a key's policies: default",
        "KeyId! Limit Marker",
        "PolicyNames",
        1000,
    ),
    operation(
        "CreateGrant",
        "Grant somebody the use of a key",
        "KeyId! GranteePrincipal Operations! Constraints RetiringPrincipal GrantTokens Name DryRun \
         GranteeServicePrincipal RetiringServicePrincipal",
    ),
    listing(
        "ListGrants",
        "List the grants of a key",
        "KeyId! GrantId GranteePrincipal GranteeServicePrincipal Limit Marker",
        "Grants",
        100,
    ),
    listing(
        "ListRetirableGrants",
        "List the grants that somebody may retire",
        "RetiringPrincipal RetiringServicePrincipal Limit Marker",
        "Grants",
        100,
    ),
    operation(
        "RetireGrant",
        "Give back a grant",
        "GrantToken KeyId GrantId DryRun",
    ),
    operation("RevokeGrant", "Take back a grant", "KeyId! GrantId! DryRun"),
    operation("TagResource", "Put tags on a key", "KeyId! Tags!"),
    operation("UntagResource", "Take tags off a key", "KeyId! TagKeys!"),
    listing(
        "ListResourceTags",
        "List the tags of a key",
        "KeyId! Limit Marker",
        "Tags",
        50,
    ),
    operation(
        "GetParametersForImport",
        "Get the public key to encrypt key material with, and the token to import it",
        "KeyId! WrappingAlgorithm! WrappingKeySpec!",
    ),
    operation(
        "ImportKeyMaterial",
        "Import key material",
        "KeyId! ImportToken! EncryptedKeyMaterial! ValidTo ExpirationModel ImportType \
         KeyMaterialDescription KeyMaterialId",
    ),
    operation(
        "DeleteImportedKeyMaterial",
        "Delete imported key material; the key can't be used until it is imported again",
        "KeyId! KeyMaterialId",
    ),
    operation(
        "ReplicateKey",
        "Make a replica of a multi-Region key in another Region",
        "KeyId! ReplicaRegion! Policy BypassPolicyLockoutSafetyCheck Description Tags",
    ),
    operation(
        "UpdatePrimaryRegion",
        "Make a replica the primary of a multi-Region key",
        "KeyId! PrimaryRegion!",
    ),
];
