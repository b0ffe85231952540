// SPDX-License-Identifier: Apache-2.0
//! The compression formats that kernels and modules come in, told apart by their first bytes.

use std::io::{self, Read};

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// The .xz container.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Format {
    /// The format whose magic number `bytes` starts with.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Some(Self::Gzip)
        } else if bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    /// Decompresses the first stream in `bytes`; what follows it is ignored (zboot images append the size there).
    /// More than `limit` bytes of output are an error, so that a small file cannot fill the memory.
    pub fn decompress(self, bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Gzip => {
                flate2::bufread::GzDecoder::new(bytes).take(limit + 1).read_to_end(&mut out)?;
            }
            Self::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(io::Error::other)?;
                decoder.take(limit + 1).read_to_end(&mut out)?;
            }
            Self::Xz => {
                let mut sink = Limited { out: &mut out, limit };
                lzma_rs::xz_decompress(&mut io::BufReader::new(bytes), &mut sink)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{e:?}")))?;
            }
        }
        if out.len() as u64 > limit {
            return Err(too_large(limit));
        }
        Ok(out)
    }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it decompresses to more than {} MiB", limit >> 20))
}

struct Limited<'a> {
    out: &'a mut Vec<u8>,
    limit: u64,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if (self.out.len() + buf.len()) as u64 > self.limit {
            return Err(too_large(self.limit));
        }
        self.out.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }

    fn xz(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lzma_rs::xz_compress(&mut io::BufReader::new(data), &mut out).unwrap();
        out
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Uncompressed)
    }

    #[test]
    fn every_format_round_trips_and_ignores_what_follows() {
        let data: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (format, mut packed) in [(Format::Gzip, gzip(&data)), (Format::Xz, xz(&data)), (Format::Zstd, zstd(&data))]
        {
            assert_eq!(Format::of(&packed), Some(format));
            if format != Format::Xz {
                packed.extend_from_slice(&[1, 2, 3, 4]);
            }
            assert!(format.decompress(&packed, 1 << 20).unwrap() == data, "{format:?}");
        }
        assert_eq!(Format::of(b"MZ"), None);
    }

    #[test]
    fn output_is_limited() {
        let data = vec![0u8; 4096];
        for packed in [gzip(&data), xz(&data), zstd(&data)] {
            let format = Format::of(&packed).unwrap();
            assert!(format.decompress(&packed, 4096).is_ok(), "{format:?}");
            assert!(format.decompress(&packed, 4095).is_err(), "{format:?}");
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let data: Vec<u8> = (0..50_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for packed in [gzip(&data), xz(&data), zstd(&data)] {
            let format = Format::of(&packed).unwrap();
            assert!(format.decompress(&packed[..packed.len() / 2], 1 << 20).is_err(), "{format:?}");
        }
    }
}
