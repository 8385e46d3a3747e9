//! Replicas in another keystore: a multi-Region key on its way from one machine to another.
//!
//! Each keystore has a key pair for this. The key material is sealed from the one to the other
//! (HPKE in authenticated mode, see [`crate::crypto::TransferKey`]): nobody else can read it on the
//! way, and who imports it knows which keystore it came from. Both sides name the other's public
//! key, which their owners have told each other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Kms;
use super::audit::Parameters;
use super::caller::Region;
use super::client::{Call, Client};
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::KeyId;
use super::policy::Facts;
use super::reference::{KeyRef, key_arn};
use super::spec::{KeyManager, KeySpec, KeyUsage, Origin};
use super::state::{KeyState, Operation};
use super::store::{
    Change, CopiedMaterial, KeyRow, NewKey, NewReplica, Place, Schedule, copy_materials,
};
use crate::crypto::{CryptoError, TRANSFER_PUBLIC_LEN, TransferKey};
use crate::secret::{Key256, SecretText};

/// The version of the form.
const VERSION: u32 = 1;
/// What binds a message to its purpose.
const INFO: &[u8] = b"envelopefs replica v1";
/// The most bytes that a replica has, as JSON: a thousand rotations of the largest key.
const MOST: usize = 16 << 20;

/// A keystore's public key for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreKey([u8; TRANSFER_PUBLIC_LEN]);

impl std::fmt::Display for StoreKey {
    /// In base64.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl std::str::FromStr for StoreKey {
    type Err = KmsError;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = STANDARD.decode(text.trim()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                KmsError::Validation(format!(
                    "'{}' is no public key of a keystore (envelopefs keystore replica public-key)",
                    text.escape_debug()
                ))
            })
    }
}

/// What stands in the clear: bound to the sealed part, so none of it can be changed.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Head {
    version: u32,
    key_id: String,
    account_id: String,
    primary_region: String,
    spec: KeySpec,
    usage: KeyUsage,
    origin: Origin,
    created: i64,
    exported: i64,
    from: String,
    to: String,
}

/// A replica on its way: the head's bytes as they were sealed with it, and the sealed part.
#[derive(Deserialize, Serialize)]
struct Message {
    head: String,
    sealed: String,
}

/// The sealed part.
#[derive(Deserialize, Serialize)]
struct Body {
    rotation_enabled: bool,
    rotation_period_days: u32,
    rotation_since: i64,
    materials: Vec<CopiedMaterial>,
}

/// The parameters of an export or import, for the record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    key_id: String,
    replica_region: Option<String>,
    from_keystore: String,
    to_keystore: String,
}

impl Parameters for Shown {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(out, self).map_err(|error| KmsError::Unrecorded(error.to_string()))
    }
}

fn refused(error: CryptoError) -> KmsError {
    match error {
        CryptoError::Unauthentic => KmsError::AccessDenied(
            "the replica does not open: it is for another keystore, of another one than --from \
             says, or was changed on its way"
                .to_owned(),
        ),
        CryptoError::InvalidKey => {
            KmsError::Validation("that is no usable public key of a keystore".to_owned())
        }
        other => KmsError::UnsupportedOperation(format!("replicas in other keystores: {other}")),
    }
}

fn unreadable(error: impl std::fmt::Display) -> KmsError {
    KmsError::Validation(format!("this is no exported replica: {error}"))
}

impl Kms {
    /// This keystore's key pair for replicas, made on first use.
    fn transfer_key(&self) -> Result<TransferKey> {
        let found = self
            .store
            .read(|sql| super::store::transfer_key(sql, self.store.sealer()))?;
        let private: Key256 = match found {
            Some(private) => private,
            None => {
                let now = self.now();
                self.store.change(|change| change.make_transfer_key(now))?
            }
        };
        TransferKey::new(private).map_err(refused)
    }

    /// The public key that other keystores seal replicas for this one to.
    ///
    /// # Errors
    /// [`KmsError::UnsupportedOperation`] when this build can't do it.
    pub fn replica_public_key(&self) -> Result<StoreKey> {
        Ok(StoreKey(*self.transfer_key()?.public()))
    }
}

impl Client<'_> {
    /// A replica of a multi-Region primary key for another keystore: what [`Client::import_replica`]
    /// takes there. Imported material is left out: it is imported there by itself. Recorded as
    /// ReplicateKey, and with the rights for it.
    ///
    /// # Errors
    /// As ReplicateKey; [`KmsError::UnsupportedOperation`] for what is no multi-Region primary key.
    pub fn export_replica(&self, key: &KeyRef, to: &StoreKey) -> Result<Vec<u8>> {
        let own = self.kms().transfer_key()?;
        let from = StoreKey(*own.public());
        let shown = Shown {
            key_id: key.to_string(),
            replica_region: None,
            from_keystore: from.to_string(),
            to_keystore: to.to_string(),
        };
        self.perform(Operation::ReplicateKey, Some(&shown), |call| {
            let key = call.manage_key(&key.into(), Operation::ReplicateKey, &Facts::default())?;
            super::api::check_primary(call, &key.row)?;
            let row = &key.row;
            let head = Head {
                version: VERSION,
                key_id: row.id.to_string(),
                account_id: call.kms().account_id().to_owned(),
                primary_region: row.region.to_string(),
                spec: row.spec,
                usage: row.usage,
                origin: row.origin,
                created: row.created.millis(),
                exported: call.now().millis(),
                from: from.to_string(),
                to: to.to_string(),
            };
            let head = serde_json::to_string(&head).map_err(unreadable)?;
            let materials = call.kms().store.read(|sql| {
                copy_materials(sql, call.kms().store.sealer(), &row.place(), row.spec)
            })?;
            let body = Body {
                rotation_enabled: row.schedule.enabled,
                rotation_period_days: row.schedule.period_days,
                rotation_since: row.schedule.since.millis(),
                materials,
            };
            // Room for all of it, so that no copy of a secret is left behind by a move.
            let secrets: usize = body.materials.iter().map(CopiedMaterial::room).sum();
            let mut plain = Zeroizing::new(Vec::with_capacity(1024 + secrets));
            serde_json::to_writer(&mut *plain, &body).map_err(unreadable)?;
            let sealed = own
                .seal(&to.0, INFO, head.as_bytes(), &plain)
                .map_err(refused)?;
            let message = Message {
                head,
                sealed: STANDARD.encode(sealed),
            };
            serde_json::to_vec_pretty(&message).map_err(unreadable)
        })
    }

    /// Makes the replica that another keystore exported, in the caller's Region; one that is there
    /// already is brought up to date with the primary key's rotations. True when it is new.
    ///
    /// # Errors
    /// [`KmsError::AccessDenied`] when it isn't from that keystore to this one, or was changed;
    /// [`KmsError::AlreadyExists`] when the primary key itself is here; [`KmsError::Validation`].
    pub fn import_replica(
        &self,
        message: &[u8],
        from: &StoreKey,
        description: &str,
    ) -> Result<(KeyId, bool)> {
        if message.len() > MOST {
            return Err(unreadable("it is too large"));
        }
        let own = self.kms().transfer_key()?;
        let message: Message = serde_json::from_slice(message).map_err(unreadable)?;
        let head: Head = serde_json::from_str(&message.head).map_err(unreadable)?;
        let shown = Shown {
            key_id: head.key_id.clone(),
            replica_region: Some(self.caller().region().to_string()),
            from_keystore: from.to_string(),
            to_keystore: StoreKey(*own.public()).to_string(),
        };
        self.perform(Operation::ReplicateKey, Some(&shown), |call| {
            call.authorize_account()?;
            if head.version != VERSION {
                return Err(unreadable(format!("it is of version {}", head.version)));
            }
            let sealed = STANDARD.decode(&message.sealed).map_err(unreadable)?;
            let plain: SecretText = own
                .open(&from.0, INFO, message.head.as_bytes(), &sealed)
                .map_err(refused)?;
            let body: Body = serde_json::from_slice(&plain).map_err(unreadable)?;
            import(call, &head, &body, description)
        })
    }
}

fn import(call: &Call<'_>, head: &Head, body: &Body, description: &str) -> Result<(KeyId, bool)> {
    let id: KeyId = head.key_id.parse().map_err(unreadable)?;
    let primary: Region = head.primary_region.parse().map_err(unreadable)?;
    let place = Place {
        region: call.caller().region(),
        id,
    };
    let arn = || key_arn(&place, call.kms().account_id());
    if !id.is_multi_region() || !head.spec.usages().contains(&head.usage) {
        return Err(unreadable("its key is no multi-Region key"));
    }
    if head.account_id != call.kms().account_id() {
        return Err(KmsError::Validation(format!(
            "the key is of account {}, this keystore of account {}: replicas are of one account",
            head.account_id,
            call.kms().account_id()
        )));
    }
    if primary == place.region {
        return Err(KmsError::Validation(format!(
            "the primary key is in {primary}: a replica is in another Region (--region)"
        )));
    }
    let schedule = Schedule {
        enabled: body.rotation_enabled,
        period_days: body.rotation_period_days,
        since: Timestamp::from_millis(body.rotation_since),
    };
    call.change(|change| {
        let there = KeyRow::of_set(change.sql, &id)?;
        if there.iter().any(KeyRow::is_primary) {
            return Err(KmsError::AlreadyExists(format!(
                "the primary key of {id} is in this keystore"
            )));
        }
        if there.is_empty() {
            change.insert_set(
                &id,
                &NewKey {
                    region: primary,
                    spec: head.spec,
                    usage: head.usage,
                    origin: head.origin,
                    multi_region: true,
                    manager: KeyManager::Customer,
                    description,
                    policy: None,
                    rotation_days: None,
                    secret: None,
                    now: call.now(),
                },
            )?;
        }
        change.set_primary(&id, primary)?;
        change.set_schedule(&id, &schedule)?;
        put_materials(change, &id, body)?;
        let new = KeyRow::load(change.sql, &place)?.is_none();
        if new {
            change.insert_replica(&NewReplica {
                place,
                manager: KeyManager::Customer,
                state: if head.origin == Origin::External {
                    KeyState::PendingImport
                } else {
                    KeyState::Enabled
                },
                description,
                policy: None,
                now: call.now(),
            })?;
        }
        call.made(&place);
        change.touch(&id)?;
        tracing::debug!(key = arn(), new, "imported a replica");
        Ok((id, new))
    })
}

/// Puts what came of the materials beside what is there.
fn put_materials(change: &Change<'_>, id: &KeyId, body: &Body) -> Result<()> {
    for material in &body.materials {
        change.put_material(id, material)?;
    }
    Ok(())
}
