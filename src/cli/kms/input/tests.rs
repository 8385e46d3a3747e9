use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A value in quotes, as it has to stand where it holds a comma, a quote or a space at its start.
fn quoted(value: &str, quote: char) -> String {
    let mut text = String::from(quote);
    for c in value.chars() {
        if c == quote || c == '\\' {
            text.push('\\');
        }
        text.push(c);
    }
    text.push(quote);
    text
}

proptest! {
    #[test]
    fn any_text_is_a_context_or_refused(text in "\\PC*", marks in "[a-c=,\"' \\\\{}:]{0,40}") {
        for text in [text, marks] {
            if !text.starts_with("file://") {
                let _ = pairs("--x", &text);
            }
        }
    }

    #[test]
    fn any_pairs_come_back_from_shorthand_and_json(
        pairs in proptest::collection::btree_map("[a-zA-Z0-9:_./-]{1,20}", "\\PC{0,20}", 1..5),
        quote in prop::sample::select(vec!['"', '\'']),
    ) {
        let pairs: BTreeMap<String, String> = pairs;
        let expected: Vec<(String, String)> = pairs.clone().into_iter().collect();
        let shorthand: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", quoted(value, quote)))
            .collect();
        prop_assert_eq!(&super::pairs("--x", &shorthand.join(",")).unwrap(), &expected);
        let json = serde_json::to_string(&pairs).unwrap();
        prop_assert_eq!(&super::pairs("--x", &json).unwrap(), &expected);
    }
}
