// SPDX-License-Identifier: Apache-2.0
//! The file behind a disk: opening and locking it, and what can be done to a range of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use nix::fcntl::{fcntl, FcntlArg};
use rustix::fs::{fallocate, FallocateFlags};
use rustix::io::Errno;
use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;
use vm_memory::VolatileSlice;

use super::{iovec, overlay::Overlay, space::Space, BlockOptions, SECTOR};

/// The length of a disk's serial number.
pub const ID_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It could not be opened.
    #[error("disk {}: {reason}{}", .path.display(), .hint)]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host said.
        reason: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// It is a directory, a pipe, ...
    #[error("disk {}: neither a file nor a block device; give a raw image", .0.display())]
    NotADisk(PathBuf),
    /// Another guest, or another program that locks images, has it open.
    #[error("disk {}: it is in use by another process (or given twice); stop that one, or give the disk to both as read-only", .0.display())]
    InUse(PathBuf),
    /// Its file system does not know locks.
    #[error("disk {}: it cannot be locked ({reason}); put it on a file system that has locks", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the host said.
        reason: io::Error,
    },
    /// Its size is not that of a disk.
    #[error(
        "disk {}: its size of {size} bytes is not a multiple of 512, so it is not a raw image or was cut short; \
         convert it with qemu-img, or extend it with truncate --size %512",
        .path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// What is written to it has no place.
    #[error("disk {}: there is no place for what a guest writes to it ({reason}); give one that has room: TMPDIR=DIRECTORY", .path.display())]
    Overlay {
        /// The file.
        path: PathBuf,
        /// What the host said.
        reason: io::Error,
    },
    /// It has no bytes.
    #[error("disk {}: it is empty; make it larger with truncate --size", .0.display())]
    Empty(PathBuf),
}

/// An open, locked image.
#[derive(Debug)]
pub struct Disk {
    file: File,
    /// What was written, where the file is to stay as it is.
    overlay: Option<Overlay>,
    size: u64,
    read_only: bool,
    keep_space: bool,
    id: [u8; ID_BYTES],
    /// What the user calls it, and where it takes its space.
    name: String,
    /// Whether the user has been told that the host could not do something.
    told: AtomicBool,
    /// Where writes wait for space.
    space: Option<Arc<Space>>,
}

impl Disk {
    pub fn open(path: &Path, options: &BlockOptions) -> Result<Self, BlockError> {
        let failed =
            |reason: io::Error| BlockError::Open { path: path.to_owned(), hint: hint(&reason, options), reason };
        let block_device =
            kind(&std::fs::metadata(path).map_err(failed)?).ok_or_else(|| BlockError::NotADisk(path.to_owned()))?;
        // O_NONBLOCK: should the path have become a pipe since, then opening it does not wait. O_EXCL on a block device: it
        // fails where the device is mounted, and the host would not see what the guest writes.
        let exclusive = if block_device && !options.keeps_file() { libc::O_EXCL } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .write(!options.keeps_file())
            .custom_flags(libc::O_NONBLOCK | exclusive)
            .open(path)
            .map_err(failed)?;
        Self::from_file(file, path, options)
    }

    /// Takes a file that is open already; `path` is what errors call it.
    pub fn from_file(mut file: File, path: &Path, options: &BlockOptions) -> Result<Self, BlockError> {
        let failed =
            |reason: io::Error| BlockError::Open { path: path.to_owned(), hint: hint(&reason, options), reason };
        kind(&file.metadata().map_err(failed)?).ok_or_else(|| BlockError::NotADisk(path.to_owned()))?;
        lock(&file, options.keeps_file()).map_err(|reason| match reason {
            nix::Error::EAGAIN | nix::Error::EACCES => BlockError::InUse(path.to_owned()),
            _ => BlockError::Lock { path: path.to_owned(), reason: reason.into() },
        })?;
        // The end, because a block device's metadata has no size.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if size == 0 {
            return Err(BlockError::Empty(path.to_owned()));
        }
        if size % SECTOR != 0 {
            return Err(BlockError::Size { path: path.to_owned(), size });
        }
        let overlay = options.snapshot.then(|| Overlay::new(size)).transpose();
        let overlay = overlay.map_err(|reason| BlockError::Overlay { path: path.to_owned(), reason })?;
        let place = overlay.as_ref().map(|it| format!(" (changes are kept in {})", it.directory().display()));
        let name = format!("disk {}{}", path.display(), place.unwrap_or_default());
        let (id, told) = (id(path, options), AtomicBool::new(false));
        let BlockOptions { read_only, keep_space, ref space, .. } = *options;
        let space = space.clone();
        Ok(Self { file, overlay, size, read_only, keep_space, id, name, told, space })
    }

    pub fn sectors(&self) -> u64 {
        self.size / SECTOR
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether what the guest discards keeps its space.
    pub fn keeps_space(&self) -> bool {
        self.keep_space
    }

    /// Where writes wait for space.
    pub fn space(&self) -> Option<&Space> {
        self.space.as_deref()
    }

    /// The serial number, padded with zeroes.
    pub fn id(&self) -> &[u8; ID_BYTES] {
        &self.id
    }

    /// The byte at which `sector` starts, if `length` bytes from there are on the disk.
    pub fn offset(&self, sector: u64, length: u64) -> Option<u64> {
        let start = sector.checked_mul(SECTOR)?;
        (start.checked_add(length)? <= self.size).then_some(start)
    }

    pub fn read<'m>(&self, offset: u64, to: impl Iterator<Item = &'m VolatileSlice<'m>>) -> io::Result<()> {
        self.noted(match &self.overlay {
            Some(overlay) => overlay.read(&self.file, offset, to),
            None => iovec::read_at(&self.file, offset, to),
        })
    }

    pub fn write<'m>(&self, offset: u64, from: impl Iterator<Item = &'m VolatileSlice<'m>> + Clone) -> io::Result<()> {
        let length = from.clone().map(|slice| slice.len() as u64).sum();
        self.written(|| iovec::write_at(self.target(), offset, from.clone()))?;
        self.take(offset, length);
        Ok(())
    }

    /// Does `write`, which may need space that the host has not got.
    fn written(&self, mut write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        self.noted(match &self.space {
            Some(space) => space.wait_for(&self.name, write),
            None => write(),
        })
    }

    /// The file that is written to.
    fn target(&self) -> &File {
        self.overlay.as_ref().map_or(&self.file, Overlay::file)
    }

    /// Takes note that a range of that file has become the disk's.
    fn take(&self, offset: u64, length: u64) {
        if let Some(overlay) = &self.overlay {
            overlay.take(offset, length);
        }
    }

    /// Everything that was written is on stable storage when this returns.
    pub fn flush(&self) -> io::Result<()> {
        if self.overlay.is_some() {
            return Ok(());
        }
        self.noted(self.file.sync_data())
    }

    /// The guest learns that something has failed; only here is it known what.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let unseen = error.kind() == io::ErrorKind::Unsupported || self.space().is_some_and(Space::is_reset);
            if !unseen && !self.told.swap(true, Ordering::Relaxed) {
                log::warn!("{}: {error}; the guest gets I/O errors (this is said once)", self.name);
            }
        }
        result
    }

    /// Gives the range's space back to the host; it reads as zeroes then.
    pub fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE, offset, length)
    }

    /// Makes the range read as zeroes, keeping its space if `keep`.
    pub fn zero(&self, offset: u64, length: u64, keep: bool) -> io::Result<()> {
        let how = if keep || self.keep_space { FallocateFlags::ZERO_RANGE } else { FallocateFlags::PUNCH_HOLE };
        match self.allocate(how, offset, length) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeroes(offset, length),
            result => result,
        }
    }

    fn allocate(&self, how: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        self.written(|| loop {
            match fallocate(self.target(), how | FallocateFlags::KEEP_SIZE, offset, length) {
                Err(Errno::INTR) => {}
                // Some block devices say EINVAL where they mean that they cannot.
                Err(Errno::NOSYS | Errno::OPNOTSUPP) => return Err(io::ErrorKind::Unsupported.into()),
                result => return result.map_err(io::Error::from),
            }
        })?;
        self.take(offset, length);
        Ok(())
    }

    fn write_zeroes(&self, mut offset: u64, mut length: u64) -> io::Result<()> {
        static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
        while length > 0 {
            let part = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROES.len());
            self.written(|| self.target().write_all_at(ZEROES.get(..part).unwrap_or(&[]), offset))?;
            self.take(offset, part as u64);
            offset += part as u64;
            length -= part as u64;
        }
        Ok(())
    }
}

/// Whether it is a block device; nothing if it is neither that nor a file.
fn kind(metadata: &std::fs::Metadata) -> Option<bool> {
    let kind = metadata.file_type();
    (kind.is_file() || kind.is_block_device()).then(|| kind.is_block_device())
}

fn hint(reason: &io::Error, options: &BlockOptions) -> &'static str {
    match reason.kind() {
        io::ErrorKind::NotFound => "; check the path, or make an image with truncate --size",
        io::ErrorKind::PermissionDenied if options.keeps_file() => "; you need permission to read it",
        io::ErrorKind::PermissionDenied => "; you need permission to write it, or give it as read-only",
        io::ErrorKind::ReadOnlyFilesystem => "; give it as read-only",
        io::ErrorKind::ResourceBusy => {
            "; it is mounted or otherwise in use on this machine: unmount it, or give it as read-only"
        }
        _ => "",
    }
}

/// Takes an open-file-description lock on the whole file: many readers or one writer. It goes away when the file is closed, however
/// the process ends. QEMU locks single bytes of its images in the same way, so that the two see each other.
fn lock(file: &File, shared: bool) -> nix::Result<()> {
    let kind = if shared { libc::F_RDLCK } else { libc::F_WRLCK };
    // From the start (l_whence, l_start) to the end, wherever that will be (l_len 0), for this description (l_pid 0).
    let range = libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(drop)
}

fn id(path: &Path, options: &BlockOptions) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    let name = path.file_name().map(|name| name.to_string_lossy());
    let serial = options.serial.as_deref().or(name.as_deref()).unwrap_or("");
    for (to, from) in id.iter_mut().zip(serial.bytes()) {
        *to = from;
    }
    id
}
