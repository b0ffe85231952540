// SPDX-License-Identifier: GPL-2.0

//! What a guest is left for, and what follows: the types that the rooms below hand each other.
//!
//! [`fast`] answers an exit in the vector, with the guest still in the CPU; [`slow`] in the run
//! loop, where nothing sleeps either. What has to sleep they name as [`DeferredWork`]. The other
//! rooms are of one subject each: [`abort`] of memory, [`mmio`] of devices, [`gic`] of the
//! interrupt controller's registers, [`sysreg`] of trapped registers, [`smccc`] of firmware calls,
//! [`traced`] of what a tracer is told.

pub(super) mod abort;
pub(crate) mod fast;
pub(super) mod gic;
pub(super) mod mmio;
pub(super) mod slow;
mod smccc;
pub(super) mod sysreg;
pub(super) mod traced;

use crate::model::esr::Abort;
use crate::model::psci;
use crate::model::types::Ipa;
use crate::model::vgic::GicFrame;
use kernel::prelude::*;

/// What follows a slow exit.
pub(super) enum Next {
    /// Into the guest.
    Resume,
    /// Not before this is done.
    Defer(DeferredWork),
}

/// What has to be done before the guest runs again, with the FP registers given back. It may sleep.
#[derive(Clone, Copy)]
pub(super) enum DeferredWork {
    /// Signals, rescheduling, task work.
    Pending,
    /// What others asked for.
    Requests,
    /// Another vCPU wants this one out of the guest.
    Held,
    /// The VMID in the CPU is not the VM's any more.
    Vmid,
    /// What the guest has in caches that its own accesses may not see has to be in memory.
    Clean,
    /// The guest's memory.
    Fault(MemoryFault),
    /// The interrupt controller's registers, which the vector could not serve.
    Gic(GicAccess),
    /// An ITS's registers.
    Its(ItsAccess),
    /// The memory system has answered an access of the guest's with an error.
    MemoryError(MemoryError),
    /// An abort for the guest, for the walk of its tables.
    WalkedOut(WalkedOut),
    /// The guest wants to know its stolen time from now on.
    StolenTime,
    /// The guest uses its floating point registers, which are not in the CPU.
    FloatingPoint,
    /// Wait for an interrupt, or until the guest's virtual counter shows `end`.
    Wait { end: Option<u64> },
    /// Let another thread run.
    Yield,
    /// Tell others.
    Others,
    /// End KVM_RUN.
    Stop(Stop),
}

/// The end of KVM_RUN.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    /// What userspace is told.
    pub(super) exit: Exit,
    /// What the next KVM_RUN begins with.
    pub(super) answer: Answer,
}

impl From<Exit> for Stop {
    fn from(exit: Exit) -> Self {
        let answer = Answer::None;
        Self { exit, answer }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Exit::from(error).into()
    }
}

/// What userspace's part in an exit was, to be finished when it comes back.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// Nothing.
    None,
    /// A load from a device: the data is in the run page.
    Load(Load),
    /// An instruction that userspace has done: go on behind it.
    Skip,
}

/// Why KVM_RUN returns.
#[derive(Clone, Copy)]
pub(crate) enum Exit {
    /// A device is read or written.
    Mmio {
        ipa: u64,
        data: u64,
        size: u8,
        write: bool,
    },
    /// The guest has asked for the end by PSCI.
    System(psci::SystemEvent),
    /// The guest has asked by PSCI to be suspended.
    Suspend,
    /// A suspended vCPU has an interrupt.
    Wakeup,
    /// A firmware call that userspace has asked for, by SMC or else HVC.
    Hypercall { function: u32, smc: bool },
    /// An access that only userspace could make out, to `ipa`.
    NoSyndrome { iss: u64, ipa: u64 },
    /// An external abort of the guest's, at `gva` if that is not 0, and where that leads.
    MemoryError {
        esr: u64,
        gva: u64,
        gpa: Option<Ipa>,
    },
    /// What a debugger outside of the guest waits for.
    Debug { esr: u64, far: u64 },
    /// A fast exit failed, so the guest's state is lost.
    Internal,
    /// The guest is in a state that cannot be run.
    FailEntry,
    /// A signal, or userspace asked for it.
    Interrupted,
    /// KVM_RUN fails with this errno.
    Failed(Error),
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        if error == EINTR {
            Self::Interrupted
        } else {
            Self::Failed(error)
        }
    }
}

/// What became of an access to a trapped register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is done; the PC is still at the instruction.
    Done,
    /// It is done, and takes effect when the guest is entered anew; the PC is still at the
    /// instruction.
    Reload,
    /// The guest must take an exception instead.
    Undefined,
    /// It has not been done: it cannot be in a fast exit, and the guest's memory has to be cleaned
    /// from the caches then.
    NeedsClean,
    /// It has not been done: it takes longer than a fast exit may.
    NeedsHost,
    /// The interrupt that ICC_DIR_EL1 is to deactivate is in another vCPU's list registers.
    NeedsOthers { deactivate: u64 },
}

/// An access of the guest's that stage 2 did not allow.
#[derive(Clone, Copy)]
pub(super) struct MemoryFault {
    ipa: u64,
    write: bool,
    exec: bool,
    /// All that is missing is the access flag.
    access_flag: bool,
    abort: Abort,
    far: u64,
    /// Ioeventfds have had it already.
    offered: bool,
}

/// An access of the guest's that the memory system answered with an error.
#[derive(Clone, Copy)]
pub(super) struct MemoryError {
    abort: Abort,
    far: u64,
}

/// The guest's walk for `far` found a descriptor where nothing is.
#[derive(Clone, Copy)]
pub(super) struct WalkedOut {
    instruction: bool,
    /// Of the descriptor, good to 4 KiB.
    ipa: u64,
    far: u64,
}

/// A load from a device whose value is not there yet.
#[derive(Clone, Copy)]
pub(super) struct Load {
    abort: Abort,
}

/// What the guest wants of the interrupt controller that the vector could not do.
#[derive(Clone, Copy)]
pub(super) enum GicAccess {
    /// An access to its memory.
    Register {
        abort: Abort,
        frame: GicFrame,
        offset: u32,
    },
    /// A write to ICC_DIR_EL1; the PC is behind it.
    Deactivate { intid: u64 },
}

/// An access to an ITS's registers.
#[derive(Clone, Copy)]
pub(super) struct ItsAccess {
    abort: Abort,
    /// Which of the VM's ITSes.
    number: usize,
    offset: u32,
}

/// What became of an access to something that is not memory.
pub(super) enum DeviceNext {
    /// It is done.
    Resume,
    /// It is to the interrupt controller.
    Gic(GicAccess),
    /// It is to an ITS.
    Its(ItsAccess),
    /// It was for a descriptor of the guest's tables, or an instruction.
    WalkedOut(WalkedOut),
    /// Userspace has to do it.
    Stop(Stop),
}

impl From<DeviceNext> for Next {
    fn from(next: DeviceNext) -> Self {
        Self::Defer(match next {
            DeviceNext::Resume => return Self::Resume,
            DeviceNext::Gic(access) => DeferredWork::Gic(access),
            DeviceNext::Its(access) => DeferredWork::Its(access),
            DeviceNext::WalkedOut(abort) => DeferredWork::WalkedOut(abort),
            DeviceNext::Stop(stop) => DeferredWork::Stop(stop),
        })
    }
}

/// Ends KVM_RUN without an [`Answer`] to be had.
fn leave(exit: Exit) -> Next {
    Next::Defer(DeferredWork::Stop(exit.into()))
}
