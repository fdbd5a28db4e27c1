//! One module per subcommand.

pub mod bench;
pub mod decode;
pub mod encode;
pub mod generate;
pub mod habits;
pub mod inspect;
pub mod keys;
pub mod models;
pub mod plan;
pub mod serve;
pub mod show;
pub mod story;
pub mod suite;
pub mod target;
