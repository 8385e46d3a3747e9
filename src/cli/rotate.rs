//! `rotate`: new key material for the volume's CMK.

use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::args::RotateArgs;
use super::control::{self, Request};
use super::exit::Exit;
use super::open::Opening;
use super::output;
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
}

/// Rotates.
pub fn run(args: &RotateArgs, keystore: &KeystoreArgs) -> Result<Exit> {
    let rotated = match target::resolve(&args.target)? {
        Target::Mounted(mountpoint) => control::call(&mountpoint, &Request::Rotate)?,
        Target::Unmounted(cipher_dir) => {
            let kms = Arc::new(unlock::open(keystore)?);
            let volume = Opening::reading(&cipher_dir, "rotate").open(kms)?;
            rotate(&volume)?
        }
    };
    if args.json {
        output::json(&rotated)?;
    } else {
        output::text_out(&format!(
            "key {} of volume {} has new material {}\n\
             older files stay readable; `envelopefs rewrap` moves them to the new material\n",
            rotated.key_id, rotated.volume_id, rotated.material_id
        ))?;
    }
    Ok(Exit::Ok)
}

/// Makes new material for the CMK of an open volume.
pub fn rotate(volume: &Volume<Os>) -> Result<Rotated> {
    let (key, keys) = (volume.volume_key_id(), volume.key_source());
    let previous = keys.current_material(&key)?;
    keys.rotate(&key)?;
    let current = keys.current_material(&key)?;
    Ok(Rotated {
        volume_id: volume.id().to_string(),
        key_arn: keys.arn(&key)?,
        key_id: key.to_string(),
        material_id: current.to_string(),
        previous_material_id: previous.to_string(),
    })
}
