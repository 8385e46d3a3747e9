//! Grants, and those of volumes.

use serde_json::{Value, json};

use super::short::volume;
use super::*;

fn user(kms: &Kms, name: &str) -> Caller {
    kms.caller(Principal::User(name.to_owned()))
}

/// Does an operation as JSON on behalf of a caller.
fn call(kms: &Kms, caller: &Caller, operation: &str, body: &Value) -> Result<Value> {
    let answer = api::call(&kms.client(caller), operation, body.to_string().as_bytes())?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

fn root(kms: &Kms, operation: &str, body: &Value) -> Result<Value> {
    call(kms, &kms.caller(Principal::Root), operation, body)
}

const DENIED: &str = "AccessDeniedException";

#[test]
fn a_grant_gives_what_it_says_and_no_more() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let alice = user(kms, "alice");
    let encrypt =
        |context: Value| json!({ "KeyId": key, "Plaintext": "aGk=", "EncryptionContext": context });
    assert_eq!(
        refused(call(kms, &alice, "Encrypt", &encrypt(json!({})))),
        DENIED
    );
    let grant = json!({
        "KeyId": key, "GranteePrincipal": alice.arn(), "Operations": ["Encrypt", "RetireGrant"],
        "Constraints": { "EncryptionContextSubset": { "a": "b" } }, "Name": "one",
    });
    let made = root(kms, "CreateGrant", &grant).unwrap();
    let id = made["GrantId"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    call(
        kms,
        &alice,
        "Encrypt",
        &encrypt(json!({ "a": "b", "c": "d" })),
    )
    .unwrap();
    for context in [json!({}), json!({ "a": "c" }), json!({ "c": "d" })] {
        assert_eq!(
            refused(call(kms, &alice, "Encrypt", &encrypt(context))),
            DENIED
        );
    }
    let decrypt = json!({ "KeyId": key, "CiphertextBlob": "AAAA" });
    assert_eq!(refused(call(kms, &alice, "Decrypt", &decrypt)), DENIED);
    let bob = user(kms, "bob");
    let context = json!({ "a": "b" });
    assert_eq!(
        refused(call(kms, &bob, "Encrypt", &encrypt(context.clone()))),
        DENIED
    );

    // The same again is the same grant with another token; without a name it is another one.
    let again = root(kms, "CreateGrant", &grant).unwrap();
    assert_eq!(again["GrantId"], id);
    assert_ne!(again["GrantToken"], made["GrantToken"]);
    let mut nameless = grant.clone();
    nameless.as_object_mut().unwrap().remove("Name");
    assert_ne!(root(kms, "CreateGrant", &nameless).unwrap()["GrantId"], id);
    let listed = root(kms, "ListGrants", &json!({ "KeyId": key })).unwrap();
    assert_eq!(listed["Grants"].as_array().unwrap().len(), 2);
    assert_eq!(listed["Grants"][0]["Name"], "one");
    assert_eq!(listed["Grants"][0]["GranteePrincipal"], alice.arn());
    let wanted = json!({ "KeyId": key, "GrantId": "0".repeat(64) });
    assert_eq!(
        refused(root(kms, "ListGrants", &wanted)),
        "InvalidGrantIdException"
    );

    // Tokens: of this keystore, or refused.
    let mut with_token = encrypt(context.clone());
    with_token["GrantTokens"] = json!([made["GrantToken"]]);
    call(kms, &alice, "Encrypt", &with_token).unwrap();
    with_token["GrantTokens"] = json!(["AAAA"]);
    assert_eq!(
        refused(call(kms, &alice, "Encrypt", &with_token)),
        "InvalidGrantTokenException"
    );

    // The grantee may retire it, as it says; others may not.
    let retire = json!({ "GrantToken": made["GrantToken"] });
    assert_eq!(refused(call(kms, &bob, "RetireGrant", &retire)), DENIED);
    let dry = json!({ "GrantToken": made["GrantToken"], "DryRun": true });
    assert_eq!(
        refused(call(kms, &alice, "RetireGrant", &dry)),
        "DryRunOperationException"
    );
    call(kms, &alice, "RetireGrant", &retire).unwrap();
    assert_eq!(
        refused(call(kms, &alice, "RetireGrant", &retire)),
        "NotFoundException"
    );
    // The nameless one is left.
    call(kms, &alice, "Encrypt", &encrypt(context.clone())).unwrap();
    let left = root(kms, "ListGrants", &json!({ "KeyId": key })).unwrap();
    let revoke = json!({ "KeyId": key, "GrantId": left["Grants"][0]["GrantId"] });
    assert_eq!(refused(call(kms, &alice, "RevokeGrant", &revoke)), DENIED);
    root(kms, "RevokeGrant", &revoke).unwrap();
    assert_eq!(
        refused(call(kms, &alice, "Encrypt", &encrypt(context))),
        DENIED
    );
}

#[test]
fn who_has_a_grant_can_give_no_more_than_it() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let (alice, bob) = (user(kms, "alice"), user(kms, "bob"));
    let grant = json!({
        "KeyId": key, "GranteePrincipal": alice.arn(),
        "Operations": ["Encrypt", "CreateGrant"],
        "Constraints": { "EncryptionContextSubset": { "a": "b" } },
    });
    root(kms, "CreateGrant", &grant).unwrap();
    let give = |operations: Value, constraints: Value| {
        let mut body = json!({
            "KeyId": key, "GranteePrincipal": bob.arn(), "Operations": operations,
        });
        if !constraints.is_null() {
            body["Constraints"] = constraints;
        }
        call(kms, &alice, "CreateGrant", &body)
    };
    let tight = json!({ "EncryptionContextSubset": { "a": "b", "c": "d" } });
    assert_eq!(refused(give(json!(["Encrypt"]), Value::Null)), DENIED);
    assert_eq!(refused(give(json!(["Decrypt"]), tight.clone())), DENIED);
    let loose = json!({ "EncryptionContextSubset": { "c": "d" } });
    assert_eq!(refused(give(json!(["Encrypt"]), loose)), DENIED);
    give(json!(["Encrypt"]), tight).unwrap();
    let equal = json!({ "EncryptionContextEquals": { "a": "b", "c": "d" } });
    give(json!(["Encrypt"]), equal).unwrap();
    let encrypt = |context: Value| {
        let body = json!({ "KeyId": key, "Plaintext": "aGk=", "EncryptionContext": context });
        call(kms, &bob, "Encrypt", &body)
    };
    encrypt(json!({ "a": "b", "c": "d" })).unwrap();
    assert_eq!(refused(encrypt(json!({ "a": "b" }))), DENIED);
}

#[test]
fn grants_that_make_no_sense_are_refused() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let arn = user(kms, "alice").arn().to_owned();
    let validation = "ValidationException";
    for (change, exception) in [
        (json!({ "Operations": [] }), validation),
        (json!({ "Operations": ["Sign"] }), validation),
        (json!({ "Operations": ["ScheduleKeyDeletion"] }), validation),
        (json!({ "Operations": ["Frobnicate"] }), validation),
        (
            json!({ "GranteePrincipal": "alice" }),
            "InvalidArnException",
        ),
        (json!({ "RetiringPrincipal": "bob" }), "InvalidArnException"),
        (json!({ "GranteePrincipal": null }), validation),
        (json!({ "GranteeServicePrincipal": "a.b.c" }), validation),
        (json!({ "Name": "" }), validation),
        (
            json!({ "Constraints": {
                "EncryptionContextEquals": {}, "EncryptionContextSubset": {},
            } }),
            validation,
        ),
        (json!({ "KeyId": "alias/x" }), "NotFoundException"),
        (json!({ "DryRun": true }), "DryRunOperationException"),
    ] {
        let mut body = json!({ "KeyId": key, "GranteePrincipal": arn, "Operations": ["Decrypt"] });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_eq!(
            refused(root(kms, "CreateGrant", &body)),
            exception,
            "{change}"
        );
    }
    let listed = root(kms, "ListGrants", &json!({ "KeyId": key })).unwrap();
    assert_eq!(listed["Grants"], json!([]));
}

#[test]
fn retirable_grants_are_listed_page_by_page() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let (alice, bob) = (user(kms, "alice"), user(kms, "bob"));
    for _ in 0..5 {
        let body = json!({
            "KeyId": key, "GranteePrincipal": alice.arn(), "RetiringPrincipal": bob.arn(),
            "Operations": ["Decrypt"],
        });
        root(kms, "CreateGrant", &body).unwrap();
    }
    let wanted = json!({ "RetiringPrincipal": bob.arn(), "Limit": 2 });
    assert_eq!(
        refused(call(kms, &alice, "ListRetirableGrants", &wanted)),
        DENIED
    );
    let mut seen = 0;
    let mut body = wanted;
    loop {
        let page = call(kms, &bob, "ListRetirableGrants", &body).unwrap();
        seen += page["Grants"].as_array().unwrap().len();
        assert_eq!(page["Truncated"], json!(seen < 5));
        if seen >= 5 {
            break;
        }
        body["Marker"] = page["NextMarker"].clone();
    }
    let first = root(kms, "ListGrants", &json!({ "KeyId": key })).unwrap();
    let retire = json!({ "KeyId": key, "GrantId": first["Grants"][0]["GrantId"] });
    call(kms, &bob, "RetireGrant", &retire).unwrap();
    let both = json!({ "KeyId": key });
    assert_eq!(
        refused(call(kms, &bob, "RetireGrant", &both)),
        "ValidationException"
    );
}

#[test]
fn a_volume_works_through_its_own_grant_until_that_is_revoked() {
    for service in [false, true] {
        let fixture = Fixture::new();
        let kms = &fixture.kms;
        let id = if service {
            kms.service_key("alias/envelopefs/volume").unwrap()
        } else {
            fixture.key()
        };
        let made = kms.generate_data_key(Via::Volume, &id, &context()).unwrap();
        let listed = root(kms, "ListGrants", &json!({ "KeyId": id.to_string() })).unwrap();
        let grants = listed["Grants"].as_array().unwrap();
        assert_eq!(grants.len(), 1);
        assert_eq!(
            grants[0]["Constraints"]["EncryptionContextSubset"],
            json!({ "envelopefs:volume-id": volume().to_string() })
        );
        // Another volume's data keys are not for it, and its own context is bound.
        let other = EncryptionContext::new().with("envelopefs:volume-id", "0".repeat(32));
        assert_eq!(
            refused(kms.generate_data_key(Via::Volume, &id, &other)),
            DENIED
        );
        let process = fixture.another();
        process.check_usable(Via::Volume, &id).unwrap();
        let revoke = json!({ "KeyId": id.to_string(), "GrantId": grants[0]["GrantId"] });
        root(kms, "RevokeGrant", &revoke).unwrap();
        for kms in [kms, &process, &fixture.another()] {
            assert_eq!(refused(kms.check_usable(Via::Volume, &id)), DENIED);
            assert_eq!(
                refused(kms.decrypt_data_key(Via::Volume, &made.blob, &context())),
                DENIED
            );
        }
        if service {
            continue;
        }
        // It is not given again by itself, but by whoever may.
        let again = json!({
            "KeyId": id.to_string(), "GranteePrincipal": kms.volume_caller(&volume()).arn(),
            "Operations": ["Decrypt"],
        });
        root(kms, "CreateGrant", &again).unwrap();
        process
            .decrypt_data_key(Via::Volume, &made.blob, &context())
            .unwrap();
        assert_eq!(
            refused(process.generate_data_key(Via::Volume, &id, &context())),
            DENIED
        );
    }
}

#[test]
fn a_user_has_no_rights_but_those_that_are_given() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let alice = user(kms, "alice");
    for (operation, body) in [
        ("CreateKey", json!({})),
        ("ListKeys", json!({})),
        ("ListAliases", json!({})),
        ("DescribeKey", json!({ "KeyId": key })),
        ("DisableKey", json!({ "KeyId": key })),
        ("ScheduleKeyDeletion", json!({ "KeyId": key })),
        ("PutKeyPolicy", json!({ "KeyId": key, "Policy": "{}" })),
        ("GetKeyPolicy", json!({ "KeyId": key })),
        (
            "CreateAlias",
            json!({ "TargetKeyId": key, "AliasName": "alias/a" }),
        ),
        ("TagResource", json!({ "KeyId": key, "Tags": [] })),
        ("EnableKeyRotation", json!({ "KeyId": key })),
        ("RotateKeyOnDemand", json!({ "KeyId": key })),
        (
            "ReplicateKey",
            json!({ "KeyId": key, "ReplicaRegion": "eu-west-1" }),
        ),
    ] {
        assert_eq!(
            refused(call(kms, &alice, operation, &body)),
            DENIED,
            "{operation}"
        );
    }
    call(
        kms,
        &alice,
        "GenerateRandom",
        &json!({ "NumberOfBytes": 4 }),
    )
    .unwrap();
    // A key's state is no one's business who has no rights on it.
    root(kms, "DisableKey", &json!({ "KeyId": key })).unwrap();
    let encrypt = json!({ "KeyId": key, "Plaintext": "aGk=" });
    assert_eq!(refused(call(kms, &alice, "Encrypt", &encrypt)), DENIED);
}

#[test]
fn policies_give_rights_and_lock_nobody_out_by_accident() {
    let fixture = Fixture::new();
    let kms = &fixture.kms;
    let key = fixture.key().to_string();
    let alice = user(kms, "alice");
    let policy = |action: &str, principal: &str| {
        json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": principal }, "Action": action, "Resource": "*" },
        ] })
        .to_string()
    };
    let put = |policy: &str, bypass: bool| {
        root(
            kms,
            "PutKeyPolicy",
            &json!({
                "KeyId": key, "Policy": policy, "PolicyName": "default",
                "BypassPolicyLockoutSafetyCheck": bypass,
            }),
        )
    };
    let malformed = "MalformedPolicyDocumentException";
    assert_eq!(refused(put("{", false)), malformed);
    assert_eq!(
        refused(put(&policy("kms:Encrypt", alice.arn()), false)),
        malformed
    );
    assert_eq!(
        refused(put(&" ".repeat(40_000), false)),
        "LimitExceededException"
    );
    let both = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::000000000000:root" },
          "Action": "kms:*", "Resource": "*" },
        { "Effect": "Allow", "Principal": { "AWS": alice.arn() },
          "Action": ["kms:Encrypt", "kms:DescribeKey"], "Resource": "*" },
        { "Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*",
          "Condition": { "StringEquals": { "kms:EncryptionContext:purpose": "forbidden" } } },
    ] })
    .to_string();
    put(&both, false).unwrap();
    let read = root(kms, "GetKeyPolicy", &json!({ "KeyId": key })).unwrap();
    assert_eq!(read["Policy"], both);
    assert_eq!(read["PolicyName"], "default");
    let encrypt = |caller: &Caller, purpose: &str| {
        let body = json!({
            "KeyId": key, "Plaintext": "aGk=", "EncryptionContext": { "purpose": purpose },
        });
        call(kms, caller, "Encrypt", &body)
    };
    encrypt(&alice, "backup").unwrap();
    assert_eq!(refused(encrypt(&alice, "forbidden")), DENIED);
    let owner = kms.caller(Principal::Root);
    assert_eq!(refused(encrypt(&owner, "forbidden")), DENIED);
    assert_eq!(refused(encrypt(&user(kms, "bob"), "backup")), DENIED);
    // Other processes hold to it as well.
    let process = fixture.another();
    let described = json!({ "KeyId": key });
    call(&process, &alice, "DescribeKey", &described).unwrap();

    // Bypassed, it locks even the root out.
    put(&policy("kms:DescribeKey", alice.arn()), true).unwrap();
    assert_eq!(refused(encrypt(&owner, "backup")), DENIED);
    assert_eq!(
        refused(root(kms, "GetKeyPolicy", &json!({ "KeyId": key }))),
        DENIED
    );
    call(kms, &alice, "DescribeKey", &described).unwrap();
    let names = json!({ "KeyId": fixture.key().to_string() });
    assert_eq!(
        root(kms, "ListKeyPolicies", &names).unwrap(),
        json!({ "PolicyNames": ["default"], "Truncated": false })
    );
}
