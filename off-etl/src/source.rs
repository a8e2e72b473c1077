//! Where records come from.

pub mod api;
pub(crate) mod lines;

/// The built-in sample: about a thousand invented products in the shape of the export, with its dirt.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../sample/products.jsonl");
