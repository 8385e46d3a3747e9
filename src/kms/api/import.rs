//! GetParametersForImport, ImportKeyMaterial.

use serde::{Deserialize, Serialize};

use super::super::cache::CachedKey;
use super::super::client::Call;
use super::super::clock::Timestamp;
use super::super::error::{KmsError, Result};
use super::super::id::MaterialId;
use super::super::import_token::ImportToken;
use super::super::key_pair;
use super::super::policy::Facts;
use super::super::spec::KeySpec;
use super::super::state::Operation;
use super::super::store::Import;
use super::super::words::words;
use super::Request;
use super::imported::check_imported;
use super::keys::ExpirationModel;
use super::wire::{Blob, Bytes, KeyName, Text};
use crate::crypto::{CryptoError, ImportWrapping, KeyPair, OaepHash, WrappingKeySpec};
use crate::secret::SecretText;

/// Days for which an import token is good.
const TOKEN_DAYS: u32 = 1;
/// Days after which imported material expires at the latest, when it expires.
const MAX_DAYS: u32 = 365;

words! {
    /// How key material is wrapped for its import.
    AlgorithmSpec {
        /// RSAES-PKCS1-v1_5; AWS KMS doesn't take it any more.
        RsaesPkcs1V15 = "RSAES_PKCS1_V1_5",
        /// RSAES-OAEP with SHA-1.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSAES-OAEP with SHA-256.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
        /// RSAES-OAEP with SHA-1 of an AES key, and AES-KWP of the material.
        RsaAesKeyWrapSha1 = "RSA_AES_KEY_WRAP_SHA_1",
        /// RSAES-OAEP with SHA-256 of an AES key, and AES-KWP of the material.
        RsaAesKeyWrapSha256 = "RSA_AES_KEY_WRAP_SHA_256",
        /// SM2, of the China Regions of AWS; not here.
        Sm2Pke = "SM2PKE",
    }
}

words! {
    /// The kind of the wrapping key.
    WrappingKeyName {
        /// RSA with a modulus of 2048 bits.
        Rsa2048 = "RSA_2048",
        /// RSA with a modulus of 3072 bits.
        Rsa3072 = "RSA_3072",
        /// RSA with a modulus of 4096 bits.
        Rsa4096 = "RSA_4096",
        /// SM2, of the China Regions of AWS; not here.
        Sm2 = "SM2",
    }
}

words! {
    /// Whether imported material is to be new.
    ImportType {
        /// It becomes the key's next material.
        NewKeyMaterial = "NEW_KEY_MATERIAL",
        /// It is one that the key had before.
        ExistingKeyMaterial = "EXISTING_KEY_MATERIAL",
    }
}

impl AlgorithmSpec {
    fn wrapping(self) -> Option<ImportWrapping> {
        match self {
            Self::RsaesOaepSha1 => Some(ImportWrapping::Oaep(OaepHash::Sha1)),
            Self::RsaesOaepSha256 => Some(ImportWrapping::Oaep(OaepHash::Sha256)),
            Self::RsaAesKeyWrapSha1 => Some(ImportWrapping::AesKwp(OaepHash::Sha1)),
            Self::RsaAesKeyWrapSha256 => Some(ImportWrapping::AesKwp(OaepHash::Sha256)),
            Self::RsaesPkcs1V15 | Self::Sm2Pke => None,
        }
    }
}

impl WrappingKeyName {
    fn spec(self) -> Option<WrappingKeySpec> {
        match self {
            Self::Rsa2048 => Some(WrappingKeySpec::Rsa2048),
            Self::Rsa3072 => Some(WrappingKeySpec::Rsa3072),
            Self::Rsa4096 => Some(WrappingKeySpec::Rsa4096),
            Self::Sm2 => None,
        }
    }
}

/// GetParametersForImport.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct GetParametersForImportRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `WrappingAlgorithm`
    pub wrapping_algorithm: AlgorithmSpec,
    /// `WrappingKeySpec`
    pub wrapping_key_spec: WrappingKeyName,
}

/// What GetParametersForImport answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetParametersForImportResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `ImportToken`
    pub import_token: Bytes,
    /// `PublicKey`: the wrapping key, SubjectPublicKeyInfo (RFC 5280), DER.
    pub public_key: Bytes,
    /// `ParametersValidTo`
    pub parameters_valid_to: Timestamp,
}

/// ImportKeyMaterial.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ImportKeyMaterialRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `ImportToken`
    #[serde(skip_serializing)]
    pub import_token: Blob<1, 6144>,
    /// `EncryptedKeyMaterial`
    #[serde(skip_serializing)]
    pub encrypted_key_material: Blob<1, 6144>,
    /// `ValidTo`: when the material expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
    /// `ExpirationModel`: that it expires, unless it says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_model: Option<ExpirationModel>,
    /// `ImportType`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_type: Option<ImportType>,
    /// `KeyMaterialDescription`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_description: Option<Text<0, 256>>,
    /// `KeyMaterialId`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<Text<64, 64>>,
}

/// What ImportKeyMaterial answers.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportKeyMaterialResponse {
    /// `KeyId`: the key's ARN.
    pub key_id: String,
    /// `KeyMaterialId`, of a symmetric key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_id: Option<MaterialId>,
}

impl GetParametersForImportRequest {
    /// The wrapping that is asked for, when there is such and it carries the key's material
    /// (AWS KMS developer guide, "Select a wrapping algorithm").
    fn wrapping(&self, spec: KeySpec) -> Result<(ImportWrapping, WrappingKeySpec)> {
        let (algorithm, wrapping_key) = (self.wrapping_algorithm, self.wrapping_key_spec);
        let unsupported = || {
            Err(KmsError::UnsupportedOperation(format!(
                "WrappingAlgorithm {algorithm} with WrappingKeySpec {wrapping_key} is not \
                 supported for key material of the kind {spec}."
            )))
        };
        let (Some(wrapping), Some(key)) = (algorithm.wrapping(), wrapping_key.spec()) else {
            return unsupported();
        };
        let too_long = match spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => true,
            KeySpec::EccNistP521 => key == WrappingKeySpec::Rsa2048,
            _ => false,
        };
        if too_long && matches!(wrapping, ImportWrapping::Oaep(_)) {
            return unsupported();
        }
        Ok((wrapping, key))
    }
}

impl Request for GetParametersForImportRequest {
    const OPERATION: Operation = Operation::GetParametersForImport;
    type Response = GetParametersForImportResponse;

    fn run(&self, call: &Call<'_>) -> Result<GetParametersForImportResponse> {
        let facts = Facts {
            algorithm: Some(self.wrapping_algorithm.as_str()),
            wrapping_key_spec: Some(self.wrapping_key_spec.as_str()),
            ..Facts::default()
        };
        let key = call.manage_key(&self.key_id, Self::OPERATION, &facts)?;
        check_imported(call, &key.row)?;
        let (wrapping, spec) = self.wrapping(key.row.spec)?;
        let pair = key_pair::generate(spec.key_pair())?;
        let valid_to = call.now().plus_days(TOKEN_DAYS);
        let token = ImportToken::new(wrapping, spec, valid_to, pair.private);
        Ok(GetParametersForImportResponse {
            key_id: key.arn.to_string(),
            import_token: token.seal(call.kms().store.sealer(), &key.arn).into(),
            public_key: pair.public.into(),
            parameters_valid_to: valid_to,
        })
    }
}

impl ImportKeyMaterialRequest {
    fn expiration_model(&self) -> ExpirationModel {
        self.expiration_model.unwrap_or(ExpirationModel::Expires)
    }

    /// When the material is to expire, if ever.
    fn expiry(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let invalid = |why: &str| Err(KmsError::Validation(why.to_owned()));
        match (self.expiration_model(), self.valid_to) {
            (ExpirationModel::DoesNotExpire, None) => Ok(None),
            (ExpirationModel::DoesNotExpire, Some(_)) => invalid(
                "ValidTo must not be set when ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE.",
            ),
            (ExpirationModel::Expires, None) => {
                invalid("ValidTo must be set when ExpirationModel is KEY_MATERIAL_EXPIRES.")
            }
            (ExpirationModel::Expires, Some(end)) if end <= now => {
                invalid("ValidTo must be in the future.")
            }
            (ExpirationModel::Expires, Some(end)) if end > now.plus_days(MAX_DAYS) => {
                invalid("ValidTo must not be more than 365 days from now.")
            }
            (ExpirationModel::Expires, Some(end)) => Ok(Some(end)),
        }
    }

    /// The id that the material must have, where one was given, and whether it must be new.
    fn expected(&self, key: &CachedKey) -> Result<(Option<MaterialId>, Option<bool>)> {
        let invalid = |why: &str| Err(KmsError::Validation(why.to_owned()));
        let says_more = self.import_type.is_some()
            || self.key_material_description.is_some()
            || self.key_material_id.is_some();
        if says_more && !key.row.spec.is_symmetric() {
            return invalid(
                "ImportType, KeyMaterialDescription and KeyMaterialId are for symmetric \
                 encryption keys only.",
            );
        }
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || ":/_.-".contains(c);
        if let Some(text) = &self.key_material_description
            && !text.as_str().chars().all(allowed)
        {
            return invalid("KeyMaterialDescription must match the pattern ^[a-zA-Z0-9:/_\\s.-]+$");
        }
        let id = match &self.key_material_id {
            None => None,
            Some(id) => Some(id.as_str().parse()?),
        };
        let new = self
            .import_type
            .map(|kind| kind == ImportType::NewKeyMaterial);
        if id.is_some() && new == Some(true) {
            return invalid("KeyMaterialId must not be set when ImportType is NEW_KEY_MATERIAL.");
        }
        Ok((id, new))
    }

    /// The material as the keystore keeps it.
    fn material(&self, call: &Call<'_>, key: &CachedKey) -> Result<SecretText> {
        let sealer = call.kms().store.sealer();
        let token = ImportToken::open(sealer, &key.arn, &self.import_token)?;
        if token.valid_to <= call.now() {
            return Err(KmsError::ExpiredImportToken);
        }
        let material = token
            .unwrap(&self.encrypted_key_material)
            .map_err(|error| key_pair::failed(&key.arn, error))?;
        let wrong = || {
            KmsError::IncorrectKeyMaterial(format!(
                "The key material is no key of the kind {}.",
                key.row.spec
            ))
        };
        if let Some(len) = key.row.spec.secret_len() {
            return if material.len() == len {
                Ok(material)
            } else {
                Err(wrong())
            };
        }
        match KeyPair::from_pkcs8(key.key_pair_spec()?, &material) {
            Ok(pair) => Ok(SecretText::new(pair.private.expose().to_vec())),
            Err(CryptoError::InvalidKey) => Err(wrong()),
            Err(error) => Err(key_pair::failed(&key.arn, error)),
        }
    }
}

impl Request for ImportKeyMaterialRequest {
    const OPERATION: Operation = Operation::ImportKeyMaterial;
    type Response = ImportKeyMaterialResponse;

    fn run(&self, call: &Call<'_>) -> Result<ImportKeyMaterialResponse> {
        let facts = Facts {
            expiration_model: Some(self.expiration_model().as_str()),
            valid_to: self.valid_to,
            ..Facts::default()
        };
        let key = call.manage_key(&self.key_id, Self::OPERATION, &facts)?;
        check_imported(call, &key.row)?;
        let valid_to = self.expiry(call.now())?;
        let (id, new) = self.expected(&key)?;
        let material = self.material(call, &key)?;
        let id = call.change(|change| {
            let row = call.row(change, Self::OPERATION, &key.row.place(), &facts)?;
            let id = change.import(
                &row,
                &Import {
                    secret: &material,
                    valid_to,
                    description: self.key_material_description.as_ref().map(Text::as_str),
                    new,
                    id,
                    now: call.now(),
                },
            )?;
            call.used_material(&id);
            Ok(id)
        })?;
        Ok(ImportKeyMaterialResponse {
            key_id: key.arn.to_string(),
            key_material_id: Some(id).filter(|_| key.row.spec.is_symmetric()),
        })
    }
}
