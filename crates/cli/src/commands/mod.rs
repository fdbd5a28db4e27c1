//! One module per subcommand.

pub mod bench;
pub mod decode;
pub mod encode;
pub mod generate;
pub mod inspect;
pub mod models;
pub mod plan;
pub mod show;
pub mod story;
pub mod suite;
