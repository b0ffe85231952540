// SPDX-License-Identifier: Apache-2.0
//! Reading a file into guest memory and writing it from there, without a copy in between.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

/// The most pieces that one system call takes (UIO_MAXIOV).
const MAX_PIECES: usize = 1024;

/// Fills `to` with the bytes of `file` at `offset`.
///
/// # Errors
/// `UnexpectedEof` if the file ends before that, else what the system says.
pub fn read_at<'m>(file: &File, offset: u64, to: impl Iterator<Item = &'m VolatileSlice<'m>>) -> io::Result<()> {
    transfer(offset, to, |pieces, count, offset| {
        // SAFETY: 1. `pieces` points to `count` valid iovecs (the contract of `transfer`). 2. Each of them is guest memory, mapped
        // writable as long as its VolatileSlice lives, which is past this call. 3. That memory is only ever accessed as volatile,
        // so nothing assumes that it does not change.
        let done = unsafe { libc::preadv(file.as_raw_fd(), pieces, count, offset) };
        if done == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(done)
    })
}

/// Writes `from` to `file` at `offset`.
pub fn write_at<'m>(file: &File, offset: u64, from: impl Iterator<Item = &'m VolatileSlice<'m>>) -> io::Result<()> {
    transfer(offset, from, |pieces, count, offset| {
        // SAFETY: as in `read_at`; the kernel only reads the memory.
        let done = unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset) };
        if done == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(done)
    })
}

/// Calls `call` until all of `slices` is transferred, with a pointer to the iovecs that are left (at least one, none of them
/// empty), their number, and the place in the file. `call` returns as the system calls do: -1 is in `errno`.
fn transfer<'m, F>(offset: u64, slices: impl Iterator<Item = &'m VolatileSlice<'m>>, call: F) -> io::Result<()>
where
    F: Fn(*const libc::iovec, libc::c_int, libc::off_t) -> io::Result<isize>,
{
    let mut pieces: Vec<libc::iovec> = slices
        .filter(|slice| !slice.is_empty())
        .map(|slice| libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
        .collect();
    let mut first = 0;
    let mut offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    while let Some(left) = pieces.get(first..).filter(|left| !left.is_empty()) {
        let count = left.len().min(MAX_PIECES);
        let done = call(left.as_ptr(), count as libc::c_int, offset)?;
        let Ok(mut done) = usize::try_from(done) else {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        };
        offset = offset.checked_add(done as libc::off_t).ok_or(io::ErrorKind::InvalidInput)?;
        while let Some(piece) = pieces.get_mut(first).filter(|_| done > 0) {
            let part = done.min(piece.iov_len);
            piece.iov_base = piece.iov_base.wrapping_byte_add(part);
            piece.iov_len -= part;
            done -= part;
            if piece.iov_len == 0 {
                first += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use vm_memory::VolatileSlice;

    use super::*;

    /// A system call that transfers at most `limit` bytes at a time, in order. Returns the places in the file and the bytes.
    fn transferred(limit: usize) -> (Vec<i64>, Vec<u8>) {
        let mut bytes: Vec<u8> = (0..100).collect();
        let (one, rest) = bytes.split_at_mut(1);
        let (two, three) = rest.split_at_mut(40);
        let slices = [one, two, &mut [], three].map(VolatileSlice::from);
        let seen = RefCell::new((Vec::new(), Vec::new()));
        transfer(1000, slices.iter(), |pieces, count, offset| {
            // SAFETY: by the contract of `transfer`, `pieces` are `count` iovecs.
            let pieces = unsafe { std::slice::from_raw_parts(pieces, count as usize) };
            let mut left = limit;
            let mut seen = seen.borrow_mut();
            seen.0.push(offset);
            for piece in pieces {
                assert!(piece.iov_len > 0);
                let part = left.min(piece.iov_len);
                // SAFETY: by the contract of `transfer`, they are valid.
                seen.1.extend(unsafe { std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), part) });
                left -= part;
            }
            Ok((limit - left) as isize)
        })
        .unwrap();
        seen.into_inner()
    }

    #[test]
    fn short_transfers_go_on_where_they_stopped() {
        for limit in [1, 7, 40, 41, 99, 100, 1000] {
            let (offsets, bytes) = transferred(limit);
            assert_eq!(bytes, (0..100).collect::<Vec<u8>>(), "{limit}");
            assert_eq!(offsets, (0..100).step_by(limit).map(|at| 1000 + at as i64).collect::<Vec<_>>(), "{limit}");
        }
    }

    #[test]
    fn nothing_is_no_call() {
        transfer(0, [].iter(), |_, _, _| panic!("called")).unwrap();
    }

    #[test]
    fn errors_come_back() {
        let mut bytes = [0u8; 8];
        let slices = [VolatileSlice::from(&mut bytes[..])];
        let error = transfer(0, slices.iter(), |_, _, _| Err(io::ErrorKind::UnexpectedEof.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(transfer(u64::MAX, slices.iter(), |_, _, _| panic!("called")).is_err());
    }
}
