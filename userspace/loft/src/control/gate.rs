// SPDX-License-Identifier: Apache-2.0
//! Where vCPU threads wait while their guest is paused, or a debugger has stopped it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How long the threads may take to arrive.
const LIMIT: Duration = Duration::from_secs(5);

/// Gets one thread out of the guest.
pub type Kick = Box<dyn Fn() + Send>;

/// Which threads a debugger holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Held {
    /// None.
    #[default]
    Nobody,
    /// All.
    All,
    /// All but these.
    AllBut(Vec<usize>),
}

impl Held {
    fn holds(&self, id: usize) -> bool {
        match self {
            Self::Nobody => false,
            Self::All => true,
            Self::AllBut(free) => !free.contains(&id),
        }
    }
}

#[derive(Default)]
struct Inner {
    /// Of the threads that go through here.
    kicks: Vec<(usize, Kick)>,
    waiting: usize,
    /// Whether the user has paused the guest.
    paused: bool,
    debugger: Held,
    /// What is to be done when it opens.
    openers: Vec<Box<dyn Fn() + Send>>,
    /// Whether it stays open.
    removed: bool,
}

impl Inner {
    fn holds(&self, id: usize) -> bool {
        !self.removed && (self.paused || self.debugger.holds(id))
    }
}

/// A gate, open at first.
#[derive(Default)]
pub struct Gate {
    /// Whether anybody may have to wait. Changed with the lock held.
    closed: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// A thread that goes through the gate.
pub struct Passer<'a> {
    gate: &'a Gate,
    id: usize,
}

impl Gate {
    /// To be called by the thread `id`; `kick` gets it out of the guest.
    pub fn enter(&self, id: usize, kick: Kick) -> Passer<'_> {
        self.locked().kicks.push((id, kick));
        Passer { gate: self, id }
    }

    /// Closes the gate, and returns when every thread waits at it. False if one does not arrive.
    pub fn close(&self) -> bool {
        let mut inner = self.locked();
        inner.paused = true;
        self.all_wait(inner)
    }

    /// Closes the gate, unless it was removed, and waits for nobody. True if it was open.
    pub fn begin_to_close(&self) -> bool {
        let mut inner = self.locked();
        let paused = std::mem::replace(&mut inner.paused, true);
        self.update(&inner);
        !paused && !inner.removed
    }

    /// Has a debugger hold every thread, and returns when all wait. False if one does not arrive.
    pub fn stop_all(&self) -> bool {
        let mut inner = self.locked();
        inner.debugger = Held::All;
        self.all_wait(inner)
    }

    /// Has a debugger hold `held`, and waits for nobody.
    pub fn set_held(&self, held: Held) {
        let mut inner = self.locked();
        inner.debugger = held;
        self.update(&inner);
    }

    /// Takes note of a change, and returns when every thread waits. False if one does not arrive.
    fn all_wait(&self, inner: MutexGuard<'_, Inner>) -> bool {
        self.update(&inner);
        let absent = |inner: &mut Inner| !inner.removed && inner.waiting < inner.kicks.len();
        let (_inner, limit) = self.changed.wait_timeout_while(inner, LIMIT, absent).unwrap_or_else(|e| e.into_inner());
        !limit.timed_out()
    }

    /// Makes the threads go by what `inner` says now.
    fn update(&self, inner: &Inner) {
        let closed = !inner.removed && (inner.paused || inner.debugger != Held::Nobody);
        self.closed.store(closed, Ordering::Release);
        if closed {
            inner.kicks.iter().filter(|(id, _)| inner.holds(*id)).for_each(|(_, kick)| kick());
        }
        self.changed.notify_all();
    }

    /// Has `opener` be called whenever the gate is opened. It does not use the gate.
    pub fn on_open(&self, opener: impl Fn() + Send + 'static) {
        self.locked().openers.push(Box::new(opener));
    }

    /// Opens it, but for what a debugger holds.
    pub fn open(&self) {
        let mut inner = self.locked();
        inner.paused = false;
        self.update(&inner);
        inner.openers.iter().for_each(|opener| opener());
    }

    /// Opens it for good, since its guest ends. What is to be done when it opens is not done.
    pub fn remove(&self) {
        let mut inner = self.locked();
        inner.removed = true;
        self.update(&inner);
    }

    /// Whether a debugger holds a thread. Its guest may be paused or not.
    pub fn is_held(&self) -> bool {
        let inner = self.locked();
        !inner.removed && inner.debugger != Held::Nobody
    }

    /// Whether it is closed, for one thread at least.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Passer<'_> {
    /// Waits while the gate is closed.
    pub fn pass(&self) {
        if self.gate.is_closed() {
            let mut inner = self.gate.locked();
            if !inner.holds(self.id) {
                return;
            }
            inner.waiting += 1;
            self.gate.changed.notify_all();
            let held = |inner: &mut Inner| inner.holds(self.id);
            let mut inner = self.gate.changed.wait_while(inner, held).unwrap_or_else(|e| e.into_inner());
            inner.waiting -= 1;
        }
    }
}

impl Drop for Passer<'_> {
    fn drop(&mut self) {
        self.gate.locked().kicks.retain(|(id, _)| *id != self.id);
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn what_waits_for_the_gate_to_open() {
        let (gate, opened) = (Gate::default(), std::sync::Arc::new(AtomicU64::new(0)));
        let theirs = opened.clone();
        gate.on_open(move || _ = theirs.fetch_add(1, Ordering::Relaxed));
        assert!(gate.begin_to_close() && !gate.begin_to_close());
        assert!(gate.is_closed() && opened.load(Ordering::Relaxed) == 0);
        gate.open();
        assert!(!gate.is_closed() && opened.load(Ordering::Relaxed) == 1);
        gate.remove();
        assert!(!gate.begin_to_close());
        assert!(!gate.is_closed() && opened.load(Ordering::Relaxed) == 1);
    }

    #[test]
    fn a_debugger_lets_one_thread_through() {
        let (gate, stop) = (Gate::default(), AtomicBool::new(false));
        let work = [const { AtomicU64::new(0) }; 3];
        gate.set_held(Held::All);
        std::thread::scope(|scope| {
            for id in 0..3 {
                let (gate, work, stop) = (&gate, &work[id], &stop);
                scope.spawn(move || {
                    let passer = gate.enter(id, Box::new(|| ()));
                    while !stop.load(Ordering::Relaxed) {
                        passer.pass();
                        work.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let counts = || work.each_ref().map(|count| count.load(Ordering::Relaxed));
            let go_on = |of: &[usize]| {
                let before = counts();
                while of.iter().any(|id| counts()[*id] == before[*id]) {
                    std::thread::yield_now();
                }
            };
            gate.set_held(Held::AllBut(vec![1]));
            go_on(&[1]);
            assert_eq!([counts()[0], counts()[2]], [0, 0]);
            assert!(gate.stop_all() && gate.is_closed());
            // Who pauses the guest has nothing to do with the debugger.
            gate.open();
            assert!(gate.is_held());
            let before = counts();
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(counts(), before);
            assert!(gate.close());
            gate.set_held(Held::Nobody);
            assert!(gate.is_closed() && !gate.is_held());
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(counts(), before);
            gate.open();
            go_on(&[0, 1, 2]);
            gate.set_held(Held::All);
            stop.store(true, Ordering::Relaxed);
            gate.remove();
        });
    }

    #[test]
    fn nobody_works_behind_a_closed_gate() {
        let (gate, work, stop) = (Gate::default(), AtomicU64::new(0), AtomicBool::new(false));
        let kicked = std::sync::Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for id in 0..3 {
                let kicked = kicked.clone();
                let (gate, work, stop) = (&gate, &work, &stop);
                scope.spawn(move || {
                    let passer = gate.enter(id, Box::new(move || _ = kicked.fetch_add(1, Ordering::Relaxed)));
                    while !stop.load(Ordering::Relaxed) {
                        passer.pass();
                        work.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while work.load(Ordering::Relaxed) < 1000 {
                std::thread::yield_now();
            }
            for _ in 0..10 {
                assert!(gate.close() && gate.is_closed());
                let before = work.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
                assert_eq!(work.load(Ordering::Relaxed), before);
                gate.open();
                while work.load(Ordering::Relaxed) == before {
                    std::thread::yield_now();
                }
            }
            assert!(kicked.load(Ordering::Relaxed) >= 10);
            stop.store(true, Ordering::Relaxed);
        });
        assert!(gate.close(), "there is nobody to wait for");
    }
}
