// SPDX-License-Identifier: Apache-2.0
use super::*;
use std::io::Write;

/// An `Image` with a PE header that describes `stored` bytes, and a banner in the middle.
fn image(stored: usize) -> Vec<u8> {
    let mut b = vec![0u8; stored];
    b[0..2].copy_from_slice(b"MZ");
    b[16..24].copy_from_slice(&0x20_0000u64.to_le_bytes());
    b[24..32].copy_from_slice(&0xau64.to_le_bytes());
    b[56..60].copy_from_slice(ARM64_MAGIC);
    b[60..64].copy_from_slice(&64u32.to_le_bytes());
    b[64..68].copy_from_slice(b"PE\0\0");
    b[68..70].copy_from_slice(&PE_MACHINE_ARM64.to_le_bytes());
    b[70..72].copy_from_slice(&1u16.to_le_bytes());
    b[84..86].copy_from_slice(&160u16.to_le_bytes());
    let section = 64 + 24 + 160;
    b[section + 16..section + 20].copy_from_slice(&(stored as u32 - 512).to_le_bytes());
    b[section + 20..section + 24].copy_from_slice(&512u32.to_le_bytes());
    let banner = b"Linux version %s (format)\0Linux version 7.2.12+deb13-arm64 (a@b)";
    b[5000..5000 + banner.len()].copy_from_slice(banner);
    b
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn zboot(kind: &str, payload: &[u8], machine: u16) -> Vec<u8> {
    let mut b = vec![0u8; 1024];
    b[0..2].copy_from_slice(b"MZ");
    b[4..8].copy_from_slice(b"zimg");
    b[8..12].copy_from_slice(&1024u32.to_le_bytes());
    b[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    b[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
    b[60..64].copy_from_slice(&64u32.to_le_bytes());
    b[64..68].copy_from_slice(b"PE\0\0");
    b[68..70].copy_from_slice(&machine.to_le_bytes());
    b.extend_from_slice(payload);
    b
}

fn open(bytes: &[u8]) -> Result<Kernel, String> {
    let mut path = std::env::temp_dir();
    path.push(format!("loft-image-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(&path, bytes).unwrap();
    let result = Kernel::open(&path);
    std::fs::remove_file(&path).unwrap();
    result.map_err(|e| {
        let text = e.to_string();
        assert!(text.contains("loft-image-"), "the error names the file: {text}");
        text
    })
}

#[test]
fn a_raw_image_stays_in_its_file() {
    let kernel = open(&image(8192)).unwrap();
    assert!(matches!(kernel.content, Content::File(_)));
    assert_eq!((kernel.stored_size, kernel.memory_size, kernel.text_offset), (8192, 0x20_0000, 0));
    assert_eq!(kernel.release().unwrap().as_deref(), Some("7.2.12+deb13-arm64"));
}

#[test]
fn compressed_forms_are_unpacked() {
    let raw = image(8192);
    let forms = [
        gzip(&raw),
        zboot("gzip", &gzip(&raw), PE_MACHINE_ARM64),
        zboot(
            "zstd22",
            &ruzstd::encoding::compress_to_vec(&raw[..], ruzstd::encoding::CompressionLevel::Uncompressed),
            PE_MACHINE_ARM64,
        ),
    ];
    for form in forms {
        let kernel = open(&form).unwrap();
        assert!(matches!(&kernel.content, Content::Memory(m) if *m == raw));
        assert_eq!(kernel.release().unwrap().as_deref(), Some("7.2.12+deb13-arm64"));
    }
}

#[test]
fn a_cut_file_is_told_from_a_whole_one() {
    assert!(open(&image(8192)[..8191]).unwrap_err().contains("cut short"));
    let packed = zboot("gzip", &gzip(&image(8192)), PE_MACHINE_ARM64);
    assert!(open(&packed[..packed.len() - 1]).unwrap_err().contains("cut short"));
    let packed = gzip(&image(8192));
    assert!(open(&packed[..packed.len() / 2]).unwrap_err().contains("damaged or cut short"));
}

#[test]
fn what_is_not_a_kernel_is_named() {
    let mut x86 = vec![0u8; 4096];
    x86[0..2].copy_from_slice(b"MZ");
    x86[0x202..0x206].copy_from_slice(b"HdrS");
    assert!(open(&x86).unwrap_err().contains("for x86"));
    assert!(open(b"").unwrap_err().contains("empty"));
    assert!(open(b"hello").unwrap_err().contains("only 5 bytes"));
    assert!(open(&[0u8; 4096]).unwrap_err().contains("no arm64 kernel header"));
    let mut elf = vec![0u8; 128];
    elf[..4].copy_from_slice(b"\x7fELF");
    elf[18] = 183;
    assert!(open(&elf).unwrap_err().contains("objcopy"));
    assert!(open(&zboot("lz4", b"x", PE_MACHINE_ARM64)).unwrap_err().contains("'lz4'"));
    assert!(open(&zboot("gzip", b"x", 0x8664)).unwrap_err().contains("another machine"));
    assert!(open(&gzip(&x86)).unwrap_err().contains("for x86"));
    let mut big_endian = image(8192);
    big_endian[24] |= 1;
    assert!(open(&big_endian).unwrap_err().contains("big-endian"));
}

#[test]
fn a_missing_file_is_a_read_error() {
    let error = Kernel::open(Path::new("/nonexistent/Image")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/Image") && error.contains("No such file"), "{error}");
}

#[test]
fn a_release_is_found_wherever_it_is() {
    const TEXT: &[u8] = b"Linux version 7.2.12+deb13-arm64 (a@b)";
    for at in (LOOKED_AT - 200..LOOKED_AT + 8).step_by(5).chain([2 * LOOKED_AT - 300, 3 * LOOKED_AT - TEXT.len()]) {
        let mut raw = image(3 * LOOKED_AT);
        raw[5000..5100].fill(0);
        raw[at..at + TEXT.len()].copy_from_slice(TEXT);
        assert_eq!(open(&raw).unwrap().release().unwrap().as_deref(), Some("7.2.12+deb13-arm64"), "{at}");
    }
    let mut none = image(3 * LOOKED_AT);
    none[5000..5100].fill(0);
    assert_eq!(open(&none).unwrap().release().unwrap(), None);
}
