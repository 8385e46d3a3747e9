//! Conditions: an operator, a key, and the values that the request's are held against.

use std::net::IpAddr;

use super::key::ConditionKey;
use super::pattern::Pattern;
use super::{Effect, PolicyError, Question, Result};
use crate::kms::iso8601;

/// What of several values of a request a condition must hold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// The key has one value.
    None,
    /// `ForAllValues:`
    All,
    /// `ForAnyValue:`
    Any,
}

/// How two ordered values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, value: &T, bound: &T) -> bool {
        match self {
            Self::Equal => value == bound,
            Self::Less => value < bound,
            Self::LessOrEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterOrEqual => value >= bound,
        }
    }
}

/// The values of a policy, as its operator reads them.
#[derive(Debug)]
enum Values {
    /// Equal, or like a pattern with wildcards.
    Text(Vec<Pattern>),
    TextIgnoringCase(Vec<Pattern>),
    Arn(Vec<Pattern>),
    Number(Order, Vec<f64>),
    /// Milliseconds since 1970-01-01 UTC.
    Date(Order, Vec<i64>),
    Bool(Vec<bool>),
    Net(Vec<Net>),
}

#[derive(Debug)]
enum Test {
    /// `Null`: whether the key is absent (`true`) or present.
    Null(Vec<bool>),
    Compare {
        values: Values,
        negated: bool,
        quantifier: Quantifier,
        if_exists: bool,
    },
}

/// A condition of a statement.
#[derive(Debug)]
pub(super) struct Condition {
    key: ConditionKey,
    test: Test,
}

impl Condition {
    /// `operator` as it is written, prefix and suffix included; `variables`: whether the policy's
    /// version has them.
    pub(super) fn new(operator: &str, key: &str, values: &[&str], variables: bool) -> Result<Self> {
        let parsed = ConditionKey::named(key).ok_or_else(|| {
            PolicyError::new(format!("Policy has an unknown condition key: {key}"))
        })?;
        if operator == "Null" {
            return Ok(Self {
                key: parsed,
                test: Test::Null(
                    values
                        .iter()
                        .map(|value| boolean(value))
                        .collect::<Result<_>>()?,
                ),
            });
        }
        let (quantifier, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(_) => return Err(unknown_operator(operator)),
            None => (Quantifier::None, operator),
        };
        if parsed.has_many() && quantifier == Quantifier::None {
            return Err(PolicyError::new(format!(
                "{key} has several values: use ForAllValues:{operator} or ForAnyValue:{operator}"
            )));
        }
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let (values, negated) =
            comparison(name, values, variables)?.ok_or_else(|| unknown_operator(operator))?;
        Ok(Self {
            key: parsed,
            test: Test::Compare {
                values,
                negated,
                quantifier,
                if_exists,
            },
        })
    }

    /// `effect` is the statement's: a request that has two values for a key of one value (names
    /// that differ in case) is held against both when allowed and against each when denied.
    pub(super) fn holds(&self, question: &Question<'_>, effect: Effect) -> bool {
        let has = question.values(&self.key);
        match &self.test {
            Test::Null(absent) => absent.contains(&has.is_empty()),
            Test::Compare {
                values,
                negated,
                quantifier,
                if_exists,
            } => {
                let passes = |value: &str| values.matched_by(value, question) != *negated;
                if has.is_empty() {
                    return *if_exists
                        || match quantifier {
                            Quantifier::None => *negated,
                            Quantifier::All => true,
                            Quantifier::Any => false,
                        };
                }
                match (quantifier, effect) {
                    (Quantifier::All, _) | (Quantifier::None, Effect::Allow) => {
                        has.iter().all(|value| passes(value))
                    }
                    (Quantifier::Any, _) | (Quantifier::None, Effect::Deny) => {
                        has.iter().any(|value| passes(value))
                    }
                }
            }
        }
    }
}

fn unknown_operator(operator: &str) -> PolicyError {
    PolicyError::new(format!(
        "Policy has an unknown condition operator: {operator}"
    ))
}

/// The values as an operator reads them, and whether it is a negation; `None`: no such operator.
fn comparison(name: &str, values: &[&str], variables: bool) -> Result<Option<(Values, bool)>> {
    let patterns = |wildcards| {
        values
            .iter()
            .map(|value| Pattern::parse(value, wildcards, variables))
            .collect::<Result<Vec<_>>>()
    };
    let order = |name: &str| {
        Some(match name {
            "Equals" => (Order::Equal, false),
            "NotEquals" => (Order::Equal, true),
            "LessThan" => (Order::Less, false),
            "LessThanEquals" => (Order::LessOrEqual, false),
            "GreaterThan" => (Order::Greater, false),
            "GreaterThanEquals" => (Order::GreaterOrEqual, false),
            _ => return None,
        })
    };
    if let Some((order, negated)) = name.strip_prefix("Numeric").and_then(order) {
        let values = values
            .iter()
            .map(|value| number(value))
            .collect::<Result<_>>()?;
        return Ok(Some((Values::Number(order, values), negated)));
    }
    if let Some((order, negated)) = name.strip_prefix("Date").and_then(order) {
        let values = values
            .iter()
            .map(|value| date(value).ok_or_else(|| wrong_value("a date", value)))
            .collect::<Result<_>>()?;
        return Ok(Some((Values::Date(order, values), negated)));
    }
    Ok(Some(match name {
        "StringEquals" => (Values::Text(patterns(false)?), false),
        "StringNotEquals" => (Values::Text(patterns(false)?), true),
        "StringEqualsIgnoreCase" => (Values::TextIgnoringCase(patterns(false)?), false),
        "StringNotEqualsIgnoreCase" => (Values::TextIgnoringCase(patterns(false)?), true),
        "StringLike" => (Values::Text(patterns(true)?), false),
        "StringNotLike" => (Values::Text(patterns(true)?), true),
        // The two are one to IAM.
        "ArnEquals" | "ArnLike" => (Values::Arn(arns(values, patterns(true)?)?), false),
        "ArnNotEquals" | "ArnNotLike" => (Values::Arn(arns(values, patterns(true)?)?), true),
        "Bool" => {
            let values = values
                .iter()
                .map(|value| boolean(value))
                .collect::<Result<_>>()?;
            (Values::Bool(values), false)
        }
        "IpAddress" | "NotIpAddress" => {
            let nets = values
                .iter()
                .map(|value| {
                    Net::parse(value).ok_or_else(|| wrong_value("an IP address range", value))
                })
                .collect::<Result<_>>()?;
            (Values::Net(nets), name == "NotIpAddress")
        }
        _ => return Ok(None),
    }))
}

fn wrong_value(what: &str, value: &str) -> PolicyError {
    PolicyError::new(format!(
        "Policy has a condition value that is not {what}: {value}"
    ))
}

fn arns(values: &[&str], patterns: Vec<Pattern>) -> Result<Vec<Pattern>> {
    match values
        .iter()
        .find(|value| value.splitn(6, ':').count() != 6)
    {
        Some(value) => Err(wrong_value("an ARN", value)),
        None => Ok(patterns),
    }
}

fn boolean(text: &str) -> Result<bool> {
    read_bool(text).ok_or_else(|| wrong_value("a boolean", text))
}

fn read_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn number(text: &str) -> Result<f64> {
    read_number(text).ok_or_else(|| wrong_value("a number", text))
}

fn read_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// ISO 8601, or seconds since 1970-01-01 UTC; in milliseconds.
fn date(text: &str) -> Option<i64> {
    match iso8601::parse(text) {
        Some(time) => Some(time.millis()),
        None => text.parse::<i64>().ok()?.checked_mul(1000),
    }
}

impl Values {
    /// Whether a value of the request is one of these. A value of another kind is none.
    fn matched_by(&self, value: &str, question: &Question<'_>) -> bool {
        match self {
            Self::Text(patterns) => patterns.iter().any(|p| p.matches(value, question)),
            Self::TextIgnoringCase(patterns) => patterns
                .iter()
                .any(|p| p.matches_ignoring_case(value, question)),
            Self::Arn(patterns) => patterns.iter().any(|p| p.matches_arn(value, question)),
            Self::Number(order, bounds) => read_number(value)
                .is_some_and(|value| bounds.iter().any(|bound| order.holds(&value, bound))),
            Self::Date(order, bounds) => date(value)
                .is_some_and(|value| bounds.iter().any(|bound| order.holds(&value, bound))),
            Self::Bool(wanted) => read_bool(value).is_some_and(|value| wanted.contains(&value)),
            Self::Net(nets) => value
                .parse()
                .is_ok_and(|address: IpAddr| nets.iter().any(|net| net.contains(address))),
        }
    }
}

/// A range of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug)]
struct Net {
    address: u128,
    mask: u128,
    is_v4: bool,
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match length {
            Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => length.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        let free = bits.checked_sub(length)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        Some(Self {
            address: number_of(address) & mask,
            mask,
            is_v4: address.is_ipv4(),
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.is_v4 && number_of(address) & self.mask == self.address
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}
