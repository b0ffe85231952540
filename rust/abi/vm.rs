// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a VM.

use super::{capability, device, event, stats, user, vm_attributes};
use crate::host::ffi::*;
use crate::host::{anon_inode::NewFd, file::FileObject, trace};
use crate::model::sysreg::regs::HCR_EL2;
use crate::model::types::Ipa;
use crate::model::vcpus::VcpuId;
use crate::model::vgic::{IntId, Line};
use crate::vcpu::Vcpu;
use crate::vm::memory::MemSlot;
use crate::vm::vm_stats::VmStat;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::seq_file::{seq_print, SeqFile};
use kernel::sync::Arc;
use kernel::transmute::AsBytes;
use kernel::uaccess::{UserPtr, UserSlice};

impl FileObject for Vm {
    const NAME: &'static CStr = c"loft-vm";

    fn ioctl(this: &Arc<Self>, command: u32, argument: usize) -> Result<isize> {
        if !this.is_mine() {
            return Err(EIO);
        }
        match command {
            LOFT_KVM_CHECK_EXTENSION => capability::check(argument, Some(this)),
            LOFT_KVM_CREATE_VCPU => create_vcpu(this, argument),
            LOFT_KVM_GET_STATS_FD => stats::of_vm(this),
            LOFT_KVM_SET_USER_MEMORY_REGION => {
                let region: kvm_userspace_memory_region = user::read(argument)?;
                let flags = KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES;
                set_memory(
                    this,
                    region.slot,
                    region.flags,
                    flags,
                    region.guest_phys_addr,
                    region.memory_size,
                    region.userspace_addr,
                )
            }
            LOFT_KVM_SET_USER_MEMORY_REGION2 => {
                let region: kvm_userspace_memory_region2 = user::read(argument)?;
                let flags = KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES;
                set_memory(
                    this,
                    region.slot,
                    region.flags,
                    flags,
                    region.guest_phys_addr,
                    region.memory_size,
                    region.userspace_addr,
                )
            }
            LOFT_KVM_GET_DIRTY_LOG => get_dirty_log(this, user::read(argument)?),
            LOFT_KVM_CLEAR_DIRTY_LOG => clear_dirty_log(this, user::read(argument)?),
            LOFT_KVM_ARM_PREFERRED_TARGET => {
                let init = kvm_vcpu_init {
                    target: KVM_ARM_TARGET_GENERIC_V8,
                    ..Default::default()
                };
                user::write(argument, &init)?;
                Ok(0)
            }
            LOFT_KVM_CREATE_DEVICE => device::create(this, argument),
            // On arm64 there is no status: the second answers with what it was asked.
            LOFT_KVM_IRQ_LINE | LOFT_KVM_IRQ_LINE_STATUS => irq_line(this, user::read(argument)?),
            LOFT_KVM_IRQFD => event::irqfd(this, user::read(argument)?),
            LOFT_KVM_IOEVENTFD => event::ioeventfd(this, user::read(argument)?),
            LOFT_KVM_SET_GSI_ROUTING => event::set_routing(this, argument),
            LOFT_KVM_SIGNAL_MSI => event::signal_msi(this, user::read(argument)?),
            LOFT_KVM_ENABLE_CAP => vm_attributes::enable_capability(this, user::read(argument)?),
            LOFT_KVM_HAS_DEVICE_ATTR => vm_attributes::has(&user::read(argument)?),
            LOFT_KVM_SET_DEVICE_ATTR => vm_attributes::set(this, &user::read(argument)?),
            LOFT_KVM_ARM_SET_COUNTER_OFFSET => {
                vm_attributes::set_counter_offset(this, user::read(argument)?)
            }
            LOFT_KVM_ARM_GET_REG_WRITABLE_MASKS => {
                vm_attributes::writable_masks(user::read(argument)?)
            }
            _ => Err(EINVAL),
        }
    }

    fn show_fdinfo(&self, to: &SeqFile) {
        let slots = self.memory.slots();
        let ipa_bits = self.memory.end().trailing_zeros();
        seq_print!(to, "vm:\t{}\n", self.number);
        seq_print!(to, "vcpus:\t{}\n", self.vcpu_count());
        seq_print!(to, "memory:\t{} kB\n", slots.size() / 1024);
        seq_print!(to, "ipa_bits:\t{ipa_bits}\n");
        // Whoever sets the interrupt controller up may wait for memory.
        if let Some(setup) = self.gic.setup.try_lock() {
            let kind = if setup.created { "GICv3" } else { "none" };
            seq_print!(to, "irqchip:\t{kind}\n");
        }
        for counter in VmStat::all() {
            seq_print!(to, "{}:\t{}\n", counter.name, self.stats.get(counter));
        }
    }

    fn release(&self) {
        self.events.close();
    }
}

fn create_vcpu(vm: &Arc<Vm>, number: usize) -> Result<isize> {
    let number = u32::try_from(number).map_err(|_| EINVAL)?;
    if number as usize >= VcpuId::LIMIT {
        return Err(EINVAL);
    }
    let _alone = vm.making_vcpu.lock();
    let config = vm.config.lock();
    vm.gic.admit(vm.vcpu_count(), vm.memory.end())?;
    if vm.vcpu_by_number(number).is_some() {
        return Err(EEXIST);
    }
    let id = VcpuId::new(vm.vcpu_count()).ok_or(EINVAL)?;
    drop(config);
    let vcpu = Vcpu::new(vm.clone(), id, number)?;
    let handle = vcpu.handle.clone();
    let fd = NewFd::prepare(vcpu)?;
    let config = vm.config.lock();
    // The interrupt controller may have been initialised meanwhile, for the vCPUs that there were.
    vm.gic.admit(vm.vcpu_count(), vm.memory.end())?;
    vm.add_vcpu(handle)?;
    drop(config);
    Ok(fd.install())
}

/// How many pages a slot may have, as in KVM: that bounds the log of those that are written, and
/// each walk through it.
const MAX_SLOT_PAGES: u64 = (1 << 31) - 1;

#[allow(clippy::too_many_arguments)]
fn set_memory(
    vm: &Vm,
    slot: u32,
    flags: u32,
    known: u32,
    ipa: u64,
    size: u64,
    hva: u64,
) -> Result<isize> {
    const PAGE: u64 = kernel::page::PAGE_SIZE as u64;
    if flags & !known != 0 || !is_slot(slot) {
        return Err(EINVAL);
    }
    if !Ipa::new(ipa).is_aligned(PAGE) || size % PAGE != 0 || hva % PAGE != 0 {
        return Err(EINVAL);
    }
    if ipa.checked_add(size).is_none() || !crate::host::mm::is_user_range(hva, size) {
        return Err(EINVAL);
    }
    if size / PAGE > MAX_SLOT_PAGES {
        return Err(EINVAL);
    }
    let config = vm.config.lock();
    let mut slot = MemSlot::new(slot, ipa, size, hva);
    slot.readonly = flags & KVM_MEM_READONLY != 0;
    slot.logs = flags & KVM_MEM_LOG_DIRTY_PAGES != 0;
    vm.memory.set_slot(slot, config.dirty_log.initially_set)?;
    Ok(0)
}

/// Returns whether there can be a slot of this number, as userspace writes it: the upper half is
/// the address space, of which arm64 has one.
fn is_slot(number: u32) -> bool {
    number < capability::MAX_SLOTS
}

/// Serves KVM_GET_DIRTY_LOG. `EINVAL`: no slot has such a number; `ENOENT`: this one has no log.
fn get_dirty_log(vm: &Vm, request: kvm_dirty_log) -> Result<isize> {
    if !is_slot(request.slot) {
        return Err(EINVAL);
    }
    let config = vm.config.lock();
    let mut at = request.bitmap();
    let keep = config.dirty_log.clears;
    vm.memory.read_dirty(request.slot, keep, |words| {
        let bytes = AsBytes::as_bytes(words);
        UserSlice::new(UserPtr::from_addr(at), bytes.len())
            .writer()
            .write_slice(bytes)?;
        at = at.wrapping_add(bytes.len());
        Ok(())
    })?;
    Ok(0)
}

/// Serves KVM_CLEAR_DIRTY_LOG. `EINVAL`: no slot has such a number, or it does not have these
/// pages, or they do not fill words of the bitmap; `ENOENT`: the slot has no log.
fn clear_dirty_log(vm: &Vm, request: kvm_clear_dirty_log) -> Result<isize> {
    if !is_slot(request.slot) || request.first_page % 64 != 0 {
        return Err(EINVAL);
    }
    let _config = vm.config.lock();
    let mut at = request.bitmap();
    let (first, pages) = (request.first_page, request.num_pages.into());
    vm.memory.clear_dirty(request.slot, first, pages, |words| {
        let bytes = AsBytes::as_bytes_mut(words);
        UserSlice::new(UserPtr::from_addr(at), bytes.len())
            .reader()
            .read_slice(bytes)?;
        at = at.wrapping_add(bytes.len());
        Ok(())
    })?;
    Ok(0)
}

fn irq_line(vm: &Vm, request: kvm_irq_level) -> Result<isize> {
    let irq = request.irq();
    let kind = irq >> KVM_ARM_IRQ_TYPE_SHIFT & KVM_ARM_IRQ_TYPE_MASK;
    let vcpu = irq >> KVM_ARM_IRQ_VCPU_SHIFT & KVM_ARM_IRQ_VCPU_MASK;
    let vcpu2 = irq >> KVM_ARM_IRQ_VCPU2_SHIFT & KVM_ARM_IRQ_VCPU2_MASK;
    let vcpu = vcpu2 * (KVM_ARM_IRQ_VCPU_MASK + 1) + vcpu;
    let number = irq & KVM_ARM_IRQ_NUM_MASK;
    let high = request.level != 0;
    if trace::is_on() {
        trace::kvm_irq_line(kind, vcpu as i32, number as i32, request.level as i32);
    }
    match kind {
        KVM_ARM_IRQ_TYPE_PPI => {
            if !vm.gic.is_created() {
                return Err(ENXIO);
            }
            let target = vm.vcpu_by_number(vcpu).ok_or(EINVAL)?;
            let id = IntId::new(number).filter(|id| id.is_ppi()).ok_or(EINVAL)?;
            // Once the VM runs, the timers' are the timers'.
            if vm
                .timers
                .as_ref()
                .is_some_and(|timers| id == timers.virtual_ || id == timers.physical)
            {
                return Err(EINVAL);
            }
            vm.set_irq_level(Line::private(target.id, id).ok_or(EINVAL)?, high)?;
        }
        KVM_ARM_IRQ_TYPE_SPI => {
            if !vm.gic.is_created() {
                return Err(ENXIO);
            }
            let id = IntId::new(number).filter(|id| id.is_spi()).ok_or(EINVAL)?;
            vm.set_irq_level(Line::spi(id).ok_or(EINVAL)?, high)?;
        }
        // Interrupts of a controller in userspace.
        KVM_ARM_IRQ_TYPE_CPU => {
            if vm.gic.is_created() {
                return Err(ENXIO);
            }
            let target = vm.vcpu_by_number(vcpu).ok_or(EINVAL)?;
            let line = match number {
                KVM_ARM_IRQ_CPU_IRQ => HCR_EL2::VI,
                KVM_ARM_IRQ_CPU_FIQ => HCR_EL2::VF,
                _ => return Err(EINVAL),
            };
            target.set_lines(line.mask(), high);
        }
        _ => return Err(EINVAL),
    }
    Ok(0)
}
