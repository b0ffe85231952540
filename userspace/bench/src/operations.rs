// SPDX-License-Identifier: Apache-2.0
//! The exits that are taken apart.

/// One kind of exit.
pub struct Operation {
    /// As in the table.
    pub name: &'static str,
    /// The benchmark's program and case that cause it.
    pub program: &'static str,
    /// The case.
    pub case: &'static str,
    /// On which CPU the exit is looked for.
    pub cpu: u32,
}

/// An operation on the CPU where every vCPU 0 runs.
const fn on(program: &'static str, name: &'static str) -> Operation {
    Operation { name, program, case: name, cpu: 1 }
}

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    on("exits", "hypercall"),
    on("exits", "idreg_read"),
    on("exits", "gicd_read"),
    on("exits", "gicd_write"),
    on("exits", "gicr_read"),
    on("exits", "sgi1r_write"),
    on("exits", "timer_ctl_read"),
    on("exits", "mmio_user"),
    Operation { name: "sgi_send", program: "interrupts", case: "sgi_deliver", cpu: 1 },
    Operation { name: "sgi_receive", program: "interrupts", case: "sgi_deliver", cpu: 2 },
    on("interrupts", "timer_fire"),
    on("io", "ioeventfd_kick"),
    on("memory", "stage2_fault_4k"),
    on("memory", "write_after_protect"),
];
