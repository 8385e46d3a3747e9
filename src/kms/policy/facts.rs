//! What is known of a request, as conditions ask for it.

use std::borrow::Cow;

use super::super::clock::Timestamp;
use super::super::context::EncryptionContext;
use super::super::spec::{KeySpec, KeyUsage, Origin};
use super::Question;
use super::key::ConditionKey;

/// What has to be looked up, and is only when a condition asks for it.
pub trait Lazy {
    /// The names of the key's aliases, `alias/` included.
    fn aliases(&self) -> Vec<String>;
    /// The key's tags.
    fn tags(&self) -> Vec<(String, String)>;
}

/// What is known of a request beyond who asks for what. A field that is `None` or empty is a
/// condition key that the request does not have.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// When.
    pub time: Option<Timestamp>,
    /// From which address.
    pub source_ip: Option<&'a str>,
    /// Whether over TLS.
    pub secure_transport: Option<bool>,
    /// With which program.
    pub user_agent: Option<&'a str>,
    /// `aws:userid`
    pub user_id: Option<&'a str>,
    /// The Region that was asked.
    pub requested_region: Option<&'a str>,
    /// Tags in the request.
    pub request_tags: &'a [(String, String)],
    /// Keys of tags in the request, where it has keys alone (UntagResource).
    pub tag_keys: &'a [String],
    /// The key's aliases and tags.
    pub lazy: Option<&'a dyn Lazy>,
    /// The encryption context.
    pub encryption_context: Option<&'a EncryptionContext>,
    /// `kms:BypassPolicyLockoutSafetyCheck`
    pub bypass_lockout_check: Option<bool>,
    /// `kms:DataKeyPairSpec`
    pub data_key_pair_spec: Option<&'a str>,
    /// The algorithm of the operation: `kms:EncryptionAlgorithm`, `kms:SigningAlgorithm`,
    /// `kms:MacAlgorithm`, `kms:KeyAgreementAlgorithm` or `kms:WrappingAlgorithm`.
    pub algorithm: Option<&'a str>,
    /// `kms:ExpirationModel`
    pub expiration_model: Option<&'a str>,
    /// `kms:GrantConstraintType`
    pub grant_constraint_type: Option<&'a str>,
    /// `kms:GrantIsForAWSResource`
    pub grant_is_for_aws_resource: Option<bool>,
    /// `kms:GrantOperations`
    pub grant_operations: &'a [&'a str],
    /// `kms:GranteePrincipal`
    pub grantee_principal: Option<&'a str>,
    /// `kms:KeyOrigin`
    pub key_origin: Option<Origin>,
    /// `kms:KeySpec`
    pub key_spec: Option<KeySpec>,
    /// `kms:KeyUsage`
    pub key_usage: Option<KeyUsage>,
    /// `kms:MessageType`
    pub message_type: Option<&'a str>,
    /// `kms:MultiRegion`
    pub multi_region: Option<bool>,
    /// `kms:MultiRegionKeyType`
    pub multi_region_key_type: Option<&'a str>,
    /// `kms:ReEncryptOnSameKey`
    pub re_encrypt_on_same_key: Option<bool>,
    /// The Region that a replica or the primary is to be in: `kms:ReplicaRegion`,
    /// `kms:PrimaryRegion`.
    pub region: Option<&'a str>,
    /// `kms:RequestAlias`
    pub request_alias: Option<&'a str>,
    /// `kms:RetiringPrincipal`
    pub retiring_principal: Option<&'a str>,
    /// `kms:RotationPeriodInDays`
    pub rotation_period_days: Option<u32>,
    /// `kms:ScheduleKeyDeletionPendingWindowInDays`
    pub deletion_window_days: Option<u32>,
    /// `kms:ValidTo`
    pub valid_to: Option<Timestamp>,
    /// `kms:ViaService`
    pub via_service: Option<&'a str>,
    /// `kms:WrappingKeySpec`
    pub wrapping_key_spec: Option<&'a str>,
}

/// The values of a key: none when the request does not have it.
pub(super) type Values<'a> = Vec<Cow<'a, str>>;

fn one<'a>(text: impl Into<Cow<'a, str>>) -> Values<'a> {
    vec![text.into()]
}

fn optional(text: Option<&str>) -> Values<'_> {
    text.map(one).unwrap_or_default()
}

fn flag(value: Option<bool>) -> Values<'static> {
    value
        .map(|value| one(if value { "true" } else { "false" }))
        .unwrap_or_default()
}

fn text<T: ToString>(value: Option<T>) -> Values<'static> {
    value
        .map(|value| one(value.to_string()))
        .unwrap_or_default()
}

/// The values of the pairs whose name is `name` but for case.
fn named<'a, T: Into<Cow<'a, str>>>(pairs: impl Iterator<Item = (T, T)>, name: &str) -> Values<'a> {
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .filter(|(key, _): &(Cow<'a, str>, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

impl Facts<'_> {
    /// The values of a key that has nothing to do with who asks.
    fn values(&self, key: &ConditionKey) -> Values<'_> {
        use ConditionKey as K;
        let tags = || self.request_tags.iter();
        match key {
            K::CurrentTime => text(self.time),
            K::EpochTime => text(self.time.map(|time| time.millis().div_euclid(1000))),
            K::SourceIp => optional(self.source_ip),
            K::SecureTransport => flag(self.secure_transport),
            K::UserAgent => optional(self.user_agent),
            K::RequestedRegion => optional(self.requested_region),
            K::TagKeys => tags()
                .map(|(key, _)| key)
                .chain(self.tag_keys)
                .map(|key| Cow::Borrowed(key.as_str()))
                .collect(),
            K::RequestTag(name) => named(tags().map(|(k, v)| (k.as_str(), v.as_str())), name),
            K::ResourceTag(name) => self
                .lazy
                .map(|lazy| named(lazy.tags().into_iter(), name))
                .unwrap_or_default(),
            K::ResourceAliases => self
                .lazy
                .map(|lazy| lazy.aliases().into_iter().map(Cow::Owned).collect())
                .unwrap_or_default(),
            K::EncryptionContext(name) => self
                .encryption_context
                .map(|context| named(context.iter(), name))
                .unwrap_or_default(),
            K::EncryptionContextKeys => self
                .encryption_context
                .map(|context| context.iter().map(|(key, _)| Cow::Borrowed(key)).collect())
                .unwrap_or_default(),
            K::BypassPolicyLockoutSafetyCheck => flag(self.bypass_lockout_check),
            K::DataKeyPairSpec => optional(self.data_key_pair_spec),
            K::ExpirationModel => optional(self.expiration_model),
            K::GrantConstraintType => optional(self.grant_constraint_type),
            K::GrantIsForAwsResource => flag(self.grant_is_for_aws_resource),
            K::GrantOperations => self
                .grant_operations
                .iter()
                .map(|&word| Cow::Borrowed(word))
                .collect(),
            K::GranteePrincipal => optional(self.grantee_principal),
            K::KeyOrigin => optional(self.key_origin.map(Origin::as_str)),
            K::KeySpec | K::CustomerMasterKeySpec => optional(self.key_spec.map(KeySpec::as_str)),
            K::KeyUsage | K::CustomerMasterKeyUsage => optional(self.key_usage.map(KeyUsage::as_str)),
            K::MessageType => optional(self.message_type),
            K::MultiRegion => flag(self.multi_region),
            K::MultiRegionKeyType => optional(self.multi_region_key_type),
            K::ReEncryptOnSameKey => flag(self.re_encrypt_on_same_key),
            K::RequestAlias => optional(self.request_alias),
            K::RetiringPrincipal => optional(self.retiring_principal),
            K::RotationPeriodInDays => text(self.rotation_period_days),
            K::ScheduleKeyDeletionPendingWindowInDays => text(self.deletion_window_days),
            K::ValidTo => text(self.valid_to),
            K::ViaService => optional(self.via_service),
            K::WrappingKeySpec => optional(self.wrapping_key_spec),
            K::MultiFactorAuthPresent
            | K::SourceArn
            | K::SourceAccount
            | K::PrincipalOrgId
            | K::SourceVpc
            | K::SourceVpce
            // The question's own:
            | K::PrincipalArn
            | K::PrincipalAccount
            | K::CallerAccount
            | K::PrincipalType
            | K::UserId
            | K::UserName
            | K::PrincipalIsAwsService
            | K::ViaAwsService
            | K::EncryptionAlgorithm
            | K::SigningAlgorithm
            | K::MacAlgorithm
            | K::KeyAgreementAlgorithm
            | K::WrappingAlgorithm
            | K::PrimaryRegion
            | K::ReplicaRegion => Vec::new()
        }
    }
}

impl Question<'_> {
    /// The values that this request has for a key.
    pub(super) fn values(&self, key: &ConditionKey) -> Values<'_> {
        use ConditionKey as K;
        let resource = self.principal_arn.splitn(6, ':').nth(5).unwrap_or_default();
        let user = resource
            .strip_prefix("user/")
            .and_then(|path| path.rsplit('/').next());
        match key {
            K::PrincipalArn => one(self.principal_arn),
            K::PrincipalAccount | K::CallerAccount => one(self.account),
            K::PrincipalType => one(match (user, resource) {
                (Some(_), _) => "User",
                (None, "root") => "Account",
                (None, _) => "AssumedRole",
            }),
            K::UserName => optional(user),
            K::UserId => one(self.facts.user_id.or(user).unwrap_or(self.account)),
            K::PrincipalIsAwsService | K::ViaAwsService => flag(Some(false)),
            K::PrimaryRegion => self.of("kms:UpdatePrimaryRegion", self.facts.region),
            K::ReplicaRegion => self.of("kms:ReplicateKey", self.facts.region),
            K::EncryptionAlgorithm
            | K::SigningAlgorithm
            | K::MacAlgorithm
            | K::KeyAgreementAlgorithm
            | K::WrappingAlgorithm => {
                let meant = match self.action {
                    "kms:Sign" | "kms:Verify" => K::SigningAlgorithm,
                    "kms:GenerateMac" | "kms:VerifyMac" => K::MacAlgorithm,
                    "kms:DeriveSharedSecret" => K::KeyAgreementAlgorithm,
                    "kms:GetParametersForImport" | "kms:ImportKeyMaterial" => K::WrappingAlgorithm,
                    _ => K::EncryptionAlgorithm,
                };
                optional(self.facts.algorithm.filter(|_| *key == meant))
            }
            other => self.facts.values(other),
        }
    }

    fn of<'a>(&self, action: &str, value: Option<&'a str>) -> Values<'a> {
        optional(value.filter(|_| self.action == action))
    }
}
