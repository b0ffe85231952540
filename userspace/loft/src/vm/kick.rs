// SPDX-License-Identifier: Apache-2.0
//! Getting a vCPU thread out of KVM_RUN.
//!
//! A signal alone is not enough: it may arrive between the thread's last look at the stop flag and the ioctl. So the
//! handler also sets `immediate_exit` in the vCPU's shared page, which KVM_RUN looks at after signals are masked
//! (Documentation/virt/kvm/api.rst, section 5): whichever comes first, KVM_RUN returns EINTR.

use anyhow::{Context, Result};
use kvm_ioctls::VcpuFd;
use std::cell::Cell;
use std::thread::JoinHandle;
use vmm_sys_util::signal::{register_signal_handler, Killable};

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs.
    static FLAG: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

/// An offset from SIGRTMIN, as vmm-sys-util counts signals.
const KICK: i32 = 0;

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let flag = FLAG.get();
    if !flag.is_null() {
        // SAFETY: a non-null flag points into the shared page of a vCPU that this very thread owns: `Guard` clears it
        // before the page is unmapped. The kernel reads the byte; nobody else writes it.
        unsafe { flag.write_volatile(1) };
    }
}

/// Installs the signal handler, once, before any vCPU thread starts.
pub fn install() -> Result<()> {
    register_signal_handler(vmm_sys_util::signal::SIGRTMIN() + KICK, on_kick).context("cannot install a signal handler")
}

/// Makes kicks reach `vcpu` for as long as it lives.
pub struct Guard(());

impl Guard {
    /// To be called in the thread that runs `vcpu`, and dropped before `vcpu` is.
    pub fn new(vcpu: &mut VcpuFd) -> Self {
        FLAG.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Self(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        FLAG.set(std::ptr::null_mut());
    }
}

/// Kicks the vCPU that `thread` runs. A thread that has ended is left alone.
pub fn kick<T>(thread: &JoinHandle<T>) {
    if !thread.is_finished() {
        let _ = thread.kill(vmm_sys_util::signal::SIGRTMIN() + KICK);
    }
}

/// Kicks the vCPU that the calling thread runs, from another thread; not to be called once that has ended.
pub fn of_this_thread() -> Box<dyn Fn() + Send> {
    let (process, thread) = (nix::unistd::getpid().as_raw(), nix::unistd::gettid().as_raw());
    let signal = vmm_sys_util::signal::SIGRTMIN() + KICK;
    Box::new(move || {
        // SAFETY: tgkill takes three numbers, and sends the signal to a thread of this process or to nobody.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    })
}
