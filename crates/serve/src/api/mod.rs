//! The interfaces: the server's own, which its page uses, and those whose clients exist already.

pub mod account;
pub mod kling;
pub mod media;
pub mod openai;
pub mod own;
pub mod parts;
pub mod uploads;
