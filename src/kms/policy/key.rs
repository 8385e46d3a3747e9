//! The keys that conditions ask about.

/// What the values of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    One,
    /// Any number of values: a condition on it says whether it means all or one of them.
    Many,
}

/// The keys without a name behind them, and those with one.
macro_rules! keys {
    ($($(#[$doc:meta])* $key:ident = $name:literal $kind:ident,)+ ; $($(#[$pdoc:meta])* $pkey:ident = $prefix:literal,)+) => {
        /// A condition key: the global ones (`aws:`) that have a meaning here, and those of AWS KMS.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum ConditionKey {
            $($(#[$doc])* #[doc = concat!("`", $name, "`")] $key,)+
            $($(#[$pdoc])* #[doc = concat!("`", $prefix, "NAME`")] $pkey(String),)+
        }

        impl ConditionKey {
            /// The key of a name, in which case does not matter.
            pub fn named(name: &str) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($name) {
                    return Some(Self::$key);
                })+
                $(if let Some(rest) = after_prefix(name, $prefix) {
                    return Some(Self::$pkey(rest.to_owned()));
                })+
                None
            }

            pub(super) fn kind(&self) -> Kind {
                match self {
                    $(Self::$key => Kind::$kind,)+
                    $(Self::$pkey(_) => Kind::One,)+
                }
            }

            /// Every key; those with a name behind them have the one given.
            pub fn all(name: &str) -> Vec<Self> {
                vec![$(Self::$key,)+ $(Self::$pkey(name.to_owned()),)+]
            }

            /// The key's name in full.
            pub fn name(&self) -> String {
                match self {
                    $(Self::$key => $name.to_owned(),)+
                    $(Self::$pkey(name) => format!("{}{name}", $prefix),)+
                }
            }
        }
    };
}

keys! {
    /// Of the caller.
    PrincipalArn = "aws:PrincipalArn" One,
    /// Of the caller.
    PrincipalAccount = "aws:PrincipalAccount" One,
    /// `Account` or `User`.
    PrincipalType = "aws:PrincipalType" One,
    /// Always false.
    PrincipalIsAwsService = "aws:PrincipalIsAWSService" One,
    /// Always false.
    ViaAwsService = "aws:ViaAWSService" One,
    /// Of the caller.
    UserId = "aws:userid" One,
    /// Absent for the account's root.
    UserName = "aws:username" One,
    /// The time of the request, ISO 8601.
    CurrentTime = "aws:CurrentTime" One,
    /// The time of the request in seconds since 1970-01-01 UTC.
    EpochTime = "aws:EpochTime" One,
    /// The caller's address; absent where it has none.
    SourceIp = "aws:SourceIp" One,
    /// Whether the request came over TLS.
    SecureTransport = "aws:SecureTransport" One,
    /// What the caller's program calls itself.
    UserAgent = "aws:UserAgent" One,
    /// The Region that was asked.
    RequestedRegion = "aws:RequestedRegion" One,
    /// The keys of the tags in the request.
    TagKeys = "aws:TagKeys" Many,
    /// Never present: there is no second factor here.
    MultiFactorAuthPresent = "aws:MultiFactorAuthPresent" One,
    /// Never present: no service calls on behalf of a resource.
    SourceArn = "aws:SourceArn" One,
    /// Never present: no service calls on behalf of a resource.
    SourceAccount = "aws:SourceAccount" One,
    /// Never present: there are no organizations here.
    PrincipalOrgId = "aws:PrincipalOrgID" One,
    /// Never present: there are no virtual networks here.
    SourceVpc = "aws:SourceVpc" One,
    /// Never present: there are no virtual networks here.
    SourceVpce = "aws:SourceVpce" One,
    /// Of PutKeyPolicy, CreateKey, ReplicateKey.
    BypassPolicyLockoutSafetyCheck = "kms:BypassPolicyLockoutSafetyCheck" One,
    /// The account of the caller.
    CallerAccount = "kms:CallerAccount" One,
    /// The older name of `kms:KeySpec`.
    CustomerMasterKeySpec = "kms:CustomerMasterKeySpec" One,
    /// The older name of `kms:KeyUsage`.
    CustomerMasterKeyUsage = "kms:CustomerMasterKeyUsage" One,
    /// Of GenerateDataKeyPair.
    DataKeyPairSpec = "kms:DataKeyPairSpec" One,
    /// Of the request.
    EncryptionAlgorithm = "kms:EncryptionAlgorithm" One,
    /// The keys of the encryption context.
    EncryptionContextKeys = "kms:EncryptionContextKeys" Many,
    /// Of ImportKeyMaterial.
    ExpirationModel = "kms:ExpirationModel" One,
    /// Of CreateGrant.
    GrantConstraintType = "kms:GrantConstraintType" One,
    /// Whether the grant of CreateGrant is for a service.
    GrantIsForAwsResource = "kms:GrantIsForAWSResource" One,
    /// Of CreateGrant.
    GrantOperations = "kms:GrantOperations" Many,
    /// Of CreateGrant.
    GranteePrincipal = "kms:GranteePrincipal" One,
    /// Of DeriveSharedSecret.
    KeyAgreementAlgorithm = "kms:KeyAgreementAlgorithm" One,
    /// Of the key.
    KeyOrigin = "kms:KeyOrigin" One,
    /// Of the key.
    KeySpec = "kms:KeySpec" One,
    /// Of the key.
    KeyUsage = "kms:KeyUsage" One,
    /// Of the request.
    MacAlgorithm = "kms:MacAlgorithm" One,
    /// `RAW` or `DIGEST`
    MessageType = "kms:MessageType" One,
    /// Of the key.
    MultiRegion = "kms:MultiRegion" One,
    /// `PRIMARY` or `REPLICA`
    MultiRegionKeyType = "kms:MultiRegionKeyType" One,
    /// Of UpdatePrimaryRegion.
    PrimaryRegion = "kms:PrimaryRegion" One,
    /// Whether both keys of ReEncrypt are one.
    ReEncryptOnSameKey = "kms:ReEncryptOnSameKey" One,
    /// Of ReplicateKey.
    ReplicaRegion = "kms:ReplicaRegion" One,
    /// The alias that the request names its key by.
    RequestAlias = "kms:RequestAlias" One,
    /// The aliases of the key.
    ResourceAliases = "kms:ResourceAliases" Many,
    /// Of CreateGrant.
    RetiringPrincipal = "kms:RetiringPrincipal" One,
    /// Of EnableKeyRotation.
    RotationPeriodInDays = "kms:RotationPeriodInDays" One,
    /// Of ScheduleKeyDeletion.
    ScheduleKeyDeletionPendingWindowInDays = "kms:ScheduleKeyDeletionPendingWindowInDays" One,
    /// Of the request.
    SigningAlgorithm = "kms:SigningAlgorithm" One,
    /// Of ImportKeyMaterial, ISO 8601.
    ValidTo = "kms:ValidTo" One,
    /// The service that calls for the caller: a volume's mount.
    ViaService = "kms:ViaService" One,
    /// Of GetParametersForImport.
    WrappingAlgorithm = "kms:WrappingAlgorithm" One,
    /// Of GetParametersForImport.
    WrappingKeySpec = "kms:WrappingKeySpec" One,
    ;
    /// The value of a pair of the encryption context.
    EncryptionContext = "kms:EncryptionContext:",
    /// The value of a tag in the request.
    RequestTag = "aws:RequestTag/",
    /// The value of a tag of the key.
    ResourceTag = "aws:ResourceTag/",
}

impl ConditionKey {
    /// Whether a request may have several values for it.
    pub(super) fn has_many(&self) -> bool {
        self.kind() == Kind::Many
    }
}

fn after_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let head = name.get(..prefix.len())?;
    let rest = &name[prefix.len()..];
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}
