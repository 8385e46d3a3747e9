//! Key policies: JSON documents that say who may do what with a key. Pure: no I/O, no clock.
//!
//! The language is that of AWS IAM ("IAM JSON policy elements reference", and the condition keys of
//! the AWS KMS developer guide). A document is compiled when it is put on a key; whatever is not
//! understood then is refused, as a rule that is passed over in silence protects nothing.
//!
//! - `json`: the document as a tree, without members that stand twice;
//! - `action`, `principal`, [`ConditionKey`], [`Facts`]: what a request has, and what statements name;
//! - `pattern`: texts with wildcards and policy variables; `condition`: the operators;
//! - [`Policy::decide`]: a Deny that applies wins, then an Allow; otherwise nothing is allowed.

mod action;
mod condition;
mod facts;
mod json;
mod key;
mod parse;
mod pattern;
mod principal;

pub use facts::{Facts, Lazy};
pub use key::ConditionKey;

use action::{Action, ActionSet};
use condition::Condition;
use pattern::Pattern;
use principal::Principals;

/// Bytes that a key policy may have, as in AWS KMS.
pub const MAX_LEN: usize = 32 * 1024;

/// Why a document is no key policy: `MalformedPolicyDocumentException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

type Result<T> = std::result::Result<T, PolicyError>;

/// What a policy says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it and none denies it.
    Allowed,
    /// A statement denies it: nothing else (a grant, say) can allow it.
    Denied,
    /// No statement speaks of it.
    Silent,
}

/// What is to be decided.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Who asks: an ARN of IAM or STS.
    pub principal_arn: &'a str,
    /// The asker's account, 12 digits.
    pub account: &'a str,
    /// Whether what the account may do is the asker's: the account's root.
    pub is_root: bool,
    /// For what: `kms:Encrypt`.
    pub action: &'a str,
    /// The key's ARN.
    pub resource: &'a str,
    /// The rest.
    pub facts: &'a Facts<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug)]
struct Statement {
    effect: Effect,
    principals: Principals,
    actions: ActionSet,
    resources: Vec<Pattern>,
    /// `NotResource`.
    except_resources: bool,
    conditions: Vec<Condition>,
}

/// A key policy.
#[derive(Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// [`PolicyError`] for whatever it has that is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        parse::policy(text)
    }

    /// Answers a question: a Deny that applies first, then an Allow.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        // What no policy can name, none allows.
        let Some(action) = Action::of(question.action) else {
            return Decision::Silent;
        };
        let mut decision = Decision::Silent;
        for statement in &self.statements {
            if statement.effect == Effect::Allow && decision == Decision::Allowed {
                continue;
            }
            if statement.applies(action, question) {
                match statement.effect {
                    Effect::Deny => return Decision::Denied,
                    Effect::Allow => decision = Decision::Allowed,
                }
            }
        }
        decision
    }

    /// Whether the one who asks `question` to put this policy on a key could not put another one
    /// afterwards: AWS refuses that unless `BypassPolicyLockoutSafetyCheck` is set.
    pub fn would_lock_out(&self, question: &Question<'_>) -> bool {
        let later = Question {
            action: "kms:PutKeyPolicy",
            ..*question
        };
        self.decide(&later) != Decision::Allowed
    }
}

/// The policy of a key that is made without one: it trusts the account's root.
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

impl Statement {
    /// The cheap questions first.
    fn applies(&self, action: Action, question: &Question<'_>) -> bool {
        self.actions.contains(action)
            && self.principals.apply_to(question, self.effect)
            && self
                .resources
                .iter()
                .any(|pattern| pattern.matches(question.resource, question))
                != self.except_resources
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(question, self.effect))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_naive;
