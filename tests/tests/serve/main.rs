//! `kinora serve` from outside: the program, asked over a socket, with the model that ships with it.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing, and so is what was skipped")]

mod bombs;
mod document;
mod flood;
mod full;
mod guarded;
mod hooks;
mod killed;
mod kling;
mod limits;
mod made;
mod openai;
mod receiver;
mod served;
mod story;
mod times;
mod uploads;
