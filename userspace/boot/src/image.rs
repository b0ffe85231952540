// SPDX-License-Identifier: Apache-2.0
//! Arm64 Linux kernel images: the raw `Image` (Documentation/arch/arm64/booting.rst in the kernel's source), the same
//! compressed, and the EFI zboot form (drivers/firmware/efi/libstub/zboot-header.S), which holds a compressed `Image`.

use crate::compressed::Format;
use memchr::memmem;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The largest kernel that is decompressed.
const MAX_IMAGE: u64 = 1 << 30;
/// Bytes of the fixed header in front of every `Image`.
const HEADER: usize = 64;
/// What is in front of a kernel's release.
const BANNER: &[u8] = b"Linux version ";
/// The most bytes of a release, and of the space behind it.
const MAX_RELEASE: usize = 128;
/// How much of a file is looked at at a time for it.
const LOOKED_AT: usize = 1 << 20;
const ARM64_MAGIC: &[u8] = b"ARM\x64";
const PE_MACHINE_ARM64: u16 = 0xaa64;

/// Why a file is not a kernel that can be booted. The text names the file, the reason and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read.
    #[error("the kernel {} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file was read and is not an arm64 kernel.
    #[error("{} is not a kernel that boots here: {reason}", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to give.
        reason: String,
    },
}

/// Where the bytes of the uncompressed `Image` are.
#[derive(Debug)]
pub enum Content {
    /// In the file itself, from its beginning.
    File(File),
    /// In memory, because they had to be decompressed.
    Memory(Vec<u8>),
}

/// A kernel that has been recognised and, where needed, decompressed.
#[derive(Debug)]
pub struct Kernel {
    /// The uncompressed `Image`.
    pub content: Content,
    /// Bytes of the `Image` that are stored.
    pub stored_size: u64,
    /// Where the image wants to be, in bytes above a 2 MiB boundary.
    pub text_offset: u64,
    /// Bytes that the kernel occupies in memory, its zero-initialised data included.
    pub memory_size: u64,
    path: PathBuf,
}

impl Kernel {
    /// Opens `path`, recognises its form, and decompresses it where it is compressed.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let read = |error| ImageError::Read { path: path.to_owned(), error };
        let not = |reason: String| ImageError::NotAKernel { path: path.to_owned(), reason };

        let mut file = File::open(path).map_err(read)?;
        let meta = file.metadata().map_err(read)?;
        if meta.is_dir() {
            return Err(not("it is a directory".into()));
        }
        let size = meta.len();
        let mut head = vec![0; size.min(4096) as usize];
        file.read_exact_at(&mut head, 0).map_err(read)?;

        if head.get(4..8) == Some(b"zimg") && head.starts_with(b"MZ") {
            let zboot = Zboot::parse(&head, size).map_err(not)?;
            let mut payload = vec![0; zboot.size as usize];
            file.read_exact_at(&mut payload, zboot.offset).map_err(read)?;
            let image = unpack(zboot.format, &payload).map_err(not)?;
            return Self::from_memory(image, path);
        }
        if let Some(format) = Format::of(&head) {
            let mut packed = Vec::new();
            file.read_to_end(&mut packed).map_err(read)?;
            let image = unpack(format, &packed).map_err(not)?;
            return Self::from_memory(image, path);
        }
        let header = Header::parse(&head, size).map_err(not)?;
        Ok(Self::new(header, Content::File(file), size, path))
    }

    fn from_memory(image: Vec<u8>, path: &Path) -> Result<Self, ImageError> {
        let size = image.len() as u64;
        let header = Header::parse(&image[..image.len().min(4096)], size)
            .map_err(|reason| ImageError::NotAKernel { path: path.to_owned(), reason })?;
        Ok(Self::new(header, Content::Memory(image), size, path))
    }

    fn new(header: Header, content: Content, stored_size: u64, path: &Path) -> Self {
        Self {
            content,
            stored_size,
            text_offset: header.text_offset,
            memory_size: header.memory_size.max(stored_size),
            path: path.to_owned(),
        }
    }

    /// The kernel's release as `uname -r` prints it, found by its banner; `None` where there is no banner.
    /// It looks through the image: call it only when it is needed.
    pub fn release(&self) -> Result<Option<String>, ImageError> {
        self.find(BANNER.len() + MAX_RELEASE, find_release)
    }

    /// Whether `text` is anywhere in the kernel, as a driver's name is that is built in.
    /// It looks through the image: call it only when it is needed.
    pub fn contains(&self, text: &[u8]) -> Result<bool, ImageError> {
        let finder = memmem::Finder::new(text);
        Ok(self.find(text.len(), |part| finder.find(part))?.is_some())
    }

    /// What `find` finds, which is at most `longest` bytes, a part of the image at a time.
    fn find<T>(&self, longest: usize, find: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, ImageError> {
        let file = match &self.content {
            Content::Memory(bytes) => return Ok(find(bytes)),
            Content::File(file) => file,
        };
        let mut bytes = vec![0; LOOKED_AT];
        let mut at = 0;
        while at < self.stored_size {
            let length = (self.stored_size - at).min(LOOKED_AT as u64);
            let part = &mut bytes[..length as usize];
            file.read_exact_at(part, at).map_err(|error| ImageError::Read { path: self.path.clone(), error })?;
            let found = find(part);
            if found.is_some() {
                return Ok(found);
            }
            // What is over the end of this part is in the next one.
            at += (LOOKED_AT - longest) as u64;
        }
        Ok(None)
    }
}

fn unpack(format: Format, packed: &[u8]) -> Result<Vec<u8>, String> {
    format
        .decompress(packed, MAX_IMAGE)
        .map_err(|e| format!("its {format:?} data is damaged or cut short ({e}); copy the file again"))
}

fn find_release(image: &[u8]) -> Option<String> {
    memmem::find_iter(image, BANNER).find_map(|at| {
        let rest = &image[at + BANNER.len()..];
        let end = rest.iter().take(MAX_RELEASE).position(|b| *b == b' ')?;
        let release = std::str::from_utf8(&rest[..end]).ok()?;
        release.starts_with(|c: char| c.is_ascii_digit()).then(|| release.to_owned())
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

struct Header {
    text_offset: u64,
    memory_size: u64,
}

impl Header {
    /// `head` is the start of the image (4096 bytes or all of it), `size` its length in bytes.
    fn parse(head: &[u8], size: u64) -> Result<Self, String> {
        if head.len() < HEADER || head.get(56..60) != Some(ARM64_MAGIC) {
            return Err(what_it_is(head));
        }
        let text_offset = u64_at(head, 8).unwrap_or(0);
        let memory_size = u64_at(head, 16).unwrap_or(0);
        let flags = u64_at(head, 24).unwrap_or(0);
        if flags & 1 != 0 {
            return Err("it is a big-endian kernel; loft boots little-endian ones".into());
        }
        if memory_size > MAX_IMAGE || text_offset >= 2 << 20 {
            return Err(format!("its header is damaged (image size {memory_size:#x}, text offset {text_offset:#x})"));
        }
        if let Some(end) = pe_end(head) {
            if end > size {
                return Err(format!(
                    "it is cut short: its header describes {end} bytes and it has {size}; copy it again"
                ));
            }
        }
        // Before Linux 3.17 image_size was 0; such a kernel takes what it stores.
        Ok(Self { text_offset, memory_size })
    }
}

/// The end of the last section's stored bytes, where the image is also a PE file (every kernel with the EFI stub is).
fn pe_end(head: &[u8]) -> Option<u64> {
    let pe = u32_at(head, 60)? as usize;
    if head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let sections = u16_at(head, pe + 6)? as usize;
    let table = pe + 24 + u16_at(head, pe + 20)? as usize;
    (0..sections)
        .map_while(|i| {
            let entry = table + i * 40;
            Some(u64::from(u32_at(head, entry + 16)?) + u64::from(u32_at(head, entry + 20)?))
        })
        .max()
}

struct Zboot {
    offset: u64,
    size: u64,
    format: Format,
}

impl Zboot {
    fn parse(head: &[u8], file_size: u64) -> Result<Self, String> {
        let damaged = || "its EFI zboot header is damaged; copy it again".to_owned();
        let offset = u64::from(u32_at(head, 8).ok_or_else(damaged)?);
        let size = u64::from(u32_at(head, 12).ok_or_else(damaged)?);
        if let Some(machine) = u32_at(head, 60).and_then(|pe| u16_at(head, pe as usize + 4)) {
            if machine != PE_MACHINE_ARM64 {
                return Err(format!(
                    "it is an EFI zboot image for another machine ({machine:#06x}); give an arm64 one"
                ));
            }
        }
        if offset + size > file_size {
            return Err(format!(
                "it is cut short: its payload ends at byte {} and it has {file_size}; copy it again",
                offset + size
            ));
        }
        let name = head.get(24..56).ok_or_else(damaged)?;
        let name = String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
        let format = match name.as_str() {
            "gzip" => Format::Gzip,
            "xzkern" => Format::Xz,
            n if n.starts_with("zstd") => Format::Zstd,
            other => {
                return Err(format!(
                    "its EFI zboot payload is compressed with '{other}'; loft knows gzip, zstd and xz: give the uncompressed Image"
                ))
            }
        };
        Ok(Self { offset, size, format })
    }
}

/// What a file that has no arm64 header is, with the remedy.
fn what_it_is(head: &[u8]) -> String {
    let remedy = "give an arm64 kernel: a raw Image, or the vmlinuz that a distribution ships for arm64";
    let kind = if head.is_empty() {
        "it is empty".to_owned()
    } else if head.get(0x202..0x206) == Some(b"HdrS") {
        "it is a kernel for x86".to_owned()
    } else if head.starts_with(b"\x7fELF") {
        match u16_at(head, 18) {
            Some(183) => {
                return "it is an ELF file (vmlinux); give the Image made from it (objcopy -O binary, or arch/arm64/boot/Image)".into()
            }
            _ => "it is an ELF file for another machine".to_owned(),
        }
    } else if head.get(0x30..0x34) == Some(&[0x52, 0x49, 0x53, 0x43]) || head.get(56..60) == Some(b"RSC\x05") {
        "it is a kernel for RISC-V".to_owned()
    } else if head.starts_with(b"MZ") {
        "it is an EFI program without the header of an arm64 kernel (a unified kernel image or a boot loader?)"
            .to_owned()
    } else if head.starts_with(b"070701") {
        "it is an initial RAM disk (that goes to -i)".to_owned()
    } else if head.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
        "it is a device tree or FIT image".to_owned()
    } else if head.len() < HEADER {
        format!("it is only {} bytes long", head.len())
    } else {
        "it has no arm64 kernel header (\"ARM\\x64\" at byte 56)".to_owned()
    };
    format!("{kind}; {remedy}")
}

#[cfg(test)]
mod tests;
