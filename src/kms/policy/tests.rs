//! The language, element by element; what is refused.

use serde_json::{Value, json};

use super::*;
use crate::kms::{EncryptionContext, KeySpec, KeyUsage, Timestamp};

pub(super) const KEY: &str =
    "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(super) const ACCOUNT: &str = "111122223333";

fn arn(user: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{user}")
}

/// `user` is a user's name, or `root`.
fn decide_with(document: &Value, user: &str, action: &str, facts: &Facts<'_>) -> Decision {
    let principal_arn = if user == "root" {
        format!("arn:aws:iam::{ACCOUNT}:root")
    } else {
        arn(user)
    };
    Policy::parse(&document.to_string())
        .unwrap_or_else(|error| panic!("{document}: {error}"))
        .decide(&Question {
            principal_arn: &principal_arn,
            account: ACCOUNT,
            is_root: user == "root",
            action,
            resource: KEY,
            facts,
        })
}

fn decide(document: &Value, user: &str, action: &str) -> Decision {
    decide_with(document, user, action, &Facts::default())
}

/// One statement that allows alice everything, with some elements put in its place.
fn statement(elements: Value) -> Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": {"AWS": arn("alice")}, "Action": "kms:*", "Resource": "*",
    });
    let members = statement.as_object_mut().unwrap();
    for (name, value) in elements.as_object().unwrap() {
        if let Some(opposite) = name.strip_prefix("Not") {
            members.remove(opposite);
        }
        members.insert(name.clone(), value.clone());
    }
    json!({"Version": "2012-10-17", "Statement": statement})
}

fn condition(condition: Value) -> Value {
    statement(json!({"Condition": condition}))
}

fn allowed(document: &Value, facts: &Facts<'_>) -> bool {
    decide_with(document, "alice", "kms:Decrypt", facts) == Decision::Allowed
}

fn refused(document: &Value) -> String {
    match Policy::parse(&document.to_string()) {
        Ok(_) => panic!("accepted: {document}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_default_policy_trusts_the_root() {
    let policy: Value = serde_json::from_str(&default_policy(ACCOUNT)).unwrap();
    for action in action::NAMES {
        let action = format!("kms:{action}");
        assert_eq!(decide(&policy, "root", &action), Decision::Allowed);
        assert_eq!(decide(&policy, "alice", &action), Decision::Silent);
    }
    let other: Value = serde_json::from_str(&default_policy("444455556666")).unwrap();
    assert_eq!(decide(&other, "root", "kms:Decrypt"), Decision::Silent);
}

#[test]
fn names_are_sorted_for_the_search() {
    assert!(action::NAMES.is_sorted());
    assert_eq!(
        decide(&statement(json!({})), "alice", "kms:NoSuch"),
        Decision::Silent
    );
    assert_eq!(
        decide(&statement(json!({})), "alice", "Decrypt"),
        Decision::Silent
    );
}

#[test]
fn principals() {
    let who = |principal: Value| statement(json!({"Principal": principal}));
    for anyone in [json!("*"), json!({"AWS": "*"}), json!({"AWS": ["*"]})] {
        assert_eq!(
            decide(&who(anyone.clone()), "bob", "kms:Sign"),
            Decision::Allowed
        );
        assert_eq!(decide(&who(anyone), "root", "kms:Sign"), Decision::Allowed);
    }
    let alice = who(json!({"AWS": [arn("carol"), arn("alice")]}));
    assert_eq!(decide(&alice, "alice", "kms:Sign"), Decision::Allowed);
    assert_eq!(decide(&alice, "bob", "kms:Sign"), Decision::Silent);
    assert_eq!(decide(&alice, "root", "kms:Sign"), Decision::Silent);
    for account in [
        json!({"AWS": ACCOUNT}),
        json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}),
    ] {
        assert_eq!(
            decide(&who(account.clone()), "root", "kms:Sign"),
            Decision::Allowed
        );
        assert_eq!(
            decide(&who(account.clone()), "alice", "kms:Sign"),
            Decision::Silent
        );
        let deny = json!({"Effect": "Deny", "Principal": account});
        assert_eq!(
            decide(&statement(deny), "alice", "kms:Sign"),
            Decision::Denied
        );
    }
    let service = who(json!({"Service": "logs.amazonaws.com"}));
    assert_eq!(decide(&service, "root", "kms:Sign"), Decision::Silent);
}

#[test]
fn a_deny_for_all_but_one() {
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "NotPrincipal": {"AWS": arn("alice")}, "Action": "kms:Decrypt", "Resource": "*"},
    ]});
    assert_eq!(decide(&document, "alice", "kms:Decrypt"), Decision::Allowed);
    assert_eq!(decide(&document, "bob", "kms:Decrypt"), Decision::Denied);
    assert_eq!(decide(&document, "root", "kms:Decrypt"), Decision::Denied);
    assert_eq!(decide(&document, "bob", "kms:Encrypt"), Decision::Allowed);
    let account = json!({"AWS": ACCOUNT});
    let deny = statement(json!({"Effect": "Deny", "NotPrincipal": account}));
    assert_eq!(decide(&deny, "root", "kms:Decrypt"), Decision::Silent);
    assert_eq!(decide(&deny, "alice", "kms:Decrypt"), Decision::Denied);
}

#[test]
fn actions() {
    let action = |action: Value| statement(json!({"Action": action}));
    let is = |document: &Value, name: &str| decide(document, "alice", name) == Decision::Allowed;
    let describe = action(json!("kms:Describe*"));
    assert!(is(&describe, "kms:DescribeKey") && !is(&describe, "kms:Decrypt"));
    let re_encrypt = action(json!(["kms:ReEncrypt*", "KMS:gEt????olicy", "kms:sign"]));
    assert!(is(&re_encrypt, "kms:ReEncryptFrom") && is(&re_encrypt, "kms:ReEncryptTo"));
    assert!(is(&re_encrypt, "kms:Sign") && is(&re_encrypt, "kms:GetKeyPolicy"));
    assert!(is(&action(json!("*")), "kms:PutKeyPolicy"));
    let not = statement(json!({"NotAction": ["kms:Decrypt", "kms:Put*"]}));
    assert!(is(&not, "kms:Encrypt") && !is(&not, "kms:Decrypt") && !is(&not, "kms:PutKeyPolicy"));
    for wrong in [
        "kms:Decrpyt",
        "kms:",
        "s3:GetObject",
        "Decrypt",
        "kms:Decrypt*x",
    ] {
        assert!(refused(&action(json!(wrong))).contains(wrong), "{wrong}");
    }
}

#[test]
fn resources() {
    let resource = |resource: Value| statement(json!({"Resource": resource}));
    assert!(allowed(&resource(json!(KEY)), &Facts::default()));
    assert!(allowed(
        &resource(json!(["arn:aws:kms:*:111122223333:key/*"])),
        &Facts::default()
    ));
    assert!(!allowed(
        &resource(json!("arn:aws:kms:*:111122223333:key/9*")),
        &Facts::default()
    ));
    let not = statement(json!({"NotResource": KEY}));
    assert!(!allowed(&not, &Facts::default()));
    assert!(refused(&resource(json!("key/*"))).contains("key/*"));
}

#[test]
fn a_deny_comes_first_wherever_it_stands() {
    let allow = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
    let deny =
        json!({"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"});
    for list in [json!([allow, deny]), json!([deny, allow])] {
        let document = json!({"Version": "2012-10-17", "Statement": list});
        assert_eq!(decide(&document, "root", "kms:Decrypt"), Decision::Denied);
        assert_eq!(decide(&document, "root", "kms:Encrypt"), Decision::Allowed);
    }
}

#[test]
fn encryption_contexts() {
    let context = EncryptionContext::new()
        .with("AppName", "Payroll")
        .with("Stage", "prod");
    let facts = Facts {
        encryption_context: Some(&context),
        ..Facts::default()
    };
    let equals = |key: &str, value: Value| condition(json!({"StringEquals": {key: value}}));
    assert!(allowed(
        &equals("kms:EncryptionContext:AppName", json!("Payroll")),
        &facts
    ));
    assert!(allowed(
        &equals("kms:encryptioncontext:appname", json!(["x", "Payroll"])),
        &facts
    ));
    assert!(!allowed(
        &equals("kms:EncryptionContext:AppName", json!("payroll")),
        &facts
    ));
    assert!(!allowed(
        &equals("kms:EncryptionContext:Other", json!("Payroll")),
        &facts
    ));
    assert!(!allowed(
        &equals("kms:EncryptionContext:AppName", json!("Payroll")),
        &Facts::default()
    ));
    let keys = |operator: &str, keys: Value| {
        condition(json!({operator: {"kms:EncryptionContextKeys": keys}}))
    };
    assert!(allowed(
        &keys(
            "ForAllValues:StringEquals",
            json!(["AppName", "Stage", "X"])
        ),
        &facts
    ));
    assert!(!allowed(
        &keys("ForAllValues:StringEquals", json!(["AppName"])),
        &facts
    ));
    assert!(allowed(
        &keys("ForAllValues:StringEquals", json!(["AppName"])),
        &Facts::default()
    ));
    assert!(allowed(
        &keys("ForAnyValue:StringEquals", json!("Stage")),
        &facts
    ));
    assert!(!allowed(
        &keys("ForAnyValue:StringEquals", json!("Stage")),
        &Facts::default()
    ));
    assert!(!allowed(
        &keys("ForAnyValue:StringEquals", json!("stage")),
        &facts
    ));
    assert!(refused(&keys("StringEquals", json!("Stage"))).contains("ForAnyValue:StringEquals"));
}

/// A second pair whose name differs in case neither opens what is closed nor closes what a Deny sees.
#[test]
fn names_that_differ_in_case() {
    let context = EncryptionContext::new()
        .with("App", "secret")
        .with("app", "open");
    let facts = Facts {
        encryption_context: Some(&context),
        ..Facts::default()
    };
    for value in ["secret", "open"] {
        let equals = json!({"StringEquals": {"kms:EncryptionContext:App": value}});
        assert!(!allowed(&condition(equals.clone()), &facts));
        let deny = statement(json!({"Effect": "Deny", "Condition": equals}));
        assert_eq!(
            decide_with(&deny, "alice", "kms:Decrypt", &facts),
            Decision::Denied
        );
    }
}

#[test]
fn a_missing_key() {
    let none = Facts::default();
    let via = |operator: &str| {
        condition(json!({operator: {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}))
    };
    for operator in [
        "StringEquals",
        "StringLike",
        "StringEqualsIgnoreCase",
        "ForAnyValue:StringEquals",
        "ForAnyValue:StringNotEquals",
    ] {
        assert!(!allowed(&via(operator), &none), "{operator}");
    }
    for operator in [
        "StringNotEquals",
        "StringNotLike",
        "StringEqualsIfExists",
        "ForAllValues:StringEquals",
        "StringNotEqualsIfExists",
    ] {
        assert!(allowed(&via(operator), &none), "{operator}");
    }
    assert!(!allowed(
        &condition(json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}})),
        &none
    ));
    for (value, with, without) in [("true", false, true), ("false", true, false)] {
        let null = condition(json!({"Null": {"kms:ViaService": value}}));
        assert_eq!(allowed(&null, &none), without);
        assert_eq!(
            allowed(
                &null,
                &Facts {
                    via_service: Some("x"),
                    ..none
                }
            ),
            with
        );
    }
}

#[test]
fn each_kind_of_operator() {
    let time = crate::kms::iso8601::parse("2026-05-01T12:00:00Z").unwrap();
    let facts = Facts {
        time: Some(time),
        source_ip: Some("192.0.2.7"),
        multi_region: Some(true),
        deletion_window_days: Some(10),
        grantee_principal: Some("arn:aws:iam::111122223333:user/dev/alice"),
        algorithm: Some("ECDSA_SHA_256"),
        ..Facts::default()
    };
    let signs = |condition_: Value| {
        decide_with(&condition(condition_), "alice", "kms:Sign", &facts) == Decision::Allowed
    };
    let yes = |operator: &str, key: &str, value: Value| {
        assert!(
            signs(json!({operator: {key: value}})),
            "{operator} {key} {value}"
        );
    };
    let no = |operator: &str, key: &str, value: Value| {
        assert!(
            !signs(json!({operator: {key: value}})),
            "{operator} {key} {value}"
        );
    };
    let algorithm = "kms:SigningAlgorithm";
    yes("StringEqualsIgnoreCase", algorithm, json!("ecdsa_sha_256"));
    no(
        "StringNotEqualsIgnoreCase",
        algorithm,
        json!("ecdsa_sha_256"),
    );
    yes("StringLike", algorithm, json!("ECDSA_*_???"));
    no("StringEquals", algorithm, json!("ECDSA_*"));
    no("StringNotLike", algorithm, json!(["x", "*DSA*"]));
    yes("StringNotEquals", algorithm, json!(["a", "b"]));
    no("StringNotEquals", algorithm, json!(["a", "ECDSA_SHA_256"]));
    let days = "kms:ScheduleKeyDeletionPendingWindowInDays";
    yes("NumericLessThan", days, json!("11"));
    no("NumericLessThan", days, json!(10));
    yes("NumericLessThanEquals", days, json!(10));
    yes("NumericGreaterThanEquals", days, json!([30, 10]));
    no("NumericGreaterThan", days, json!(10));
    yes("NumericEquals", days, json!("10.0"));
    no("NumericNotEquals", days, json!(10));
    let now = "aws:CurrentTime";
    yes("DateGreaterThan", now, json!("2026-05-01T11:59:59Z"));
    yes("DateLessThan", now, json!("2026-05-02"));
    no("DateLessThan", now, json!("2026-05-01T14:00:00+02:00"));
    yes("DateEquals", "aws:EpochTime", json!(time.millis() / 1000));
    yes("NumericGreaterThan", "aws:EpochTime", json!(1_700_000_000));
    yes("Bool", "kms:MultiRegion", json!(true));
    no("Bool", "kms:MultiRegion", json!("FALSE"));
    yes(
        "IpAddress",
        "aws:SourceIp",
        json!(["10.0.0.0/8", "192.0.2.0/29"]),
    );
    no("IpAddress", "aws:SourceIp", json!("192.0.2.8/29"));
    yes("NotIpAddress", "aws:SourceIp", json!("2001:db8::/32"));
    yes("IpAddress", "aws:SourceIp", json!("0.0.0.0/0"));
    yes("IpAddress", "aws:SourceIp", json!("192.0.2.7"));
    let grantee = "kms:GranteePrincipal";
    yes("ArnLike", grantee, json!("arn:aws:iam::*:user/dev/*"));
    yes(
        "ArnEquals",
        grantee,
        json!("arn:aws:iam::111122223333:user/*"),
    );
    no("ArnLike", grantee, json!("arn:aws:*:*:*:user/ali*"));
    no(
        "ArnLike",
        grantee,
        json!("arn:aws:iam:*:111122223333:user/ali*"),
    );
    no("ArnNotLike", grantee, json!("arn:aws:iam::*:user/dev/*"));
    yes("StringEquals", "aws:PrincipalArn", json!(arn("alice")));
    yes("StringEquals", "aws:username", json!("alice"));
    yes("StringEquals", "kms:CallerAccount", json!(ACCOUNT));
    yes("Bool", "aws:ViaAWSService", json!("false"));
}

#[test]
fn all_conditions_must_hold() {
    let facts = Facts {
        key_spec: Some(KeySpec::Rsa2048),
        key_usage: Some(KeyUsage::SignVerify),
        ..Facts::default()
    };
    let both = |spec: &str, usage: &str| {
        condition(json!({"StringEquals": {"kms:KeySpec": spec, "kms:KeyUsage": usage}}))
    };
    assert!(allowed(&both("RSA_2048", "SIGN_VERIFY"), &facts));
    assert!(!allowed(&both("RSA_2048", "ENCRYPT_DECRYPT"), &facts));
    assert!(!allowed(&both("RSA_3072", "SIGN_VERIFY"), &facts));
}

#[test]
fn variables() {
    let context = EncryptionContext::new().with("owner", "alice");
    let facts = Facts {
        encryption_context: Some(&context),
        ..Facts::default()
    };
    let owner =
        |value: &str| condition(json!({"StringEquals": {"kms:EncryptionContext:owner": value}}));
    assert!(allowed(&owner("${aws:username}"), &facts));
    assert!(!allowed(&owner("${aws:username}x"), &facts));
    assert!(
        !allowed(&owner("${kms:ViaService}"), &facts),
        "a missing value matches nothing"
    );
    assert!(allowed(&owner("${kms:ViaService, 'alice'}"), &facts));
    let mut old = owner("${aws:username}");
    old["Version"] = json!("2008-10-17");
    assert!(!allowed(&old, &facts), "the older version has no variables");
    // A wildcard in a value is none.
    let star = EncryptionContext::new()
        .with("a", "*")
        .with("b", "anything");
    let facts = Facts {
        encryption_context: Some(&star),
        ..Facts::default()
    };
    let like =
        condition(json!({"StringLike": {"kms:EncryptionContext:b": "${kms:EncryptionContext:a}"}}));
    assert!(!allowed(&like, &facts));
    let literal = condition(json!({"StringLike": {"kms:EncryptionContext:a": "${*}"}}));
    assert!(allowed(&literal, &facts));
    for wrong in [
        "${aws:username",
        "${aws:nothing}",
        "${}",
        "${kms:ResourceAliases}",
        "${aws:username,x}",
    ] {
        refused(&owner(wrong));
    }
}

#[test]
fn lazy_facts() {
    struct Known;
    impl Lazy for Known {
        fn aliases(&self) -> Vec<String> {
            vec!["alias/a".to_owned(), "alias/b".to_owned()]
        }
        fn tags(&self) -> Vec<(String, String)> {
            vec![("Cost Center".to_owned(), "7".to_owned())]
        }
    }
    let facts = Facts {
        lazy: Some(&Known),
        ..Facts::default()
    };
    let aliases = condition(json!({"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/b*"}}));
    assert!(allowed(&aliases, &facts) && !allowed(&aliases, &Facts::default()));
    let tag = condition(json!({"StringEquals": {"aws:ResourceTag/cost center": "7"}}));
    assert!(allowed(&tag, &facts) && !allowed(&tag, &Facts::default()));
}

#[test]
fn request_tags() {
    let tags = [
        ("Team".to_owned(), "Blue".to_owned()),
        ("x".to_owned(), String::new()),
    ];
    let facts = Facts {
        request_tags: &tags,
        ..Facts::default()
    };
    let keys = |keys: Value| condition(json!({"ForAllValues:StringEquals": {"aws:TagKeys": keys}}));
    assert!(allowed(&keys(json!(["Team", "x"])), &facts) && !allowed(&keys(json!("Team")), &facts));
    assert!(allowed(
        &condition(json!({"StringEquals": {"aws:RequestTag/team": "Blue"}})),
        &facts
    ));
}

#[test]
fn locked_out() {
    let alice = arn("alice");
    let facts = Facts {
        time: Some(Timestamp::from_millis(0)),
        ..Facts::default()
    };
    let question = Question {
        principal_arn: &alice,
        account: ACCOUNT,
        is_root: false,
        action: "kms:CreateKey",
        resource: KEY,
        facts: &facts,
    };
    let locks = |document: Value| {
        Policy::parse(&document.to_string())
            .unwrap()
            .would_lock_out(&question)
    };
    assert!(!locks(statement(json!({}))));
    assert!(locks(statement(json!({"Action": "kms:Encrypt"}))));
    assert!(locks(statement(json!({"Effect": "Deny"}))));
    assert!(locks(
        serde_json::from_str(&default_policy(ACCOUNT)).unwrap()
    ));
}

#[test]
fn what_is_not_understood_is_refused() {
    for elements in [
        json!({"Effect": "allow"}),
        json!({"Principal": arn("alice")}),
        json!({"Principal": {"AWS": []}}),
        json!({"Principal": {}}),
        json!({"Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}}),
        json!({"Principal": {"AWS": "alice"}}),
        json!({"Principal": {"AWS": "arn:aws:iam::1111:root"}}),
        json!({"Principal": {"Federated": "x"}}),
        json!({"Principal": {"Service": "evil.example.com"}}),
        json!({"NotPrincipal": {"AWS": arn("bob")}}),
        json!({"Action": []}),
        json!({"Action": 7}),
        json!({"Action": ["kms:Sign", null]}),
        json!({"Resource": ""}),
        json!({"Sid": 1}),
        json!({"Conditions": {}}),
        json!({"Condition": []}),
        json!({"Condition": {"StringEquals": "x"}}),
        json!({"Condition": {"StringEquals": {"kms:ViaService": []}}}),
        json!({"Condition": {"StringEquals": {"kms:ViaService": null}}}),
        json!({"Condition": {"StringEquals": {"kms:ViaServices": "x"}}}),
        json!({"Condition": {"StringEquals": {"kms:EncryptionContext:": "x"}}}),
        json!({"Condition": {"StringMatches": {"kms:ViaService": "x"}}}),
        json!({"Condition": {"stringequals": {"kms:ViaService": "x"}}}),
        json!({"Condition": {"NullIfExists": {"kms:ViaService": "true"}}}),
        json!({"Condition": {"ForSomeValues:StringEquals": {"kms:ViaService": "x"}}}),
        json!({"Condition": {"Bool": {"kms:MultiRegion": "yes"}}}),
        json!({"Condition": {"NumericEquals": {"aws:EpochTime": "NaN"}}}),
        json!({"Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}}),
        json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}),
        json!({"Condition": {"ArnLike": {"aws:PrincipalArn": "*"}}}),
    ] {
        refused(&statement(elements));
    }
    for (with, without) in [
        ("Action", "NotAction"),
        ("Resource", "NotResource"),
        ("Principal", "NotPrincipal"),
    ] {
        let mut document = statement(json!({"Effect": "Deny"}));
        let value = document["Statement"][with].clone();
        document["Statement"][without] = value;
        assert!(refused(&document).contains(without));
        let mut document = statement(json!({}));
        document["Statement"].as_object_mut().unwrap().remove(with);
        assert!(refused(&document).contains(with));
    }
}

#[test]
fn what_is_no_document_is_refused() {
    let fine = statement(json!({})).to_string();
    assert!(Policy::parse(&fine).is_ok());
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"Version": "2012-10-17", "Statement": []}"#.to_owned(),
        fine.replace("2012", "2013"),
        fine.replace("\"Version\"", "\"version\""),
        fine.clone() + "x",
        fine.replacen('{', r#"{"Id": 7,"#, 1),
        "[".repeat(100_000),
        "[".repeat(20_000),
    ] {
        assert!(Policy::parse(&text).is_err(), "{text}");
    }
    let long = fine.replacen('{', &format!("{{\"Id\": \"{}\",", "x".repeat(MAX_LEN)), 1);
    assert!(
        Policy::parse(&long)
            .unwrap_err()
            .to_string()
            .contains("32768")
    );
}

/// Of two members of one name, a reader that keeps the last would drop a condition.
#[test]
fn a_member_stands_once() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "kms:*",
        "Resource": "*", "Condition": {"Bool": {"kms:MultiRegion": "true"}}, "Condition": {}}}"#;
    assert!(
        Policy::parse(text)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}

#[test]
fn key_names_come_back() {
    for key in ConditionKey::all("n") {
        assert_eq!(ConditionKey::named(&key.name()), Some(key.clone()));
        assert_eq!(
            ConditionKey::named(&key.name().to_ascii_lowercase()),
            Some(key)
        );
    }
}
