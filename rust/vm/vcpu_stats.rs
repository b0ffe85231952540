// SPDX-License-Identifier: GPL-2.0

//! How often a guest was left, and why, and how it waited: counters for userspace
//! (KVM_GET_STATS_FD).
//!
//! Each vCPU has its own, and only its own thread counts, so an increment is a load and a store.
//! Exits that the vector answers are counted by what they are, in one place for each kind. `exits`
//! counts what the vector did not answer, and so did cost the way out to the run loop: KVM's
//! meaning of that name. `exits_all` is the sum of all kinds, which is what KVM's is beside.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Count {
    /// The guest was left for the run loop.
    Exits,
    /// HVCs, wherever they are answered, like all down to the interrupts.
    Hvc,
    Sysreg,
    Wfe,
    Wfi,
    Abort,
    Irq,
    /// Exits of any other kind.
    Other,
    /// All exits; see [`Stats::values`].
    #[allow(dead_code)]
    All,
    /// Of the exits those by a system register,
    SysregLeft,
    /// by an access to memory or a device,
    AbortLeft,
    /// by an interrupt, or because of one for somebody else,
    IrqLeft,
    /// and of these the ones where an interrupt took the guest out at the instruction that it was
    /// entered at. Either it executed none, since the interrupt was pending before, or a loop had
    /// brought it back there.
    IrqInPlace,
    /// An abort whose address the guest's tables no longer translated: it tries again.
    AbortRetried,
    /// Stage 2 got a page.
    Fault,
    /// The guest's floating point registers were fetched.
    FloatingPoint,
    /// A store signalled an ioeventfd.
    Ioeventfd,
    /// KVM_RUN returned for a device in userspace,
    MmioUser,
    /// or an access to a device was answered in the kernel; see [`Stats::values`].
    MmioKernel,
    /// KVM_RUN returned for a signal.
    Signal,
    /// A WFI waited in the vector,
    HaltHere,
    /// until there was something for the guest.
    HaltHereEnded,
    /// A wait began with looking, awake, for its end,
    PollAttempted,
    /// which came before the thread slept.
    PollSuccessful,
    /// Of those that were none. There is no such on arm64, where KVM has the name as well.
    #[allow(dead_code)]
    PollInvalid,
    /// A wait that the thread slept in has ended with something for the vCPU to do.
    Wakeup,
    /// The time of looking, where that was enough,
    PollSuccessNs,
    /// where it was not,
    PollFailNs,
    /// and that of sleeping.
    WaitNs,
    /// Whether it waits now.
    Blocking,
}

/// Of which times there is a histogram.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Histogram {
    PollSuccess,
    PollFail,
    Wait,
}

/// What kind of values there are under a name.
#[derive(Clone, Copy)]
pub(crate) enum StatKind {
    /// How often something happened.
    Number,
    /// How long that took, in sum.
    Nanoseconds,
    /// How often it took 0, 1, 2 to 3, 4 to 7 nanoseconds, and so on.
    NanosecondsHistogram,
    /// 1 while something is so.
    Truth,
}

impl StatKind {
    /// Returns how many values there are.
    pub(crate) const fn values(self) -> usize {
        match self {
            Self::NanosecondsHistogram => BUCKETS,
            _ => 1,
        }
    }
}

/// A name in a file of counters.
pub(crate) struct StatRow {
    pub(crate) name: &'static CStr,
    pub(crate) kind: StatKind,
}

impl StatRow {
    pub(crate) const fn number(name: &'static CStr) -> Self {
        let kind = StatKind::Number;
        Self { name, kind }
    }

    const fn nanoseconds(name: &'static CStr) -> Self {
        let kind = StatKind::Nanoseconds;
        Self { name, kind }
    }

    const fn histogram(name: &'static CStr) -> Self {
        let kind = StatKind::NanosecondsHistogram;
        Self { name, kind }
    }
}

const COUNTS: usize = Count::Blocking as usize + 1;
const HISTOGRAMS: usize = Histogram::Wait as usize + 1;
const BUCKETS: usize = 32;

/// A vCPU's, in the order of [`Count`] and then of [`Histogram`]. Names that KVM has too are KVM's;
/// no other file has any of them, or some readers take neither.
pub(crate) static ROWS: [StatRow; COUNTS + HISTOGRAMS] = [
    StatRow::number(c"exits"),
    StatRow::number(c"hvc_exit_stat"),
    StatRow::number(c"sysreg_exit_stat"),
    StatRow::number(c"wfe_exit_stat"),
    StatRow::number(c"wfi_exit_stat"),
    StatRow::number(c"abort_exit_stat"),
    StatRow::number(c"irq_exit_stat"),
    StatRow::number(c"other_exit_stat"),
    StatRow::number(c"exits_all"),
    StatRow::number(c"sysreg_exits_left"),
    StatRow::number(c"abort_exits_left"),
    StatRow::number(c"irq_exits_left"),
    StatRow::number(c"irq_exits_in_place"),
    StatRow::number(c"abort_exits_retried"),
    StatRow::number(c"stage2_faults"),
    StatRow::number(c"fp_loads"),
    StatRow::number(c"ioeventfd_signals"),
    StatRow::number(c"mmio_exit_user"),
    StatRow::number(c"mmio_exit_kernel"),
    StatRow::number(c"signal_exits"),
    StatRow::number(c"halt_attempted_in_vector"),
    StatRow::number(c"halt_successful_in_vector"),
    StatRow::number(c"halt_attempted_poll"),
    StatRow::number(c"halt_successful_poll"),
    StatRow::number(c"halt_poll_invalid"),
    StatRow::number(c"halt_wakeup"),
    StatRow::nanoseconds(c"halt_poll_success_ns"),
    StatRow::nanoseconds(c"halt_poll_fail_ns"),
    StatRow::nanoseconds(c"halt_wait_ns"),
    StatRow {
        name: c"blocking",
        kind: StatKind::Truth,
    },
    StatRow::histogram(c"halt_poll_success_hist"),
    StatRow::histogram(c"halt_poll_fail_hist"),
    StatRow::histogram(c"halt_wait_hist"),
];

/// The kinds of exits: each is counted as one of these.
const KINDS: [Count; 7] = [
    Count::Hvc,
    Count::Sysreg,
    Count::Wfe,
    Count::Wfi,
    Count::Abort,
    Count::Irq,
    Count::Other,
];

/// A vCPU's counters.
pub(crate) struct Stats {
    counts: [AtomicU64; COUNTS],
    histograms: [[AtomicU64; BUCKETS]; HISTOGRAMS],
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; COUNTS],
            histograms: [const { [const { AtomicU64::new(0) }; BUCKETS] }; HISTOGRAMS],
        }
    }

    /// Counts one more. To be called by the vCPU's own thread, like all that change them.
    #[inline(always)]
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    #[inline(always)]
    fn add(&self, what: Count, more: u64) {
        if let Some(counter) = self.counts.get(what as usize) {
            counter.store(self.get(what).wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// Returns how often `what` was.
    #[inline(always)]
    pub(crate) fn get(&self, what: Count) -> u64 {
        let counter = self.counts.get(what as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn put_into(&self, histogram: Histogram, ns: u64) {
        let bucket = (u64::BITS - ns.leading_zeros()).min(BUCKETS as u32 - 1);
        let histogram = self.histograms.get(histogram as usize);
        if let Some(counter) = histogram.and_then(|buckets| buckets.get(bucket as usize)) {
            let before = counter.load(Ordering::Relaxed);
            counter.store(before.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Notes that the vCPU begins to wait, or has ended it.
    pub(crate) fn waits(&self, waits: bool) {
        if let Some(blocking) = self.counts.get(Count::Blocking as usize) {
            blocking.store(waits.into(), Ordering::Relaxed);
        }
    }

    /// Notes that a wait looked for its end for `ns`, and found it, or was too short for that.
    pub(crate) fn polled(&self, ns: u64, found: bool) {
        self.count(Count::PollAttempted);
        if found {
            self.count(Count::PollSuccessful);
            self.add(Count::PollSuccessNs, ns);
            self.put_into(Histogram::PollSuccess, ns);
        } else {
            self.add(Count::PollFailNs, ns);
            self.put_into(Histogram::PollFail, ns);
        }
    }

    /// Notes that the thread slept for `ns`. `woken`: for the vCPU's sake, not for a signal's.
    pub(crate) fn slept(&self, ns: u64, woken: bool) {
        if woken {
            self.count(Count::Wakeup);
        }
        self.add(Count::WaitNs, ns);
        self.put_into(Histogram::Wait, ns);
    }

    /// Returns all counters as they are now, in the order of [`ROWS`].
    ///
    /// An abort that did not leave for the run loop was an access to a device, but for those that
    /// were tried again: the vector answered it, or an ioeventfd took it. So only the others that
    /// the kernel answers are counted when they happen. All exits are the sum of the kinds.
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> + '_ {
        let gone = self
            .get(Count::AbortLeft)
            .saturating_add(self.get(Count::AbortRetried));
        let all = KINDS
            .iter()
            .fold(0, |sum: u64, kind| sum.saturating_add(self.get(*kind)));
        let answered_at_once = self.get(Count::Abort).saturating_sub(gone);
        let counts = self.counts.iter().enumerate().map(move |(n, counter)| {
            let more = match n {
                n if n == Count::MmioKernel as usize => answered_at_once,
                n if n == Count::All as usize => all,
                _ => 0,
            };
            counter.load(Ordering::Relaxed).wrapping_add(more)
        });
        let buckets = self.histograms.iter().flatten();
        counts.chain(buckets.map(|counter| counter.load(Ordering::Relaxed)))
    }
}
