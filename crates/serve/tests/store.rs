//! The store from outside: random sequences against a model, threads, files that are opened again, and each table.

#[path = "store/accounts.rs"]
mod accounts;
#[path = "store/common.rs"]
mod common;
#[path = "store/events.rs"]
mod events;
#[path = "store/files.rs"]
mod files;
#[path = "store/lists.rs"]
mod lists;
#[path = "store/model.rs"]
mod model;
#[path = "store/queue.rs"]
mod queue;
#[path = "store/random.rs"]
mod random;
#[path = "store/tables.rs"]
mod tables;
#[path = "store/threads.rs"]
mod threads;
