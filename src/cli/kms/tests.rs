use std::path::Path;

use clap::Parser;
use tempfile::TempDir;

use super::super::exit::{self, Exit};
use super::args::OutputForm;
use super::*;
use crate::kms::{CreateOptions, KeyId, ProtectorInput};

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: KmsCommand,
}

struct Fixture {
    kms: Kms,
    dir: TempDir,
}

fn input() -> ProtectorInput {
    ProtectorInput::key(vec![1; 32].into()).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let kms = Kms::create(&dir.path().join("ks"), &input(), &CreateOptions::default()).unwrap();
        Self { kms, dir }
    }

    /// What a command prints.
    fn try_run(&self, args: &[&str]) -> Result<String> {
        let line = Line::try_parse_from(std::iter::once("kms").chain(args.iter().copied()))?;
        let open = || Ok(Kms::open(self.kms.dir(), &[input()])?);
        match answer(line.command, &open)? {
            (Some(answer), output) => Ok(answer::render(&answer, &output)?.to_string()),
            (None, _) => Ok(String::new()),
        }
    }

    fn run(&self, line: &str) -> String {
        let args: Vec<&str> = line.split(' ').collect();
        self.try_run(&args).unwrap()
    }

    /// The name of the exception that a command ends with.
    fn refused(&self, line: &str) -> &'static str {
        let args: Vec<&str> = line.split(' ').collect();
        let error = self.try_run(&args).unwrap_err();
        error
            .downcast_ref::<KmsError>()
            .unwrap_or_else(|| panic!("{error:?}"))
            .code()
    }

    fn key(&self) -> String {
        self.run("create-key --query KeyMetadata.KeyId --output text")
            .trim()
            .to_owned()
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn is_usage(result: Result<impl std::fmt::Debug>) -> bool {
    exit::of(&result.unwrap_err()) == Exit::Usage
}

#[test]
fn every_command_and_flag_is_in_order() {
    use clap::CommandFactory;
    Line::command().debug_assert();
    let commands = Line::command();
    let mut names: Vec<_> = commands
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    names.sort_unstable();
    let mut operations: Vec<_> = api::OPERATIONS
        .iter()
        .map(|name| table::kebab(name))
        .collect();
    operations.sort_unstable();
    assert_eq!(
        names, operations,
        "what the key manager does and what can be asked for"
    );
    for operation in table::OPERATIONS {
        let members = operation.members().count();
        assert_eq!(
            members,
            operation.words().count(),
            "{}: a member is not in the table",
            operation.name
        );
    }
}

#[test]
fn members_of_every_kind() {
    let fixture = Fixture::new();
    let made = fixture
        .try_run(&[
            "create-key",
            "--tags",
            "TagKey=a,TagValue=b c",
            "TagKey=d,TagValue=",
            "--multi-region",
            "--no-multi-region",
            "--multi-region",
        ])
        .unwrap();
    assert!(made.contains("mrk-"), "{made}");
    let key = fixture.key();
    let grant = fixture
        .try_run(&[
            "create-grant",
            "--key-id",
            &key,
            "--grantee-principal",
            "arn:aws:iam::000000000000:user/alice",
            "--operations",
            "Encrypt",
            "Decrypt",
            "--constraints",
            "EncryptionContextSubset={a=b,c=d}",
            "--query",
            "GrantId",
            "--output",
            "text",
        ])
        .unwrap();
    let listed = fixture.run(&format!("list-grants --key-id {key} --query Grants[0].[GrantId,Constraints.EncryptionContextSubset.c]"));
    assert!(
        listed.contains(grant.trim()) && listed.contains("\"d\""),
        "{listed}"
    );
    let dry = format!("encrypt --key-id {key} --plaintext aGk= --dry-run");
    assert_eq!(fixture.refused(&dry), "DryRunOperationException");
    let input = format!(r#"{{"KeyId": "{key}", "Plaintext": "aGk="}}"#);
    let blob = fixture
        .try_run(&["encrypt", "--cli-input-json", &input, "--query", "KeyId"])
        .unwrap();
    assert!(blob.contains(&key), "{blob}");
    let policy = fixture.file(
        "policy.json",
        br#"{"Version": "2012-10-17", "Statement": []}"#,
    );
    let put = format!("put-key-policy --key-id {key} --policy file://{policy}");
    assert_eq!(fixture.refused(&put), "MalformedPolicyDocumentException");
    let other = fixture.run("create-key --region eu-west-1 --query KeyMetadata.Arn");
    assert!(other.contains(":eu-west-1:"), "{other}");
    for bad in [
        "encrypt --plaintext aGk=",
        "create-key --region US",
        "list-keys --output table",
        "list-keys --limit x",
        "create-grant --key-id k --operations Encrypt --constraints a=b",
        "tag-resource --key-id k --tags novalue",
    ] {
        assert!(
            fixture
                .try_run(&bad.split(' ').collect::<Vec<_>>())
                .is_err(),
            "{bad}"
        );
    }
}

#[test]
fn refusals_have_the_words_and_codes_of_aws() {
    let fixture = Fixture::new();
    let failed = |words: &str| {
        let line = Line::try_parse_from(std::iter::once("kms").chain(words.split(' '))).unwrap();
        let open = || Ok(Kms::open(fixture.kms.dir(), &[input()])?);
        run(line.command, &open).unwrap_err()
    };
    let error = failed("describe-key --key-id alias/none");
    assert_eq!(exit::of(&error), Exit::AwsService);
    assert!(
        error.to_string().starts_with(
            "An error occurred (NotFoundException) when calling the DescribeKey operation: "
        ),
        "{error}"
    );
    assert_eq!(
        exit::of(&failed("encrypt --key-id k --plaintext *")),
        Exit::AwsUsage
    );
}

#[test]
fn a_key_is_shown_as_aws_shows_it() {
    let fixture = Fixture::new();
    let made = fixture
        .try_run(&["create-key", "--description", "my \"key\""])
        .unwrap();
    let id = &made.split('"').nth(9).unwrap();
    let described = fixture
        .kms
        .owner()
        .describe_key(&id.parse::<KeyId>().unwrap().into());
    let key = described.unwrap().key_metadata;
    let expected = format!(
        r#"{{
    "KeyMetadata": {{
        "AWSAccountId": "000000000000",
        "KeyId": "{id}",
        "Arn": "arn:aws:kms:us-east-1:000000000000:key/{id}",
        "CreationDate": "{}",
        "Enabled": true,
        "Description": "my \"key\"",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": [
            "SYMMETRIC_DEFAULT"
        ],
        "MultiRegion": false,
        "CurrentKeyMaterialId": "{}"
    }}
}}
"#,
        key.creation_date,
        key.current_key_material_id.unwrap()
    );
    assert_eq!(made, expected);
    assert_eq!(
        fixture.run(&format!("describe-key --key-id {}", key.arn)),
        expected
    );
    for (line, exception) in [
        ("--key-usage SIGN_VERIFY", "ValidationException"),
        ("--key-spec SM2", "ValidationException"),
        ("--origin AWS_CLOUDHSM", "UnsupportedOperationException"),
    ] {
        assert_eq!(fixture.refused(&format!("create-key {line}")), exception);
    }
    assert_eq!(
        fixture.refused("describe-key --key-id alias/none"),
        "NotFoundException"
    );
}

#[test]
fn what_is_encrypted_is_decrypted() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.key(), fixture.key());
    let plain = fixture.file("plain", b"hello\n");
    let blob = fixture.run(&format!(
        "encrypt --key-id {one} --plaintext fileb://{plain} --encryption-context a=b,c=d \
         --output text --query CiphertextBlob"
    ));
    let blob = blob.trim_end();
    let binary = fixture.file("blob", &base64_bytes(blob));
    let text = fixture.file("blob.b64", format!("{blob}\n").as_bytes());
    for given in [
        blob.to_owned(),
        format!("fileb://{binary}"),
        format!("file://{text}"),
    ] {
        let opened = fixture.run(&format!(
            "decrypt --ciphertext-blob {given} --encryption-context c=d,a=b --query Plaintext \
             --output text"
        ));
        assert_eq!(opened, "aGVsbG8K\n");
    }
    let wrong = format!("decrypt --ciphertext-blob {blob} --encryption-context a=b");
    assert_eq!(fixture.refused(&wrong), "InvalidCiphertextException");
    let other =
        format!("decrypt --ciphertext-blob {blob} --encryption-context a=b,c=d --key-id {two}");
    assert_eq!(fixture.refused(&other), "IncorrectKeyException");

    let moved = fixture.run(&format!(
        "re-encrypt --ciphertext-blob {blob} --source-encryption-context a=b,c=d \
         --source-key-id {one} --destination-key-id {two} --query CiphertextBlob --output text"
    ));
    let opened = fixture.run(&format!(
        "decrypt --ciphertext-blob {} --key-id {two}",
        moved.trim_end()
    ));
    assert!(opened.contains("\"Plaintext\": \"aGVsbG8K\""), "{opened}");
    assert!(opened.contains(&format!("key/{two}\"")), "{opened}");

    let raw = "encrypt --cli-binary-format raw-in-base64-out --plaintext hello --key-id";
    let made = fixture.run(&format!("{raw} {one} --query CiphertextBlob --output text"));
    let opened = fixture.run(&format!(
        "decrypt --ciphertext-blob {} --query Plaintext",
        made.trim_end()
    ));
    assert_eq!(opened, "\"aGVsbG8=\"\n");
    let algorithm = format!("{raw} {one} --encryption-algorithm RSAES_OAEP_SHA_256");
    assert_eq!(fixture.refused(&algorithm), "InvalidKeyUsageException");
    let bad = format!("encrypt --key-id {one} --plaintext no*base64");
    assert!(is_usage(
        fixture.try_run(&bad.split(' ').collect::<Vec<_>>())
    ));
}

fn base64_bytes(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[test]
fn data_keys_come_in_both_forms() {
    let fixture = Fixture::new();
    let key = fixture.key();
    let made = fixture.run(&format!(
        "generate-data-key --key-id {key} --key-spec AES_256 --output text \
         --query [Plaintext,CiphertextBlob]"
    ));
    let (plain, blob) = made.trim_end().split_once('\t').unwrap();
    assert_eq!(
        (base64_bytes(plain).len(), base64_bytes(blob).len()),
        (32, 90)
    );
    let opened = fixture.run(&format!(
        "decrypt --ciphertext-blob {blob} --query Plaintext --output text"
    ));
    assert_eq!(opened.trim_end(), plain);
    let both = format!("generate-data-key --key-id {key} --key-spec AES_256 --number-of-bytes 32");
    assert_eq!(fixture.refused(&both), "ValidationException");
}

#[test]
fn states_aliases_and_rotation() {
    let fixture = Fixture::new();
    let key = fixture.key();
    assert_eq!(
        fixture.run(&format!(
            "create-alias --alias-name alias/a --target-key-id {key}"
        )),
        ""
    );
    assert_eq!(
        fixture.run("list-aliases --query Aliases[].[AliasName,TargetKeyId] --output text"),
        format!("alias/a\t{key}\n")
    );
    assert_eq!(fixture.run(&format!("disable-key --key-id {key}")), "");
    assert_eq!(
        fixture.run(
            "describe-key --key-id alias/a --query KeyMetadata.[KeyState,Enabled] --output text"
        ),
        "Disabled\tFalse\n"
    );
    let encrypt = "encrypt --key-id alias/a --plaintext aGVsbG8=";
    assert_eq!(fixture.refused(encrypt), "DisabledException");
    assert_eq!(fixture.run(&format!("enable-key --key-id {key}")), "");
    fixture.run(encrypt);

    let status = format!("get-key-rotation-status --key-id {key}");
    let off = format!("{{\n    \"KeyRotationEnabled\": false,\n    \"KeyId\": \"{key}\"\n}}\n");
    assert_eq!(fixture.run(&status), off);
    fixture.run(&format!(
        "enable-key-rotation --key-id {key} --rotation-period-in-days 90"
    ));
    assert_eq!(
        fixture.run(&format!("{status} --query RotationPeriodInDays")),
        "90\n"
    );
    let next = fixture.run(&format!("{status} --query NextRotationDate --output text"));
    assert!(next.ends_with("+00:00\n"), "{next}");
    fixture.run(&format!("disable-key-rotation --key-id {key}"));
    assert_eq!(fixture.run(&status), off);
    let rotated = fixture.run(&format!(
        "rotate-key-on-demand --key-id {key} --query KeyId"
    ));
    assert_eq!(rotated, format!("\"{key}\"\n"));
    let list = format!("list-key-rotations --key-id {key} --output text");
    let types = fixture.run(&format!("{list} --query Rotations[*].RotationType"));
    assert_eq!(types, "ON_DEMAND\n");
    let all = fixture.run(&format!(
        "{list} --include-key-material ALL_KEY_MATERIAL --query Rotations[*].KeyMaterialState"
    ));
    assert_eq!(all, "NON_CURRENT\tCURRENT\n");
    fixture.run("delete-alias --alias-name alias/a");
    assert_eq!(fixture.run("list-aliases"), "{\n    \"Aliases\": []\n}\n");
}

#[test]
fn listings_are_whole_or_in_pages() {
    let fixture = Fixture::new();
    let keys: Vec<String> = (0..3).map(|_| fixture.key()).collect();
    let all = fixture.run("list-keys --query Keys[].KeyId --output text");
    assert_eq!(all.trim_end().split('\t').collect::<Vec<_>>(), keys);
    assert!(!fixture.run("list-keys").contains("Truncated"));
    assert_eq!(
        fixture.run("list-keys --limit 2 --query Truncated"),
        "true\n"
    );
    let marker = fixture.run("list-keys --limit 2 --query NextMarker --output text");
    let rest = fixture.run(&format!(
        "list-keys --marker {} --output text",
        marker.trim_end()
    ));
    let arn = format!("arn:aws:kms:us-east-1:000000000000:key/{}", keys[2]);
    assert_eq!(rest, format!("False\nKEYS\t{arn}\t{}\n", keys[2]));
}

#[test]
fn contexts_are_read_as_shorthand_and_json() {
    let read = |text: &str| input::pairs("--x", text).unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(read("a=b"), pairs(&[("a", "b")]));
    assert_eq!(
        read("a=b,c=d=e,f="),
        pairs(&[("a", "b"), ("c", "d=e"), ("f", "")])
    );
    assert_eq!(
        read("a=\"b,\\\"c\", d='e f'"),
        pairs(&[("a", "b,\"c"), ("d", "e f")])
    );
    assert_eq!(
        read(r#"{"a": "b", "c,": "d"}"#),
        pairs(&[("a", "b"), ("c,", "d")])
    );
    for bad in [
        "",
        "a",
        "=b",
        "a=b,",
        "a=b,c",
        "a=b,a=c",
        "a=\"b",
        "a=\"b\"c",
        "{\"a\": 1}",
        "{",
    ] {
        assert!(is_usage(input::pairs("--x", bad)), "{bad}");
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("context.json");
    std::fs::write(&path, r#"{"a": "b"}"#).unwrap();
    assert_eq!(
        read(&format!("file://{}", path.display())),
        pairs(&[("a", "b")])
    );
    assert!(input::pairs("--x", "file:///nonexistent").is_err());
    assert!(!Path::new("/nonexistent").exists());
}

/// What `jmespath` 1.1.0 and the text form of the AWS command line 1.45 gave for the same values.
#[test]
fn queries_and_text_are_those_of_the_aws_command_line() {
    let text = |value: &str| Json::text(value);
    let nested = Json::map([("B", Json::Number(1)), ("A", Json::Null)]);
    let one = Json::map([
        ("AliasName", text("alias/a")),
        ("TargetKeyId", text("k1")),
        ("Tags", Json::List(vec![text("x"), text("y")])),
    ]);
    let two = Json::map([
        ("AliasName", text("alias/b")),
        ("Extra", Json::Bool(true)),
        ("Nested", nested),
    ]);
    let answer = Json::map([
        ("Aliases", Json::List(vec![one, two])),
        ("Truncated", Json::Bool(false)),
    ]);
    let show = |query: Option<&str>| {
        let output = OutputArgs {
            output: OutputForm::Text,
            query: query.map(str::to_owned),
        };
        answer::render(&answer, &output).unwrap().to_string()
    };
    assert_eq!(
        show(None),
        "False\nALIASES\talias/a\t\tk1\nTAGS\tx\nTAGS\ty\nALIASES\talias/b\tTrue\t\nNESTED\tNone\t1\n"
    );
    for (query, expected) in [
        (
            "Aliases",
            "alias/a\t\tk1\nTAGS\tx\nTAGS\ty\nalias/b\tTrue\t\nNESTED\tNone\t1\n",
        ),
        ("Aliases[0]", "alias/a\tk1\nTAGS\tx\nTAGS\ty\n"),
        ("Aliases[].AliasName", "alias/a\talias/b\n"),
        ("Aliases[*].Tags", "x\ty\n"),
        (
            "Aliases[?AliasName=='alias/b']",
            "alias/b\tTrue\nNESTED\tNone\t1\n",
        ),
        ("Aliases[?AliasName!='alias/b'].TargetKeyId | [0]", "k1\n"),
        (
            "Aliases[*].[AliasName, TargetKeyId]",
            "alias/a\tk1\nalias/b\tNone\n",
        ),
        ("Aliases[-1].Nested", "None\t1\n"),
        ("Nothing", "None\n"),
        ("Truncated", "False\n"),
        ("[Truncated, Nothing]", "False\tNone\n"),
        ("Aliases[*].Tags[]", "x\ty\n"),
        ("Aliases[*].Tags[0]", "x\n"),
        ("Aliases[1].Nested.A", "None\n"),
        ("Aliases[?Extra==`true`].AliasName", "alias/b\n"),
        ("Aliases[?TargetKeyId=='k1'].Tags[]", "x\ty\n"),
        ("\"Aliases\"[0].Tags[ 1 ]", "y\n"),
        ("Aliases[9]", "None\n"),
    ] {
        assert_eq!(show(Some(query)), expected, "{query}");
    }
    let deep = "[".repeat(100_000);
    for bad in [
        "",
        ".",
        "a.",
        "a[",
        "a]",
        "a[x",
        "length(a)",
        "a b",
        "a[?b]",
        "a[?b=='c]",
        "a || b",
        "-1",
        &deep,
    ] {
        assert!(
            is_usage(query::run(bad, &answer)),
            "{}",
            &bad[..bad.len().min(20)]
        );
    }
}

#[test]
fn usage_is_checked_before_the_keystore_is_opened() {
    let line = Line::try_parse_from(["kms", "encrypt", "--key-id", "alias/a", "--plaintext", "*"])
        .unwrap();
    let error = run(line.command, &|| panic!("opened")).unwrap_err();
    assert_eq!(exit::of(&error), Exit::AwsUsage);
    for args in [
        &["kms", "encrypt"][..],
        &["kms", "describe-key"],
        &["kms", "list-keys", "--limit", "x"],
    ] {
        if let Ok(line) = Line::try_parse_from(args) {
            let error = run(line.command, &|| panic!("opened")).unwrap_err();
            assert_eq!(exit::of(&error), Exit::AwsUsage, "{args:?}");
        }
    }
}
