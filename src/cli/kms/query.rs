//! `--query`: the part of JMESPath (jmespath.org) that picks values out of an answer.
//!
//! Names, quoted or not; `[N]` (from the end when negative); `[*]` and `[]`; `[?Name=='value']`
//! with `==` and `!=`; `[A, B]`; `|`. The rest is refused, not misread.

use std::iter::Peekable;
use std::str::Chars;

use anyhow::Result;

use super::super::exit::usage;
use super::answer::Json;

/// Expressions within expressions, at most.
const DEPTH: usize = 16;

enum Step {
    /// A member of a map.
    Name(String),
    /// An item of a list.
    Item(i64),
    /// All items: what follows is for each of them.
    Each,
    /// As `Each`, after the lists in the list were put together.
    Flatten,
    /// The items for which a comparison holds (or does not).
    Where {
        path: Vec<Step>,
        equal: bool,
        value: Json,
    },
    /// A list of values.
    Select(Vec<Vec<Step>>),
}

/// The part of `answer` that `expression` picks; null where there is none.
pub(super) fn run(expression: &str, answer: &Json) -> Result<Json> {
    let wrong = || {
        usage(format!(
            "--query: '{expression}' is no expression that is supported"
        ))
    };
    let mut parser = Parser {
        chars: expression.chars().peekable(),
        depth: 0,
    };
    let mut value = answer.clone();
    loop {
        let steps = parser.steps().ok_or_else(wrong)?;
        value = pick(&steps, &value);
        if !parser.accept('|') {
            break;
        }
    }
    if parser.peek().is_some() {
        Err(wrong())
    } else {
        Ok(value)
    }
}

fn pick(steps: &[Step], value: &Json) -> Json {
    // A flattening takes all that was picked before it, other projections go on inside.
    if let Some(at) = steps.iter().rposition(|step| matches!(step, Step::Flatten)) {
        let Json::List(items) = pick(&steps[..at], value) else {
            return Json::Null;
        };
        let inner = items.iter().flat_map(|item| match item {
            Json::List(inner) => inner.as_slice(),
            other => std::slice::from_ref(other),
        });
        return for_each(&steps[at + 1..], inner);
    }
    let Some((step, rest)) = steps.split_first() else {
        return value.clone();
    };
    match (step, value) {
        (Step::Name(name), value) => value.member(name).map_or(Json::Null, |v| pick(rest, v)),
        (Step::Item(at), Json::List(items)) => {
            let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *at < 0 { at.saturating_add(len) } else { *at };
            let item = usize::try_from(at).ok().and_then(|at| items.get(at));
            item.map_or(Json::Null, |item| pick(rest, item))
        }
        (Step::Each, Json::List(items)) => for_each(rest, items.iter()),
        (Step::Where { path, equal, value }, Json::List(items)) => for_each(
            rest,
            items
                .iter()
                .filter(|item| (pick(path, item) == *value) == *equal),
        ),
        (Step::Select(parts), Json::Map(_) | Json::List(_)) => pick(
            rest,
            &Json::List(parts.iter().map(|part| pick(part, value)).collect()),
        ),
        _ => Json::Null,
    }
}

/// What is picked from each item, where there is anything.
fn for_each<'a>(steps: &[Step], items: impl Iterator<Item = &'a Json>) -> Json {
    let picked = items.map(|item| pick(steps, item));
    Json::List(picked.filter(|item| *item != Json::Null).collect())
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    depth: usize,
}

impl Parser<'_> {
    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.chars.next_if(char::is_ascii_whitespace).is_some() {}
        self.chars.peek().copied()
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.chars.next();
        }
        found
    }

    /// An expression up to `|`, `,`, `]`, a comparison or the end.
    fn steps(&mut self) -> Option<Vec<Step>> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let mut steps = Vec::new();
        if self.peek() == Some('@') {
            self.chars.next();
        } else if self.peek() == Some('[') {
            steps.push(self.bracket(true)?);
        } else {
            steps.push(Step::Name(self.name()?));
        }
        loop {
            if self.accept('.') {
                let select = self.peek() == Some('[');
                let step = if select {
                    self.select()?
                } else {
                    Step::Name(self.name()?)
                };
                steps.push(step);
            } else if self.peek() == Some('[') {
                steps.push(self.bracket(false)?);
            } else {
                self.depth -= 1;
                return Some(steps);
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        if self.peek()? == '"' {
            return self.quoted('"');
        }
        let mut name = String::new();
        while let Some(c) = self
            .chars
            .next_if(|c| c.is_ascii_alphanumeric() || *c == '_')
        {
            name.push(c);
        }
        name.starts_with(|c: char| !c.is_ascii_digit())
            .then_some(name)
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        self.accept(quote);
        let mut text = String::new();
        loop {
            match self.chars.next()? {
                c if c == quote => return Some(text),
                '\\' => text.push(self.chars.next()?),
                c => text.push(c),
            }
        }
    }

    /// What stands in brackets; at the beginning of an expression this may be a list of values.
    fn bracket(&mut self, first: bool) -> Option<Step> {
        let select = self.begins_select();
        if select {
            return if first { self.select() } else { None };
        }
        self.accept('[');
        let step = match self.peek()? {
            ']' => Step::Flatten,
            '*' => {
                self.chars.next();
                Step::Each
            }
            '?' => {
                self.chars.next();
                self.comparison()?
            }
            _ => Step::Item(self.number()?),
        };
        self.accept(']').then_some(step)
    }

    /// Whether the bracket that comes next begins a list of values.
    fn begins_select(&self) -> bool {
        let mut ahead = self.chars.clone();
        ahead.next();
        let next = ahead.find(|c| !c.is_ascii_whitespace());
        next.is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '"' | '@' | '['))
    }

    fn select(&mut self) -> Option<Step> {
        self.accept('[');
        let mut parts = Vec::new();
        loop {
            parts.push(self.steps()?);
            if self.accept(']') {
                return Some(Step::Select(parts));
            }
            if !self.accept(',') {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<i64> {
        let mut text = String::new();
        if self.accept('-') {
            text.push('-');
        }
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            text.push(digit);
        }
        text.parse().ok()
    }

    fn comparison(&mut self) -> Option<Step> {
        let path = self.steps()?;
        let equal = match self.peek()? {
            '=' => true,
            '!' => false,
            _ => return None,
        };
        self.chars.next();
        if self.chars.next() != Some('=') {
            return None;
        }
        let value = match self.peek()? {
            '\'' => Json::text(self.quoted('\'')?),
            '`' => literal(&self.quoted('`')?)?,
            _ => return None,
        };
        Some(Step::Where { path, equal, value })
    }
}

/// A literal between backquotes: JSON without lists and maps, or a bare word.
fn literal(text: &str) -> Option<Json> {
    Some(match text.trim() {
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        "null" => Json::Null,
        word => match (word.parse(), word.strip_prefix('"')) {
            (Ok(number), _) => Json::Number(number),
            (Err(_), Some(quoted)) => Json::text(quoted.strip_suffix('"')?),
            (Err(_), None) => Json::text(word),
        },
    })
}
