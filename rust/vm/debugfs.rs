// SPDX-License-Identifier: GPL-2.0

//! The counters in debugfs, for programs such as `kvm_stat`: `loft/` has a file for each, with the
//! sum over all VMs, and `loft/PID-FD/` the same files for the VM that this thread has made under
//! this descriptor, as KVM's `kvm/` has.
//!
//! Without debugfs, or without memory for it, VMs are what they are with it. As on KVM, a VM has no
//! directory while an earlier one of the same name lives on by its vCPUs' files.
//!
//! A file reads [`VmStats`], which does not keep the VM. So the directory goes with the VM's last
//! reference, whoever has its files open: these can no longer be read then. Only a read that is
//! under way is waited for.

use super::vm_stats::{VmStat, VmStats};
use crate::host::debugfs::{Dir, Shown};
use kernel::prelude::*;
use kernel::seq_file::{seq_print, SeqFile};
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};

/// A VM's file of one counter.
struct OfVm {
    counter: VmStat,
    vm: Arc<VmStats>,
}

impl Shown for OfVm {
    fn name(&self) -> &CStr {
        self.counter.name
    }

    fn show(&self, to: &SeqFile) {
        seq_print!(to, "{}\n", self.vm.get(self.counter));
    }
}

/// The file of one counter of all VMs.
struct OfAll {
    counter: VmStat,
    vms: Arc<Mutex<KVec<Arc<VmStats>>>>,
}

impl Shown for OfAll {
    fn name(&self) -> &CStr {
        self.counter.name
    }

    fn show(&self, to: &SeqFile) {
        let vms = self.vms.lock();
        let sum = vms.iter().map(|vm| vm.get(self.counter));
        let sum = sum.fold(0, u64::wrapping_add);
        drop(vms);
        seq_print!(to, "{sum}\n");
    }
}

/// All VMs that there are.
pub(crate) struct AllVms {
    vms: Arc<Mutex<KVec<Arc<VmStats>>>>,
    dir: Option<Arc<Dir<OfAll>>>,
}

impl AllVms {
    /// Makes it without VMs, and their directory. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let vms = Arc::pin_init(new_mutex!(KVec::new(), "loft::AllVms::vms"), GFP_KERNEL)?;
        let dir = Self::make_dir(&vms).ok();
        Ok(Arc::new(Self { vms, dir }, GFP_KERNEL)?)
    }

    fn make_dir(vms: &Arc<Mutex<KVec<Arc<VmStats>>>>) -> Result<Arc<Dir<OfAll>>> {
        let mut files = KVec::new();
        for counter in VmStat::all() {
            let vms = vms.clone();
            files.push(OfAll { counter, vms }, GFP_KERNEL)?;
        }
        Ok(Arc::new(Dir::new(c"loft", files)?, GFP_KERNEL)?)
    }
}

/// A VM among the others, until this is dropped.
pub(super) struct Listed {
    vm: Arc<VmStats>,
    all: Arc<AllVms>,
    _dir: Option<Dir<OfVm, Arc<Dir<OfAll>>>>,
}

impl Listed {
    /// Lists the VM that the current thread makes under the descriptor `fd`. Fails with `ENOMEM`.
    pub(super) fn new(vm: &Arc<VmStats>, all: &Arc<AllVms>, fd: u32) -> Result<Self> {
        all.vms.lock().push(vm.clone(), GFP_KERNEL_ACCOUNT)?;
        Ok(Self {
            vm: vm.clone(),
            all: all.clone(),
            _dir: Self::make_dir(vm, all, fd).ok(),
        })
    }

    fn make_dir(
        vm: &Arc<VmStats>,
        all: &Arc<AllVms>,
        fd: u32,
    ) -> Result<Dir<OfVm, Arc<Dir<OfAll>>>> {
        let parent = all.dir.clone().ok_or(ENOENT)?;
        let name = CString::try_from_fmt(fmt!("{}-{fd}", current!().pid()))?;
        let mut files = KVec::new();
        for counter in VmStat::all() {
            let vm = vm.clone();
            files.push(OfVm { counter, vm }, GFP_KERNEL_ACCOUNT)?;
        }
        Dir::within(parent, &name, files)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut vms = self.all.vms.lock();
        vms.retain(|vm| !Arc::ptr_eq(vm, &self.vm));
    }
}
