//! The one gate: every operation of every caller is authorized and recorded here.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::Serialize;

use super::Kms;
use super::api::wire::KeyName;
use super::audit::{Event, KeyUse, Parameters};
use super::cache::CachedKey;
use super::caller::Caller;
use super::clock::Timestamp;
use super::error::{KmsError, Result};
use super::id::{KeyId, MaterialId};
use super::policy::Facts;
use super::spec::KeyManager;
use super::state::{Class, Operation};
use super::store::{Change, KeyRow};
use crate::crypto;

/// The key manager as one caller sees it: all operations of the API are its methods.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    kms: &'a Kms,
    caller: &'a Caller,
}

/// One operation of one caller, from the request to the record.
pub struct Call<'a> {
    client: Client<'a>,
    operation: Operation,
    parameters: Option<&'a dyn Parameters>,
    now: Timestamp,
    event_id: [u8; 16],
    used: RefCell<Vec<KeyUse>>,
    recorded: Cell<bool>,
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
        Self { kms, caller }
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
        let call = Call {
            client: self,
            operation,
            parameters,
            now: self.kms.now(),
            event_id: crypto::random_array(),
            used: RefCell::default(),
            recorded: Cell::new(false),
        };
        let result = run(&call);
        call.record(result.as_ref().err())?;
        result
    }

    /// Whether an operation on a key would be allowed at this moment. It is no operation, and is
    /// not recorded.
    pub(super) fn would_allow(
        &self,
        operation: Operation,
        key: &KeyRow,
        arn: &str,
        facts: &Facts<'_>,
    ) -> Result<()> {
        self.permit(operation, key, arn, facts)?;
        key.state.allows(operation, || arn.to_owned())
    }

    /// Whether the caller has the right to an operation on a key, whatever its state.
    fn permit(
        &self,
        operation: Operation,
        key: &KeyRow,
        arn: &str,
        facts: &Facts<'_>,
    ) -> Result<()> {
        if key.manager == KeyManager::Service && !self.caller.is_volume() {
            match operation.class() {
                Class::Reading => {}
                Class::Cryptographic => {
                    return Err(KmsError::AccessDenied(format!(
                        "{arn} is managed by envelopefs: it works through volumes only"
                    )));
                }
                Class::Management if operation == Operation::RotateKeyOnDemand => {
                    return Err(KmsError::UnsupportedOperation(format!(
                        "{arn} is managed by envelopefs: 'envelopefs rotate' on its volume rotates it"
                    )));
                }
                Class::Management => {
                    return Err(KmsError::AccessDenied(format!(
                        "{arn} is managed by envelopefs: {operation} is not for its users"
                    )));
                }
            }
        }
        let _ = facts;
        Ok(())
    }
}

#[allow(dead_code)] // the operations that need the rest of it come with their files
impl<'a> Call<'a> {
    /// The keystore.
    pub fn kms(&self) -> &'a Kms {
        self.client.kms
    }

    /// On whose behalf.
    pub fn caller(&self) -> &'a Caller {
        self.client.caller
    }

    /// When the operation was asked for.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A key that is to be used, named in any way, when the caller may do `operation` with it and
    /// its state allows it.
    pub(super) fn use_key(
        &self,
        name: &KeyName,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        let id = self.kms().resolve(&name.parse()?)?;
        self.use_id(&id, operation, facts)
    }

    /// As [`Call::use_key`], for an id.
    pub(super) fn use_id(
        &self,
        id: &KeyId,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        let key = self.kms().cached(id)?;
        self.authorize(&key.row, &key.arn, operation, facts)?;
        Ok(key)
    }

    /// The id of a key that is to be looked at or changed: named by its id or ARN. It exists.
    pub(super) fn key_id(&self, name: &KeyName) -> Result<KeyId> {
        self.kms().resolve_key(&name.parse()?)
    }

    /// As [`Call::use_key`], where an alias is no name.
    pub(super) fn manage_key(
        &self,
        name: &KeyName,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<Arc<CachedKey>> {
        let id = self.key_id(name)?;
        self.use_id(&id, operation, facts)
    }

    /// The gate.
    pub(super) fn authorize(
        &self,
        key: &KeyRow,
        arn: &Arc<str>,
        operation: Operation,
        facts: &Facts<'_>,
    ) -> Result<()> {
        self.used.borrow_mut().push(KeyUse {
            arn: Arc::clone(arn),
            material: None,
        });
        self.client.would_allow(operation, key, arn, facts)
    }

    /// Notes which material of the key that was authorized last was used.
    pub(super) fn used_material(&self, material: &MaterialId) {
        if let Some(last) = self.used.borrow_mut().last_mut() {
            last.material = Some(*material);
        }
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
        id: &KeyId,
        facts: &Facts<'_>,
    ) -> Result<KeyRow> {
        let row = KeyRow::load(change.sql, id)?.ok_or_else(|| self.kms().no_key(id))?;
        let arn: Arc<str> = self.kms().key_arn(id).into();
        self.authorize(&row, &arn, operation, facts)?;
        Ok(row)
    }

    /// Leaves the record, once.
    fn record(&self, error: Option<&KmsError>) -> Result<()> {
        let Some(recorder) = self.kms().recorder() else {
            return Ok(());
        };
        // What was recorded as done and then failed is recorded again, as failed.
        if self.recorded.replace(error.is_none()) && error.is_none() {
            return Ok(());
        }
        recorder.record(&Event {
            time: self.now,
            caller: self.caller(),
            operation: self.operation.as_str(),
            read_only: self.operation.class() != Class::Management,
            keys: &self.used.borrow(),
            parameters: self.parameters,
            error,
            event_id: self.event_id,
        })
    }
}
