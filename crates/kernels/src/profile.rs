//! The time of each operator, measured while [`profiled`] runs. Otherwise it costs next to nothing: reading one
//! thread-local variable.

use candle_core::Device;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// The calls, time and work of one operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatorTime {
    /// Its entry function.
    pub operator: &'static str,
    /// The number of calls.
    pub calls: usize,
    /// Time in it, all calls together.
    pub time: Duration,
    /// Arithmetic of all calls together.
    pub work: Work,
}

/// Multiplications and additions, counted one by one, in which arithmetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// 32-bit floating point, whatever the operands are stored in.
    F32(f64),
    /// Products of bf16.
    Bf16(f64),
    /// Products of 8-bit integers.
    Int8(f64),
    /// Bound by memory: not counted.
    Moves,
}

impl Work {
    /// Returns the number of operations, if they are counted.
    pub fn operations(self) -> Option<f64> {
        match self {
            Self::F32(operations) | Self::Bf16(operations) | Self::Int8(operations) => Some(operations),
            Self::Moves => None,
        }
    }

    /// Work of the same kind together; the first says which.
    fn and(self, other: Self) -> Self {
        let operations = other.operations().unwrap_or(0.0);
        match self {
            Self::F32(own) => Self::F32(own + operations),
            Self::Bf16(own) => Self::Bf16(own + operations),
            Self::Int8(own) => Self::Int8(own + operations),
            Self::Moves => Self::Moves,
        }
    }
}

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
    static TIMES: RefCell<Vec<OperatorTime>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` and counts the operators that it calls on this thread, those with the most time first.
pub fn profiled<T>(f: impl FnOnce() -> T) -> (T, Vec<OperatorTime>) {
    let before = TIMES.take();
    let was_counting = COUNTING.replace(true);
    let out = f();
    COUNTING.set(was_counting);
    let mut times = TIMES.replace(before);
    times.sort_by_key(|time| std::cmp::Reverse(time.time));
    (out, times)
}

/// [`profiled`] on a device that computes behind the caller's back: every operator is waited for.
pub fn profiled_on<T>(device: &Device, f: impl FnOnce() -> T) -> (T, Vec<OperatorTime>) {
    let before = DEVICE.replace(Some(device.clone()));
    let out = profiled(f);
    DEVICE.set(before);
    out
}

/// Whether operators of this thread are counted now.
pub(crate) fn counts() -> bool {
    COUNTING.get()
}

/// Waits for the device that is profiled, if there is one. What it fails on, it fails on later too.
fn wait() {
    DEVICE.with_borrow(|device| device.as_ref().map(Device::synchronize));
}

/// Runs `f`, the operator itself; an operator inside another one counts as part of it.
#[inline]
pub(crate) fn timed<T>(operator: &'static str, work: Work, f: impl FnOnce() -> T) -> T {
    if !COUNTING.replace(false) {
        return f();
    }
    wait();
    let start = Instant::now();
    let out = f();
    wait();
    let time = start.elapsed();
    TIMES.with_borrow_mut(|times| match times.iter_mut().find(|entry| entry.operator == operator) {
        Some(entry) => {
            entry.calls += 1;
            entry.time += time;
            entry.work = entry.work.and(work);
        }
        None => times.push(OperatorTime { operator, calls: 1, time, work }),
    });
    COUNTING.set(true);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(times: &[OperatorTime]) -> Vec<(&'static str, usize, Work)> {
        let mut counts: Vec<_> = times.iter().map(|time| (time.operator, time.calls, time.work)).collect();
        counts.sort_by_key(|(operator, ..)| *operator);
        counts
    }

    #[test]
    fn calls_and_work_add_up_and_inner_operators_belong_to_the_outer_one() {
        timed("before", Work::Moves, || ());
        let (out, times) = profiled(|| {
            timed("a", Work::F32(1.0), || timed("inner", Work::F32(10.0), || ()));
            timed("b", Work::Moves, || ());
            timed("a", Work::F32(2.0), || 7)
        });
        assert_eq!(out, 7);
        assert_eq!(counts(&times), [("a", 2, Work::F32(3.0)), ("b", 1, Work::Moves)]);
    }

    #[test]
    fn the_slowest_comes_first_and_profiles_do_not_mix() {
        let sleep = |operator, ms| timed(operator, Work::Moves, || std::thread::sleep(Duration::from_millis(ms)));
        let ((), times) = profiled(|| {
            sleep("short", 1);
            sleep("long", 20);
        });
        assert_eq!(times.iter().map(|time| time.operator).collect::<Vec<_>>(), ["long", "short"]);
        assert!(times[0].time >= Duration::from_millis(20));
        let ((), times) = profiled(|| ());
        assert!(times.is_empty());
    }
}
