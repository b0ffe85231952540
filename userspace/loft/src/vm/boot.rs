// SPDX-License-Identifier: Apache-2.0
//! Putting the kernel, the initial RAM disk and the device tree into the guest's memory.

use crate::cli::TransportKind;
use crate::vm::machine::Setup;
use anyhow::{anyhow, Context, Result};
use loft_boot::image::{Content, Kernel};
use loft_boot::layout::{self, Placement};
use loft_boot::{fdt, size};
use std::io::{Read, Seek};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Loads everything; returns where the vCPU starts and where the device tree is.
pub fn load(memory: &GuestMemoryMmap<()>, setup: &mut Setup, mpidrs: &[u64], virtio: usize) -> Result<Placement> {
    let initrd_size = setup.initrd.iter().map(|part| part.len() as u64).sum();
    let place = layout::place(setup.memory, setup.kernel.text_offset, setup.kernel.memory_size, initrd_size).map_err(
        |needed| {
            anyhow!(
                "{} of memory is too little for this kernel and its initial RAM disk; give at least -m {}M",
                size::show(setup.memory),
                needed.div_ceil(1 << 20)
            )
        },
    )?;
    load_kernel(memory, &mut setup.kernel, place.kernel).context("cannot load the kernel")?;
    let mut at = place.initrd;
    for part in &setup.initrd {
        memory.write_slice(part, GuestAddress(at)).context("cannot load the initial RAM disk")?;
        at += part.len() as u64;
    }
    let blob = fdt::build(&fdt::Machine {
        mpidrs,
        memory: setup.memory,
        cmdline: &setup.cmdline,
        initrd: (initrd_size > 0).then_some((place.initrd, initrd_size)),
        virtio,
        pci: setup.transport == TransportKind::Pci,
        kaslr_seed: u64::from_le_bytes(random()?),
        rng_seed: random()?,
    })
    .context("cannot write the device tree")?;
    memory.write_slice(&blob, GuestAddress(place.fdt)).context("cannot load the device tree")?;
    Ok(place)
}

fn load_kernel(memory: &GuestMemoryMmap<()>, kernel: &mut Kernel, at: u64) -> Result<()> {
    match &mut kernel.content {
        Content::Memory(bytes) => memory.write_slice(bytes, GuestAddress(at))?,
        Content::File(file) => {
            file.rewind()?;
            memory.read_exact_volatile_from(GuestAddress(at), file, kernel.stored_size as usize)?;
        }
    }
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut source = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    source.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes)
}
