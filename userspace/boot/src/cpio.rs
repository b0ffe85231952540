// SPDX-License-Identifier: Apache-2.0
//! Writing initial RAM disks: the cpio "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

/// An archive under construction. Names are relative to the root, without a leading slash; a directory must be added
/// before what it holds.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with mode 0755.
    pub fn dir(&mut self, name: &str) {
        self.entry(name, S_IFDIR | 0o755, (0, 0), &[]);
    }

    /// Adds a regular file with the permission bits `mode`.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, S_IFREG | mode, (0, 0), content);
    }

    /// Adds a symbolic link to `target`.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, S_IFLNK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device with the numbers `major` and `minor`.
    pub fn chardev(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.entry(name, S_IFCHR | mode, (major, minor), &[]);
    }

    /// Ends the archive; its length is a multiple of 512, so that another archive, compressed or not, can follow it.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode = self.inode.wrapping_add(1);
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time
            content.len() as u32,
            0,
            0, // device of the file system
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum: none in "070701"
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry: name, mode, rdev, content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back.
    fn parse(mut b: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&b[..6], b"070701");
            let field =
                |i: usize| u32::from_str_radix(std::str::from_utf8(&b[6 + i * 8..14 + i * 8]).unwrap(), 16).unwrap();
            let (mode, size, major, minor, name_size) =
                (field(1), field(6) as usize, field(9), field(10), field(11) as usize);
            let name = String::from_utf8(b[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(b[110 + name_size - 1], 0);
            let data = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode, (major, minor), b[data..data + size].to_vec()));
            b = &b[(data + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn round_trip() {
        let mut c = Cpio::new();
        c.dir("a");
        c.file("a/b", 0o755, b"hello");
        c.symlink("l", "a/b");
        c.chardev("console", 0o600, 5, 1);
        let bytes = c.finish();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(
            parse(&bytes),
            [
                ("a".into(), 0o040_755, (0, 0), vec![]),
                ("a/b".into(), 0o100_755, (0, 0), b"hello".to_vec()),
                ("l".into(), 0o120_777, (0, 0), b"a/b".to_vec()),
                ("console".into(), 0o020_600, (5, 1), vec![]),
            ]
        );
    }
}
