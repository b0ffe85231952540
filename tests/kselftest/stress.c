// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once, at random: guests that compute, sleep, send interrupts, take page faults and talk to userspace,
 * while the host moves threads, discards memory, moves a slot, raises lines and sends signals. Each guest checks its
 * own memory, registers and interrupts all the while. LOFT_STRESS_SECONDS (default 6) and LOFT_STRESS_SEED change it.
 */
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

#define VMS 3
#define VCPUS 3
#define AREA 0x80000000UL
#define AREA_PAGES 64
#define FLAKY 0xc0000000UL /* a slot that moves away and comes back */
#define PAGE 4096UL

static u64 stop, ready, seed, progress[VCPUS], lines, sgis[VCPUS], ticks[VCPUS];

static void on_irq(struct guest_regs *regs)
{
	u64 cpu = guest_self()->index;
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (intid == PPI_VTIMER) {
		timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(1000));
		WRITE_ONCE(ticks[cpu], ticks[cpu] + 1);
	} else if (intid == 5) {
		WRITE_ONCE(sgis[cpu], sgis[cpu] + 1);
	} else if (intid == SPI(1) || intid == SPI(2)) {
		atomic_inc(&lines);
	} else {
		GUEST_FAIL("an interrupt from nowhere", intid, cpu);
	}
	gic_eoi(intid);
}

static void check_page(u64 cpu, u64 page, u64 round)
{
	volatile u64 *p = (volatile u64 *)(AREA + page * PAGE);
	u64 old = p[cpu];

	/* Its own word: what it wrote last, or zero where the host threw the page away. */
	if (old && (old >> 32 != page || (old & 0xffffffff) > round))
		GUEST_FAIL("a word that nobody wrote: page, value", page, old);
	p[cpu] = page << 32 | round;
}

static void guest_stress(u64 cpu)
{
	u64 random, id = 0x1d00 + cpu;

	if (cpu == 0) {
		guest_irq_handler = on_irq;
		gic_init_distributor();
		for (u32 i = 1; i <= 2; i++) {
			gic_edge(SPI(i), true);
			gic_route(SPI(i), i);
			gic_enable(SPI(i));
		}
		store_release(&ready, 1);
	}
	while (!load_acquire(&ready))
		;
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	gic_enable(5);
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	write_sysreg(id, tpidr_el0);
	write_sysreg(id, contextidr_el1);
	random = (seed + cpu) * 0x9e3779b97f4a7c15 | 1;
	irq_enable();
	for (u64 round = 1; !READ_ONCE(stop); round++) {
		switch (guest_random(&random) % 10) {
		case 0:
			wfi();
			break;
		case 1:
			gic_sgi(5, guest_random(&random) & ((1 << VCPUS) - 1));
			break;
		case 2:
			GUEST_CHECK(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001);
			break;
		case 3:
			GUEST_SYNC(round);
			break;
		case 4:
			GUEST_CHECK_EQ(mmio_read32(GUEST_GICD + GICD_TYPER) & 0x1f, 3);
			break;
		case 5:
			GUEST_CHECK_EQ(mmio_read32(FLAKY + cpu * 8), 0); /* memory or MMIO: zero in either case */
			break;
		case 6:
			wfe();
			break;
		default:
			for (int i = 0; i < 8; i++)
				check_page(cpu, guest_random(&random) % AREA_PAGES, round);
		}
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), id);
		GUEST_CHECK_EQ(read_sysreg(contextidr_el1), id);
		WRITE_ONCE(progress[cpu], round);
	}
	irq_disable();
}

static bool flaky_read(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.is_write || run->mmio.phys_addr < FLAKY)
		return false;
	memset(run->mmio.data, 0, 8);
	return true;
}

static void *stress_thread(void *arg)
{
	while (vcpu_next(arg).command != GUEST_CMD_DONE)
		;
	return NULL;
}

TEST_SECONDS(everything, 70)
{
	u64 seconds = getenv("LOFT_STRESS_SECONDS") ? strtoul(getenv("LOFT_STRESS_SECONDS"), NULL, 0) : 6;
	u64 start_seed = getenv("LOFT_STRESS_SEED") ? strtoul(getenv("LOFT_STRESS_SEED"), NULL, 0) : 1, random, end, done = 0;
	struct vm *vms[VMS];
	u8 *area[VMS], *flaky[VMS];
	int event[VMS];

	alarm(seconds + 64);
	ktap_note("seed %lu, %lu s", start_seed, seconds);
	random = start_seed * 0x9e3779b97f4a7c15 | 1;
	kick_setup();
	for (u32 v = 0; v < VMS; v++) {
		struct vm *vm = vms[v] = vm_create(.main = guest_stress, .gic = true, .vcpus = VCPUS);
		struct kvm_irqfd irqfd = { .fd = event[v] = CHECK_OK(eventfd(0, 0)), .gsi = 1 };

		area[v] = host_alloc(AREA_PAGES * PAGE, 0x200000);
		flaky[v] = host_alloc(PAGE, PAGE);
		CHECK_OK(vm_slot(vm, 1, 0, AREA, AREA_PAGES * PAGE, area[v]));
		CHECK_OK(vm_slot(vm, 2, 0, FLAKY, PAGE, flaky[v]));
		CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
		VM_GLOBAL(vm, seed) = start_seed + v * 100;
		for (u32 i = 0; i < VCPUS; i++) {
			vm->vcpus[i].on_exit = flaky_read;
			CHECK(pthread_create(&vm->vcpus[i].thread, NULL, stress_thread, &vm->vcpus[i]) == 0);
		}
	}
	setpriority(PRIO_PROCESS, 0, -10); /* this thread alone: nine busy ones would crowd it out */
	for (end = now_us() + seconds * 1000000; now_us() < end; done++) {
		u32 v = guest_random(&random) % VMS, c = guest_random(&random) % VCPUS;
		u64 page = guest_random(&random) % AREA_PAGES;
		struct vm *vm = vms[v];
		cpu_set_t set;

		switch (guest_random(&random) % 8) {
		case 0:
			CPU_ZERO(&set);
			CPU_SET(guest_random(&random) % cpu_count(), &set);
			CHECK(pthread_setaffinity_np(vm->vcpus[c].thread, sizeof(set), &set) == 0);
			break;
		case 1:
			CHECK_OK(madvise(area[v] + page * PAGE, PAGE, MADV_DONTNEED));
			break;
		case 2:
			CHECK_OK(vm_slot(vm, 2, 0, FLAKY + PAGE * 16, PAGE, flaky[v]));
			sleep_us(200);
			CHECK_OK(vm_slot(vm, 2, 0, FLAKY, PAGE, flaky[v]));
			break;
		case 3:
			vm_irq(vm, SPI(2), 1);
			vm_irq(vm, SPI(2), 0);
			break;
		case 4:
			CHECK(write(event[v], &(u64){ 1 }, 8) == 8);
			break;
		case 5:
			kick(vm->vcpus[c].thread);
			break;
		case 6:
			CHECK_OK(mprotect(area[v] + page * PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
			break;
		case 7:
			sleep_us(guest_random(&random) % 1000);
			break;
		}
	}
	for (u32 v = 0; v < VMS; v++) {
		struct vm *vm = vms[v];
		u64 before[VCPUS], ticked[VCPUS];

		for (u32 i = 0; i < VCPUS; i++) {
			before[i] = VM_GLOBAL(vm, progress[i]);
			ticked[i] = VM_GLOBAL(vm, ticks[i]);
		}
		for (u32 i = 0; i < VCPUS; i++)
			while (VM_GLOBAL(vm, progress[i]) == before[i] || VM_GLOBAL(vm, ticks[i]) == ticked[i])
				sleep_us(1000); /* all alive, all with a timer that ticks */
		CHECK(VM_GLOBAL(vm, lines) > 0);
		VM_GLOBAL(vm, stop) = 1;
		for (u32 i = 0; i < VCPUS; i++)
			vcpu_join(&vm->vcpus[i]);
		ktap_note("VM %u: rounds %lu %lu %lu, lines %lu, SGIs %lu, ticks %lu", v, VM_GLOBAL(vm, progress[0]), VM_GLOBAL(vm, progress[1]),
			  VM_GLOBAL(vm, progress[2]), VM_GLOBAL(vm, lines), VM_GLOBAL(vm, sgis[0]), VM_GLOBAL(vm, ticks[0]));
	}
	ktap_note("%lu host actions", done);
}
