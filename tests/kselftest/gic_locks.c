// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs do not wait for each other where they have nothing to do with each other. Nothing here depends on time: the interrupt
 * controller counts how often the lock is taken that all vCPUs share, and a vCPU how often it was entered and then left by an
 * interrupt at the same instruction. KVM has neither counter, and passes with what is left of the tests.
 */
#include "abi.h"
#include "gic.h"
#include "timer.h"
#include "vm.h"

static u64 distributor_up, ready, go, stop, finished, ticks[4], sgis[4];

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack(), cpu = guest_self()->index;

	if (intid == PPI_VTIMER) {
		WRITE_ONCE(ticks[cpu], ticks[cpu] + 1);
		timer_set_cval(TIMER_VIRTUAL, guest_now() + guest_us(10000));
	} else if (intid < 16) {
		WRITE_ONCE(sgis[cpu], sgis[cpu] + 1);
	}
	if (intid < 1020)
		gic_eoi(intid);
}

static void set_up(u64 cpu)
{
	guest_irq_handler = on_irq;
	if (cpu == 0) {
		gic_init_distributor();
		WRITE_ONCE(distributor_up, 1);
	}
	while (!READ_ONCE(distributor_up))
		;
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	gic_enable(2);
	irq_enable();
	atomic_inc(&ready);
}

static u64 counter(int fd, const char *name)
{
	return !ktap_on_kvm() ? stats_counter(fd, name) : 0;
}

static void start_all(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++)
		vcpu_start(&vm->vcpus[i]);
	while (VM_GLOBAL(vm, ready) < vm->vcpu_count)
		sleep_us(1000);
}

#define EXCHANGES 300

/* 0 and 1 send each other SGIs, and so do 2 and 3; each has its timer, too. */
static void guest_pairs(u64 cpu)
{
	u64 other = cpu ^ 1;

	set_up(cpu);
	while (!READ_ONCE(go))
		;
	timer_set_cval(TIMER_VIRTUAL, guest_now());
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	for (u64 i = 0; i < EXCHANGES; i++) {
		/* Even ones begin. */
		if (!(cpu & 1))
			gic_sgi(2, 1 << other);
		while (READ_ONCE(sgis[cpu]) <= i)
			;
		if (cpu & 1)
			gic_sgi(2, 1 << other);
	}
	GUEST_CHECK(READ_ONCE(ticks[cpu]) > 0);
	atomic_inc(&finished);
	while (!READ_ONCE(stop))
		wfi();
}

TEST_SECONDS(pairs_share_no_lock, 60)
{
	struct vm *vm = vm_create(.main = guest_pairs, .gic = true, .vcpus = 4);
	int fd = stats_of(vm->fd);
	u64 before;

	start_all(vm);
	before = counter(fd, "gic_shared_locks");
	VM_GLOBAL(vm, go) = 1;
	while (VM_GLOBAL(vm, finished) < 4)
		sleep_us(1000);
	CHECK_EQ(counter(fd, "gic_shared_locks"), before);
	/* An SPI is shared. */
	vm_irq(vm, SPI(3), 1);
	if (!ktap_on_kvm())
		CHECK(counter(fd, "gic_shared_locks") > before);
	VM_GLOBAL(vm, stop) = 1;
	for (u32 i = 0; i < 4; i++)
		vcpu_join(&vm->vcpus[i]);
}

/* One sends SGIs to another as fast as that one takes them, and those that wait have timers. */
static void guest_busy(u64 cpu)
{
	set_up(cpu);
	timer_set_cval(TIMER_VIRTUAL, guest_now());
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	while (!READ_ONCE(stop)) {
		u64 before = READ_ONCE(sgis[2]);

		if (cpu != 1) {
			wfi();
			continue;
		}
		gic_sgi(2, 1 << 2);
		while (READ_ONCE(sgis[2]) == before && !READ_ONCE(stop))
			/* Long enough, and cut up for an emulator, that an interrupt seldom finds it in the same place. */
			__asm__ volatile(".rept 64; isb; .endr");
	}
}

TEST_SECONDS(who_is_entered_gets_on, 60)
{
	struct vm *vm = vm_create(.main = guest_busy, .gic = true, .vcpus = 3);
	int busy = stats_of(vm->vcpus[1].fd), of_vm = stats_of(vm->fd);
	u64 left, in_place, locks, done;

	start_all(vm);
	locks = counter(of_vm, "gic_shared_locks");
	/* Enough that a vCPU that is never entered in vain shows; the host's own ticks take it out. */
	do {
		sleep_us(50000);
		left = counter(busy, "irq_exits_left");
		in_place = counter(busy, "irq_exits_in_place");
		done = VM_GLOBAL(vm, sgis[2]);
	} while ((!ktap_on_kvm() && left < 100) || done < 100 || !VM_GLOBAL(vm, ticks[0]) || !VM_GLOBAL(vm, ticks[2]));
	CHECK_EQ(counter(of_vm, "gic_shared_locks"), locks);
	ktap_note("%lu SGIs; of %lu exits by an interrupt %lu where the guest had been entered", done, left, in_place);
	/* Its loop is short: some come back to where they were. */
	CHECK(in_place * 2 <= left);
	VM_GLOBAL(vm, stop) = 1;
	for (u32 i = 0; i < 3; i++)
		vcpu_join(&vm->vcpus[i]);
}

#define MANY 100

/* There are more vCPUs than the vector may tell at once; only the first ones run. */
static void guest_to_all(u64 cpu)
{
	set_up(cpu);
	if (cpu == 0) {
		while (READ_ONCE(ready) < 4)
			;
		GUEST_SYNC(1);
		gic_sgi_others(2);
		for (u32 i = 1; i < 4; i++)
			while (!READ_ONCE(sgis[i]))
				;
		GUEST_CHECK_EQ(READ_ONCE(sgis[0]), 0);
		WRITE_ONCE(stop, 1);
		GUEST_SYNC(2);
	}
	while (!READ_ONCE(stop))
		;
}

TEST_SECONDS(one_to_all_of_many, 60)
{
	struct vm *vm = vm_create(.main = guest_to_all, .gic = true, .vcpus = 4, .bystanders = MANY);
	struct vcpu *first = &vm->vcpus[0];
	int fd = stats_of(first->fd);
	u64 left;

	for (u32 i = 1; i < 4; i++)
		vcpu_start(&vm->vcpus[i]);
	vcpu_sync(first, 1);
	left = counter(fd, "sysreg_exits_left");
	vcpu_sync(first, 2);
	/* Not in the vector, where interrupts are off. */
	if (!ktap_on_kvm())
		CHECK_EQ(counter(fd, "sysreg_exits_left"), left + 1);
	vcpu_done(first);
	for (u32 i = 1; i < 4; i++)
		vcpu_join(&vm->vcpus[i]);
	for (u32 i = 4; i < 4 + MANY; i++) {
		u32 pending;

		CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
				  (u64)(i % 16 | i / 16 << 8) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | GICR_ISPENDR0, &pending));
		CHECK_EQ(pending, 1 << 2);
	}
}

#define SGIS 16

/* SGIs to vCPUs that do not run, and with each of them one to itself, which comes at once and not only with its next exit. */
static u64 targets;

static void guest_to_sleepers(u64 cpu)
{
	set_up(cpu);
	for (u32 n = 0; n < SGIS; n++)
		gic_enable(n);
	GUEST_SYNC(1);
	for (u32 n = 0; n < SGIS; n++) {
		gic_sgi(n, READ_ONCE(targets));
		for (u32 i = 0; i < 1000 && READ_ONCE(sgis[0]) == n; i++)
			;
		GUEST_CHECK_EQ(READ_ONCE(sgis[0]), n + 1);
	}
	GUEST_SYNC(2);
}

/* Returns how often the sender was left for an interrupt, one for somebody else included. */
static u64 left_for_sleepers(u32 sleepers)
{
	struct vm *vm = vm_create(.main = guest_to_sleepers, .gic = true, .bystanders = sleepers);
	int fd = stats_of(vm->vcpus[0].fd);
	u64 left;

	VM_GLOBAL(vm, targets) = (2UL << sleepers) - 1;
	vcpu_sync(&vm->vcpus[0], 1);
	left = counter(fd, "irq_exits_left");
	vcpu_sync(&vm->vcpus[0], 2);
	left = counter(fd, "irq_exits_left") - left;
	vcpu_done(&vm->vcpus[0]);
	for (u32 i = 1; i <= sleepers; i++) {
		u32 pending;

		CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, (u64)i << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT | GICR_ISPENDR0,
				  &pending));
		CHECK_EQ(pending, (1 << SGIS) - 1);
	}
	return left;
}

/* Who has to be woken up by the host is woken while the sender's interrupts and timers stay in the CPU, if they are few. */
TEST(sleepers_are_told_at_once)
{
	const u64 few = left_for_sleepers(4), many = left_for_sleepers(5);

	ktap_note("%d SGIs: left %lu times for 4, %lu times for 5", SGIS, few, many);
	/* The host's own ticks are among them. */
	if (!ktap_on_kvm())
		CHECK(few < SGIS && many >= SGIS);
}

#define WAKE_UPS 8

/* The other one sleeps, with nothing but the SGI to wake it up. */
static void guest_wakes(u64 cpu)
{
	set_up(cpu);
	if (cpu) {
		while (!READ_ONCE(stop))
			wfi();
		return;
	}
	while (READ_ONCE(ready) < 2)
		;
	for (u64 n = 1; n <= WAKE_UPS; n++) {
		GUEST_SYNC(n);
		if (n == WAKE_UPS)
			WRITE_ONCE(stop, 1);
		gic_sgi(2, 1 << 1);
		while (READ_ONCE(sgis[1]) != n)
			;
	}
}

TEST(sleepers_wake_up)
{
	struct vm *vm = vm_create(.main = guest_wakes, .gic = true, .vcpus = 2);
	int fd = stats_of(vm->vcpus[1].fd);

	vcpu_start(&vm->vcpus[1]);
	for (u64 n = 1; n <= WAKE_UPS; n++) {
		vcpu_sync(&vm->vcpus[0], n);
		while (!stats_counter(fd, "blocking"))
			sleep_us(1000);
	}
	vcpu_done(&vm->vcpus[0]);
	vcpu_join(&vm->vcpus[1]);
}
