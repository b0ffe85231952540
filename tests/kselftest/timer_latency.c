// SPDX-License-Identifier: GPL-2.0
/*
 * How late a timer's interrupt reaches a guest that computes, and so gives the host no reason to look at its timers.
 *
 * The virtual timer is in the CPU: its delay is the machine's. The physical timer is the host's work. If it fires only when
 * something else makes the guest exit, that is the host's tick, every 4 ms: on top of the machine's delay come 0 to 4 ms,
 * 1 ms at the lower quartile. Quartiles of many rounds tell that apart on a busy machine too, and it gets some attempts.
 */
#include "gic.h"
#include "timer.h"
#include "vm.h"

#define ROUNDS 200
#define ATTEMPTS 5
#define AHEAD_US 2000
#define EXTRA_US 500

static u64 fired, delays[2][ROUNDS], due, random_state;
static enum guest_timer under_test;

static void on_timer(struct guest_regs *regs)
{
	u64 now = timer_counter(under_test);
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK_EQ(intid, timer_ppi(under_test));
	timer_set_ctl(under_test, 0);
	gic_eoi(intid);
	GUEST_CHECK(now >= due);
	delays[under_test][fired / 2 % ROUNDS] = (now - due) * 1000000 / read_sysreg(cntfrq_el0);
	WRITE_ONCE(fired, fired + 1);
}

static void guest_timers(u64 arg)
{
	guest_irq_handler = on_timer;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	gic_enable(PPI_PTIMER);
	irq_enable();
	random_state = 88172645463325252;
	for (u64 attempt = 1; attempt <= ATTEMPTS; attempt++) {
		while (fired < attempt * ROUNDS * 2) {
			u64 before = fired;

			/* One after the other, at any time between two ticks. */
			under_test = before % 2;
			random_state ^= random_state << 13;
			random_state ^= random_state >> 7;
			random_state ^= random_state << 17;
			guest_delay_us(random_state % 4000);
			due = timer_counter(under_test) + guest_us(AHEAD_US);
			timer_set_cval(under_test, due);
			timer_set_ctl(under_test, TIMER_ENABLE);
			while (READ_ONCE(fired) == before)
				;
		}
		GUEST_SYNC(attempt);
	}
}

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 lower_quartile(struct vm *vm, enum guest_timer t)
{
	u64 sorted[ROUNDS];

	memcpy(sorted, (void *)&VM_GLOBAL(vm, delays[t]), sizeof(sorted));
	qsort(sorted, ROUNDS, sizeof(sorted[0]), by_value);
	ktap_note("%s timer, us late: %lu, a quarter within %lu, half within %lu, all within %lu", t ? "physical" : "virtual", sorted[0],
		  sorted[ROUNDS / 4], sorted[ROUNDS / 2], sorted[ROUNDS - 1]);
	return sorted[ROUNDS / 4];
}

TEST_SECONDS(physical_timer, 55)
{
	struct vm *vm = vm_create(.main = guest_timers, .gic = true);

	for (u64 attempt = 1; attempt <= ATTEMPTS; attempt++) {
		u64 machine, emulated;

		vcpu_sync(&vm->vcpus[0], attempt);
		machine = lower_quartile(vm, TIMER_VIRTUAL);
		emulated = lower_quartile(vm, TIMER_PHYSICAL);
		if (emulated < machine + EXTRA_US)
			return;
	}
	FAIL("the physical timer is late by more than %d us beside the virtual one", EXTRA_US);
}
