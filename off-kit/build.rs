//! A migration that is added is compiled in: the macro that reads them knows only those there were.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
