// SPDX-License-Identifier: Apache-2.0
//! What an instruction is for, as far as the name of its function tells. What the compiler has inlined counts for the function
//! it was inlined into.

/// The groups, in the order of the table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Group {
    /// The exception vector, the general registers, ERET.
    Vector,
    /// System and FP registers of host and guest changing places, traps set.
    Registers,
    /// The exit decoded and answered.
    Handler,
    /// The virtual interrupt controller, its list registers.
    Gic,
    /// The timers.
    Timer,
    /// Memory slots, page tables, TLBs.
    Memory,
    /// The loop around it all.
    Loop,
    /// Locks, RCU, preemption and reference counts.
    Locks,
    /// The host's interrupts, those between its CPUs too.
    Interrupts,
    /// The system call, and the VMM.
    Syscall,
    /// All else.
    Other,
}

impl Group {
    /// All of them with their names in the table.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::Vector, "vector"),
        (Self::Registers, "regs"),
        (Self::Handler, "handler"),
        (Self::Gic, "gic"),
        (Self::Timer, "timer"),
        (Self::Memory, "memory"),
        (Self::Loop, "loop"),
        (Self::Locks, "locks"),
        (Self::Interrupts, "irq"),
        (Self::Syscall, "syscall"),
        (Self::Other, "other"),
    ];

    /// Of a function of the kernel or a module.
    pub fn of(function: &str) -> Self {
        RULES
            .iter()
            .find(|(_, patterns)| patterns.iter().any(|p| matches(p, function)))
            .map_or(Self::Other, |(group, _)| *group)
    }
}

/// The first that fits counts. A * stands for anything.
#[rustfmt::skip]
const RULES: &[(Group, &[&str])] = &[
    (Group::Vector, &[
        "loft_vectors", "loft_exit_*", "loft_answer", "loft_resume", "loft_not_resume",
        "__kvm_hyp_vector", "el1_sync", "el1_irq", "el1_trap", "__guest_enter", "__guest_exit",
    ]),
    (Group::Locks, &[
        "*spin_*lock*", "*mutex*", "*rcu_*", "*preempt_enable*", "*preempt_disable*", "*refcount*", "*rwsem*", "down_read*", "up_read*",
        "*read_lock*", "*read_unlock*", "*rust_helper_atomic*", "*local_irq_*", "*local_bh_*", "loft_local_daif_*",
    ]),
    (Group::Registers, &[
        "loft_enter", "loft_leave", "*sysreg_save*", "*sysreg_restore*", "*activate_traps*", "*activate_cptr*", "*Resident>::load",
        "*Resident>::put", "*renew_control", "*ctxt_sys_reg", "*_switch_sysregs", "sysreg_*_state_vhe", "__sysreg_*", "*fpsimd*",
        "*neon*", "*ctxsync_fp", "*ctxflush_fp", "*_load_fp", "*_put_fp", "*compute_hfg*", "*kvm_vcpu_pmu_*", "*debug*", "*_load_fgt", "*setup_mdcr*", "kvm_vcpu_load_vhe", "kvm_vcpu_put_vhe",
    ]),
    (Group::Timer, &["*timer*", "set_cntvoff", "arch_counter_*"]),
    (Group::Gic, &[
        "*vgic*", "*::vm::gic::*", "*::arch::gic::*", "*::take_lists", "*::fill_lists", "*::vcpu::cpu_interface::*", "*vgic_v3*", "*gic_v3*", "kvm_mpidr_to_vcpu",
    ]),
    (Group::Handler, &[
        "loft_fast_*", "*::esr::*", "*::vcpu::exit::*", "*::psci::*", "*::smccc*",
        "*handle_exit*", "kvm_handle_sys_reg", "kvm_handle_guest_abort", "kvm_handle_mmio_return", "handle_hvc", "kvm_smccc*",
        "kvm_hyp_handle_*", "*perform_access*", "triage_*", "access_*", "read_id_reg*", "id_visibility", "io_mem_abort", "kvm_io_bus_*",
        "*kvm_io_bus*", "kvm_mmio_*", "ioeventfd_*", "eventfd_*", "*::vm::events::*", "*adjust_pc", "vcpu_read_sys_reg", "locate_*",
        "kvm_vcpu_is_be*", "kvm_vcpu_apply_reg_masks", "xa_*", "xas_*", "bsearch", "match_region", "dispatch_mmio_*", "_find_next_bit",
    ]),
    (Group::Memory, &[
        "*stage2*", "*pgtable*", "*gup_*", "*get_user_pages*", "*folio*", "*pte_*", "*mmu*", "*user_mem_abort*", "*tlb*", "*hva_*",
        "*_pfn*", "*memslot*", "*::memory::*", "*page*", "*hpfar*", "*vmid*", "*leaf*", "loft_phys_to_virt", "kvm_host_va",
    ]),
    (Group::Loop, &[
        "*::vcpu::run::*", "*::vcpu::context::*", "*::vcpu::frozen::*", "*::vcpu::Vcpu>::run*", "*::host::guest::*", "loft_set_loaded_frame", "*preempt_notifier_*",
        "kvm_get_running_vcpu", "loft_guest_*", "kvm_arch_vcpu_ioctl_run", "kvm_arm_vcpu_enter_exit",
        "__kvm_vcpu_run*", "kvm_arch_vcpu_load", "kvm_arch_vcpu_put", "vcpu_load", "vcpu_put", "*xfer_to_guest*", "loft_context_tracking_*", "*nested*",
        "vcpu_has_nv", "kvm_dirty_ring*", "cleanup_module",
    ]),
    (Group::Interrupts, &[
        "*ipi*", "*smp_*", "el1h_*", "el1_interrupt", "*irq*", "gic_*", "do_interrupt_handler", "*interrupt_randomness", "fast_mix",
        "*kvm_vcpu_kick", "*should_kick", "rcuwait_*", "ret_to_kernel", "*exit_to_kernel*", "*enter_from_kernel*", "idle_cpu",
        "call_on_irq_stack", "*csd*", "generic_exec_single", "*radix_tree_lookup",
        "convert_offset_index", "cpu_logical_map", "llist_*", "*::host::kick::*",
    ]),
    (Group::Syscall, &[
        "el0*", "*syscall*", "*ioctl*", "*svc*", "security_*", "*tomoyo*", "hook_*", "fdget*", "fput*", "ret_to_user", "*exit_to_user*",
        "kvm_vcpu_ioctl", "*enter_from_user*", "prandom_u32_state", "vectors",
    ]),
];

/// Whether `name` is as `pattern` says, each * in it standing for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abcd", true),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*abc*", "xabcx", true),
            ("*spin_*lock*", "_raw_spin_unlock_irqrestore", true),
            ("*spin_*lock*", "_raw_spin", false),
            ("sysreg_*_state_vhe", "sysreg_save_host_state_vhe", true),
            ("sysreg_*_state_vhe", "sysreg_save_host_state", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn functions_of_both_hypervisors_have_their_groups() {
        for (function, group) in [
            ("loft_vectors", Group::Vector),
            ("__guest_exit", Group::Vector),
            ("loft_enter", Group::Registers),
            ("__activate_traps", Group::Registers),
            ("loft::vcpu::exit::sysreg::access", Group::Handler),
            ("<loft::model::vgic::flush::View>::flush", Group::Gic),
            ("kvm_vgic_flush_hwstate", Group::Gic),
            ("kvm_timer_vcpu_load_gic", Group::Timer),
            ("loft_raw_spin_lock_irqsave", Group::Locks),
            ("kvm_arch_vcpu_ioctl_run", Group::Loop),
            ("gic_ipi_send_mask", Group::Interrupts),
            ("el0t_64_sync", Group::Syscall),
            ("user_mem_abort", Group::Memory),
            ("<loft::vcpu::Vcpu>::run::{closure#0}", Group::Loop),
            ("memset", Group::Other),
        ] {
            assert_eq!(Group::of(function), group, "{function}");
        }
    }
}
