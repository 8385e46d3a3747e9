//! Key policies: JSON documents that say who may do what with a key.

use super::context::EncryptionContext;
use super::spec::{KeySpec, KeyUsage, Origin};

/// What is known of a request, for conditions.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The encryption context.
    pub encryption_context: Option<&'a EncryptionContext>,
    /// The service on whose behalf the key is used.
    pub via_service: Option<&'a str>,
    /// Whether a grant is for a service.
    pub grant_is_for_aws_resource: Option<bool>,
    /// The operations of a grant that is to be made.
    pub grant_operations: &'a [&'a str],
    /// The grantee of a grant that is to be made.
    pub grantee_principal: Option<&'a str>,
    /// The retiring principal of a grant that is to be made.
    pub retiring_principal: Option<&'a str>,
    /// The kind of constraint of a grant that is to be made.
    pub grant_constraint_type: Option<&'a str>,
    /// The alias that the request named the key by.
    pub request_alias: Option<&'a str>,
    /// The kind of the key.
    pub key_spec: Option<KeySpec>,
    /// What the key is for.
    pub key_usage: Option<KeyUsage>,
    /// Where the key's material came from.
    pub key_origin: Option<Origin>,
    /// Whether it is a multi-Region key.
    pub multi_region: Option<bool>,
    /// The algorithm of a cryptographic operation.
    pub algorithm: Option<&'a str>,
    /// `MessageType`
    pub message_type: Option<&'a str>,
    /// The key at the other end of ReEncrypt is the same.
    pub re_encrypt_on_same_key: Option<bool>,
    /// `RotationPeriodInDays`
    pub rotation_period_days: Option<u32>,
    /// `PendingWindowInDays`
    pub deletion_window_days: Option<u32>,
    /// `BypassPolicyLockoutSafetyCheck`
    pub bypass_lockout_check: Option<bool>,
    /// The Region of a replica or primary that is asked for.
    pub region: Option<&'a str>,
}

/// A request as a policy sees it.
pub struct Question<'a> {
    /// The principal's ARN.
    pub principal_arn: &'a str,
    /// The account's id.
    pub account: &'a str,
    /// Whether the principal is the account root.
    pub is_root: bool,
    /// `kms:` and the operation's name.
    pub action: &'a str,
    /// The key's ARN.
    pub resource: &'a str,
    /// What is known of the request.
    pub facts: &'a Facts<'a>,
}

/// What a policy says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it, and none denies it.
    Allowed,
    /// A statement denies it.
    Denied,
    /// No statement is about it.
    Silent,
}

/// Why a document is no key policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

/// A key policy that was read.
#[derive(Debug)]
pub struct Policy(());

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// [`PolicyError`] says what is wrong with it.
    pub fn parse(document: &str) -> Result<Self, PolicyError> {
        match serde_json::from_str(document) {
            Ok(serde_json::Value::Object(_)) => Ok(Self(())),
            _ => Err(PolicyError("The policy is no JSON object.".to_owned())),
        }
    }

    /// What the policy says to a request.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        if question.is_root {
            Decision::Allowed
        } else {
            Decision::Silent
        }
    }
}

/// The policy of a key that was made without one: it trusts the account root.
pub fn default_policy(account: &str) -> String {
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:aws:iam::{account}:root"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }} ]
}}"#
    )
}
