//! The key manager: customer master keys (CMKs) that behave as those of AWS KMS.
//!
//! A CMK is a container of key materials that never leave the keystore; data keys and small secrets
//! are wrapped under its current material, and the wrapped form names key and material, so that a
//! rotation changes nothing for what was wrapped before.
//!
//! - [`api`]: requests and answers, named as in AWS KMS, on [`Client`];
//! - `client`: the one gate, for every operation of every caller; `access`: rights by policy and
//!   grants, `state`: which operation is allowed in which key state; `audit`: the record;
//! - `volumes`: what volumes need, whose keys never lie outside [`crate::secret::Secret`];
//! - [`KeySource`]: the same for a volume that need not know whether the keystore is in its process;
//! - `store`: the durable state, `cache`: keys in memory, `wrap`: the `CiphertextBlob`'s cryptography;
//! - `key_pair`: what key pairs and HMAC keys do, `import_token`: what comes back with an import;
//! - `maintain`: what happens to keys by itself;
//! - `registry`: the volumes that are known; `needs`: what they would lose with key material, asked
//!   before any of it is destroyed; `retire`: destroying what a rotation has left behind; `older`: a
//!   copy of the keystore that still has it.

mod access;
mod access_keys;
pub mod api;
pub mod audit;
mod cache;
mod caller;
mod client;
mod clock;
mod context;
mod error;
mod id;
mod import_token;
pub mod iso8601;
mod key_pair;
mod maintain;
mod needs;
mod older;
pub mod policy;
mod reference;
mod registry;
mod replica;
mod retire;
mod source;
mod spec;
mod state;
mod store;
mod usage;
mod volumes;
mod words;
mod wrap;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use access_keys::{AccessKey, AccessKeyInfo, NewAccessKey};
pub use cache::Look;
pub use caller::{Caller, Principal, Region, Source};
pub use client::{Call, Client};
pub use clock::{Clock, SystemClock, Timestamp};
pub use context::EncryptionContext;
pub use error::{KmsError, Result};
pub use id::{KeyId, MaterialId, RunId};
pub use maintain::Maintained;
pub use older::WithOlder;
pub use reference::{AliasName, Arn, KeyRef, Resource, SERVICE_PREFIX};
pub use registry::{
    Census, CensusEntry, Outcome, RegisteredVolume, RunEnd, RunKind, RunStart, VolumeNote,
};
pub use replica::StoreKey;
pub use retire::{OldMaterial, Retired};
pub use source::{InRun, KeySource, Requester, VolumeKeys};
pub use spec::{
    EncryptionAlgorithmSpec, KeyAgreementAlgorithmSpec, KeyManager, KeySpec, KeyUsage,
    MacAlgorithmSpec, Origin, RotationType, SigningAlgorithmSpec,
};
pub use state::{KeyState, Operation};
pub use store::{GrantConstraints, MaterialState, ProtectorInfo, ProtectorInput, ProtectorKind};

pub use volumes::{DataKey, volume_context};

use cache::{Cache, CachedKey};
use reference::key_arn;
use store::{Place, Store};
use usage::Usage;

/// On-demand rotations that a customer-managed key may have, as in AWS KMS.
const ON_DEMAND_LIMIT: u32 = 25;
const SETTING_ACCOUNT: &str = "account-id";
const SETTING_REGION: &str = "region";
const SETTING_ON_DEMAND_LIMIT: &str = "on-demand-rotation-limit";

/// What a keystore is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// The account id in ARNs: 12 digits.
    pub account_id: String,
    /// The Region in ARNs.
    pub region: String,
}

impl CreateOptions {
    /// Whether a keystore can be made with these.
    ///
    /// # Errors
    /// [`KmsError::Validation`].
    pub fn check(&self) -> Result<()> {
        reference::check_account(&self.account_id)?;
        reference::check_region(&self.region)
    }
}

/// What can be said of a keystore without opening it.
#[derive(Clone, Debug)]
pub struct KeystoreStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// The account id in ARNs.
    pub account_id: String,
    /// The Region in ARNs.
    pub region: String,
    /// What opens it, oldest first.
    pub protectors: Vec<ProtectorInfo>,
    /// How many keys are in it.
    pub keys: u64,
    /// How many aliases are in it.
    pub aliases: u64,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }
}

/// An open keystore. Several threads may use one, several processes the same directory.
///
/// Open it after the last `fork`: neither the database's locks nor key bytes pass to a child.
pub struct Kms {
    store: Store,
    usage: Arc<Usage>,
    cache: Cache,
    clock: Arc<dyn Clock>,
    account_id: String,
    region: Region,
    owner: Caller,
    log: audit::Log,
    /// Whether it is left as it is.
    preserved: bool,
    /// Takes the log's place in tests.
    #[cfg(test)]
    recorder: std::sync::OnceLock<Arc<dyn audit::Recorder>>,
}

impl Kms {
    /// Makes a keystore in `dir` (made too, mode 0700, when missing) with its first protector.
    ///
    /// # Errors
    /// [`KmsError::KeystoreExists`], [`KmsError::NotPrivate`], [`KmsError::Validation`] (account
    /// id or Region), [`KmsError::Io`].
    pub fn create(dir: &Path, protector: &ProtectorInput, options: &CreateOptions) -> Result<Self> {
        Self::create_with_clock(dir, protector, options, Arc::new(SystemClock))
    }

    /// As [`Kms::create`], with a clock.
    pub fn create_with_clock(
        dir: &Path,
        protector: &ProtectorInput,
        options: &CreateOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        options.check()?;
        let settings = [
            (SETTING_ACCOUNT, options.account_id.as_str()),
            (SETTING_REGION, options.region.as_str()),
        ];
        Self::with_store(
            Store::create(dir, protector, &settings, clock.now())?,
            clock,
        )
    }

    /// Opens the keystore in `dir` with the first of `unlock` that fits, and rotates what is due.
    ///
    /// # Errors
    /// [`KmsError::NoKeystore`]; [`KmsError::Locked`] when `unlock` is empty;
    /// [`KmsError::WrongPassphrase`] when none of them fits; [`KmsError::Version`],
    /// [`KmsError::Damaged`], [`KmsError::Io`], [`KmsError::Database`].
    pub fn open(dir: &Path, unlock: &[ProtectorInput]) -> Result<Self> {
        Self::open_with_clock(dir, unlock, Arc::new(SystemClock))
    }

    /// As [`Kms::open`], with a clock.
    pub fn open_with_clock(
        dir: &Path,
        unlock: &[ProtectorInput],
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let kms = Self::with_store(Store::open(dir, unlock)?, clock)?;
        // Keys can be used before they are rotated; the next one to open tries again.
        if let Err(error) = kms.maintain() {
            tracing::warn!("could not do what is due for some keys: {error}");
        }
        Ok(kms)
    }

    fn with_store(store: Store, clock: Arc<dyn Clock>) -> Result<Self> {
        let (account_id, region) = store.read(identity)?;
        let usage = Arc::new(Usage::default());
        let region: Region = region.parse().map_err(|_| {
            KmsError::Damaged(format!("the setting {SETTING_REGION} is '{region}'"))
        })?;
        let log = audit::Log::open(&store, clock.now(), audit::Limits::default())?;
        Ok(Self {
            cache: Cache::new(&store, &account_id, &usage)?,
            usage,
            log,
            preserved: false,
            store,
            clock,
            owner: Caller::new(Principal::Root, &account_id, region),
            account_id,
            region,
            #[cfg(test)]
            recorder: std::sync::OnceLock::new(),
        })
    }

    /// Whether there is a keystore in `dir`.
    pub fn exists(dir: &Path) -> bool {
        Store::exists(dir)
    }

    /// What can be said of the keystore in `dir` without opening it.
    ///
    /// # Errors
    /// [`KmsError::NoKeystore`], [`KmsError::Version`], [`KmsError::Damaged`], [`KmsError::Io`],
    /// [`KmsError::Database`].
    pub fn status(dir: &Path) -> Result<KeystoreStatus> {
        Store::status(dir)
    }

    /// Whether a passphrase can open the keystore in `dir`: reads it without opening it.
    ///
    /// # Errors
    /// As [`Kms::status`].
    pub fn needs_passphrase(dir: &Path) -> Result<bool> {
        let protectors = Store::status(dir)?.protectors;
        Ok(protectors
            .iter()
            .any(|protector| protector.kind == ProtectorKind::Passphrase))
    }

    /// The keystore's directory.
    pub fn dir(&self) -> &Path {
        self.store.dir()
    }

    /// The account id in ARNs.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The Region of callers that name none.
    pub fn region(&self) -> Region {
        self.region
    }

    /// A caller in the default Region.
    pub fn caller(&self, principal: Principal) -> Caller {
        Caller::new(principal, &self.account_id, self.region)
    }

    /// The key manager as `caller` sees it.
    pub fn client<'a>(&'a self, caller: &'a Caller) -> Client<'a> {
        Client::new(self, caller)
    }

    /// The key manager as the account root sees it, in the default Region.
    pub fn owner(&self) -> Client<'_> {
        self.client(&self.owner)
    }

    /// The uid that owns the keystore's directory: its processes are the account root.
    ///
    /// # Errors
    /// [`KmsError::Io`].
    pub fn owner_uid(&self) -> Result<u32> {
        use std::os::unix::fs::MetadataExt;
        let dir = self.dir();
        std::fs::metadata(dir)
            .map(|meta| meta.uid())
            .map_err(KmsError::io("look at", dir))
    }

    fn recorder(&self) -> &dyn audit::Recorder {
        #[cfg(test)]
        if let Some(recorder) = self.recorder.get() {
            return &**recorder;
        }
        &self.log
    }

    #[cfg(test)]
    fn set_recorder(&self, recorder: Arc<dyn audit::Recorder>) -> bool {
        self.recorder.set(recorder).is_ok()
    }

    /// Writes to the keystore how far this process's part of the audit log has come. Who lives long
    /// does it now and then; it is done at the end as well.
    ///
    /// # Errors
    /// [`KmsError::Io`], [`KmsError::Database`], [`KmsError::Busy`].
    pub fn anchor_audit(&self) -> Result<()> {
        self.log.anchor(&self.store, self.now())
    }

    #[cfg(test)]
    fn break_audit(&self) {
        self.log.break_it();
    }

    /// Verifies the audit log of all processes.
    ///
    /// # Errors
    /// What keeps it from being read; what is wrong with it is in the report.
    pub fn verify_audit(&self) -> Result<audit::Report> {
        let sql = self.store.connect()?;
        audit::verify(&self.dir().join(audit::DIR), &sql, self.store.sealer())
    }

    /// The time by the keystore's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How often a customer-managed key may be rotated on demand.
    pub fn on_demand_rotation_limit(&self) -> Result<u32> {
        match self
            .store
            .read(|sql| store::setting(sql, SETTING_ON_DEMAND_LIMIT))?
        {
            None => Ok(ON_DEMAND_LIMIT),
            Some(text) => text.parse().map_err(|_| {
                KmsError::Damaged(format!("the setting {SETTING_ON_DEMAND_LIMIT} is '{text}'"))
            }),
        }
    }

    /// Sets how often a customer-managed key may be rotated on demand (25 unless set).
    pub fn set_on_demand_rotation_limit(&self, limit: u32) -> Result<()> {
        self.store
            .set_setting(SETTING_ON_DEMAND_LIMIT, &limit.to_string())
    }

    /// The protectors of the keystore, oldest first.
    pub fn protectors(&self) -> Result<Vec<ProtectorInfo>> {
        self.store.protectors()
    }

    /// Adds a protector: one more way to open the keystore.
    pub fn add_protector(&self, input: &ProtectorInput) -> Result<ProtectorInfo> {
        self.store.add_protector(input, self.now())
    }

    /// Removes a protector. Copies of the keystore made before still open with it.
    ///
    /// # Errors
    /// [`KmsError::NotFound`]; [`KmsError::LastProtector`].
    pub fn remove_protector(&self, id: &str) -> Result<()> {
        self.store.remove_protector(id)
    }

    /// A key's ARN: in the default Region when it is there, or else where it is.
    pub fn key_arn(&self, id: &KeyId) -> String {
        let place = self.default_place(id);
        let place = self.place_anywhere(&place).unwrap_or(place);
        key_arn(&place, &self.account_id)
    }

    /// The key that a user means: in the default Region, unless an ARN says another. It exists.
    ///
    /// # Errors
    /// [`KmsError::NotFound`].
    pub fn resolve(&self, key: &KeyRef) -> Result<KeyId> {
        let (region, resource) = match key {
            KeyRef::Id(id) => (self.region, Resource::Key(*id)),
            KeyRef::Alias(name) => (self.region, Resource::Alias(name.clone())),
            KeyRef::Arn(arn) if arn.account != self.account_id => {
                return Err(KmsError::NotFound(format!(
                    "{arn} is not in this keystore (account {})",
                    self.account_id
                )));
            }
            KeyRef::Arn(arn) => (arn.region.parse()?, arn.resource.clone()),
        };
        let place = match resource {
            Resource::Key(id) => Place { region, id },
            Resource::Alias(name) => self
                .alias_target(region, &name)?
                .ok_or_else(|| self.no_alias(region, &name))?,
        };
        match self.lookup(&place, self.now())? {
            Some(_) => Ok(place.id),
            None => Err(self.no_key(&place)),
        }
    }

    fn default_place(&self, id: &KeyId) -> Place {
        Place {
            region: self.region,
            id: *id,
        }
    }

    /// Where a key is that is known by its id: in the given Region, or else its primary's or any.
    fn place_anywhere(&self, place: &Place) -> Result<Place> {
        let region = self
            .store
            .read(|sql| store::region_of(sql, &place.id, place.region))?;
        region
            .map(|region| Place { region, ..*place })
            .ok_or_else(|| self.no_key(place))
    }

    /// A key that is known by its id.
    fn cached_anywhere(&self, id: &KeyId) -> Result<Arc<CachedKey>> {
        let now = self.now();
        let place = self.default_place(id);
        if let Some(key) = self.lookup(&place, now)? {
            return Ok(key);
        }
        let place = self.place_anywhere(&place)?;
        self.lookup(&place, now)?.ok_or_else(|| self.no_key(&place))
    }

    /// A key as it stands now, once what is due for it was done; `None` when there is none.
    fn lookup(&self, place: &Place, now: Timestamp) -> Result<Option<Arc<CachedKey>>> {
        let key = self.cache.get(self.store.sealer(), place)?;
        let Some(found) = &key else {
            return Ok(None);
        };
        let passed = |date: Option<Timestamp>| date.is_some_and(|date| date <= now);
        if !passed(found.ends) && !passed(found.rotates) {
            return Ok(key);
        }
        Cache::look_again();
        match self.maintain() {
            Ok(_) => {}
            Err(error) if passed(found.ends) => return Err(error),
            // A key can be used before it is rotated; the next use tries again.
            Err(error) => tracing::warn!("could not rotate the keys that are due: {error}"),
        }
        self.cache.get(self.store.sealer(), place)
    }

    /// The key that an alias points to.
    fn alias_target(&self, region: Region, name: &AliasName) -> Result<Option<Place>> {
        self.store
            .read(|sql| store::alias_target(sql, region, name))
    }

    fn no_alias(&self, region: Region, name: &AliasName) -> KmsError {
        KmsError::NotFound(format!(
            "Alias arn:aws:kms:{region}:{}:{name} is not found.",
            self.account_id
        ))
    }

    fn no_key(&self, place: &Place) -> KmsError {
        KmsError::NotFound(format!(
            "Key '{}' does not exist",
            key_arn(place, &self.account_id)
        ))
    }

    /// The principal that this process is.
    ///
    /// # Errors
    /// [`KmsError::Io`].
    pub fn local_principal(&self) -> Result<Principal> {
        let uid = rustix::process::geteuid().as_raw();
        Ok(Principal::of_uid(uid, self.owner_uid()?))
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        // Only what GetKeyLastUsage says would be older.
        if let Err(error) = self.usage.write(&self.store) {
            tracing::debug!("could not write down the last uses of keys: {error}");
        }
    }
}

/// A keystore's account id and Region.
fn identity(sql: &rusqlite::Connection) -> Result<(String, String)> {
    let required = |name: &str| {
        store::setting(sql, name)?
            .ok_or_else(|| KmsError::Damaged(format!("the setting {name} is missing")))
    };
    Ok((required(SETTING_ACCOUNT)?, required(SETTING_REGION)?))
}

#[cfg(test)]
mod tests;
