use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_table_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_forms_that_scripts_rely_on() {
    for line in [
        "envelopefs init c",
        "envelopefs init c --key alias/x --plaintext-names",
        "envelopefs mount c m",
        "envelopefs mount c m -o ro,nodev -o idle=1m --foreground --read-only --log f",
        "envelopefs umount m",
        "envelopefs status",
        "envelopefs status c --json",
        "envelopefs inspect f --json",
        "envelopefs rotate c --json",
        "envelopefs rewrap c --to-key alias/x --dry-run --json",
        "envelopefs re-encrypt c a b/c --resume --max-rate 50M --json",
        "envelopefs fsck c --json",
        "envelopefs ls c",
        "envelopefs ls -laR c a b",
        "envelopefs cat c a b",
        "envelopefs cp -rp c a b d",
        "envelopefs completions bash",
        "envelopefs keystore init",
        "envelopefs keystore protector add",
        "envelopefs keystore protector remove x",
        "envelopefs kms create-key",
        "envelopefs kms list-key-rotations --key-id alias/x",
        "envelopefs --keystore k --passphrase-file p status",
        "envelopefs status --keystore k --key-file f c",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_usage_ends_with_the_code_for_usage() {
    for line in [
        "envelopefs",
        "envelopefs frobnicate",
        "envelopefs mount c",
        "envelopefs umount",
        "envelopefs cat c",
        "envelopefs cp c a",
        "envelopefs completions tcsh",
        "envelopefs status c d",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(
            error.exit_code(),
            i32::from(exit::Exit::Usage.code()),
            "{line}"
        );
    }
    assert_eq!(parse("envelopefs --help").unwrap_err().exit_code(), 0);
    assert_eq!(parse("envelopefs --version").unwrap_err().exit_code(), 0);
}

#[test]
fn the_keystore_options_work_on_both_sides_of_the_command() {
    for line in [
        "envelopefs --keystore /k status",
        "envelopefs status --keystore /k",
    ] {
        assert_eq!(parse(line).unwrap().keystore.keystore, Some("/k".into()));
    }
}

#[test]
fn a_rate_in_bytes() {
    for (text, right) in [
        ("1", Some(1)),
        ("200K", Some(200 << 10)),
        ("50m", Some(50 << 20)),
        ("2T", Some(2 << 40)),
        ("0", None),
        ("K", None),
        ("-1", None),
        ("1.5M", None),
        ("99999999999T", None),
    ] {
        assert_eq!(bytes(text).ok().map(NonZeroU64::get), right, "{text}");
    }
}
