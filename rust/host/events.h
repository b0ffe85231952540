/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The trace events of the system `loft`. Their names and fields are those of KVM's (include/trace/events/kvm.h,
 * arch/arm64/kvm/trace_arm.h and vgic/trace.h in Linux), so that what is written for those reads these; kvm_exit has `fast` more.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM loft

#if !defined(LOFT_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define LOFT_EVENTS_H

#include <linux/string_choices.h>
#include <linux/tracepoint.h>
#include <asm/esr.h>

/* Each event that is traced keeps the key on that every place looks at: see trace.rs. */
int loft_trace_begins(void);
void loft_trace_ends(void);

#define LOFT_EVENT(name, proto, args, fields, assign, print) \
	TRACE_EVENT_FN(name, TP_PROTO proto, TP_ARGS args, TP_STRUCT__entry fields, TP_fast_assign assign, TP_printk print, \
		       loft_trace_begins, loft_trace_ends)

#define LOFT_EXCEPTION(name) { ESR_ELx_EC_##name, #name }
#define LOFT_EXCEPTIONS \
	LOFT_EXCEPTION(UNKNOWN), LOFT_EXCEPTION(WFx), LOFT_EXCEPTION(FP_ASIMD), LOFT_EXCEPTION(PAC), LOFT_EXCEPTION(ILL), \
	LOFT_EXCEPTION(SVC64), LOFT_EXCEPTION(HVC64), LOFT_EXCEPTION(SMC64), LOFT_EXCEPTION(SYS64), LOFT_EXCEPTION(SVE), \
	LOFT_EXCEPTION(IABT_LOW), LOFT_EXCEPTION(PC_ALIGN), LOFT_EXCEPTION(DABT_LOW), LOFT_EXCEPTION(SP_ALIGN), \
	LOFT_EXCEPTION(MOPS), LOFT_EXCEPTION(SERROR), LOFT_EXCEPTION(BREAKPT_LOW), LOFT_EXCEPTION(SOFTSTP_LOW), \
	LOFT_EXCEPTION(WATCHPT_LOW), LOFT_EXCEPTION(BRK64)

LOFT_EVENT(kvm_entry, (unsigned long vcpu_pc), (vcpu_pc),
	(__field(unsigned long, vcpu_pc)),
	(__entry->vcpu_pc = vcpu_pc;),
	("PC: 0x%016lx", __entry->vcpu_pc)
);

LOFT_EVENT(kvm_exit, (int ret, unsigned int esr_ec, unsigned long vcpu_pc, bool fast), (ret, esr_ec, vcpu_pc, fast),
	(__field(int, ret) __field(unsigned int, esr_ec) __field(unsigned long, vcpu_pc) __field(bool, fast)),
	(
		__entry->ret = ret;
		__entry->esr_ec = esr_ec;
		__entry->vcpu_pc = vcpu_pc;
		__entry->fast = fast;
	),
	("%s: HSR_EC: 0x%04x (%s), PC: 0x%016lx%s",
	 __print_symbolic(__entry->ret, { 0, "IRQ" }, { 1, "SERROR" }, { 2, "TRAP" }), __entry->esr_ec,
	 __print_symbolic(__entry->esr_ec, LOFT_EXCEPTIONS), __entry->vcpu_pc, __entry->fast ? " fast" : "")
);

LOFT_EVENT(kvm_userspace_exit, (__u32 reason, int errno), (reason, errno),
	(__field(__u32, reason) __field(int, errno)),
	(
		__entry->reason = reason;
		__entry->errno = errno;
	),
	("reason %u, errno %d", __entry->reason, __entry->errno)
);

LOFT_EVENT(kvm_guest_fault, (unsigned long vcpu_pc, unsigned long hsr, unsigned long hxfar, unsigned long long ipa),
	(vcpu_pc, hsr, hxfar, ipa),
	(__field(unsigned long, vcpu_pc) __field(unsigned long, hsr) __field(unsigned long, hxfar) __field(unsigned long long, ipa)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->hsr = hsr;
		__entry->hxfar = hxfar;
		__entry->ipa = ipa;
	),
	("ipa 0x%llx, hsr 0x%08lx, hxfar 0x%08lx, pc 0x%016lx", __entry->ipa, __entry->hsr, __entry->hxfar, __entry->vcpu_pc)
);

LOFT_EVENT(kvm_access_fault, (unsigned long ipa), (ipa),
	(__field(unsigned long, ipa)),
	(__entry->ipa = ipa;),
	("IPA: %lx", __entry->ipa)
);

LOFT_EVENT(kvm_mmio, (__u32 type, __u32 len, __u64 gpa, __u64 val), (type, len, gpa, val),
	(__field(__u32, type) __field(__u32, len) __field(__u64, gpa) __field(__u64, val)),
	(
		__entry->type = type;
		__entry->len = len;
		__entry->gpa = gpa;
		__entry->val = val;
	),
	("mmio %s len %u gpa 0x%llx val 0x%llx",
	 __print_symbolic(__entry->type, { 0, "unsatisfied-read" }, { 1, "read" }, { 2, "write" }), __entry->len,
	 __entry->gpa, __entry->val)
);

LOFT_EVENT(kvm_hvc_arm64, (unsigned long vcpu_pc, unsigned long r0, unsigned long imm), (vcpu_pc, r0, imm),
	(__field(unsigned long, vcpu_pc) __field(unsigned long, r0) __field(unsigned long, imm)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->r0 = r0;
		__entry->imm = imm;
	),
	("HVC at 0x%016lx (r0: 0x%016lx, imm: 0x%lx)", __entry->vcpu_pc, __entry->r0, __entry->imm)
);

LOFT_EVENT(kvm_wfx_arm64, (unsigned long vcpu_pc, bool is_wfe), (vcpu_pc, is_wfe),
	(__field(unsigned long, vcpu_pc) __field(bool, is_wfe)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->is_wfe = is_wfe;
	),
	("guest executed wf%c at: 0x%016lx", __entry->is_wfe ? 'e' : 'i', __entry->vcpu_pc)
);

LOFT_EVENT(kvm_handle_sys_reg, (unsigned long hsr), (hsr),
	(__field(unsigned long, hsr)),
	(__entry->hsr = hsr;),
	("HSR 0x%08lx", __entry->hsr)
);

LOFT_EVENT(kvm_sys_access, (unsigned long vcpu_pc, __u8 op0, __u8 op1, __u8 crn, __u8 crm, __u8 op2, bool is_write),
	(vcpu_pc, op0, op1, crn, crm, op2, is_write),
	(
		__field(unsigned long, vcpu_pc)
		__field(bool, is_write)
		__field(__u8, Op0)
		__field(__u8, Op1)
		__field(__u8, CRn)
		__field(__u8, CRm)
		__field(__u8, Op2)
	),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->is_write = is_write;
		__entry->Op0 = op0;
		__entry->Op1 = op1;
		__entry->CRn = crn;
		__entry->CRm = crm;
		__entry->Op2 = op2;
	),
	("PC: %lx (%d,%d,%d,%d,%d) %s", __entry->vcpu_pc, __entry->Op0, __entry->Op1, __entry->CRn, __entry->CRm, __entry->Op2,
	 __entry->is_write ? "write" : "read")
);

LOFT_EVENT(kvm_irq_line, (unsigned int type, int vcpu_idx, int irq_num, int level), (type, vcpu_idx, irq_num, level),
	(__field(unsigned int, type) __field(int, vcpu_idx) __field(int, irq_num) __field(int, level)),
	(
		__entry->type = type;
		__entry->vcpu_idx = vcpu_idx;
		__entry->irq_num = irq_num;
		__entry->level = level;
	),
	("Inject %s interrupt (%d), vcpu->idx: %d, num: %d, level: %d",
	 __print_symbolic(__entry->type, { 0, "CPU" }, { 1, "VGIC SPI" }, { 2, "VGIC PPI" }), __entry->type, __entry->vcpu_idx,
	 __entry->irq_num, __entry->level)
);

LOFT_EVENT(vgic_update_irq_pending, (unsigned long vcpu_id, __u32 irq, bool level), (vcpu_id, irq, level),
	(__field(unsigned long, vcpu_id) __field(__u32, irq) __field(bool, level)),
	(
		__entry->vcpu_id = vcpu_id;
		__entry->irq = irq;
		__entry->level = level;
	),
	("VCPU: %ld, IRQ %d, level: %d", __entry->vcpu_id, __entry->irq, __entry->level)
);

LOFT_EVENT(kvm_timer_update_irq, (unsigned long vcpu_id, __u32 irq, int level), (vcpu_id, irq, level),
	(__field(unsigned long, vcpu_id) __field(__u32, irq) __field(int, level)),
	(
		__entry->vcpu_id = vcpu_id;
		__entry->irq = irq;
		__entry->level = level;
	),
	("VCPU: %ld, IRQ %d, level %d", __entry->vcpu_id, __entry->irq, __entry->level)
);

DECLARE_EVENT_CLASS(loft_timer_state, TP_PROTO(unsigned long ctl, __u64 cval, int timer_idx), TP_ARGS(ctl, cval, timer_idx),
	TP_STRUCT__entry(__field(unsigned long, ctl) __field(__u64, cval) __field(int, timer_idx)),
	TP_fast_assign(
		__entry->ctl = ctl;
		__entry->cval = cval;
		__entry->timer_idx = timer_idx;
	),
	TP_printk("CTL: %#08lx CVAL: %#16llx arch_timer_ctx_index: %d", __entry->ctl, __entry->cval, __entry->timer_idx)
);
DEFINE_EVENT_FN(loft_timer_state, kvm_timer_save_state, TP_PROTO(unsigned long ctl, __u64 cval, int timer_idx),
		TP_ARGS(ctl, cval, timer_idx), loft_trace_begins, loft_trace_ends);
DEFINE_EVENT_FN(loft_timer_state, kvm_timer_restore_state, TP_PROTO(unsigned long ctl, __u64 cval, int timer_idx),
		TP_ARGS(ctl, cval, timer_idx), loft_trace_begins, loft_trace_ends);

LOFT_EVENT(kvm_set_way_flush, (unsigned long vcpu_pc, bool cache), (vcpu_pc, cache),
	(__field(unsigned long, vcpu_pc) __field(bool, cache)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->cache = cache;
	),
	("S/W flush at 0x%016lx (cache %s)", __entry->vcpu_pc, str_on_off(__entry->cache))
);

LOFT_EVENT(kvm_toggle_cache, (unsigned long vcpu_pc, bool was, bool now), (vcpu_pc, was, now),
	(__field(unsigned long, vcpu_pc) __field(bool, was) __field(bool, now)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->was = was;
		__entry->now = now;
	),
	("VM op at 0x%016lx (cache was %s, now %s)", __entry->vcpu_pc, str_on_off(__entry->was), str_on_off(__entry->now))
);

LOFT_EVENT(kvm_mmio_nisv, (unsigned long vcpu_pc, unsigned long esr, unsigned long far, unsigned long ipa), (vcpu_pc, esr, far, ipa),
	(__field(unsigned long, vcpu_pc) __field(unsigned long, esr) __field(unsigned long, far) __field(unsigned long, ipa)),
	(
		__entry->vcpu_pc = vcpu_pc;
		__entry->esr = esr;
		__entry->far = far;
		__entry->ipa = ipa;
	),
	("ipa 0x%016lx, esr 0x%016lx, far 0x%016lx, pc 0x%016lx", __entry->ipa, __entry->esr, __entry->far, __entry->vcpu_pc)
);

LOFT_EVENT(kvm_set_guest_debug, (const void *vcpu, __u32 guest_debug), (vcpu, guest_debug),
	(__field(const void *, vcpu) __field(__u32, guest_debug)),
	(
		__entry->vcpu = vcpu;
		__entry->guest_debug = guest_debug;
	),
	("vcpu: %p, flags: 0x%08x", __entry->vcpu, __entry->guest_debug)
);

LOFT_EVENT(kvm_vcpu_wakeup, (__u64 ns, bool waited, bool valid), (ns, waited, valid),
	(__field(__u64, ns) __field(bool, waited) __field(bool, valid)),
	(
		__entry->ns = ns;
		__entry->waited = waited;
		__entry->valid = valid;
	),
	("%s time %lld ns, polling %s", __entry->waited ? "wait" : "poll", __entry->ns, __entry->valid ? "valid" : "invalid")
);

LOFT_EVENT(kvm_unmap_hva_range, (unsigned long start, unsigned long end), (start, end),
	(__field(unsigned long, start) __field(unsigned long, end)),
	(
		__entry->start = start;
		__entry->end = end;
	),
	("mmu notifier unmap range: 0x%016lx -- 0x%016lx", __entry->start, __entry->end)
);

LOFT_EVENT(kvm_age_hva, (unsigned long start, unsigned long end), (start, end),
	(__field(unsigned long, start) __field(unsigned long, end)),
	(
		__entry->start = start;
		__entry->end = end;
	),
	("mmu notifier age hva: 0x%016lx -- 0x%016lx", __entry->start, __entry->end)
);

LOFT_EVENT(kvm_test_age_hva, (unsigned long hva), (hva),
	(__field(unsigned long, hva)),
	(__entry->hva = hva;),
	("mmu notifier test age hva: 0x%016lx", __entry->hva)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE events
#include <trace/define_trace.h>
