// SPDX-License-Identifier: GPL-2.0

//! The VMM's address space, whose memory is the guest's: finding its pages, and being told when they go.

use super::ffi;
use crate::model::stage2::MemType;
use crate::model::types::HostPa;
use core::ffi::c_int;
use core::marker::PhantomData;
use core::ops::Range;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// An address space that stays allocated, not necessarily in use.
pub(crate) struct AddressSpace(*mut bindings::mm_struct);

// SAFETY: A counted reference, usable from any thread.
unsafe impl Send for AddressSpace {}
// SAFETY: As above.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// The current process's; `ESRCH` for a kernel thread.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: The current task's address space cannot go while it runs.
        let mm = unsafe { ffi::loft_current_mm() };
        if mm.is_null() {
            return Err(ESRCH);
        }
        // SAFETY: As above; dropped in `drop`.
        unsafe { ffi::loft_mmgrab(mm) };
        Ok(Self(mm))
    }

    /// Whether the current thread runs in this address space.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: Reads one word of the current task.
        core::ptr::eq(unsafe { ffi::loft_current_mm() }, self.0)
    }

    /// How large a leaf the host maps `address` with: log2 of the bytes; 0 if it maps nothing there right now.
    pub(crate) fn leaf_shift(&self, address: u64) -> u32 {
        // SAFETY: Only called by `fault`'s caller, for the current address space, whose tables exist.
        unsafe { ffi::loft_host_leaf_shift(self.0, address as usize) }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // SAFETY: Gives back the reference that `current` took.
        unsafe { ffi::loft_mmdrop(self.0) };
    }
}

/// A counted reference to a page of RAM.
///
/// # Invariants
///
/// The reference is this one's to give back.
struct Reference(*mut bindings::page);

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { ffi::loft_put_page(self.0) };
    }
}

/// What is behind an address of the current process's.
///
/// A page of RAM is referenced. Other memory (VM_PFNMAP: a device's, or what its owner does not let be counted) is the process's
/// only until the next change of the mapping, of which [`Follower`]s are told: nothing but mapping it, under the lock that they
/// take, may be done with it.
pub(crate) struct HostPage {
    pa: HostPa,
    writable: bool,
    mem: MemType,
    reference: Option<Reference>,
}

impl HostPage {
    /// What is at `address`, faulted in; for writing if `write`. With `cacheable` also cacheable memory that is no RAM.
    ///
    /// Errors: `EFAULT` if there is nothing, `EHWPOISON` if the memory is broken, `EAGAIN` if the mapping is changing.
    pub(crate) fn get(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let mut page = core::ptr::null_mut();
        let mut writable = false;
        // SAFETY: In process context, without spin locks; the places are valid for writes.
        let got = kernel::error::to_result(unsafe {
            ffi::loft_get_page(address as usize, write, &mut writable, &mut page)
        });
        match got {
            Ok(()) => Ok(Self {
                // SAFETY: The page is referenced.
                pa: HostPa::new(unsafe { ffi::loft_page_to_phys(page) }),
                writable,
                mem: MemType::Normal,
                // INVARIANT: `loft_get_page` took it for its caller.
                reference: Some(Reference(page)),
            }),
            Err(error) if error == EFAULT => Self::follow(address, write, cacheable),
            Err(error) => Err(error),
        }
    }

    fn follow(address: u64, write: bool, cacheable: bool) -> Result<Self> {
        let (mut writable, mut pa) = (false, 0);
        // SAFETY: In process context, without locks; the places are valid for writes.
        let kind =
            unsafe { ffi::loft_follow_page(address as usize, write, &mut writable, &mut pa) };
        kernel::error::to_result(kind)?;
        let mem = match kind as u32 {
            ffi::LOFT_MEMORY_RAM => MemType::Normal,
            ffi::LOFT_MEMORY_CACHED if cacheable => MemType::Normal,
            ffi::LOFT_MEMORY_UNCACHED => MemType::NormalNc,
            ffi::LOFT_MEMORY_DEVICE => MemType::Device,
            _ => return Err(EFAULT),
        };
        Ok(Self {
            pa: HostPa::new(pa),
            writable,
            mem,
            reference: None,
        })
    }

    /// Whether the process could write it at the time.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn pa(&self) -> HostPa {
        self.pa
    }

    /// How a guest has to reach it.
    pub(crate) fn mem(&self) -> MemType {
        self.mem
    }

    /// Whether it is a page of RAM that is referenced.
    pub(crate) fn is_counted(&self) -> bool {
        self.reference.is_some()
    }

    /// Tells the host that the guest may have written it.
    pub(crate) fn set_dirty(&self) {
        if let Some(reference) = &self.reference {
            // SAFETY: The page is referenced.
            unsafe { bindings::set_page_dirty(reference.0) };
        }
    }
}

/// Whether what the current process has in a range of addresses may be a guest's memory, as far as it is there already; `logs`:
/// with a log of what is written; `cacheable` as in [`HostPage::get`]. `EINVAL`: it may not.
pub(crate) fn check_memory(address: u64, size: u64, logs: bool, cacheable: bool) -> Result {
    // SAFETY: In process context, without locks; any addresses may be asked about.
    kernel::error::to_result(unsafe {
        ffi::loft_check_memory(address as usize, size as usize, logs, cacheable)
    })
}

/// What follows an address space.
pub(crate) trait Follower: Send + Sync + 'static {
    /// The pages in `range` are about to change or go. When this returns, nobody uses them any more, and nobody will
    /// until [`Follower::changed`] is called for the same range. Must not sleep unless `may_sleep`.
    fn changing(&self, range: Range<u64>, may_sleep: bool);
    /// The change is done.
    fn changed(&self, range: Range<u64>);
    /// Forgets that the pages were used; whether they had been. With `flush`, so that the next use is noticed surely.
    fn age(&self, range: Range<u64>, flush: bool) -> bool;
    /// Whether the pages were used since they were last aged.
    fn is_young(&self, range: Range<u64>) -> bool;
    /// The address space ends: all its pages go.
    fn ends(&self);
}

/// A [`Follower`] of the address space that was current when this was made, until this is dropped.
///
/// C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Following<T: Follower> {
    #[pin]
    raw: Opaque<bindings::mmu_notifier>,
    target: Arc<T>,
    mm: AddressSpace,
}

// SAFETY: Registering and unregistering may be done from any thread.
unsafe impl<T: Follower> Send for Following<T> {}
// SAFETY: A `&Following` gives access to nothing.
unsafe impl<T: Follower> Sync for Following<T> {}

struct Ops<T>(PhantomData<T>);

impl<T: Follower> Ops<T> {
    const OPS: bindings::mmu_notifier_ops = bindings::mmu_notifier_ops {
        release: Some(Self::release),
        clear_flush_young: Some(Self::clear_flush_young),
        clear_young: Some(Self::clear_young),
        test_young: Some(Self::test_young),
        invalidate_range_start: Some(Self::start),
        invalidate_range_end: Some(Self::end),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `notifier` is the first field of a `Following<T>` (repr(C), `Opaque` is transparent) that is not dropped yet.
    unsafe fn target<'a>(notifier: *mut bindings::mmu_notifier) -> &'a T {
        // SAFETY: By the requirement.
        unsafe { &(*notifier.cast::<Following<T>>()).target }
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn release(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
    ) {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.ends();
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn start(
        notifier: *mut bindings::mmu_notifier,
        range: *const bindings::mmu_notifier_range,
    ) -> c_int {
        // SAFETY: The notifier is registered, and the range valid for the call.
        let (this, from, to, may_sleep) = unsafe {
            (
                Self::target(notifier),
                (*range).start,
                (*range).end,
                ffi::loft_range_blockable(range),
            )
        };
        this.changing(from as u64..to as u64, may_sleep);
        0
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn end(
        notifier: *mut bindings::mmu_notifier,
        range: *const bindings::mmu_notifier_range,
    ) {
        // SAFETY: As in `start`.
        let (this, from, to) = unsafe { (Self::target(notifier), (*range).start, (*range).end) };
        this.changed(from as u64..to as u64);
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn clear_flush_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: usize,
        end: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.age(start as u64..end as u64, true)
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn clear_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        start: usize,
        end: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.age(start as u64..end as u64, false)
    }
    /// # Safety
    ///
    /// Called by the kernel for a notifier that is registered with these operations.
    unsafe extern "C" fn test_young(
        notifier: *mut bindings::mmu_notifier,
        _mm: *mut bindings::mm_struct,
        address: usize,
    ) -> bool {
        // SAFETY: The notifier is registered.
        unsafe { Self::target(notifier) }.is_young(address as u64..(address as u64).wrapping_add(1))
    }
}

impl<T: Follower> Following<T> {
    /// Follows the current process's address space.
    pub(crate) fn current(target: Arc<T>) -> Result<Pin<KBox<Self>>> {
        let mm = AddressSpace::current()?;
        let raw_mm = mm.0;
        KBox::try_pin_init(
            try_pin_init!(Self {
                raw <- Opaque::try_ffi_init(move |slot: *mut bindings::mmu_notifier| {
                    let mut notifier: bindings::mmu_notifier = pin_init::zeroed();
                    notifier.ops = &Ops::<T>::OPS;
                    // SAFETY: `slot` is pinned and valid; it is unregistered before it goes. No callback can come
                    // before `target` is written: the address space is the current thread's, which holds mmap_lock
                    // inside, but other threads may change it right after, so the target is written first, below.
                    unsafe { slot.write(notifier) };
                    Ok::<(), Error>(())
                }),
                target,
                mm,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
        .and_then(|this| {
            // SAFETY: All fields are written and pinned now; `raw_mm` is the current, referenced, address space.
            kernel::error::to_result(unsafe {
                bindings::mmu_notifier_register(this.raw.get(), raw_mm)
            })?;
            Ok(this)
        })
    }

    /// The address space.
    pub(crate) fn mm(&self) -> &AddressSpace {
        &self.mm
    }
}

#[pinned_drop]
impl<T: Follower> PinnedDrop for Following<T> {
    fn drop(self: Pin<&mut Self>) {
        // `mmu_notifier_register` sets `mm`; without it nothing was registered.
        // SAFETY: The field is written once, before this.
        let mm = unsafe { (*self.raw.get()).mm };
        if !mm.is_null() {
            // SAFETY: Registered; waits for callbacks that run.
            unsafe { bindings::mmu_notifier_unregister(self.raw.get(), mm) };
        }
    }
}

/// Tells the current thread that the memory at `address` is broken, as its own access would have (SIGBUS).
pub(crate) fn report_poison(address: u64) {
    // SAFETY: Sends a signal to the current thread.
    unsafe { ffi::loft_report_poison(address as usize) };
}

/// The hardware has found the page at `physical` broken when the guest of the current thread used it: says so in the log, and
/// lets the kernel take the page out of use, which tells whoever has it mapped.
pub(crate) fn report_error(physical: HostPa) {
    // SAFETY: May be called wherever a work may be queued; the kernel judges for itself what is at the address.
    unsafe { ffi::loft_report_error(physical.raw()) };
}

/// A hardware error that nobody knows the extent of: the machine must not go on. Does not return.
pub(crate) fn uncontained_error(esr: u64) {
    // SAFETY: May be called in any context.
    unsafe { ffi::loft_uncontained_error(esr) };
}

/// Whether all of a range of addresses is userspace's, and its start has no tag.
pub(crate) fn is_user_range(address: u64, size: u64) -> bool {
    // SAFETY: Compares numbers.
    unsafe { ffi::loft_access_ok(address as usize, size as usize) }
}
