// SPDX-License-Identifier: GPL-2.0
/*
 * Exits that one vCPU causes and that nobody else takes part in. All of them are counted on one CPU, in the guest: the interval
 * begins before the first of the round's operations and ends after the last; it holds the guest's own instructions, the
 * exits, and for mmio_* the VMM's.
 */
#include "bench.h"

#define MMIO 0x0a000000UL /* nothing is there */

/* Runs the guest to its end, then prints what it measured. */
static void measure(const char *name, void (*guest)(u64))
{
	struct vm *vm = bench_vm(.main = guest);

	vcpu_done(&vm->vcpus[0]);
	bench_report(name, BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}
#define MEASURE(NAME) TEST(NAME) { measure(#NAME, guest_##NAME); }

/* SMCCC_VERSION by HVC, which the hypervisor answers by itself. The guest's part: two instructions. */
static void guest_hypercall(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "mov w0, #0x80000000\n\thvc #0", : "x0", "x1", "x2", "x3", "memory");
}
MEASURE(hypercall)

/* A trapped read of an ID register. The guest's part: one instruction. The loop's two are counted twice, see BENCH_REPEAT. */
static void guest_idreg_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "mrs x0, id_aa64pfr0_el1", : "x0");
}
MEASURE(idreg_read)

/* A read of the distributor's control register. The guest's part: one instruction; so in all that follow. */
static void guest_gicd_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "ldr w0, [%[at]]", [at] "r"((u64)GUEST_GICD + GICD_CTLR) : "x0", "memory");
}
MEASURE(gicd_read)

/* A write to it: an interrupt is enabled that is enabled already. */
static void guest_gicd_write(u64 arg)
{
	bench_gic_up(0, 1);
	gic_enable(SPI(0));
	BENCH_REPEAT(bench_ticks[0], "str %w[bit], [%[at]]", [at] "r"((u64)GUEST_GICD + GICD_ISENABLER + 4), [bit] "r"(1) : "memory");
}
MEASURE(gicd_write)

/* A read of the vCPU's redistributor: its control register, as a guest polls it. */
static void guest_gicr_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "ldr w0, [%[at]]", [at] "r"((u64)GUEST_GICR + GICR_CTLR) : "x0", "memory");
}
MEASURE(gicr_read)

/* An SGI to nobody (an empty target list): the trap without the interrupt. */
static void guest_sgi1r_write(u64 arg)
{
	bench_gic_up(0, 1);
	BENCH_REPEAT(bench_ticks[0], "msr " STRINGIFY(ICC_SGI1R_EL1) ", xzr", : "memory");
}
MEASURE(sgi1r_write)

/* A read of the physical timer's control register, which traps where the hypervisor keeps that timer for itself. */
static void guest_timer_ctl_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "mrs x0, cntp_ctl_el0", : "x0");
}
MEASURE(timer_ctl_read)

/* The virtual timer set to a time far away, as a guest's kernel does it: three instructions. */
static void guest_timer_set(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "msr cntv_cval_el0, %[at]\n\tmsr cntv_ctl_el0, %[on]\n\tisb",
		     [at] "r"(1UL << 55), [on] "r"(1UL) : "memory");
}
MEASURE(timer_set)

/* The same for the physical timer. */
static void guest_timer_set_physical(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "msr cntp_cval_el0, %[at]\n\tmsr cntp_ctl_el0, %[on]\n\tisb",
		     [at] "r"(1UL << 55), [on] "r"(1UL) : "memory");
}
MEASURE(timer_set_physical)

/* A store that no device in the kernel takes: out to the VMM, a C program that only says KVM_RUN again, and back. */
static void guest_mmio_user(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "str wzr, [%[at]]", [at] "r"(MMIO) : "memory");
}

/* The same for a load. What it gets is what the exit's buffer holds. */
static void guest_mmio_user_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "ldr w0, [%[at]]", [at] "r"(MMIO) : "x0", "memory");
}

/* Until the guest is done: on with every access, as the cheapest VMM would. */
static void measure_mmio(const char *name, void (*guest)(u64))
{
	struct vm *vm = bench_vm(.main = guest);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct guest_message message;
	u32 accesses = 0;

	CHECK_EQ(vcpu_run(vcpu), 0);
	while (vcpu->run->exit_reason == KVM_EXIT_MMIO && vcpu->run->mmio.phys_addr == MMIO) {
		accesses++;
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
			FAIL("KVM_RUN: %s", strerrorname_np(errno));
	}
	CHECK(vcpu_message(vcpu, &message) && message.command == GUEST_CMD_DONE);
	CHECK_EQ(accesses, BENCH_OPERATIONS * BENCH_ROUNDS);
	bench_report(name, BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

TEST(mmio_user)
{
	measure_mmio("mmio_user", guest_mmio_user);
}

TEST(mmio_user_read)
{
	measure_mmio("mmio_user_read", guest_mmio_user_read);
}
