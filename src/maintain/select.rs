//! Which files a walk is limited to: paths, and patterns of what is left out.

/// Patterns of paths, as `--exclude` takes them.
///
/// `*` stands for any text within a name, `?` for one byte of it, `**` for any text, slashes too. A
/// pattern with a slash (one at its end aside) is compared with a path from the volume's root; one
/// without with each name in the path. What is below something that matches is left out as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    patterns: Vec<Vec<u8>>,
}

impl Exclude {
    /// Of these patterns.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Self {
        let trimmed = |pattern: P| {
            let pattern = pattern.as_ref();
            let end = pattern.iter().rposition(|&byte| byte != b'/');
            pattern[..end.map_or(0, |end| end + 1)].to_vec()
        };
        let patterns = patterns.into_iter().map(trimmed);
        Self {
            patterns: patterns.filter(|pattern| !pattern.is_empty()).collect(),
        }
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path from the volume's root, `/a/b`, is left out.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| {
            if pattern.contains(&b'/') {
                let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
                let path = path.strip_prefix(b"/").unwrap_or(path);
                // Itself, or what it is below of.
                let ends = (0..path.len()).filter(|&at| path[at] == b'/');
                ends.chain([path.len()])
                    .any(|end| fits(pattern, &path[..end]))
            } else {
                let mut names = path.split(|&byte| byte == b'/');
                names.any(|name| !name.is_empty() && fits(pattern, name))
            }
        })
    }
}

/// Whether a text is as a pattern says. Goes back to the last star alone, and across slashes to the last
/// double star: so the time is bounded by the product of three lengths at the most.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on behind a star, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    let mut stars: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            stars = Some((p + 2, t));
            star = None;
            p += 2;
            continue;
        }
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(&byte)) if byte != b'/' => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            (Some(&wanted), Some(&byte)) if wanted == byte && wanted != b'?' => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        if let Some((behind, taken)) =
            star.filter(|(_, taken)| text.get(*taken).is_some_and(|byte| *byte != b'/'))
        {
            star = Some((behind, taken + 1));
            (p, t) = (behind, taken + 1);
        } else if let Some((behind, taken)) = stars.filter(|(_, taken)| *taken < text.len()) {
            stars = Some((behind, taken + 1));
            star = None;
            (p, t) = (behind, taken + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests;
