// SPDX-License-Identifier: GPL-2.0
/* The virtual and the physical timer of a guest: counters, offsets, interrupts, accuracy, moves between CPUs. */
#include <sched.h>

#include "abi.h"
#include "gic.h"
#include "timer.h"

/* How late a timer may fire and the test still pass: an emulated server on a busy machine is slow, never early. */
#define LATE_US 200000

static u64 fired, fired_at, last_intid, spurious;
static enum guest_timer under_test;

static void on_timer(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS) {
		spurious++;
		return;
	}
	fired_at = timer_counter(under_test);
	last_intid = intid;
	timer_set_ctl(under_test, TIMER_ENABLE | TIMER_IMASK);
	gic_eoi(intid);
	WRITE_ONCE(fired, fired + 1);
}

static void set_up(enum guest_timer t)
{
	under_test = t;
	guest_irq_handler = on_timer;
	timer_set_ctl(t, 0);
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(timer_ppi(t));
	irq_enable();
}

/* Waits in WFI until the handler has run `count` times. */
static void wait_fired(u64 count)
{
	irq_disable();
	while (READ_ONCE(fired) < count) {
		wfi();
		irq_enable();
		isb();
		irq_disable();
	}
	irq_enable();
}

static void guest_counters(u64 arg)
{
	u64 v = timer_counter(TIMER_VIRTUAL), p = timer_counter(TIMER_PHYSICAL);

	for (int i = 0; i < 1000; i++) {
		u64 v2 = timer_counter(TIMER_VIRTUAL), p2 = timer_counter(TIMER_PHYSICAL);

		GUEST_CHECK(v2 >= v && p2 >= p);
		v = v2, p = p2;
	}
	GUEST_CHECK(read_sysreg(cntfrq_el0) > 1000000);
	/* TVAL is the signed distance to CVAL, in 32 bits. */
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		u64 now;

		timer_set_ctl(t, 0);
		now = timer_counter(t);
		timer_set_tval(t, 1000000000);
		GUEST_CHECK(timer_cval(t) >= now + 1000000000 && timer_cval(t) <= timer_counter(t) + 1000000000);
		GUEST_CHECK((s64)(int32_t)timer_tval(t) <= 1000000000);
		timer_set_tval(t, (u32)-1000);
		GUEST_CHECK(timer_cval(t) < timer_counter(t));
		/* The condition shows in ISTATUS when the timer is on, masked or not. */
		timer_set_ctl(t, TIMER_ENABLE | TIMER_IMASK);
		GUEST_CHECK_EQ(timer_ctl(t), TIMER_ENABLE | TIMER_IMASK | TIMER_ISTATUS);
		timer_set_cval(t, ~0UL);
		GUEST_CHECK_EQ(timer_ctl(t), TIMER_ENABLE | TIMER_IMASK);
		timer_set_cval(t, 0);
		GUEST_CHECK_EQ(timer_ctl(t), TIMER_ENABLE | TIMER_IMASK | TIMER_ISTATUS);
		timer_set_ctl(t, ~0UL); /* no more bits than two can be set */
		GUEST_CHECK_EQ(timer_ctl(t) & ~7UL, 0);
		timer_set_ctl(t, 0);
		GUEST_CHECK_EQ(timer_ctl(t) & 3, 0);
	}
}

TEST(counters_and_registers)
{
	struct vm *vm = vm_create(.main = guest_counters, .gic = true);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_fire(u64 arg)
{
	enum guest_timer t = arg;

	set_up(t);
	for (u64 i = 1; i <= 10; i++) {
		u64 due = timer_counter(t) + guest_us(i * 700);

		timer_set_cval(t, due);
		timer_set_ctl(t, TIMER_ENABLE);
		if (i & 1) {
			wait_fired(i); /* asleep */
		} else {
			while (READ_ONCE(fired) < i) /* awake */
				;
		}
		GUEST_CHECK_EQ(last_intid, timer_ppi(t));
		GUEST_CHECK(fired_at >= due);
		if (fired_at - due > guest_us(LATE_US))
			GUEST_FAIL("late: ticks, of", fired_at - due, guest_us(LATE_US));
	}
	GUEST_CHECK_EQ(fired, 10);
	/* Due already when it is switched on: at once. */
	timer_set_cval(t, timer_counter(t) - 1);
	timer_set_ctl(t, TIMER_ENABLE);
	wait_fired(11);
	/* Masked in the timer, then not. */
	timer_set_ctl(t, TIMER_ENABLE | TIMER_IMASK);
	timer_set_cval(t, 0);
	guest_delay_us(300);
	GUEST_CHECK_EQ(fired, 11);
	timer_set_ctl(t, TIMER_ENABLE);
	wait_fired(12);
	/* Disabled in the interrupt controller, then not. */
	gic_disable(timer_ppi(t));
	timer_set_ctl(t, TIMER_ENABLE);
	guest_delay_us(300);
	GUEST_CHECK_EQ(fired, 12);
	GUEST_CHECK(gic_is_pending(timer_ppi(t)));
	gic_enable(timer_ppi(t));
	wait_fired(13);
	GUEST_CHECK(!gic_is_pending(timer_ppi(t)));
	/* A time long gone, and one that never comes: awake, so that only the CPU's comparison tells. */
	timer_set_cval(t, 0);
	timer_set_ctl(t, TIMER_ENABLE);
	while (READ_ONCE(fired) < 14)
		;
	timer_set_cval(t, ~0UL);
	timer_set_ctl(t, TIMER_ENABLE);
	guest_delay_us(300);
	GUEST_CHECK_EQ(fired, 14);
	GUEST_CHECK_EQ(timer_get_cval(t), ~0UL);
}

static void fire(enum guest_timer t)
{
	struct vm *vm = vm_create(.main = guest_fire, .gic = true);

	((struct guest_cpu *)vm_host(vm, (u64)vm->vcpus[0].cpu))->arg = t;
	vcpu_done(&vm->vcpus[0]);
}

TEST(virtual_timer_fires)
{
	fire(TIMER_VIRTUAL);
}

TEST(physical_timer_fires)
{
	fire(TIMER_PHYSICAL);
}

/* The line is a level: as long as the condition holds it comes again after the end of the interrupt. */
static u64 level_count;

static void on_level(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (++level_count == 5)
		timer_set_ctl(under_test, TIMER_ENABLE | TIMER_IMASK);
	gic_eoi(intid);
}

static void guest_level(u64 arg)
{
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		set_up(t);
		guest_irq_handler = on_level;
		level_count = 0;
		timer_set_cval(t, timer_counter(t));
		timer_set_ctl(t, TIMER_ENABLE);
		while (READ_ONCE(level_count) < 5)
			;
		guest_delay_us(500);
		GUEST_CHECK_EQ(level_count, 5);
		/* Taken back before it was taken: seen at most once (it may wait in the CPU interface), never again. */
		irq_disable();
		timer_set_ctl(t, TIMER_ENABLE);
		isb();
		timer_set_ctl(t, 0);
		irq_enable();
		guest_delay_us(500);
		GUEST_CHECK(level_count <= 6);
		timer_set_ctl(t, 0);
		gic_disable(timer_ppi(t));
	}
}

TEST(level)
{
	struct vm *vm = vm_create(.main = guest_level, .gic = true);

	vcpu_done(&vm->vcpus[0]);
}

/*
 * Made pending by hand in its own handler, with the timer off: it comes again when that ends, and not when the guest happens
 * to leave next. Only KVM waits for that.
 */
static bool on_kvm;

static void on_first(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	timer_set_ctl(under_test, 0);
	if (READ_ONCE(fired) % 2 == 0)
		gic_set_pending(intid, true);
	gic_eoi(intid);
	WRITE_ONCE(fired, fired + 1);
}

static void by_hand(enum guest_timer t)
{
	set_up(t);
	guest_irq_handler = on_first;
	for (u64 i = 2; i <= 20; i += 2) {
		u64 from = READ_ONCE(fired);

		timer_set_cval(t, 0);
		timer_set_ctl(t, TIMER_ENABLE);
		while (READ_ONCE(fired) == from)
			;
		isb();
		/* No exit in here. */
		for (u64 end = timer_counter(t) + guest_us(on_kvm ? 100000 : 500); timer_counter(t) < end && READ_ONCE(fired) < i;)
			;
		GUEST_CHECK_EQ(fired, i);
	}
	/* The timer itself is as before. */
	timer_set_ctl(t, TIMER_ENABLE);
	while (READ_ONCE(fired) < 21)
		;
	timer_set_ctl(t, 0);
}

static void guest_by_hand(u64 arg)
{
	by_hand(TIMER_VIRTUAL);
	WRITE_ONCE(fired, 0);
	by_hand(TIMER_PHYSICAL);
}

TEST(pending_by_hand_while_active)
{
	struct vm *vm = vm_create(.main = guest_by_hand, .gic = true);

	VM_GLOBAL(vm, on_kvm) = ktap_on_kvm();
	vcpu_done(&vm->vcpus[0]);
}

/* Both at once, at different rates. */
static u64 ticks[2], next_due[2];

static void on_both(struct guest_regs *regs)
{
	u32 intid = gic_ack();
	enum guest_timer t = intid == PPI_VTIMER ? TIMER_VIRTUAL : TIMER_PHYSICAL;

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK(timer_counter(t) >= next_due[t]);
	next_due[t] = timer_counter(t) + guest_us(t == TIMER_VIRTUAL ? 300 : 500);
	timer_set_cval(t, next_due[t]);
	ticks[t]++;
	gic_eoi(intid);
}

static void guest_both(u64 arg)
{
	guest_irq_handler = on_both;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	gic_enable(PPI_PTIMER);
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		next_due[t] = timer_counter(t);
		timer_set_cval(t, next_due[t]);
		timer_set_ctl(t, TIMER_ENABLE);
	}
	irq_enable();
	while (READ_ONCE(ticks[0]) < 60 || READ_ONCE(ticks[1]) < 40)
		wfi();
}

TEST(both_timers)
{
	struct vm *vm = vm_create(.main = guest_both, .gic = true);

	vcpu_done(&vm->vcpus[0]);
}

/* With userspace round trips in between: the timer runs while the VMM has the CPU. */
static void guest_through_exits(u64 arg)
{
	set_up(TIMER_VIRTUAL);
	for (u64 i = 1; i <= 5; i++) {
		u64 due = timer_counter(TIMER_VIRTUAL) + guest_us(2000);

		timer_set_cval(TIMER_VIRTUAL, due);
		timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		GUEST_SYNC(i); /* the host sleeps past the due time */
		isb();
		while (READ_ONCE(fired) < i)
			;
		GUEST_CHECK(fired_at >= due);
	}
}

TEST(fires_during_userspace)
{
	struct vm *vm = vm_create(.main = guest_through_exits, .gic = true);

	for (u64 i = 1; i <= 5; i++) {
		vcpu_sync(&vm->vcpus[0], i);
		sleep_us(i & 1 ? 5000 : 0);
	}
	vcpu_done(&vm->vcpus[0]);
}

/* Offsets: what the host sets is where the guest's counter stands. */
static u64 seen_virtual, seen_physical;

static void guest_report_counters(u64 arg)
{
	for (;;) {
		seen_virtual = timer_counter(TIMER_VIRTUAL);
		seen_physical = timer_counter(TIMER_PHYSICAL);
		GUEST_SYNC(1);
	}
}

#define SECONDS(n) ((n) * host_frequency())

static u64 host_frequency(void)
{
	u64 f;

	__asm__("mrs %0, cntfrq_el0" : "=r"(f));
	return f;
}

static u64 host_counter(void)
{
	u64 c;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(c) : : "memory");
	return c;
}

TEST(virtual_counter_by_register)
{
	struct vm *vm = vm_create(.main = guest_report_counters, .gic = true, .vcpus = 2);
	u64 base = 5000 * host_frequency();

	reg_set(&vm->vcpus[0], KVM_REG_ARM_TIMER_CNT, base);
	for (int i = 0; i < 2; i++) {
		vcpu_sync(&vm->vcpus[i], 1); /* the other vCPU as well: one counter */
		CHECK(VM_GLOBAL(vm, seen_virtual) >= base && VM_GLOBAL(vm, seen_virtual) < base + SECONDS(30));
	}
	/* The physical counter is the host's still. */
	CHECK(VM_GLOBAL(vm, seen_physical) <= host_counter());
}

TEST(offset_for_both_counters)
{
	struct vm *vm = vm_create(.main = guest_report_counters, .gic = true);
	struct kvm_arm_counter_offset offset = { .counter_offset = host_counter() - 1000 };

	CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK(VM_GLOBAL(vm, seen_virtual) >= 1000 && VM_GLOBAL(vm, seen_virtual) < SECONDS(30));
	CHECK(VM_GLOBAL(vm, seen_physical) >= 1000 && VM_GLOBAL(vm, seen_physical) < SECONDS(30));
	/* From then on the counters cannot be set by register; that is not an error, it is ignored. */
	EXPECT_OK(reg_try_set(&vm->vcpus[0], KVM_REG_ARM_TIMER_CNT, &(u64){ 1UL << 50 }));
	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT(VM_GLOBAL(vm, seen_virtual) < SECONDS(30));
}

TEST(counters_of_a_fresh_vm)
{
	u64 before = host_counter();
	struct vm *vm = vm_create(.main = guest_report_counters, .gic = true);

	/* The virtual counter starts with the VM, the physical one is the host's. */
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK(VM_GLOBAL(vm, seen_virtual) < host_counter() - before);
	CHECK(VM_GLOBAL(vm, seen_physical) > before && VM_GLOBAL(vm, seen_physical) < host_counter());
}

/* The virtual timer goes by the virtual counter: with an offset it must not fire by the physical one. */
static void guest_fire_with_offset(u64 arg)
{
	guest_fire(arg);
}

TEST(fires_with_offset)
{
	/* The guest's counters are behind the machine's, and ahead of it, so far that the sum of CVAL and offset wraps. */
	u64 offsets[] = { host_counter() - 5000, -SECONDS(1000UL), -(1UL << 59) };

	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		for (int i = 0; i < 3; i++) {
			struct vm *vm = vm_create(.main = guest_fire_with_offset, .gic = true);
			struct kvm_arm_counter_offset offset = { .counter_offset = offsets[i] };

			CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
			((struct guest_cpu *)vm_host(vm, (u64)vm->vcpus[0].cpu))->arg = t;
			vcpu_done(&vm->vcpus[0]);
			vm_destroy(vm);
		}
	}
}

/* The vCPU thread is moved while timers are armed, running and asleep. */
static u64 hops;

static void guest_hop(u64 arg)
{
	enum guest_timer t = arg;

	set_up(t);
	for (u64 i = 1; i <= 40; i++) {
		u64 due = timer_counter(t) + guest_us(1000);

		timer_set_cval(t, due);
		timer_set_ctl(t, TIMER_ENABLE);
		GUEST_SYNC(1); /* the host moves the thread here */
		if (i & 1)
			wait_fired(i);
		else
			while (READ_ONCE(fired) < i)
				;
		GUEST_CHECK(fired_at >= due);
		GUEST_CHECK_EQ(fired, i);
	}
	WRITE_ONCE(hops, 1);
}

TEST(migration)
{
	if (cpu_count() < 2)
		SKIP("one CPU only");
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		struct vm *vm = vm_create(.main = guest_hop, .gic = true);
		struct guest_message m;

		((struct guest_cpu *)vm_host(vm, (u64)vm->vcpus[0].cpu))->arg = t;
		for (int i = 0; (m = vcpu_next(&vm->vcpus[0])).command == GUEST_CMD_SYNC; i++)
			pin_to_cpu(i % 2);
		CHECK_EQ(VM_GLOBAL(vm, hops), 1);
		vm_destroy(vm);
	}
}

/* A guest in WFI costs no CPU: the thread sleeps until the timer. */
static void guest_long_sleep(u64 arg)
{
	set_up(TIMER_VIRTUAL);
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(500000));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	wait_fired(1);
}

TEST(sleep_costs_nothing)
{
	struct vm *vm = vm_create(.main = guest_long_sleep, .gic = true);
	struct timespec before, after;
	u64 cpu_us;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	vcpu_done(&vm->vcpus[0]);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	cpu_us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
	if (cpu_us > 250000)
		FAIL("500 ms of sleep took %lu us of CPU time", cpu_us);
}

/* The interrupt numbers are the VMM's choice. */
static void guest_other_ppi(u64 arg)
{
	guest_irq_handler = on_timer;
	under_test = TIMER_VIRTUAL;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(20);
	irq_enable();
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	wait_fired(1);
	GUEST_CHECK_EQ(last_intid, 20);
}

TEST(other_interrupt_number)
{
	struct vm *vm = vm_create(.main = guest_other_ppi, .gic = true);

	CHECK_OK(attr_set(vm->vcpus[0].fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &(int){ 20 }));
	vcpu_done(&vm->vcpus[0]);
}

/* Without an in-kernel GIC the line is userspace's to deliver. */
static void guest_user_timer(u64 arg)
{
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	for (;;)
		GUEST_SYNC(1);
}

TEST(line_to_userspace)
{
	struct vm *vm = vm_create(.main = guest_user_timer);
	struct kvm_run *run = vm->vcpus[0].run;

	if (cap(KVM_CAP_ARM_USER_IRQ) <= 0)
		SKIP("no KVM_CAP_ARM_USER_IRQ");
	for (int i = 0; i < 100 && !(run->s.regs.device_irq_level & KVM_ARM_DEV_EL1_VTIMER); i++)
		CHECK(vcpu_run(&vm->vcpus[0]) == 0 || errno == EINTR);
	CHECK(run->s.regs.device_irq_level & KVM_ARM_DEV_EL1_VTIMER);
	CHECK(!(run->s.regs.device_irq_level & KVM_ARM_DEV_EL1_PTIMER));
}

#define ID_AA64MMFR0 ARM64_SYS_REG(3, 0, 0, 7, 0)
#define ECV_SHIFT 60

/* Skips the case where the guest has no self-synchronised counters. */
static void need_ecv(struct vm *vm)
{
	if (!(reg_get(&vm->vcpus[0], ID_AA64MMFR0) >> ECV_SHIFT & 0xf))
		SKIP("the CPU has no FEAT_ECV");
}

/* CNTVCTSS_EL0 and CNTPCTSS_EL0: no ISB around them, so that it is they which are in order. */
static u64 synchronised_counter(enum guest_timer t)
{
	return t == TIMER_VIRTUAL ? read_sysreg(S3_3_C14_C0_6) : read_sysreg(S3_3_C14_C0_5);
}

static void guest_synchronised_counters(u64 arg)
{
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		u64 first = timer_counter(t), last = first;

		for (int i = 0; i < 1000; i++) {
			u64 now = i & 1 ? timer_counter(t) : synchronised_counter(t);

			GUEST_CHECK(now >= last);
			last = now;
		}
		GUEST_CHECK(last > first && last - first < guest_us(30000000));
	}
}

/* They are the same counters, whatever the offsets are: also where the physical one traps because it has one. */
TEST(self_synchronised_counters)
{
	u64 offsets[] = { 0, host_counter() - 5000, -SECONDS(1000UL) };

	for (int i = 0; i < 3; i++) {
		struct vm *vm = vm_create(.main = guest_synchronised_counters, .gic = true);
		struct kvm_arm_counter_offset offset = { .counter_offset = offsets[i] };
		int stats = ktap_on_kvm() ? -1 : stats_of(vm->vcpus[0].fd);

		need_ecv(vm);
		if (i)
			CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
		vcpu_done(&vm->vcpus[0]);
		if (stats >= 0 && i)
			EXPECT(stats_counter(stats, "sysreg_exit_stat") >= 1000);
		else if (stats >= 0)
			EXPECT(stats_counter(stats, "sysreg_exit_stat") < 100);
		vm_destroy(vm);
	}
}

static void guest_without_synchronised_counters(u64 arg)
{
	u64 esr = GUEST_PROBE("mrs x9, S3_3_C14_C0_5", : : : "x9");

	GUEST_CHECK(esr && ESR_EC(esr) == EC_UNKNOWN);
	GUEST_CHECK_EQ(read_sysreg(id_aa64mmfr0_el1) >> ECV_SHIFT & 0xf, 0);
	GUEST_CHECK(timer_counter(TIMER_PHYSICAL));
}

/* A VMM takes them away: the one that traps is UNDEFINED then. KVM traps neither. */
TEST(without_self_synchronised_counters)
{
	struct vm *vm = vm_create(.main = guest_without_synchronised_counters, .gic = true);
	struct kvm_arm_counter_offset offset = { .counter_offset = 1000 };
	struct vcpu *vcpu = &vm->vcpus[0];

	need_ecv(vm);
	if (ktap_on_kvm())
		SKIP("KVM lets a guest read them that has them not");
	reg_set(vcpu, ID_AA64MMFR0, reg_get(vcpu, ID_AA64MMFR0) & ~(0xfUL << ECV_SHIFT));
	CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	vcpu_done(vcpu);
}
