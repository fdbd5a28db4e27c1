//! `kinora serve`: a page, a queue and the interfaces of a video generator, on one's own machine.
//!
//! - [`Config`] says what the operator allows: addresses, tiers, prices, limits and retention.
//! - [`Store`] keeps clips, uploads, keys and accounts in one SQLite file. Everything that was accepted survives a crash.
//! - [`Server`] answers; it decodes nothing and computes nothing.
//! - [`work`] is the other side: a process that makes clips with the library. The server starts it, and starts it again.

mod api;
mod app;
mod body;
mod child;
pub mod config;
mod create;
mod decode;
mod desk;
mod disk;
mod dto;
mod error;
mod events;
mod fault;
mod guard;
mod hooks;
pub mod id;
mod idempotent;
mod inputs;
mod link;
mod listen;
mod openapi;
mod outgoing;
mod over;
mod percent;
mod pool;
mod protocol;
mod routes;
pub mod secrets;
mod sent;
mod server;
mod slots;
pub mod store;
mod token;
mod view;
mod web;
mod work;
mod zone;

pub use child::Program;
pub use config::Config;
pub use dto::{ClipRequest, FieldError};
pub use error::{Error, Result};
pub use server::Server;
pub use store::Store;
pub use work::work;
pub use zone::{Day, Zone};
