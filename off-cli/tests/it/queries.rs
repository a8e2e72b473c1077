//! The descriptions in `.sqlx`, against which the compiler checks queries, match the database and the code.

use crate::sources::{sources, workspace};
use off_testkit::Database;
use proc_macro2::{TokenStream, TokenTree};
use serde_json::Value;
use sqlx::{Executor, SqlSafeStr};
use std::{collections::BTreeMap, fs};

const HINT: &str = "run `scripts/prepare-queries` to update .sqlx";

/// The descriptions in `.sqlx`, by query.
fn stored() -> BTreeMap<String, Value> {
    let files = fs::read_dir(workspace().join(".sqlx")).unwrap();
    let stored = files.map(|file| serde_json::from_slice::<Value>(&fs::read(file.unwrap().path()).unwrap()).unwrap());
    stored.map(|mut file| (file["query"].as_str().unwrap().to_owned(), file["describe"].take())).collect()
}

#[tokio::test]
async fn stored_query_descriptions_match_the_migrated_database() {
    let database = Database::new().await;
    let stored = stored();
    assert!(!stored.is_empty());
    for (query, stored) in stored {
        let described = database.pool.describe(sqlx::AssertSqlSafe(query.as_str()).into_sql_str()).await;
        let described = serde_json::to_value(described.unwrap_or_else(|error| panic!("{error}: {query}"))).unwrap();
        assert_eq!(as_compiled(described), as_compiled(stored), "{HINT}; this has changed: {query}");
    }
}

/// Replaces unknown nullability by `true`: which of the two it is depends on the plan, and the macros treat them alike.
fn as_compiled(mut description: Value) -> Value {
    for nullable in description["nullable"].as_array_mut().unwrap() {
        *nullable = Value::Bool(nullable.as_bool().unwrap_or(true));
    }
    description
}

#[test]
fn stored_queries_match_the_code() {
    let mut in_code: Vec<String> = Vec::new();
    for (path, text) in sources() {
        queries_in(text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())), &mut in_code);
    }
    in_code.sort();
    in_code.dedup();
    let stored: Vec<String> = stored().into_keys().collect();
    assert_eq!(in_code, stored, "{HINT}");
}

/// Adds the first string in the parentheses of each `query!`, `query_as!` and `query_scalar!` to `found`.
fn queries_in(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_query = matches!(
            &tokens[..index],
            [.., TokenTree::Ident(name), TokenTree::Punct(mark)]
                if mark.as_char() == '!' && ["query", "query_as", "query_scalar"].iter().any(|query| name == query)
        );
        if is_query {
            found.push(group.stream().into_iter().find_map(string).unwrap_or_else(|| panic!("no string in {group}")));
        }
        queries_in(group.stream(), found);
    }
}

fn string(token: TokenTree) -> Option<String> {
    Some(syn::parse2::<syn::LitStr>(TokenStream::from(token)).ok()?.value())
}
