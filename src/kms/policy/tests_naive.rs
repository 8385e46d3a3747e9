//! Against a second evaluator: one that reads the document anew for each question, by the words of
//! the IAM reference and without any of the code above.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{ACCOUNT, KEY};
use super::*;
use crate::kms::EncryptionContext;

const USERS: [&str; 3] = ["root", "alice", "bob"];
const ACTIONS: [&str; 4] = [
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:PutKeyPolicy",
];

fn arn(user: &str) -> String {
    match user {
        "root" => format!("arn:aws:iam::{ACCOUNT}:root"),
        user => format!("arn:aws:iam::{ACCOUNT}:user/{user}"),
    }
}

/// The recursive definition of a wildcard match.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            like(&pattern[1..], text) || (!text.is_empty() && like(pattern, &text[1..]))
        }
        (Some(b'?'), Some(_)) => like(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) => p == t && like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

struct Asked<'a> {
    user: &'a str,
    action: &'a str,
    context: &'a [(&'a str, &'a str)],
    days: Option<u32>,
    multi_region: bool,
}

impl Asked<'_> {
    fn values(&self, key: &str) -> Vec<String> {
        match key {
            "kms:EncryptionContextKeys" => {
                self.context.iter().map(|(k, _)| (*k).to_owned()).collect()
            }
            "kms:ScheduleKeyDeletionPendingWindowInDays" => {
                self.days.iter().map(ToString::to_string).collect()
            }
            "kms:MultiRegion" => vec![self.multi_region.to_string()],
            "aws:username" => Some(self.user)
                .filter(|u| *u != "root")
                .map(str::to_owned)
                .into_iter()
                .collect(),
            key => {
                let name = key.strip_prefix("kms:EncryptionContext:").unwrap();
                self.context
                    .iter()
                    .filter(|(k, _)| *k == name)
                    .map(|(_, v)| (*v).to_owned())
                    .collect()
            }
        }
    }

    fn condition(&self, operator: &str, key: &str, wanted: &[String]) -> bool {
        let has = self.values(key);
        if operator == "Null" {
            return wanted.iter().any(|w| (w == "true") == has.is_empty());
        }
        let (set, rest) = operator.split_once(':').unwrap_or(("", operator));
        let name = rest.trim_end_matches("IfExists");
        if name != rest && has.is_empty() {
            return true;
        }
        let one = |value: &String| {
            let number = |t: &str| t.parse::<f64>().ok();
            match name {
                "StringEquals" | "Bool" => wanted.contains(value),
                "StringNotEquals" => !wanted.contains(value),
                "StringLike" => wanted.iter().any(|w| like(w.as_bytes(), value.as_bytes())),
                "StringNotLike" => !wanted.iter().any(|w| like(w.as_bytes(), value.as_bytes())),
                "StringEqualsIgnoreCase" => wanted
                    .iter()
                    .any(|w| w.to_lowercase() == value.to_lowercase()),
                "NumericLessThan" => wanted
                    .iter()
                    .any(|w| number(value).is_some_and(|v| v < number(w).unwrap())),
                "NumericGreaterThanEquals" => wanted
                    .iter()
                    .any(|w| number(value).is_some_and(|v| v >= number(w).unwrap())),
                other => panic!("{other}"),
            }
        };
        match set {
            "ForAllValues" => has.iter().all(one),
            "ForAnyValue" => has.iter().any(one),
            _ if has.is_empty() => name.contains("Not"),
            _ => one(&has[0]),
        }
    }

    fn names_me(&self, principal: &Value, effect: &str, negated: bool) -> bool {
        if principal == "*" {
            return true;
        }
        list(&principal["AWS"]).iter().any(|name| {
            if name == "*" {
                return true;
            }
            let account = name == ACCOUNT || *name == arn("root");
            if account && effect == "Deny" && !negated {
                return true;
            }
            if account {
                self.user == "root"
            } else {
                *name == arn(self.user)
            }
        })
    }

    fn applies(&self, statement: &Value) -> bool {
        let effect = statement["Effect"].as_str().unwrap();
        let one_of = |name: &str, matches: &dyn Fn(&Value, bool) -> bool| match (
            statement.get(name),
            statement.get(format!("Not{name}")),
        ) {
            (Some(value), None) => matches(value, false),
            (None, Some(value)) => !matches(value, true),
            _ => panic!("{statement}"),
        };
        one_of("Principal", &|value, negated| {
            self.names_me(value, effect, negated)
        }) && one_of("Action", &|value, _| {
            let action = self.action.to_lowercase();
            list(value)
                .iter()
                .any(|a| like(a.to_lowercase().as_bytes(), action.as_bytes()))
        }) && one_of("Resource", &|value, _| {
            list(value)
                .iter()
                .any(|r| like(r.as_bytes(), KEY.as_bytes()))
        }) && statement.get("Condition").is_none_or(|condition| {
            condition
                .as_object()
                .unwrap()
                .iter()
                .all(|(operator, keys)| {
                    keys.as_object()
                        .unwrap()
                        .iter()
                        .all(|(key, wanted)| self.condition(operator, key, &list(wanted)))
                })
        })
    }

    fn decide(&self, document: &Value) -> Decision {
        let statements = match &document["Statement"] {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let has = |effect: &str| {
            statements
                .iter()
                .any(|s| s["Effect"] == effect && self.applies(s))
        };
        if has("Deny") {
            Decision::Denied
        } else if has("Allow") {
            Decision::Allowed
        } else {
            Decision::Silent
        }
    }
}

fn one_or_list(items: impl Strategy<Value = String> + Clone + 'static) -> BoxedStrategy<Value> {
    prop_oneof![
        items.clone().prop_map(Value::from),
        prop::collection::vec(items, 1..4).prop_map(Value::from),
    ]
    .boxed()
}

fn of(words: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(words).prop_map(str::to_owned).boxed()
}

fn condition() -> BoxedStrategy<Value> {
    let texts = one_or_list(of(&["a", "b", "A", "*", "a*", "??", "alice"]));
    let text_key = of(&[
        "kms:EncryptionContext:k",
        "kms:EncryptionContext:m",
        "aws:username",
    ]);
    let text_operator = of(&[
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringNotLike",
        "StringEqualsIgnoreCase",
        "StringEqualsIfExists",
        "StringNotLikeIfExists",
        "ForAnyValue:StringLike",
        "ForAllValues:StringEquals",
    ]);
    let keys = one_or_list(of(&["k", "m", "*", "x"]));
    let keys_operator = of(&[
        "ForAllValues:StringEquals",
        "ForAnyValue:StringEquals",
        "ForAllValues:StringNotEquals",
        "ForAnyValue:StringNotLike",
        "ForAnyValue:StringLikeIfExists",
    ]);
    let days = one_or_list(of(&["7", "8", "30"]));
    let days_operator = of(&[
        "NumericLessThan",
        "NumericGreaterThanEquals",
        "NumericLessThanIfExists",
    ]);
    let null_key = of(&[
        "kms:EncryptionContext:k",
        "kms:EncryptionContextKeys",
        "aws:username",
        "kms:ScheduleKeyDeletionPendingWindowInDays",
    ]);
    prop_oneof![
        (text_operator, text_key, texts).prop_map(|(o, k, v)| json!({o: {k: v}})),
        (keys_operator, keys).prop_map(|(o, v)| json!({o: {"kms:EncryptionContextKeys": v}})),
        (days_operator, days)
            .prop_map(|(o, v)| json!({o: {"kms:ScheduleKeyDeletionPendingWindowInDays": v}})),
        any::<bool>().prop_map(|b| json!({"Bool": {"kms:MultiRegion": b.to_string()}})),
        (null_key, any::<bool>()).prop_map(|(k, b)| json!({"Null": {k: b.to_string()}})),
    ]
    .boxed()
}

fn statement() -> BoxedStrategy<Value> {
    let principal = prop_oneof![
        Just(json!("*")),
        one_or_list(
            prop::sample::select(vec![
                ACCOUNT.to_owned(),
                arn("root"),
                arn("alice"),
                arn("bob"),
                "*".to_owned(),
                "444455556666".to_owned(),
            ])
            .boxed()
        )
        .prop_map(|names| json!({"AWS": names})),
    ];
    let actions = one_or_list(of(&[
        "kms:*",
        "*",
        "kms:Encrypt",
        "kms:de*",
        "KMS:D?crypt",
        "kms:Put*",
        "kms:Sign",
    ]));
    let resources = one_or_list(of(&[
        "*",
        KEY,
        "arn:aws:kms:*:*:key/*",
        "arn:aws:kms:eu-*",
        "arn:aws:kms:??-east-1:111122223333:key/1234*ab",
    ]));
    (
        any::<bool>(),
        principal,
        actions,
        resources,
        any::<[bool; 3]>(),
        prop::option::of(condition()),
    )
        .prop_map(|(deny, principal, actions, resources, not, condition)| {
            let name = |name: &str, not: bool| {
                if not {
                    format!("Not{name}")
                } else {
                    name.to_owned()
                }
            };
            let mut statement = json!({
                "Effect": if deny { "Deny" } else { "Allow" },
                name("Principal", not[0] && deny): principal,
                name("Action", not[1]): actions,
                name("Resource", not[2]): resources,
            });
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statement
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn both_evaluators_agree(
        statements in prop::collection::vec(statement(), 1..4),
        context in prop::sample::subsequence(vec![("k", "a"), ("m", "b"), ("n", "alice")], 0..3),
        days in prop::option::of(prop::sample::select(vec![7u32, 10, 30])),
        multi_region: bool,
    ) {
        let document = json!({"Version": "2012-10-17", "Statement": statements});
        let policy = Policy::parse(&document.to_string()).unwrap();
        let encryption_context: EncryptionContext = context.iter().copied().collect();
        let facts = Facts {
            encryption_context: Some(&encryption_context),
            deletion_window_days: days,
            multi_region: Some(multi_region),
            ..Facts::default()
        };
        for user in USERS {
            for action in ACTIONS {
                let asked = Asked { user, action, context: &context, days, multi_region };
                let found = policy.decide(&Question {
                    principal_arn: &arn(user), account: ACCOUNT, is_root: user == "root", action, resource: KEY, facts: &facts,
                });
                prop_assert_eq!(found, asked.decide(&document), "{} {} {}", document, user, action);
            }
        }
    }

    /// Any bytes are a policy or an error, and any text as a pattern matches as the definition says.
    #[test]
    fn patterns_match_by_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        let question_facts = Facts::default();
        let question = Question { principal_arn: "", account: "", is_root: false, action: "", resource: "", facts: &question_facts };
        let compiled = Pattern::parse(&pattern, true, false).unwrap();
        prop_assert_eq!(compiled.matches(&text, &question), like(pattern.as_bytes(), text.as_bytes()));
    }
}
