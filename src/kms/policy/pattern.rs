//! Texts of a policy: with wildcards (`*`, `?`) and policy variables (`${aws:username}`).

use super::key::ConditionKey;
use super::{PolicyError, Question, Result};

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `${KEY}` or `${KEY, 'default'}`
    Variable(ConditionKey, Option<String>),
}

/// A text to compare a request's value with.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    has_variables: bool,
}

impl Pattern {
    /// `wildcards`: whether `*` and `?` are some; `variables`: whether `${` begins one.
    pub(super) fn parse(text: &str, wildcards: bool, variables: bool) -> Result<Self> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        let mut has_variables = false;
        while let Some(c) = rest.chars().next() {
            if variables && let Some(inside) = rest.strip_prefix("${") {
                let (name, after) = inside.split_once('}').ok_or_else(|| {
                    PolicyError::new(format!("Policy has a variable that does not end: {text}"))
                })?;
                let piece = variable(name)?;
                has_variables |= matches!(piece, Piece::Variable(..));
                pieces.push(piece);
                rest = after;
                continue;
            }
            match c {
                '*' if wildcards && pieces.last() == Some(&Piece::Any) => {}
                '*' if wildcards => pieces.push(Piece::Any),
                '?' if wildcards => pieces.push(Piece::One),
                c => pieces.push(Piece::Char(c)),
            }
            rest = &rest[c.len_utf8()..];
        }
        Ok(Self {
            pieces,
            has_variables,
        })
    }

    /// A variable that the request has no value for matches nothing.
    pub(super) fn matches(&self, value: &str, question: &Question<'_>) -> bool {
        self.matches_with(value, question, |a, b| a == b)
    }

    /// As [`Pattern::matches`], without regard to case.
    pub(super) fn matches_ignoring_case(&self, value: &str, question: &Question<'_>) -> bool {
        self.matches_with(value, question, same_but_for_case)
    }

    fn matches_with(
        &self,
        value: &str,
        question: &Question<'_>,
        same: fn(char, char) -> bool,
    ) -> bool {
        if self.pieces == [Piece::Any] {
            return true;
        }
        let value: Vec<char> = value.chars().collect();
        if self.has_variables {
            self.resolved(question)
                .is_some_and(|pieces| glob(&pieces, &value, same))
        } else {
            glob(&self.pieces, &value, same)
        }
    }

    /// As ARNs are compared: each of the six parts for itself, so that a `*` stays in its part
    /// (except in the last one, which may have colons).
    pub(super) fn matches_arn(&self, value: &str, question: &Question<'_>) -> bool {
        let resolved;
        let pieces = if self.has_variables {
            match self.resolved(question) {
                Some(pieces) => {
                    resolved = pieces;
                    &resolved
                }
                None => return false,
            }
        } else {
            &self.pieces
        };
        let parts: Vec<&[Piece]> = pieces
            .splitn(6, |piece| *piece == Piece::Char(':'))
            .collect();
        let values: Vec<&str> = value.splitn(6, ':').collect();
        parts.len() == 6
            && values.len() == 6
            && parts.iter().zip(values).all(|(part, value)| {
                let value: Vec<char> = value.chars().collect();
                glob(part, &value, |a, b| a == b)
            })
    }

    /// The pieces with the variables' values in them; nothing in a value is a wildcard.
    fn resolved(&self, question: &Question<'_>) -> Option<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let Piece::Variable(key, default) = piece else {
                pieces.push(piece.clone());
                continue;
            };
            let values = question.values(key);
            let value = match (values.as_slice(), default) {
                ([value], _) => value.as_ref(),
                ([], Some(default)) => default.as_str(),
                _ => return None,
            };
            pieces.extend(value.chars().map(Piece::Char));
        }
        Some(pieces)
    }
}

/// What stands between `${` and `}`.
fn variable(inside: &str) -> Result<Piece> {
    let literal = |c| Ok(Piece::Char(c));
    let wrong = || PolicyError::new(format!("Policy has an unknown variable: ${{{inside}}}"));
    match inside {
        "*" => return literal('*'),
        "?" => return literal('?'),
        "$" => return literal('$'),
        _ => {}
    }
    let (name, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((name, default)) => {
            let default = default
                .trim()
                .strip_prefix('\'')
                .and_then(|text| text.strip_suffix('\''))
                .ok_or_else(wrong)?;
            (name, Some(default.to_owned()))
        }
    };
    let key = ConditionKey::named(name.trim()).ok_or_else(wrong)?;
    if key.has_many() {
        return Err(wrong());
    }
    Ok(Piece::Variable(key, default))
}

fn same_but_for_case(a: char, b: char) -> bool {
    a == b || a.to_lowercase().eq(b.to_lowercase())
}

/// Whether a pattern without variables matches a text, whatever the case of ASCII letters.
pub(super) fn glob_ignoring_case(pattern: &str, text: &str) -> bool {
    let pieces: Vec<Piece> = pattern
        .chars()
        .map(|c| match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            c => Piece::Char(c),
        })
        .collect();
    let text: Vec<char> = text.chars().collect();
    glob(&pieces, &text, |a, b| a.eq_ignore_ascii_case(&b))
}

/// Goes back to the last `*` only: at most `pieces * text` steps.
fn glob(pieces: &[Piece], text: &[char], same: fn(char, char) -> bool) -> bool {
    let (mut at, mut pos) = (0, 0);
    // After the last `*`, and where its match ended so far.
    let mut star: Option<(usize, usize)> = None;
    while pos < text.len() {
        let fits = match pieces.get(at) {
            Some(Piece::Any) => {
                star = Some((at + 1, pos));
                at += 1;
                continue;
            }
            Some(Piece::One) => true,
            Some(Piece::Char(c)) => same(*c, text[pos]),
            Some(Piece::Variable(..)) | None => false,
        };
        if fits {
            (at, pos) = (at + 1, pos + 1);
        } else if let Some((after, end)) = star {
            star = Some((after, end + 1));
            (at, pos) = (after, end + 1);
        } else {
            return false;
        }
    }
    pieces[at..].iter().all(|piece| *piece == Piece::Any)
}
