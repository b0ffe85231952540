// SPDX-License-Identifier: GPL-2.0

//! The virtual CPU interface: the list registers, filled from the model of the interrupt controller
//! and given back to it, and the rest, which only the guest and userspace change.

use crate::arch::{cpu, gic};
use crate::model::sysreg::regs::ICH_HCR_EL2;
use crate::model::timer::TimerSet;
use crate::model::vcpus::VcpuId;
use crate::model::vgic::{hcr, CpuIf, LrFile};
use crate::vm::gic::{After, GicModel};
use crate::vm::vcpu_handle::Interface;

/// A vCPU's interface, as its thread has it.
pub(super) struct CpuInterface {
    /// The image of the list registers, and ICH_VMCR_EL2 while the vCPU is not loaded.
    lists: LrFile,
    /// Whether the list registers were filled from the model, and have to be given back to it.
    filled: bool,
    /// The registers beside those two; in the CPU while the vCPU is loaded.
    rest: CpuIf,
    /// What userspace sees of it.
    given: Interface,
}

impl CpuInterface {
    /// Makes the interface out of reset.
    pub(super) fn new() -> Self {
        let cpu = cpu::features();
        Self {
            lists: LrFile::new(cpu.list_registers),
            filled: false,
            rest: CpuIf::new(cpu.vtr),
            given: Interface::new(),
        }
    }

    /// Takes over what userspace has set.
    pub(super) fn accept(&mut self, interface: Interface) {
        self.lists.vmcr = interface.vmcr;
        self.rest = interface.registers.clone();
        self.given = interface;
    }

    /// Returns what userspace should see from now on, unless it is what it sees already: it seldom
    /// changes from one exit to userspace to the next. The vCPU is not loaded.
    pub(super) fn news(&mut self) -> Option<Interface> {
        if self.given.vmcr == self.lists.vmcr && self.given.registers.is_as_active(&self.rest) {
            return None;
        }
        self.given = Interface {
            vmcr: self.lists.vmcr,
            registers: self.rest.clone(),
        };
        Some(self.given.clone())
    }

    /// Returns ICH_VMCR_EL2 as it was when the guest was left.
    pub(super) fn vmcr(&self) -> u64 {
        self.lists.vmcr
    }

    /// Has each access of a guest without interrupt controller trap, to be UNDEFINED. EN is 0, or
    /// what another vCPU has left in the list registers could interrupt.
    pub(super) fn trap_all(&mut self) {
        self.lists.hcr = hcr::TDIR | NO_GIC;
    }

    /// Moves what is pending into the image of the list registers. `active`: the timers whose
    /// physical interrupts are. Returns those of which a list register has the interrupt.
    pub(super) fn fill(&mut self, gic: &GicModel, id: VcpuId, active: TimerSet) -> TimerSet {
        if !self.fill_with_nothing(gic, id) {
            self.filled = true;
            gic.flush(id, &mut self.lists, active);
        }
        self.lists.linked
    }

    /// Does what [`CpuInterface::fill`] does where the model has nothing for the vCPU; false, and
    /// nothing done, where it has.
    #[inline(always)]
    pub(super) fn fill_with_nothing(&mut self, gic: &GicModel, id: VcpuId) -> bool {
        // Seen after the vCPU has said that it is on its way: what is new after this look comes
        // with a kick.
        let nothing = !gic.has_work(id);
        if nothing {
            self.filled = false;
            self.lists.flush_nothing();
        }
        nothing
    }

    /// Writes the list registers, from their image.
    pub(super) fn write(&self) {
        gic::write_lists(&self.lists);
    }

    /// Returns whether the list registers have what is the model's.
    pub(super) fn is_filled(&self) -> bool {
        self.filled
    }

    /// Reads what the guest may have changed although nothing was in its list registers.
    pub(super) fn read_vmcr(&mut self) {
        self.lists.vmcr = gic::vmcr();
    }

    /// Reads the list registers and gives what they have back to the model. Returns the timers
    /// whose physical interrupts the guest has deactivated.
    pub(super) fn take(&mut self, gic: &GicModel, id: VcpuId, after: &mut After) -> TimerSet {
        gic::read_lists(&mut self.lists);
        gic.sync(id, &mut self.lists, after).deactivated
    }

    /// Notes that the model has it all, until the list registers are filled again.
    pub(super) fn set_empty(&mut self) {
        self.filled = false;
    }

    /// Puts into the CPU what outlives a run of the guest.
    pub(super) fn load(&mut self) {
        gic::load(self.lists.vmcr, &self.rest);
        // The list registers here are another vCPU's.
        self.lists.moved(gic::lists_are_empty());
    }

    /// Takes it out of the CPU.
    pub(super) fn save(&mut self) {
        gic::save(&mut self.lists.vmcr, &mut self.rest);
    }
}

/// ICH_HCR_EL2's traps for everything: group 0, group 1 and what they share.
const NO_GIC: u64 = ICH_HCR_EL2::TALL0.mask() | ICH_HCR_EL2::TALL1.mask() | ICH_HCR_EL2::TC.mask();
