// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>
#include <linux/perf_event.h>

/* Where a guest was when this CPU left it for the interrupt that it takes now. */
static DEFINE_PER_CPU(struct {
	bool active;
	bool user;
	unsigned long pc;
}, loft_sampled);

#ifdef CONFIG_GUEST_PERF_EVENTS
static unsigned int loft_perf_state(void)
{
	if (!this_cpu_read(loft_sampled.active))
		return 0;
	return this_cpu_read(loft_sampled.user) ? PERF_GUEST_ACTIVE | PERF_GUEST_USER : PERF_GUEST_ACTIVE;
}

static unsigned long loft_perf_ip(void)
{
	return this_cpu_read(loft_sampled.pc);
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

/* As loft_guest_tick_irqoff(), with a guest at `pc` as what is interrupted. Preemption is off. */
void loft_guest_sampled_irqoff(u64 pc, bool user)
{
	__this_cpu_write(loft_sampled.pc, pc);
	__this_cpu_write(loft_sampled.user, user);
	__this_cpu_write(loft_sampled.active, true);
	loft_guest_tick_irqoff();
	__this_cpu_write(loft_sampled.active, false);
}
