// SPDX-License-Identifier: GPL-2.0

#include <linux/jump_label.h>

DEFINE_STATIC_KEY_FALSE(loft_traced);

int loft_trace_begins(void)
{
	static_branch_inc(&loft_traced);
	return 0;
}

void loft_trace_ends(void)
{
	static_branch_dec(&loft_traced);
}

#define CREATE_TRACE_POINTS
#include "events.h"
#undef CREATE_TRACE_POINTS

void loft_trace_kvm_entry(u64 pc)
{
	trace_kvm_entry(pc);
}

void loft_trace_kvm_exit(int ret, u32 class, u64 pc, bool fast)
{
	trace_kvm_exit(ret, class, pc, fast);
}

void loft_trace_kvm_userspace_exit(u32 reason, int error)
{
	trace_kvm_userspace_exit(reason, error);
}

void loft_trace_kvm_guest_fault(u64 pc, u64 esr, u64 far, u64 ipa)
{
	trace_kvm_guest_fault(pc, esr, far, ipa);
}

void loft_trace_kvm_access_fault(u64 ipa)
{
	trace_kvm_access_fault(ipa);
}

void loft_trace_kvm_mmio(u32 type, u32 len, u64 ipa, u64 value)
{
	trace_kvm_mmio(type, len, ipa, value);
}

void loft_trace_kvm_hvc_arm64(u64 pc, u64 x0, u64 immediate)
{
	trace_kvm_hvc_arm64(pc, x0, immediate);
}

void loft_trace_kvm_wfx_arm64(u64 pc, bool is_wfe)
{
	trace_kvm_wfx_arm64(pc, is_wfe);
}

void loft_trace_kvm_sysreg(u64 pc, u64 esr)
{
	trace_kvm_handle_sys_reg(esr);
	trace_kvm_sys_access(pc, (esr & ESR_ELx_SYS64_ISS_OP0_MASK) >> ESR_ELx_SYS64_ISS_OP0_SHIFT,
			     (esr & ESR_ELx_SYS64_ISS_OP1_MASK) >> ESR_ELx_SYS64_ISS_OP1_SHIFT,
			     (esr & ESR_ELx_SYS64_ISS_CRN_MASK) >> ESR_ELx_SYS64_ISS_CRN_SHIFT,
			     (esr & ESR_ELx_SYS64_ISS_CRM_MASK) >> ESR_ELx_SYS64_ISS_CRM_SHIFT,
			     (esr & ESR_ELx_SYS64_ISS_OP2_MASK) >> ESR_ELx_SYS64_ISS_OP2_SHIFT,
			     (esr & ESR_ELx_SYS64_ISS_DIR_MASK) == ESR_ELx_SYS64_ISS_DIR_WRITE);
}

void loft_trace_kvm_irq_line(u32 type, int vcpu, int number, int level)
{
	trace_kvm_irq_line(type, vcpu, number, level);
}

void loft_trace_vgic_update_irq_pending(u64 vcpu, u32 intid, bool level)
{
	trace_vgic_update_irq_pending(vcpu, intid, level);
}

void loft_trace_kvm_timer_update_irq(u64 vcpu, u32 intid, int level)
{
	trace_kvm_timer_update_irq(vcpu, intid, level);
}

void loft_trace_kvm_timer_save_state(u64 ctl, u64 cval, int timer)
{
	trace_kvm_timer_save_state(ctl, cval, timer);
}

void loft_trace_kvm_timer_restore_state(u64 ctl, u64 cval, int timer)
{
	trace_kvm_timer_restore_state(ctl, cval, timer);
}

void loft_trace_kvm_set_way_flush(u64 pc, bool cache)
{
	trace_kvm_set_way_flush(pc, cache);
}

void loft_trace_kvm_toggle_cache(u64 pc, bool was, bool now)
{
	trace_kvm_toggle_cache(pc, was, now);
}

void loft_trace_kvm_mmio_nisv(u64 pc, u64 esr, u64 far, u64 ipa)
{
	trace_kvm_mmio_nisv(pc, esr, far, ipa);
}

void loft_trace_kvm_set_guest_debug(const void *vcpu, u32 guest_debug)
{
	trace_kvm_set_guest_debug(vcpu, guest_debug);
}

void loft_trace_kvm_vcpu_wakeup(u64 ns, bool waited)
{
	trace_kvm_vcpu_wakeup(ns, waited, true);
}

void loft_trace_kvm_unmap_hva_range(u64 start, u64 end)
{
	trace_kvm_unmap_hva_range(start, end);
}

void loft_trace_kvm_age_hva(u64 start, u64 end)
{
	trace_kvm_age_hva(start, end);
}

void loft_trace_kvm_test_age_hva(u64 hva)
{
	trace_kvm_test_age_hva(hva);
}
