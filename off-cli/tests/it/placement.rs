//! Where the sources of all crates may have SQL, subjects and names of streams.

use crate::sources::sources;
use off_events::streams::STREAMS;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeSet;

/// Files and folders that may have queries outside of `store`, each with the reason.
const MAY_QUERY: [(&str, &str); 6] = [
    ("off-bench/", "it measures queries"),
    ("off-kit/src/db", "it sets up and checks connections"),
    ("off-kit/src/outbox", "it is the store of the outbox"),
    ("off-migrations/", "it is the schema"),
    ("off-servers/", "it creates the database"),
    ("off-testkit/", "it prepares data for tests"),
];

/// The beginnings of literals that look like subjects and are allowed, each with the reason.
const ALLOWED_LITERALS: [(&str, &str); 1] = [("users.conf", "it is a file")];

/// The tokens of each source file without its tests, by its path in the workspace.
fn sources_without_tests() -> Vec<(String, Vec<TokenTree>)> {
    let sources = sources().into_iter().filter(|(path, _)| !path.ends_with("tests.rs"));
    let tokens = sources.map(|(path, text)| {
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.to_str().unwrap().to_owned(), without_tests(tokens))
    });
    tokens.collect()
}

/// The tokens one after another, without delimiters, and without items that have `#[cfg(test)]`.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut is_test = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) if is_test => is_test = group.delimiter() != Delimiter::Brace,
            TokenTree::Punct(mark) if is_test => is_test = mark.as_char() != ';',
            _ if is_test => {}
            TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)" => is_test = true,
            TokenTree::Group(group) => kept.extend(without_tests(group.stream())),
            _ => kept.push(token),
        }
    }
    kept
}

fn is_store(name: &str) -> bool {
    name.ends_with("/store.rs") || name.contains("/store/")
}

#[test]
fn queries_are_only_in_store() {
    let mut queries = 0;
    for (name, tokens) in sources_without_tests() {
        let begins_query = |tokens: &[TokenTree]| {
            let words: Vec<String> = tokens.iter().map(ToString::to_string).collect();
            words[..3] == ["sqlx", ":", ":"] && (words[3].starts_with("query") || words[3].starts_with("raw_sql"))
        };
        let found = tokens.windows(4).filter(|tokens| begins_query(tokens)).count();
        let is_allowed =
            is_store(&name) || name.contains("/tests/") || MAY_QUERY.iter().any(|(path, _)| name.starts_with(path));
        assert!(found == 0 || is_allowed, "{name} has a query: move it to `store`");
        queries += found;
    }
    assert!(queries > 50, "too few queries found: {queries}");
}

#[test]
fn subjects_and_names_of_streams_are_only_in_off_events() {
    let prefixes: BTreeSet<String> = STREAMS
        .iter()
        .flat_map(|stream| stream.subjects)
        .map(|subject| format!("{}.", subject.split('.').next().unwrap()))
        .collect();
    assert!(prefixes.contains("orders.") && prefixes.contains("dead."), "{prefixes:?}");
    let is_subject = |text: &str| {
        let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_str()));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase() || "*>{".contains(first)))
    };
    let (mut literals, mut known) = (0, 0);
    for (name, tokens) in sources_without_tests() {
        for text in tokens.into_iter().filter_map(string) {
            literals += 1;
            if !is_subject(&text) && !STREAMS.iter().any(|stream| stream.name == text) {
                continue;
            }
            known += 1;
            let is_allowed = name.starts_with("off-events/")
                || ALLOWED_LITERALS.iter().any(|(allowed, _)| text.starts_with(allowed));
            assert!(is_allowed, "{name} has the literal {text:?}: use a constant of off-events");
        }
    }
    assert!(literals > 1000 && known > 10, "too few literals found: {known} of {literals}");
}

/// The value of a string literal.
fn string(token: TokenTree) -> Option<String> {
    Some(syn::parse2::<syn::LitStr>(TokenStream::from(token)).ok()?.value())
}
