// SPDX-License-Identifier: GPL-2.0
/* Debug registers: the guest's own work for the guest or do nothing, and never reach the host or another guest. */
#include <signal.h>
#include <unistd.h>

#include "vm.h"

static volatile u64 hits, hit_pc;

static void on_hit(struct guest_regs *regs)
{
	hits++;
	hit_pc = regs->pc;
	regs->pstate |= 1 << 9; /* mask debug exceptions: do not stop here again */
}

static void on_step(struct guest_regs *regs)
{
	hits++;
	if (hits < 5)
		regs->pstate |= 1 << 21; /* one more */
	else
		regs->pstate |= 1 << 9; /* debug masked: no more */
}

/* noinline, and at a known place: what breakpoints are set on. Also called by the host. */
__attribute__((noinline, noclone)) u64 landmark(u64 x);
u64 landmark(u64 x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 3 + 1;
}

static u64 watched;

static void arm(void)
{
	write_sysreg(0, oslar_el1);
	write_sysreg((u64)landmark, dbgbvr0_el1);
	write_sysreg(0x1e5 | 1 << 1, dbgbcr0_el1); /* EL1 and EL0, four bytes, on */
	write_sysreg((u64)&watched, dbgwvr0_el1);
	write_sysreg(0xff << 5 | 3 << 3 | 3 << 1 | 1, dbgwcr0_el1);
	write_sysreg(read_sysreg(mdscr_el1) | 1 << 15 | 1 << 13, mdscr_el1); /* monitor debug, kernel debug */
	isb();
}

static void guest_breakpoint(u64 arg)
{
	guest_sync_handlers[EC_BREAK_CUR] = on_hit;
	guest_sync_handlers[EC_WATCH_CUR] = on_hit;
	arm();
	__asm__ volatile("msr daifclr, #8");
	GUEST_CHECK_EQ(landmark(2), 7);
	if (read_sysreg(dbgbvr0_el1) == 0) {
		GUEST_CHECK_EQ(hits, 0); /* not offered: ignored altogether */
		return;
	}
	GUEST_CHECK_EQ(hits, 1);
	GUEST_CHECK_EQ(hit_pc, (u64)landmark);
	__asm__ volatile("msr daifclr, #8");
	WRITE_ONCE(watched, 5);
	GUEST_CHECK_EQ(hits, 2);
}

TEST(breakpoint_and_watchpoint)
{
	struct vm *vm = vm_create(.main = guest_breakpoint);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_single_step(u64 arg)
{
	guest_sync_handlers[EC_STEP_CUR] = on_step;
	write_sysreg(0, oslar_el1);
	write_sysreg(read_sysreg(mdscr_el1) | 1 << 13 | 1, mdscr_el1);
	isb();
	/* Steps come while SPSR.SS is set on a return with debug unmasked. */
	__asm__ volatile("mov x9, #0x1c5\n\tmovk x9, #0x20, lsl #16\n\tmsr spsr_el1, x9\n\tadr x9, 1f\n\tmsr elr_el1, x9\n\teret\n"
			 "1:	nop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tmsr daifset, #8" : : : "x9", "memory");
	write_sysreg(0, mdscr_el1);
	isb();
	GUEST_CHECK_EQ(hits, 5); /* the guest steps itself */
}

TEST(single_step)
{
	struct vm *vm = vm_create(.main = guest_single_step);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_armed(u64 arg)
{
	guest_sync_handlers[EC_BREAK_CUR] = on_hit;
	guest_sync_handlers[EC_WATCH_CUR] = on_hit;
	arm();
	__asm__ volatile("msr daifclr, #8");
	for (u64 i = 0; i < 5; i++)
		GUEST_SYNC(i);
}

/* The same addresses mean something in the host process: it must not stop there. */
TEST(not_in_the_host)
{
	struct vm *vm = vm_create(.main = guest_armed);

	pin_to_cpu(0);
	for (u64 i = 0; i < 5; i++) {
		vcpu_sync(&vm->vcpus[0], i);
		CHECK_EQ(landmark(i), i * 3 + 1); /* a SIGTRAP would end the case */
		WRITE_ONCE(watched, i);
	}
	vcpu_done(&vm->vcpus[0]);
}

static void guest_innocent(u64 arg)
{
	__asm__ volatile("msr daifclr, #8");
	for (u64 i = 0; i < 5; i++) {
		GUEST_CHECK_EQ(landmark(i), i * 3 + 1);
		WRITE_ONCE(watched, i);
		GUEST_SYNC(i);
	}
	GUEST_CHECK_EQ(hits, 0);
}

TEST(not_in_another_guest)
{
	struct vm *armed = vm_create(.main = guest_armed), *innocent = vm_create(.main = guest_innocent);

	pin_to_cpu(0);
	for (u64 i = 0; i < 5; i++) {
		vcpu_sync(&armed->vcpus[0], i);
		vcpu_sync(&innocent->vcpus[0], i);
	}
	vcpu_done(&innocent->vcpus[0]);
}

/* All breakpoint and watchpoint registers that are announced can be written without harm. */
static void guest_all(u64 arg)
{
	u64 dfr0 = read_sysreg(id_aa64dfr0_el1), breakpoints = (dfr0 >> 12 & 0xf) + 1, watchpoints = (dfr0 >> 20 & 0xf) + 1;

#define ONE(n)                                                                                                        \
	if (n < breakpoints) {                                                                                        \
		GUEST_CHECK_EQ(GUEST_PROBE("msr dbgbvr" #n "_el1, %0\n", : : "r"(0x40000000UL + 16 * n)), 0);        \
		GUEST_CHECK_EQ(GUEST_PROBE("msr dbgbcr" #n "_el1, xzr"), 0);                                         \
	}                                                                                                             \
	if (n < watchpoints) {                                                                                        \
		GUEST_CHECK_EQ(GUEST_PROBE("msr dbgwvr" #n "_el1, %0\n", : : "r"(0x40000000UL + 16 * n)), 0);        \
		GUEST_CHECK_EQ(GUEST_PROBE("msr dbgwcr" #n "_el1, xzr"), 0);                                         \
	}
	ONE(0) ONE(1) ONE(2) ONE(3) ONE(4) ONE(5) ONE(6) ONE(7) ONE(8) ONE(9) ONE(10) ONE(11) ONE(12) ONE(13) ONE(14) ONE(15)
}

TEST(all_registers)
{
	struct vm *vm = vm_create(.main = guest_all);

	vcpu_done(&vm->vcpus[0]);
}
