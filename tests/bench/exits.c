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

/* A trapped read of an ID register. The guest's part: one instruction; so in all that follow. */
static void guest_idreg_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "mrs x0, id_aa64pfr0_el1", : "x0");
}
MEASURE(idreg_read)

/* A read of the distributor's control register. */
static void guest_gicd_read(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "ldr w0, [%[at]]", [at] "r"((u64)GUEST_GICD + GICD_CTLR) : "x0", "memory");
}
MEASURE(gicd_read)

/* A store that no device in the kernel takes: out to the VMM, a C program that only says KVM_RUN again, and back. */
static void guest_mmio_user(u64 arg)
{
	BENCH_REPEAT(bench_ticks[0], "str wzr, [%[at]]", [at] "r"(MMIO) : "memory");
}

/* Until the guest is done: on with every store, as the cheapest VMM would. */
TEST(mmio_user)
{
	struct vm *vm = bench_vm(.main = guest_mmio_user);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct guest_message message;
	u32 stores = 0;

	CHECK_EQ(vcpu_run(vcpu), 0);
	while (vcpu->run->exit_reason == KVM_EXIT_MMIO && vcpu->run->mmio.phys_addr == MMIO) {
		stores++;
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0)
			FAIL("KVM_RUN: %s", strerrorname_np(errno));
	}
	CHECK(vcpu_message(vcpu, &message) && message.command == GUEST_CMD_DONE);
	CHECK_EQ(stores, BENCH_OPERATIONS * BENCH_ROUNDS);
	bench_report("mmio_user", BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}
