//! TagResource, UntagResource, ListResourceTags.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::client::Call;
use super::super::error::{KmsError, Result};
use super::super::policy::Facts;
use super::super::state::Operation;
use super::super::store::list_tags;
use super::wire::{KeyName, Text};
use super::{Listing, Page, Request};

/// Tags that a key may have, as in AWS KMS.
const TAGS_PER_KEY: usize = 50;

/// `Tag`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// `TagKey`
    pub tag_key: Text<1, 128>,
    /// `TagValue`
    pub tag_value: Text<0, 256>,
}

/// TagResource: adds tags, and changes the values of those that are there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct TagResourceRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Tags`
    pub tags: Vec<Tag>,
}

/// UntagResource.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct UntagResourceRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `TagKeys`
    pub tag_keys: Vec<Text<1, 128>>,
}

/// ListResourceTags.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "PascalCase"))]
pub struct ListResourceTagsRequest {
    /// `KeyId`
    pub key_id: KeyName,
    /// `Limit`, `Marker`
    #[serde(flatten)]
    pub page: Page,
}

/// What ListResourceTags answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListResourceTagsResponse {
    /// `Tags`
    pub tags: Vec<Tag>,
    /// `NextMarker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// `Truncated`
    pub truncated: bool,
}

/// A character that a tag may have: letters, digits, spaces and `_.:/=+-@`.
fn is_tag_char(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}

fn check_tag_key(key: &str) -> Result<()> {
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(KmsError::Tag(format!(
            "The tag key '{key}' begins with aws:, which is reserved"
        )));
    }
    if !key.chars().all(is_tag_char) {
        return Err(KmsError::Tag(format!(
            "The tag key '{}' has characters that a tag can't have",
            key.escape_debug()
        )));
    }
    Ok(())
}

/// Whether tags can be put on a key by one request.
///
/// # Errors
/// [`KmsError::Tag`].
pub(super) fn check_new_tags(tags: &[Tag]) -> Result<()> {
    let mut keys = BTreeSet::new();
    for tag in tags {
        check_tag_key(tag.tag_key.as_str())?;
        if !tag.tag_value.as_str().chars().all(is_tag_char) {
            return Err(KmsError::Tag(format!(
                "The value of tag '{}' has characters that a tag can't have",
                tag.tag_key.as_str()
            )));
        }
        if !keys.insert(tag.tag_key.as_str()) {
            return Err(KmsError::Tag(format!(
                "The tag key '{}' is given twice",
                tag.tag_key.as_str()
            )));
        }
    }
    if keys.len() > TAGS_PER_KEY {
        return Err(too_many());
    }
    Ok(())
}

fn too_many() -> KmsError {
    KmsError::LimitExceeded(format!("A key has at most {TAGS_PER_KEY} tags"))
}

impl Request for TagResourceRequest {
    const OPERATION: Operation = Operation::TagResource;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        check_new_tags(&self.tags)?;
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            call.row(change, Operation::TagResource, &place, &Facts::default())?;
            for tag in &self.tags {
                change.set_tag(&place, tag.tag_key.as_str(), tag.tag_value.as_str())?;
            }
            if change.count_tags(&place)?.unsigned_abs() > TAGS_PER_KEY as u64 {
                return Err(too_many());
            }
            Ok(())
        })
    }
}

impl Request for UntagResourceRequest {
    const OPERATION: Operation = Operation::UntagResource;
    type Response = ();

    fn run(&self, call: &Call<'_>) -> Result<()> {
        for key in &self.tag_keys {
            check_tag_key(key.as_str())?;
        }
        let place = call.key_place(&self.key_id)?;
        call.change(|change| {
            call.row(change, Operation::UntagResource, &place, &Facts::default())?;
            for key in &self.tag_keys {
                change.delete_tag(&place, key.as_str())?;
            }
            Ok(())
        })
    }
}

impl Request for ListResourceTagsRequest {
    const OPERATION: Operation = Operation::ListResourceTags;
    type Response = ListResourceTagsResponse;

    fn run(&self, call: &Call<'_>) -> Result<ListResourceTagsResponse> {
        let limit = self.page.limit(50, 50)?;
        let after = self.page.after("tags")?.unwrap_or_default();
        let key = call.manage_key(&self.key_id, Self::OPERATION, &Facts::default())?;
        let place = key.row.place();
        let rows = call
            .kms()
            .store
            .read(|sql| list_tags(sql, &place, &after, i64::from(limit) + 1))?;
        let listing = Listing::cut(rows, limit, "tags", |(name, _)| name.clone());
        let tag = |(key, value): (String, String)| -> Result<Tag> {
            Ok(Tag {
                tag_key: key.as_str().try_into()?,
                tag_value: value.as_str().try_into()?,
            })
        };
        Ok(ListResourceTagsResponse {
            tags: listing
                .entries
                .into_iter()
                .map(tag)
                .collect::<Result<_>>()?,
            truncated: listing.next_marker.is_some(),
            next_marker: listing.next_marker,
        })
    }
}
