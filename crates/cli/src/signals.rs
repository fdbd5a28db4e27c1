//! Ctrl-C and SIGTERM stop a run after the network call under way, so that no half-written file is left; a second
//! signal ends the process at once. Other signals keep their handlers, such as the hang-up that `nohup` ignores.

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

fn seen() -> &'static Seen {
    static SEEN: OnceLock<Seen> = OnceLock::new();
    SEEN.get_or_init(|| {
        let seen = Seen { any: Arc::default(), last: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal does not see the flag that it sets. If a handler cannot be
            // installed, a signal ends the process at once, which loses nothing that is on disk.
            let _ = flag::register_conditional_shutdown(signal, AFTER_SIGNAL + signal, seen.any.clone())
                .and_then(|_| flag::register_usize(signal, seen.last.clone(), signal as usize))
                .and_then(|_| flag::register(signal, seen.any.clone()));
        }
        seen
    })
}
