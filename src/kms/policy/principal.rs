//! Whom a statement speaks of.

use super::{Effect, PolicyError, Question, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// `*`
    Anyone,
    /// An account, by its id or its root's ARN.
    Account(String),
    /// A user, role or session by ARN.
    Exactly(String),
    /// A service of AWS: no caller here is one.
    Service,
}

/// Whom a statement speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principals {
    named: Vec<Named>,
    /// `NotPrincipal`: of all others.
    except: bool,
}

impl Principals {
    pub(super) fn new(
        names: impl Iterator<Item = (PrincipalKind, String)>,
        except: bool,
    ) -> Result<Self> {
        let named = names
            .map(|(kind, text)| match kind {
                PrincipalKind::Aws => aws(&text),
                PrincipalKind::Service => service(&text),
            })
            .collect::<Result<_>>()?;
        Ok(Self { named, except })
    }

    /// An account means all of its principals to a Deny. An Allow only lets the account give the
    /// right on, which only its root takes here. Among those left out of a Deny
    /// it stands for its root alone, as in IAM.
    pub(super) fn apply_to(&self, question: &Question<'_>, effect: Effect) -> bool {
        let is_named = self.named.iter().any(|named| match named {
            Named::Anyone => true,
            Named::Service => false,
            Named::Exactly(arn) => *arn == question.principal_arn,
            Named::Account(account) => {
                *account == question.account
                    && match (effect, self.except) {
                        (Effect::Deny, false) => true,
                        (Effect::Allow, _) | (Effect::Deny, true) => question.is_root,
                    }
            }
        });
        is_named != self.except
    }
}

/// The member of `Principal` that a name stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PrincipalKind {
    Aws,
    Service,
}

fn invalid(text: &str) -> PolicyError {
    PolicyError::new(format!(
        "Policy contains a statement with one or more invalid principals: {text}"
    ))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn aws(text: &str) -> Result<Named> {
    if text == "*" {
        return Ok(Named::Anyone);
    }
    if is_account(text) {
        return Ok(Named::Account(text.to_owned()));
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let (service, account, resource) = match parts[..] {
        [
            "arn",
            "aws",
            service @ ("iam" | "sts"),
            "",
            account,
            resource,
        ] if is_account(account) => (service, account, resource),
        _ => return Err(invalid(text)),
    };
    // A path may stand before the name. No wildcards: AWS takes none here either.
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 512
            && !name.ends_with('/')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/$:".contains(&b))
    };
    match (service, resource.split_once('/')) {
        ("iam", None) if resource == "root" => Ok(Named::Account(account.to_owned())),
        ("iam", Some(("user" | "role", name)))
        | ("sts", Some(("assumed-role" | "federated-user", name)))
            if is_name(name) =>
        {
            Ok(Named::Exactly(text.to_owned()))
        }
        _ => Err(invalid(text)),
    }
}

fn service(text: &str) -> Result<Named> {
    let is_host = text.strip_suffix(".amazonaws.com").is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    });
    if is_host {
        Ok(Named::Service)
    } else {
        Err(invalid(text))
    }
}
