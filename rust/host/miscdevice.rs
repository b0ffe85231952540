// SPDX-License-Identifier: GPL-2.0

//! Device nodes.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::file::{FileObject, FileOps};
use core::ffi::c_int;
use core::marker::PhantomData;
use kernel::bindings;
use kernel::container_of;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::{ForeignOwnable, Opaque};

/// A device node in `/dev`, which is there while this lives. Whoever opens it gets `object`.
///
/// # Invariants
///
/// `misc` is registered, in its final place.
///
/// # Examples
///
/// ```
/// let node = KBox::try_pin_init(
///     Node::register(c"example", bindings::MISC_DYNAMIC_MINOR as c_int, 0o660, system),
///     GFP_KERNEL,
/// )?;
/// ```
#[pin_data(PinnedDrop)]
pub(crate) struct Node<T: FileObject> {
    // First: who opens the node may find it as soon as it is registered.
    object: Arc<T>,
    #[pin]
    misc: Opaque<bindings::miscdevice>,
}

// SAFETY: Registering and deregistering may be done from any thread.
unsafe impl<T: FileObject> Send for Node<T> {}
// SAFETY: A `&Node` gives access to `object` alone, which is `Sync`.
unsafe impl<T: FileObject> Sync for Node<T> {}

struct NodeOps<T>(PhantomData<T>);

impl<T: FileObject> NodeOps<T> {
    const OPS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        ..FileOps::<T>::OPS
    };

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn open(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is being opened: nobody else uses its private data, which is the node's
        // `misc` until then. The node stays for the call, as deregistering it waits for that.
        unsafe {
            let misc = (*file).private_data.cast::<Opaque<bindings::miscdevice>>();
            let node = container_of!(misc, Node<T>, misc);
            (*file).private_data = (*node).object.clone().into_foreign().cast();
        }
        0
    }
}

impl<T: FileObject> Node<T> {
    /// Registers `/dev/<name>`, readable and writable for `mode`, under the minor number `minor`.
    pub(crate) fn register(
        name: &'static CStr,
        minor: c_int,
        mode: u16,
        object: Arc<T>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            object,
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let mut misc: bindings::miscdevice = pin_init::zeroed();
                misc.minor = minor;
                misc.name = name.as_char_ptr().cast();
                misc.fops = &NodeOps::<T>::OPS;
                misc.mode = mode;
                // INVARIANT: It is there only if registering it succeeds.
                // SAFETY: `slot` is pinned and valid for writes; it is deregistered before it goes
                // away.
                unsafe {
                    slot.write(misc);
                    kernel::error::to_result(bindings::misc_register(slot))
                }
            }),
        })
    }
}

#[pinned_drop]
impl<T: FileObject> PinnedDrop for Node<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is registered.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
