//! PutKeyPolicy, GetKeyPolicy, ListKeyPolicies.

use serde::{Deserialize, Serialize};

use super::super::caller::Principal;
use super::super::client::Call;
use super::super::error::{KmsError, Result};
use super::super::policy::{Facts, MAX_LEN, Policy, Question, default_policy};
use super::super::reference::key_arn;
use super::super::spec::KeyManager;
use super::super::state::Operation;
use super::super::store::KeyRow;
use super::wire::{KeyName, Text};
use super::{Page, Request, is_false};

/// The one name that a key policy has.
const DEFAULT: &str = "default";

/// PutKeyPolicy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct PutKeyPolicyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `PolicyName`: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<Text<1, 128>>,
    /// `Policy`
    pub policy: Text<1, 131_072>,
    /// `BypassPolicyLockoutSafetyCheck`
    #[serde(skip_serializing_if = "is_false")]
    pub bypass_policy_lockout_safety_check: Option<bool>,
}

/// GetKeyPolicy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GetKeyPolicyRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `PolicyName`: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<Text<1, 128>>,
}

/// What GetKeyPolicy answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetKeyPolicyResponse {
    /// `Policy`
    pub policy: String,
    /// `PolicyName`
    pub policy_name: &'static str,
}

/// ListKeyPolicies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListKeyPoliciesRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
}

/// What ListKeyPolicies answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListKeyPoliciesResponse {
    /// `PolicyNames`
    pub policy_names: [&'static str; 1],
    /// `Truncated`
    pub truncated: bool,
}

/// The policy of a key.
pub(super) fn policy_of(call: &Call<'_>, row: &KeyRow) -> String {
    let account = call.kms().account_id();
    match &row.policy {
        Some(policy) => policy.clone(),
        None if row.manager == KeyManager::Service => service_policy(account, row),
        None => default_policy(account),
    }
}

/// The policy of a service-managed key: what `access` holds it to, in words of a policy.
fn service_policy(account: &str, row: &KeyRow) -> String {
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "auto-envelopefs-1",
  "Statement" : [ {{
    "Sid" : "Allow access through envelopefs volumes of the account",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "*"
    }},
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey" ],
    "Resource" : "*",
    "Condition" : {{
      "StringEquals" : {{
        "kms:CallerAccount" : "{account}",
        "kms:ViaService" : "envelopefs.{}.amazonaws.com"
      }}
    }}
  }}, {{
    "Sid" : "Allow direct access to key metadata to the account",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:aws:iam::{account}:root"
    }},
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  }} ]
}}"#,
        row.region
    )
}

/// Whether a document can be the policy of a key: one that can be read and, unless `bypass`, lets
/// the caller change it again.
///
/// # Errors
/// [`KmsError::MalformedPolicy`], [`KmsError::LimitExceeded`].
pub(super) fn check_policy(
    call: &Call<'_>,
    document: &str,
    resource: &str,
    bypass: bool,
) -> Result<()> {
    if document.len() > MAX_LEN {
        return Err(KmsError::LimitExceeded(format!(
            "A key policy has at most {MAX_LEN} bytes, this one has {}",
            document.len()
        )));
    }
    let policy =
        Policy::parse(document).map_err(|error| KmsError::MalformedPolicy(error.to_string()))?;
    if bypass {
        return Ok(());
    }
    let caller = call.caller();
    let locked_out = policy.would_lock_out(&Question {
        principal_arn: caller.arn(),
        account: caller.account(),
        is_root: *caller.principal() == Principal::Root,
        action: "kms:PutKeyPolicy",
        resource,
        facts: &call.facts(&Facts::default()),
    });
    if !locked_out {
        return Ok(());
    }
    Err(KmsError::MalformedPolicy(
        "The new key policy will not allow you to update the key policy in the future.".to_owned(),
    ))
}

fn check_name(name: Option<&Text<1, 128>>) -> Result<()> {
    match name {
        Some(name) if name.as_str() != DEFAULT => Err(KmsError::NotFound(format!(
            "No such policy exists: '{}'; the name of a key policy is '{DEFAULT}'",
            name.as_str()
        ))),
        _ => Ok(()),
    }
}

impl Request for PutKeyPolicyRequest {
    const OPERATION: Operation = Operation::PutKeyPolicy;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        check_name(self.policy_name.as_ref())?;
        let place = call.key_place(&self.key_id)?;
        let bypass = self.bypass_policy_lockout_safety_check == Some(true);
        let facts = Facts {
            bypass_lockout_check: Some(bypass),
            ..Facts::default()
        };
        call.change(|change| {
            call.row(change, Operation::PutKeyPolicy, &place, &facts)?;
            let arn = key_arn(&place, call.kms().account_id());
            check_policy(call, self.policy.as_str(), &arn, bypass)?;
            change.set_policy(&place, self.policy.as_str())
        })
    }
}

impl Request for GetKeyPolicyRequest {
    const OPERATION: Operation = Operation::GetKeyPolicy;
    type Response = GetKeyPolicyResponse;

    fn run(&self, call: &Call<'_>) -> Result<GetKeyPolicyResponse> {
        let key = call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        check_name(self.policy_name.as_ref())?;
        Ok(GetKeyPolicyResponse {
            policy: policy_of(call, &key.row),
            policy_name: DEFAULT,
        })
    }
}

impl Request for ListKeyPoliciesRequest {
    const OPERATION: Operation = Operation::ListKeyPolicies;
    type Response = ListKeyPoliciesResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListKeyPoliciesResponse> {
        self.page.limit(100, 1000)?;
        if self.page.marker.is_some() {
            // The only page gave none.
            return Err(KmsError::InvalidMarker);
        }
        call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        Ok(ListKeyPoliciesResponse {
            policy_names: [DEFAULT],
            truncated: false,
        })
    }
}
