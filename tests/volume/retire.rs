//! Old key material destroyed after a rewrap, what was hidden from the rewrap, and the record of it all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::cli_support::{self, BUSY, DAMAGE, FAILURE, NO_SUCH_KEY, Place, USAGE};
use crate::kit::{Kit, make_with, pattern, read_all};
use envelopefs::backing::Os;
use envelopefs::kms::audit::{Filter, Reader, Record};
use envelopefs::kms::{Kms, KmsError, MaterialId, OldMaterial, ProtectorInput, WithOlder};
use envelopefs::maintain::fsck;
use envelopefs::maintain::reencrypt::{self, ReencryptOptions};
use envelopefs::maintain::rewrap::{self, RewrapOptions, RewrapReport};
use envelopefs::maintain::{Progress, Silent};
use envelopefs::volume::{OpenOptions, Volume};
use serde_json::Value;

/// As many files as the tests have.
const FILES: usize = 120;
/// A refusal for want of the right words.
const AWS_REFUSED: i32 = 254;

fn fill(volume: &Volume<Os>) {
    for i in 0..FILES {
        make_with(volume, &format!("f{i}"), &pattern(i * 97, i as u8));
    }
}

#[track_caller]
fn all_is_readable(volume: &Volume<Os>) {
    for i in 0..FILES {
        let read = read_all(volume, &format!("f{i}")).unwrap();
        assert!(read == pattern(i * 97, i as u8), "f{i}");
    }
}

fn parallel() -> RewrapOptions {
    RewrapOptions {
        threads: 3,
        ..RewrapOptions::default()
    }
}

fn rewrap(volume: &Volume<Os>) -> RewrapReport {
    rewrap::run(volume, &parallel(), &Silent).unwrap()
}

fn census(volume: &Volume<Os>) -> RewrapReport {
    let options = RewrapOptions {
        dry_run: true,
        ..parallel()
    };
    rewrap::run(volume, &options, &Silent).unwrap()
}

/// Rotates a volume's key; the material until then.
fn rotate(kms: &Kms, volume: &Volume<Os>) -> MaterialId {
    let key = volume.volume_key_id();
    let before = kms.current_material(&key).unwrap();
    kms.rotate_volume_key(&volume.id(), &key).unwrap();
    before
}

fn retire_all(kms: &Kms, volume: &Volume<Os>) -> Result<Vec<MaterialId>, KmsError> {
    let retired = kms
        .owner()
        .retire_key_material(&volume.volume_key_id(), &OldMaterial::All)?;
    Ok(retired.materials)
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// Cipher files that hold something, in the root.
fn cipher_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let full = |entry: &fs::DirEntry| entry.metadata().unwrap().is_file();
    let mut files: Vec<PathBuf> = entries.filter(full).map(|entry| entry.path()).collect();
    files.retain(|file| file.metadata().unwrap().len() > 0);
    files.sort();
    files
}

fn records(kms: &Kms, run: &str) -> Vec<Record> {
    let filter = Filter {
        run: Some(run.to_owned()),
        ..Filter::default()
    };
    let mut found = Vec::new();
    Reader::new(kms.dir(), false)
        .unwrap()
        .read(|record| -> Result<bool, KmsError> {
            if filter.wants(&record) {
                found.push(record);
            }
            Ok(true)
        })
        .unwrap();
    found
}

fn json(record: &Record) -> Value {
    serde_json::from_str(&record.line).unwrap()
}

#[test]
fn old_material_is_destroyed_after_a_rewrap_and_all_is_readable() {
    let kit = Kit::new();
    let volume = kit.open();
    fill(&volume);
    let old = rotate(&kit.kms, &volume);
    let refused = retire_all(&kit.kms, &volume).unwrap_err();
    assert_eq!(refused.code(), "KMSInvalidStateException");
    let text = refused.to_string();
    let place = kit.cipher().canonicalize().unwrap();
    assert!(text.contains(&place.display().to_string()), "{text}");
    // A count alone shows what is lost, and is no proof that nothing is.
    let counted = census(&volume);
    assert!(!counted.complete);
    let refused = retire_all(&kit.kms, &volume).unwrap_err().to_string();
    assert!(refused.contains("everything in"), "{refused}");
    // Stopped half-way, it proves nothing either.
    let stopped = rewrap::run(&volume, &RewrapOptions::default(), &Stop).unwrap();
    assert!(!stopped.complete);
    retire_all(&kit.kms, &volume).unwrap_err();

    let report = rewrap(&volume);
    assert!(report.complete, "{report:?}");
    assert_eq!(retire_all(&kit.kms, &volume).unwrap(), [old]);
    all_is_readable(&volume);
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    all_is_readable(&volume);
    make_with(&volume, "new", b"made later");
    assert!(fsck::run(&volume, &Silent).unwrap().is_clean());
    // A count of a volume that needs nothing else is a proof as well.
    let before = rotate(&kit.kms, &volume);
    retire_all(&kit.kms, &volume).unwrap_err();
    let key = volume.volume_key_id();
    rewrap(&volume);
    let now = rotate(&kit.kms, &volume);
    assert_eq!(retire_all_but(&kit.kms, &volume, &now), [before]);
    assert!(census(&volume).before.keys().all(|name| {
        name.starts_with(&key.to_string()) && name.ends_with(&now.to_string()[..16])
    }));
}

/// Destroys what is older than `kept`.
fn retire_all_but(kms: &Kms, volume: &Volume<Os>, kept: &MaterialId) -> Vec<MaterialId> {
    let key = volume.volume_key_id();
    let all = envelopefs::kms::api::ListKeyRotationsRequest {
        key_id: (&envelopefs::kms::KeyRef::from(key)).into(),
        include_key_material: Some(envelopefs::kms::api::IncludeKeyMaterial::All),
        page: envelopefs::kms::api::Page::default(),
    };
    let listed = kms.owner().list_key_rotations(&all).unwrap().rotations;
    let current = kms.current_material(&key).unwrap();
    let old = listed
        .iter()
        .filter(|entry| entry.retired_date.is_none())
        .map(|entry| entry.key_material_id)
        .filter(|id| id != kept && *id != current);
    old.inspect(|id| {
        let which = OldMaterial::One(id.to_string());
        kms.owner().retire_key_material(&key, &which).unwrap();
    })
    .collect()
}

/// Stops before the second file.
struct Stop;

impl Progress for Stop {
    fn advanced(&self, _files: u64, _bytes: u64) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_count_beside_a_writer_is_no_proof() {
    let kit = Kit::new();
    let volume = kit.open();
    let old = rotate(&kit.kms, &volume);
    // Its own key is moved, and then it is stopped: nothing is under the old one any more.
    rewrap::run(&volume, &RewrapOptions::default(), &Stop).unwrap();
    retire_all(&kit.kms, &volume).unwrap_err();
    let beside = kit.open_read_only();
    assert!(census(&beside).complete);
    let refused = retire_all(&kit.kms, &volume).unwrap_err().to_string();
    assert!(refused.contains("everything in"), "{refused}");
    assert!(census(&volume).complete);
    assert_eq!(retire_all(&kit.kms, &volume).unwrap(), [old]);
}

/// A file comes back from an old backup of the cipher directory, when the material is gone.
#[test]
fn what_was_hidden_from_the_rewrap_is_told_with_its_key_and_mended_by_an_older_keystore() {
    let kit = Kit::new();
    let volume = kit.open();
    fill(&volume);
    volume.close().unwrap();
    drop(volume);
    let backup = kit.dir.path().join("backup");
    copy(&kit.cipher(), &backup);
    let older = kit.dir.path().join("older");
    copy(kit.kms.dir(), &older);
    let volume = kit.open();
    let (old, key) = (rotate(&kit.kms, &volume), volume.volume_key_id());
    rewrap(&volume);
    retire_all(&kit.kms, &volume).unwrap();
    volume.close().unwrap();
    drop(volume);
    let files = cipher_files(&kit.cipher());
    assert_eq!(files.len(), FILES - 1);
    let hidden: Vec<&PathBuf> = files.iter().step_by(40).collect();
    for file in &hidden {
        copy(&backup.join(file.file_name().unwrap()), file);
    }

    let named = |text: &str| text.contains(&old.to_string()) && text.contains(&key.to_string());
    let volume = kit.open();
    let refused: Vec<String> = (0..FILES)
        .filter_map(|i| read_all(&volume, &format!("f{i}")).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(refused.len(), hidden.len());
    assert!(refused.iter().all(|text| named(text)), "{refused:?}");
    let found = fsck::run(&volume, &Silent).unwrap();
    assert_eq!(
        (found.damaged.len(), found.files),
        (hidden.len(), FILES as u64)
    );
    assert!(found.damaged.iter().all(|damage| named(&damage.why)));
    let report = rewrap(&volume);
    assert!(!report.complete);
    assert_eq!(report.failed.len(), hidden.len());
    assert!(report.failed.iter().all(|failed| named(&failed.why)));
    volume.close().unwrap();
    drop(volume);

    let open_with_older = || {
        let protector = ProtectorInput::key(vec![7; 32].into()).unwrap();
        let older = Arc::new(Kms::open_older(&older, &[protector]).unwrap());
        let both = Arc::new(WithOlder::new(Arc::clone(&kit.kms), older));
        Volume::open(kit.os(), both, OpenOptions::default()).unwrap()
    };
    let volume = open_with_older();
    let report = rewrap(&volume);
    assert!(report.complete, "{report:?}");
    assert_eq!(report.rewrapped, hidden.len() as u64);
    volume.close().unwrap();
    drop(volume);
    let volume = kit.open();
    all_is_readable(&volume);
    let report = rewrap(&volume);
    assert!(report.complete && report.rewrapped == 0, "{report:?}");
    volume.close().unwrap();
    drop(volume);

    // The whole directory comes back, with the volume's own key.
    fs::remove_dir_all(kit.cipher()).unwrap();
    copy(&backup, &kit.cipher());
    let refused = Volume::open(kit.os(), Arc::clone(&kit.kms), OpenOptions::default());
    assert!(named(&refused.err().unwrap().to_string()));
    let volume = open_with_older();
    let report = rewrap(&volume);
    assert!(report.complete && report.volume_key, "{report:?}");
    volume.close().unwrap();
    drop(volume);
    all_is_readable(&kit.open());
}

#[test]
fn a_run_is_recorded_from_its_start_to_its_end_with_each_key_use() {
    let kit = Kit::new();
    let volume = kit.open();
    fill(&volume);
    rotate(&kit.kms, &volume);
    let report = rewrap(&volume);
    let full = FILES - 1;
    let found = records(&kit.kms, &report.run_id);
    let names: Vec<&str> = found
        .iter()
        .map(|record| record.parts.event_name.as_str())
        .collect();
    assert_eq!(names.first(), Some(&"StartRewrap"));
    assert_eq!(names.last(), Some(&"EndRewrap"));
    let moved: Vec<&Record> = found
        .iter()
        .filter(|record| record.parts.event_name == "ReEncrypt")
        .collect();
    // Each file's data key, and the volume's own.
    assert_eq!(moved.len(), full + 1);
    let ids: BTreeSet<&str> = moved
        .iter()
        .filter_map(|record| record.parts.context("envelopefs:file-id"))
        .collect();
    assert_eq!(ids.len(), full);
    let (start, end) = (json(&found[0]), json(&found[found.len() - 1]));
    let place = kit.cipher().canonicalize().unwrap();
    assert_eq!(start["requestParameters"]["place"], place.to_str().unwrap());
    assert_eq!(start["envelopefs"]["pid"], std::process::id());
    assert_eq!(start["userIdentity"]["type"], "AssumedRole");
    let told = &end["requestParameters"];
    assert_eq!(told["volumeId"], volume.id().to_string());
    assert_eq!(
        (&told["files"], &told["changed"], &told["failed"]),
        (&FILES.into(), &full.into(), &0.into())
    );
    assert_eq!(
        (&told["complete"], &told["cancelled"]),
        (&true.into(), &false.into())
    );

    // A count uses no key; a run that is stopped says so; each has an id of its own.
    let counted = census(&volume);
    assert_eq!(records(&kit.kms, &counted.run_id).len(), 2);
    assert_ne!(counted.run_id, report.run_id);
    rotate(&kit.kms, &volume);
    let stopped = rewrap::run(&volume, &RewrapOptions::default(), &Stop).unwrap();
    let end = json(records(&kit.kms, &stopped.run_id).last().unwrap());
    assert_eq!(end["requestParameters"]["cancelled"], true);
    assert_eq!(end["requestParameters"]["complete"], false);

    let options = ReencryptOptions {
        threads: 3,
        ..ReencryptOptions::default()
    };
    let report = reencrypt::run(&volume, &options, &Silent).unwrap();
    let found = records(&kit.kms, &report.run_id);
    let made = found
        .iter()
        .filter(|record| record.parts.event_name == "GenerateDataKey");
    assert_eq!(made.count(), full);
    assert_eq!(found[0].parts.event_name, "StartReEncrypt");
    let end = json(found.last().unwrap());
    assert_eq!(end["eventName"], "EndReEncrypt");
    assert_eq!(end["requestParameters"]["changed"], full);
    assert_eq!(end["requestParameters"]["bytes"], report.bytes);
    // What comes after a run is no part of it.
    read_all(&volume, "f1").unwrap();
    make_with(&volume, "later", b"x");
    assert_eq!(records(&kit.kms, &report.run_id).len(), found.len());
}

/// A volume `c` with files, and its key.
fn place_with_files() -> (Place, String) {
    let place = Place::with_volume();
    let volume = open(&place);
    for i in 0..10 {
        make_with(&volume, &format!("f{i}"), b"some bytes");
    }
    volume.close().unwrap();
    let status = place.json(["status", "c", "--json"]);
    (place, status["key_ids"][0].as_str().unwrap().to_owned())
}

fn open(place: &Place) -> Volume<Os> {
    let protector = ProtectorInput::key_file(&place.path("key")).unwrap();
    let kms = Arc::new(Kms::open(&place.path("keystore"), &[protector]).unwrap());
    let os = Os::open(&place.path("c")).unwrap();
    Volume::open(os, kms, OpenOptions::default()).unwrap()
}

/// The words that a refusal asks for.
fn words(refusal: &str) -> String {
    let (_, words) = refusal.trim_end().rsplit_once("--force \"").unwrap();
    words.strip_suffix('"').unwrap().to_owned()
}

#[test]
fn an_administrator_rotates_rewraps_and_retires() {
    let (place, key) = place_with_files();
    let rotated = place.json(["rotate", "c", "--json"]);
    let (old, new) = (&rotated["previous_material_id"], &rotated["material_id"]);
    let old = old.as_str().unwrap();
    place
        .run(["keystore", "retire", &key])
        .fails(USAGE, "--material");
    let current = [
        "keystore",
        "retire",
        &key,
        "--material",
        new.as_str().unwrap(),
    ];
    place.run(current).fails(FAILURE, "is the current one");
    let retire = ["keystore", "retire", &key, "--material", &old[..16]];
    let cipher = place.path("c").canonicalize().unwrap();
    let refused = place.run(retire);
    assert!(refused.stderr().contains("envelopefs rewrap"));
    assert_eq!(
        words(&refused.stderr()),
        format!("lose everything in {}", cipher.display())
    );
    refused.fails(FAILURE, "is still needed");
    place
        .run(retire.iter().chain(&["--force", "lose something"]))
        .fails(FAILURE, "is still needed");
    let listed = place.json(["keystore", "volume", "list", "--json"]);
    assert_eq!(listed[0]["cipherDir"], cipher.to_str().unwrap());
    assert_eq!(listed[0]["counts"][0]["volumeKey"], true);

    let report = place.json(["rewrap", "c", "--json"]);
    assert_eq!(report["rewrapped"], 10);
    let run = report["run_id"].as_str().unwrap();
    let shown = place.ok(["audit", "query", "--run", run]);
    // The volume's key is open already; that of each file is opened and wrapped anew in one use.
    assert_eq!(shown.lines().count(), 1 + 1 + 10 + 1, "{shown}");
    let records = place.ok(["audit", "query", "--run", run, "--json"]);
    assert_eq!(records.matches("\"decrypted\":true").count(), 10);
    let id = listed[0]["volumeId"].as_str().unwrap();
    let ours = |line: &str| line.contains(run) && line.contains(id);
    assert!(shown.lines().all(ours), "{shown}");
    let of_volume = ["audit", "query", "--run", run, "--volume", id];
    assert_eq!(place.ok(of_volume), shown);
    let listed = place.json(["keystore", "volume", "list", "--json"]);
    let counts = listed[0]["counts"].as_array().unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!(counts[0]["files"], 10);
    assert_eq!(counts[0]["keyMaterialId"], new.as_str().unwrap()[..16]);
    let text = place.ok(["keystore", "volume", "list"]);
    assert!(text.contains("10 files, the volume's own key"), "{text}");
    let retired = place.json(retire.iter().chain(&["--json"]));
    assert_eq!(retired["materials"][0], old);
    assert!(place.ok(retire).contains("no such key material any more"));
    assert_eq!(place.ok(["cat", "c", "f3"]), "some bytes");
    let listed = place.json(["kms", "list-key-rotations", "--key-id", &key]);
    assert_eq!(listed["Rotations"].as_array().unwrap().len(), 1);
    place.ok(["audit", "verify"]);
}

#[test]
fn a_file_from_an_old_backup_is_mended_by_the_command() {
    let (place, key) = place_with_files();
    copy(&place.path("c"), &place.path("backup"));
    copy(&place.path("keystore"), &place.path("older"));
    let rotated = place.json(["rotate", "c", "--json"]);
    let old = rotated["previous_material_id"].as_str().unwrap();
    place.ok(["rewrap", "c"]);
    place.ok(["keystore", "retire", &key, "--all-old"]);
    let restored = cipher_files(&place.path("c")).remove(0);
    copy(
        &place.path("backup").join(restored.file_name().unwrap()),
        &restored,
    );

    let found = place.run(["fsck", "c"]);
    assert!(found.stdout().contains(old) && found.stdout().contains(&key));
    assert_eq!(found.code(), Some(DAMAGE));
    let broken: Vec<String> = (0..10)
        .map(|i| format!("f{i}"))
        .filter(|name| place.run(["cat", "c", name.as_str()]).code() != Some(0))
        .collect();
    assert_eq!(broken.len(), 1);
    place
        .run(["cat", "c", broken[0].as_str()])
        .fails(NO_SUCH_KEY, old);
    place.run(["rewrap", "c"]).fails(FAILURE, old);
    place
        .run(["rewrap", "c", "--from-keystore", "none"])
        .fails(FAILURE, "no keystore in none");
    let mend = ["rewrap", "c", "--from-keystore", "older", "--json"];
    let report = place.json(mend);
    assert_eq!(
        (&report["rewrapped"], &report["complete"]),
        (&1.into(), &true.into())
    );
    assert_eq!(place.ok(["cat", "c", broken[0].as_str()]), "some bytes");
    assert!(place.ok(["fsck", "c"]).starts_with("clean"));

    // The copy opens with a secret of its own; a volume in use is left alone.
    fs::rename(place.path("key"), place.path("key.old")).unwrap();
    fs::write(place.path("key"), [b'n'; 64]).unwrap();
    let add = [
        "keystore",
        "protector",
        "add",
        "--key-file",
        "key.old",
        "--new-key-file",
        "key",
    ];
    place.ok(add);
    copy(
        &place.path("backup").join(restored.file_name().unwrap()),
        &restored,
    );
    place
        .run(mend)
        .fails(cli_support::WRONG_PASSPHRASE, "older");
    let with_key = mend.iter().chain(&["--from-key-file", "key.old"]);
    let holder = open(&place);
    place.run(with_key.clone()).fails(BUSY, "in use");
    holder.close().unwrap();
    drop(holder);
    assert_eq!(place.json(with_key)["rewrapped"], 1);
}

#[test]
fn deleting_a_needed_key_takes_the_words_of_the_refusal() {
    let place = Place::new();
    place.ok(["keystore", "init"]);
    let made = place.json(["kms", "create-key"]);
    let key = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    place.ok(["init", "c", "--key", key]);
    let delete = ["kms", "schedule-key-deletion", "--key-id", key];
    let refused = place.run(delete);
    let text = refused.stderr();
    assert!(text.contains("(KMSInvalidStateException) when calling the ScheduleKeyDeletion"));
    assert!(text.contains("rewrap --to-key OTHER-KEY"), "{text}");
    refused.fails(AWS_REFUSED, "is still needed");
    let words = words(&text);
    place
        .run(delete.iter().copied().chain(["--force", "yes"]))
        .fails(AWS_REFUSED, "is still needed");
    let forced = place.json(delete.iter().copied().chain(["--force", words.as_str()]));
    assert_eq!(forced["KeyState"], "PendingDeletion");
    place.ok(["kms", "cancel-key-deletion", "--key-id", key]);

    // A volume that is no more is forgotten, by its id.
    fs::remove_dir_all(place.path("c")).unwrap();
    let listed = place.json(["keystore", "volume", "list", "--json"]);
    let id = listed[0]["volumeId"].as_str().unwrap();
    place
        .run(["keystore", "volume", "forget", "nothing"])
        .fails(USAGE, "no volume id");
    place.ok(["keystore", "volume", "forget", id]);
    place
        .run(["keystore", "volume", "forget", id])
        .fails(NO_SUCH_KEY, id);
    place.ok(delete);
}

#[test]
fn a_volume_moves_to_a_key_in_another_keystore() {
    let place = Place::with_volume();
    place.mount(&[]);
    fs::write(place.path("m/f"), "hello").unwrap();
    place.ok(["umount", "m"]);
    let other = |words: &[&str]| place.run(["--keystore", "other"].iter().chain(words));
    other(&["keystore", "init"]).success();
    let made = other(&["kms", "create-key"]).success();
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    let from = ["--from-keystore", "keystore"];
    other(&["rewrap", "c", "--to-key", key]).fails(NO_SUCH_KEY, "does not exist");
    let moves = ["rewrap", "c", "--to-key", key, "--json"];
    let report = other(&[&moves[..], &from].concat()).success();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["complete"], &report["rewrapped"]),
        (&true.into(), &1.into())
    );
    assert_eq!(other(&["cat", "c", "f"]).success(), "hello");
    place.run(["cat", "c", "f"]).fails(NO_SUCH_KEY, key);
}
