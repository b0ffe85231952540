// SPDX-License-Identifier: GPL-2.0
/* Interrupts between vCPUs, of the timer, and their end. Every vCPU has a CPU of its own. The counter is read in the guest. */
#include "abi.h"
#include "bench.h"
#include "timer.h"

#define OPERATIONS 20
#define ALL 4 /* vCPUs where it says "all" */
#define MS 1000000UL /* ticks; under -icount, and what matters there is only that it is long */

/* Writes ICC_SGI1R_EL1; the counter before it, and in *after the counter behind it. The guest's part: three instructions. */
static inline u64 send(u64 sgi, u64 *after)
{
	u64 before, behind;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tmsr " STRINGIFY(ICC_SGI1R_EL1) ", %2\n\tisb\n\tmrs %1, cntvct_el0"
			 : "=&r"(before), "=&r"(behind) : "r"(sgi) : "memory");
	*after = behind;
	return before;
}

/* vCPU 0 sends to the others (all but itself) one interrupt after the other, each when the last has been handled. */
static void send_all(u32 targets, u64 rest)
{
	const u64 sgi = targets == 1 ? 1 << 1 : 1UL << 40;

	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sending = 0, delivering = 0;

		for (u32 i = 0; i < OPERATIONS; i++) {
			u64 count[ALL], before, after, last = 0;

			for (u32 t = 1; t <= targets; t++)
				count[t] = READ_ONCE(bench_cpus[t].count);
			if (rest)
				bench_sleep(rest);
			before = send(sgi, &after);
			for (u32 t = 1; t <= targets; t++) {
				BENCH_UNTIL(READ_ONCE(bench_cpus[t].count) != count[t]);
				if (READ_ONCE(bench_cpus[t].at) > last)
					last = READ_ONCE(bench_cpus[t].at);
			}
			sending += after - before;
			delivering += last - before;
		}
		bench_ticks[0][round] = sending;
		bench_ticks[1][round] = delivering;
	}
}

/* The target runs: it does nothing but wait for its turn to be over. */
static void busy(u64 index, u32 vcpus)
{
	bench_gic_up(index, vcpus);
	irq_enable();
	if (index)
		for (;;)
			bench_pause();
	send_all(vcpus - 1, 0);
}

/*
 * The target waits in WFI, and its CPU is idle by the time the SGI is sent: the sender, too, rests before each, for longer than
 * a hypervisor polls.
 */
static void idle(u64 index, u32 vcpus, u64 rest)
{
	bench_gic_up(index, vcpus);
	irq_enable();
	if (index)
		for (;;)
			wfi();
	send_all(vcpus - 1, rest);
}

static void guest_one_busy(u64 index)
{
	busy(index, 2);
}

static void guest_one_idle(u64 index)
{
	idle(index, 2, 4 * MS);
}

static void guest_one_waiting(u64 index)
{
	idle(index, 2, MS / 20);
}

static void guest_all_busy(u64 index)
{
	busy(index, ALL);
}

static void guest_all_idle(u64 index)
{
	idle(index, ALL, 4 * MS);
}

static void measure(const char *sending, const char *delivering, u32 vcpus, void (*guest)(u64))
{
	struct vm *vm = bench_vm(.main = guest, .vcpus = vcpus);

	bench_run_all(vm);
	if (sending)
		bench_report(sending, OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
	bench_report(delivering, OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[1]);
}

/*
 * sgi_send: the sender's side, from the write until its next instruction, the kick of the other CPU included; counted on the
 * sender's CPU, for the target's gets no turn in between.
 * sgi_deliver: from the write until the target's handler begins; counted on both CPUs, with what the sender does until it
 * hands over its turn.
 */
TEST(sgi_deliver)
{
	measure("sgi_send", "sgi_deliver", 2, guest_one_busy);
}

/* As sgi_deliver, to a vCPU in WFI on an idle CPU: the wake-up of its thread by the host is in it. Both CPUs. */
TEST_SECONDS(sgi_idle, 120)
{
	measure(NULL, "sgi_idle", 2, guest_one_idle);
}

/* The same 50 us after the last one, as between threads that wake each other: the target's thread may not sleep yet. */
TEST(sgi_waiting)
{
	measure(NULL, "sgi_waiting", 2, guest_one_waiting);
}

/* One SGI to three running vCPUs: from the write until the last handler begins; all four CPUs. */
TEST(sgi_broadcast)
{
	measure("sgi_broadcast_send", "sgi_broadcast", ALL, guest_all_busy);
}

/* The same to three in WFI. */
TEST_SECONDS(sgi_broadcast_idle, 120)
{
	measure(NULL, "sgi_broadcast_idle", ALL, guest_all_idle);
}

static void send_and_wait(u64 index)
{
	volatile u64 *count = &bench_cpus[index].count;
	u64 before = *count;

	gic_sgi(0, 1 << (index ^ 1));
	BENCH_UNTIL(*count != before);
}

/* vCPUs 2n and 2n + 1 send each other an SGI in turns, until vCPU 0 has counted. */
static void exchange(u64 index, u32 vcpus)
{
	bench_gic_up(index, vcpus);
	irq_enable();
	if (index & 1)
		BENCH_UNTIL(READ_ONCE(bench_cpus[index].count));
	if (index)
		for (;;)
			send_and_wait(index);
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 before = guest_now();

		for (u32 i = 0; i < OPERATIONS; i++)
			send_and_wait(index);
		bench_ticks[0][round] = guest_now() - before;
	}
}

static void guest_pair(u64 index)
{
	exchange(index, 2);
}

static void guest_pairs(u64 index)
{
	exchange(index, 4);
}

/*
 * sgi_pair: two vCPUs send each other an SGI, there and back; sgi_pairs: two such pairs next to each
 * other, for each exchange of either. All CPUs. If an exchange took the lock that a VM's vCPUs share,
 * it would show in the figures only where one had to wait, which in an emulator is seldom: so it is
 * counted.
 */
static void measure_pairs(const char *name, u32 pairs, void (*guest)(u64))
{
	struct vm *vm = bench_vm(.main = guest, .vcpus = 2 * pairs);
	const u32 exchanges = OPERATIONS * pairs;

	bench_run_all(vm);
	/* Setting up takes some. */
	if (!ktap_on_kvm())
		CHECK_EQ(stats_counter(stats_of(vm->fd), "gic_shared_locks") / (exchanges * BENCH_ROUNDS), 0);
	bench_report(name, exchanges, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

TEST(sgi_pairs)
{
	measure_pairs("sgi_pair", 1, guest_pair);
	measure_pairs("sgi_pairs", 2, guest_pairs);
}

/*
 * sgi_all_N: an SGI to all others of N vCPUs, none of which is in the guest: the sender's side, for each of the others. Each SGI is
 * sent once, for there it stays pending. With this many the guest does not get on until all have it; the time that it takes on
 * the whole is the longest that the host's interrupts may be off for it.
 */
#define SGIS 15

static void guest_to_all(u64 arg)
{
	bench_gic_up(0, 1);
	for (u64 n = 0; n < SGIS; n++) {
		u64 after, before = send(1UL << 40 | (n + 1) << 24, &after);

		bench_ticks[0][n] = after - before;
	}
}

static void measure_all(const char *name, u32 vcpus)
{
	struct vm *vm = bench_vm(.main = guest_to_all, .bystanders = vcpus - 1);

	vcpu_done(&vm->vcpus[0]);
	bench_report(name, vcpus - 1, SGIS, VM_GLOBAL(vm, bench_ticks)[0]);
}

TEST(sgi_all)
{
	measure_all("sgi_all_2", 2);
	measure_all("sgi_all_16", 16);
	measure_all("sgi_all_64", 64);
}

#define ALL_LINES 992 /* the most that KVM takes */

/*
 * spis_*: an SGI of the vCPU's own, from the write until the next instruction, when the guest has made
 * of all SPIs that KVM gives it what is worst, and takes none. What is in the list registers goes back
 * to them and the first ones are found again, with the host's interrupts off. One CPU.
 */
static void all_spis(u64 reg)
{
	for (u32 n = 1; n < ALL_LINES / 32; n++)
		mmio_write32(GUEST_GICD + reg + 4 * n, ~0U);
}

/* The more urgent ones come last. */
static void spis_up(void)
{
	bench_gic_up(0, 1);
	for (u32 intid = 32; intid < ALL_LINES; intid++)
		gic_priority(intid, 0xf8 - (intid / 32) * 8);
	all_spis(GICD_ISENABLER);
	for (u32 n = 0; n < SGIS; n++)
		gic_enable(n + 1);
}

static void send_to_self(void)
{
	for (u64 n = 0; n < SGIS; n++) {
		u64 after, before = send((n + 1) << 24 | 1, &after);

		bench_ticks[0][n] = after - before;
	}
}

static void guest_spis_all(u64 arg)
{
	spis_up();
	all_spis(GICD_ISPENDR);
	send_to_self();
}

static void guest_spis_active(u64 arg)
{
	spis_up();
	all_spis(GICD_ISACTIVER);
	send_to_self();
}

/* In EOImode 1 an interrupt that has been ended stays active, and any other can be acknowledged. */
static void guest_spis_mixed(u64 arg)
{
	spis_up();
	gic_split_eoi(true);
	all_spis(GICD_ISPENDR);
	for (u32 n = 0; n < 100; n++)
		gic_eoi(gic_ack());
	for (u32 n = 1; n < ALL_LINES / 32; n += 2)
		mmio_write32(GUEST_GICD + GICD_ISACTIVER + 4 * n, ~0U);
	all_spis(GICD_ISPENDR);
	send_to_self();
}

static void measure_spis(const char *name, void (*guest)(u64))
{
	struct vm *vm = bench_vm(.main = guest, .no_gic_init = true);
	u32 lines = ALL_LINES;

	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
	vcpu_done(&vm->vcpus[0]);
	bench_report(name, 1, SGIS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/* spis_all: all are pending. */
TEST(spis_all)
{
	measure_spis("spis_all", guest_spis_all);
}

/* spis_active: all are active; spis_mixed: all are pending, and more than half of them active. */
TEST(spis_active)
{
	measure_spis("spis_active", guest_spis_active);
	measure_spis("spis_mixed", guest_spis_mixed);
}

/*
 * The end of an edge interrupt (an SGI of the vCPU's own, acknowledged before): from the write of ICC_EOIR1_EL1 until it has
 * taken effect. One CPU; the guest's part are three instructions: the write, an ISB, the reading of the counter.
 */
static void guest_eoi(u64 arg)
{
	bench_gic_up(0, 1);
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sum = 0;

		for (u32 i = 0; i < BENCH_OPERATIONS; i++) {
			u64 intid, before, after;

			gic_sgi(0, 1);
			do {
				intid = gic_ack();
			} while (intid >= 1020);
			__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tmsr " STRINGIFY(ICC_EOIR1_EL1) ", %2\n\tisb\n\tmrs %1, cntvct_el0"
					 : "=&r"(before), "=&r"(after) : "r"(intid) : "memory");
			sum += after - before;
		}
		bench_ticks[0][round] = sum;
	}
}

TEST(eoi)
{
	struct vm *vm = bench_vm(.main = guest_eoi);

	vcpu_done(&vm->vcpus[0]);
	bench_report("eoi", BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/*
 * The virtual timer's whole life: set to a time that is over, fires, is handled (acknowledged, masked, ended), and the
 * interrupted code goes on. One CPU; the guest's part are some thirty instructions.
 */
static void guest_timer_fire(u64 arg)
{
	bench_gic_up(0, 1);
	irq_enable();
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sum = 0;

		for (u32 i = 0; i < OPERATIONS; i++) {
			u64 count = READ_ONCE(bench_cpus[0].count), before = guest_now();

			timer_set_cval(TIMER_VIRTUAL, 0);
			timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
			while (READ_ONCE(bench_cpus[0].count) == count)
				;
			sum += guest_now() - before;
		}
		bench_ticks[0][round] = sum;
	}
}

TEST(timer_fire)
{
	struct vm *vm = bench_vm(.main = guest_timer_fire);

	vcpu_done(&vm->vcpus[0]);
	bench_report("timer_fire", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/*
 * The wake-up from WFI by the virtual timer: from the time the timer is set to until its handler begins. The vCPU's thread
 * sleeps and its CPU is idle by then. One CPU.
 */
static void guest_wfi_wake(u64 arg)
{
	bench_gic_up(0, 1);
	irq_enable();
	BENCH_EACH(round, BENCH_ROUNDS) {
		u64 sum = 0;

		for (u32 i = 0; i < OPERATIONS; i++) {
			bench_sleep(4 * MS);
			sum += READ_ONCE(bench_cpus[0].at) - timer_cval(TIMER_VIRTUAL);
		}
		bench_ticks[0][round] = sum;
	}
}

TEST_SECONDS(wfi_wake, 120)
{
	struct vm *vm = bench_vm(.main = guest_wfi_wake);

	vcpu_done(&vm->vcpus[0]);
	bench_report("wfi_wake", OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}
