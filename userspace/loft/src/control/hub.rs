// SPDX-License-Identifier: Apache-2.0
//! Where the console's output goes beside the launcher's own: to everybody who is attached, and into a memory of the last of it.

use std::collections::VecDeque;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of output that whoever attaches is shown first.
const KEEP: usize = 64 << 10;
/// Pieces of output that may wait for a listener. One that is slower is let go: the guest waits for nobody.
const WAITING: usize = 4096;

#[derive(Default)]
struct Inner {
    recent: VecDeque<u8>,
    listeners: Vec<(u64, SyncSender<Arc<[u8]>>)>,
    next: u64,
}

/// The console's listeners.
#[derive(Default)]
pub struct Hub(Mutex<Inner>);

/// What one of them hears, until it is dropped.
pub struct Listener<'a> {
    hub: &'a Hub,
    id: u64,
    /// Ends when the listener was too slow, or was detached.
    pub output: Receiver<Arc<[u8]>>,
}

impl Hub {
    /// Gives `bytes` to everybody.
    pub fn push(&self, bytes: &[u8]) {
        let mut inner = self.locked();
        inner.recent.extend(bytes);
        let excess = inner.recent.len().saturating_sub(KEEP);
        drop(inner.recent.drain(..excess));
        if !inner.listeners.is_empty() {
            let piece: Arc<[u8]> = bytes.into();
            inner.listeners.retain(|(_, listener)| listener.try_send(piece.clone()).is_ok());
        }
    }

    /// A new listener, and the last output before it.
    pub fn attach(&self) -> (Listener<'_>, Vec<u8>) {
        let (sender, output) = sync_channel(WAITING);
        let mut inner = self.locked();
        let id = inner.next;
        inner.next += 1;
        inner.listeners.push((id, sender));
        (Listener { hub: self, id, output }, inner.recent.iter().copied().collect())
    }

    /// Ends what the listener `id` hears.
    pub fn detach(&self, id: u64) {
        self.locked().listeners.retain(|(other, _)| *other != id);
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Listener<'_> {
    /// For [`Hub::detach`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.hub.detach(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_the_end_of_the_past_and_all_that_follows() {
        let hub = Hub::default();
        hub.push(&vec![b'x'; KEEP]);
        hub.push(b"before");
        let (listener, past) = hub.attach();
        assert!(past.len() == KEEP && past.ends_with(b"xbefore"));
        hub.push(b"after");
        assert_eq!(&*listener.output.recv().unwrap(), b"after");
        hub.detach(listener.id());
        assert!(listener.output.recv().is_err());
    }

    #[test]
    fn who_does_not_listen_is_let_go() {
        let hub = Hub::default();
        let (slow, _) = hub.attach();
        let (_other, _) = hub.attach();
        for _ in 0..=WAITING {
            hub.push(b".");
        }
        assert_eq!(slow.output.iter().count(), WAITING);
        assert_eq!(hub.locked().listeners.len(), 0);
    }
}
