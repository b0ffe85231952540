// SPDX-License-Identifier: Apache-2.0
//! What is asked of a session from outside.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

/// Messages that may wait before input is lost.
const WAITING: usize = 64;

/// Something for the session to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Give these bytes to the guest's console.
    Input(Vec<u8>),
    /// The terminal at the console has this many columns and rows.
    Resize(u16, u16),
    /// End the guest at once.
    End,
}

/// Messages on their way to a session.
pub struct Mailbox {
    /// Readable when there are some.
    pub event: EventFd,
    messages: Mutex<VecDeque<Message>>,
}

impl Mailbox {
    /// There are none yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?, messages: Mutex::default() })
    }

    /// Puts `message` in. Input that nobody takes is lost in the end, as on a terminal.
    pub fn send(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(|e| e.into_inner());
        if messages.len() >= WAITING && matches!(message, Message::Input(_)) {
            return;
        }
        messages.push_back(message);
        drop(messages);
        let _ = self.event.write(1);
    }

    /// Takes all messages out.
    pub fn take(&self) -> VecDeque<Message> {
        let _ = self.event.read();
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(|e| e.into_inner()))
    }
}
