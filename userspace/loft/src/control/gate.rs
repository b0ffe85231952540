// SPDX-License-Identifier: Apache-2.0
//! Where vCPU threads wait while their guest is paused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How long the threads may take to arrive.
const LIMIT: Duration = Duration::from_secs(5);

/// Gets one thread out of the guest.
pub type Kick = Box<dyn Fn() + Send>;

#[derive(Default)]
struct Inner {
    /// Of the threads that go through here.
    kicks: Vec<(usize, Kick)>,
    waiting: usize,
    /// What is to be done when it opens.
    openers: Vec<Box<dyn Fn() + Send>>,
    /// Whether it stays open.
    removed: bool,
}

/// A gate, open at first.
#[derive(Default)]
pub struct Gate {
    /// Changed with the lock held.
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
        let inner = self.locked();
        self.shut(&inner);
        let absent = |inner: &mut Inner| !inner.removed && inner.waiting < inner.kicks.len();
        let (_inner, limit) = self.changed.wait_timeout_while(inner, LIMIT, absent).unwrap_or_else(|e| e.into_inner());
        !limit.timed_out()
    }

    /// Closes the gate, unless it was removed, and waits for nobody. True if it was open.
    pub fn begin_to_close(&self) -> bool {
        let inner = self.locked();
        let open = !self.is_closed();
        self.shut(&inner) && open
    }

    /// Closes the gate. False if it was removed.
    fn shut(&self, inner: &Inner) -> bool {
        if !inner.removed {
            self.closed.store(true, Ordering::Release);
            inner.kicks.iter().for_each(|(_, kick)| kick());
        }
        !inner.removed
    }

    /// Has `opener` be called whenever the gate is opened. It does not use the gate.
    pub fn on_open(&self, opener: impl Fn() + Send + 'static) {
        self.locked().openers.push(Box::new(opener));
    }

    /// Opens it.
    pub fn open(&self) {
        let inner = self.locked();
        self.let_through();
        inner.openers.iter().for_each(|opener| opener());
    }

    /// Opens it for good, since its guest ends. What is to be done when it opens is not done.
    pub fn remove(&self) {
        let mut inner = self.locked();
        inner.removed = true;
        self.let_through();
    }

    /// Opens it, with the lock held.
    fn let_through(&self) {
        self.closed.store(false, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether it is closed.
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
            inner.waiting += 1;
            self.gate.changed.notify_all();
            let closed = |_: &mut Inner| self.gate.is_closed();
            let mut inner = self.gate.changed.wait_while(inner, closed).unwrap_or_else(|e| e.into_inner());
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
