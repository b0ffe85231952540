// SPDX-License-Identifier: GPL-2.0

//! KVM_GET_STATS_FD: files with a vCPU's or a VM's counters, in KVM's format
//! (Documentation/virt/kvm/api.rst).

use crate::host::ffi::*;
use crate::host::{anon_inode::new_fd, file::FileObject};
use crate::vm::vcpu_handle::VcpuHandle;
use crate::vm::vcpu_stats::{self, StatKind, StatRow};
use crate::vm::{vm_stats, Vm};
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceWriter;

const NAME_SIZE: usize = KVM_STATS_NAME_SIZE as usize;
const ID_OFFSET: usize = size_of::<kvm_stats_header>();
const DESC_OFFSET: usize = ID_OFFSET + NAME_SIZE;

/// Whose counters they are.
enum Of {
    Vm(Arc<Vm>),
    Vcpu(Arc<VcpuHandle>),
}

/// An open file of counters.
struct StatsFile {
    of: Of,
    /// The process that has opened it.
    pid: i32,
}

/// Opens a file of a VM's counters, and returns its descriptor.
pub(super) fn of_vm(vm: &Arc<Vm>) -> Result<isize> {
    open(Of::Vm(vm.clone()))
}

/// Opens a file of a vCPU's counters, and returns its descriptor.
pub(super) fn of_vcpu(vcpu: &Arc<VcpuHandle>) -> Result<isize> {
    open(Of::Vcpu(vcpu.clone()))
}

fn open(of: Of) -> Result<isize> {
    let pid = current!().pid();
    new_fd(Arc::new(StatsFile { of, pid }, GFP_KERNEL_ACCOUNT)?)
}

impl FileObject for StatsFile {
    const NAME: &'static CStr = c"loft-stats";
    const READABLE: bool = true;

    fn ioctl(_: &Arc<Self>, _: u32, _: usize) -> Result<isize> {
        Err(ENOTTY)
    }

    fn read(&self, to: &mut UserSliceWriter, offset: usize) -> Result<usize> {
        let (pid, content) = (self.pid, Content(KVec::new()));
        // Their names begin as KVM's: readers expect that.
        let content = match &self.of {
            Of::Vm(vm) => {
                let id = CString::try_from_fmt(fmt!("kvm-{pid}"))?;
                content.write(&id, &vm_stats::ROWS, vm.stats.values().into_iter())
            }
            Of::Vcpu(vcpu) => {
                let id = CString::try_from_fmt(fmt!("kvm-{pid}/vcpu-{}", vcpu.number))?;
                content.write(&id, &vcpu_stats::ROWS, vcpu.stats.values())
            }
        };
        to.write_slice_partial(&content?, offset)
    }
}

/// A file that is being written down.
struct Content(KVec<u8>);

impl Content {
    fn words(&mut self, words: &[u32]) -> Result {
        for word in words {
            self.bytes(&word.to_ne_bytes())?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds a string, in the room that each has.
    fn name(&mut self, name: &[u8]) -> Result {
        let end = self.0.len() + NAME_SIZE;
        self.bytes(name)?;
        Ok(self.0.resize(end, 0, GFP_KERNEL_ACCOUNT)?)
    }

    fn write(
        mut self,
        id: &CString,
        rows: &[StatRow],
        values: impl Iterator<Item = u64>,
    ) -> Result<KVec<u8>> {
        let data_offset = DESC_OFFSET + rows.len() * size_of::<kvm_stats_desc>();
        let count: usize = rows.iter().map(|row| row.kind.values()).sum();
        self.0
            .reserve(data_offset + count * size_of::<u64>(), GFP_KERNEL_ACCOUNT)?;
        self.words(&[0, KVM_STATS_NAME_SIZE, rows.len() as u32])?;
        self.words(&[ID_OFFSET as u32, DESC_OFFSET as u32, data_offset as u32])?;
        self.name(id.to_bytes())?;
        let mut at = 0;
        for row in rows {
            let (flags, exponent) = unit(row.kind);
            let count = row.kind.values() as u32;
            // The exponent in the lower half, the number of values in the upper one.
            let sizes = u32::from(exponent as u16) | count << 16;
            self.words(&[flags, sizes, at, 0])?;
            self.name(row.name.to_bytes())?;
            at += count * size_of::<u64>() as u32;
        }
        for value in values {
            self.bytes(&value.to_ne_bytes())?;
        }
        Ok(self.0)
    }
}

/// Returns the flags of a kind of counter, and the power of ten to multiply its unit with.
fn unit(kind: StatKind) -> (u32, i16) {
    match kind {
        StatKind::Number => (KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE, 0),
        StatKind::Nanoseconds => (KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS, -9),
        StatKind::NanosecondsHistogram => (KVM_STATS_TYPE_LOG_HIST | KVM_STATS_UNIT_SECONDS, -9),
        StatKind::Truth => (KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN, 0),
    }
}
