// SPDX-License-Identifier: GPL-2.0
/* A VM without an interrupt controller on the CPU of one that has one: nothing of the other's is felt by it, or by the host. */
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gic.h"
#include "vm.h"

static u64 stop, count, rounds, on_kvm;

static void on_level(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	WRITE_ONCE(count, count + 1);
	/* Linux 7.2's KVM notices the end of an interrupt only if the guest exits while it is active. */
	if (on_kvm)
		mmio_read32(GUEST_GICD + GICD_TYPER);
	gic_eoi(intid);
}

static void guest_level(u64 arg)
{
	guest_irq_handler = on_level;
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 8; i++) {
		gic_edge(SPI(i), false);
		gic_enable(SPI(i));
	}
	GUEST_SYNC(1);
	irq_enable();
	while (!READ_ONCE(stop))
		;
}

/* An interrupt here would be the other VM's. */
static void on_foreign(struct guest_regs *regs)
{
	GUEST_FAIL("an interrupt, without a controller to send one", 0, 0);
}

static void guest_alone(u64 arg)
{
	guest_irq_handler = on_foreign;
	guest_fiq_handler = on_foreign;
	__asm__ volatile("msr daifclr, #3" : : : "memory");
	for (;;) {
		for (volatile u64 i = 0; i < 2000; i++)
			;
		/* An exit that needs no userspace, and one that does. */
		GUEST_CHECK(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001);
		WRITE_ONCE(rounds, rounds + 1);
		GUEST_SYNC(rounds);
	}
}

static struct vm *with, *without;

static void urgent(int priority)
{
	struct sched_param p = { .sched_priority = priority };

	if (sched_setscheduler(0, SCHED_FIFO, &p))
		SKIP("no real-time scheduling: %s", strerrorname_np(errno));
}

/* The host's own work on that CPU: a timer, again and again, with priority over everything else here. */
static volatile u64 host_ticks, longest_us;
static volatile bool over;

static void *host_timer(void *arg)
{
	pin_to_cpu(0);
	urgent(20);
	while (!over) {
		u64 before = now_us(), took;

		sleep_us(1000);
		took = now_us() - before;
		if (took > longest_us)
			longest_us = took;
		host_ticks++;
	}
	return NULL;
}

#define ROUNDS 300
static volatile u64 done_rounds;

/*
 * The other VM's level-sensitive interrupt ends, which asserts the GIC's maintenance interrupt; that makes this thread run,
 * at once and on the same CPU, with the list register as the guest has left it.
 */
static void *run_without(void *arg)
{
	int event = CHECK_OK(eventfd(0, 0)), resample = CHECK_OK(eventfd(0, 0));
	struct kvm_irqfd irqfd = { .fd = event, .gsi = 3, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = resample };

	CHECK_OK(ioctl(with->fd, KVM_IRQFD, &irqfd));
	pin_to_cpu(0);
	urgent(10);
	for (u64 i = 1; i <= ROUNDS; i++) {
		u64 n;

		CHECK(write(event, &(u64){ 1 }, 8) == 8);
		CHECK(read(resample, &n, 8) == 8);
		CHECK(VM_GLOBAL(with, count) >= i);
		vcpu_sync(&without->vcpus[0], i);
		done_rounds = i;
	}
	return NULL;
}

TEST_SECONDS(after_a_level_interrupt, 40)
{
	pthread_t timer, runner;
	u64 last = 0, since = now_us();

	if (cpu_count() < 2)
		SKIP("one CPU only");
	pin_to_cpu(1);
	with = vm_create(.main = guest_level, .gic = true);
	without = vm_create(.main = guest_alone);
	VM_GLOBAL(with, on_kvm) = ktap_on_kvm();
	vcpu_sync(&with->vcpus[0], 1);
	pin_to_cpu(0); /* what the thread inherits */
	vcpu_start(&with->vcpus[0]);
	pin_to_cpu(1);
	CHECK(pthread_create(&timer, NULL, host_timer, NULL) == 0);
	CHECK(pthread_create(&runner, NULL, run_without, NULL) == 0);
	while (done_rounds < ROUNDS) {
		sleep_us(10000);
		if (done_rounds != last) {
			last = done_rounds;
			since = now_us();
		} else if (now_us() - since > 10000000) {
			FAIL("the VM without a controller does not get on after %lu rounds; the host's timer ran %lu times, %lu us at most", last,
			     host_ticks, longest_us);
		}
	}
	over = true;
	pthread_join(timer, NULL);
	pthread_join(runner, NULL);
	ktap_note("the host's timer ran %lu times, %lu us at most", host_ticks, longest_us);
	CHECK(host_ticks > 10);
	CHECK(longest_us < 2000000);
	VM_GLOBAL(with, stop) = 1;
	vcpu_join(&with->vcpus[0]);
}

/* The scheduler alone, with lines that stay up: the list registers are in every state there is. */
static void *spin_without(void *arg)
{
	for (u64 i = 1; !over; i++)
		vcpu_sync(&without->vcpus[0], i);
	return NULL;
}

TEST_SECONDS(scheduled_in_turn, 40)
{
	pthread_t timer, runner;
	u64 end;

	if (cpu_count() < 2)
		SKIP("one CPU only");
	pin_to_cpu(1);
	with = vm_create(.main = guest_level, .gic = true);
	without = vm_create(.main = guest_alone);
	vcpu_sync(&with->vcpus[0], 1);
	for (u32 i = 0; i < 8; i += 2)
		vm_irq(with, SPI(i), 1);
	pin_to_cpu(0);
	vcpu_start(&with->vcpus[0]);
	CHECK(pthread_create(&runner, NULL, spin_without, NULL) == 0);
	pin_to_cpu(1);
	CHECK(pthread_create(&timer, NULL, host_timer, NULL) == 0);
	end = now_us() + 1000000;
	for (u64 i = 0; now_us() < end || host_ticks < 10; i++) {
		vm_irq(with, SPI(i % 8), i / 8 % 2);
		sleep_us(300);
	}
	vm_irq(with, SPI(0), 1); /* all may be low by now */
	for (u64 counted = VM_GLOBAL(with, count), ran = VM_GLOBAL(without, rounds); VM_GLOBAL(with, count) == counted || VM_GLOBAL(without, rounds) == ran;)
		sleep_us(1000); /* both are alive */
	over = true;
	pthread_join(timer, NULL);
	pthread_join(runner, NULL);
	for (u32 i = 0; i < 8; i++)
		vm_irq(with, SPI(i), 0); /* or it never comes to see that it is to stop */
	ktap_note("%lu interrupts, %lu rounds beside them; the host's timer ran %lu times, %lu us at most", VM_GLOBAL(with, count),
		  VM_GLOBAL(without, rounds), host_ticks, longest_us);
	CHECK(longest_us < 2000000);
	VM_GLOBAL(with, stop) = 1;
	vcpu_join(&with->vcpus[0]);
}
