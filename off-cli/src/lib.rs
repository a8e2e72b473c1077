#![doc = include_str!("../README.md")]
#![expect(clippy::print_stderr, reason = "a command line program reports errors on standard error")]

mod api;
mod audit;
mod colors;
mod confirm;
mod dead;
mod doctor;
mod documents;
mod down;
mod fault;
pub mod home;
mod keys;
pub mod migrate;
mod password;
mod program;
pub mod report;
pub mod reset;
mod secrets;
pub mod serve;
mod settings;
pub mod stalls;
mod status;
mod system;
mod token;
mod up;
mod user;
mod view;
mod watch;

pub use program::run;
