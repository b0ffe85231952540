// SPDX-License-Identifier: GPL-2.0
/* Eventfds in both directions: a store of the guest's to a thread of the VMM, and a thread of the VMM to the guest's handler. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"

#define OPERATIONS 20
#define DOORBELL 0x0a000000UL
#define LINE 3 /* the SPI of the irqfds */
#define MS 1000000UL

static int doorbell(struct vm *vm)
{
	struct kvm_ioeventfd e = { .fd = CHECK_OK(eventfd(0, 0)), .addr = DOORBELL, .len = 4 };

	CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	return e.fd;
}

/*
 * The guest's side of a kick: from the store until its next instruction. Nobody waits for the eventfd, as while the back end
 * is at work. One CPU, counted in the guest; its part is the store.
 */
static void guest_kick(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "str wzr, [%[at]]", [at] "r"(DOORBELL) : "memory");
}

TEST(ioeventfd_kick)
{
	struct vm *vm = bench_vm(.main = guest_kick);
	int fd = doorbell(vm);
	u64 n;

	vcpu_done(&vm->vcpus[0]); /* an exit to userspace fails this */
	CHECK(read(fd, &n, 8) == 8);
	CHECK_EQ(n, BENCH_OPERATIONS * BENCH_ROUNDS);
	bench_report("ioeventfd_kick", BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/*
 * From the store until a thread that slept in read() on another, idle CPU has the event and has said so in the guest's memory.
 * Both CPUs, counted in the guest; its part are the store and its looking, the thread's its way out of read() and a store.
 */
static u64 woken;

static void guest_wake(u64 arg)
{
	bench_gic_up(0, 1);
	irq_enable();
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sum = 0;

		for (u32 i = 0; i < OPERATIONS; i++) {
			u64 seen = READ_ONCE(woken), before;

			bench_sleep(4 * MS); /* the thread sleeps again */
			before = guest_now();
			mmio_write32(DOORBELL, 0);
			BENCH_UNTIL(READ_ONCE(woken) != seen);
			sum += guest_now() - before;
		}
		bench_ticks[0][round] = sum;
	}
}

static struct {
	int fd;
	volatile u64 *woken;
} waiter;

static void *wait_for_kicks(void *arg)
{
	u64 n;

	pin_to_cpu(BENCH_CPU + 1);
	while (read(waiter.fd, &n, 8) == 8)
		++*waiter.woken;
	return NULL;
}

TEST_SECONDS(ioeventfd_wake, 120)
{
	struct vm *vm = bench_vm(.main = guest_wake);
	pthread_t thread;

	waiter.fd = doorbell(vm);
	waiter.woken = &VM_GLOBAL(vm, woken);
	CHECK(pthread_create(&thread, NULL, wait_for_kicks, NULL) == 0);
	vcpu_done(&vm->vcpus[0]);
	bench_report("ioeventfd_wake", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/* What takes the interrupts: running (a yield after the other), or in WFI. */
static void set_up_line(void)
{
	bench_gic_up(0, 1);
	gic_edge(SPI(LINE), true);
	gic_enable(SPI(LINE));
	irq_enable();
	GUEST_SYNC(1);
}

static void guest_busy(u64 arg)
{
	set_up_line();
	for (;;)
		bench_pause();
}

static void guest_idle(u64 arg)
{
	set_up_line();
	for (;;)
		wfi();
}

/*
 * From a thread's write() to the irqfd, on one CPU, until the guest's handler on another has ended the interrupt and the
 * thread sees it. Both CPUs, counted in the thread; its part are the system call and its looking.
 */
static void measure_irqfd(const char *name, void (*guest)(u64), u64 rest_us)
{
	struct vm *vm = bench_vm(.main = guest);
	struct kvm_irqfd irqfd = { .fd = CHECK_OK(eventfd(0, 0)), .gsi = LINE };
	volatile u64 *count = &VM_GLOBAL(vm, bench_cpus[0].count), ticks[BENCH_ROUNDS];
	const u64 one = 1;

	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	vcpu_sync(&vm->vcpus[0], 1);
	bench_start(&vm->vcpus[0], BENCH_CPU + 1);
	sleep_us(1000);
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sum = 0;

		for (u32 i = 0; i < OPERATIONS; i++) {
			u64 seen = *count, before;

			if (rest_us)
				sleep_us(rest_us);
			before = bench_now();
			CHECK(write(irqfd.fd, &one, 8) == 8);
			BENCH_UNTIL(*count != seen);
			sum += bench_now() - before;
		}
		ticks[round] = sum;
	}
	bench_report(name, OPERATIONS, BENCH_ROUNDS, ticks);
}

TEST(irqfd_deliver)
{
	measure_irqfd("irqfd_deliver", guest_busy, 0);
}

/* The same to a vCPU in WFI on an idle CPU. */
TEST_SECONDS(irqfd_idle, 120)
{
	measure_irqfd("irqfd_idle", guest_idle, 4000);
}
