//! Clips to be made: from the moment in which they are accepted to their deletion.
//!
//! A clip is *queued*; a worker claims it, so that it is *running*; it ends as *succeeded*, *failed* or *cancelled*.
//! Every claim has a number, the attempt, and what a worker reports counts only while its attempt is the clip's last
//! one: a worker that was thought dead and wakes up changes nothing. Functions for owners take the owner, and do not
//! find the clips of others.

mod change;
mod changed;
mod claim;
mod insert;
mod list;
mod order;
mod row;
mod worker;

pub(in crate::store) use change::check_unused;
pub use change::{Cancel, Edit, cancel, cancel_waiting, delete, edit, expire, pause, star};
pub(in crate::store) use changed::take_changed;
pub use claim::claim;
pub use insert::{NewJob, insert};
pub(in crate::store) use list::check_storage;
pub use list::{Filter, Order, Page, before, by_external, count, get, held, list, numbered_page, storage, waiting};
pub use order::move_before;
pub use row::{Api, Job, Kind, Status};
pub use worker::{ATTEMPTS, Done, End, cancelled, fail, lapse, progress, recover, renew, requeue, succeed};
