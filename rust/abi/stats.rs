// SPDX-License-Identifier: GPL-2.0

//! KVM_GET_STATS_FD: files with a vCPU's or a VM's counters, in KVM's format (Documentation/virt/kvm/api.rst). A VM's are the sums
//! of its vCPUs'.

use crate::host::ffi::*;
use crate::host::file::{new_fd, FileObject};
use crate::vcpu::shared::Shared;
use crate::vcpu::stats::NAMES;
use crate::vm::Vm;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceWriter;

const NAME_SIZE: usize = KVM_STATS_NAME_SIZE as usize;
const ID_OFFSET: usize = size_of::<kvm_stats_header>();
const DESC_OFFSET: usize = ID_OFFSET + NAME_SIZE;
const DATA_OFFSET: usize = DESC_OFFSET + NAMES.len() * size_of::<kvm_stats_desc>();
const SIZE: usize = DATA_OFFSET + NAMES.len() * size_of::<u64>();

/// An open file of counters.
struct StatsFile {
    vm: Arc<Vm>,
    /// The process that has opened it.
    pid: i32,
    /// Of all vCPUs, where this is none.
    vcpu: Option<Arc<Shared>>,
}

/// A VM's.
pub(super) fn of_vm(vm: &Arc<Vm>) -> Result<isize> {
    open(vm, None)
}

/// A vCPU's.
pub(super) fn of_vcpu(vm: &Arc<Vm>, vcpu: &Arc<Shared>) -> Result<isize> {
    open(vm, Some(vcpu.clone()))
}

fn open(vm: &Arc<Vm>, vcpu: Option<Arc<Shared>>) -> Result<isize> {
    new_fd(Arc::new(
        StatsFile {
            vm: vm.clone(),
            pid: current!().pid(),
            vcpu,
        },
        GFP_KERNEL_ACCOUNT,
    )?)
}

impl FileObject for StatsFile {
    const NAME: &'static CStr = c"loft-stats";
    const READABLE: bool = true;

    fn ioctl(_: &Arc<Self>, _: u32, _: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    fn read(&self, to: &mut UserSliceWriter, offset: usize) -> Result<usize> {
        to.write_slice_partial(&self.content()?, offset)
    }
}

/// A file that is being written down.
struct Content(KVec<u8>);

impl Content {
    fn words(&mut self, words: &[u32]) -> Result {
        for word in words {
            self.0
                .extend_from_slice(&word.to_ne_bytes(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(())
    }

    /// A string in the room that each has.
    fn name(&mut self, name: &[u8]) -> Result {
        let end = self.0.len() + NAME_SIZE;
        self.0.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
        Ok(self.0.resize(end, 0, GFP_KERNEL_ACCOUNT)?)
    }
}

impl StatsFile {
    fn content(&self) -> Result<KVec<u8>> {
        let mut content = Content(KVec::with_capacity(SIZE, GFP_KERNEL_ACCOUNT)?);
        let count = NAMES.len() as u32;
        let offsets = [ID_OFFSET as u32, DESC_OFFSET as u32, DATA_OFFSET as u32];
        content.words(&[0, KVM_STATS_NAME_SIZE, count])?;
        content.words(&offsets)?;
        // As KVM's: readers expect that beginning.
        let id = match &self.vcpu {
            Some(vcpu) => CString::try_from_fmt(fmt!("kvm-{}/vcpu-{}", self.pid, vcpu.number))?,
            None => CString::try_from_fmt(fmt!("kvm-{}", self.pid))?,
        };
        content.name(id.to_bytes())?;
        let flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10;
        for (i, name) in NAMES.iter().enumerate() {
            // The exponent in the lower half, the number of values in the upper one.
            content.words(&[flags, 1 << 16, (i * size_of::<u64>()) as u32, 0])?;
            content.name(name.as_bytes())?;
        }
        let mut sums = [0u64; NAMES.len()];
        let mut add = |shared: &Shared| {
            for (sum, value) in sums.iter_mut().zip(shared.stats.values()) {
                *sum = sum.wrapping_add(value);
            }
        };
        match &self.vcpu {
            Some(vcpu) => add(vcpu),
            None => self.vm.vcpus().iter().for_each(|shared| add(shared)),
        }
        for sum in sums {
            content
                .0
                .extend_from_slice(&sum.to_ne_bytes(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(content.0)
    }
}
