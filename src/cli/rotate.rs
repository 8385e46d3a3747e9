//! `rotate`: new key material for the volume's CMK.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::args::RotateArgs;
use super::control::{self, Request};
use super::exit::Exit;
use super::open::Opening;
use super::output;
use super::schedule;
use super::target::{self, Target};
use super::unlock::{self, KeystoreArgs};
use crate::backing::Os;
use crate::volume::Volume;

/// What a rotation did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rotated {
    /// The volume.
    pub volume_id: String,
    /// Its CMK.
    pub key_id: String,
    /// The CMK as an ARN.
    pub key_arn: String,
    /// The material that new data keys are wrapped under from now on.
    pub material_id: String,
    /// The material until now; it still unwraps.
    pub previous_material_id: String,
    /// False when the material was not old enough: then both are the same.
    #[serde(rename = "rotated", default = "yes")]
    pub done: bool,
}

fn yes() -> bool {
    true
}

/// Rotates.
pub fn run(args: &RotateArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    if let Some(every) = args.every {
        return schedule::run(every, args, keystore);
    }
    let if_older = args.if_older;
    let rotated: Rotated = match target::resolve(&args.target)? {
        Target::Mounted(mountpoint) => {
            let if_older = if_older.map(|age| age.as_secs());
            control::call(&mountpoint, &Request::Rotate { if_older })?
        }
        Target::Unmounted(cipher_dir) => {
            let kms = Arc::new(unlock::open(keystore)?);
            let volume = Opening::reading(&cipher_dir, "rotate").open(kms)?;
            rotate(&volume, if_older)?
        }
    };
    if args.json {
        output::json(&rotated)?;
    } else if !rotated.done {
        output::text_out(&format!(
            "key {} of volume {} keeps material {}: it is not old enough\n",
            rotated.key_id, rotated.volume_id, rotated.material_id
        ))?;
    } else {
        output::text_out(&format!(
            "key {} of volume {} has new material {}\n\
             older files stay readable; `envelopefs rewrap` moves them to the new material\n",
            rotated.key_id, rotated.volume_id, rotated.material_id
        ))?;
    }
    Ok(Exit::Ok)
}

/// Makes new material for the CMK of an open volume; with `if_older` only when the current one has been
/// that for so long.
pub fn rotate(volume: &Volume<Os>, if_older: Option<Duration>) -> Result<Rotated> {
    let (key, keys) = (volume.volume_key_id(), volume.key_source());
    let previous = keys.current_material(&key)?;
    let due = match if_older {
        Some(age) => keys.material_age(&key)? >= age,
        None => true,
    };
    if due {
        keys.rotate(&key)?;
    }
    let current = keys.current_material(&key)?;
    Ok(Rotated {
        volume_id: volume.id().to_string(),
        key_arn: keys.arn(&key)?,
        key_id: key.to_string(),
        material_id: current.to_string(),
        previous_material_id: previous.to_string(),
        done: due,
    })
}
