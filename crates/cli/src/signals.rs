//! Ctrl-C, SIGTERM and a terminal that hangs up stop a run after the network call under way, so that no half-written file
//! is left; a second signal ends the process at once. A hang-up that the parent ignores, as `nohup` does, stays ignored,
//! and SIGQUIT (Ctrl-\) ends the process at once as it does everywhere.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The exit status of an interrupted run is this plus the number of the signal, as in shells.
const AFTER_SIGNAL: i32 = 128;

struct Seen {
    any: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
}

/// Lets a file that grows past the limit of its size be an error of the write, not the end of the process.
pub fn survive_limits() {
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Installs the handlers; later calls do nothing.
pub fn listen() {
    seen();
}

/// Whether a signal has arrived.
pub fn interrupted() -> bool {
    seen().any.load(Ordering::SeqCst)
}

/// Returns the exit status of a stopped run.
pub fn exit_code() -> u8 {
    let signal = match seen().last.load(Ordering::SeqCst) {
        0 => SIGINT as usize,
        signal => signal,
    };
    (AFTER_SIGNAL as usize + signal) as u8
}

/// Ends the process without any clean-up.
pub fn exit_now(status: u8) {
    signal_hook::low_level::exit(status.into());
}

fn seen() -> &'static Seen {
    static SEEN: OnceLock<Seen> = OnceLock::new();
    SEEN.get_or_init(|| {
        let seen = Seen { any: Arc::default(), last: Arc::default() };
        for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up()) {
            // In this order, so that the first signal does not see the flag that it sets. If a handler cannot be
            // installed, a signal ends the process at once, which loses nothing that is on disk.
            let _ = flag::register_conditional_shutdown(signal, AFTER_SIGNAL + signal, seen.any.clone())
                .and_then(|_| flag::register_usize(signal, seen.last.clone(), signal as usize))
                .and_then(|_| flag::register(signal, seen.any.clone()));
        }
        seen
    })
}

/// The signal of a terminal that hangs up, unless it is ignored.
#[cfg(target_os = "linux")]
fn hang_up() -> Option<i32> {
    let hang_up = signal_hook::consts::SIGHUP;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let ignored = u64::from_str_radix(ignored.trim(), 16).ok()?;
    (ignored >> (hang_up - 1) & 1 == 0).then_some(hang_up)
}

/// Whether it is ignored is known on Linux only.
#[cfg(not(target_os = "linux"))]
fn hang_up() -> Option<i32> {
    None
}
