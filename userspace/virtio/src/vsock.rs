// SPDX-License-Identifier: Apache-2.0
//! The socket device (5.10), served by the host kernel (vhost-vsock): AF_VSOCK between programs here and in the guest.

use std::io;

use ::vhost::vhost_kern::vsock::Vsock as Backend;
use ::vhost::vsock::VhostVsock;
use ::vhost::{Error, VhostBackend};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use crate::device::{ActivateError, Activation, Device, RING_FEATURES};
use crate::ring::Ring;
use crate::vhost::{prepare, watch, LateMemory};
use crate::worker::Worker;
use crate::{bit, read_bytes};

/// Receive, transmit, event. Only the first two have anything in them: an event would announce a migration.
const QUEUE_SIZES: [u16; 3] = [256, 256, 64];

/// Sockets of packets, beside those of bytes (5.10.3); the bindings have no bits for this device.
const F_SEQPACKET: u32 = 1;

/// The smallest context id that a guest can have: 0 to 2 are the hypervisor, this machine and the host.
pub const MIN_CID: u32 = 3;

/// Why there is no socket device.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The host's kernel has it not.
    #[error("vsock: /dev/vhost-vsock does not exist; load it with: modprobe vhost_vsock")]
    Missing,
    /// No permission.
    #[error("vsock: no permission for /dev/vhost-vsock; run as root, or as a member of the group that owns it")]
    Permission,
    /// Ids 0 to 2, and the largest, are not guests.
    #[error("vsock: {0} is not a context id for a guest; choose one from 3 to 4294967294")]
    BadCid(u32),
    /// Another guest has it.
    #[error("vsock: the context id {0} is in use by another guest; choose another one")]
    CidInUse(u32),
    /// Anything else.
    #[error("vsock: {0}")]
    Vhost(Error),
}

/// A socket device.
pub struct Vsock {
    cid: u32,
    backend: Backend<LateMemory>,
    mem: LateMemory,
    host_features: u64,
    worker: Option<Worker>,
}

impl Vsock {
    /// Opens the host's side and reserves the context id `cid` for the guest, until the device is dropped.
    pub fn open(cid: u32) -> Result<Self, VsockError> {
        if !(MIN_CID..u32::MAX).contains(&cid) {
            return Err(VsockError::BadCid(cid));
        }
        let mem = LateMemory::default();
        let backend = Backend::new(mem.clone()).map_err(|error| match error {
            // ENODEV and ENXIO: the node is there, its module is not.
            Error::VhostOpen(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => VsockError::Missing,
                Some(libc::EACCES | libc::EPERM) => VsockError::Permission,
                _ => VsockError::Vhost(Error::VhostOpen(error)),
            },
            error => VsockError::Vhost(error),
        })?;
        backend.set_guest_cid(u64::from(cid)).map_err(|error| match error {
            Error::IoctlError(error) if error.kind() == io::ErrorKind::AddrInUse => VsockError::CidInUse(cid),
            error => VsockError::Vhost(error),
        })?;
        let host_features = backend.get_features().map_err(VsockError::Vhost)?;
        Ok(Self { cid, backend, mem, host_features, worker: None })
    }

    /// The guest's context id.
    pub fn cid(&self) -> u32 {
        self.cid
    }
}

impl Device for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        // Stream sockets need no feature (5.10.3).
        (RING_FEATURES | bit(F_SEQPACKET)) & self.host_features
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let rings: [Ring; 2] = [activation.ring(0)?, activation.ring(1)?];
        let Activation { mem, features, interrupt, .. } = activation;
        self.mem.set(&mem);
        let failures = prepare(&self.backend, features, &mem, &interrupt, &rings)?;
        self.worker = Some(Worker::spawn("virtio-vsock", interrupt, move |stop| watch(stop, &failures))?);
        Ok(self.backend.start()?)
    }

    fn reset(&mut self) {
        // Without a worker it was never started, and may have no owner who could stop it.
        if self.worker.is_some() {
            // It waits until the kernel's worker has let go of the rings. Stopping what is not
            // running is no error.
            if let Err(error) = self.backend.stop() {
                log::warn!("virtio-vsock: {error}");
            }
        }
        self.worker = None;
    }
}
