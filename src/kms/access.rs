//! Who may do what with one key: its policy and its grants.

use std::collections::HashMap;

use rusqlite::Connection;

use super::caller::{Caller, Principal};
use super::error::{KmsError, Result};
use super::policy::{Decision, Facts, Lazy, Policy, Question};
use super::spec::KeyManager;
use super::state::{Class, Operation};
use super::store::{AliasRow, Grant, GrantRow, KeyRow, Place, list_tags};

/// Grants that a key may have, as in AWS KMS.
pub(super) const GRANTS_MOST: i64 = 50_000;

/// A key's policy and grants.
pub(super) struct Access {
    /// None: the default policy, which trusts the account root and no one else.
    policy: Option<Policy>,
    named: Named,
    grants: Vec<Grant>,
    /// The places in `grants` by grantee.
    by_grantee: HashMap<String, Vec<usize>>,
}

/// What conditions of a policy may ask of the key.
#[derive(Default)]
struct Named {
    aliases: Vec<String>,
    tags: Vec<(String, String)>,
}

impl Lazy for Named {
    fn aliases(&self) -> Vec<String> {
        self.aliases.clone()
    }

    fn tags(&self) -> Vec<(String, String)> {
        self.tags.clone()
    }
}

impl Named {
    fn load(sql: &Connection, place: &Place) -> Result<Self> {
        let aliases = AliasRow::list(sql, place.region, Some(&place.id), "", i64::MAX)?;
        Ok(Self {
            aliases: aliases.into_iter().map(|row| row.name).collect(),
            tags: list_tags(sql, place, "", i64::MAX)?,
        })
    }
}

/// What a right came from.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// The key policy.
    Policy,
    /// A grant.
    Grant(&'a Grant),
}

impl Access {
    /// That of a key.
    pub(super) fn load(sql: &Connection, key: &KeyRow) -> Result<Self> {
        let policy = key.policy.as_deref().map(Policy::parse).transpose();
        let policy = policy.map_err(|error| {
            KmsError::Damaged(format!(
                "the policy of key {} can't be read: {error}",
                key.id
            ))
        })?;
        let named = match policy {
            Some(_) => Named::load(sql, &key.place())?,
            None => Named::default(),
        };
        let rows = GrantRow::of_key(sql, &key.place(), 0, GRANTS_MOST)?;
        let grants: Vec<Grant> = rows.into_iter().map(|row| row.grant).collect();
        let mut by_grantee: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, grant) in grants.iter().enumerate() {
            by_grantee
                .entry(grant.grantee.clone())
                .or_default()
                .push(at);
        }
        Ok(Self {
            policy,
            named,
            grants,
            by_grantee,
        })
    }

    /// What gives `caller` the right to `operation`.
    ///
    /// # Errors
    /// [`KmsError::AccessDenied`]; [`KmsError::UnsupportedOperation`] for what isn't there for
    /// service-managed keys.
    pub(super) fn permit(
        &self,
        caller: &Caller,
        operation: Operation,
        key: &KeyRow,
        arn: &str,
        facts: &Facts<'_>,
    ) -> Result<Right<'_>> {
        if key.manager == KeyManager::Service {
            service_managed(caller, operation, arn)?;
            if operation.class() != Class::Cryptographic {
                return Ok(Right::Policy);
            }
        }
        let decision = match &self.policy {
            None if *caller.principal() == Principal::Root => Decision::Allowed,
            None => Decision::Silent,
            Some(policy) => {
                let mut action = String::with_capacity(48);
                action.push_str("kms:");
                action.push_str(operation.as_str());
                policy.decide(&Question {
                    principal_arn: caller.arn(),
                    account: caller.account(),
                    is_root: *caller.principal() == Principal::Root,
                    action: &action,
                    resource: arn,
                    facts: &Facts {
                        lazy: Some(&self.named),
                        multi_region_key_type: key.primary_region.map(|_| {
                            if key.is_primary() {
                                "PRIMARY"
                            } else {
                                "REPLICA"
                            }
                        }),
                        key_spec: Some(key.spec),
                        key_usage: Some(key.usage),
                        key_origin: Some(key.origin),
                        multi_region: Some(key.primary_region.is_some()),
                        ..*facts
                    },
                })
            }
        };
        match decision {
            Decision::Allowed => Ok(Right::Policy),
            Decision::Denied => Err(KmsError::AccessDenied(format!(
                "User: {} is not authorized to perform: kms:{operation} on resource: {arn} \
                 with an explicit deny in a resource-based policy",
                caller.arn()
            ))),
            Decision::Silent => self
                .grants_of(caller.arn())
                .find(|grant| holds(grant, operation, facts))
                .map(Right::Grant)
                .ok_or_else(|| {
                    KmsError::AccessDenied(format!(
                        "User: {} is not authorized to perform: kms:{operation} on resource: \
                         {arn} because no resource-based policy allows the kms:{operation} action",
                        caller.arn()
                    ))
                }),
        }
    }

    fn grants_of(&self, principal: &str) -> impl Iterator<Item = &Grant> {
        let places = self.by_grantee.get(principal);
        places.into_iter().flatten().map(|at| &self.grants[*at])
    }

    /// All grants of the key.
    pub(super) fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

/// What the policy of service-managed keys says: everyone of the account may look at them, and
/// volumes use them.
fn service_managed(caller: &Caller, operation: Operation, arn: &str) -> Result<()> {
    match operation.class() {
        _ if *caller.principal() == Principal::Service => Ok(()),
        Class::Cryptographic if caller.is_volume() => Ok(()),
        Class::Management if caller.is_volume() && operation == Operation::RotateKeyOnDemand => {
            Ok(())
        }
        Class::Reading => Ok(()),
        Class::Cryptographic => Err(KmsError::AccessDenied(format!(
            "{arn} is managed by envelopefs: it works through volumes only"
        ))),
        Class::Management if operation == Operation::RotateKeyOnDemand => {
            Err(KmsError::UnsupportedOperation(format!(
                "{arn} is managed by envelopefs: 'envelopefs rotate' on its volume rotates it"
            )))
        }
        // A volume's grant can be taken away as any other.
        Class::Management
            if matches!(operation, Operation::RevokeGrant | Operation::RetireGrant)
                && *caller.principal() == Principal::Root =>
        {
            Ok(())
        }
        Class::Management => Err(KmsError::AccessDenied(format!(
            "{arn} is managed by envelopefs: {operation} is not for its users"
        ))),
    }
}

/// Whether a grant gives the right to an operation.
fn holds(grant: &Grant, operation: Operation, facts: &Facts<'_>) -> bool {
    if !grant.operations.contains(&operation) {
        return false;
    }
    let Some(constraints) = &grant.constraints else {
        return true;
    };
    if constraints.source_arn.is_some() {
        // Requests here are on behalf of no resource.
        return false;
    }
    // Operations without an encryption context are not bound by constraints on it: DescribeKey,
    // RetireGrant, CreateGrant.
    let Some(context) = facts.encryption_context else {
        return operation.class() != Class::Cryptographic;
    };
    let equals = constraints
        .encryption_context_equals
        .as_ref()
        .is_none_or(|equals| equals == context);
    let subset = constraints
        .encryption_context_subset
        .as_ref()
        .is_none_or(|subset| subset.is_subset_of(context));
    equals && subset
}
