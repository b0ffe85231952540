// SPDX-License-Identifier: GPL-2.0

//! Device nodes.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::file::{FileObject, FileOps};
use core::ffi::c_int;
use core::marker::PhantomData;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::{ForeignOwnable, Opaque};

/// A device node in `/dev`, which is there while this lives. Whoever opens it gets what
/// [`OpenNode::open`] makes.
///
/// # Invariants
///
/// `misc` is registered, in its final place.
///
/// # Examples
///
/// ```
/// let node = KBox::try_pin_init(
///     Node::<System>::register(c"example", bindings::MISC_DYNAMIC_MINOR as c_int, 0o660),
///     GFP_KERNEL,
/// )?;
/// ```
#[pin_data(PinnedDrop)]
pub(crate) struct Node<T: OpenNode> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    _object: PhantomData<T>,
}

/// A [`FileObject`] that a device node opens.
pub(crate) trait OpenNode: FileObject {
    /// Makes what one `open(2)` opens.
    fn open() -> Result<Arc<Self>>;
}

// SAFETY: Registering and deregistering may be done from any thread.
unsafe impl<T: OpenNode> Send for Node<T> {}
// SAFETY: A `&Node` gives access to nothing.
unsafe impl<T: OpenNode> Sync for Node<T> {}

struct NodeOps<T>(PhantomData<T>);

impl<T: OpenNode> NodeOps<T> {
    const OPS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        ..FileOps::<T>::OPS
    };

    /// # Safety
    ///
    /// Called by the kernel for a file with these operations.
    unsafe extern "C" fn open(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        match T::open() {
            Ok(object) => {
                // SAFETY: The file is being opened: nobody else uses its private data.
                unsafe { (*file).private_data = object.into_foreign().cast() };
                0
            }
            Err(error) => error.to_errno(),
        }
    }
}

impl<T: OpenNode> Node<T> {
    /// Registers `/dev/<name>`, readable and writable for `mode`, under the minor number `minor`.
    pub(crate) fn register(
        name: &'static CStr,
        minor: c_int,
        mode: u16,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
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
            _object: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: OpenNode> PinnedDrop for Node<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is registered.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
