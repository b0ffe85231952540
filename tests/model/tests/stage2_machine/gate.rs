// SPDX-License-Identifier: GPL-2.0

//! Runs threads in every order, one memory access at a time.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

thread_local! {
    static SELF: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Lets one of its threads through at a time.
pub struct Gate {
    state: Mutex<Turns>,
    changed: Condvar,
}

struct Turns {
    /// Who may go.
    turn: Option<usize>,
    waiting: Vec<bool>,
    done: Vec<bool>,
}

impl Gate {
    fn new(threads: usize) -> Self {
        Self {
            state: Mutex::new(Turns {
                turn: None,
                waiting: vec![false; threads],
                done: vec![false; threads],
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for this thread's turn. Threads that are not the gate's pass.
    pub fn pass(&self) {
        let Some(me) = SELF.get() else { return };
        let mut turns = self.lock();
        turns.waiting[me] = true;
        self.changed.notify_all();
        while turns.turn != Some(me) {
            turns = self
                .changed
                .wait(turns)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        turns.turn = None;
        turns.waiting[me] = false;
    }

    fn finish(&self, me: usize) {
        self.lock().done[me] = true;
        self.changed.notify_all();
    }

    /// Waits until all threads wait or are done; those that wait.
    fn settle(&self) -> Vec<usize> {
        let mut turns = self.lock();
        loop {
            let busy = (0..turns.done.len())
                .any(|t| turns.turn == Some(t) || !(turns.waiting[t] || turns.done[t]));
            if !busy {
                return (0..turns.done.len())
                    .filter(|&t| turns.waiting[t])
                    .collect();
            }
            turns = self
                .changed
                .wait(turns)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn let_go(&self, thread: usize) {
        self.lock().turn = Some(thread);
        self.changed.notify_all();
    }
}

struct Finish(Arc<Gate>, usize);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish(self.1);
    }
}

/// Runs `scenario` once for every order of its threads' accesses with at most `preemptions` switches away from a thread
/// that could go on. It is given a gate, and returns the threads' bodies and what to do when all have ended.
///
/// Returns how many orders there were.
pub fn every_order<'a, T, F>(threads: usize, preemptions: usize, mut scenario: F) -> usize
where
    T: Send + 'static,
    F: FnMut(
        Arc<Gate>,
    ) -> (
        Vec<Box<dyn FnOnce() -> T + Send>>,
        Box<dyn FnOnce(Vec<T>) + 'a>,
    ),
{
    // The choices of the run before, and how many there were at each.
    let mut path: Vec<(usize, usize)> = Vec::new();
    let mut orders = 0;
    loop {
        let gate = Arc::new(Gate::new(threads));
        let (bodies, check) = scenario(gate.clone());
        assert_eq!(bodies.len(), threads);
        let running: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(me, body)| {
                let gate = gate.clone();
                thread::spawn(move || {
                    SELF.set(Some(me));
                    let finish = Finish(gate.clone(), me);
                    let result = body();
                    SELF.set(None);
                    drop(finish);
                    result
                })
            })
            .collect();
        let (mut depth, mut last, mut left) = (0, None, preemptions);
        loop {
            let mut ready = gate.settle();
            if ready.is_empty() {
                break;
            }
            // First to go on with the same thread; with no preemptions left, only that.
            if let Some(same) = last.and_then(|last| ready.iter().position(|&t| t == last)) {
                ready.swap(0, same);
                if left == 0 {
                    ready.truncate(1);
                }
            }
            let choice = match path.get(depth) {
                Some(&(choice, _)) => choice,
                None => {
                    path.push((0, ready.len()));
                    0
                }
            };
            let thread = ready[choice];
            if last.is_some_and(|last| last != thread && ready.contains(&last)) {
                left -= 1;
            }
            last = Some(thread);
            depth += 1;
            gate.let_go(thread);
        }
        let results = running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        check(results);
        orders += 1;
        path.truncate(depth);
        loop {
            match path.pop() {
                None => return orders,
                Some((choice, of)) if choice + 1 < of => {
                    path.push((choice + 1, of));
                    break;
                }
                Some(_) => {}
            }
        }
    }
}
