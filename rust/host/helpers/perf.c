// SPDX-License-Identifier: GPL-2.0

#include <linux/perf_event.h>
#include <asm/irq_regs.h>
#include "../../../arch/arm64/layout.h"

#ifdef CONFIG_GUEST_PERF_EVENTS
/*
 * The frame of the guest that the interrupt which is being handled has interrupted: the guest was left, and the interrupt taken in
 * loft_guest_tick_irqoff(). That costs no run of a guest anything. NULL: it has interrupted the host.
 */
static const u64 *loft_interrupted_frame(void)
{
	const struct pt_regs *regs = get_irq_regs();

	if (!regs || regs->pc < (u64)loft_tick_begin || regs->pc > (u64)loft_tick_end)
		return NULL;
	return this_cpu_read(loft_loaded_frame);
}

static unsigned int loft_perf_state(void)
{
	const u64 *frame = loft_interrupted_frame();

	if (!frame)
		return 0;
	return (frame[FRAME_SPSR / 8] & PSR_MODE_MASK) == PSR_MODE_EL0t ? PERF_GUEST_ACTIVE | PERF_GUEST_USER : PERF_GUEST_ACTIVE;
}

static unsigned long loft_perf_ip(void)
{
	const u64 *frame = loft_interrupted_frame();

	return frame ? frame[FRAME_ELR / 8] : 0;
}

static struct perf_guest_info_callbacks loft_perf_callbacks = {
	.state = loft_perf_state,
	.get_ip = loft_perf_ip,
};
#endif

void loft_perf_register(void)
{
#ifdef CONFIG_GUEST_PERF_EVENTS
	perf_register_guest_info_callbacks(&loft_perf_callbacks);
#endif
}

void loft_perf_unregister(void)
{
#ifdef CONFIG_GUEST_PERF_EVENTS
	perf_unregister_guest_info_callbacks(&loft_perf_callbacks);
#endif
}
