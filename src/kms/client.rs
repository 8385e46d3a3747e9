//! The one gate: every operation of every caller is authorized and recorded here.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::Serialize;
use smallvec::SmallVec;

use super::Kms;
use super::access::{Access, Right};
use super::api::wire::KeyName;
use super::audit::{Event, KeyUse, Parameters};
use super::cache::CachedKey;
use super::caller::{Caller, Principal};
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::MaterialId;
use super::policy::Facts;
use super::reference::{AliasName, KeyRef, Resource, key_arn};
use super::spec::KeyManager;
use super::state::{Class, Operation};
use super::store::{Change, Grant, KeyRow, Place};
use crate::format::random_uuid;

/// The key manager as one caller sees it: all operations of the API are its methods.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    kms: &'a Kms,
    caller: &'a Caller,
    /// What the caller said will be lost.
    force: Option<&'a str>,
}

/// One operation of one caller, from the request to the record.
pub struct Call<'a> {
    client: Client<'a>,
    /// Its name in the record.
    name: &'static str,
    /// What it takes the right to.
    operation: Operation,
    parameters: Option<&'a dyn Parameters>,
    now: Timestamp,
    event_id: [u8; 16],
    /// No operation uses more than two.
    used: RefCell<SmallVec<[KeyUse; 2]>>,
    forced: Cell<bool>,
    recorded: Cell<bool>,
}

/// A key as it stands in a transaction.
pub(super) struct Locked {
    pub(super) row: KeyRow,
    pub(super) access: Access,
    pub(super) arn: Arc<str>,
}

/// A request as the record shows it.
struct Shown<'a, T>(&'a T);

impl<T: Serialize> Parameters for Shown<'_, T> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(out, self.0).map_err(|error| KmsError::Unrecorded(error.to_string()))
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(kms: &'a Kms, caller: &'a Caller) -> Self {
        Self {
            kms,
            caller,
            force: None,
        }
    }

    /// The same, with the words that say what is lost when keys are destroyed that volumes need; the
    /// refusal has them.
    #[must_use]
    pub fn forced(self, words: Option<&'a str>) -> Self {
        Self {
            force: words,
            ..self
        }
    }

    /// The keystore.
    pub fn kms(&self) -> &'a Kms {
        self.kms
    }

    /// On whose behalf.
    pub fn caller(&self) -> &'a Caller {
        self.caller
    }

    /// Runs an operation of the API and records it.
    pub(super) fn execute<R: super::api::Request>(self, request: &R) -> Result<R::Response> {
        self.perform(R::OPERATION, Some(&Shown(request)), |call| {
            request.run(call)
        })
    }

    /// Runs `run` as an operation and records it, with its outcome.
    pub(super) fn perform<T>(
        self,
        operation: Operation,
        parameters: Option<&dyn Parameters>,
        run: impl FnOnce(&Call<'_>) -> Result<T>,
    ) -> Result<T> {
        self.run(operation.as_str(), operation, parameters, run)
    }

    /// As [`Client::perform`], for what AWS KMS does not have: recorded under a name of its own, with
    /// the right to `operation`.
    pub(super) fn perform_as<T>(
        self,
        name: &'static str,
        operation: Operation,
        parameters: &impl Serialize,
        run: impl FnOnce(&Call<'_>) -> Result<T>,
    ) -> Result<T> {
        self.run(name, operation, Some(&Shown(parameters)), run)
    }

    fn run<T>(
        self,
        name: &'static str,
        operation: Operation,
        parameters: Option<&dyn Parameters>,
        run: impl FnOnce(&Call<'_>) -> Result<T>,
    ) -> Result<T> {
        let call = Call {
            client: self,
            name,
            operation,
            parameters,
            now: self.kms.now(),
            event_id: random_uuid(),
            used: RefCell::default(),
            forced: Cell::new(false),
            recorded: Cell::new(false),
        };
        let result = run(&call);
        call.record(result.as_ref().err())?;
        result
    }

    /// Whether a key may decrypt for this caller at this moment. It is no operation, and is not
    /// recorded. A microsecond; a change that another process made is seen from the moment it was
    /// made.
    ///
    /// # Errors
    /// [`KmsError::NotFound`], [`KmsError::Disabled`], [`KmsError::InvalidState`],
    /// [`KmsError::AccessDenied`].
    pub fn check_usable(&self, key: &super::KeyId) -> Result<()> {
        let call = Call {
            client: *self,
            name: Operation::Decrypt.as_str(),
            operation: Operation::Decrypt,
            parameters: None,
            now: self.kms.now(),
            event_id: [0; 16],
            used: RefCell::default(),
            forced: Cell::new(false),
            recorded: Cell::new(true),
        };
        let facts = Facts {
            encryption_context: self.caller.context(),
            ..Facts::default()
        };
        call.use_id(key, Operation::Decrypt, &facts).map(|_| ())
    }
}

impl<'a> Call<'a> {
    /// The keystore.
    pub fn kms(&self) -> &'a Kms {
        self.client.kms
    }

    /// On whose behalf.
    pub fn caller(&self) -> &'a Caller {
        self.client.caller
    }

    /// What the caller said will be lost.
    pub(super) fn force(&self) -> Option<&'a str> {
        self.client.force
    }

    /// Notes that it is done because of what the caller said, for the record.
    pub(super) fn was_forced(&self) {
        self.forced.set(true);
    }

    /// When the operation was asked for.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What a reference of this account and Region points to.
    fn resource(&self, key: &KeyRef) -> Result<Resource> {
        let caller = self.caller();
        match key {
            KeyRef::Id(id) => Ok(Resource::Key(*id)),
            KeyRef::Alias(name) => Ok(Resource::Alias(name.clone())),
            KeyRef::Arn(arn) if arn.region != caller.region().as_str() => Err(KmsError::NotFound(
                format!("Invalid arn {}: this is {}", arn.region, caller.region()),
            )),
            KeyRef::Arn(arn) if arn.account != caller.account() => Err(KmsError::NotFound(
                format!("{arn} is not in account {}", caller.account()),
            )),
            KeyRef::Arn(arn) => Ok(arn.resource.clone()),
        }
    }

    /// The key of an id: in the caller's Region. A volume knows its keys by their ids alone, and
    /// finds them in any.
    pub(super) fn key(&self, id: &super::KeyId) -> Result<Arc<CachedKey>> {
        let here = Place {
            region: self.caller().region(),
            id: *id,
        };
        let mut key = self.kms().lookup(&here, self.now)?;
        if key.is_none() && self.caller().is_volume() {
            let place = self.kms().place_anywhere(&here)?;
            key = self.kms().lookup(&place, self.now)?;
        }
        key.ok_or_else(|| self.kms().no_key(&here))
    }

    /// A key that is to be used, named in any way, when the caller may do `operation` with it and
    /// its state allows it.
    pub(super) fn use_key(
        &self,
        name: &KeyName,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        match self.resource(&name.parse()?)? {
            Resource::Key(id) => self.use_id(&id, operation, facts),
            Resource::Alias(alias) => {
                let place = self.alias_place(&alias)?;
                let facts = Facts {
                    request_alias: Some(alias.as_str()),
                    ..*facts
                };
                self.use_place(&place, operation, &facts)
            }
        }
    }

    /// Where the key is that an alias points to.
    pub(super) fn alias_place(&self, alias: &AliasName) -> Result<Place> {
        let region = self.caller().region();
        self.kms()
            .alias_target(region, alias)?
            .ok_or_else(|| self.kms().no_alias(region, alias))
    }

    /// As [`Call::use_key`], for an id.
    pub(super) fn use_id(
        &self,
        id: &super::KeyId,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        self.authorize_cached(self.key(id)?, operation, facts)
    }

    /// As [`Call::use_key`], for a place.
    pub(super) fn use_place(
        &self,
        place: &Place,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        let key = self
            .kms()
            .lookup(place, self.now)?
            .ok_or_else(|| self.kms().no_key(place))?;
        self.authorize_cached(key, operation, facts)
    }

    /// The gate, for a key in memory.
    pub(super) fn authorize_cached(
        &self,
        key: Arc<CachedKey>,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        match self.authorize(&key.row, &key.access, &key.arn, operation, facts) {
            Ok(_) => {}
            Err(KmsError::AccessDenied(why)) => {
                let Principal::Volume(volume) = self.caller().principal() else {
                    return Err(KmsError::AccessDenied(why));
                };
                // Its first use of the key, perhaps: then it is given its grant, by this process or
                // by another one just now.
                let place = key.row.place();
                let new = self.kms().admit_volume(volume, &place)?;
                let again = self.kms().lookup(&place, self.now)?;
                let again = again.ok_or_else(|| self.kms().no_key(&place))?;
                match self.authorize(&again.row, &again.access, &again.arn, operation, facts) {
                    Ok(_) => return Ok(again),
                    Err(KmsError::AccessDenied(_)) if !new => {
                        return Err(KmsError::AccessDenied(format!(
                            "{why}: the grant of volume {volume} was revoked or retired, or is \
                             for another encryption context"
                        )));
                    }
                    Err(other) => return Err(other),
                }
            }
            Err(other) => return Err(other),
        }
        Ok(key)
    }

    /// Where a key is that is to be looked at or changed, named by its id or ARN. It exists.
    pub(super) fn key_place(&self, name: &KeyName) -> Result<Place> {
        match self.resource(&name.parse()?)? {
            Resource::Key(id) => Ok(self.key(&id)?.row.place()),
            Resource::Alias(_) => Err(KmsError::NotFound(format!(
                "Invalid keyId '{}': this operation takes a key id or key ARN, no alias",
                name.as_str()
            ))),
        }
    }

    /// As [`Call::use_key`], where an alias is no name.
    pub(super) fn manage_key(
        &self,
        name: &KeyName,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        let place = self.key_place(name)?;
        self.use_place(&place, operation, facts)
    }

    /// The gate: the right by policy or grant first, so that nobody else learns a key's state.
    fn authorize<'k>(
        &self,
        key: &KeyRow,
        access: &'k Access,
        arn: &Arc<str>,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Right<'k>> {
        let right = self.permit(key, access, arn, operation, facts)?;
        key.state.allows(operation, || arn.to_string())?;
        Ok(right)
    }

    fn permit<'k>(
        &self,
        key: &KeyRow,
        access: &'k Access,
        arn: &Arc<str>,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Right<'k>> {
        let mut used = self.used.borrow_mut();
        if used.last().is_none_or(|last| last.arn != *arn) {
            used.push(KeyUse {
                arn: Arc::clone(arn),
                material: None,
            });
        }
        drop(used);
        access.permit(self.caller(), operation, key, arn, &self.facts(facts))
    }

    /// What is known of the request, with what is known of its caller.
    pub(super) fn facts<'f>(&self, facts: &Facts<'f>) -> Facts<'f>
    where
        'a: 'f,
    {
        let caller = self.caller();
        let source = caller.source();
        Facts {
            time: Some(self.now),
            source_ip: caller.address(),
            user_agent: source.user_agent.as_deref(),
            requested_region: Some(caller.region_name()),
            via_service: caller.via_service(),
            ..*facts
        }
    }

    /// The gate of what is about no key: the account root's.
    pub(super) fn authorize_account(&self) -> Result<()> {
        match self.caller().principal() {
            Principal::Root | Principal::Service => Ok(()),
            Principal::User(_) | Principal::Volume(_) => Err(KmsError::AccessDenied(format!(
                "User: {} is not authorized to perform: kms:{} on resource: * because it is not \
                 the account root",
                self.caller().arn(),
                self.operation
            ))),
        }
    }

    /// Notes which material of the key that was authorized last was used.
    pub(super) fn used_material(&self, material: &MaterialId) {
        if let Some(last) = self.used.borrow_mut().last_mut() {
            last.material = Some(*material);
        }
    }

    /// Notes that a key's material was used by this operation, for the record and as its last use.
    pub(super) fn used(&self, key: &CachedKey, material: &MaterialId) {
        let mut used = self.used.borrow_mut();
        if let Some(entry) = used.iter_mut().rev().find(|entry| entry.arn == key.arn) {
            entry.material = Some(*material);
        }
        key.last_use.set(self.operation, self.now, self.event_id);
    }

    /// Changes the keystore in one transaction; an error leaves it as it was. That it was done is
    /// recorded before it can be seen.
    pub(super) fn change<T>(&self, change: impl FnOnce(&Change<'_>) -> Result<T>) -> Result<T> {
        self.kms().store.change(|transaction| {
            let answer = change(transaction)?;
            self.record(None)?;
            Ok(answer)
        })
    }

    /// A key as it stands in a transaction, when the caller may do `operation` with it.
    pub(super) fn row(
        &self,
        change: &Change<'_>,
        operation: Operation,
        place: &Place,
        facts: &Facts<'_>,
    ) -> Result<KeyRow> {
        self.locked(change, operation, place, facts)
            .map(|(locked, _)| locked.row)
    }

    /// As [`Call::row`], whatever the state of the key.
    pub(super) fn row_in_any_state(
        &self,
        change: &Change<'_>,
        operation: Operation,
        place: &Place,
        facts: &Facts<'_>,
    ) -> Result<KeyRow> {
        let row = KeyRow::load(change.sql, place)?.ok_or_else(|| self.kms().no_key(place))?;
        let access = Access::load(change.sql, &row)?;
        let arn: Arc<str> = key_arn(place, self.kms().account_id()).into();
        self.permit(&row, &access, &arn, operation, facts)?;
        Ok(row)
    }

    /// As [`Call::row`], with what says who may use it, and the grant that the right came from.
    pub(super) fn locked(
        &self,
        change: &Change<'_>,
        operation: Operation,
        place: &Place,
        facts: &Facts<'_>,
    ) -> Result<(Locked, Option<Grant>)> {
        let row = KeyRow::load(change.sql, place)?.ok_or_else(|| self.kms().no_key(place))?;
        let locked = Locked {
            access: Access::load(change.sql, &row)?,
            arn: key_arn(place, self.kms().account_id()).into(),
            row,
        };
        let right = self.authorize(&locked.row, &locked.access, &locked.arn, operation, facts)?;
        let grant = match right {
            Right::Policy => None,
            Right::Grant(grant) => Some(grant.clone()),
        };
        Ok((locked, grant))
    }

    /// A key that a volume is to be given a grant of: for a service-managed one, the right to
    /// volumes is enough.
    pub(super) fn row_for_volume(
        &self,
        change: &Change<'_>,
        place: &Place,
        facts: &Facts<'_>,
    ) -> Result<()> {
        let row = KeyRow::load(change.sql, place)?.ok_or_else(|| self.kms().no_key(place))?;
        if row.manager == KeyManager::Customer {
            return self
                .locked(change, Operation::CreateGrant, place, facts)
                .map(|_| ());
        }
        self.made(place);
        self.authorize_account()?;
        row.state.allows(Operation::CreateGrant, || {
            key_arn(place, self.kms().account_id())
        })
    }

    /// Notes a key that the operation made, for the record.
    pub(super) fn made(&self, place: &Place) {
        self.used.borrow_mut().push(KeyUse {
            arn: key_arn(place, self.kms().account_id()).into(),
            material: None,
        });
    }

    /// Leaves the record, once.
    fn record(&self, error: Option<&KmsError>) -> Result<()> {
        // What was recorded as done and then failed is recorded again, as failed.
        if self.recorded.replace(true) && error.is_none() {
            return Ok(());
        }
        self.kms().recorder().record(&Event {
            time: self.now,
            caller: self.caller(),
            operation: self.name,
            read_only: self.operation.class() != Class::Management,
            keys: &self.used.borrow(),
            parameters: self.parameters,
            error,
            forced: self.force().filter(|_| self.forced.get()),
            event_id: self.event_id,
            // A volume changes nothing in the keystore that its record would have to precede.
            may_wait: error.is_none()
                && self.caller().is_volume()
                && self.operation.class() == Class::Cryptographic,
        })
    }
}
