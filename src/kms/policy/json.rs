//! JSON as a tree in which no member of an object stands twice: `serde_json` would keep the last
//! one, and a statement whose first `Condition` is dropped says something else than it reads.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{PolicyError, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// In decimal.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| PolicyError::new(format!("Syntax errors in policy: {error}")))
    }

    /// A text, or a list of texts: what most elements are. Never empty.
    pub(super) fn texts(&self, element: &str) -> Result<Vec<&str>> {
        let wrong = || {
            PolicyError::new(format!(
                "Syntax errors in policy: {element} must be a string or a list of strings"
            ))
        };
        let items = match self {
            Self::List(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        if items.is_empty() {
            return Err(wrong());
        }
        items
            .iter()
            .map(|item| match item {
                Self::Text(text) if !text.is_empty() => Ok(text.as_str()),
                _ => Err(wrong()),
            })
            .collect()
    }

    /// The members of an object.
    pub(super) fn members(&self, element: &str) -> Result<&[(String, Json)]> {
        match self {
            Self::Map(members) => Ok(members),
            _ => Err(PolicyError::new(format!(
                "Syntax errors in policy: {element} must be an object"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> std::result::Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Json, A::Error> {
        let mut map: Vec<(String, Json)> = Vec::new();
        let mut names = HashSet::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("'{name}' stands twice")));
            }
            map.push((name, value));
        }
        Ok(Json::Map(map))
    }
}
