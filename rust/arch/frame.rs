// SPDX-License-Identifier: GPL-2.0

//! What the assembly in `arch/arm64/entry.S` and Rust share about a vCPU that is in the CPU.

use crate::host::ffi as layout;
use core::mem::offset_of;

/// The guest's general-purpose registers, and what of the host's the world switch has to find
/// again.
///
/// While the guest runs its address is in SP_EL2. The guest's PC and PSTATE are here only between
/// runs of the guest (`loft_enter` stores them when it returns); in a fast exit they are in ELR_EL2
/// and SPSR_EL2.
#[repr(C, align(16))]
pub(crate) struct EntryFrame {
    /// X0 to X30.
    pub(crate) x: [u64; 31],
    /// The guest's SP_EL0.
    pub(crate) sp_el0: u64,
    /// Not 0: the host took an exception in a fast exit, see `loft_host_exception`.
    restored: u64,
    host_sp_el0: u64,
    host_sp: u64,
    /// The host's VBAR_EL2, which differs between CPUs: written when the vCPU is loaded.
    pub(crate) host_vbar: u64,
    /// The host's HCR_EL2.
    pub(crate) host_hcr: u64,
    /// HCR_EL2 while the guest runs.
    pub(crate) guest_hcr: u64,
    /// The guest's PC and PSTATE.
    pub(crate) pc: u64,
    pub(crate) pstate: u64,
    host_key: [u64; 2],
    /// APIAKey, low and high half.
    pub(crate) guest_key: [u64; 2],
    /// 1 if the host and so the guest have pointer authentication.
    pub(crate) has_pauth: u64,
    /// Not 0: an error of the guest's came to light on the way out of it, see
    /// [`EntryFrame::take_error`].
    disr: u64,
    /// What the guest was left for.
    pub(crate) syndrome: Syndrome,
    /// HCR_EL2 as the guest left it: the CPU clears VSE when the guest takes the virtual SError.
    pub(crate) left_hcr: u64,
}

/// The registers that say what a synchronous exit or a fault was about, as the vector has found
/// them.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Syndrome {
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) hpfar: u64,
}

const _: () = {
    assert!(offset_of!(EntryFrame, x) == layout::FRAME_X as usize);
    assert!(offset_of!(EntryFrame, sp_el0) == layout::FRAME_SP_EL0 as usize);
    assert!(offset_of!(EntryFrame, restored) == layout::FRAME_RESTORED as usize);
    assert!(offset_of!(EntryFrame, host_sp_el0) == layout::FRAME_HOST_SP_EL0 as usize);
    assert!(offset_of!(EntryFrame, host_sp) == layout::FRAME_HOST_SP as usize);
    assert!(offset_of!(EntryFrame, host_vbar) == layout::FRAME_HOST_VBAR as usize);
    assert!(offset_of!(EntryFrame, host_hcr) == layout::FRAME_HOST_HCR as usize);
    assert!(offset_of!(EntryFrame, guest_hcr) == layout::FRAME_GUEST_HCR as usize);
    assert!(offset_of!(EntryFrame, pc) == layout::FRAME_ELR as usize);
    assert!(offset_of!(EntryFrame, pstate) == layout::FRAME_SPSR as usize);
    assert!(offset_of!(EntryFrame, host_key) == layout::FRAME_HOST_KEY as usize);
    assert!(offset_of!(EntryFrame, guest_key) == layout::FRAME_GUEST_KEY as usize);
    assert!(offset_of!(EntryFrame, has_pauth) == layout::FRAME_HAS_PAUTH as usize);
    assert!(offset_of!(EntryFrame, disr) == layout::FRAME_DISR as usize);
    assert!(offset_of!(EntryFrame, syndrome.esr) == layout::FRAME_ESR as usize);
    assert!(offset_of!(EntryFrame, syndrome.far) == layout::FRAME_FAR as usize);
    assert!(offset_of!(EntryFrame, syndrome.hpfar) == layout::FRAME_HPFAR as usize);
    assert!(offset_of!(EntryFrame, left_hcr) == layout::FRAME_LEFT_HCR as usize);
    assert!(size_of::<EntryFrame>() == layout::FRAME_SIZE as usize);
};

impl EntryFrame {
    pub(crate) fn new(has_pauth: bool) -> Self {
        Self {
            x: [0; 31],
            sp_el0: 0,
            restored: 0,
            host_sp_el0: 0,
            host_sp: 0,
            host_vbar: 0,
            host_hcr: 0,
            guest_hcr: 0,
            pc: 0,
            pstate: 0,
            host_key: [0; 2],
            guest_key: [0; 2],
            has_pauth: has_pauth.into(),
            disr: 0,
            syndrome: Syndrome::default(),
            left_hcr: 0,
        }
    }

    /// Takes DISR_EL1, if it had something when the guest was left: an SError that the guest's
    /// accesses led to, but that had not been taken. The exit itself was taken before it.
    #[inline]
    pub(crate) fn take_error(&mut self) -> Option<u64> {
        match self.disr {
            0 => None,
            disr => {
                self.disr = 0;
                Some(disr)
            }
        }
    }

    /// Returns whether [`EntryFrame::take_error`] has something.
    #[inline]
    pub(crate) fn has_error(&self) -> bool {
        self.disr != 0
    }
}

extern "C" {
    /// Enters the guest: see `arch/arm64/entry.S`.
    pub(super) fn loft_enter(frame: *mut EntryFrame) -> u64;
}
