//! A document becomes a policy.

use super::action::ActionSet;
use super::condition::Condition;
use super::json::Json;
use super::pattern::Pattern;
use super::principal::{PrincipalKind, Principals};
use super::{Effect, MAX_LEN, Policy, PolicyError, Result, Statement};

fn wrong(message: impl Into<String>) -> PolicyError {
    PolicyError::new(message)
}

pub(super) fn policy(text: &str) -> Result<Policy> {
    if text.len() > MAX_LEN {
        return Err(wrong(format!(
            "a key policy has at most {MAX_LEN} bytes, this one has {}",
            text.len()
        )));
    }
    let document = Json::parse(text)?;
    let mut statements = None;
    // Variables came with the second version.
    let mut variables = false;
    for (name, value) in document.members("The policy")? {
        match (name.as_str(), value) {
            ("Version", Json::Text(version)) => match version.as_str() {
                "2012-10-17" => variables = true,
                "2008-10-17" => {}
                other => return Err(wrong(format!("Policy has an unknown version: {other}"))),
            },
            ("Id", Json::Text(_)) => {}
            ("Statement", value) => statements = Some(value),
            _ => return Err(wrong(format!("Syntax errors in policy: {name}"))),
        }
    }
    let statements = match statements {
        Some(Json::List(list)) if !list.is_empty() => list.as_slice(),
        Some(one @ Json::Map(_)) => std::slice::from_ref(one),
        _ => return Err(wrong("Policy has no statement")),
    };
    Ok(Policy {
        statements: statements
            .iter()
            .map(|json| statement(json, variables))
            .collect::<Result<_>>()?,
    })
}

/// An element that stands under one name or under the same one with `Not` before it, once.
fn set_once<T>(slot: &mut Option<T>, element: &str, value: T) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(wrong(format!(
            "Policy statement has both {element} and Not{element}"
        )));
    }
    Ok(())
}

fn statement(json: &Json, variables: bool) -> Result<Statement> {
    let mut effect = None;
    let (mut principals, mut actions, mut resources) = (None, None, None);
    let mut conditions = Vec::new();
    for (name, value) in json.members("Statement")? {
        match name.as_str() {
            "Sid" if matches!(value, Json::Text(_)) => {}
            "Effect" => {
                effect = Some(match value {
                    Json::Text(word) if word == "Allow" => Effect::Allow,
                    Json::Text(word) if word == "Deny" => Effect::Deny,
                    _ => return Err(wrong("Policy statement's Effect must be Allow or Deny")),
                });
            }
            "Principal" | "NotPrincipal" => {
                let except = name == "NotPrincipal";
                let named = Principals::new(principals_of(name, value)?.into_iter(), except)?;
                set_once(&mut principals, "Principal", (named, except))?;
            }
            "Action" | "NotAction" => {
                let set = ActionSet::of(&value.texts(name)?, name == "NotAction")?;
                set_once(&mut actions, "Action", set)?;
            }
            "Resource" | "NotResource" => {
                let patterns = resources_of(&value.texts(name)?, variables)?;
                set_once(
                    &mut resources,
                    "Resource",
                    (patterns, name == "NotResource"),
                )?;
            }
            "Condition" => conditions = conditions_of(value, variables)?,
            _ => return Err(wrong(format!("Syntax errors in policy: {name}"))),
        }
    }
    let effect = effect.ok_or_else(|| missing("Effect"))?;
    let (principals, except_principals) = principals.ok_or_else(|| missing("Principal"))?;
    let (resources, except_resources) = resources.ok_or_else(|| missing("Resource"))?;
    if except_principals && effect == Effect::Allow {
        return Err(wrong(
            "NotPrincipal with the effect Allow would allow everybody else: name the principals",
        ));
    }
    Ok(Statement {
        effect,
        principals,
        actions: actions.ok_or_else(|| missing("Action"))?,
        resources,
        except_resources,
        conditions,
    })
}

fn missing(element: &str) -> PolicyError {
    wrong(format!("Policy statement must contain {element}"))
}

fn principals_of(element: &str, value: &Json) -> Result<Vec<(PrincipalKind, String)>> {
    if let Json::Text(text) = value {
        if text == "*" {
            return Ok(vec![(PrincipalKind::Aws, text.clone())]);
        }
        return Err(wrong(format!(
            "{element} must be \"*\" or an object such as {{\"AWS\": \"ARN\"}}"
        )));
    }
    let mut names = Vec::new();
    for (kind, value) in value.members(element)? {
        let kind = match kind.as_str() {
            "AWS" => PrincipalKind::Aws,
            "Service" => PrincipalKind::Service,
            other => {
                return Err(wrong(format!(
                    "Policy contains a statement with one or more invalid principals: {other}"
                )));
            }
        };
        names.extend(
            value
                .texts(element)?
                .into_iter()
                .map(|text| (kind, text.to_owned())),
        );
    }
    if names.is_empty() {
        return Err(missing(element));
    }
    Ok(names)
}

fn resources_of(texts: &[&str], variables: bool) -> Result<Vec<Pattern>> {
    texts
        .iter()
        .map(|text| {
            if *text != "*" && !text.starts_with("arn:") {
                return Err(wrong(format!(
                    "Policy has a resource that is neither \"*\" nor an ARN: {text}"
                )));
            }
            Pattern::parse(text, true, variables)
        })
        .collect()
}

fn conditions_of(value: &Json, variables: bool) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    for (operator, keys) in value.members("Condition")? {
        for (key, values) in keys.members(operator)? {
            let one = std::slice::from_ref(values);
            let list = match values {
                Json::List(list) if list.is_empty() => {
                    return Err(wrong(format!(
                        "Policy has a condition without values: {key}"
                    )));
                }
                Json::List(list) => list.as_slice(),
                _ => one,
            };
            let texts = list
                .iter()
                .map(|value| match value {
                    Json::Text(text) | Json::Number(text) => Ok(text.as_str()),
                    Json::Bool(true) => Ok("true"),
                    Json::Bool(false) => Ok("false"),
                    Json::Null | Json::List(_) | Json::Map(_) => Err(wrong(format!(
                        "Policy has a condition value that is no string: {key}"
                    ))),
                })
                .collect::<Result<Vec<_>>>()?;
            conditions.push(Condition::new(operator, key, &texts, variables)?);
        }
    }
    Ok(conditions)
}
