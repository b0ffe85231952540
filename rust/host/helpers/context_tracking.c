// SPDX-License-Identifier: GPL-2.0

#include <linux/context_tracking.h>
#include <linux/kvm_host.h>
#include <linux/rcupdate.h>

static DEFINE_PER_CPU(unsigned long, loft_quiescent_at);

/*
 * A guest's CPU holds nothing that RCU protects, and RCU has to hear of that, since the tick finds the CPU in the kernel. It
 * asks at each tick; to be told more often, as guest_context_enter_irqoff() does at each entry and each exit, is no use to it.
 */
static void loft_note_quiescence(void)
{
	unsigned long now = READ_ONCE(jiffies);

	if (__this_cpu_read(loft_quiescent_at) == now)
		return;
	__this_cpu_write(loft_quiescent_at, now);
	rcu_virt_note_context_switch();
}

/*
 * Erratum 1508412 (Cortex-A77): a read of PAR_EL1 or a store-exclusive near a load from a device can hang the CPU. A guest has
 * DMBs around its reads, but the exit may have come right after the first, and the host may have read a device since. So after
 * whatever reads a device on the way into a guest.
 */
static __always_inline void dmb_before_guest(void)
{
	asm volatile(ALTERNATIVE("nop", "dmb sy", ARM64_WORKAROUND_1508412) : : : "memory");
}

bool loft_context_tracking_enabled(void)
{
	return context_tracking_enabled();
}

void loft_context_tracking_guest_enter(void)
{
	context_tracking_guest_enter();
}

void loft_context_tracking_guest_exit(void)
{
	context_tracking_guest_exit();
}

void loft_dmb_before_guest(void)
{
	dmb_before_guest();
}

/*
 * Not guest_state_enter_irqoff(), which also tells lockdep that interrupts are on, as the guest has them: what runs at EL2
 * while the guest is in the CPU, fast exits with their locks, runs with interrupts masked. In one call, as it is a part of
 * each entry that is not a fast exit's.
 */
void loft_guest_enter_irqoff(void)
{
	dmb_before_guest();
	guest_timing_enter_irqoff();
	if (context_tracking_enabled())
		guest_context_enter_irqoff();
	else
		loft_note_quiescence();
}

void loft_guest_exit_irqoff(void)
{
	if (context_tracking_enabled())
		guest_context_exit_irqoff();
}

/* The tick that ended the guest's run is taken before the guest's time is accounted, so that it counts as the guest's. */
noinline void loft_guest_tick_irqoff(void)
{
	asm volatile("loft_tick_begin:");
	local_irq_enable();
	isb(); /* a pending interrupt is taken here, not after the accounting */
	local_irq_disable();
	asm volatile("loft_tick_end:");
	guest_timing_exit_irqoff();
}

/* Where it takes them: perf.c. */
extern const char loft_tick_begin[], loft_tick_end[];
